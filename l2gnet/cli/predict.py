"""`l2gnet predict`: from scans to labels, and what is said of them."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
        model: A checkpoint, a run folder, or the name of a model that comes along.
        scans: NIfTI files, enhanced DICOM files, or folders of those or of DICOM series; of any orientation, spacing
            and size. For a model of several channels: CASE_0000.nii.gz, CASE_0001.nii.gz and so on, or 4-D files.
        out: Folder that gets the labels of each scan, on its own grid, and what is said of them.
        ensemble: More checkpoints of the same task; all vote with their mean probability.
        augment: Test-time augmentation: slices turned, and mirrored if the model was trained so; slower.
        batch_size: Slices that pass the network at once.
        precision: As in training; bf16-mixed is faster where the hardware has it, and changes a few labels.
        nnunet_names: Call the labels of CASE, or of CASE_0000 or another channel beside it, CASE.nii.gz, as nnU-Net
            does, for its evaluation to read; probabilities then go to a folder of that name.
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
    from l2gnet.data.beside import aside, listed
    from l2gnet.data.inputs import LABELS_END

    end, shares = ("", out / "probabilities") if nnunet_names else (LABELS_END, out)
    writes = {"labels", *["DICOM SEG"] * dicom_seg, *["probabilities"] * probabilities}
    earlier = _require_own(found, out, shares, end, writes)
    from l2gnet.prediction.cardiac import function_by_patient
    from l2gnet.prediction.doubt import flagged
    from l2gnet.prediction.segmenter import (
        Segmenter,
        write_function,
        write_prediction,
        write_probabilities,
        write_seg,
    )

    volumes_ml, doubts = {}, {}
    removed: list[Path] = []
    segmenter = Segmenter(
        model, *ensemble, batch_size=batch_size, augment=augment, precision=precision, probabilities=probabilities
    )

    def segment(scan: "Input", frames: "list[Volume]") -> None:
        prediction = segmenter.predict(frames, scan.name)
        removed.extend(_remove(earlier[scan.name]))
        write_prediction(out, prediction, end=end)
        if probabilities:  # nnU-Net's evaluation would take them for labels
            write_probabilities(shares, prediction)
        if dicom_seg and scan.series is not None:
            write_seg(out, prediction, scan.series, card.model, all_planes=all_planes)
        print(prediction)
        volumes_ml[scan.name], doubts[scan.name] = prediction.volumes_ml, prediction.doubts

    failed = each_scan(found, segment)
    for patient, function in function_by_patient(volumes_ml, doubts, failed).items():
        write_function(out, patient, function)
        print(f"{patient}: {function}{flagged(function.doubts)}")
    if gone := sorted({path.name for path in removed if not path.exists()}):
        aside(f"removed, as they were of earlier labels: {listed(gone)}")
    print(f"results: {out}")
    end_with(failed, found, "segmented")


def _as_nnunet(scans: "list[Input]") -> "list[Input]":
    """The scans by the names that nnU-Net gives their labels."""
    from collections import Counter
    from dataclasses import replace

    scans = [replace(scan, name=_nnunet_name(scan)) for scan in scans]
    name, count = Counter(scan.name for scan in scans).most_common(1)[0]
    if count > 1:
        raise ConfigError(f"each scan needs a name of its own, got {count} scans {name}; rename or part them")
    return scans


def _nnunet_name(scan: "Input") -> str:
    """The name of a scan without the number of a channel: 0000, or another one of a file that has 0000 beside it."""
    from l2gnet.data.names import case_name, of_channel, without_channel

    file = case_name(scan.path.name)
    first = scan.path.with_name(of_channel(scan.path.name.replace(file, without_channel(file), 1), 0))
    beside = scan.series is None and scan.name.endswith(file) and first.is_file()
    return without_channel(scan.name) if beside else scan.name.removesuffix("_0000")


def _require_own(
    scans: "list[Input]", out: Path, shares: Path, end: str, writes: Collection[str]
) -> dict[str, list[Path]]:
    """Refuse to write results over, or beside, what is not of an earlier run: a scan, or what a person made.

    Returns what an earlier run left beside the labels of each scan, which would be wrong beside new ones.
    """
    from l2gnet.data.inputs import patient_and_frame
    from l2gnet.files import content_hash

    there = {scan.path.resolve() for scan in scans}
    beside = _beside_labels(out, shares)
    earlier = {}
    for scan in scans:
        labels, about = out / f"{scan.name}{end}.nii.gz", out / f"{scan.name}{end}.json"
        said = _said(about)  # of our own labels, and so of all beside them
        ours = {"labels", "frames"} <= said.keys()
        if "labels_sha256" in said and labels.is_file() and content_hash(labels) != said["labels_sha256"]:
            rule = "predict may write labels over none but its own, got some that were changed since"
            raise ConfigError(f"{labels}: {rule}; keep them elsewhere, or name another folder")
        found = {path: "labels" for path in (labels, about) if path.exists()} | beside.get(scan.name, {})
        for path, what in found.items():
            if not ours or path.resolve() in there:
                raise _not_ours(path, f"{what} over none" if what in writes else f"labels beside no {what}")
        earlier[scan.name] = list(beside.get(scan.name, {}))
        if of := patient_and_frame(scan.name):
            function = out / f"{of[0]}_function.json"
            if function.exists() and not {"ed_frame", "es_frame"} <= _said(function).keys():
                raise _not_ours(function, "cardiac function over none")
            earlier[scan.name].append(function)
    return earlier


def _beside_labels(out: Path, shares: Path) -> dict[str, dict[Path, str]]:
    """What a run may have left beside the labels of a scan, by its name; of a cine there are files for each frame."""
    import re

    from l2gnet.data.inputs import LABELS_END

    found: dict[str, dict[Path, str]] = {}
    for what, folder, end in (
        ("DICOM SEG", out, rf"{LABELS_END}(_frame[0-9]+)?\.dcm"),
        ("probabilities", shares, r"_probabilities(_frame[0-9]+)?\.nii\.gz"),
    ):
        for path in folder.iterdir() if folder.is_dir() else ():
            if matched := re.fullmatch(f"(.+){end}", path.name):
                found.setdefault(matched[1], {})[path] = what
    return found


def _remove(paths: Iterable[Path]) -> list[Path]:
    """Remove those of the files that are there; returns them."""
    from l2gnet.errors import unwritable

    removed = [path for path in paths if path.exists()]
    for path in removed:
        try:
            path.unlink()
        except OSError as error:
            raise unwritable(path, error) from error
    return removed


def _not_ours(path: Path, done: str) -> ConfigError:
    rule = f"predict may write {done} but our own, got a file of this name"
    return ConfigError(f"{path}: {rule}; name another folder")


def _said(path: Path) -> dict[str, Any]:
    """What a JSON file of ours says; nothing where it is not there, or broken off."""
    from l2gnet.files import read_json

    try:
        said = read_json(path)
    except (OSError, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
