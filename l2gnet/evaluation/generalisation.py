"""How far what was learnt carries: scores where training and test differ in domain, and under shifts of the scanner."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from l2gnet.data.dataset import Case
from l2gnet.data.grid import Grid
from l2gnet.data.regions import NO_REGIONS, Regions
from l2gnet.evaluation.comparison import METRICS
from l2gnet.evaluation.metrics import StructureScore
from l2gnet.evaluation.scores import evaluate_cases
from l2gnet.evaluation.shifts import LEVELS, SHIFTS, Shift, shifted_cases
from l2gnet.models.backbone import SegmentationUNet


def domain_matrix(frame: pd.DataFrame, metric: str, column: str) -> pd.DataFrame:
    """Mean score with the training domain (`train_on`) down and the test domain across: the values of `column`.

    `frame` is a `score_frame(runs, by="train_on")`; `column` is "phase" or "group". Infinite distances are left out;
    where all are, the mean is NaN.
    """
    finite = frame[np.isfinite(frame[metric])]
    matrix = finite.pivot_table(index="train_on", columns=column, values=metric, aggfunc="mean")
    return matrix.reindex(list(dict.fromkeys(frame["train_on"]))).rename(index={"": "all"})


def shift_table(
    model: SegmentationUNet,
    cases: Sequence[Case],
    grid: Grid,
    classes: Sequence[str],
    metric: str = "dice",
    *,
    shifts: Sequence[Shift] = SHIFTS,
    levels: Sequence[int] = LEVELS,
    regions: Regions = NO_REGIONS,
) -> pd.DataFrame:
    """Mean score of a trained model with a shift down and its level across; level 0 is the scans as they are.

    Of distances it is the median, as `METRICS` say: what was missed counts as infinitely far away, and is not left out.
    """

    def centre(cases: Sequence[Case]) -> float:
        return _centre(evaluate_cases(model, cases, grid, classes, regions=regions), metric)

    as_they_are = centre(cases)
    rows = {shift: [as_they_are, *(centre(shifted_cases(cases, shift, n)) for n in levels)] for shift in shifts}
    return pd.DataFrame.from_dict(rows, orient="index", columns=[0, *levels])


def _centre(scores: dict[str, list[StructureScore]], metric: str) -> float:
    """The mean or median, as the metric's is, of all structures of all cases; NaN where none counts."""
    values = pd.Series([getattr(score, metric) for case in scores.values() for score in case])
    return float(values.agg(METRICS[metric].centre))
