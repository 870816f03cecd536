"""A scan in, its labels out, on the scan's own grid."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from l2gnet.ahead import one_ahead
from l2gnet.data.grid import Grid
from l2gnet.data.outputs import labels_of, masks_of, probabilities_of, structures_of
from l2gnet.data.regions import NO_REGIONS, Regions
from l2gnet.data.resampling import batches_on_grid, labels_on_scan
from l2gnet.data.volume import Volume
from l2gnet.errors import VolumeError
from l2gnet.models.backbone import SegmentationModel
from l2gnet.prediction.views import View
from l2gnet.shapes import Float, Int64, UInt8


@dataclass(frozen=True, eq=False)
class Segmented:
    """Labels (D, H, W) on the scan's own grid, and how sure the model is of each slice, from 0 to 1.

    `grain` is the mean step from a pixel to the next, as a share of that to the next but one, as the model saw the
    scan: a half where it is smooth, more where it is noisy. `codes` and `distances` are those of the bottleneck's
    pixels (see `Latent`), of each model; None without a codebook. `alone` is how sure each model is by itself, the mean
    over the slices.
    """

    labels: Volume
    confidence: Float[np.ndarray, " D"]
    grain: float
    codes: tuple[Int64[np.ndarray, "D h w"] | None, ...]
    distances: tuple[Float[np.ndarray, "D h w"] | None, ...]
    alone: tuple[float, ...]


def best_device() -> torch.device:
    """The GPU, where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def on_best_device(model: SegmentationModel) -> Iterator[None]:
    """Hold a model there for a while; a training leaves it on the CPU."""
    before = next(model.parameters()).device
    if before.type == "cpu":
        model.to(best_device())
    try:
        yield
    finally:
        model.to(before)


def predict_volume(
    model: SegmentationModel,
    scan: Volume,
    grid: Grid,
    *,
    batch_size: int = 16,
    regions: Regions = NO_REGIONS,
    on_scores: Callable[[Float[Tensor, "B L H W"]], object] = lambda scores: None,
) -> Volume:
    """Segment a scan slice by slice; the labels (D, H, W) lie on its own grid. Options are those of `segment`."""
    return segment([model], scan, grid, batch_size=batch_size, regions=regions, on_scores=on_scores).labels


@torch.inference_mode()
def segment(
    models: Sequence[SegmentationModel],
    scan: Volume,
    grid: Grid,
    *,
    batch_size: int = 16,
    regions: Regions = NO_REGIONS,
    views: Sequence[Sequence[View]] = (),
    on_slices: Callable[[int], object] = lambda done: None,
    on_scores: Callable[[Float[Tensor, "B L H W"]], object] = lambda scores: None,
) -> Segmented:
    """Segment a scan by the mean probability of all models; `on_slices` hears of every batch of slices done.

    `regions` are those that the models find, if any. `views` are those of each model that have a say beside the slice
    itself. `on_scores` hears of the probability of each class or region on the scan's own grid, a few slices after the
    other: labels are taken from them.

    Raises:
        VolumeError: a model gives numbers that are none.
    """
    labels, confidence, alone, steps = [], [], [], torch.zeros(2)
    codes: list[list[Tensor]] = [[] for _ in models]
    distances: list[list[Tensor]] = [[] for _ in models]
    for images in _batches(models, scan, grid, batch_size):
        steps += torch.stack([_mean_step(images, 1), _mean_step(images, 2)]).cpu() * len(images)
        traces = [model.trace(images) for model in models]
        said = [probabilities_of(trace.logits.float(), regions) for trace in traces]
        # Of the slices themselves: views lower it, and what is normal was learnt without them.
        own = [slice_confidence(each, regions) for each in said]
        together = own[0] if len(own) == 1 else slice_confidence(torch.stack(said).mean(0), regions)
        confidence.append(together.cpu().numpy())
        alone.append(torch.stack(own).cpu().numpy())
        if views:
            said = [_averaged(*each, images, regions) for each in zip(said, models, views, strict=True)]
        mean = torch.stack(said).mean(0)
        if not bool(mean.isfinite().all()):
            rule = "the answer of the model must be finite numbers"
            raise VolumeError(f"{rule}; found NaN or infinity; predict with precision 32-true, or with another model.")
        labels.append(labels_on_scan(mean, grid, scan, on_scores, regions))
        for index, trace in enumerate(traces):
            if trace.latent.codes is not None and trace.latent.distances is not None:
                codes[index].append(trace.latent.codes.cpu())
                distances[index].append(trace.latent.distances.cpu())
        on_slices(len(images))
    return Segmented(
        labels=scan.like(np.concatenate(labels)),
        confidence=np.concatenate(confidence),
        grain=float(steps[0] / steps[1].clamp_min(1e-12)),
        codes=tuple(torch.cat(batches).numpy() if batches else None for batches in codes),
        distances=tuple(torch.cat(batches).numpy() if batches else None for batches in distances),
        alone=tuple(np.concatenate(alone, axis=1).mean(1).tolist()),
    )


def slice_confidence(probabilities: Float[Tensor, "B L h w"], regions: Regions = NO_REGIONS) -> Float[Tensor, " B"]:
    """The Dice that a model's own probabilities promise, mean of the structures found in each slice.

    Soft Dice confidence, 2 sum(p y) / (sum(p) + sum(y)) with y the pixels labelled (Borges et al. 2024,
    arXiv 2402.10665). Where nothing was found it is the probability of background at the least certain pixel.
    """
    found = masks_of(labels_of(probabilities, regions), regions.labels_of(probabilities.shape[1]))
    share = structures_of(probabilities, regions)
    nothing = 1 - share.amax(1) if regions else probabilities[:, 0]
    dice = 2 * (share * found).sum((2, 3)) / (share.sum((2, 3)) + found.sum((2, 3))).clamp_min(1e-6)
    present = found.any(3).any(2)
    mean = (dice * present).sum(1) / present.sum(1).clamp_min(1)
    return torch.where(present.any(1), mean, nothing.flatten(1).amin(1))


def _mean_step(images: Float[Tensor, "B C H W"], pixels: int) -> Float[Tensor, ""]:
    """How much grey values change over so many pixels, down and across."""
    down = images[:, :, pixels:] - images[:, :, :-pixels]
    across = images[..., pixels:] - images[..., :-pixels]
    return down.abs().mean() + across.abs().mean()


@torch.inference_mode()
def codes_of_slices(
    model: SegmentationModel, slices: UInt8[np.ndarray, "B C H W"], *, batch_size: int = 16
) -> Int64[torch.Tensor, "B h w"]:
    """The code of every bottleneck pixel of slices of a `Grid`, for models with a codebook.

    Raises:
        ValueError: the model has no codebook.
    """
    if model.codebook is None:
        raise ValueError("this model has no codebook, so its pixels have no codes; use one that has, as l2gnet")
    model.eval()
    batches = (network_input(part) for part in torch.from_numpy(slices).split(batch_size))
    device = next(model.parameters()).device
    codes = [model.trace(batch.to(device)).latent.codes for batch in batches]
    return torch.cat([each for each in codes if each is not None]).cpu()


def network_input(
    slices: UInt8[np.ndarray, "B C H W"] | UInt8[torch.Tensor, "B C H W"],
) -> Float[torch.Tensor, "B C H W"]:
    """Slices of a `Grid` (0..255) as the image batch that a model takes (0..1)."""
    return torch.as_tensor(slices).float() / 255


def _averaged(
    plain: Float[Tensor, "B L H W"],
    model: SegmentationModel,
    views: Sequence[View],
    images: Float[Tensor, "B C H W"],
    regions: Regions,
) -> Float[Tensor, "B L H W"]:
    """The mean probability of a slice and its views, each where it reaches."""
    total, reached = plain, torch.ones_like(plain[:, :1])
    for view in views:
        total = total + view.back(probabilities_of(model(view.see(images)).float(), regions))
        reached = reached + view.back(torch.ones_like(plain[:, :1]))
    return total / reached


def _batches(
    models: Sequence[SegmentationModel], scan: Volume, grid: Grid, batch_size: int
) -> Iterator[Float[torch.Tensor, "B C H W"]]:
    for model in models:
        model.eval()
    device = next(models[0].parameters()).device
    for slices in one_ahead(batches_on_grid(scan, grid, batch_size)):
        yield network_input(slices).to(device)
