import numpy as np
import ot
import pytest

from l2gnet.inspection.line_transport import line_cost, line_plan, monotone_plan, pile, places


def test_places_and_their_cost():
    assert np.allclose(np.degrees(places(4)), [0, 30, 60, 90])
    assert np.allclose(line_cost(3, 2), [[0, 0.5], [(1 - 0.5**0.5) / 2] * 2, [0.5, 0]])


def test_a_pile_has_its_heaps_where_they_are_said_to_be():
    heights = pile(91, (20, 3, 2), (70, 3, 1))
    assert np.isclose(heights.sum(), 1)
    assert [heights[:45].argmax(), 45 + heights[45:].argmax()] == [20, 70]
    assert np.isclose(heights[:45].sum(), 2 / 3, atol=1e-6)


def test_sand_of_two_halves_by_hand():
    plan = monotone_plan(np.array([0.5, 0.5]), np.array([0.25, 0.5, 0.25]))
    assert plan.tolist() == [[0.25, 0.25, 0], [0, 0.25, 0.25]]


@pytest.mark.parametrize("seed", range(8))
def test_keeping_the_order_is_cheapest(seed):
    random = np.random.default_rng(seed)
    K, R = random.integers(2, 40, 2).tolist()
    source, target = random.gamma(0.4, size=K) * (random.random(K) < 0.8) + 1e-9, random.gamma(0.4, size=R)
    source, target = source / source.sum(), target / target.sum()
    plan, cost = monotone_plan(source, target), line_cost(K, R)
    assert np.allclose(plan.sum(1), source)
    assert np.allclose(plan.sum(0), target)
    assert np.isclose((plan * cost).sum(), (ot.emd(source, target, cost) * cost).sum(), atol=1e-12)


def test_entropy_makes_the_plan_dearer_and_epsilon_0_is_the_cheapest():
    source, target = pile(20, (20, 8, 1)), pile(20, (60, 12, 1))
    costs = [(line_plan(source, target, epsilon) * line_cost(20, 20)).sum() for epsilon in (0, 0.003, 0.03, 0.3)]
    assert costs == sorted(costs)
    assert np.allclose(line_plan(source, target, 0), monotone_plan(source, target))
