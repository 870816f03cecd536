import pytest
import torch
from torch import nn

from l2gnet.evaluation.cost import measure_costs
from l2gnet.models import build_model
from l2gnet.models.backbone import SegmentationModel


class Pixelwise(SegmentationModel):
    """One 1x1 convolution from 1 to 8 channels: everything about it can be counted by hand."""

    def __init__(self):
        super().__init__(channels=1, smallest_px=1)
        self.layer = nn.Conv2d(1, 8, kernel_size=1)

    def forward(self, images):
        return self.layer(images)


class Slow(Pixelwise):
    def forward(self, images):
        for _ in range(300):
            torch.sin(images)
        return self.layer(images)


def test_a_cost_that_can_be_counted_by_hand():
    cost = measure_costs({"a": Pixelwise()}, size_px=32, turns=2)["a"]
    assert cost.parameters == 8 + 8
    assert cost.gflops == 2 * 8 * 32 * 32 / 1e9
    assert cost.peak_memory_mb == 4 * (16 + 32 * 32 + 8 * 32 * 32) / 1e6  # weights, picture, result
    assert cost.latency_ms > 0
    assert cost.slices_per_s > 0
    assert cost.in_words()["parameters"] == "16"
    assert not any("_" in name for name in cost.in_words())


def test_the_products_of_attention_are_counted():
    shape = {"width": 4, "depth": 3, "size_px": 32}
    few, more = (measure_costs({"a": build_model("transunet", layers=n, **shape)}, 32, turns=1)["a"] for n in (1, 2))
    N, d = 4 * 4, 32
    products = N * d * 4 * d + 2 * N * N * d + N * d * 8 * d  # projections, attention, perceptron
    assert more.gflops - few.gflops == pytest.approx(2 * products / 1e9)


def test_the_slower_model_is_seen_to_be_slower():
    costs = measure_costs({"fast": Pixelwise(), "slow": Slow()}, size_px=32, turns=5)
    assert costs["slow"].latency_ms > 2 * costs["fast"].latency_ms
    assert costs["slow"].slices_per_s < costs["fast"].slices_per_s / 2


def test_each_model_gets_the_channels_that_it_takes():
    """The first layer is what differs."""
    models = {name: build_model("unet", width=4, depth=2, channels=n) for name, n in (("one", 1), ("three", 3))}
    costs = measure_costs(models, size_px=32, turns=1)
    assert costs["three"].gflops - costs["one"].gflops == pytest.approx(2 * 2 * 4 * 9 * 32 * 32 / 1e9)
