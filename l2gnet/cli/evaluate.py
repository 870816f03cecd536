"""`l2gnet evaluate` and `l2gnet seeds`: how good a model is, and how much of that is luck."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from l2gnet.checks import require_path
from l2gnet.data.settings import DataSettings
from l2gnet.errors import ConfigError
from l2gnet.evaluation.grids import scores_folder
from l2gnet.tables import text_table


def evaluate(
    model: Annotated[Path, tyro.conf.Positional],
    data_dir: Annotated[Path, tyro.conf.Positional],
    data: Literal["acdc", "synapse", "decathlon"] = "acdc",
    channel: str = "",
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    all_cases: bool = False,
) -> None:
    """Score a model on a data folder with masks, on the original grid of each scan, and say how calibrated it is.

    Patients that the model was trained on are left out. Structures go by name: the folder may number them in another
    way, and have fewer of them than the model. The expected calibration error (Guo et al. 2017) and the Brier score are
    over all voxels, and over those where truth or prediction have a structure: nearly all others are background, of
    which any model is sure. A region of nnU-Net's, made of several labels, is scored on their union.

    Args:
        model: A checkpoint, a run folder, or the name of a model that comes along.
        data_dir: The data folder.
        data: What kind of folder it is; decathlon is any of MSD's or nnU-Net's form.
        channel: The image channels to use, by name or number; by default those that the model was trained on.
        out: Folder that gets metrics.json, per_structure.csv, scores.csv and reliability.csv.
        all_cases: Score all patients, also those that the model was trained on.
    """
    from l2gnet.models.card import read_card

    card = read_card(model)
    settings = DataSettings(data=data, data_dir=str(data_dir), channel=channel)
    if out is not None and (out / "model.safetensors").exists():
        rule = "out must be a folder of its own, got that of a training, whose scores it would replace"
        raise ConfigError(f"{out}: {rule}; name another")
    from l2gnet.evaluation.calibration import Calibration
    from l2gnet.evaluation.scores import evaluate_cases, open_for_model, structure_table, unseen, write_scores
    from l2gnet.models.checkpoint import load_checkpoint

    dataset = open_for_model(settings, card)
    cases = dataset.cases if all_cases else unseen(card, dataset.cases)
    if not cases:
        raise ConfigError(f"{data_dir}: the model was trained on every patient; name other data, or add --all-cases")
    network, _ = load_checkpoint(model)
    calibration = Calibration(dataset.classes, dataset.regions, card)
    scores = evaluate_cases(
        network, cases, card.grid, dataset.classes, regions=dataset.regions, card=card, calibration=calibration
    )
    print(text_table(structure_table(scores)))
    print(calibration)
    left_out = f"{len(dataset.cases) - len(cases)} of patients that it was trained on, by their names, left out"
    if not all_cases and "trained_on" not in card.training:
        left_out = "the model does not say on whom it was trained, so none is left out"
    print(f"{len(cases)} volumes; {left_out}")
    if out is not None:
        write_scores(out, scores, cases, {"model": card.model, "data": dataset.name}, calibration)


def seeds(
    runs: Annotated[list[Path], tyro.conf.Positional],
    by: str = "model",
) -> None:
    """Say how far the scores of a model spread over its seeds, so that nobody mistakes luck for progress.

    Args:
        runs: Run folders, folders that hold them, or names of sweeps that come along; of runs that differ in model and
            seed only.
        by: The setting to compare, if it is another than the model.
    """
    require_path(*map(scores_folder, runs))
    from l2gnet.evaluation.comparison import METRICS, metrics_of, read_runs, score_frame, seed_spread

    frame = score_frame(read_runs(*runs), by)
    for name in metrics_of(frame):
        table = seed_spread(frame, name, by).rename(columns={"structure": METRICS[name].label})
        rows = table.round(4).to_dict("records")
        print(text_table([{str(column): str(value) for column, value in row.items()} for row in rows]), end="\n\n")
