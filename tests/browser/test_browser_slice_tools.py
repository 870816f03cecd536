"""The tools of the slice viewer in a real browser, by mouse and by keyboard, in both themes; Python knows the same."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from test_browser_slices import HEART, pixels_of

STATE = """
import json
names = ("selection", "window", "tool", "ruler", "looks", "visible", "overlay", "opacity", "mode", "three_planes")
first = globals().setdefault("first", {name: getattr(viewer, name) for name in names})
print(json.dumps({name: getattr(viewer, name) for name in names} | {"mm": viewer.ruler_mm, "error": viewer.error}))
"""
RESET = """
for name, value in first.items():
    setattr(viewer, name, value)
"""
COUNTS = """
from l2gnet.widgets.agreement import agreement
print(np.bincount(agreement(*(labels[0] for labels in maps.values()), 4).ravel()).tolist())
"""
SPACING_MM = (10.0, 1.5, 1.5)


class Heart:
    """The viewer of a heart as a person sees it, and as Python knows it."""

    def __init__(self, notebook):
        self.notebook, self.page = notebook, notebook.page
        self.viewer = notebook.page.locator(".l2g-viewer")
        self.canvas = self.viewer.locator(".l2g-pane canvas").first
        self.mouse, self.keys = notebook.page.mouse, notebook.page.keyboard

    def python(self):
        """What Python knows, when what was left to send has come: it is sent when the kernel is idle, part by part."""
        for _ in range(3):
            self.notebook.run_cell(1)
        state = json.loads(self.notebook.run_cell(1))
        assert state.pop("error") == ""
        self.canvas.focus()
        return state

    def shows(self, text):
        self.viewer.get_by_text(text).first.wait_for()

    def picture(self, name):
        return self.notebook.screenshot(name, self.canvas)

    def press(self, *names):
        self.canvas.focus()
        for name in names:
            self.keys.press(name)

    def at(self, row, column):
        """Where the middle of a pixel of the first pane is in the window."""
        box = self.canvas.bounding_box()
        return box["x"] + box["width"] * (column + 0.5) / 128, box["y"] + box["height"] * (row + 0.5) / 128

    def drag(self, start, stop, button="left"):
        self.mouse.move(*self.at(*start))
        self.mouse.down(button=button)
        self.mouse.move(*self.at(*stop), steps=6)
        self.mouse.up(button=button)

    def button(self, name):
        return self.viewer.get_by_role("button", name=name, exact=True)


@pytest.fixture(scope="module", params=["light", "dark"])
def opened(request, jupyter, browser):
    import lab

    notebook = lab.open_notebook(jupyter, browser, [HEART, STATE, RESET, COUNTS], width=1440, height=900)
    notebook.run_all()
    notebook.theme(request.param)
    yield Heart(notebook)
    notebook.theme("light")  # the next one opens in the theme of the last
    notebook.close()
    assert notebook.errors == []


@pytest.fixture
def heart(opened):
    opened.notebook.run_cell(2)
    opened.notebook.run_cell(2)  # again, when what was left to send has come
    opened.viewer.scroll_into_view_if_needed()
    opened.mouse.move(1, 1)
    opened.shows("code 0")  # the last array that is fetched
    opened.shows("axial · 1 of 10")
    return opened


def test_the_wheel_steps_by_distance_and_never_moves_the_page(heart):
    scrolled = "document.querySelector('.jp-WindowedPanel-outer').scrollTop"
    heart.viewer.scroll_into_view_if_needed()
    before = heart.page.evaluate(scrolled)
    heart.mouse.move(*heart.at(64, 64))
    for _ in range(20):
        heart.mouse.wheel(0, -4)
    heart.shows("axial · 2 of 10")
    for _ in range(12):
        heart.mouse.wheel(0, -120)
    heart.shows("axial · 10 of 10")
    for _ in range(12):
        heart.mouse.wheel(0, 120)
    heart.shows("axial · 1 of 10")
    assert heart.page.evaluate(scrolled) == before
    assert heart.python()["selection"]["voxel"][0] == 0
    heart.mouse.click(*heart.at(30, 30))
    heart.keys.press("ArrowUp")  # a click makes the picture the one that hears keys
    heart.shows("axial · 2 of 10")


def test_zoom_and_pan(heart):
    whole = heart.picture("tools-whole")
    heart.mouse.move(*heart.at(40, 90))
    heart.keys.down("Control")
    for _ in range(4):
        heart.mouse.wheel(0, -120)
    heart.keys.up("Control")
    heart.shows("axial · 1 of 10 · 3.3 ×")
    heart.mouse.move(*heart.at(40, 90))
    heart.shows("voxel 1, 41, 91")  # what was under the pointer is there still
    zoomed = heart.python()["looks"]["axial"]
    assert zoomed["zoom"] == pytest.approx(np.exp(1.2))
    heart.keys.down("Shift")
    heart.drag((60, 60), (70, 80))
    heart.keys.up("Shift")
    by_mouse = heart.python()["looks"]["axial"]
    moved = np.subtract(zoomed["centre"], by_mouse["centre"]) * 128 * zoomed["zoom"]
    assert moved == pytest.approx([10, 20], abs=0.3)
    heart.drag((70, 80), (60, 60), button="middle")
    assert heart.python()["looks"]["axial"]["centre"] == pytest.approx(zoomed["centre"], abs=0.002)
    heart.press("Shift+ArrowLeft", "Shift+ArrowUp")
    by_keys = heart.python()["looks"]["axial"]["centre"]
    assert (np.subtract(by_keys, zoomed["centre"]) < 0).all()
    heart.canvas.dblclick()
    assert heart.python()["looks"]["axial"]["zoom"] == 1
    heart.press("+", "+", "-")
    heart.shows("axial · 1 of 10 · 1.3 ×")
    heart.press("0")
    heart.button("pan").click()
    heart.press("=", "=", "=", "=")
    heart.drag((60, 60), (60, 70))
    assert heart.python()["looks"]["axial"]["centre"][1] < 0.5
    heart.press("0", "w")
    heart.canvas.dispatch_event("pointerleave")
    assert heart.python()["window"] == [5.0, 807.0]
    difference = np.abs(heart.picture("tools-whole-again").astype(int) - whole)
    assert np.median(difference) == 0


def test_the_crosshair_follows_the_hand(heart):
    heart.keys.down("Alt")
    heart.drag((30, 40), (50, 70))
    heart.keys.up("Alt")
    state = heart.python()
    assert state["selection"]["voxel"] == [0, 50, 70]
    assert state["window"] == [5.0, 807.0]
    heart.press("Alt+ArrowDown", "Alt+ArrowRight", "Alt+ArrowRight")
    assert heart.python()["selection"]["voxel"] == [0, 51, 72]
    heart.button("crosshair").click()
    heart.drag((80, 40), (20, 100))
    heart.button("three planes").click()
    heart.shows("coronal · 21 of 128")
    heart.shows("sagittal · 101 of 128")
    state = heart.python()
    assert (state["selection"]["voxel"], state["tool"]) == ([0, 20, 100], "crosshair")


def test_the_ruler_measures_millimetres(heart):
    heart.press("m")
    heart.drag((20, 30), (50, 70))
    heart.shows("ruler 75.0 mm")  # 30 and 40 pixels of 1.5 mm
    state = heart.python()
    assert state["mm"] == pytest.approx(75, abs=0.3)
    assert np.allclose(state["ruler"], [[0, 20, 30], [0, 50, 70]], atol=0.2)
    heart.notebook.screenshot("tools-ruler", heart.viewer)
    heart.press("ArrowUp")
    heart.shows("axial · 2 of 10")
    heart.viewer.get_by_text("ruler 75.0 mm").wait_for(state="hidden")  # as it is drawn on the slice before alone
    heart.press("ArrowDown")
    heart.press("Escape")
    assert heart.python()["ruler"] == []
    heart.canvas.click(position={"x": 5, "y": 5})  # a click without a drag draws nothing
    heart.press("w")
    heart.mouse.click(*heart.at(10, 20))
    heart.press("m", "Enter", *["Alt+ArrowDown"] * 8, *["Alt+ArrowRight"] * 6, "Enter")
    heart.shows("ruler 15.0 mm")
    assert heart.python()["ruler"] == [[0, 10, 20], [0, 18, 26]]
    heart.button("three planes").click()
    coronal = heart.viewer.locator(".l2g-pane canvas").nth(1)
    box = coronal.bounding_box()
    x, low, high = box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.05, box["y"] + box["height"] * 0.95
    heart.mouse.move(x, low)
    heart.mouse.down()
    heart.mouse.move(x, high, steps=5)
    heart.mouse.up()
    assert heart.python()["mm"] == pytest.approx(0.9 * 10 * SPACING_MM[0], abs=2)  # ten slices, from top to bottom


def test_window_and_level_are_typed_chosen_and_cycled(heart):
    level, width = heart.viewer.get_by_label("level"), heart.viewer.get_by_label("width")
    level.fill("300")
    level.press("Enter")
    width.fill("200")
    width.press("Enter")
    assert heart.viewer.get_by_label("window preset").input_value() == "by hand"
    assert heart.python()["window"] == pytest.approx([200, 400], abs=1)
    width.fill("-3")
    width.press("Enter")
    assert width.input_value() == "200"  # a window has a width
    heart.press("p")
    assert heart.viewer.get_by_label("window preset").input_value() == "body"
    heart.press("p")
    assert heart.viewer.get_by_label("window preset").input_value() == "dark tissue"
    heart.viewer.get_by_label("window preset").select_option("body")
    assert heart.python()["window"] == [5.0, 807.0]


def test_slices_play(heart):
    heart.viewer.get_by_label("slices a second").select_option("20")
    heart.button("play the slices").click()
    heart.shows("axial · 4 of 10")
    heart.shows("axial · 2 of 10")  # round and round
    heart.button("stop the slices").click()
    stopped = heart.python()["selection"]["voxel"][0]
    heart.page.wait_for_timeout(300)
    assert heart.python()["selection"]["voxel"][0] == stopped
    heart.press("l", "Home", "<", "Space")
    heart.button("play the slices").wait_for()  # as it is called again after the last slice
    heart.shows("axial · 10 of 10")
    assert heart.viewer.get_by_label("slices a second").input_value() == "10"


def test_structures_are_shown_and_hidden_together_or_alone(heart):
    heart.button("none").click()
    assert heart.python()["visible"] == []
    heart.button("all").click()
    heart.button("myocardium").click(modifiers=["Alt"])
    assert heart.python()["visible"] == [2]
    heart.button("left ventricle").dblclick()
    assert heart.python()["visible"] == [3]
    heart.button("right ventricle").focus()
    heart.keys.press("Alt+Enter")
    assert heart.python()["visible"] == [1]
    heart.press("a", "2")
    assert heart.python()["visible"] == [1, 3]
    heart.press("n", "Shift+Digit2")
    assert heart.python()["visible"] == [2]
    heart.press("a", "o", "]", "]", "]")
    state = heart.python()
    assert (state["overlay"], state["opacity"]) == ("fill", 0.7)
    heart.viewer.get_by_label("opacity").fill("0.2")
    heart.press("[", "e", "t")
    state = heart.python()
    assert (state["opacity"], state["mode"], state["three_planes"]) == (0.1, "errors", True)
    heart.press("t", "e")
    heart.button("worst").click()
    heart.shows("axial · 8 of 10")
    heart.press("g")
    heart.shows("axial · 1 of 10")
    heart.press("Shift+G")
    heart.shows("axial · 8 of 10")


def test_errors_stand_out_as_python_counts_them(heart):
    colours = {"added": (0, 255, 240), "missed": (255, 0, 90), "confused": (165, 120, 255)}
    heart.press("e", *["]"] * 6)  # opaque
    picture = heart.picture("tools-errors")
    heart.notebook.screenshot("tools-errors-page")
    counts = json.loads(heart.notebook.run_cell(3))
    pixels = picture.shape[0] * picture.shape[1] / 128**2
    for count, (name, colour) in zip(counts[2:], colours.items(), strict=True):
        # The line of the truth is drawn below, and letters are not in the way.
        assert pixels_of(picture, colour) == pytest.approx(count * pixels, rel=0.05), name


def test_the_picture_is_copied_and_saved_at_twice_the_resolution(heart):
    heart.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    width, height = heart.canvas.evaluate("(canvas) => [canvas.width, canvas.height]")
    heart.canvas.click(button="right", position={"x": 100, "y": 100})
    heart.notebook.screenshot("tools-menu")
    with heart.page.expect_download() as download:
        heart.viewer.get_by_role("menuitem", name="Save picture").click()
    by_mouse = Image.open(download.value.path())
    assert by_mouse.size == (2 * width, 2 * height)
    assert download.value.suggested_filename == "axial-1.png"
    with heart.page.expect_download() as download:
        heart.press("s")
    assert Image.open(download.value.path()) == by_mouse
    small = np.asarray(by_mouse.convert("L").resize((width, height), Image.Resampling.BOX)).astype(int)
    shown = heart.canvas.evaluate("(canvas) => canvas.toDataURL().split(',')[1]")
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown))).convert("L")).astype(int)
    assert np.abs(small - shown).mean() < 4
    heart.press("Control+c")
    copied = """async () => {
      const [item] = await navigator.clipboard.read();
      const bytes = new Uint8Array(await (await item.getType("image/png")).arrayBuffer());
      return [...bytes];
    }"""
    heart.page.wait_for_timeout(500)
    assert Image.open(io.BytesIO(bytes(heart.page.evaluate(copied)))).size == by_mouse.size
    heart.press("+")
    heart.keys.press("ContextMenu")
    heart.viewer.get_by_role("menu").wait_for()
    heart.keys.press("ArrowUp")  # round to the last
    heart.keys.press("Enter")
    heart.viewer.get_by_role("menu").wait_for(state="detached")
    assert heart.python()["looks"]["axial"]["zoom"] == 1


def test_a_page_says_what_keys_do(heart):
    page = heart.viewer.get_by_role("dialog")
    heart.press("?")
    page.get_by_text("Ctrl + wheel, pinch").wait_for()
    heart.notebook.screenshot("tools-help")
    heart.keys.press("Escape")
    page.wait_for(state="detached")
    heart.button("help").click()
    page.wait_for()
    heart.mouse.click(5, 450)
    page.wait_for(state="detached")
