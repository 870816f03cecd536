"""`l2gnet predict`: from scans to labels, and what is said of them."""

import sys
from pathlib import Path
from typing import Annotated

import tyro

from l2gnet.checks import MOST, exists, require, require_path
from l2gnet.errors import ConfigError, VolumeError, unforeseen
from l2gnet.models.settings import Precision


def predict(
    model: Annotated[Path, tyro.conf.Positional],
    scans: Annotated[list[Path], tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    ensemble: tuple[Path, ...] = (),
    augment: bool = False,
    batch_size: int = 8,
    precision: Precision = "32-true",
    dicom_seg: bool = False,
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
        dicom_seg: Also write the labels of a DICOM series as DICOM SEG, which names the patient as the series does.
    """
    from l2gnet.models.card import read_card

    require(1 <= batch_size <= MOST, "batch_size", "at least 1" if batch_size < 1 else f"at most {MOST}", batch_size)
    card, *_ = map(read_card, (model, *ensemble))
    if not any(map(exists, scans)):  # one that is not there beside others is told in its turn
        require_path(*scans)
    from l2gnet.data.inputs import find_inputs, read_inputs

    found = find_inputs(scans, card.channels)
    other = next((scan.path for scan in found if dicom_seg and scan.series is None and scan.path.is_file()), None)
    if other:
        raise ConfigError(f"{other}: --dicom-seg must be given DICOM series only, got NIfTI; leave one of them out")
    from l2gnet.prediction.cardiac import function_by_patient
    from l2gnet.prediction.segmenter import Segmenter, write_function, write_prediction, write_seg

    volumes_ml = {}
    segmenter = Segmenter(model, *ensemble, batch_size=batch_size, augment=augment, precision=precision)
    failed = []
    for scan, frames in read_inputs(found):
        try:
            if isinstance(frames, Exception):
                raise frames
            prediction = segmenter.predict(frames, scan.name)
            write_prediction(out, prediction)
            if dicom_seg and scan.series is not None:
                write_seg(out, prediction, scan.series, card.model)
            print(prediction)
            volumes_ml[scan.name] = prediction.volumes_ml
        except VolumeError as error:
            failed.append(scan.name)
            print(f"l2gnet: error: {error}", file=sys.stderr)
        except Exception as error:  # one scan must not take the others with it, whatever is wrong with it
            failed.append(scan.name)
            print(f"l2gnet: error: {scan.path}: {unforeseen(error)}", file=sys.stderr)
    for patient, function in function_by_patient(volumes_ml).items():
        write_function(out, patient, function)
        print(f"{patient}: {function}")
    print(f"results: {out}")
    if failed:
        names = ", ".join(failed[:10]) + ", ..." * (len(failed) > 10)
        print(f"l2gnet: {len(failed)} of {len(found)} scans were not segmented: {names}", file=sys.stderr)
        sys.exit(2)
