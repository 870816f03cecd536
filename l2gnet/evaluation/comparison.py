"""Compare finished runs as a reviewer would: spread over seeds, paired tests over patients, and plain words.

The patient is the unit: a patient's volumes (phases) and the seeds of a model are averaged before anything is
tested, since they do not vary independently. Such a test speaks of these trained networks, not of training them
anew, so a difference must also stand out of what the seeds alone would make.

Tests are Wilcoxon's signed-rank with Holm's correction over all of a table; the effect is the matched-pairs
rank-biserial correlation, its interval and that of the difference from a bootstrap over patients.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from l2gnet.checks import nearest, require_path
from l2gnet.errors import ConfigError
from l2gnet.evaluation.grids import scores_folder
from l2gnet.evaluation.paired import (
    bootstrap_interval,
    holm,
    median,
    paired_differences,
    rank_biserial,
    signed_rank_p,
)
from l2gnet.files import read_json
from l2gnet.models.settings import UNNAMED
from l2gnet.shapes import Float

if TYPE_CHECKING:
    from l2gnet.models.backbone import SegmentationModel

# Settings in which comparable runs may differ: where and on how many devices one was trained is no choice of a method.
_FREE = ("seed", "resume", "data_dir", "cache_dir", "devices", "nodes", "accumulate", "accelerator")


@dataclass(frozen=True)
class Metric:
    """A column of `scores.csv`: its name in print, which way is better, its best, and how differences are averaged.

    Distances may be infinite (a missed structure), and then have no mean difference, but a median one.
    """

    label: str
    better: Literal["higher", "lower"]
    best: float
    centre: Literal["mean", "median"]


METRICS = {
    "dice": Metric("Dice", "higher", 1.0, "mean"),
    "hd95_mm": Metric("HD95 (mm)", "lower", 0.0, "median"),
    "hd95_voxels": Metric("HD95 (voxels)", "lower", 0.0, "median"),
    "false_negative_rate": Metric("false-negative rate", "lower", 0.0, "mean"),
}


@dataclass(frozen=True)
class FinishedRun:
    """A run folder that was read: its settings, and the score of every structure of every volume."""

    folder: Path
    settings: dict[str, Any]
    scores: pd.DataFrame

    def model(self) -> "SegmentationModel":
        """Its model; or, where scores came without weights, one of these settings, untrained: as large and as fast."""
        # Whoever compares scores alone does not wait for torch.
        from l2gnet.models import build_model, model_options
        from l2gnet.models.checkpoint import load_checkpoint
        from l2gnet.models.settings import ModelSettings

        if (self.folder / "model.safetensors").exists():
            return load_checkpoint(self.folder)[0]
        told = {name: value for name, value in self.settings.items() if name != "pretrained"}
        settings = ModelSettings(**{each.name: told[each.name] for each in fields(ModelSettings) if each.name in told})
        options = {name: told[name] for name in model_options(settings.model, settings.variant) if name in told}
        classes = 1 + self.scores["structure"].nunique()
        return build_model(settings.model, **(settings.model_settings(classes) | options)).eval()


def read_runs(*folders: str | Path) -> list[FinishedRun]:
    """Every finished run in these folders and below them, by name; or those of `shipped_scores()`.

    Scores without settings, as `l2gnet evaluate --out` leaves them, are none of a run.

    Raises:
        ConfigError: there is no such folder or no run, or one was written by an older version.
    """
    folders = tuple(map(scores_folder, folders))
    require_path(*folders)
    scored = {path.parent for folder in folders for path in Path(folder).rglob("scores.csv")}
    found = sorted(folder for folder in scored if (folder / "config.json").exists())
    runs = []
    for folder in found:
        scores = pd.read_csv(folder / "scores.csv")
        if "patient" not in scores:
            raise ConfigError(f"{folder}/scores.csv must name the patient of each row; run it again")
        runs.append(FinishedRun(folder, UNNAMED | read_json(folder / "config.json"), scores))
    if not runs:
        raise ConfigError(
            f"{', '.join(map(str, folders))}: there must be a finished run, found none; see `l2gnet sweep`"
        )
    return runs


def score_frame(runs: Sequence[FinishedRun], by: str = "model", *, along: Sequence[str] = ()) -> pd.DataFrame:
    """All scores of runs that differ in the setting `by` and in their seed only, with columns `by`, `seed`, `run`.

    `along` are settings that go along with `by`, as the number of epochs with the part that was trained on.

    Raises:
        ConfigError: there is no such setting; the runs differ in something else, so that a comparison would mean
            nothing; or one was run twice.
    """
    for run in runs:
        if by not in run.settings:
            raise ConfigError(f"{run.folder} has no setting {by!r}{nearest(by, run.settings)}")
    first, *others = runs
    for run in others:
        names = sorted((first.settings.keys() | run.settings.keys()) - {by, *along, *_FREE})
        changed = [name for name in names if first.settings.get(name) != run.settings.get(name)]
        if changed:
            what = ", ".join(f"{name} {first.settings.get(name)!r} and {run.settings.get(name)!r}" for name in changed)
            raise ConfigError(
                f"runs must differ in {by} and seed only, but {first.folder} and {run.folder} have {what}"
            )
    keys = [(run.settings[by], run.settings["seed"]) for run in runs]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ConfigError(f"each {by} and seed must be there once, got {twice} several times; leave older runs out")
    parts = [
        run.scores.assign(**{by: run.settings[by], "seed": run.settings["seed"], "run": str(run.folder)})
        for run in runs
    ]
    frame = pd.concat(parts, ignore_index=True)
    patients = frame.groupby([by, "seed"])["patient"].agg(lambda names: tuple(sorted(set(names))))
    if patients.nunique() > 1:
        raise ConfigError("runs must score the same patients, but these do not; give them one split_seed")
    return frame


def change_frame(runs: Sequence[FinishedRun]) -> pd.DataFrame:
    """All scores of an ablation, by `change`: the settings of a run that most others do not share, or "as it is".

    What most share is asked of those that name a setting; in others, of an older version, it is "not named".

    Raises:
        ConfigError: a change and seed is there twice.
    """
    settings = pd.DataFrame([run.settings for run in runs]).drop(columns=list(_FREE), errors="ignore")
    common = settings.mode().iloc[0]
    differing = [str(name) for name in settings if settings[name].nunique(dropna=False) > 1]
    labelled = []
    for run in runs:
        told = {name: run.settings.get(name, "not named") for name in differing}
        changed = [f"{name} {value}" for name, value in told.items() if value != common[name]]
        labelled.append(replace(run, settings=run.settings | told | {"change": ", ".join(changed) or "as it is"}))
    return score_frame(labelled, "change", along=differing)


def seed_spread(frame: pd.DataFrame, metric: str, by: str = "model") -> pd.DataFrame:
    """Each seed's mean over all volumes, then its mean, standard deviation and range over seeds.

    A row a structure and one for all, for each value of `by`. Infinite distances are left out of the means and
    counted in the column `infinite`, out of `count`.
    """
    rows = []
    for structure, part in [*frame.groupby("structure", sort=False), ("all structures", frame)]:
        for value, runs in part.groupby(by, sort=False):
            finite = runs[np.isfinite(runs[metric])]
            seeds = finite.groupby("seed")[metric].mean()
            rows.append(
                {
                    "structure": structure,
                    by: value,
                    "seeds": runs["seed"].nunique(),
                    "mean": seeds.mean(),
                    "std": seeds.std(),  # of the sample: nan for one seed
                    "lowest": seeds.min(),
                    "highest": seeds.max(),
                    "infinite": int(np.isinf(runs[metric]).sum()),
                    "count": int(runs[metric].notna().sum()),
                }
            )
    return pd.DataFrame(rows)


def metrics_of(frame: pd.DataFrame) -> list[str]:
    """Names of the metrics that some row of the frame has; distances are in mm or in voxels."""
    return [name for name in METRICS if name in frame and frame[name].notna().any()]


def patient_means(frame: pd.DataFrame, metric: str, by: str = "model") -> pd.DataFrame:
    """One row a patient, one column for each value of `by`: the mean over seeds, volumes and structures.

    A patient with an infinite distance anywhere has an infinite mean. Structures that a volume lacks do not count,
    unless one of the runs gives a false alarm there: then the best score is of those that found nothing.
    """
    asked = frame.groupby(["case", "structure"])[metric].transform("count") > 0
    scores = frame[metric].fillna(METRICS[metric].best)[asked]
    with np.errstate(invalid="ignore"):
        means = scores.groupby([frame["patient"], frame[by]], sort=False).mean()
    return means.unstack(by).dropna()


def patient_gains(
    better: Sequence[FinishedRun], worse: Sequence[FinishedRun], metric: str
) -> Float[np.ndarray, " patients"]:
    """How far the first runs lie above the others, a number a patient: means over seeds, volumes and structures.

    Raises:
        ConfigError: no patient is in both.
    """
    sides = {"better": better, "worse": worse}
    frame = pd.concat([run.scores.assign(side=side) for side, runs in sides.items() for run in runs], ignore_index=True)
    means = patient_means(frame, metric, "side")
    gains = (means["better"] - means["worse"]).dropna()
    if gains.empty:
        raise ConfigError(f"runs to compare must share patients, got none in {better[0].folder} and {worse[0].folder}")
    return gains.to_numpy(dtype=np.float64)


def compare(
    frame: pd.DataFrame,
    reference: str | int | float,
    metrics: Sequence[str] = (),
    *,
    by: str = "model",
    level: float = 0.05,
    resamples: int = 2000,
) -> pd.DataFrame:
    """Test `reference` against every other value of `by`, for each metric, over the same patients.

    The frame is one of `score_frame` or `change_frame`: its columns `run` and `by` say whose each row of scores is. A
    reference that is no text may be written as one, "64" for 64. Without names of metrics, all that the scores have
    are tested.

    Returns a row a test: the difference (reference minus other) and its 95 % interval, its standard error by the
    spread over seeds (nan for one seed), the effect (1: the reference is better in every patient in whom the two
    differ, -1: worse in each of these) and its interval, p, Holm's p, and the verdict in words.

    Raises:
        ConfigError: there is no such column or reference, nothing to compare it with, or a metric that the scores have
            not.
    """
    needed = (by, "run", "patient", "case", "structure")
    if lacking := [name for name in needed if name not in frame]:
        rule = f"scores to compare must have the columns {', '.join(needed)}"
        raise ConfigError(f"{rule}, got none named {', '.join(lacking)}; read run folders by read_runs and score_frame")
    values = list(dict.fromkeys(frame[by]))
    meant = [value for value in values if str(value) == str(reference)]
    if not meant or len(values) < 2:
        raise ConfigError(f"reference must be one of at least two values of {by}, got {reference!r} of {values}")
    reference = meant[0]
    known = metrics_of(frame)
    if lacking := [name for name in metrics if name not in known]:
        raise ConfigError(f"metrics must be among those that the scores have, {', '.join(known)}; got {lacking[0]!r}")
    rows = []
    for name, other in itertools.product(metrics or known, (value for value in values if value != reference)):
        pair = frame[frame[by].isin([reference, other])]
        metric, means = METRICS[name], patient_means(pair, name, by)
        differences = paired_differences(means[reference].to_numpy(), means[other].to_numpy())
        gains = differences if metric.better == "higher" else -differences
        centre = np.mean if metric.centre == "mean" else median
        low, high = bootstrap_interval(differences, centre, resamples)
        effect_low, effect_high = bootstrap_interval(gains, rank_biserial, resamples)
        rows.append(
            {
                "metric": metric.label,
                "against": other,
                "patients": len(differences),
                "difference": float(centre(differences)),
                "low": low,
                "high": high,
                "seed_error": seed_error(pair, name, by),
                "effect": rank_biserial(gains),
                "effect_low": effect_low,
                "effect_high": effect_high,
                "p": signed_rank_p(differences),
            }
        )
    table = pd.DataFrame(rows)
    table["p_holm"] = holm(table["p"].to_numpy())
    table["verdict"] = [_verdict(row, reference, level, len(table)) for _, row in table.iterrows()]
    return table


def in_words(tests: pd.DataFrame) -> pd.DataFrame:
    """The tests of `compare` as a table for people, with each interval in brackets behind what it is of."""
    columns = {
        "patients": tests["patients"],
        "difference": _with_interval(tests, "difference", "low", "high"),
        "seed error": tests["seed_error"].map("{:.4f}".format),
        "effect": _with_interval(tests, "effect", "effect_low", "effect_high"),
        "p": tests["p"].map("{:.4f}".format),
        "p after Holm": tests["p_holm"].map("{:.4f}".format),
        "verdict": tests["verdict"],
    }
    index = pd.MultiIndex.from_frame(tests[["metric", "against"]])
    return pd.DataFrame({name: list(values) for name, values in columns.items()}, index=index)


def _with_interval(tests: pd.DataFrame, *columns: str) -> list[str]:
    return [f"{middle:+.4f} ({low:+.4f} to {high:+.4f})" for middle, low, high in tests[[*columns]].to_numpy()]


def seed_error(pair: pd.DataFrame, metric: str, by: str) -> float:
    """Standard error of the difference of two values of `by`, by the spread of their runs' centres; NaN of one run."""
    centres = getattr(patient_means(pair, metric, "run"), METRICS[metric].centre)()
    variance = 0.0
    for _, runs in pair.groupby(by)["run"]:
        finite = centres[runs.unique()]
        finite = finite[np.isfinite(finite)]
        variance += finite.var(ddof=1) / len(finite) if len(finite) > 1 else math.nan
    return math.sqrt(variance)


def spread_of_seeds(seed_error: float) -> float:
    """The least difference that the spread over seeds alone does not explain: two standard errors."""
    return 2 * seed_error


def _verdict(row: pd.Series, reference: str | int | float, level: float, tests: int) -> str:
    if row["p_holm"] <= level:
        if abs(row["difference"]) < spread_of_seeds(row["seed_error"]):
            return "within the spread over seeds"
        return f"{reference} {'better' if row['effect'] > 0 else 'worse'}"
    if tests * 2.0 ** (1 - row["patients"]) > level:
        return "too few patients to tell"
    return "no significant difference"
