"""Predictions against truth on the original grid: per patient, per structure, ED and ES."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm.auto import tqdm

from l2gnet.checks import nearest
from l2gnet.data.dataset import Case, DataSet, open_whole
from l2gnet.data.grid import Grid, Plane
from l2gnet.data.regions import NO_REGIONS, Regions
from l2gnet.data.settings import DataSettings
from l2gnet.errors import ConfigError, VolumeError
from l2gnet.evaluation.calibration import Calibration
from l2gnet.evaluation.metrics import Convention, StructureScore, score_case, summarise
from l2gnet.files import write_json, write_text
from l2gnet.models.backbone import SegmentationModel
from l2gnet.models.card import ModelCard, patient_fingerprint
from l2gnet.models.checkpoint import load_checkpoint, save_checkpoint
from l2gnet.prediction.inference import on_best_device, predict_volume
from l2gnet.shapes import Float
from l2gnet.tables import csv_text

Scores = Mapping[str, Sequence[StructureScore]]


def evaluate_cases(
    model: SegmentationModel,
    cases: Sequence[Case],
    grid: Grid,
    classes: Sequence[str],
    convention: Convention = "strict",
    *,
    regions: Regions = NO_REGIONS,
    card: ModelCard | None = None,
    calibration: Calibration | None = None,
) -> dict[str, list[StructureScore]]:
    """Segment every case from its original file and score it on that file's grid.

    `classes` are those of the masks, background first, and `regions` say which of them are regions; where those of the
    model are others, its `card` says which. What the model finds and the masks do not know counts as background. With a
    card the slices of a case lie in the plane that the model was trained on, as they do for `Segmenter`.

    Distances are in mm, or in voxels where the voxel size is unknown or the convention is `transunet`. `calibration`
    counts the probabilities of every case.

    Raises:
        ConfigError: the model has not as many outputs as its classes or regions ask for.
        VolumeError: a scan cannot be brought onto the grid of the model, or belongs to no mask.
    """
    theirs, their_regions = (card.classes, card.regions) if card else (tuple(classes), regions)
    plane: Plane = card.plane if card else "acquired"
    found = _labels_found(theirs, their_regions, classes)
    scores = {}
    with on_best_device(model):
        for case in tqdm(cases, desc="evaluate", unit="volume", leave=False):
            image, truth = case.load()
            seen = image.in_plane(plane)
            count = calibration.of_case(truth.in_plane(plane).array) if calibration else lambda scores: None

            def hear(scores: Float[Tensor, "B L H W"], count: Callable[[Tensor], None] = count) -> None:
                their_regions.require_outputs(scores.shape[1], theirs)
                count(scores)

            try:
                predicted = predict_volume(model, seen, grid, regions=their_regions, on_scores=hear)
            except VolumeError as error:
                raise VolumeError(f"{case.name}: {error}") from error
            spacing_mm = truth.spacing_mm if truth.has_mm else None
            scores[case.name] = score_case(
                predicted.turned(image.axes).array,
                truth.array,
                classes,
                spacing_mm,
                convention=convention,
                regions=regions,
                found=found,
            )
    return scores


def _labels_found(segmented: Sequence[str], regions: Regions, classes: Sequence[str]) -> list[tuple[int, ...]]:
    """The labels that a model gives to each of these classes."""
    by_name = dict(zip(segmented[1:], regions.labels_of(len(segmented)), strict=True))
    return [by_name.get(name, ()) for name in classes[1:]]


def open_for_model(settings: DataSettings, card: ModelCard) -> DataSet:
    """All cases of a data folder, seen through the channels of a model, which must know the structures of the masks.

    Channels and structures go by name, in any order, and the masks may lack some that the model knows. Where it was
    trained on some structures of its folder (`structures`), others are background here as they were there. Where the
    folder has one channel and the model takes one, that is the one, whatever its name.

    Raises:
        ConfigError: channels or structures do not fit the model.
        VolumeError: the data folder is not what it should be.
    """
    dataset = open_whole(settings)
    if not settings.channel and len(dataset.channels) > 1:
        settings = replace(settings, channel=", ".join(card.channels))
        dataset = open_whole(settings)
    if len(dataset.channels) != len(card.channels):
        rule = f"the model takes the image channels {', '.join(card.channels)}"
        raise ConfigError(f"{settings.data_dir}: {rule}, got {', '.join(dataset.channels)}; name as many by channel")
    known = [name for name in dataset.classes[1:] if name in card.classes]
    unknown = [name for name in dataset.classes[1:] if name not in card.classes]
    if unknown and known and card.training.get("settings", {}).get("structures"):
        return open_whole(replace(settings, structures=", ".join(known)))
    if unknown:
        rule = "the masks must hold structures that the model knows"
        remedy = "give one structure one name in dataset.json, or take a model of this task"
        like = nearest(unknown[0], card.classes[1:])
        raise ConfigError(f"{settings.data_dir}: {rule}, got {', '.join(unknown)}; {remedy}{like}")
    return dataset


def unseen(card: ModelCard, cases: Sequence[Case]) -> list[Case]:
    """Those of the cases whose patients the model was not trained on, as far as its card knows."""
    known = set(card.training.get("trained_on", ()))
    return [case for case in cases if patient_fingerprint(case.patient) not in known]


def summarise_phases(scores: Scores, cases: Sequence[Case]) -> dict[str, Any]:
    """The summary over all cases, and that of each phase of the heart beat by itself."""
    summary = {"all": summarise(scores)}
    for phase in sorted({case.phase for case in cases if case.phase}):
        names = [case.name for case in cases if case.phase == phase]
        summary[phase] = summarise({name: scores[name] for name in names})
    return summary


def structure_table(scores: Scores) -> list[dict[str, str]]:
    """One row a structure and one for all, as a paper would print it; distances in mm, in voxels if so scored, or both.

    `cases` are those that count: in which the structure, or for all of them any, was there or was found.
    """
    summary = summarise(scores)
    counted = {name: numbers["dice"]["count"] for name, numbers in summary["structures"].items()}
    counted["all structures"] = sum(any(not math.isnan(one.dice) for one in case) for case in scores.values())
    units = [unit for unit in ("mm", "voxels") if summary["overall"][f"hd95_{unit}"]["count"]] or ["mm"]
    rows = []
    for name, numbers in [*summary["structures"].items(), ("all structures", summary["overall"])]:
        distances = {}
        for unit in units:
            distances[f"HD95 ({unit})"] = _mean_std(numbers[f"hd95_{unit}"], 2)
            distances[f"HD95 median ({unit})"] = _number(numbers[f"hd95_{unit}"], "median", 2)
        surface = {"ASSD (mm)": _mean_std(numbers["assd_mm"], 2), "NSD at 2 mm": _mean_std(numbers["nsd"], 3)}
        rows.append(
            {
                "structure": name,
                "Dice": _mean_std(numbers["dice"], 4),
                **distances,
                **(surface if "mm" in units else {}),
                "false negatives (%)": _number(numbers["false_negative_rate"], "mean", 2, scale=100),
                "missed": str(numbers["missed"]),
                "false": str(numbers["false_positive"]),
                "cases": str(counted[name]),
            }
        )
    return rows


def write_scores(
    run_dir: str | Path,
    scores: Scores,
    cases: Sequence[Case],
    header: Mapping[str, Any],
    calibration: Calibration | None = None,
) -> None:
    """Write `metrics.json` (summaries), `per_structure.csv` (table) and `scores.csv` (each case) to a run folder.

    With a calibration its numbers go into the first, and its bins into `reliability.csv`.

    Where the folder holds the model that was scored, its card gets the summary too.
    """
    run_dir = Path(run_dir)
    by_name = {case.name: case for case in cases}
    rows = [
        {column: getattr(by_name[name], column) for column in ("patient", "group", "phase")}
        | {"case": name}
        | asdict(score)
        for name, structures in scores.items()
        for score in structures
    ]
    summary = summarise_phases(scores, cases)
    calibrated = {"calibration": calibration.as_dict()} if calibration else {}
    write_json(run_dir / "metrics.json", {**header, **summary, **calibrated})
    if (run_dir / "model.safetensors").exists():
        record_metrics(run_dir / "model.safetensors", summary["all"])
    write_text(run_dir / "per_structure.csv", csv_text(structure_table(scores)))
    write_text(run_dir / "scores.csv", csv_text(rows))
    if calibration:
        write_text(run_dir / "reliability.csv", csv_text(calibration.table()))


def record_metrics(path: str | Path, metrics: dict[str, Any]) -> None:
    """Add the scores of an evaluation to the card of a checkpoint, atomically; its weights stay as they are."""
    model, card = load_checkpoint(path)
    save_checkpoint(path, model, replace(card, training=card.training | {"metrics": metrics}))


def _number(numbers: Mapping[str, Any], which: str, digits: int, scale: float = 1.0) -> str:
    if not numbers["count"]:
        return "-"
    value = numbers[which]
    return "infinite" if value is None else f"{scale * value:.{digits}f}"


def _mean_std(numbers: Mapping[str, Any], digits: int) -> str:
    infinite = f"{numbers['infinite']} infinite" if numbers["infinite"] else ""
    if numbers["mean"] is None:
        return infinite or "-"
    return f"{numbers['mean']:.{digits}f} ± {numbers['std']:.{digits}f}" + f" ({infinite})" * bool(infinite)
