"""From a scan's own grid to the one that a model sees, and back.

In-plane resampling to a stated spacing, then a crop or pad around the middle. Slices stay slices.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from l2gnet.data.grid import Grid
from l2gnet.data.outputs import labels_of
from l2gnet.data.regions import NO_REGIONS, Regions
from l2gnet.data.volume import IGNORED, Volume
from l2gnet.errors import VolumeError
from l2gnet.shapes import Float, Float32, Int, Integer, UInt8

_AT_ONCE = 8  # slices, or fewer where each has many labels
_MOST_LABELS = 128  # of all slices at once: a CT with a channel for each class would take gigabytes
_LEAST, _LARGEST = 4, 4096  # pixels of the longer side: voxels in metres would be one, and those of a metre too many


def image_on_grid(scan: Volume, grid: Grid) -> UInt8[np.ndarray, "D C H W"]:
    """The scan on a grid, as integers: half a step is 0.2 % of the range, far below a scan's noise."""
    return torch.cat(list(batches_on_grid(scan, grid, _AT_ONCE))).numpy()


def batches_on_grid(scan: Volume, grid: Grid, size: int) -> Iterator[UInt8[Tensor, "B C H W"]]:
    """The same, `size` slices at a time."""
    ranges = [grid.window_of(n) or np.percentile(each, (0.5, 99.5)) for n, each in enumerate(scan.channels)]
    for start in range(0, len(scan.array), size):
        scaled = []
        for channel, (low, high) in zip(scan.channels, ranges, strict=True):
            pixels = torch.from_numpy(np.array(channel[start : start + size], dtype=np.float32, order="C"))
            spread = float(high) - float(low) or 1.0  # grey values of any unit, as of 1e-9 m²/s
            scaled.append(((pixels - float(low)) / spread).clamp_(0, 1))
        resampled = _resample(torch.stack(scaled, dim=1), _resampled_size(scan, grid))
        yield (_crop(resampled, grid) * 255).round_().to(torch.uint8)


def labels_on_grid(labels: Volume, grid: Grid, count: int) -> UInt8[np.ndarray, "D H W"]:
    """A map of `count` labels on a grid: each is resampled as a share of the pixel, the largest share wins."""

    def on_grid(slices: np.ndarray) -> Tensor:
        index = torch.from_numpy(np.array(slices, dtype=np.int64, order="C"))
        ignored = index == IGNORED  # a label of its own on the way
        shares = F.one_hot(index.masked_fill(ignored, count), count + int(ignored.any())).movedim(3, 1).float()
        best = _crop(_resample(shares, _resampled_size(labels, grid)), grid, background=1.0).max(1).indices
        return best.masked_fill(best == count, IGNORED)

    return _slice_by_slice(on_grid, labels.array, count)


def distances_on_grid(distances: Volume, grid: Grid) -> Float32[np.ndarray, "D H W"]:
    """Distances in pixels of a scan, each that of the nearest pixel, in pixels of a grid; NaN outside the scan."""
    size = _resampled_size(distances, grid)
    shares = torch.from_numpy(np.array(distances.array, dtype=np.float32, order="C"))[:, None]
    nearest = F.interpolate(shares, size, mode="nearest-exact") * (size[0] / distances.shape[1])
    return _crop(nearest, grid, background=float("nan"))[:, 0].numpy()


def labels_on_scan(
    scores: Float[Tensor, "D L h w"],
    grid: Grid,
    scan: Volume,
    on_scores: Callable[[Tensor], object] = lambda on_scan: None,
    regions: Regions = NO_REGIONS,
) -> UInt8[np.ndarray, "D H W"]:
    """Probabilities on a grid, of classes or regions, to labels on the scan's own grid; outside lies background.

    `on_scores` hears of the scores (B, L, H, W) there that the labels are taken from, a few slices at a time.
    """

    def on_scan_grid(slices: Tensor) -> Tensor:
        on_resampled = _centre(slices, _resampled_size(scan, grid), background=0.0 if regions else 1.0)
        on_scan = F.interpolate(on_resampled, scan.shape[1:], mode="bilinear", align_corners=False)
        on_scores(on_scan)
        return labels_of(on_scan, regions)

    return _slice_by_slice(on_scan_grid, scores, scores.shape[1])


def cells_on_scan(cells: Integer[np.ndarray, "D h w"], grid: Grid, scan: Volume) -> Int[np.ndarray, "D H W"]:
    """Whole numbers of a coarser map of a grid, such as codes, on the scan's own grid: -1 where no model looked."""
    _, h, w = cells.shape
    rows, columns = np.arange(grid.size_px) * h // grid.size_px, np.arange(grid.size_px) * w // grid.size_px
    on_grid = torch.from_numpy(cells[:, rows][:, :, columns].astype(np.float32))[:, None]
    on_resampled = _centre(on_grid, _resampled_size(scan, grid), background=-1.0)
    on_scan = F.interpolate(on_resampled, scan.shape[1:], mode="nearest-exact")
    return on_scan[:, 0].numpy().astype(np.int32)


def affine_of_cells(shape: tuple[int, int], grid: Grid, scan: Volume) -> Float[np.ndarray, "4 4"]:
    """From the index (d, row, column, 1) of a cell in such a map, of `shape` cells a slice, to the world in mm."""
    to_scan = np.eye(4)
    for axis, (cells, pixels, voxels) in enumerate(
        zip(shape, _resampled_size(scan, grid), scan.shape[1:], strict=True), start=1
    ):
        cut = int((pixels - grid.size_px) / 2)  # as `_centre` crops and pads
        to_scan[axis, axis] = grid.size_px / cells * voxels / pixels
        to_scan[axis, 3] = (grid.size_px / cells / 2 + cut) * voxels / pixels - 0.5
    return scan.affine @ to_scan


def _resampled_size(scan: Volume, grid: Grid) -> tuple[int, int]:
    if grid.spacing_mm == 0:
        return grid.size_px, grid.size_px
    if not scan.has_mm:
        raise VolumeError(
            f"a scan of unknown voxel size cannot be resampled to spacing_mm = {grid.spacing_mm}; "
            "set spacing_mm to 0, which fits its whole slices"
        )
    _, height, width = scan.shape
    _, row_mm, column_mm = scan.spacing_mm
    size = max(1, round(height * row_mm / grid.spacing_mm)), max(1, round(width * column_mm / grid.spacing_mm))
    if not _LEAST <= max(size) <= _LARGEST:
        pixels = f"{_LEAST} to {_LARGEST} pixels of {grid.spacing_mm:g} mm a side"
        rule = f"a slice must measure {pixels}, the longer one, as the model sees it"
        found = f"{height * row_mm:.4g} x {width * column_mm:.4g} mm"
        raise VolumeError(f"{rule}; found {found}; repair the voxel size in its header.")
    return size


def _crop(slices: Float32[Tensor, "D C h w"], grid: Grid, background: float = 0.0) -> Float32[Tensor, "D C H W"]:
    return _centre(slices, (grid.size_px, grid.size_px), background)


def _slice_by_slice(
    convert: Callable[[Any], Tensor], slices: np.ndarray | Tensor, count: int
) -> UInt8[np.ndarray, "D H W"]:
    """Convert a volume of `count` labels a few slices at a time."""
    size = min(_AT_ONCE, max(1, _MOST_LABELS // count))
    parts = [convert(slices[start : start + size]).to(torch.uint8).cpu() for start in range(0, len(slices), size)]
    return torch.cat(parts).numpy()


def _resample(slices: Float32[Tensor, "D C H W"], size: tuple[int, int]) -> Float32[Tensor, "D C h w"]:
    return F.interpolate(slices, size, mode="bilinear", align_corners=False, antialias=True)


def _centre(slices: Float[Tensor, "D C H W"], size: tuple[int, int], background: float) -> Float[Tensor, "D C h w"]:
    """Crop or pad around the middle; padding is 0, but `background` in the first channel."""
    height, width = slices.shape[2:]
    # Rounded towards zero, so that going there and back returns to the same pixels.
    top, left = int((height - size[0]) / 2), int((width - size[1]) / 2)
    out = slices.new_zeros((*slices.shape[:2], *size))
    out[:, 0] = background
    source = slices[:, :, max(top, 0) : max(top, 0) + size[0], max(left, 0) : max(left, 0) + size[1]]
    y, x = max(-top, 0), max(-left, 0)
    out[:, :, y : y + source.shape[2], x : x + source.shape[3]] = source
    return out
