"""A scan in, its labels out, on the scan's own grid."""

from collections.abc import Iterator

import numpy as np
import torch

from l2gnet.data.grid import Grid
from l2gnet.data.volume import Volume
from l2gnet.models.backbone import SegmentationUNet
from l2gnet.shapes import Float, Int64, UInt8


@torch.inference_mode()
def predict_volume(model: SegmentationUNet, scan: Volume, grid: Grid, *, batch_size: int = 16) -> Volume:
    """Segment a scan slice by slice; the labels (D, H, W) lie on the scan's own grid."""
    probabilities = torch.cat([model(batch).float().softmax(1) for batch in _batches(model, scan, grid, batch_size)])
    return scan.like(grid.labels_from(probabilities, scan))


@torch.inference_mode()
def trace_codes(
    model: SegmentationUNet, scan: Volume, grid: Grid, *, batch_size: int = 16
) -> Int64[torch.Tensor, "D h w"]:
    """The code of every bottleneck pixel of a scan, for models with a codebook.

    Raises:
        ValueError: the model has no codebook.
    """
    codes = []
    for batch in _batches(model, scan, grid, batch_size):
        latent = model.trace(batch).latent
        if latent.codes is None:
            raise ValueError("this model has no codebook, so its pixels have no codes; use one that has, as l2gnet")
        codes.append(latent.codes)
    return torch.cat(codes)


def network_input(slices: UInt8[np.ndarray, "B H W"] | UInt8[torch.Tensor, "B H W"]) -> Float[torch.Tensor, "B 1 H W"]:
    """Slices of a `Grid` (0..255) as the image batch that a model takes (0..1)."""
    return torch.as_tensor(slices)[:, None].float() / 255


def _batches(
    model: SegmentationUNet, scan: Volume, grid: Grid, batch_size: int
) -> Iterator[Float[torch.Tensor, "B 1 H W"]]:
    model.eval()
    device = next(model.parameters()).device
    for slices in torch.from_numpy(grid.image(scan)).split(batch_size):
        yield network_input(slices).to(device)
