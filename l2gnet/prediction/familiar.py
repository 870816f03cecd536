"""What a model takes for normal: the limits that its card keeps, read without torch."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from l2gnet.errors import CheckpointError
from l2gnet.models.card import ModelCard
from l2gnet.shapes import Int64

Range = tuple[float, float]
_PRIOR = 0.5  # uses that every code is given before any was seen (Jeffreys' prior)


@dataclass(frozen=True, eq=False)
class Look:
    """What is kept of one volume to learn what is normal: whose it is, and the measures that `Familiar` bounds."""

    patient: str
    code_counts: Int64[np.ndarray, " K"]
    distance: float
    confidence: float
    grain: float
    spacing_mm: tuple[float, float, float]
    darkest: float
    axes: str


@dataclass(frozen=True)
class Familiar:
    """What the volumes held out in a training looked like, to the model and in themselves.

    `code_counts` says how often they used each code (empty without a codebook). `distance`, `surprise` and
    `confidence` are the limits of the mean over a volume. `grain` (see `Segmented`), `spacing_mm` (along D, H and W)
    and `darkest`, the lowest grey value, are ranges; `axes` the directions that D, H and W had in the world.
    """

    volumes: int
    code_counts: tuple[int, ...]
    distance: float
    surprise: float
    confidence: float
    grain: Range
    spacing_mm: tuple[Range, Range, Range]
    darkest: Range
    axes: tuple[str, ...]

    @classmethod
    def of_looks(cls, looks: Sequence[Look]) -> "Familiar":
        """The limits that none of these volumes crosses, nor one in a hundred of others like them.

        How surprising the codes of a volume are is judged by those of the other patients.
        """
        D, H, W = (_range(axis) for axis in zip(*(look.spacing_mm for look in looks), strict=True))
        total = np.sum([look.code_counts for look in looks], axis=0)
        own = {look.patient: np.zeros_like(total) for look in looks}
        for look in looks:
            own[look.patient] += look.code_counts
        surprises = [code_surprise(look.code_counts, total - own[look.patient]) for look in looks if total.size]
        return cls(
            volumes=len(looks),
            code_counts=tuple(total.tolist()),
            distance=_highest([look.distance for look in looks]),
            surprise=_highest(surprises) if surprises else 0.0,
            confidence=-_highest([-look.confidence for look in looks]),
            grain=_range([look.grain for look in looks]),
            spacing_mm=(D, H, W),
            darkest=_range([look.darkest for look in looks]),
            axes=tuple(sorted({look.axes for look in looks})),
        )

    @classmethod
    def of(cls, card: ModelCard) -> "Familiar | None":
        """What a model card says of it; None for cards that say nothing.

        Raises:
            CheckpointError: what it says makes no sense.
        """
        told = card.training.get("familiar")
        if told is None:
            return None
        try:
            numbers = {name: float(told[name]) for name in ("distance", "surprise", "confidence")}
            D, H, W = (_range(values) for values in told["spacing_mm"])
            darkest = _range(told["darkest"])
            code_counts = tuple(int(count) for count in told["code_counts"])
            limits = [*numbers.values(), *D, *H, *W, *darkest, *told.get("grain", ())]
            if not np.isfinite(limits).all() or min(code_counts, default=0) < 0:
                raise ValueError("limits must be finite, and counts of codes 0 or more")
            return cls(
                volumes=int(told["volumes"]),
                code_counts=code_counts,
                grain=_range(told.get("grain", (0.0, np.inf))),  # older cards do not say
                spacing_mm=(D, H, W),
                darkest=darkest,
                axes=tuple(str(name) for name in told["axes"]),
                **numbers,
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"the model card's limits are damaged ({error!r}); train the model again") from error

    def as_dict(self) -> dict[str, Any]:
        """For the model card."""
        return asdict(self)


def code_surprise(histogram: Int64[np.ndarray, " K"], usual: Int64[np.ndarray, " K"]) -> float:
    """How unusual a use of codes is: Kullback-Leibler divergence from the usual one, in nats."""
    p = histogram / histogram.sum()
    q = (usual + _PRIOR) / (usual + _PRIOR).sum()
    used = p > 0
    return float((p[used] * np.log(p[used] / q[used])).sum())


def _highest(values: Sequence[float]) -> float:
    """The largest of a few values, or what one in a hundred more would exceed, where that is larger.

    The second is the upper prediction limit of a normal distribution, mean + t s sqrt(1 + 1/n): the extreme of few
    values says little of what is to come. With fewer than five, whose spread s says little itself, t is 4.
    """
    from scipy.stats import t  # on demand: it takes a second to import

    n = len(values)
    if n < 2:
        return float(max(values))
    spread = float(np.std(values, ddof=1)) * (1 + 1 / n) ** 0.5
    return float(max(*values, np.mean(values) + min(t.ppf(0.99, n - 1), 4.0) * spread))


def _range(values: Sequence[float]) -> Range:
    return float(min(values)), float(max(values))
