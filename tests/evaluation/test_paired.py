"""Tests, effects and intervals by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from l2gnet.evaluation.paired import bootstrap_interval, holm, median, rank_biserial, signed_rank_p


@pytest.mark.parametrize(
    ("p", "corrected"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.5], [0.5]),
        ([0.04, 0.001, 0.9, 0.01], [0.08, 0.004, 0.9, 0.03]),
        ([0.6, 0.7], [1.0, 1.0]),
    ],
)
def test_holm_by_hand(p, corrected):
    assert holm(np.array(p)) == pytest.approx(np.array(corrected))


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=8))
def test_holm_lies_between_uncorrected_and_bonferroni(p):
    corrected = holm(np.array(p))
    assert (corrected >= np.array(p) - 1e-12).all()
    assert (corrected <= np.minimum(1, np.array(p) * len(p)) + 1e-12).all()


def test_signed_ranks_by_hand():
    differences = np.array([1.0, 2.0, -3.0, 4.0])
    assert rank_biserial(differences) == (1 + 2 + 4 - 3) / 10
    # Of 16 sets of ranks, 5 add up to at most 3: {}, 1, 2, 3, 1 + 2; and 5 to at least 7.
    assert signed_rank_p(differences) == pytest.approx(2 * 5 / 16)
    assert rank_biserial(np.array([math.inf, -1.0, -2.0, 0.0])) == 0.0
    assert signed_rank_p(np.zeros(3)) == 1.0


@pytest.mark.parametrize(
    ("values", "middle"),
    [([3.0, 1.0, 2.0], 2), ([1.0, 2.0], 1.5), ([math.inf, 1.0], math.inf), ([math.inf, 5.0, 7.0, -math.inf], 6)],
)
def test_a_median_is_numpys(values, middle):
    assert median(np.array(values)) == np.median(values) == middle


def test_between_opposite_infinities_lies_zero():
    differences = np.array([math.inf] * 3 + [-math.inf] * 3 + [0.1, -0.2, 0.3, 0.1])
    assert median(differences[:6]) == 0
    assert bootstrap_interval(differences, median, 2000) == (-math.inf, math.inf)


def test_of_few_patients_an_interval_is_as_wide_as_students():
    values = stats.norm.ppf((np.arange(8) + 0.5) / 8)
    theirs = stats.t.interval(0.95, 7, 0, stats.sem(values))
    assert bootstrap_interval(values, np.mean, 20_000) == pytest.approx(theirs, rel=0.05)
    assert bootstrap_interval(values[:1], np.mean, 100) == (values[0], values[0])
