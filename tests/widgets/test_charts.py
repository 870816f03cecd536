import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from l2gnet.widgets.charts import plot_audit, plot_costs, plot_differences, plot_matrices, plot_scores
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgb

from l2gnet.evaluation.cost import Cost
from l2gnet.inspection.evidence import Reach
from l2gnet.inspection.verdict import ANSWERS, Audit, BlockAudit, Change, Loss


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_each_patient_and_each_seed_is_a_dot():
    rows = [
        {"model": model, "seed": seed, "patient": f"p{patient}", "case": f"p{patient}"}
        | {"structure": structure, "dice": 0.8 + patient / 100}
        for model in ("a", "b")
        for seed in (0, 1, 2)
        for patient in range(5)
        for structure in ("x", "y")
    ]
    panels = plot_scores(pd.DataFrame(rows), "dice").axes
    assert [panel.get_title() for panel in panels] == ["x", "y"]
    assert [len(dots.get_offsets()) for dots in panels[0].collections if len(dots.get_offsets()) > 1] == [5, 3, 5, 3]
    assert [label.get_text() for label in panels[0].get_xticklabels()] == ["a", "b"]


def test_a_patient_has_one_place_in_all_columns_and_seeds_stand_beside_each_other():
    dice = {"a": [0.9, 0.7, 0.8], "b": [0.6, 0.7, 0.9]}  # of three patients; in the mean the second is the hardest
    rows = [
        {"model": model, "seed": seed, "patient": f"p{patient}", "case": f"p{patient}"}
        | {"structure": "x", "dice": value}
        for model, values in dice.items()
        for seed in (0, 1)
        for patient, value in enumerate(values)
    ]
    (panel,) = plot_scores(pd.DataFrame(rows), "dice").axes
    a, seeds, b, _ = [dots.get_offsets() for dots in panel.collections if isinstance(dots, PathCollection)]
    assert np.allclose(a[:, 1], [0.7, 0.9, 0.8])
    assert np.allclose(b[:, 1], [0.7, 0.6, 0.9])
    assert np.allclose(seeds[:, 0], [-0.1, 0.1])


def test_only_differences_that_count_are_dots():
    shared = {"metric": "HD95 (mm)", "low": -1.0, "high": 1.0, "effect": -0.5, "seed_error": 0.1}
    lines = [("b", 0.5, "a worse"), ("c", 0.5, "no significant difference"), ("d", math.inf, "a worse")]
    table = pd.DataFrame([shared | {"against": b, "difference": d, "verdict": v} for b, d, v in lines])
    (panel,) = plot_differences(table, "a").axes
    dots = [dots for dots in panel.collections if isinstance(dots, PathCollection)]
    assert [len(dot.get_paths()[0]) == 2 for dot in dots] == [False, True, False]  # a tick is a line
    assert texts(panel) == ["∞"]
    assert panel.get_xlabel() == "a better ←"


def test_what_seeds_alone_would_make_lies_behind_a_difference():
    shared = {"metric": "Dice", "difference": 0.5, "low": 0.4, "high": 0.6, "effect": 1.0, "verdict": "a better"}
    table = pd.DataFrame([shared | {"against": b, "seed_error": e} for b, e in (("b", 1.0), ("c", math.nan))])
    (panel,) = plot_differences(table, "a").axes
    (band,) = panel.patches
    assert (band.get_x(), band.get_width()) == (-2, 4)
    assert panel.get_xlim()[1] > 2


def test_a_larger_model_has_a_larger_disc():
    costs = {"small": Cost(10, 1, 5.0, 1, 1), "large": Cost(40, 1, 9.0, 1, 1)}
    (axes,) = plot_costs(costs, {"small": [0.8], "large": [1.0, 0.8]}).axes
    discs = [disc for disc in axes.collections if isinstance(disc, PathCollection)]
    assert [disc.get_sizes()[0] for disc in discs] == [225, 900]
    assert [tuple(disc.get_offsets()[0]) for disc in discs] == [(5.0, 0.8), (9.0, 0.9)]
    seeds = [line.get_segments()[0][:, 1].tolist() for line in axes.collections if isinstance(line, LineCollection)]
    assert seeds == [[0.8, 0.8], [0.8, 1.0]]


def test_the_eleventh_model_has_a_disc_of_its_own():
    costs = {f"model {number}": Cost(10, 1, 5.0 + number, 1, 1) for number in range(12)}
    figure = plot_costs(costs, {name: [0.8] for name in costs})
    discs = [disc for disc in figure.axes[0].collections if isinstance(disc, PathCollection)]
    assert len(discs) == len(figure.legends[0].get_texts()) == 12
    looks = {(tuple(disc.get_facecolor()[0]), len(disc.get_paths()[0])) for disc in discs}
    assert len(looks) == 12


def test_every_number_of_a_matrix_is_written_in_its_cell():
    matrix = pd.DataFrame([[0.1, 0.2], [0.3, math.nan]], index=["r", "s"], columns=["c", "d"])
    panels = plot_matrices({"one": matrix, "two": 2 * matrix}, across="test", down="train", label="Dice").axes
    assert texts(panels[0]) == ["0.100", "0.200", "0.300", "–"]
    assert panels[0].images[0].get_clim() == panels[1].images[0].get_clim() == (0.1, 0.6)


def test_many_matrices_stand_in_lines_of_three():
    matrix = pd.DataFrame([[0.1, 0.2]])
    panels = plot_matrices(dict.fromkeys("abcd", matrix), across="test", down="train", label="Dice").axes[:-1]
    places = [panel.get_subplotspec() for panel in panels]
    assert [(place.rowspan.start, place.colspan.start) for place in places] == [(0, 0), (0, 1), (0, 2), (1, 0)]


def test_an_audit_is_dots_with_intervals_and_lines_over_distance():
    def change(lost, *found):
        loss = Loss(lost, lost - 0.01, lost + 0.02)
        return Change(loss, loss, {"x": lost}, Reach(np.array([10.0, 20.0, 40.0]), np.array(found)) if found else None)

    plain = Audit(
        0.9, 5, ("x",), (BlockAudit("one", "global", {"removed": change(0.2), "another patient's": change(0.1)}),)
    )
    (panel,) = plot_audit(plain).axes
    assert panel.get_title() == "one: leans"
    assert [label.get_text() for label in panel.get_yticklabels()] == ["removed", "another patient's"]
    dots = [dots.get_offsets()[0].tolist() for dots in panel.collections if isinstance(dots, PathCollection)]
    assert dots == [[20.0, 0.0], [10.0, 1.0]]
    changes = {"removed": change(0.001, 0.9, 0.5), "mean of the image": change(0.001, 0.8, 0.4)}
    blocks = [BlockAudit(name, "local", changes) for name in ("one", "two")]
    panels = plot_audit(Audit(0.9, 5, ("x",), tuple(blocks), Reach(np.array([10.0, 20.0, 40.0]), np.ones(2)))).axes
    assert [panel.get_title() for panel in panels[:2]] == ["one: idle", "two: idle"]
    assert [line.get_xydata().tolist() for line in panels[2].lines] == [
        [[15, 1], [30, 1]],
        [[15, 0.9], [30, 0.5]],
        [[15, 0.8], [30, 0.4]],
    ]
    assert [text.get_text() for text in panels[0].figure.legends[0].get_texts()] == ["as it is", *changes]
    assert panels[2].get_ylabel() == "share of labelled\npixels found"


def test_answers_that_coincide_are_told_apart_on_white_and_on_black():
    answer = Change(Loss(0.2, 0.1, 0.3), Loss(0.2, 0.1, 0.3), {}, Reach(np.array([10.0, 20.0, 40.0]), np.ones(2)))
    block = BlockAudit("one", "global", dict.fromkeys(ANSWERS, answer))
    panels = plot_audit(Audit(0.9, 5, ("x",), (block,), Reach(np.array([10.0, 20.0, 40.0]), np.ones(2)))).axes
    _, *lines = panels[1].lines
    assert len({line.get_marker() for line in lines}) == len(ANSWERS)
    assert {line.get_markerfacecolor() for line in lines} == {"none"}
    for line in lines:
        light = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(line.get_color())]
        luminance = np.dot(light, (0.2126, 0.7152, 0.0722))
        assert 1.05 / (luminance + 0.05) > 2, line.get_label()
        assert (luminance + 0.05) / 0.05 > 4.5, line.get_label()
