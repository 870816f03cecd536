"""What is believed of the header of a NIfTI file: every field is checked before anything large is read."""

from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from l2gnet.errors import volume_error
from l2gnet.shapes import Float

_QFORM = ("qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
_GEOMETRY = (*_QFORM, "sform_code", "srow_x", "srow_y", "srow_z", "xyzt_units")
_UNLIKE = 0.01  # relative: voxel sizes that differ by more are two
_LEANING = 0.02  # cosine between axes, which is 0 at a right angle
_IN_METRES = 2  # which the longest side of any scan has at most in metres, and of none in mm


def parsed_header(path: Path, block: bytes) -> nib.Nifti1Header:
    """Return the header of a single-file NIfTI image, version 1 or 2, from the first bytes of the file."""
    for kind in (nib.Nifti1Header, nib.Nifti2Header):
        if kind.may_contain_header(block):
            # No check by nibabel: it would silently repair some fields.
            header = kind(block[: kind.sizeof_hdr], check=False)
            if header["magic"].item().startswith(b"n+"):
                return header
    rule = "the file must start with the header of a single-file NIfTI image"
    raise volume_error(path, rule, f"first bytes {block[:4]!r}", "convert it to .nii or .nii.gz")


def checked_fields(
    path: Path, header: nib.Nifti1Header, channel: int | None, of: int, frames: bool
) -> tuple[tuple[int, int, int, int], np.dtype, int, tuple[float, float]]:
    """Return shape, data type, offset of the first voxel and scaling (slope, intercept), each within its bounds."""
    dims = [int(n) for n in header["dim"]]
    shape = dims[1 : 1 + dims[0]] if 1 <= dims[0] <= 7 else []
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if channel is not None:
        channels = shape.pop() if len(shape) == 4 else 1
        if not 0 <= channel < channels:
            rule = f"the image must hold channel {channel}, counted from 0"
            raise volume_error(path, rule, f"dim {dims}", "name another channel, or correct dataset.json")
        require_declared(path, channels, of)
    if len(shape) not in ((3, 4) if frames else (3,)) or min(shape) < 1:
        rule = f"the image must have 3{' or 4' * frames} dimensions, each positive"
        remedy = "split a series into one file a frame" if len(shape) > 3 else "store the slices as one volume"
        raise volume_error(path, rule, f"dim {dims}", remedy)
    I, J, K, T = (*shape, 1)[:4]  # noqa: E741 (NIfTI's own letters)
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        value = f"datatype {header['datatype']}"
        raise volume_error(path, "the voxel type must be a NIfTI type", value, "export it again") from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise volume_error(path, "voxels must be integers or floats", dtype.name, "export one grey value a voxel")
    offset = float(header["vox_offset"])
    if not (np.isfinite(offset) and offset >= header.sizeof_hdr + 4 and offset.is_integer()):
        rule = f"vox_offset must be an integer from {header.sizeof_hdr + 4} on"
        raise volume_error(path, rule, offset, "export the image again")
    if int(header["xyzt_units"]) & 7 not in (0, 2):
        raise volume_error(path, "xyzt_units must say mm", int(header["xyzt_units"]), "convert the header to mm")
    codes = int(header["qform_code"]), int(header["sform_code"])
    if not all(code in nib.nifti1.xform_codes for code in codes):  # readers disagree where such an image lies
        raise volume_error(path, "qform_code and sform_code must be NIfTI's 0..5", codes, "repair the header")
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or np.isnan(slope):  # the format's and nibabel's way of saying: no scaling
        slope, inter = 1.0, 0.0
    if not np.isfinite([slope, inter]).all():
        raise volume_error(path, "scl_slope and scl_inter must be finite", (slope, inter), "export the image again")
    return (I, J, K, T), dtype, int(offset), (slope, inter)


def require_declared(path: Path, channels: int, declared: int) -> None:
    """Raise VolumeError where an image holds more or fewer channels than dataset.json declares, if it does (not 0)."""
    if declared not in (0, channels):
        rule = f"the image must hold the {declared} channels of dataset.json"
        raise volume_error(path, rule, channels, "name all of them there, in the order of the file")


def has_form(geometry: nib.Nifti1Header) -> bool:
    """Whether a header says where its image lies; if not, readers place it each by a default of their own."""
    return bool(geometry["qform_code"] or geometry["sform_code"])


def said_of_place(
    geometry: nib.Nifti1Header, affine: Float[np.ndarray, "4 4"], shape: tuple[int, ...]
) -> tuple[str, ...]:
    """The remarks about a header that leaves open where its voxels lie, or how large they are."""
    pixdim_mm, sizes_mm = geometry["pixdim"][1:4].astype(np.float64), nib.affines.voxel_sizes(affine)
    axes = affine[:3, :3] / sizes_mm
    cosine = np.abs(axes.T @ axes - np.eye(3)).max()
    remarks = [] if has_form(geometry) else ["its header does not say how it lies: are left and right as shown?"]
    if cosine > _LEANING:
        angle = f"{np.degrees(np.arccos(cosine)):.3g} degrees"
        remarks.append(f"its axes meet at {angle} and not at 90, as by a tilted gantry: distances in it are not true")
    if not np.allclose(pixdim_mm, 1, atol=1e-3) and not np.allclose(pixdim_mm, sizes_mm, rtol=_UNLIKE, atol=0):
        remarks.append(f"its header gives two voxel sizes, {_mm(pixdim_mm)} and {_mm(sizes_mm)}: is the latter right?")
    if max(sizes_mm * shape) < _IN_METRES:
        remarks.append(f"its voxels measure {_mm(sizes_mm)}: does its header give metres?")
    return tuple(remarks)


def _mm(sizes_mm: Float[np.ndarray, "3"]) -> str:
    return f"{' x '.join(f'{size:.3g}' for size in sizes_mm)} mm"


def geometry_of(header: nib.Nifti1Header) -> nib.Nifti1Header:
    """Copy what places the voxels in the world, by allow-list: headers may carry names and dates."""
    geometry = type(header)()
    for name in _GEOMETRY:
        geometry[name] = header[name]
    geometry["pixdim"][:5] = header["pixdim"][:5]  # the fifth is the time between frames
    return geometry


def world_affine(
    path: Path, geometry: nib.Nifti1Header, shape: tuple[int, ...] | None = None
) -> Float[np.ndarray, "4 4"]:
    """Return the affine from stored voxel index to world RAS in mm, after checks.

    Where a header has no form, the middle of an image of this shape is the origin, as for nibabel.

    The header states the voxel size twice. Where the two differ, the one left at 1 mm gives way: the affine of every
    ACDC file, for example, has unit columns, and only pixdim knows the spacing.
    """
    pixdim_mm = geometry["pixdim"][1:4].astype(np.float64)
    if not ((pixdim_mm >= 1e-6) & (pixdim_mm <= 1e6)).all():
        raise volume_error(path, "voxel sizes must lie in 1e-6..1e6 mm", pixdim_mm.tolist(), "repair pixdim")
    try:
        shaped = geometry.copy()
        if shape is not None:  # not by nibabel, which would take the time between frames out of pixdim
            shaped["dim"][:4] = len(shape), *shape
        if shaped["pixdim"][0] == 0:  # the standard says that it is to be read as 1
            shaped["pixdim"][0] = 1
        affine = np.asarray(shaped.get_best_affine(), np.float64)
    except (HeaderDataError, ValueError) as error:
        raise volume_error(path, "qform or sform must give an affine", error, "repair the header") from error
    if not (np.isfinite(affine).all() and np.abs(affine).max() <= 1e6):
        raise volume_error(path, "the affine must be finite, within 1e6 mm", affine[:3].tolist(), "repair the header")
    lengths_mm = np.linalg.norm(affine[:3, :3], axis=0)
    if lengths_mm.min() < 1e-6 or abs(np.linalg.det(affine[:3, :3] / lengths_mm)) < 1e-3:
        raise volume_error(path, "the affine must be invertible", affine[:3].tolist(), "repair qform or sform")
    if np.allclose(lengths_mm, 1, atol=1e-3):
        affine[:3, :3] *= pixdim_mm / lengths_mm
    elif not np.allclose(pixdim_mm, 1, atol=1e-3) and not np.allclose(pixdim_mm, lengths_mm, rtol=0.1, atol=0):
        value = f"pixdim {pixdim_mm.tolist()} and affine {lengths_mm.tolist()} mm"
        raise volume_error(path, "pixdim and affine must give one voxel size", value, "repair the wrong one")
    return affine
