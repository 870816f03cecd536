"""Which images can be one scan: those that a series holds once each, and that show the same kind of thing."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from l2gnet.data.formats.dicom_file import Image
from l2gnet.errors import volume_error

_SAME = (  # images of one volume have the same
    "Modality",
    "StudyInstanceUID",  # unlike where names were removed badly, and several series got one identifier
    "SeriesNumber",
    "ImageType",
    "FrameType",
    "ComplexImageComponent",
    "StackID",
    "FrameOfReferenceUID",
    "SequenceName",
    "EchoNumbers",
    "ConvolutionKernel",
    "Units",
)
_NEAR = ("EchoTime", "EffectiveEchoTime", "DiffusionBValue")  # and nearly the same
_SAME_AT_A_PLACE = ("SeriesDescription", "ProtocolName", "SequenceVariant", "ScanOptions", "CorrectedImage")
_NEAR_AT_A_PLACE = (  # which may be set anew for each slice
    "InversionTime",
    "RepetitionTime",
    "FlipAngle",
    "KVP",
    "SliceLocation",  # else one of both that say where it lies is wrong
)
_SAME_BESIDE = ("SeriesDescription", "ContrastBolusAgent")  # in one volume, if nobody joined two
_PRIVATE_AT_A_PLACE = {  # in the words of scanners that say it in elements of their own
    (0x0019, 0x100C): "b-value (Siemens)",
    (0x2001, 0x1003): "b-value (Philips)",
    (0x0043, 0x1039): "b-value (GE)",
    (0x0043, 0x102F): "kind of image (GE)",
}
_TOLERANCE = 0.01  # relative
_REMEDY = "split the series, as with dcm2niix, and name the right part"


def without_second_files(images: Sequence[Image]) -> tuple[list[Image], list[str]]:
    """Each image once, where several files hold the same one, and what is to be said of it.

    Images that differ and yet have one unique identifier (SOPInstanceUID) are kept, with a remark.
    """
    first: dict[str, Image] = {}
    kept, again, doubtful = [], [], []
    for image in images:
        uid = str(image.header.get("SOPInstanceUID", ""))
        other = first.setdefault(uid, image) if uid and image.frame is None else image
        if other is not image and image.picture == other.picture and _same_place(image, other):
            again.append(image)
            continue
        kept.append(image)
        doubtful += [f"{other.name} and {image.name}"] if other is not image else []
    remarks = [said_of_copies(again)] if again else []
    if doubtful:
        which = "; ".join(doubtful[:3]) + "; ..." * (len(doubtful) > 3)
        remarks.append(f"images that differ have one SOPInstanceUID ({which}): are they of one series?")
    return kept, remarks


def said_of_copies(images: Sequence[Image]) -> str:
    """The remark about images that were left out, since others are the same."""
    names = ", ".join(sorted(image.name for image in images)[:3]) + ", ..." * (len(images) > 3)
    return f"{len(images)} of its images are copies of others and were left out ({names})"


def _same_place(one: Image, other: Image) -> bool:
    """Whether two headers place their images alike, within what a rewritten header may be off."""
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        mine, its = (np.array(image.header.get(name) or (), dtype=float) for image in (one, other))
        if mine.shape != its.shape or not np.allclose(mine, its, atol=1e-3):
            return False
    return True


def require_alike(path: Path, number: int, images: Sequence[Image]) -> None:
    """Raise VolumeError unless all images are of one patient and show one kind of thing."""
    if len({str(image.header.get("PatientID")) for image in images}) > 1:
        raise volume_error(path, f"series {number} must be of one patient", "several", "keep the files of each apart")
    for name in _SAME:
        _require_one(path, number, name, {str(image.header.get(name)) for image in images})
    for name in _NEAR:
        _require_one(path, number, name, _distinct([image.header.get(name) for image in images]))


def require_alike_at_a_place(path: Path, number: int, images: Sequence[Image]) -> None:
    """Raise VolumeError where images at one position differ in what they show, and so are no moments of one scan."""
    for name in _SAME_AT_A_PLACE:
        _require_one(path, number, name, {str(image.header.get(name)) for image in images})
    for name in _NEAR_AT_A_PLACE:
        _require_one(path, number, name, _distinct([image.header.get(name) for image in images]))
    for tag, name in _PRIVATE_AT_A_PLACE.items():
        _require_one(path, number, name, {str(image.header[tag].value) for image in images if tag in image.header})


def said_of_kinds(images: Sequence[Image]) -> list[str]:
    """The remarks about the images of one moment, each at a place of its own, that may be of two acquisitions."""
    remarks = []
    for name in _SAME_BESIDE:
        first, *others = (str(image.header.get(name) or "") for image in images)
        unlike = sum(other != first for other in others)
        if unlike:
            remarks.append(
                f"{unlike} of its {len(images)} slices have another {name}: are they of another acquisition?"
            )
    return remarks


def _distinct(values: Sequence[Any]) -> set[str]:
    """Numbers as text, those that differ by less than a hundredth as one, and "None" where one is missing."""
    numbers = sorted(float(value) for value in values if value not in (None, ""))
    steps = [abs(after - before) > max(_TOLERANCE * abs(before), 1e-2) for before, after in pairwise(numbers)]
    first_of_each = [number for number, new in zip(numbers, [True, *steps], strict=False) if new]
    return {*map(str, first_of_each), *(["None"] if len(numbers) < len(values) else [])}


def _require_one(path: Path, number: int, name: str, values: set[str]) -> None:
    if len(values) > 1:
        rule = f"the images of series {number} must have one {name}"
        raise volume_error(path, rule, "; ".join(sorted(values)), _REMEDY)
