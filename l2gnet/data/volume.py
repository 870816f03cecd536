"""Volumes in and out: every NIfTI file is read in one display order, and labels go back onto the file's own grid."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt2axcodes,
    ornt_transform,
)

from l2gnet.data.formats.nifti_header import has_form, require_declared, said_of_place, world_affine
from l2gnet.data.formats.nifti_voxels import load_voxels, nifti_path
from l2gnet.data.grid import PLANES, Plane
from l2gnet.errors import VolumeError, unwritable, volume_error
from l2gnet.files import atomic_path
from l2gnet.shapes import Float, Num, UInt8, UInt16

IGNORED = 255  # in a label map: nobody knows what is here (nnU-Net's `ignore`), and nobody learns or scores it
_ROUNDING = 1e-3  # what a label may lie off a whole number


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan or label map (D H W) in display order, with the affine from voxel index (d, h, w, 1) to world RAS in mm.

    Of a scan with several channels `array` is the first, the one to look at, and `more` holds the others.
    `stored` holds the geometry fields (and nothing else) of the header the volume was read with, so that
    `write_labels` can put labels back on that file's axes; None for a volume that was never a file. `has_mm` is False
    where nobody knows the voxel size: affine and spacing are then in voxels. `remarks` say what its reader was not sure
    of: whoever gives a result gives them with it, as reasons to doubt it.
    """

    array: Num[np.ndarray, "D H W"]
    affine: Float[np.ndarray, "4 4"]
    stored: nib.Nifti1Header | None = None
    has_mm: bool = True
    more: tuple[Num[np.ndarray, "D H W"], ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def channels(self) -> tuple[Num[np.ndarray, "D H W"], ...]:
        """The array of every channel, in order; a label map has one."""
        return (self.array, *self.more)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (D, H, W)."""
        D, H, W = self.array.shape
        return D, H, W

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along (D, H, W), in mm."""
        D, H, W = nib.affines.voxel_sizes(self.affine).tolist()
        return D, H, W

    @property
    def axes(self) -> str:
        """The world directions nearest to (D, H, W), as in "SPL": to superior, to posterior, to the left."""
        return "".join(ornt2axcodes(_nearest_axes(self.affine)))

    def turned(self, axes: str) -> "Volume":
        """The same voxels with (D, H, W) along other world directions, as in "SPL": no longer in a file's order."""
        transform = ornt_transform(_nearest_axes(self.affine), axcodes2ornt(axes))
        array, *more = (_oriented(channel, transform) for channel in self.channels)
        affine = self.affine @ inv_ornt_aff(transform, self.array.shape)
        return replace(self, array=array, more=tuple(more), affine=affine, stored=None)

    def in_plane(self, plane: Plane) -> "Volume":
        """The same scan with its slices in this plane; as they were acquired, it stays as it is."""
        return self if plane == "acquired" else self.turned(PLANES[plane])

    def like(self, array: Num[np.ndarray, "..."]) -> "Volume":
        """Return another array, of one channel, on this grid; raises VolumeError where the shapes differ."""
        if array.shape != self.array.shape:
            raise VolumeError(
                f"An array on this grid must have its shape {self.shape}; found {array.shape}; resample it first."
            )
        return replace(self, array=array, more=())


def read_volume(path: str | Path, *, channel: int | None = None, of: int = 0) -> Volume:
    """Read a 3-D NIfTI scan as float32, scaling applied, in display order; or one channel of a 4-D one.

    D is the slice axis: the only one of one voxel, else the thickest one where the largest spacing exceeds 1.2 times
    the second, else the one nearest to superior-inferior. Where D runs nearest to superior-inferior, anterior-posterior
    or right-left, the axis codes of (D, H, W) are SPL, PIL or LIP. The order depends on the world alone, not on how the
    file stores its axes.
    Raises VolumeError for a file that is damaged, not 3-D (without such a channel, or not with `of` of them, where that
    is not 0) or not finite.
    """
    return _read_scan(Path(path), channel, of=of)[0]


def read_frames(path: str | Path) -> list[Volume]:
    """Read the frames of a 4-D NIfTI scan, in time; a 3-D scan has one. Otherwise as `read_volume`."""
    return _read_scan(Path(path), frames=True)


def read_channels(paths: Sequence[Path], numbers: Sequence[int] = (), of: int = 0) -> Volume:
    """Read a scan of several channels: a 3-D NIfTI file each, all on one grid, or a 4-D one that holds them.

    `numbers` are those to take from a 4-D file, in this order; by default all. Otherwise as `read_volume`.
    """
    if len(paths) == 1:
        found = read_frames(paths[0])
        if max(numbers, default=0) >= len(found):
            rule = f"the image must hold channel {max(numbers)}, counted from 0"
            value = f"{len(found)} channel{'s' * (len(found) > 1)}"
            raise volume_error(paths[0], rule, value, "name other channels, or correct dataset.json")
        require_declared(paths[0], len(found), of)
        volumes = [found[number] for number in numbers or range(len(found))]
    else:
        volumes = [read_volume(path) for path in paths]
        volumes = [volumes[0], *(placed_like(volume, volumes[0]) for volume in volumes[1:])]
        for path, volume in zip(paths, volumes, strict=True):
            require_same_grid(volumes[0], volume, paths[0], path)
    remarks = tuple(dict.fromkeys(remark for volume in volumes for remark in volume.remarks))
    return replace(volumes[0], more=tuple(volume.array for volume in volumes[1:]), remarks=remarks)


def read_labels(path: str | Path, *, largest: int = 255) -> Volume:
    """Read a 3-D NIfTI label map in display order, as uint8 or, if labels may be larger than 255, as uint16.

    Labels must be whole but for rounding, as `exact_labels` has it, and lie in 0..`largest`; where any was rounded, a
    remark says so. Raises VolumeError as `read_volume` does.
    """
    path = Path(path)
    voxels, affine, geometry, step = load_voxels(path)
    labels = exact_labels(path, voxels[..., 0], step, largest=largest)
    rounded = voxels[..., 0] != labels
    remarks: tuple[str, ...] = ()
    if rounded.any():
        first = tuple(np.argwhere(rounded)[0])
        remarks = (f"its labels were rounded, as {voxels[*first, 0]:.10g} to {labels[first]}",)
    return displayed(labels, affine, geometry, remarks)


def write_labels(path: str | Path, labels: Volume, *later: Volume, largest: int = 255) -> None:
    """Write integer labels to `path` (.nii or .nii.gz), atomically, on the grid of the file they belong to.

    They are stored as uint8, or as uint16 if they may be larger than 255. Several are the frames of one 4-D file.
    Geometry fields are bit for bit those of that file; no other header field of it is written. Raises VolumeError for
    another suffix, labels outside 0..`largest` or a file that cannot be written.
    """
    path = nifti_path(path)
    write_arrays(path, labels, *(exact_labels(path, frame.array, largest=largest) for frame in (labels, *later)))


def write_arrays(path: str | Path, scan: Volume, *arrays: Num[np.ndarray, "D H W"]) -> None:
    """Write an array to `path` as `write_labels` does, on the grid of a scan and in its own type; several as 4-D."""
    path = nifti_path(path)
    array = np.stack(arrays, axis=3) if len(arrays) > 1 else arrays[0]
    if scan.stored is None:
        header = nib.Nifti1Header()
        header.set_qform(scan.affine, code="unknown")  # sets the voxel sizes
        header.set_sform(scan.affine, code="scanner")
        header.set_xyzt_units("mm" if scan.has_mm else "unknown")
        array_stored = array
    else:
        header = scan.stored.copy()
        array_stored = in_stored_order(array, header)
    header.set_data_dtype(array.dtype)
    image_class = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    try:
        with atomic_path(path) as temporary:
            image_class(array_stored, None, header).to_filename(temporary)
    except OSError as error:
        raise unwritable(path, error) from error


def require_same_grid(image: Volume, labels: Volume, image_path: str | Path, labels_path: str | Path) -> None:
    """Raise VolumeError, naming both files, unless both volumes, a scan and its labels or two channels, share a grid.

    That is: equal shapes, and no corner voxel moved by more than a twentieth of the smallest spacing.
    """
    rule = f"the grid must be that of {image_path}"
    remedy = "resample it onto that grid, as `l2gnet data repair` does for masks, or pair it with the right file"
    if image.shape != labels.shape:
        raise volume_error(labels_path, rule, f"shape {labels.shape} against {image.shape} (D, H, W)", remedy)
    corners = np.stack([*np.meshgrid(*((0, n - 1) for n in image.shape)), np.ones((2, 2, 2))]).reshape(4, 8)
    moved_mm = float(np.linalg.norm((image.affine - labels.affine) @ corners, axis=0).max())
    if moved_mm > 0.05 * min(image.spacing_mm):
        value = f"a corner voxel {moved_mm:.3g} mm away, with spacing {_mm(labels)} against {_mm(image)} mm"
        raise volume_error(labels_path, rule, value, remedy)


def placed_like(labels: Volume, image: Volume) -> Volume:
    """The labels, or another channel, with the axes of the image they belong to: whichever way each is shown.

    Of an image that says not where it lies, labels that were saved with ITK's default for it are taken to its place.
    """
    if image.stored is None or labels.stored is None or has_form(image.stored):
        return _along_axes_of(labels, image)
    array = in_stored_order(labels.array, labels.stored)
    affine = world_affine(Path(), labels.stored)
    of_itk = np.diag([*(image.stored["pixdim"][1:4] * (-1, -1, 1)), 1.0])
    shape = in_stored_order(image.array, image.stored).shape
    if array.shape != shape or not np.allclose(affine, of_itk, atol=1e-3):
        return _along_axes_of(labels, image)
    return displayed(array, world_affine(Path(), image.stored), image.stored, labels.remarks)


def _along_axes_of(labels: Volume, image: Volume) -> Volume:
    """The labels with each axis along the nearest one of the image: a hair may decide which of them is shown as D."""
    turn = io_orientation(np.linalg.inv(image.affine) @ labels.affine)
    if np.isnan(turn).any() or np.array_equal(turn, [[0, 1], [1, 1], [2, 1]]):
        return labels
    affine = labels.affine @ inv_ornt_aff(turn, labels.shape)
    return replace(labels, array=_oriented(labels.array, turn), affine=affine, stored=None)


def displayed(
    array: Num[np.ndarray, "_ _ _"],
    affine: Float[np.ndarray, "4 4"],
    geometry: nib.Nifti1Header,
    remarks: tuple[str, ...] = (),
) -> Volume:
    """The volume of an array in any order of its axes; `geometry` is the header that places it at `affine`."""
    geometry = geometry.copy()
    geometry["dim"][:4] = 3, *array.shape  # without which nobody knows the way back
    transform = ornt_transform(*_orientations(affine, array.shape))
    turned = affine @ inv_ornt_aff(transform, array.shape)
    return Volume(_oriented(array, transform), turned, geometry, remarks=remarks)


def in_stored_order(array: Num[np.ndarray, "D H W *T"], geometry: nib.Nifti1Header) -> Num[np.ndarray, "I J K *T"]:
    """The array of a displayed volume in the order of the file that it was read from; undoes `displayed`."""
    stored, display = _orientations(world_affine(Path(), geometry), tuple(geometry["dim"][1:4].tolist()))
    return apply_orientation(array, ornt_transform(display, stored))


def _read_scan(path: Path, channel: int | None = None, *, of: int = 0, frames: bool = False) -> list[Volume]:
    voxels, affine, geometry, _ = load_voxels(path, channel, of=of, frames=frames)
    with np.errstate(over="ignore", invalid="ignore"):
        array = voxels.astype(np.float32)
    if not np.isfinite(array).all():
        value = f"{array.size - np.isfinite(array).sum()} that are not"
        raise volume_error(path, "every voxel must be finite in float32", value, "export the scan again")
    remarks = said_of_place(geometry, affine, array.shape[:3])
    return [displayed(array[..., t], affine, geometry, remarks) for t in range(array.shape[3])]


def _oriented(array: Num[np.ndarray, "_ _ _"], transform: Float[np.ndarray, "3 2"]) -> Num[np.ndarray, "_ _ _"]:
    """A copy, since numpy takes an axis of one slice that runs backwards for contiguous, and torch does not."""
    return np.array(apply_orientation(array, transform), order="C")


def _orientations(
    affine: Float[np.ndarray, "4 4"], shape: tuple[int, ...]
) -> tuple[Float[np.ndarray, "3 2"], Float[np.ndarray, "3 2"]]:
    """Return nibabel's orientation of the stored axes, of so many voxels, and of (D, H, W)."""
    stored = _nearest_axes(affine)
    spacing_mm = nib.affines.voxel_sizes(affine)
    _, second, thickest = np.argsort(spacing_mm)
    anisotropic = round(spacing_mm[thickest] / spacing_mm[second], 3) > 1.2  # rounded: 1.2 in float32 is not above 1.2
    if shape.count(1) == 1:  # one slice, however thick
        world_axis = int(stored[shape.index(1), 0])
    else:
        world_axis = int(stored[thickest, 0]) if anisotropic else 2
    return stored, axcodes2ornt(("LIP", "PIL", "SPL")[world_axis])


def _nearest_axes(affine: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "3 2"]:
    """Return nibabel's orientation of a grid: the world axis nearest to each of its own, and the direction along it."""
    tilt = np.eye(4)  # so that a grid at exactly 45 degrees has one nearest axis, however it is stored
    tilt[:3, :3] += 1e-4 * np.array([[0, -3, 2], [3, 0, -1], [-2, 1, 0]])
    return io_orientation(tilt @ affine)


def exact_labels(
    path: Path, values: Num[np.ndarray, "_ _ _"], step: float = 0.0, *, largest: int = 255
) -> UInt8[np.ndarray, "_ _ _"] | UInt16[np.ndarray, "_ _ _"]:
    """The values of a label map as the whole numbers in 0..`largest` that they are but for rounding.

    `step` is that between the values a file can hold: one that stores whole numbers by a scale factor below 1 has
    rounded each by half of it at most. Raises VolumeError, naming the file, where any value is no such number, or all
    would be rounded to 0: then it is a scan of small numbers.
    """
    with np.errstate(invalid="ignore"):
        whole = values if values.dtype.kind in "iu" else np.rint(values)
        off = max(_ROUNDING, 0.5001 * step if step < 1 else 0.0)
        wrong = ~((whole >= 0) & (whole <= largest) & (abs(values - whole) <= off))
    if not whole.any():
        wrong |= values != 0
    if wrong.any():
        examples = np.unique(values[wrong])[:3].tolist()
        rule = f"labels must be integers in 0..{largest}"
        raise volume_error(path, rule, examples, "give the label map, not the scan")
    return whole.astype(np.uint8 if largest <= 255 else np.uint16)


def _mm(volume: Volume) -> str:
    return " x ".join(f"{length:.3g}" for length in volume.spacing_mm)
