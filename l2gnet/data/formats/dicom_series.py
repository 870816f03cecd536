"""A DICOM series becomes volumes: the world stays that of NIfTI, RAS in mm."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from l2gnet.data.formats.dicom_alike import require_alike, said_of_kinds, without_second_files
from l2gnet.data.formats.dicom_file import Image, read_images, told
from l2gnet.data.formats.dicom_moments import (
    in_time,
    said_of_counts,
    said_of_numbers,
    without_copies,
    without_repeats,
)
from l2gnet.data.formats.dicom_places import at_each_place, grid, said_of_spacing, shared_plane
from l2gnet.data.formats.nifti_voxels import MAX_BYTES
from l2gnet.data.volume import Volume, displayed
from l2gnet.errors import volume_error
from l2gnet.shapes import Float, Float32

_TO_HU = ("RescaleSlope", "ModalityLUTSequence")
_HU = {"HU", "US"}  # RescaleType, of which the second says nothing
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Stack:
    """The images of one moment, along their normal; the affine leads from (slice, row, column, 1) to LPS in mm."""

    images: tuple[Image, ...]
    affine: Float[np.ndarray, "4 4"]
    remarks: tuple[str, ...]

    @property
    def array(self) -> Float32[np.ndarray, "D H W"]:
        """The grey values."""
        return np.stack([image.pixels for image in self.images])


@dataclass(frozen=True)
class Series:
    """The files of one series in one folder, in any order; or one enhanced file, which is then the `path`, too.

    `remarks` are what was strange about it when it was found.
    """

    path: Path
    number: int
    files: tuple[Path, ...]
    remarks: tuple[str, ...] = ()

    def stacks(self) -> list[Stack]:
        """The images of each moment, in time; one moment unless the series is a cine. Raises as `read_frames` does."""
        with told(self.path):
            images = [image for path in self.files for image in read_images(path)]
            require_alike(self.path, self.number, images)
            images, copied = without_second_files(images)
            plane = shared_plane(self.path, self.number, images)
            places, same = without_copies(at_each_place(plane, images))
            moments, ordered = in_time(self.path, self.number, places)
            moments, repeated = without_repeats(moments)
            _require_room(self.path, moments[0])
            affines = [grid(self.path, self.number, plane, moment) for moment in moments]
            spaced = said_of_spacing(moments[0], float(np.linalg.norm(affines[0][:3, 0])))
            missing = (*said_of_numbers(images), *said_of_counts(moments), *spaced, *said_of_kinds(moments[0]))
            remarks = (*self.remarks, *copied, *same, *ordered, *repeated, *missing, *_said_of_units(images))
            return [Stack(tuple(moment), affine, remarks) for moment, affine in zip(moments, affines, strict=True)]

    def read_frames(self) -> list[Volume]:
        """The frames of the series as `volume.read_frames` gives them: a cine has several.

        Raises:
            VolumeError: a file is damaged, a slice is missing, the images do not make a volume, or nothing says in
                which order they come.
        """
        return list(map(_volume, self.stacks()))


def _require_room(path: Path, moment: Sequence[Image]) -> None:
    if sum(image.pixels.nbytes for image in moment) > MAX_BYTES:
        rule = f"a volume may take {MAX_BYTES // 2**30} GiB as float32"
        raise volume_error(path, rule, f"{len(moment)} images", "crop or resample it first")


def _said_of_units(images: Sequence[Image]) -> list[str]:
    """The remark about images of which nothing says how stored values become HU, or what the others of them have.

    Or of CT that says its values are no HU, as maps of iodine or of effective atomic numbers do.
    """
    kinds = sorted({str(image.header.get("RescaleType") or "HU").upper() for image in images} - _HU)
    if kinds and images[0].header.get("Modality") == "CT":
        return [f"its headers say that its grey values are {', '.join(kinds)}: are they HU?"]
    silent = [image for image in images if not any(image.header.get(name) not in (None, "") for name in _TO_HU)]
    if silent and images[0].header.get("Modality") == "CT":
        return ["its headers do not say how stored values become HU: are they HU?"]
    if 0 < len(silent) < len(images):
        names = f"{silent[0].name}{', ...' * (len(silent) > 1)}"
        return [f"{len(silent)} of its {len(images)} images do not say how to rescale them ({names}), and others do"]
    return []


def _volume(stack: Stack) -> Volume:
    affine = _LPS_TO_RAS @ stack.affine[:, [2, 1, 0, 3]]  # columns, rows, slices: the order of NIfTI
    geometry = nib.Nifti1Header()
    geometry.set_sform(affine, code="scanner")
    geometry["pixdim"][1:4] = nib.affines.voxel_sizes(affine)
    geometry.set_xyzt_units("mm")
    return displayed(stack.array.T, geometry.get_sform(), geometry, remarks=stack.remarks)
