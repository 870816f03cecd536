import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from l2gnet.widgets.looks import plot_seen, save_seen

from l2gnet.colours import COLOURS
from l2gnet.training.look import Seen


@pytest.fixture(autouse=True)
def no_window():
    mpl.use("agg")
    yield
    plt.close("all")


@pytest.fixture
def seen():
    labels = np.zeros((2, 20, 20), dtype=np.uint8)
    labels[:, 4:8, 4:8], labels[0, 10:14, 10:14] = 2, 255
    images = np.random.default_rng(0).random((2, 3, 20, 20), dtype=np.float32)
    return Seen(images, labels, ("case 1", "case 2"))


def test_slices_are_drawn_from_black_to_white_with_outlines_and_what_is_ignored(seen):
    figure = plot_seen({"as read": seen, "augmented": seen}, ("background", "a", "b"))
    panels = figure.axes
    assert [panel.get_title() for panel in panels] == ["case 1", "case 2", "", ""]
    assert all(panel.images[0].get_clim() == (0, 1) for panel in panels)
    assert np.array_equal(panels[1].images[0].get_array(), seen.images[1, 0])
    outline = mpl.colors.to_hex(panels[1].collections[0].get_edgecolor()[0]).upper()
    assert outline == COLOURS[1]
    assert [len(panel.collections) for panel in panels] == [2, 1, 2, 1]  # the hatch is the second
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]


def test_a_picture_is_a_file_and_leaves_no_figure_behind(seen, tmp_path):
    save_seen(tmp_path / "new" / "seen.png", {"as read": seen}, ("background", "a", "b"))
    assert (tmp_path / "new" / "seen.png").read_bytes().startswith(b"\x89PNG")
    assert plt.get_fignums() == []
