"""`l2gnet predict`: from scans to labels, and what is said of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from l2gnet.checks import MOST, require
from l2gnet.errors import ConfigError
from l2gnet.models.settings import Precision

if TYPE_CHECKING:
    from l2gnet.data.inputs import Input
    from l2gnet.data.volume import Volume


def predict(
    model: Annotated[Path, tyro.conf.Positional],
    scans: Annotated[list[Path], tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    ensemble: tuple[Path, ...] = (),
    augment: bool = False,
    batch_size: int = 8,
    precision: Precision = "32-true",
    nnunet_names: bool = False,
    probabilities: bool = False,
    dicom_seg: bool = False,
    all_planes: bool = False,
) -> None:
    """Segment scans of your own: NIfTI files, DICOM series, or folders of them.

    Args:
        model: A checkpoint: a run folder, or model.safetensors of one.
        scans: NIfTI files, enhanced DICOM files, or folders of those or of DICOM series; of any orientation, spacing
            and size. For a model of several channels: CASE_0000.nii.gz, CASE_0001.nii.gz and so on, or 4-D files.
        out: Folder that gets the labels of each scan, on its own grid, and what is said of them.
        ensemble: More checkpoints of the same task; all vote with their mean probability.
        augment: Test-time augmentation: slices turned, and mirrored if the model was trained so; slower.
        batch_size: Slices that pass the network at once.
        precision: As in training; bf16-mixed is faster where the hardware has it, and changes a few labels.
        nnunet_names: Call the labels of CASE or CASE_0000 CASE.nii.gz, as nnU-Net does, for its evaluation to read;
            probabilities then go to a folder of that name.
        probabilities: Also write the probability of each class, CASE_probabilities.nii.gz: 4-D on the scan's grid, a
            volume for each label from background on, adding up to 1, or for each region; four bytes a voxel and class.
        dicom_seg: Also write the labels of a DICOM series as DICOM SEG, which names the patient as the series does.
        all_planes: Give each structure of a DICOM SEG a frame on every plane of its series, empty where it is not.
    """
    from l2gnet.models.card import read_card

    require(1 <= batch_size <= MOST, "batch_size", "at least 1" if batch_size < 1 else f"at most {MOST}", batch_size)
    card, *_ = map(read_card, (model, *ensemble))
    from l2gnet.cli.scans import each_scan, end_with, named_scans

    found = named_scans(scans, card.channels)
    if nnunet_names:
        found = _as_nnunet(found)
    if all_planes and not dicom_seg:
        raise ConfigError("--all-planes is about DICOM SEG, got it alone; add --dicom-seg")
    other = next((scan.path for scan in found if dicom_seg and scan.series is None and scan.path.is_file()), None)
    if other:
        raise ConfigError(f"{other}: --dicom-seg must be given DICOM series only, got NIfTI; leave one of them out")
    from l2gnet.data.inputs import LABELS_END

    end = "" if nnunet_names else LABELS_END
    _require_own(found, out, end)
    from l2gnet.prediction.cardiac import function_by_patient
    from l2gnet.prediction.segmenter import (
        Segmenter,
        write_function,
        write_prediction,
        write_probabilities,
        write_seg,
    )

    volumes_ml = {}
    segmenter = Segmenter(
        model, *ensemble, batch_size=batch_size, augment=augment, precision=precision, probabilities=probabilities
    )

    def segment(scan: "Input", frames: "list[Volume]") -> None:
        prediction = segmenter.predict(frames, scan.name)
        write_prediction(out, prediction, end=end)
        if probabilities:  # nnU-Net's evaluation would take them for labels
            write_probabilities(out / "probabilities" if nnunet_names else out, prediction)
        if dicom_seg and scan.series is not None:
            write_seg(out, prediction, scan.series, card.model, all_planes=all_planes)
        print(prediction)
        volumes_ml[scan.name] = prediction.volumes_ml

    failed = each_scan(found, segment)
    for patient, function in function_by_patient(volumes_ml).items():
        write_function(out, patient, function)
        print(f"{patient}: {function}")
    print(f"results: {out}")
    end_with(failed, found, "segmented")


def _as_nnunet(scans: "list[Input]") -> "list[Input]":
    """The scans by the names that nnU-Net gives their labels."""
    from collections import Counter
    from dataclasses import replace

    scans = [replace(scan, name=scan.name.removesuffix("_0000")) for scan in scans]
    name, count = Counter(scan.name for scan in scans).most_common(1)[0]
    if count > 1:
        raise ConfigError(f"each scan needs a name of its own, got {count} scans {name}; rename or part them")
    return scans


def _require_own(scans: "list[Input]", out: Path, end: str) -> None:
    """Refuse to write labels where another file lies: a scan, or what a person drew."""
    from l2gnet.files import read_json

    there = {scan.path.resolve() for scan in scans}
    for path in [out / f"{scan.name}{end}.nii.gz" for scan in scans]:
        about = path.with_name(f"{path.name.removesuffix('.nii.gz')}.json")  # what is said of our own labels
        said = read_json(about) if about.is_file() else {}
        ours = isinstance(said, dict) and {"labels", "frames"} <= said.keys()
        if path.resolve() in there or (not ours and (path.exists() or about.exists())):
            rule = "predict may write labels over none but our own, got a file of this name"
            raise ConfigError(f"{path}: {rule}; name another folder")
