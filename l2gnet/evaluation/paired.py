"""Statistics of paired differences, a number a patient: tests, effects, intervals.

Wilcoxon's signed-rank test with Holm's correction (Scandinavian Journal of Statistics 6, 1979); the effect is the
matched-pairs rank-biserial correlation (Kerby 2014, doi:10.2466/11.IT.3.1); intervals are expanded percentiles of a
bootstrap over patients (Hesterberg 2015, doi:10.1080/00031305.2015.1089789).
"""

from typing import Any

import numpy as np
from scipy import stats

from l2gnet.shapes import Float


def paired_differences(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Paired differences; two infinite distances are equally bad."""
    with np.errstate(invalid="ignore"):
        return np.where(a == b, 0.0, a - b)


def signed_rank_p(differences: Float[np.ndarray, " patients"]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test; differences may be infinite, and zeros are left out."""
    ranked = _ranks_only(differences)
    return float(stats.wilcoxon(ranked).pvalue) if len(ranked) else 1.0


def holm(p: Float[np.ndarray, " tests"]) -> Float[np.ndarray, " tests"]:
    """P values corrected for their number: step down, smallest first (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1.0)
    corrected = np.empty_like(stepped)
    corrected[order] = stepped
    return corrected


def rank_biserial(gains: Float[np.ndarray, " patients"]) -> float:
    """Rank sum of the gains less that of the losses, as a share of both: -1 to 1, and 0 if nothing differs."""
    ranked = _ranks_only(gains)
    ranks = stats.rankdata(np.abs(ranked))
    return float((np.sign(ranked) * ranks).sum() / ranks.sum()) if len(ranked) else 0.0


def median(values: Float[np.ndarray, " n"]) -> float:
    """The median of differences; halfway between two opposite infinities nobody is ahead, and it is 0."""
    with np.errstate(invalid="ignore"):
        middle = float(np.median(values))
    return 0.0 if np.isnan(middle) else middle


def bootstrap_interval(values: Float[np.ndarray, " n"], statistic: Any, resamples: int) -> tuple[float, float]:
    """The 95 % interval of the statistic, by drawing patients with replacement.

    Of few patients it is wider than the middle 95 % of the draws, which has too low a variance and knows nothing of
    Student's t: it reaches as far out as t does in a normal distribution.
    """
    n = len(values)
    rng = np.random.default_rng(0)
    drawn = values[rng.integers(0, n, (resamples, n))]
    found = np.array([statistic(row) for row in drawn])
    beyond = stats.norm.cdf(stats.t.ppf(0.025, n - 1) * np.sqrt(n / (n - 1))) if n > 1 else 0.0
    low, high = np.quantile(found, (beyond, 1 - beyond), method="inverted_cdf")
    return float(low), float(high)


def _ranks_only(differences: Float[np.ndarray, " n"]) -> Float[np.ndarray, " kept"]:
    """Differences that are not zero, infinite ones put beyond all finite ones: enough for anything that ranks."""
    kept = differences[differences != 0]
    finite = np.abs(kept[np.isfinite(kept)])
    beyond = 2 * finite.max(initial=1.0)
    return kept.clip(-beyond, beyond)
