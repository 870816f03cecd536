import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from l2gnet.widgets.charts import plot_audit, plot_costs, plot_differences, plot_matrices, plot_scores
from l2gnet.widgets.crisp import GREY
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgb

from l2gnet.colours import COLOURS
from l2gnet.evaluation.cost import Cost
from l2gnet.inspection.evidence import Reach
from l2gnet.inspection.verdict import ANSWERS, Audit, BlockAudit, Change, Loss


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def texts(axes):
    return [text.get_text() for text in axes.texts]


def frame_of(metric, scores, seeds=(0, 1), structures=("x",)):
    """The scores of models, a number a patient, the same for all their seeds and structures."""
    rows = [
        {"model": model, "seed": seed, "run": f"{model}{seed}", "patient": f"p{patient}", "case": f"p{patient}"}
        | {"structure": structure, metric: value}
        for model, values in scores.items()
        for seed in seeds
        for patient, value in enumerate(values)
        for structure in structures
    ]
    return pd.DataFrame(rows)


def heights(panel):
    """Of its dots: for each model those of patients, then those of seeds."""
    return [dots.get_offsets()[:, 1].tolist() for dots in panel.collections if isinstance(dots, PathCollection)]


def test_each_patient_and_each_seed_is_a_dot():
    scores = 0.8 + np.arange(5) / 100
    panels = plot_scores(frame_of("dice", {"a": scores, "b": scores}, (0, 1, 2), ("x", "y")), "dice").axes
    assert [panel.get_title() for panel in panels] == ["x", "y"]
    assert [len(dots.get_offsets()) for dots in panels[0].collections if len(dots.get_offsets()) > 1] == [5, 3, 5, 3]
    assert [label.get_text() for label in panels[0].get_xticklabels()] == ["a", "b"]


def test_a_patient_has_one_place_in_all_columns_and_seeds_stand_beside_each_other():
    dice = {"a": [0.9, 0.7, 0.8], "b": [0.6, 0.7, 0.9]}  # of three patients; in the mean the second is the hardest
    (panel,) = plot_scores(frame_of("dice", dice), "dice").axes
    a, seeds, b, _ = [dots.get_offsets() for dots in panel.collections if isinstance(dots, PathCollection)]
    assert np.allclose(a[:, 1], [0.7, 0.9, 0.8])
    assert np.allclose(b[:, 1], [0.7, 0.6, 0.9])
    assert np.allclose(seeds[:, 0], [-0.1, 0.1])


def test_dots_and_means_are_of_the_same_scores():
    """Of four patients two are healthy: b rightly finds nothing in them."""
    (panel,) = plot_scores(frame_of("dice", {"a": [0, 0, 0.5, 0.5], "b": [math.nan] * 2 + [0.5] * 2}), "dice").axes
    _, of_a, dots, of_b = heights(panel)
    assert (of_a, sorted(dots), of_b) == ([0.25, 0.25], [0.5, 0.5, 1, 1], [0.75, 0.75])


def test_who_is_infinitely_far_away_for_one_model_is_counted_there_and_shown_for_the_other():
    (panel,) = plot_scores(frame_of("hd95_mm", {"a": [4, 5, math.inf], "b": [4, 5, 9]}), "hd95_mm").axes
    assert heights(panel) == [[5, 4], [4.5, 4.5], [9, 5, 4], [6, 6]]  # the hardest first
    assert [(text.get_text(), text.xy[0]) for text in panel.texts] == [("1 ∞", 0)]


def test_a_difference_has_the_colour_of_its_effect():
    shared = {"metric": "Dice", "difference": 0.5, "low": 0.4, "high": 0.6, "verdict": "", "seed_error": 0.1}
    effects = {"b": 0.5, "c": 0.0, "d": -0.5}
    table = pd.DataFrame([shared | {"against": name, "effect": effect} for name, effect in effects.items()])
    (panel,) = plot_differences(table, "a").axes
    drawn = [tuple(dots.get_edgecolor()[0][:3]) for dots in panel.collections if isinstance(dots, PathCollection)]
    assert drawn == [to_rgb(COLOURS[5]), to_rgb(GREY), to_rgb(COLOURS[6])]


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


def test_what_is_infinite_in_a_matrix_takes_no_colours_from_the_others():
    panels = plot_matrices(
        {"one": pd.DataFrame([[1.0, 3.0, math.inf]])}, across="test", down="train", label="HD95"
    ).axes
    assert texts(panels[0]) == ["1.000", "3.000", "∞"]
    assert panels[0].images[0].get_clim() == (1, 3)


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
