"""What an audit has found of each block of a model: losses with intervals, and a verdict in one word.

A network can lean on what it does not need: what it loses without a block says that it has grown used to it, not that
it would be worse without. That is told by training alone, by runs with the block and runs without, from the same seeds.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np

from l2gnet.errors import ConfigError
from l2gnet.evaluation.comparison import FinishedRun, patient_means, score_frame, seed_error, spread_of_seeds
from l2gnet.evaluation.paired import bootstrap_interval
from l2gnet.inspection.evidence import Reach
from l2gnet.models.settings import ModelSettings
from l2gnet.shapes import Float

Verdict = Literal["idle", "constant", "leans", "matters"]
_TASK = ("data", "structures", "spacing_mm", "size_px")  # what is learnt, and the grid on which it is seen
LEAST = 0.005  # of Dice: half a point, below which nothing is made of a difference
FEWEST_PATIENTS = 5  # for an interval
LEAST_DICE = 0.01  # of the model as it is: what finds less has nothing to lose
REMOVED, MEAN, OTHER, HEARD, PERMUTED = ANSWERS = (
    "removed",
    "mean of the image",
    "another patient's",
    "another patient's, heard by its own plan",
    "tokens exchanged",
)


@dataclass(frozen=True)
class Loss:
    """A mean over patients and its 95 % interval, by a bootstrap over them; of Dice, as a share."""

    mean: float
    low: float
    high: float

    @classmethod
    def over(cls, patients: Float[np.ndarray, " patients"], resamples: int = 2000) -> "Loss":
        """The mean over patients that were drawn with replacement."""
        return cls(float(patients.mean()), *bootstrap_interval(patients, np.mean, resamples))

    @property
    def stands_out(self) -> bool:
        """Whether it is at least half a point, and its interval lies above 0."""
        return self.mean >= LEAST and self.low > 0

    def __str__(self) -> str:
        """In points of Dice."""
        return f"{100 * self.mean:+.1f} ({100 * self.low:+.1f} to {100 * self.high:+.1f})"


@dataclass(frozen=True)
class Worth(Loss):
    """What training without a block loses, in so many seeds, and its standard error by the spread over them.

    Of one seed that is not known (NaN), and the interval over patients is all there is.
    """

    seeds: int = 1
    seed_error: float = math.nan

    @property
    def stands_out(self) -> bool:
        """Whether it does over patients, and over seeds as well."""
        return super().stands_out and not self.mean < spread_of_seeds(self.seed_error)


@dataclass(frozen=True)
class Change:
    """What the model loses by a change of a block: Dice, of each structure, and what it misses more (as a share).

    All are means over patients, NaN for a structure that none has. `reach` is what it finds then at each distance to
    the evidence, where that is known.
    """

    dice: Loss
    missed: Loss
    structures: Mapping[str, float]
    reach: Reach | None = None


@dataclass(frozen=True)
class BlockAudit:
    """What was found of a block.

    `similarity` is the mean cosine between whom two tokens listen to: near 1 the relation does not depend on who asks.
    `entropy` says how many those are: 0 is one token, 1 all alike (see `Redundancy`).
    `marginal_errors` are those of the plans, sending first. `worth` is what training without the block loses.
    """

    name: str
    kind: str
    changes: Mapping[str, Change]
    entropy: float | None = None
    similarity: float | None = None
    marginal_errors: tuple[float, ...] = ()
    worth: Worth | None = None

    @property
    def verdict(self) -> Verdict:
        """In one word; see `verdict_of`."""
        return verdict_of(self.changes[REMOVED].dice, self._strange.dice, self.worth)

    @property
    def _strange(self) -> Change:
        """The answer that says nothing of this picture: another patient's, or for a gate, the mean of the image."""
        return self.changes[OTHER if OTHER in self.changes else MEAN]

    def __str__(self) -> str:
        """In words."""
        strange, own = "another patient's answer", "its answer to this very picture"
        if self.kind == "local":
            strange, own = "its mean over the image", "that it opens where it does"
        misled = self._strange.dice.mean >= LEAST
        match self.verdict:
            case "idle":
                said = f"without it the model does as well{self._cost()}" + f", though {strange} misleads it" * misled
            case "constant" if misled:
                said = f"it is missed; whether {strange} serves as well, these patients cannot tell"
            case "constant":
                said = f"it is missed, but {strange} serves as well"
            case "leans":
                said = f"the model needs {own}{self._doubt()}"
            case "matters":
                said = f"the model needs {own}, and training without it is worse, in {self._seeds()}"
        return "; ".join([f"{self.name}: {self.verdict}: {said}", *self._look()])

    def _look(self) -> Iterator[str]:
        """What the relation looks at, and whether its plans can be trusted."""
        if self.similarity is not None and self.entropy is not None:
            yield f"{self.similarity:.2f} alike whoever asks, and {self.entropy:.2f} as wide as the mean of all"
        if self.marginal_errors:
            yield f"plans within {max(self.marginal_errors):.0e} of their sums"

    def _cost(self) -> str:
        """What a block that costs nothing on average may cost all the same."""
        removed = self.changes[REMOVED]
        unsure = f" on average (these patients allow for a loss of {100 * removed.dice.high:.1f} points)"
        more = f", though it misses {100 * removed.missed.mean:.1f} points more"
        return unsure * (removed.dice.high >= LEAST) + more * removed.missed.stands_out

    def _seeds(self) -> str:
        """How many seeds tell the worth: one may be luck, whatever its patients say."""
        count = self.worth.seeds if self.worth else 1
        return "one seed" if count == 1 else f"{count} seeds"

    def _doubt(self) -> str:
        """Why a block on which a model leans is not said to matter."""
        if self.worth is None:
            return "; whether it is worth that, only training without it can tell"
        if self.worth.mean < LEAST:
            return f", but training without it is not worse, in {self._seeds()}"
        return f", but that training without it is worse, in {self._seeds()}, may be luck"


@dataclass(frozen=True)
class Audit:
    """What a model does with each of its blocks; it shows itself in a notebook.

    `dice` is the mean over patients, as losses are. `patients` counts those who have a structure: of others a false
    alarm counts alone.
    """

    dice: float
    patients: int
    structures: tuple[str, ...]
    blocks: tuple[BlockAudit, ...] = field(default_factory=tuple)
    reach: Reach | None = None

    def rows(self) -> list[dict[str, str]]:
        """One row a block and change, for `text_table`: what is lost, in points of Dice and of what is missed."""
        return [
            {
                "block": block.name,
                "answer": answer,
                "Dice lost": str(change.dice),
                "missed more": str(change.missed),
                **{name: "-" if math.isnan(lost) else f"{100 * lost:+.1f}" for name, lost in change.structures.items()},
            }
            for block in self.blocks
            for answer, change in block.changes.items()
        ]

    def reach_rows(self) -> list[dict[str, str]]:
        """One row a block and answer: the pixels found, by the distance to what decides them; none if not known."""
        if self.reach is None:
            return []
        return [{"block": "", "answer": "as it is"} | self.reach.row()] + [
            {"block": block.name, "answer": name} | change.reach.row()
            for block in self.blocks
            for name, change in block.changes.items()
            if change.reach is not None
        ]

    def _repr_html_(self) -> str:
        verdicts = "".join(f"<p><b>{block}</b></p>" for block in self.blocks)
        found = "<p>Labelled pixels found, by the distance to what decides their class:</p>" if self.reach else ""
        return _html_table(self.rows()) + verdicts + found + _html_table(self.reach_rows())


def _html_table(rows: Sequence[Mapping[str, str]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{name}</th>" for name in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{value}</td>" for value in row.values()) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def verdict_of(removal: Loss, strange: Loss, worth: Worth | None) -> Verdict:
    """What losses say of a block, in points of Dice.

    idle: removal costs less than half a point. constant: it costs more, and an answer that says nothing of this picture
    (`strange`: another patient's; for a gate its mean) does not. leans: that costs at least half a point, too, its
    interval above 0. matters: so, and training without the block is worse by at least half a point, its interval
    above 0, and by two standard errors over seeds where there are several.
    """
    if removal.mean < LEAST:
        return "idle"
    if not strange.stands_out:
        return "constant"
    return "matters" if worth is not None and worth.stands_out else "leans"


def worth_of(
    with_block: Sequence[FinishedRun], without_block: Sequence[FinishedRun], audited: Mapping[str, Any] | None = None
) -> Worth:
    """What training without a block loses: Dice of runs with it, less that of runs without it, over their patients.

    `audited` are the settings that the audited model was trained with, where they are known.

    Raises:
        ConfigError: the runs differ in more than their model and its settings, or within their kind in more than the
            seed; those with the block are of another model or task than that audited; those without have the relation
            that l2gnet's block is; or seeds or patients are not the same, or too few for an interval.
    """
    parts = {"with": with_block, "without": without_block}
    runs = {
        kind: [replace(run, settings=run.settings | {"block": kind}) for run in some] for kind, some in parts.items()
    }
    for alike in runs.values():
        score_frame(alike, "block")
    names = [each.name for each in fields(ModelSettings)]
    told, others = with_block[0].settings, without_block[0].settings
    for name in (*names, *_TASK):
        if audited and name in audited and name in told and told[name] != audited[name]:
            rule = f"runs with the block must be of the audited model, which has {name} {audited[name]!r}"
            raise ConfigError(f"{rule}, but {with_block[0].folder} has {told[name]!r}; name runs of its settings")
    relation = told.get("relation")
    if told["model"] == others["model"] == "l2gnet" and relation is not None and others.get("relation") == relation:
        rule = "runs without the block must have another relation than those with it, as that is the block of l2gnet"
        raise ConfigError(f"{rule}, but {without_block[0].folder} has {relation!r}, too; name others")
    frame = score_frame(runs["with"] + runs["without"], "block", along=names)
    seeds = {kind: sorted(part["seed"].unique().tolist()) for kind, part in frame.groupby("block")}
    if seeds["with"] != seeds["without"]:
        raise ConfigError(f"runs with and without a block must have the same seeds, got {seeds}; train those that lack")
    means = patient_means(frame, "dice", "block")
    if len(means) < FEWEST_PATIENTS:
        raise ConfigError(f"worth needs at least {FEWEST_PATIENTS} patients for an interval, got {len(means)}")
    lost = Loss.over((means["with"] - means["without"]).to_numpy(dtype=np.float64))
    return Worth(lost.mean, lost.low, lost.high, len(seeds["with"]), seed_error(frame, "dice", "block"))
