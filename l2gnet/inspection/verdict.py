"""What an audit has found of each block of a model: losses with intervals, and a verdict in one word.

A network can lean on what it does not need: what it loses without a block says that it has grown used to it, not that
it would be worse without. That is told by training alone, by runs with the block and runs without, from the same seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from l2gnet.evaluation.comparison import bootstrap_interval
from l2gnet.inspection.evidence import Reach
from l2gnet.shapes import Float

Verdict = Literal["idle", "constant", "leans", "matters"]
LEAST = 0.005  # of Dice: half a point, below which nothing is made of a difference
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

    def __str__(self) -> str:
        """In points of Dice."""
        return f"{100 * self.mean:+.1f} ({100 * self.low:+.1f} to {100 * self.high:+.1f})"


@dataclass(frozen=True)
class Change:
    """What the model loses by a change of a block: Dice, of each structure, and what it misses more (as a share).

    `reach` is what it finds then at each distance to the evidence, where that is known.
    """

    dice: Loss
    missed: Loss
    structures: Mapping[str, float]
    reach: Reach | None = None


@dataclass(frozen=True)
class BlockAudit:
    """What was found of a block.

    `similarity` is the mean cosine between whom two tokens listen to: near 1 the relation does not depend on who asks.
    `marginal_errors` are those of the plans, sending first. `worth` is what training without the block loses.
    """

    name: str
    kind: str
    changes: Mapping[str, Change]
    entropy: float | None = None
    similarity: float | None = None
    marginal_errors: tuple[float, ...] = ()
    worth: Loss | None = None

    @property
    def verdict(self) -> Verdict:
        """In one word; see `verdict_of`."""
        other = self.changes.get(OTHER)
        return verdict_of(self.changes[REMOVED].dice, other.dice if other else None, self.worth)

    def __str__(self) -> str:
        """In words."""
        said = {
            "idle": "without it the model does as well",
            "constant": "it is missed, but any patient's answer serves as well as one's own",
            "leans": "the model needs this patient's own answer",
            "matters": "the model needs this patient's own answer, and training without it is worse",
        }[self.verdict]
        if self.verdict == "leans":
            said += ", but training without it is not worse" if self.worth else "; whether it is worth that, only "
            said += "" if self.worth else "training without it can tell"
        told = f"; {self.similarity:.2f} alike whoever asks" if self.similarity is not None else ""
        return f"{self.name}: {self.verdict}: {said}{told}"


@dataclass(frozen=True)
class Audit:
    """What a model does with each of its blocks; it shows itself in a notebook."""

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
                "answer": name,
                "Dice lost": str(change.dice),
                "missed more": str(change.missed),
                **{structure: f"{100 * lost:+.1f}" for structure, lost in change.structures.items()},
            }
            for block in self.blocks
            for name, change in block.changes.items()
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


def verdict_of(removal: Loss, other: Loss | None, worth: Loss | None) -> Verdict:
    """What losses say of a block, in points of Dice.

    idle: removal costs less than half a point. constant: it costs more, and another patient's answer does not. leans:
    another's costs at least half a point, its interval above 0. matters: so, and training without the block is worse
    by at least half a point, its interval above 0.
    """
    if other is not None and other.mean >= LEAST and other.low > 0:
        return "matters" if worth is not None and worth.mean >= LEAST and worth.low > 0 else "leans"
    return "idle" if removal.mean < LEAST else "constant"
