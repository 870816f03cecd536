import json
from pathlib import Path

import numpy as np
import ot
import pytest
import traitlets
from l2gnet.widgets import Sand
from l2gnet.widgets.crisp import GREY
from l2gnet.widgets.sand_pictures import ORIGINS, draw_balance, draw_quantiles, pouring
from matplotlib.figure import Figure

from l2gnet.inspection.line_transport import line_cost, line_plan, pile

NUMBERS = Path(__file__).parent / "js" / "sand_numbers.json"  # what the browser's plans are held to
SOURCE, TARGET = pile(12, (20, 10, 1), (75, 6, 0.5)), pile(9, (50, 15, 1), (5, 5, 0.3))
EPSILONS = (0.0, 0.003, 0.03, 0.5)


def numbers():
    """Write them anew: python -c "import test_sand as t; t.NUMBERS.write_text(t.json.dumps(t.numbers()))"."""
    plans = {f"{epsilon:g}": line_plan(SOURCE, TARGET, epsilon).ravel().round(12).tolist() for epsilon in EPSILONS}
    cost = line_cost(len(SOURCE), len(TARGET)).ravel().tolist()
    return {"source": SOURCE.tolist(), "target": TARGET.tolist(), "cost": cost, "plans": plans}


@pytest.fixture
def sand(front_end):
    sand = Sand()
    yield sand
    sand.close()


def test_what_the_browser_is_held_to_are_the_plans_of_solve_transport():
    kept, now = json.loads(NUMBERS.read_text()), numbers()
    assert kept["plans"].keys() == now["plans"].keys()
    for plan, expected in [(now[name], kept[name]) for name in ("source", "target", "cost")]:
        assert np.allclose(plan, expected, atol=1e-12)
    for epsilon in kept["plans"]:
        assert np.allclose(now["plans"][epsilon], kept["plans"][epsilon], atol=1e-8)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_and_those_of_pot(epsilon):
    cost = line_cost(len(SOURCE), len(TARGET))
    if epsilon:
        expected = ot.sinkhorn(SOURCE, TARGET, cost, epsilon, method="sinkhorn_log", stopThr=1e-12, numItermax=20_000)
    else:
        expected = ot.emd(SOURCE, TARGET, cost)
    assert np.allclose(
        np.reshape(json.loads(NUMBERS.read_text())["plans"][f"{epsilon:g}"], cost.shape), expected, atol=1e-8
    )


def test_piles_of_the_browser_become_shares_and_the_plan_follows(front_end, sand):
    front_end.change(sand, source=[0.0] * 31 + [3.0], epsilon=0)
    assert sand.source == [0.0] * 31 + [1.0]
    assert np.allclose(sand.plan[31], sand.target)
    front_end.change(sand, target=[1.0, 0.0, 1.0])
    assert sand.plan.shape == sand.cost.shape == (32, 3)
    assert np.allclose(sand.plan.sum(0), [0.5, 0, 0.5])


def test_a_pile_that_adds_up_is_not_sent_back(front_end, sand):
    before = len(front_end.sent)
    heights = pile(32, (60, 9, 1)).tolist()
    front_end.change(sand, source=heights)
    assert sand.source == heights
    assert [data for _, _, data, _ in front_end.sent[before:] if data["method"] == "update"] == []


@pytest.mark.parametrize("heights", [[1.0], [0.0, 0.0], [1.0, -1.0], [1.0, float("nan")]])
def test_what_is_no_pile_is_refused(front_end, sand, heights):
    with pytest.raises(traitlets.TraitError, match="source must hold at least two finite heights"):
        Sand(heights)
    front_end.change(sand, target=heights)
    assert "target must hold" in sand.error
    assert len(sand.target) == 32


@pytest.mark.parametrize("epsilon", [-0.1, float("inf")])
def test_an_epsilon_below_zero_is_refused(sand, epsilon):
    with pytest.raises(traitlets.TraitError, match="epsilon must be at least 0"):
        sand.epsilon = epsilon


def test_a_saved_notebook_shows_sand_that_moves(sand):
    data, _ = sand._repr_mimebundle_()
    assert data["text/html"].startswith('<img alt="sand moves ')
    assert "image/jpeg" not in data
    assert len(data["text/html"]) < 100_000
    svg = sand.animation()
    assert svg.count('class="g"') == 3 * 70
    assert "<script" not in svg
    assert "ε = 0, the cheapest: cost 0.0" in svg
    assert "prefers-reduced-motion" in svg
    assert Sand(bins=3, target=[1, 2]).animation().endswith("</svg>")


def test_sand_has_one_colour_in_the_browser_and_in_pictures():
    assert [tuple(np.round(255 * np.array(ORIGINS(x)[:3])).astype(int)) for x in (0.0, 1.0)] == [
        (59, 111, 214),
        (213, 94, 0),
    ]
    assert "[[59, 111, 214], [0, 158, 115], [230, 159, 0], [213, 94, 0]]" in Sand._esm


def test_the_picture_shows_each_bar_and_ribbon(sand):
    sand.epsilon = 0
    (axes,) = sand.draw().axes
    carried = (sand.plan >= 5e-4).sum()
    bars = len(sand.source) + sand.plan.size
    assert len(axes.patches) == carried + bars
    assert sand.snapshot().startswith(b"\x89PNG")


def test_sand_that_stays_is_grey_and_sends_no_grain(sand):
    source, target = np.array(sand.source), np.array(sand.target)
    svg = pouring([line_plan(source, target, 0) / 2], ["a half"], source, target)
    assert svg.count('class="g"') == 35
    assert f'fill="{GREY}"' in svg


def test_sums_stand_beside_what_they_should_be():
    source, target = np.array([0.5, 0.5]), np.array([0.2, 0.3, 0.5])
    axes = Figure().subplots()
    draw_balance(axes, np.full((2, 3), 1 / 6), source, target)
    top, left = axes.child_axes
    assert [patch.get_data().values.tolist() for patch in top.patches] == [[1 / 3] * 3, [0.2, 0.3, 0.5]]
    assert [patch.get_data().values.tolist() for patch in left.patches] == [[0.5, 0.5]] * 2


def test_sums_that_are_too_high_are_not_cut_off():
    axes = Figure().subplots()
    draw_balance(axes, np.array([[0.9, 0.1], [0, 0]]), np.array([0.5, 0.5]), np.array([0.5, 0.5]))
    top, left = axes.child_axes
    assert top.get_ylim()[1] > 0.9
    assert left.get_xlim()[0] > 1


def test_quantiles_are_joined():
    axes = Figure().subplots()
    draw_quantiles(axes, pile(91, (20, 1, 1)), pile(91, (70, 1, 1)))
    middle = axes.texts[5]
    assert (middle.xyann[0], middle.xy[0]) == (20, 70)
