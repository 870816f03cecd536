"""A scan as a trained model sees it: its slices on the model's grid, what it finds there, the codes of its tokens."""

from dataclasses import dataclass

import numpy as np
import torch

from l2gnet.data.outputs import confidence_of, labels_of, probabilities_of
from l2gnet.data.regions import NO_REGIONS, Regions
from l2gnet.data.resampling import affine_of_cells, image_on_grid, labels_on_grid
from l2gnet.data.volume import Volume
from l2gnet.inspection.changed_parts import evaluating
from l2gnet.models.backbone import SegmentationModel
from l2gnet.models.card import ModelCard
from l2gnet.prediction.inference import network_input
from l2gnet.prediction.segmenter import require_frames
from l2gnet.shapes import Float32, Int64, UInt8


@dataclass(frozen=True, eq=False)
class SeenScan:
    """Slices of a model's grid, with what the model left alone makes of them.

    `confidence` is the probability of the label that was taken (see `confidence_of`). `codes` and `distances` of the
    tokens from their codes (as a share of a token's length) are None without a codebook, `truth` without a label map.
    `placed` is the first channel where it lies in the world; `range` are the intensities that its 0 and 255 stand for.
    """

    images: UInt8[np.ndarray, "D C H W"]
    truth: UInt8[np.ndarray, "D H W"] | None
    labels: UInt8[np.ndarray, "D H W"]
    confidence: Float32[np.ndarray, "D H W"]
    codes: Int64[np.ndarray, "D h w"] | None
    distances: Float32[np.ndarray, "D h w"] | None
    placed: Volume
    range: tuple[float, float]


@torch.inference_mode()
def see_scan(
    model: SegmentationModel, card: ModelCard, scan: Volume, truth: Volume | None = None, *, batch_size: int = 16
) -> SeenScan:
    """Bring a scan, and its label map if there is one, onto the grid of a model, and let the model look at it.

    Raises:
        VolumeError: the scan cannot be brought there, or has other channels than the model takes.
    """
    require_frames([scan], "scan", card)
    turned = scan.in_plane(card.plane)
    images = image_on_grid(turned, card.grid)
    device = next(model.parameters()).device
    labels, confidence, codes, distances = [], [], [], []
    for batch in torch.from_numpy(images).split(batch_size):
        with evaluating(model):
            trace = model.trace(network_input(batch).to(device))
        shares = probabilities_of(trace.logits.float(), card.regions)
        labels.append(labels_of(shares, card.regions).cpu())
        confidence.append(confidence_of(shares, card.regions).cpu())
        if trace.latent.codes is not None and trace.latent.distances is not None:
            codes.append(trace.latent.codes.cpu())
            distances.append(trace.latent.distances.float().cpu())
    low, high = card.grid.window_of(0) or np.percentile(turned.array, (0.5, 99.5))
    return SeenScan(
        images=images,
        truth=None if truth is None else labels_on_grid(truth.in_plane(card.plane), card.grid, len(card.labels)),
        labels=torch.cat(labels).numpy().astype(np.uint8),
        confidence=torch.cat(confidence).numpy(),
        codes=torch.cat(codes).numpy() if codes else None,
        distances=torch.cat(distances).numpy() if distances else None,
        placed=Volume(images[:, 0], affine_of_cells(images.shape[2:], card.grid, turned), has_mm=turned.has_mm),
        range=(float(low), float(high)),
    )


@torch.inference_mode()
def labels_of_slices(
    model: SegmentationModel,
    images: UInt8[np.ndarray, "D C H W"],
    regions: Regions = NO_REGIONS,
    *,
    batch_size: int = 16,
) -> UInt8[np.ndarray, "D H W"]:
    """What a model finds in slices of its grid."""
    device = next(model.parameters()).device
    batches = (network_input(batch).to(device) for batch in torch.from_numpy(images).split(batch_size))
    with evaluating(model):
        found = [labels_of(probabilities_of(model(batch).float(), regions), regions).cpu() for batch in batches]
    return torch.cat(found).numpy().astype(np.uint8)
