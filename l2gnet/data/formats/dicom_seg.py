"""DICOM SEG out, by highdicom (extra `dicom`): labels on the planes of the images that they were made from."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from l2gnet.colours import label_colour
from l2gnet.data.formats.dicom_file import Dataset, told
from l2gnet.data.formats.dicom_series import Series, Stack
from l2gnet.data.regions import NO_REGIONS, Regions
from l2gnet.data.volume import Volume, in_stored_order
from l2gnet.errors import unwritable, volume_error
from l2gnet.files import atomic_path

_LONGEST = 64  # characters of a name or description
_ELSEWHERE = (1e6, 1e6, 1e6)  # in mm, where nobody lies
_SCT = {  # SNOMED CT, as DICOM's own tables name it
    "right ventricle": ("53085002", "Right ventricle"),
    "left ventricle": ("87878005", "Left ventricle"),
    "myocardium": ("74281007", "Myocardium"),
    "aorta": ("15825003", "Aorta"),
    "gallbladder": ("28231008", "Gallbladder"),
    "left kidney": ("18639004", "Left kidney"),
    "right kidney": ("9846003", "Right kidney"),
    "liver": ("10200004", "Liver"),
    "pancreas": ("15776009", "Pancreas"),
    "spleen": ("78961009", "Spleen"),
    "stomach": ("69695003", "Stomach"),
}
_STRUCTURE = ("91723000", "Anatomical Structure")
_MAY_BE_EMPTY = (  # what a SEG copies from its images, and those who remove names also remove (type 2 of DICOM)
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)


def write_segs(
    series: Series,
    paths: Sequence[str | Path],
    labels: Sequence[Volume],
    classes: Sequence[str],
    *,
    model: str,
    all_planes: bool = False,
    regions: Regions = NO_REGIONS,
) -> None:
    """Write the labels of each frame as DICOM SEG, on the planes of its images; patient and study are theirs.

    A structure is one tracked thing in all frames of a series. Planes without it are left out, or, with `all_planes`,
    are there and empty. Segments that are regions overlap.

    Raises:
        VolumeError: the labels are not on the grid of a series, it lacks what a SEG must say (as of the patient),
            or a file cannot be written.
    """
    for frame, (path, on_frame, stack) in enumerate(zip(paths, labels, series.stacks(), strict=True)):
        with told(series.path):
            segmentation = _segmentation(
                series,
                path,
                stack,
                on_frame,
                classes,
                frame=frame,
                model=model,
                all_planes=all_planes,
                regions=regions,
            )
        try:
            with atomic_path(path) as temporary:
                segmentation.save_as(temporary)
        except OSError as error:
            raise unwritable(path, error) from error


def _segmentation(
    series: Series,
    path: str | Path,
    stack: Stack,
    labels: Volume,
    classes: Sequence[str],
    *,
    frame: int,
    model: str,
    all_planes: bool,
    regions: Regions,
) -> Any:
    from highdicom import UID
    from highdicom import Volume as PlacedVolume
    from highdicom.seg import Segmentation

    if labels.stored is None:
        raise volume_error(path, "labels must be those of a series", "others", "predict this series")
    array = np.ascontiguousarray(in_stored_order(labels.array, labels.stored).T)
    segments: dict[str, Any] = {}
    if regions:
        array = np.stack([np.isin(array, numbers) for numbers in regions.labels], axis=3).astype(np.uint8)
        segments = {"channels": {"SegmentNumber": range(1, len(classes))}}
    images = [image.header for image in stack.images]
    for image in images:  # which may be off by thousandths, and highdicom wants them the same
        image.ImageOrientationPatient, image.PixelSpacing = images[0].ImageOrientationPatient, images[0].PixelSpacing
    whole = [_whole(series.path, images)] if series.files == (series.path,) else images
    for name in _MAY_BE_EMPTY:
        if not _can_be_copied(name, whole[0].get(name)):
            setattr(whole[0], name, "")
    frame_of_reference = images[0].get("FrameOfReferenceUID")
    if not frame_of_reference:
        rule, remedy = "a series must say its FrameOfReferenceUID to get a DICOM SEG", "do without, or export it again"
        raise volume_error(series.path, rule, "none", remedy)
    return Segmentation(
        source_images=whole,
        pixel_array=PlacedVolume(array, stack.affine, "PATIENT", frame_of_reference_uid=frame_of_reference, **segments),
        segmentation_type="BINARY",
        segment_descriptions=[_described(series, images[0], n, classes[n], model) for n in range(1, len(classes))],
        series_instance_uid=UID(),
        series_number=1000 + series.number,
        series_description=f"Segmentation by {model}, for research only"[:_LONGEST],
        specific_character_set="ISO_IR 192",  # text is copied decoded, and a series may name no set that could be kept
        sop_instance_uid=UID(),
        instance_number=frame + 1,
        manufacturer="L2GNet workbench",
        manufacturer_model_name=model,
        software_versions=version("l2gnet"),
        device_serial_number="0",
        content_label="SEGMENTATION",
        omit_empty_frames=bool(array.any()) and not all_planes,  # no SEG can have no frame at all
    )


def _can_be_copied(name: str, value: Any) -> bool:
    """Whether a SEG may say this of patient and study: of dates, times and the sex, DICOM knows one way to say them."""
    from pydicom.valuerep import DA, TM

    if name == "PatientSex":
        return value in ("M", "F", "O")
    kind = DA if name.endswith("Date") else TM if name.endswith("Time") else str
    try:
        return value is not None and kind(value) is not None
    except ValueError:
        return False


def _whole(path: Path, images: Sequence[Dataset]) -> Dataset:
    """The enhanced file with some images, as highdicom wants the source of a SEG: those alone can be found by place."""
    from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence
    from pydicom import Dataset, dcmread

    whole, first, shared = dcmread(path, stop_before_pixels=True), images[0], Dataset()
    shared.PlaneOrientationSequence = PlaneOrientationSequence("PATIENT", first.ImageOrientationPatient)
    shared.PixelMeasuresSequence = PixelMeasuresSequence(first.PixelSpacing, first.get("SliceThickness"))
    whole.SharedFunctionalGroupsSequence = [shared]
    place = {image.InstanceNumber: image.ImagePositionPatient for image in images}
    for number, groups in enumerate(whole.PerFrameFunctionalGroupsSequence, start=1):
        groups.PlanePositionSequence = PlanePositionSequence("PATIENT", place.get(number, _ELSEWHERE))
    return whole


def _described(series: Series, image: Dataset, label: int, name: str, model: str) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code
    from pydicom.uid import generate_uid

    value, meaning = _SCT.get(name, _STRUCTURE)
    return SegmentDescription(
        segment_number=label,
        segment_label=name[:_LONGEST],
        segmented_property_category=Code(_STRUCTURE[0], "SCT", _STRUCTURE[1]),
        segmented_property_type=Code(value, "SCT", meaning),
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=f"L2GNet workbench, {model}", version=version("l2gnet"), family=codes.DCM.ArtificialIntelligence
        ),
        tracking_id=f"{name}, series {series.number}",
        tracking_uid=generate_uid(entropy_srcs=[image.SeriesInstanceUID, name]),
        display_color=CIELabColor.from_string(label_colour(label)),
    )
