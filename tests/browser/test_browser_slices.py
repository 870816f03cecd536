"""The slice viewer in a real browser: keys, mouse and what the picture shows."""

import numpy as np
import pytest

HEART = """
import numpy as np
from l2gnet.data.phantoms import HEART_CLASSES, make_heart
from l2gnet.widgets.slice_viewer import SliceViewer

heart = make_heart(3)
maps = {"truth": heart.label, "shifted": np.roll(heart.label, 4, axis=2)}
codes = np.arange(10 * 8 * 8).reshape(10, 8, 8) % 7
viewer = SliceViewer(
    heart.image, maps, spacing_mm=heart.spacing_mm, orientation="SPL", classes=HEART_CLASSES, codes=codes
)
viewer
"""


ORANGE, BLUE, GREEN = (230, 159, 0), (86, 180, 233), (0, 158, 115)


@pytest.fixture
def heart(open_notebook):
    notebook = open_notebook([HEART, "print(viewer.selection, viewer.window, viewer.error)"])
    notebook.run_all()
    viewer = notebook.page.locator(".l2g-viewer")
    viewer.get_by_text("code 0").wait_for()  # the last array that is fetched
    return notebook, viewer


def pixels_of(picture, colour, tolerance=12):
    return int((np.abs(picture.astype(int) - colour).max(2) <= tolerance).sum())


def test_keys_wheel_and_slider_change_the_picture(heart):
    notebook, viewer = heart
    canvas, keys = viewer.locator("canvas").first, notebook.page.keyboard
    assert viewer.get_by_text("axial · 1 of 10").is_visible()
    base = notebook.screenshot("slices-base", canvas)
    assert all(pixels_of(base, colour) > 100 for colour in (ORANGE, BLUE, GREEN))
    canvas.focus()
    for key, slice_number in [("ArrowUp", 2), ("PageUp", 10), ("ArrowDown", 9), ("Home", 1), ("End", 10)]:
        keys.press(key)
        viewer.get_by_text(f"axial · {slice_number} of 10").wait_for()
    apex = notebook.screenshot("slices-apex", canvas)
    assert all(pixels_of(apex, colour) == 0 for colour in (ORANGE, BLUE, GREEN))  # no heart here
    canvas.hover()
    notebook.page.mouse.wheel(0, 100)
    viewer.get_by_text("axial · 9 of 10").wait_for()
    viewer.get_by_label("slice", exact=True).focus()
    keys.press("ArrowLeft")
    viewer.get_by_text("axial · 8 of 10").wait_for()
    viewer.get_by_label("slice", exact=True).press("End")
    viewer.get_by_role("button", name="worst").click()
    viewer.get_by_text("axial · 8 of 10").wait_for()
    viewer.get_by_role("button", name="largest").click()
    viewer.get_by_text("axial · 1 of 10").wait_for()
    assert (notebook.screenshot("slices-base-again", canvas) == base).all()


def test_clicks_point_and_drags_change_the_window(heart):
    notebook, viewer = heart
    canvas, mouse = viewer.locator("canvas").first, notebook.page.mouse
    box = canvas.bounding_box()
    canvas.click(position={"x": box["width"] * 70.5 / 128, "y": box["height"] * 60.5 / 128})
    viewer.get_by_text("voxel 1, 61, 71").wait_for()
    before = notebook.screenshot("slices-code", canvas)
    assert (before == 255).all(2).sum() > 500  # the tokens of the code have a white frame
    mouse.move(box["x"] + 200, box["y"] + 100)
    mouse.down()
    mouse.move(box["x"] + 200, box["y"] + 300, steps=5)
    mouse.up()
    viewer.get_by_label("slice", exact=True).hover()
    assert viewer.get_by_text("voxel 1, 61, 71").is_visible()  # the drag pointed at nothing
    assert viewer.get_by_label("window preset").input_value() == "by hand"
    assert notebook.screenshot("slices-window-dark", canvas).mean() < 0.7 * before.mean()
    viewer.get_by_label("window preset").select_option("body")
    assert (notebook.screenshot("slices-window-body", canvas) == before).all()
    assert "{'voxel': [0, 60, 70], 'by': 'voxel', 'code': 0} [5.0, 807.0]" in notebook.run_cell(1)  # what Python knows


def test_structures_maps_errors_and_planes(heart):
    notebook, viewer = heart
    first = viewer.locator("canvas").first
    viewer.get_by_role("button", name="right ventricle").click()
    hidden = notebook.screenshot("slices-hidden", first)
    assert pixels_of(hidden, ORANGE) == 0
    assert pixels_of(hidden, BLUE) > 100
    viewer.get_by_role("button", name="right ventricle").click()
    notebook.screenshot("slices-light", viewer)
    notebook.theme("dark")
    viewer.get_by_role("button", name="three planes").click()
    viewer.get_by_role("button", name="fill").click()
    assert viewer.locator(".l2g-pane canvas").count() == 3
    assert viewer.get_by_text("sagittal · ").is_visible()
    notebook.screenshot("slices-three-dark", viewer)
    viewer.get_by_role("button", name="one plane").click()
    viewer.get_by_role("button", name="side by side").click()
    viewer.get_by_role("button", name="errors").click()
    assert viewer.locator(".l2g-pane canvas").count() == 2
    first.focus()
    notebook.page.keyboard.press("PageUp")
    viewer.get_by_text("truth · 10 of 10").wait_for()
    viewer.get_by_text("shifted · 10 of 10").wait_for()
    viewer.get_by_role("button", name="worst").click()
    viewer.get_by_text("truth · 8 of 10").wait_for()
    first.click(position={"x": 100, "y": 200})
    notebook.screenshot("slices-errors-dark", viewer)
    for name in ("truth", "shifted"):
        assert viewer.get_by_role("img", name="area of each slice").is_visible()
        viewer.get_by_title(f"Show or hide the map {name}").click()
    viewer.get_by_text("axial · 8 of 10").wait_for()  # the plane alone has a name then


PARTLY = """
import numpy as np
from l2gnet.widgets.slice_viewer import SliceViewer

d, h, w = np.mgrid[:4, :96, :96]
found = ((np.hypot(h - 48, w - 48) < 30) * 1).astype(np.uint8)
truth = np.where(w < 40, found, 255).astype(np.uint8)
viewer = SliceViewer(h + d, {"truth": truth, "found": found}, orientation="SPL", classes=("", "left ventricle"))
viewer.window = [0, 1000]
viewer
"""


def test_what_is_not_known_is_neither_drawn_nor_wrong(open_notebook):
    notebook = open_notebook([PARTLY])
    notebook.run_all()
    viewer = notebook.page.locator(".l2g-viewer")
    viewer.get_by_text("truth: left ventricle").wait_for()
    assert viewer.locator(".l2g-structures button").count() == 1
    canvas = viewer.locator("canvas").first
    box = canvas.bounding_box()
    canvas.hover(position={"x": 0.6 * box["width"], "y": 0.5 * box["height"]})
    viewer.get_by_text("truth: not known · found: left ventricle").wait_for()
    canvas.focus()
    notebook.page.keyboard.press("e")
    picture = notebook.screenshot("slices-partly-known", canvas)
    for wrong in ((0, 255, 240), (255, 0, 90), (165, 120, 255)):
        assert pixels_of(picture, wrong, 40) < 20
    half = picture.shape[1] // 2
    assert pixels_of(picture[:-2, half + 20 :], (255, 255, 255), 40) < 100  # letters, and no outline


MANY = """
import numpy as np
from l2gnet.widgets.slice_viewer import SliceViewer

d, h, w = np.mgrid[:8, :96, :128]
image = np.where((h - 48) ** 2 + (w - 64) ** 2 < 46**2, 40 + 10 * d, -1000).astype(np.int16)
truth = (1 + h // 16 * 10 + w // 13).astype(np.uint8) * (image > -1000)
viewer = SliceViewer(image, {"truth": truth, "later": np.roll(truth, 3, axis=2)}, orientation="SPL")
viewer
"""


def test_sixty_structures_scroll_and_their_errors_are_hatched(open_notebook):
    notebook = open_notebook([MANY], width=1440, height=900)
    notebook.run_all()
    viewer = notebook.page.locator(".l2g-viewer")
    viewer.get_by_text("later: ").first.wait_for()
    assert viewer.get_by_label("window preset").input_value() == "CT soft tissue"
    legend, canvas = viewer.locator(".l2g-structures"), viewer.locator("canvas").first
    assert legend.locator("button").count() > 40
    assert legend.bounding_box()["height"] <= 96
    missed = (255, 0, 90)
    assert pixels_of(notebook.screenshot("slices-many", canvas), missed, 40) < 50
    canvas.focus()
    notebook.page.keyboard.press("e")
    assert pixels_of(notebook.screenshot("slices-hatched", canvas), missed, 40) > 50
    notebook.screenshot("slices-many-page")


CINE = """
import numpy as np
from l2gnet.widgets.slice_viewer import SliceViewer

d, h, w = np.mgrid[:6, :96, :96]
away = np.hypot(h - 48, w - 48)
radii = 20 + 10 * np.cos(2 * np.pi * np.arange(25) / 25)  # of a heart that beats
frames = np.stack([np.where(away < r, 700, np.where(away < 40, 300, 20)) + 5 * d for r in radii]).astype(np.int16)
labels = np.stack([((away < r) * 1).astype(np.uint8) for r in radii])
viewer = SliceViewer(frames, {"found": labels, "first": labels[0]}, orientation="SPL", classes=("", "left ventricle"))
viewer
"""
TOLD = """
print(viewer.frame, viewer.index, viewer.window, viewer.error)
"""


@pytest.fixture
def cine(open_notebook):
    notebook = open_notebook([CINE, TOLD], width=1440, height=900)
    notebook.run_all()
    viewer = notebook.page.locator(".l2g-viewer")
    viewer.get_by_text("found: left ventricle").wait_for()
    return notebook, viewer


def test_a_cine_plays_its_moments(cine):
    notebook, viewer = cine
    canvas, keys = viewer.locator(".l2g-pane canvas").first, notebook.page.keyboard
    moment = viewer.get_by_label("moment", exact=True)
    full = notebook.screenshot("cine-moment-1", canvas)
    canvas.focus()
    for key, shown in [(".", 2), (".", 3), (",", 2), (",", 1), (",", 25), (".", 1)]:
        keys.press(key)
        viewer.get_by_text(f"moment {shown} of 25").wait_for()
    assert (notebook.screenshot("cine-moment-1-again", canvas) == full).all()
    moment.fill("12")
    viewer.get_by_text("moment 13 of 25").wait_for()
    viewer.get_by_text("found: left ventricle").wait_for()  # it is here
    small = notebook.screenshot("cine-moment-13", canvas)
    white = (small.min(2) > 200).mean() / (full.min(2) > 200).mean()
    assert white == pytest.approx(1 / 9, rel=0.3)  # a third of the radius, in the same contrast
    assert notebook.run_cell(1).startswith("12 0 [20.0, ")
    viewer.get_by_label("moments a second").select_option("20")
    canvas.focus()
    keys.press("Space")
    viewer.get_by_text("moment 20 of 25").wait_for()
    viewer.get_by_text("moment 2 of 25").wait_for()  # round and round
    viewer.get_by_role("button", name="stop the moments").click()
    stopped = int(moment.input_value())
    assert notebook.run_cell(1).rstrip().endswith("]")  # no error
    viewer.get_by_role("button", name="play the slices").click()
    viewer.get_by_text("axial · 6 of 6").wait_for()
    viewer.get_by_role("button", name="stop the slices").click()
    assert int(moment.input_value()) == stopped  # the moment stayed
    assert notebook.run_cell(1).split()[0] == str(stopped)  # Python hears it later, once its kernel is idle
    for theme in ("light", "dark"):
        notebook.theme(theme)
        notebook.screenshot(f"cine-{theme}")
    notebook.page.set_viewport_size({"width": 1024, "height": 768})
    notebook.screenshot("cine-1024")
