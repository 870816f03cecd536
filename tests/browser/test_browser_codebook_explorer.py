"""The codebook explorer in a real browser: clicks on bars, map and pixels, and what then is lit."""

import io
import time

import numpy as np
import pytest
from PIL import Image

# Code 0 fires in the left half of every slice, 1 in the right half of slice 0, 2 in that of slice 1, 3 nowhere.
HALVES = """
import numpy as np
from l2gnet.inspection.code_atlas import CodeAtlas
from l2gnet.widgets import CodebookExplorer

codes = np.array([[[0, 1], [0, 1]], [[0, 2], [0, 2]]])
labels = np.zeros((2, 64, 64), np.uint8)
labels[0, :, 32:] = 1
vectors = np.array([[0], [1], [2], [4.0]])
explorer = CodebookExplorer(
    CodeAtlas(np.zeros((2, 64, 64), np.uint8), codes, vectors, labels), classes=("background", "heart"), index=0
)
explorer
"""
HEART = """
import numpy as np
from scipy.cluster.vq import kmeans2
from l2gnet.inspection.code_atlas import CodeAtlas
from l2gnet.data.dataset import open_dataset
from l2gnet.data.grid import Grid
from l2gnet.data.slices import prepare_slices
from l2gnet.training.settings import TrainSettings
from l2gnet.widgets import CodebookExplorer

cases = open_dataset(TrainSettings(patients=3, validation_patients=2)).validation
slices = prepare_slices(cases, Grid(2.0, 96), 4)
cells = slices.images.reshape(-1, 12, 8, 12, 8).transpose(0, 1, 3, 2, 4).reshape(-1, 64) / 255.0
vectors, codes = kmeans2(cells, 48, minit="++", seed=0)
vectors = np.concatenate([vectors, vectors[:6] + 0.3])  # six that never fire
atlas = CodeAtlas(slices.images[:, 0], codes.reshape(-1, 12, 12).astype(np.int64), vectors, slices.labels, slices.case)
explorer = CodebookExplorer(
    atlas, classes=("background", "RV", "myocardium", "LV"), names=("patient 1", "patient 2"), receptive_field_px=22
)
explorer
"""


def lit_halves(canvas):
    """Whether the left and the right half of an image canvas glow: orange has much more red than blue."""
    picture = np.asarray(Image.open(io.BytesIO(canvas.screenshot())).convert("RGB")).astype(int)
    glow = picture[..., 0] - picture[..., 2] > 60
    H, W = glow.shape
    return [bool(glow[H // 4, W // 4]), bool(glow[H // 4, 3 * W // 4])]


def click(canvas, across, down):
    box = canvas.bounding_box()
    canvas.click(position={"x": across * box["width"], "y": down * box["height"]})


@pytest.fixture
def halves(open_notebook):
    notebook = open_notebook([HALVES], width=1250, height=1100)
    notebook.run_all()
    viewer = notebook.page.locator(".l2g-viewer")
    viewer.get_by_text("4 codes: 3 used, 1 dead").wait_for()
    return viewer


def test_clicks_light_what_they_should(halves):
    where, bars, codes = (halves.get_by_label(label) for label in ("where the selected", "usage of each", "map of the"))
    click(where, 0.75, 0.5)
    halves.get_by_text("where code 1 fires").first.wait_for()
    assert lit_halves(where) == [False, True]
    halves.get_by_text("50 % of the slices of the data set").wait_for()
    halves.get_by_text("code 1 fires at 25.0% of the pixels · purity 100% heart").wait_for()
    click(bars, 0.15, 0.8)  # the most used
    halves.get_by_text("where code 0 fires").first.wait_for()
    assert lit_halves(where) == [True, False]
    codes.click(position={"x": codes.bounding_box()["width"] - 14, "y": codes.bounding_box()["height"] - 14})
    halves.get_by_text("code 3 does not fire here").wait_for()  # the vector that is farthest out
    halves.get_by_role("button", name="slice").click()
    halves.get_by_text("4 codes: 2 used, 2 not in this slice").wait_for()
    bars.focus()
    bars.press("ArrowRight")  # round to the first bar
    halves.get_by_text("where code 0 fires").first.wait_for()


def test_patches_search_and_map_lead_to_codes(halves):
    codes, patches = (halves.get_by_label(label) for label in ("map of the", "patches of the"))
    search = halves.get_by_label("find a code")
    search.fill("2")
    search.press("Enter")
    halves.get_by_text("where code 2 fires").first.wait_for()
    patches.click(position={"x": 20, "y": 20})
    halves.get_by_text("2 / 2").wait_for()  # it fires in the second slice only
    search.fill("heart")
    halves.get_by_text("1 of 4 codes found").wait_for()
    search.press("Enter")
    halves.get_by_text("where code 1 fires").first.wait_for()
    patches.focus()
    patches.press("1")
    halves.get_by_text("1 / 2").wait_for()
    search.fill("")
    box = codes.bounding_box()
    codes.hover(position={"x": 14, "y": box["height"] - 14})  # code 0 is the first of the one axis that there is
    halves.get_by_text("code 0: 50.00 % of the pixels").wait_for()
    plain = codes.screenshot()
    codes.press("+")
    codes.press("+")
    assert codes.screenshot() != plain
    mouse = halves.page.mouse
    mouse.move(box["x"] + 100, box["y"] + 100)
    mouse.down()
    mouse.move(box["x"] + 900, box["y"] - 500, steps=4)  # the corner of code 0 comes into sight
    mouse.up()
    codes.click(position={"x": 22, "y": box["height"] - 22})
    halves.get_by_text("where code 0 fires").first.wait_for()
    codes.dblclick(position={"x": 200, "y": 60})
    codes.click(position={"x": box["width"] - 14, "y": box["height"] - 14})
    halves.get_by_text("code 3 does not fire here").wait_for()


def test_look(open_notebook):
    notebook = open_notebook([HEART], width=1250, height=1200)
    notebook.run_all()
    viewer = notebook.page.locator(".l2g-viewer")
    viewer.get_by_text("54 codes: 48 used, 6 dead").wait_for()
    click(viewer.get_by_label("where the selected"), 0.5, 0.5)
    time.sleep(1)
    for theme in ("light", "dark"):
        notebook.theme(theme)
        time.sleep(0.5)
        notebook.screenshot(f"codebook-{theme}", viewer)
        # JupyterLab hides everything for a moment; what was drawn then had no size.
        assert viewer.locator("canvas").evaluate_all("all => all.every((each) => each.width === each.clientWidth)")
    viewer.get_by_label("volume").select_option("1")
    time.sleep(1)
    picture = notebook.screenshot("codebook-volume-2", viewer.get_by_label("where the selected"))
    assert picture.std() > 20  # the new volume has arrived, and is drawn


@pytest.fixture
def heart(open_notebook):
    notebook = open_notebook([HEART, "print(explorer.group, explorer.code, explorer.error)"], width=1440, height=900)
    notebook.run_all()
    viewer = notebook.page.locator(".l2g-viewer")
    viewer.get_by_text("54 codes: 48 used, 6 dead").wait_for()
    return notebook, viewer, viewer.get_by_label("map of the codebook", exact=True)


def draw_around(page, canvas, corners):
    """Draw a line through corners, in shares of the canvas."""
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    (first, *others) = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*first)
    page.mouse.down()
    for corner in others:
        page.mouse.move(*corner, steps=3)
    page.mouse.up()


def test_a_line_around_dots_selects_their_codes_together(heart):
    notebook, viewer, codes = heart
    page = notebook.page
    everything = [(0.002, 0.002), (0.998, 0.002), (0.998, 0.998), (0.002, 0.998)]
    viewer.get_by_role("button", name="lasso").click()
    draw_around(page, codes, everything)
    viewer.get_by_text("54 codes fire at 100.0% of the pixels").wait_for()
    assert viewer.get_by_role("table").locator("tbody tr").count() == 54
    draw_around(page, codes, [(0.002, 0.002), (0.3, 0.002), (0.3, 0.998), (0.002, 0.998)])
    viewer.get_by_text("codes fire at").first.wait_for()
    page.wait_for_timeout(500)
    group = [int(code) for code in notebook.run_cell(1).split("]")[0].strip("[").split(", ")]
    assert 1 < len(group) < 54
    assert viewer.get_by_role("table").locator("tbody tr").count() == len(group)
    for theme in ("light", "dark"):
        notebook.theme(theme)
        page.wait_for_timeout(500)
        codes.scroll_into_view_if_needed()
        notebook.screenshot(f"codebook-lasso-{theme}")
    notebook.screenshot("codebook-lasso", viewer)
    page.set_viewport_size({"width": 1024, "height": 768})
    page.wait_for_timeout(500)
    notebook.screenshot("codebook-lasso-1024", viewer)
    viewer.get_by_role("table").get_by_role("button").first.click()
    viewer.get_by_text("codes fire at").first.wait_for(state="hidden")
    assert notebook.run_cell(1).startswith("[]")


def test_the_keyboard_makes_a_group_and_leaves_it(heart):
    notebook, viewer, codes = heart
    bars = viewer.get_by_label("usage of each code")
    bars.press("ArrowRight")
    bars.press("Shift+Enter")
    codes.focus()
    for _ in range(2):
        codes.press("ArrowRight")
        codes.press("Shift+Enter")
    viewer.get_by_text("3 codes fire at").wait_for()
    codes.press("Shift+Enter")  # and out again
    viewer.get_by_text("2 codes fire at").wait_for()
    codes.press("Escape")
    viewer.get_by_text("2 codes fire at").wait_for(state="hidden")
    assert notebook.run_cell(1).startswith("[] ")
    draw_around(notebook.page, codes, [(0.3, 0.3), (0.5, 0.5)])  # this pans
    assert notebook.run_cell(1).startswith("[] ")
