"""A copy of a data folder in which every mask lies on the grid of its image; the folder itself is left alone."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from l2gnet.data.folders.check import find_whole
from l2gnet.data.folders.scan import LARGEST, Scan, files_inside, lies_inside
from l2gnet.data.formats.nifti_header import has_form, world_affine
from l2gnet.data.volume import (
    Volume,
    in_stored_order,
    placed_like,
    read_labels,
    require_same_grid,
    write_labels,
)
from l2gnet.errors import VolumeError, volume_error
from l2gnet.shapes import Bool, Float

_DEFAULTS = (np.eye(4), np.diag([-1.0, -1.0, 1.0, 1.0]))  # where numpy's users and ITK put what has no place
_LEAST_INSIDE = 0.25  # of a mask, which must lie within its image for the two to belong together


@dataclass(frozen=True, eq=False)
class Repair:
    """What was done with the mask of a scan, in words; `shown` are its image, the mask as it was, and as it is now.

    That is None where the mask needs a repair that nobody can make for its owner.
    """

    name: str
    words: str
    shown: tuple[Volume, Volume, Volume] | None = None


def repair(data_dir: str | Path, new: str | Path) -> Iterator[Repair]:
    """Copy a data folder to `new`, and give its masks there the grid of their images and whole numbers.

    A mask on another grid is resampled by its nearest voxels. Yields what was done, scan by scan; masks that needed
    nothing are the same to the bit, and not told of.

    Raises:
        VolumeError: the folder holds no data set, or `new` is not a new folder apart from it.
    """
    root, new = Path(data_dir), Path(new)
    folder = find_whole(root)
    if new.exists() and (not new.is_dir() or any(new.iterdir())):
        raise volume_error(new, "the repaired copy must be a new folder", "one that is in use", "name another")
    if lies_inside(root, new) or lies_inside(new, root):
        raise volume_error(new, f"the repaired copy must lie apart from {root}", "one within the other", "name another")
    for file in files_inside(root):
        (new / file.relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, new / file.relative_to(root))
    for problem in folder.problems:
        yield Repair("", str(problem))
    for scan in folder.scans:
        if scan.label is not None and scan.label != scan.image:  # else both are one grid
            try:
                done = _repaired(scan, scan.label, new / scan.label.relative_to(root))
            except VolumeError as error:
                done = Repair(scan.name, str(error))
            if done is not None:
                yield done


def nearest_on(labels: Volume, image: Volume) -> Volume:
    """The labels on the grid of an image: each voxel has that of the nearest one, or 0 beyond them."""
    to_labels = np.linalg.inv(labels.affine) @ image.affine
    _, H, W = image.shape
    slices = []
    for d in range(image.shape[0]):  # one by one, since places take many times the memory of labels
        h, w = np.mgrid[:H, :W]
        places = np.einsum("ij,jhw->ihw", to_labels[:3], np.stack([np.full_like(h, d), h, w, np.ones_like(h)]))
        inside = _inside(places, labels)
        nearest = np.where(inside, np.floor(places + 0.5), 0).astype(np.int64)
        slices.append(np.where(inside, labels.array[tuple(nearest)], 0).astype(labels.array.dtype))
    return image.like(np.stack(slices))


def _inside(places: Float[np.ndarray, "3 *P"], volume: Volume) -> Bool[np.ndarray, "*P"]:
    """Which places, in voxels, lie in the volume: half a voxel beyond the middle of its outermost ones."""
    ends = np.reshape(volume.shape, (3, *[1] * (places.ndim - 1)))
    return np.all((places >= -0.5) & (places < ends - 0.5), axis=0)


def _share_inside(labels: Volume, image: Volume) -> float:
    """How much of what is labelled lies within the image, by about a million voxels."""
    found = np.flatnonzero(labels.array)
    d, h, w = np.unravel_index(found[:: max(1, len(found) // 1_000_000)], labels.shape)
    places = (np.linalg.inv(image.affine) @ labels.affine)[:3] @ np.stack([d, h, w, np.ones_like(d)])
    return float(_inside(places, image).mean()) if len(found) else 1.0


def _repaired(scan: Scan, path: Path, new: Path) -> Repair | None:
    """Write the mask of a scan anew, if it needs it."""
    image = scan.read_image()
    labels = read_labels(path, largest=LARGEST)
    placed = placed_like(labels, image)
    try:
        require_same_grid(image, placed, scan.image, path)
    except VolumeError as error:
        other_grid = error
    else:
        if not labels.remarks:
            return None
        write_labels(new, labels, largest=LARGEST)
        return Repair(scan.name, f"{labels.remarks[0]}: written as whole numbers", (image, placed, placed))
    for volume, file in ((image, scan.image), (labels, path)):
        if volume.stored is None or not has_form(volume.stored):
            rule = "an image and its mask must say where they lie to be brought onto one grid"
            raise volume_error(file, rule, "a header with neither qform nor sform", "export it again") from other_grid
    _require_a_place(image, labels, path)
    share = _share_inside(labels, image)
    if share < _LEAST_INSIDE:
        rule = f"a mask must lie within its image, {scan.image}"
        raise volume_error(path, rule, f"{share:.0%} of it there", "are the two of one scan?") from other_grid
    after = nearest_on(labels, image)
    write_labels(new, after, largest=LARGEST)
    return Repair(scan.name, _told(labels, after, share), (image, labels, after))


def _require_a_place(image: Volume, labels: Volume, path: Path) -> None:
    """Raise VolumeError for a mask of as many voxels as its image whose header has a default place, of any spacing."""
    if image.stored is None or labels.stored is None:
        return
    shape = in_stored_order(image.array, image.stored).shape
    found = world_affine(path, labels.stored)
    sizes_mm = nib.affines.voxel_sizes(found).tolist()
    if shape == in_stored_order(labels.array, labels.stored).shape and any(
        np.allclose(found, default @ np.diag([*sizes_mm, 1]), atol=1e-6) for default in _DEFAULTS
    ):
        rule = "a mask must say where it lies to be brought onto another grid"
        size = "x".join(f"{mm:.3g}" for mm in sizes_mm)
        value = f"as many voxels as the image has, of {size} mm from the origin on: a header that was not kept"
        raise volume_error(path, rule, value, "save it anew with the affine of its image, if it was drawn on that")


def _told(before: Volume, after: Volume, share: float) -> str:
    sizes = [
        f"{'x'.join(map(str, volume.shape))} of {'x'.join(f'{mm:.3g}' for mm in volume.spacing_mm)} mm"
        for volume in (before, after)
    ]
    ml = [np.count_nonzero(v.array) * abs(float(np.linalg.det(v.affine[:3, :3]))) / 1000 for v in (before, after)]
    lost = sorted({*np.unique(before.array).tolist()} - {*np.unique(after.array).tolist(), 0})
    words = f"mask resampled from {sizes[0]} to {sizes[1]} (D x H x W), {ml[0]:.4g} ml to {ml[1]:.4g} ml"
    words += f"; {1 - share:.1%} of it lay beyond the image" * (share < 1)
    return words + f"; LOST, as too thin for the grid: {', '.join(map(str, lost))}" * bool(lost)
