"""DICOM series in, by pydicom and highdicom (extra `dicom`); the world stays that of NIfTI, RAS in mm.

A series has a file a slice, or is one enhanced file, which is unfolded into the same: from there on both are one.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from l2gnet.data.volume import MAX_BYTES, Volume, displayed
from l2gnet.errors import VolumeError, volume_error

Dataset = Any  # of pydicom, which is imported by those who need it
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_HEADERS = ["SeriesInstanceUID", "SeriesNumber", "ImageOrientationPatient"]
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_CLASSIC = [_STORAGE + kind for kind in ("2", "4", "128")]  # SOP classes of CT, MR and PET with a file a slice
_ENHANCED = {  # and those with one file for all, which may have been converted from the former
    _STORAGE + kind: classic
    for classic, kinds in zip(_CLASSIC, (("2.1", "2.2"), ("4.1", "4.4"), ("130", "128.1")), strict=True)
    for kind in kinds
}
_SCANS = {*_CLASSIC, *_ENHANCED}
_DEFLATED = "1.2.840.10008.1.2.1.99"  # transfer syntaxes
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_ALIKE = (  # images that differ in these show different things
    "ImageType",
    "FrameType",
    "ComplexImageComponent",
    "StackID",
    "EchoTime",
    "EffectiveEchoTime",
    "DiffusionBValue",
)
_TIMES = (  # what may say which of two images is the earlier, the first that differs
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "TemporalPositionTimeOffset",
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "NominalPercentageOfCardiacPhase",
    "InstanceNumber",
)


@dataclass(frozen=True)
class Series:
    """The files of one series in one folder, in any order; or one enhanced file, which is then the `path`, too."""

    path: Path
    number: int
    files: tuple[Path, ...]

    def phases(self) -> list[list[Dataset]]:
        """The images of each phase, in time; one phase unless the series is a cine. Raises as `read_frames` does."""
        with told(self.path):
            images = [image for path in self.files for image in _read(path)]
            self._require_alike(images)
            images.sort(key=lambda image: (round(_along(image), 2), _time(image)))
            stacks = [list(images) for _, images in groupby(images, key=lambda image: round(_along(image), 2))]
            counts = sorted({len(stack) for stack in stacks})
            if len(counts) > 1:
                rule = f"series {self.number} must have as many images at one position as at any other"
                raise volume_error(self.path, rule, counts, "copy the missing files, and each file once")
            gaps_mm = np.diff([_along(stack[0]) for stack in stacks])
            if len(gaps_mm) and gaps_mm.max() > 1.05 * gaps_mm.min():
                rule = f"the slices of series {self.number} must lie at equal distances"
                value = f"gaps of {gaps_mm.min():.4g} to {gaps_mm.max():.4g} mm"
                raise volume_error(self.path, rule, value, "copy the missing slices, or split the series")
            return [list(phase) for phase in zip(*stacks, strict=True)]

    def read_frames(self) -> list[Volume]:
        """The frames of the series as `volume.read_frames` gives them: a cine has several.

        Raises:
            VolumeError: a file is damaged, a slice is missing, or the images do not make a volume.
        """
        phases = self.phases()
        with told(self.path):
            return list(map(_volume, phases))

    def _require_alike(self, images: Sequence[Dataset]) -> None:
        for name in _ALIKE:
            values = sorted({str(image.get(name)) for image in images})
            if len(values) > 1:
                rule = f"the images of series {self.number} must have one {name}"
                raise volume_error(self.path, rule, "; ".join(values), "split the series")


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def find_series(files: Iterable[Path]) -> list[Series]:
    """The series among DICOM files, by folder and number; what is no scan (reports, our own SEG) is left out.

    Each enhanced file is a scan of its own, also where several are of one series. A damaged file may belong to any
    other series of its folder, so that none of those can be read.

    Raises:
        VolumeError: pydicom is missing.
    """
    try:
        from pydicom import dcmread
    except ImportError as error:
        rule = "DICOM needs the extra `dicom`"
        raise volume_error(next(iter(files)), rule, "no pydicom", "pip install 'l2gnet[dicom]'") from error
    found: dict[Path, dict[str, Series]] = defaultdict(dict)
    enhanced: list[Series] = []
    damaged: dict[Path, list[Path]] = defaultdict(list)
    for path in files:
        folder = path.parent
        try:
            with told(path):
                kind = _kind(path)
                if kind not in _SCANS:
                    continue
                header = dcmread(path, stop_before_pixels=True, specific_tags=_HEADERS)
                number = int(header.get("SeriesNumber") or 0)
                if kind in _ENHANCED:
                    enhanced.append(Series(path, number, (path,)))
                else:
                    header.ImageOrientationPatient  # noqa: B018 (must be there)
                    uid = str(header.SeriesInstanceUID)
                    before = found[folder][uid].files if uid in found[folder] else ()
                    found[folder][uid] = Series(folder, number, (*before, path))
        except VolumeError:
            damaged[folder].append(path)
    for folder, files_of_none in damaged.items():
        whole = found[folder] or {"": Series(folder, 0, ())}
        found[folder] = {uid: replace(one, files=(*one.files, *files_of_none)) for uid, one in whole.items()}
    classic = [one for series in found.values() for one in series.values()]
    return sorted(classic + enhanced, key=lambda one: (one.path, one.number))


def _read(path: Path) -> list[Dataset]:
    """The image in a file, or those in an enhanced one, decoded and kept, so that an error names this file."""
    from pydicom import dcmread

    with told(path):
        _kind(path)
        image = dcmread(path)
        count = int(image.get("NumberOfFrames") or 1)
        _require_room(image, count)
        if image.file_meta.TransferSyntaxUID in _JPEG_LS:
            _require_one_size(image, count)
        image.pixel_array  # noqa: B018
        return _unfolded(image) if image.SOPClassUID in _ENHANCED else [image]


def _kind(path: Path) -> str:
    """The SOP class of a file; raises VolumeError for a scan that pydicom would inflate to whatever size."""
    from pydicom.filereader import read_file_meta_info

    about = read_file_meta_info(path)
    if about.MediaStorageSOPClassUID in _SCANS and about.TransferSyntaxUID == _DEFLATED:
        rule = "the images of a DICOM file may be compressed, not the file as a whole"
        raise volume_error(path, rule, "a deflated transfer syntax", "convert it, as with dcmconv +te")
    return str(about.MediaStorageSOPClassUID)


def _require_room(image: Dataset, count: int) -> None:
    size = count * int(image.Rows) * int(image.Columns) * 4
    if size > MAX_BYTES:
        raise ValueError(f"{size} bytes, and at most {MAX_BYTES} can be read")


def _require_one_size(image: Dataset, count: int) -> None:
    """Refuse JPEG-LS of another size than the image's: the decoder would fill as much memory as the former says."""
    from _CharLS import read_header
    from pydicom.encaps import generate_frames

    for frame in generate_frames(image.PixelData, number_of_frames=count):
        about = read_header(frame)
        size = about["height"], about["width"], about["components"]
        if size != (image.Rows, image.Columns, 1):
            raise ValueError(
                f"JPEG-LS of {size} rows, columns and components for {image.Rows} x {image.Columns} pixels"
            )


def _unfolded(whole: Dataset) -> list[Dataset]:
    """The frames of an enhanced file as images of their own, with what the functional groups say of each."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    if whole.get("ConcatenationUID"):
        raise ValueError("other frames are in other files, of one concatenation")
    frames = []
    pixels = whole.pixel_array.reshape(-1, whole.Rows, whole.Columns)
    of_all, of_each = whole.SharedFunctionalGroupsSequence, whole.PerFrameFunctionalGroupsSequence
    del whole.PixelData, whole.NumberOfFrames, whole.SharedFunctionalGroupsSequence
    del whole.PerFrameFunctionalGroupsSequence
    for number, (groups, plane) in enumerate(zip(of_each, pixels, strict=True), start=1):
        own = Dataset()  # attributes that are set in `frame` itself would be set in all of them
        own.SOPClassUID, own.InstanceNumber = _ENHANCED[whole.SOPClassUID], number
        own.PixelData = plane.tobytes()
        frame = Dataset()
        frame.update(whole)
        for group in (*of_all[0], *groups):
            if group.VR == "SQ" and group.value and not group.is_private:
                frame.update(group.value[0])
        frame.update(own)
        frame.file_meta = FileMetaDataset()
        frame.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        frames.append(frame)
    return frames


def _along(image: Dataset) -> float:
    """Where an image lies along its own normal, in mm."""
    across, down = np.reshape(image.ImageOrientationPatient, (2, 3)).astype(float)
    return float(np.cross(across, down) @ np.array(image.ImagePositionPatient, dtype=float))


def _time(image: Dataset) -> tuple[float, ...]:
    return tuple(float(image.get(name) or 0) for name in _TIMES)


def lps_volume(images: Sequence[Dataset]) -> Any:
    """The images of one phase as highdicom's volume (D, rows, columns) in LPS; HU for CT."""
    from highdicom import get_volume_from_series

    _require_room(images[0], len(images))
    if len(images) == 1 and not images[0].get("SpacingBetweenSlices"):
        images[0].SpacingBetweenSlices = images[0].SliceThickness
    return get_volume_from_series(
        images, dtype=np.float32, apply_real_world_transform=False, rtol=0.05, orientation_tol=1e-4
    )


def _volume(images: Sequence[Dataset]) -> Volume:
    stack = lps_volume(images)
    affine = LPS_TO_RAS @ stack.affine[:, [2, 1, 0, 3]]  # columns, rows, slices: the order of NIfTI
    if not (np.isfinite(affine).all() and np.isfinite(stack.array).all()):
        raise ValueError("every position and every voxel must be finite")
    geometry = nib.Nifti1Header()
    geometry.set_sform(affine, code="scanner")
    geometry["pixdim"][1:4] = nib.affines.voxel_sizes(affine)
    geometry.set_xyzt_units("mm")
    return displayed(stack.array.T, geometry.get_sform(), geometry)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """A stranger's file can be wrong in as many ways as pydicom and its decoders know: each becomes a VolumeError."""
    try:
        yield
    except VolumeError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        rule = "DICOM images must be readable and make a volume"
        raise volume_error(path, rule, reason, "export it again") from error
