"""What a model costs: parameters, arithmetic, time and memory of a forward pass."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch.distributed._tools.mem_tracker import MemTracker
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from l2gnet.models.backbone import SegmentationModel
from l2gnet.prediction.inference import best_device


@dataclass(frozen=True)
class Cost:
    """The cost of a model at one picture size; counts are exact, times are medians on the machine at hand."""

    parameters: int
    gflops: float  # of one slice: 2 a multiplication with addition, in matrix products and convolutions only
    latency_ms: float  # one slice at a time
    slices_per_s: float  # many at a time
    peak_memory_mb: float  # one slice: weights, and the most that is held beside them at one time

    def in_words(self) -> dict[str, str]:
        """Everything, by names for people."""
        return {
            "parameters": f"{self.parameters:,}",
            "arithmetic of a slice (GFLOP)": f"{self.gflops:.3f}",
            "one slice (ms)": f"{self.latency_ms:.1f}",
            "slices a second": f"{self.slices_per_s:.0f}",
            "most memory (MB)": f"{self.peak_memory_mb:.1f}",
        }


@torch.no_grad()
def measure_costs(
    models: Mapping[str, SegmentationModel], size_px: int, *, batch_size: int = 16, turns: int = 11
) -> dict[str, Cost]:
    """Measure models side by side, in turns, so that whatever else the machine does slows them all alike."""
    device = best_device()
    placed = {name: model.eval().to(device) for name, model in models.items()}
    one, many = (
        {name: torch.rand(B, model.channels, size_px, size_px, device=device) for name, model in placed.items()}
        for B in (1, batch_size)
    )
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in placed}
    for _ in range(turns):
        for name, model in placed.items():
            seconds[name].append((_seconds(model, one[name]), _seconds(model, many[name])))
    costs = {}
    for name, model in placed.items():
        latency, batch = np.median(seconds[name][1:] or seconds[name], axis=0)  # the first turn warms up
        parameters = sum(p.numel() for p in model.parameters())
        costs[name] = Cost(
            parameters,
            gflops=_gflops(model, one[name]),
            latency_ms=float(1000 * latency),
            slices_per_s=float(batch_size / batch),
            peak_memory_mb=_peak_mb(model, one[name]),
        )
    return costs


def _seconds(model: SegmentationModel, images: torch.Tensor) -> float:
    _wait(images)
    start = time.perf_counter()
    model(images)
    _wait(images)
    return time.perf_counter() - start


def _wait(images: torch.Tensor) -> None:
    if images.is_cuda:
        torch.cuda.synchronize()


def _gflops(model: SegmentationModel, image: torch.Tensor) -> float:
    # The counter does not know torch's fused attention: gradients on and the plain kernel make it matrix products.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(image)
    return counter.get_total_flops() / 1e9


def _peak_mb(model: SegmentationModel, image: torch.Tensor) -> float:
    tracker = MemTracker()
    tracker.track_external(model, image)
    with tracker:
        model(image)
    return tracker.get_tracker_snapshot("peak")[image.device]["Total"] / 1e6
