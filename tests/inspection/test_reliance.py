from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from l2gnet import build_model
from l2gnet.data.slices import SliceSet
from l2gnet.inspection.reliance import reliance
from l2gnet.models.backbone import SegmentationModel, Trace
from l2gnet.models.blocks.latent import Latent
from l2gnet.prediction.inference import network_input

SIZES = {"classes": 3, "width": 4, "depth": 3}


class Oracle(SegmentationModel):
    """Labels are the image's own grey values 0, 1, 2, by way of the bottleneck or past it."""

    def __init__(self, share: float):
        super().__init__(1, 1)
        self.bottleneck, self.share = Features(), share

    def _trace(self, images):
        latent = self.bottleneck(images)
        seen = self.share * latent.features + (1 - self.share) * images
        return Trace(-(255 * seen - torch.arange(3).view(1, 3, 1, 1)).abs(), latent)


class Features(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, features):
        return Latent(self.scale * features)


def patients(count: int = 6) -> SliceSet:
    """One slice each, with two structures in a place of each patient's own."""
    labels = np.zeros((count, 8, 8), np.uint8)
    for number, slice_ in enumerate(labels):
        slice_[number, :4], slice_[number, 4:] = 1, 2
    return SliceSet(labels[:, None], labels, np.arange(count), tuple(f"patient{n}" for n in range(count)))


def test_a_decoder_that_sees_nothing_but_the_bottleneck_loses_all():
    found = reliance(Oracle(share=1.0), patients(), 3)
    assert found == {
        "as it is": 1.0,
        "features of another image": 0.0,  # every structure lies where no other patient has it
        "their mean over the image": 0.0,
        "no features": 0.0,
    }


def test_a_decoder_that_does_not_listen_loses_nothing():
    assert set(reliance(Oracle(share=0.0), patients(), 3).values()) == {1.0}


def test_a_last_batch_of_one_slice_is_exchanged_too():
    found = reliance(Oracle(share=1.0), patients(5), 3, batch_size=4)
    assert found["features of another image"] == 0


def test_the_relation_is_taken_away_only_where_there_is_one():
    torch.manual_seed(0)
    model = build_model("l2gnet", **SIZES, codes=8, code_dim=16, references=6).eval()
    images = (255 * torch.rand(4, 1, 32, 32)).byte()
    with torch.no_grad():
        model.head.bias -= model(network_input(images)).mean((0, 2, 3))  # so that all classes are found
        labels = model(network_input(images)).argmax(1).byte()  # it is right until something is changed
    slices = SliceSet(images.numpy(), labels.numpy(), np.arange(4), ("a", "b", "c", "d"))
    found = reliance(model, slices, 3)
    assert len(found) == 7
    assert found["as it is"] == 1 > found["no relation"]
    model.bottleneck.mapper.register_forward_hook(lambda m, i, mapped: replace(mapped, tokens=0 * mapped.tokens))
    assert reliance(model, slices, 3)["as it is"] == found["no relation"]
    assert not any("relation" in name for name in reliance(build_model("unet", **SIZES), slices, 3))


def test_one_slice_has_no_other():
    with pytest.raises(ValueError, match="two slices or more"):
        reliance(Oracle(share=0.5), patients(1), 3)
