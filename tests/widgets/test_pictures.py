import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from l2gnet.widgets.pictures import (
    draw_legend,
    draw_outlines,
    draw_plan,
    draw_slice,
    plot_dice,
    plot_forming,
    plot_history,
)

from l2gnet.colours import COLOURS
from l2gnet.inspection.forming import Forming


@pytest.fixture(autouse=True)
def no_window():
    mpl.use("agg")
    yield
    plt.close("all")


def test_a_slice_keeps_its_shape_in_mm_and_outlines_each_structure():
    figure, axes = plt.subplots()
    labels = np.zeros((20, 30), dtype=np.uint8)
    labels[4:8, 4:8], labels[10:16, 10:20] = 1, 3
    draw_slice(axes, np.random.default_rng(0).random((20, 30)), labels, spacing_mm=(2.0, 1.0), title="a")
    assert axes.get_aspect() == 2.0
    drawn = {mpl.colors.to_hex(outline.get_edgecolor()[0]).upper() for outline in axes.collections}
    assert drawn == {COLOURS[0], COLOURS[2]}
    assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, 29.5), (19.5, -0.5))
    draw_legend(figure, ("background", "a", "b", "c"))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c"]


def test_an_outline_is_closed_at_the_border_and_around_a_single_row():
    _, axes = plt.subplots()
    labels = np.zeros((1, 5), np.uint8)
    labels[0, 3:] = 1
    draw_outlines(axes, labels)
    (outline,) = axes.collections[0].get_paths()
    assert outline.get_extents().extents.tolist() == [2.5, -0.5, 4.5, 0.5]
    assert np.array_equal(outline.vertices[0], outline.vertices[-1])


@pytest.mark.parametrize("with_codes", [True, False])
def test_history_shows_the_codebook_where_there_is_one(with_codes):
    codes = {"codes_used": "9", "codes_perplexity": "7.5", "codes_per_image": "3"} if with_codes else {}
    rows = [{"epoch": str(e), "loss": str(1 / e), "val_dice_left_ventricle": "0.5"} | codes for e in (1, 2, 3)]
    figure = plot_history(rows, ("background", "left ventricle"))
    assert [panel.get_title() for panel in figure.axes] == ["training loss", "validation Dice (model's grid)"] + [
        "codes"
    ] * with_codes
    assert figure.axes[0].lines[0].get_ydata().tolist() == [1, 1 / 2, 1 / 3]


def test_history_tells_as_many_structures_as_there_are_apart():
    organs = [f"organ {number}" for number in range(15)]
    row = {"epoch": "1", "loss": "1"} | {f"val_dice_organ_{number}": f"0.{number + 10}" for number in range(15)}
    panel = plot_history([row], ["background", *organs]).axes[1]
    assert [line.get_ydata()[0] for line in panel.lines] == [float(f"0.{number + 10}") for number in range(15)]
    assert len({(line.get_color(), line.get_linestyle()) for line in panel.lines}) == 15
    assert [text.get_text() for text in panel.get_legend().get_texts()] == organs


def test_dice_of_every_case_is_a_dot_and_the_mean_is_written():
    figure = plot_dice({"a": [0.5, 1.0, float("nan")], "absent": [float("nan")], "b": [0.25]})
    dots = [offsets for dots in figure.axes[0].collections for offsets in dots.get_offsets()[:, 1].tolist()]
    assert {0.5, 1.0, 0.25} <= set(dots)
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.750", "0.250"]


def test_a_plan_stands_with_its_marginals():
    _, axes = plt.subplots()
    plan = np.array([[0.1, 0.2], [0.3, 0.4]])
    draw_plan(axes, plan, title="a")
    assert np.array_equal(axes.images[0].get_array(), plan)
    top, left = axes.child_axes
    assert top.patches[0].get_data().values == pytest.approx([0.4, 0.6])
    assert left.patches[0].get_data().values == pytest.approx([-0.3, -0.7])


def test_a_codebook_that_forms_is_drawn_on_one_map():
    random = np.random.default_rng(0)
    uses = np.ones((6, 5), int)
    uses[0, :2] = 0
    forming = Forming(np.arange(1, 7), random.normal(size=(6, 5, 2)), uses, 0.8)
    panels = plot_forming(forming, 4).axes
    assert [axes.get_title() for axes in panels][::3] == [
        "epoch 1: 3 of 5 codes in use",
        "epoch 6: 5 of 5 codes in use",
    ]
    assert len(panels) == 4
    assert len({axes.get_xlim() for axes in panels}) == len({axes.get_ylim() for axes in panels}) == 1
    hollow, full = panels[0].collections
    assert (len(hollow.get_offsets()), len(hollow.get_facecolors()), len(full.get_offsets())) == (2, 0, 3)
