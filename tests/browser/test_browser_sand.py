"""Sand in a real browser: piles are dragged and typed at, the plan follows at once, with a kernel and without one."""

import json

import numpy as np
import pytest
from l2gnet.widgets import Sand

# A page with no kernel: what the viewer is told, and what it says, is kept in one object.
PAGE = """
<body><div id="viewer"></div>
<script type="module">
const handlers = {};
window.traits = %s;
const model = {
  get: (name) => traits[name],
  set: (name, value) => { traits[name] = value; (handlers[`change:${name}`] ?? []).forEach((call) => call()); },
  on: (names, call) => names.split(" ").forEach((name) => (handlers[name] ??= []).push(call)),
  off: () => {}, save_changes: () => {}, send: () => {},
};
const script = new Blob([%s], { type: "text/javascript" });
const viewer = (await import(URL.createObjectURL(script))).default();
viewer.initialize({ model });
viewer.render({ model, el: document.getElementById("viewer") });
</script></body>
"""


@pytest.fixture
def page(browser):
    sand = Sand()
    traits = {"source": sand.source, "target": sand.target, "epsilon": 0.01, "selection": {}, "arrays": {}, "error": ""}
    page = browser.new_page(viewport={"width": 1100, "height": 600})
    errors = []
    page.on("pageerror", lambda error: errors.append(error.stack))
    page.set_content(PAGE % (json.dumps(traits), json.dumps(Sand._esm)))
    page.add_style_tag(content=Sand._css)
    page.get_by_text("the cheapest plan's").wait_for()
    yield page
    assert errors == []
    page.close()


def pull(page, name, bin, down):
    """Drag a bar of 32 from where it stands to a share of its pile's room, from the top."""
    pile = page.locator(f".l2g-{name}")
    box = pile.bounding_box()
    x = box["x"] + 26 + bin / 31 * (box["width"] - 52)
    page.mouse.move(x, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(x, box["y"] + down * 118, steps=4)
    page.mouse.up()


def shown_cost(page):
    return float(page.locator(".l2g-sand output.l2g-quiet").inner_text().split()[1].strip(",:"))


def test_piles_are_dragged_without_a_kernel_and_the_cost_is_that_of_the_solver(page):
    before = page.evaluate("traits.source")
    pull(page, "source", 28, 0.2)
    pull(page, "target", 2, 0.1)
    after = page.evaluate("traits.source")
    assert after[28] > 10 * before[28]
    assert np.isclose(sum(after), 1)
    page.wait_for_timeout(200)
    sand = Sand(after, page.evaluate("traits.target"))
    assert shown_cost(page) == pytest.approx((sand.plan * sand.cost).sum(), abs=2e-4)
    page.get_by_label("epsilon").press("Home")
    page.get_by_text("this is the cheapest plan").wait_for()
    sand.epsilon = 0
    assert page.evaluate("traits.epsilon") == 0
    assert shown_cost(page) == pytest.approx((sand.plan * sand.cost).sum(), abs=1e-4)


def test_a_stroke_leaves_no_bar_out(page):
    box = page.locator(".l2g-source").bounding_box()
    page.mouse.move(box["x"] + 26, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 26, box["y"] + 60)  # in one step
    page.mouse.up()
    assert page.evaluate("traits.source") == pytest.approx([1 / 32] * 32)


def test_arrow_keys_choose_a_bin_and_change_it(page):
    before = page.evaluate("traits.target")
    page.get_by_role("button", name="Pour").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    for key in ["ArrowRight"] * 3 + ["ArrowUp"] * 2:
        page.keyboard.press(key)
    after = page.evaluate("traits.target")
    assert np.argmax(np.array(after) - before) == 3
    page.get_by_text("target, 9°").wait_for()
    assert page.locator(".l2g-target").get_attribute("aria-valuetext").startswith("9°: ")


def test_the_sand_moves_and_comes_to_rest(page):
    def looks():
        return page.locator(".l2g-stage").screenshot()

    page.wait_for_timeout(6000)
    rest = looks()
    page.wait_for_timeout(300)
    assert looks() == rest
    page.get_by_role("button", name="Pour").click()
    page.wait_for_timeout(600)
    assert looks() != rest
    page.wait_for_timeout(5000)
    assert looks() == rest


SAND = """
from l2gnet.widgets import Sand

sand = Sand()
sand
"""


def test_python_hears_of_a_pile_and_is_heard(open_notebook):
    notebook = open_notebook([SAND, "print(sum(sand.source[20:]) > 0.1)", "sand.epsilon = 0"], width=1440, height=900)
    notebook.run_cell(0)
    viewer = notebook.page.locator(".l2g-viewer")
    viewer.get_by_text("the cheapest plan's").wait_for()
    pull(notebook.page, "source", 24, 0.1)
    pull(notebook.page, "source", 26, 0.1)
    assert "True" in notebook.run_cell(1)
    notebook.run_cell(2)
    viewer.get_by_text("this is the cheapest plan").wait_for()
    for theme in ("light", "dark"):
        notebook.theme(theme)
        notebook.page.wait_for_timeout(6000)
        notebook.screenshot(f"sand-{theme}", viewer)
        viewer.get_by_role("button", name="Pour").click()
        notebook.page.wait_for_timeout(1800)
        notebook.screenshot(f"sand-pours-{theme}")
    notebook.theme("light")  # as those who come after expect it
