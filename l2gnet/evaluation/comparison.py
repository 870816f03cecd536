"""Compare finished runs as a reviewer would: spread over seeds, paired tests over patients, and plain words.

The patient is the unit: a patient's volumes (phases) and the seeds of a model are averaged before anything is
tested, since they do not vary independently. Such a test speaks of these trained networks, not of training them
anew, so a difference must also stand out of what the seeds alone would make.

Tests are Wilcoxon's signed-rank with Holm's correction (Scandinavian Journal of Statistics 6, 1979) over all of a
table; the effect is the matched-pairs rank-biserial correlation (Kerby 2014, doi:10.2466/11.IT.3.1), its interval
and that of the difference from a bootstrap over patients.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from l2gnet.checks import nearest, require_path
from l2gnet.errors import ConfigError
from l2gnet.files import read_json
from l2gnet.models.settings import UNNAMED
from l2gnet.shapes import Float

if TYPE_CHECKING:
    from l2gnet.models.backbone import SegmentationModel

_SHIPPED = Path(__file__).parent / "shipped"
_FREE = ("seed", "resume", "data_dir", "cache_dir")  # settings in which comparable runs may differ


@dataclass(frozen=True)
class Metric:
    """A column of `scores.csv`: its name in print, which way is better, and how differences are averaged.

    Distances may be infinite (a missed structure), and then have no mean difference, but a median one.
    """

    label: str
    better: Literal["higher", "lower"]
    centre: Literal["mean", "median"]


METRICS = {
    "dice": Metric("Dice", "higher", "mean"),
    "hd95_mm": Metric("HD95 (mm)", "lower", "median"),
    "false_negative_rate": Metric("false-negative rate", "lower", "mean"),
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
        from l2gnet.models import build_model
        from l2gnet.models.checkpoint import load_checkpoint
        from l2gnet.models.settings import ModelSettings

        if (self.folder / "model.safetensors").exists():
            return load_checkpoint(self.folder)[0]
        names = {field.name for field in fields(ModelSettings)} - {"pretrained"}
        settings = ModelSettings(**{name: self.settings[name] for name in names & self.settings.keys()})
        classes = 1 + self.scores["structure"].nunique()
        return build_model(settings.model, **settings.model_settings(classes)).eval()


def shipped_scores() -> list[str]:
    """Names of the sweeps whose settings and scores come with the library; `read_runs` takes them for folders."""
    return sorted(folder.name for folder in _SHIPPED.glob("*"))


def read_runs(*folders: str | Path) -> list[FinishedRun]:
    """Every finished run in these folders and below them, by name; or those of `shipped_scores()`.

    Raises:
        ConfigError: there is no such folder or no run, or one was written by an older version.
    """
    folders = tuple(_SHIPPED / folder if str(folder) in shipped_scores() else folder for folder in folders)
    require_path(*folders)
    found = sorted({path.parent for folder in folders for path in Path(folder).rglob("scores.csv")})
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

    Raises:
        ConfigError: a change and seed is there twice.
    """
    settings = pd.DataFrame([run.settings for run in runs]).drop(columns=list(_FREE), errors="ignore")
    common = settings.mode().iloc[0]
    differing = [str(name) for name in settings if settings[name].nunique() > 1]
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


def patient_means(frame: pd.DataFrame, metric: str, by: str = "model") -> pd.DataFrame:
    """One row a patient, one column for each value of `by`: the mean over seeds, volumes and structures.

    A patient with an infinite distance anywhere has an infinite mean; structures that a volume lacks do not count.
    """
    with np.errstate(invalid="ignore"):
        means = frame.dropna(subset=[metric]).groupby(["patient", by], sort=False)[metric].mean()
    return means.unstack(by).dropna()


def patient_gains(
    better: Sequence[FinishedRun], worse: Sequence[FinishedRun], metric: str
) -> Float[np.ndarray, " patients"]:
    """How far the first runs lie above the others, a number a patient: means over seeds, volumes and structures.

    Raises:
        ConfigError: no patient is in both.
    """
    means = [
        pd.concat([run.scores for run in runs]).dropna(subset=[metric]).groupby("patient")[metric].mean()
        for runs in (better, worse)
    ]
    gains = (means[0] - means[1]).dropna()
    if gains.empty:
        raise ConfigError(f"runs to compare must share patients, got none in {better[0].folder} and {worse[0].folder}")
    return gains.to_numpy(dtype=np.float64)


def compare(
    frame: pd.DataFrame,
    reference: str,
    metrics: Sequence[str] = tuple(METRICS),
    *,
    by: str = "model",
    level: float = 0.05,
    resamples: int = 2000,
) -> pd.DataFrame:
    """Test `reference` against every other value of `by`, for each metric, over the same patients.

    Returns a row a test: the difference (reference minus other) and its 95 % interval, its standard error by the
    spread over seeds (nan for one seed), the effect (1: the reference is better in every patient, -1: worse in every
    one) and its interval, p, Holm's p, and the verdict in words.

    Raises:
        ConfigError: there is no such reference, or nothing to compare it with.
    """
    values = list(dict.fromkeys(frame[by]))
    if reference not in values or len(values) < 2:
        raise ConfigError(f"reference must be one of at least two values of {by}, got {reference!r} of {values}")
    rows = []
    for name, other in itertools.product(metrics, (value for value in values if value != reference)):
        metric, means = METRICS[name], patient_means(frame, name, by)
        differences = _differences(means[reference].to_numpy(), means[other].to_numpy())
        gains = differences if metric.better == "higher" else -differences
        centre = np.mean if metric.centre == "mean" else np.median
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
                "seed_error": _seed_error(frame, name, by, (reference, other)),
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


def holm(p: Float[np.ndarray, " tests"]) -> Float[np.ndarray, " tests"]:
    """P values corrected for their number: step down, smallest first (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1.0)
    corrected = np.empty_like(stepped)
    corrected[order] = stepped
    return corrected


def signed_rank_p(differences: Float[np.ndarray, " patients"]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test; differences may be infinite, and zeros are left out."""
    ranked = _ranks_only(differences)
    return float(stats.wilcoxon(ranked).pvalue) if len(ranked) else 1.0


def rank_biserial(gains: Float[np.ndarray, " patients"]) -> float:
    """Rank sum of the gains less that of the losses, as a share of both: -1 to 1, and 0 if nothing differs."""
    ranked = _ranks_only(gains)
    ranks = stats.rankdata(np.abs(ranked))
    return float((np.sign(ranked) * ranks).sum() / ranks.sum()) if len(ranked) else 0.0


def _differences(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Paired differences; two infinite distances are equally bad."""
    with np.errstate(invalid="ignore"):
        return np.where(a == b, 0.0, a - b)


def _ranks_only(differences: Float[np.ndarray, " n"]) -> Float[np.ndarray, " kept"]:
    """Differences that are not zero, infinite ones put beyond all finite ones: enough for anything that ranks."""
    kept = differences[differences != 0]
    finite = np.abs(kept[np.isfinite(kept)])
    beyond = 2 * finite.max(initial=1.0)
    return kept.clip(-beyond, beyond)


def bootstrap_interval(values: Float[np.ndarray, " n"], statistic: Any, resamples: int) -> tuple[float, float]:
    """The middle 95 % of the statistic over patients drawn with replacement."""
    rng = np.random.default_rng(0)
    drawn = values[rng.integers(0, len(values), (resamples, len(values)))]
    with np.errstate(invalid="ignore"):
        found = np.array([statistic(row) for row in drawn])
    low, high = np.quantile(found, (0.025, 0.975), method="inverted_cdf")
    return float(low), float(high)


def _seed_error(frame: pd.DataFrame, metric: str, by: str, pair: tuple[str, str]) -> float:
    """Standard error of the difference of two values of `by`, from the spread of their seeds' means or medians."""
    variance = 0.0
    for value in pair:
        of_seeds = [patient_means(part, metric, by)[value] for _, part in frame[frame[by] == value].groupby("seed")]
        centres = np.array([getattr(patients, METRICS[metric].centre)() for patients in of_seeds])
        finite = centres[np.isfinite(centres)]
        variance += finite.var(ddof=1) / len(finite) if len(finite) > 1 else math.nan
    return math.sqrt(variance)


def _verdict(row: pd.Series, reference: str, level: float, tests: int) -> str:
    if row["p_holm"] <= level:
        if abs(row["difference"]) < 2 * row["seed_error"]:
            return "within the spread over seeds"
        return f"{reference} {'better' if row['effect'] > 0 else 'worse'}"
    if tests * 2.0 ** (1 - row["patients"]) > level:
        return "too few patients to tell"
    return "no significant difference"
