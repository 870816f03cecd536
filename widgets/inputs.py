"""What viewers accept as a scan or a label map, and how it is stored for the browser."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from l2gnet.data.volume import Volume, read_frames, read_labels, read_volume, require_same_grid
from l2gnet.shapes import Bool, Integer, Num, UInt8

if TYPE_CHECKING:  # else the first picture would wait for it
    import torch

Input: TypeAlias = "np.ndarray | torch.Tensor | Volume | str | Path"
Frames: TypeAlias = "Input | list[Volume] | tuple[Volume, ...]"  # of a cine; arrays and files may have four axes


def open_scan(scan: Input, spacing_mm: Sequence[float] | None) -> tuple[Volume, bool]:
    """A scan from an array or tensor (D H W), a NIfTI file or a Volume, and whether its place in the world is known.

    Arrays lie at the origin with `spacing_mm` (D, H, W), by default 1 mm.

    Raises:
        ValueError: the scan has not three axes, or a voxel that is not finite; or a spacing is not positive, or given
            for a file or Volume, which have their own.
        VolumeError: the file is not what it should be.
    """
    if isinstance(scan, str | Path | Volume):
        if spacing_mm is not None:
            raise ValueError(f"spacing_mm must be left out for a file or Volume, which knows its own; got {spacing_mm}")
        volume = scan if isinstance(scan, Volume) else read_volume(scan)
        _range(volume.array)
        return volume, True
    array = _three_axes("the scan", scan)
    _range(array)
    spacing = np.ones(3) if spacing_mm is None else np.asarray(spacing_mm, dtype=np.float64)
    if spacing.shape != (3,) or not (np.isfinite(spacing) & (spacing > 0)).all():
        raise ValueError(f"spacing_mm must be three positive lengths, along D, H and W; got {spacing_mm!r}")
    return Volume(array, np.diag([*spacing, 1.0])), False


def open_frames(scan: Frames, spacing_mm: Sequence[float] | None) -> tuple[Num[np.ndarray, "T D H W"], Volume, bool]:
    """The frames of a cine in time, the first as a volume, and whether its place in the world is known.

    A cine is an array or tensor (T D H W), a 4-D NIfTI file or several Volumes; all else `open_scan` takes has one.

    Raises:
        ValueError: as `open_scan`, or there is no frame, or one that is no Volume.
        VolumeError: the file is not what it should be, or a frame lies on another grid than the first.
    """
    array = as_array(scan) if getattr(scan, "ndim", 3) == 4 else None
    if array is not None and len(array):
        first, placed = open_scan(array[0], spacing_mm)
        return array, first, placed
    found = read_frames(scan) if isinstance(scan, str | Path) else scan
    frames = found if isinstance(found, list | tuple) else [found]
    kinds = sorted({type(frame).__name__ for frame in frames})
    if not frames or (len(frames) > 1 and kinds != ["Volume"]):
        rule = "the frames of a cine must be Volumes, or one array (T, D, H, W)"
        raise ValueError(f"{rule}; got {', '.join(kinds) or 'none'}; make Volumes of them")
    volumes, (placed, *_) = zip(*(open_scan(frame, spacing_mm) for frame in frames), strict=True)
    for number, frame in enumerate(volumes[1:], 2):
        require_same_grid(volumes[0], frame, "frame 1", f"frame {number}")
    arrays = [volume.array for volume in volumes]
    return np.stack(arrays) if len(arrays) > 1 else arrays[0][None], volumes[0], placed


def open_labels(name: str, labels: Input, scan: Volume, scan_input: Input) -> UInt8[np.ndarray, "D H W"]:
    """A label map on the grid of its scan, from whatever `open_scan` takes; booleans become 0 and 1.

    Raises:
        ValueError: it lies on another grid, or a label is no integer in 0..255.
        VolumeError: the file is not what it should be.
    """
    what = f"the label map {name!r}"
    if isinstance(labels, str | Path | Volume):
        volume = labels if isinstance(labels, Volume) else read_labels(labels)
        if isinstance(scan_input, str | Path | Volume):
            places = [value if isinstance(value, str | Path) else "the Volume" for value in (scan_input, labels)]
            require_same_grid(scan, volume, *places)
        array = volume.array
    else:
        array = _three_axes(what, labels)
    if array.shape != scan.shape:
        raise ValueError(f"{what} must have the scan's shape {scan.shape}; got {array.shape}; resample it first")
    if array.dtype == np.uint8:
        return array
    with np.errstate(invalid="ignore"):
        exact = array.astype(np.uint8)
    if not (exact == array).all():
        wrong = np.unique(array[exact != array])[:3].tolist()
        raise ValueError(f"{what} must hold integers in 0..255; got {wrong}; give labels, not probabilities")
    return exact


def open_label_frames(
    name: str, labels: "Input | Sequence[Input]", scan: Volume, scan_input: Input, frames: int
) -> UInt8[np.ndarray, "rows H W"]:
    """A label map for all `frames` of a cine (D rows), or one a frame (T x D rows, one frame after the other).

    Raises:
        ValueError: as `open_labels`, or there are more or fewer than frames.
        VolumeError: a file is not what it should be.
    """
    found: Any = read_frames(labels) if frames > 1 and isinstance(labels, str | Path) else labels
    several = isinstance(found, list | tuple) or getattr(found, "ndim", 3) == 4
    if not several or (found is not labels and len(found) == 1):  # a file of one frame is read as one of labels
        return open_labels(name, cast(Input, labels), scan, scan_input)
    if len(found) != frames:
        rule = f"the label map {name!r} must be one for all frames, or one for each of the scan's {frames}"
        raise ValueError(f"{rule}; got {len(found)}; take the frames that belong to them")
    return np.concatenate([open_labels(name, each, scan, scan_input) for each in found])


def open_codes(codes: "np.ndarray | torch.Tensor", scan: Volume, frames: int = 1) -> Integer[np.ndarray, "rows h w"]:
    """The code of every token of a scan, from an array or tensor (D h w), or (T D h w) of a cine, frame after frame.

    Raises:
        ValueError: there is not a row of tokens a slice, or a code is not an integer.
    """
    if frames > 1:
        if len(codes) != frames:
            raise ValueError(f"codes of a cine must be (T, D, h, w) with its {frames} frames; got {tuple(codes.shape)}")
        return np.concatenate([open_codes(each, scan) for each in codes])
    array = _three_axes("codes", codes)
    if array.shape[0] != scan.shape[0] or array.dtype.kind not in "iu":
        raise ValueError(
            f"codes must be integers (D, h, w) for the scan's {scan.shape[0]} slices; got shape {array.shape} of "
            f"{array.dtype}; trace the same scan"
        )
    return array.astype(np.int32)


def compact(
    array: Num[np.ndarray, "*axes"] | Bool[np.ndarray, "*axes"],
) -> tuple[Integer[np.ndarray, "*axes"], tuple[float, float]]:
    """Intensities in 8 or 16 bits, with the slope and the intercept that lead back to them.

    Whole numbers that fit stay as they are, as those of any CT do. Others are rounded to 65536 levels between the
    lowest and the highest.

    Raises:
        ValueError: an intensity is not finite.
    """
    if array.dtype in (np.bool_, np.uint8):
        return array.astype(np.uint8, copy=False), (1.0, 0.0)
    low, high = _range(array)
    for kind in (np.int16, np.uint16):
        limits = np.iinfo(kind)
        if limits.min <= low and high <= limits.max:
            whole = array.astype(kind, copy=False)
            if array.dtype.kind in "iu" or (whole == array).all():
                return whole, (1.0, 0.0)
    slope = max((high - low) / 65535, 1e-30)  # not 0 in float32, for a volume that is flat
    array = array.astype(np.float32) if array.dtype == np.float16 else array  # which ends at 65504
    return np.round((array - low) / slope).astype(np.uint16), (slope, low)


def _range(array: Num[np.ndarray, "*axes"] | Bool[np.ndarray, "*axes"]) -> tuple[float, float]:
    """The lowest and the highest intensity, both of which must be finite."""
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise ValueError(
            f"every voxel must be finite; got values from {low} to {high}; replace them (numpy.nan_to_num)"
        )
    return low, high


def as_array(value: Any) -> np.ndarray:
    """An array, a tensor on any device, or what NumPy makes one of."""
    if hasattr(value, "detach"):  # a tensor
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value  # NumPy has no bfloat16
    return np.asarray(value)


def _three_axes(what: str, value: Any) -> np.ndarray:
    array = as_array(value)
    if array.ndim != 3 or array.size == 0 or array.dtype.kind not in "buif":
        raise ValueError(
            f"{what} must be numbers with the axes (D, H, W); got shape {array.shape} of {array.dtype}; "
            "give one image without batch or channel (a single slice as slice[None])"
        )
    return array
