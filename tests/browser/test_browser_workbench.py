"""The workbench as a person uses it, in JupyterLab and as a page of `l2gnet view`; Python says what must be there."""

import ast
import asyncio
import io
import json
import re
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

WIDGETS = Path(__file__).parent.parent / "widgets"
sys.path.append(str(WIDGETS))

from benches import phantom, save_model, truth, volume  # noqa: E402

COLOURS = {1: "#e69f00", 2: "#56b4e9", 3: "#009e73"}
CELL = """
import json, sys
sys.path.append({widgets!r})
from benches import truth, volume
import numpy as np
from l2gnet.widgets.workbench import Workbench

bench = Workbench({model!r}, [(volume(1), truth(1)), volume(2)], other={other!r})
bench
"""
# A file that is dropped on an element, given in hexadecimal digits.
DROP = """
(target, hex) => {
  const bytes = Uint8Array.from(hex.match(/../g), (pair) => parseInt(pair, 16));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], "own.nii"));
  for (const type of ["dragover", "drop"]) {
    target.dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
  }
}
"""


class Bench:
    """The workbench on the screen, and beside it the one in Python."""

    def __init__(self, page, ask):
        self.page, self.ask = page, ask
        self.viewer = page.locator(".l2g-viewer")
        self.slice = self.viewer.locator(".l2g-bench-frame canvas").first
        self.plan = self.viewer.locator(".l2g-bench-plan canvas")
        self.card = self.viewer.locator(".l2g-bench-card")
        self.changes = self.viewer.locator(".l2g-bench-changes")
        self.viewer.get_by_text(re.compile(r"\d+ codes · marginal error")).wait_for()

    def until(self, question, wanted=True):
        """Wait until Python answers so; a busy machine takes its time."""
        for _ in range(400):
            try:
                answer = self.ask(question)
            except LookupError:  # not yet
                answer = None
            if answer == wanted:
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"{question} is {answer}, not {wanted}")

    def seen(self, look, least=0.9):
        """Wait until the picture is as it must be."""
        for _ in range(100):
            found = look()
            if found >= least:
                return
            self.page.wait_for_timeout(100)
        raise AssertionError(f"{look} finds {found}")

    def voxels(self):
        """The colour of the slice (H, W, 3) at the middle of each voxel."""
        picture = np.asarray(Image.open(io.BytesIO(self.slice.screenshot())).convert("RGB")).astype(int)
        h, w = picture.shape[:2]
        side = min(h, w) / 48
        rows, columns = ((np.arange(48) + 0.5) * side + (n - 48 * side) / 2 for n in (h, w))
        return picture[rows.astype(int).clip(0, h - 1)][:, columns.astype(int).clip(0, w - 1)]

    def share_alike(self, wanted):
        """Of voxels, the share that has the colour wanted there (a map of labels, and 0 for none of these)."""
        voxels = self.voxels()
        found = np.zeros(wanted.shape, int)
        for label, colour in (COLOURS if wanted.max() != 9 else {9: "#A578FF"}).items():
            rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
            found[np.abs(voxels - rgb).max(2) < 12] = label
        return (found == wanted).mean()

    def labels(self):
        return np.array(self.ask("np.frombuffer(bench.now['labels'], np.uint8).tolist()")).reshape(48, 48)

    def click_voxel(self, row, column):
        box = self.slice.bounding_box()
        side = min(box["width"], box["height"]) / 48
        x, y = ((n + 0.5) * side + (box[of] - 48 * side) / 2 for n, of in ((column, "width"), (row, "height")))
        self.slice.click(position={"x": x, "y": y})

    def click_plan(self, across, down):
        box = self.plan.bounding_box()
        self.plan.click(position={"x": across * box["width"], "y": down * box["height"]})

    def show(self, overlay):
        self.viewer.get_by_title("What lies over the slice").select_option(overlay)
        self.until("bench.overlay", overlay)

    def show_only(self, overlay):
        """The same where there is no Python any more."""
        self.viewer.get_by_title("What lies over the slice").select_option(overlay)
        self.viewer.get_by_text("a colour a code").wait_for()

    def button(self, name):
        return self.viewer.get_by_role("button", name=name, exact=True)

    def focused(self):
        return self.page.evaluate("document.activeElement.textContent")

    def press(self, keys, times=1):
        for _ in range(times):
            self.page.keyboard.press(keys)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {name: save_model(folder / f"{name}.safetensors", name) for name in ("l2gnet", "vq_unet", "unet")}


@contextmanager
def served(make):
    """A live viewer in a thread of its own; gives its address, and the viewer once a page has asked for it."""
    from tornado.httpserver import HTTPServer
    from tornado.netutil import bind_sockets

    from l2gnet.jobs.live import LiveViewer, live_app

    ready, found = threading.Event(), {}

    async def serve():
        found["loop"], found["stop"] = asyncio.get_running_loop(), asyncio.Event()
        found["live"] = LiveViewer(make, "bench")
        sockets = bind_sockets(0, "127.0.0.1")
        server = HTTPServer(live_app([found["live"]], "t"), max_buffer_size=1 << 26)
        server.add_sockets(sockets)
        found["address"] = f"http://127.0.0.1:{sockets[0].getsockname()[1]}/t/"
        ready.set()
        await found["stop"].wait()
        server.stop()
        await server.close_all_connections()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait()
    try:
        hang_up = lambda: [page.close() for page in found["live"].pages]  # noqa: E731
        yield found["address"], lambda: found["live"].viewer, lambda: found["loop"].call_soon_threadsafe(hang_up)
    finally:
        found["loop"].call_soon_threadsafe(found["stop"].set)
        thread.join()
        if found["live"]._viewer is not None:
            found["live"].viewer.close()


@pytest.fixture
def open_page(browser):
    """Open a workbench as `l2gnet view` does."""
    from l2gnet.widgets.workbench import Workbench

    closing = []

    def open_(theme, model, scans, size=(1440, 900), **options):
        context = served(lambda: Workbench(model, scans, **options))
        address, viewer, hang_up = context.__enter__()
        page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=theme)
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.set_default_timeout(60_000)
        page.goto(address)
        page.locator(".l2g-bench-frame canvas").first.wait_for()
        closing.append((context, page, errors))
        return page, lambda words: json.loads(
            json.dumps(eval(words, {"bench": viewer(), "np": np, "hang_up": hang_up}))
        )

    yield open_
    for context, page, errors in closing:
        page.close()
        context.__exit__(None, None, None)
        assert errors == []


@pytest.fixture
def open_bench(open_page, open_notebook, models):
    """Open two scans and a model in one of the two places."""

    def open_(place, theme, *, other=""):
        if place == "page":
            page, ask = open_page(theme, models["l2gnet"], [(volume(1), truth(1)), volume(2)], other=other)
            return Bench(page, ask)
        cell = CELL.format(widgets=str(WIDGETS), model=str(models["l2gnet"]), other=str(other))
        notebook = open_notebook([cell], width=1440, height=900)
        notebook.theme(theme)
        notebook.run_all()
        kernel = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"

        def ask(words):
            code = {"code": "", "user_expressions": {"told": f"json.dumps({words})"}}
            reply = notebook.page.evaluate(f"(code) => {kernel}.requestExecute(code).done", code)
            return json.loads(ast.literal_eval(reply["content"]["user_expressions"]["told"]["data"]["text/plain"]))

        return Bench(notebook.page, ask)

    return open_


PLACES = [("page", "light"), ("lab", "dark")]
KEYS = [("page", "dark"), ("lab", "light")]


@pytest.mark.parametrize(("place", "theme"), PLACES)
def test_by_mouse(open_bench, place, theme, tmp_path):
    bench = open_bench(place, theme)
    ask, until = bench.ask, bench.until
    opacity = bench.viewer.get_by_label("opacity")
    opacity.fill("1")
    until("bench.opacity", 1)
    bench.seen(lambda: bench.share_alike(bench.labels()), 0.85)  # but for crosshair, letters and edges

    # A pixel, whom it hears, and where its code and references are in the plans
    bench.click_voxel(12, 30)
    until("bench.selection", {"voxel": [ask("bench.index"), 12, 30], "by": "voxel"})
    bench.card.get_by_text("pixel (13, 31)").wait_for()
    code = ask("int(bench.seen.codes[bench.index, 12 * 12 // 48, 30 * 12 // 48])")
    bench.show("relation")
    wanted = np.array(
        ask(
            "(lambda n, R, row: ((np.frombuffer(n['receiving'], np.float32).reshape(2, -1, 5)[0, row] @ "
            "np.frombuffer(n['sending'], np.float32).reshape(2, -1, 5)[0].T / "
            "np.bincount(np.frombuffer(n['rows'], np.int32)))[np.frombuffer(n['rows'], np.int32)]).tolist())"
            f"(bench.now, 5, bench.now['names'].index({code}))"
        )
    ).reshape(12, 12)  # a row of R S^T, up to a factor

    wanted *= 144 / wanted.sum()  # times an even share

    def glow():
        voxels = bench.voxels()[2::4, 2::4]
        lit = voxels[..., 0] - voxels[..., 2] > 35
        strong, weak = wanted > 0.6 * wanted.max(), wanted < 0.01 * wanted.max()
        return min(lit[strong].mean(), (~lit[weak]).mean() if weak.any() else 1)

    bench.seen(glow, 0.8)
    words = bench.viewer.locator(".l2g-bench-legend").inner_text()
    assert float(re.search(r"([\d.]+) × an even share", words)[1]) == pytest.approx(wanted.max(), rel=0.01)

    # Codes, references and what both share
    bench.card.get_by_role("button", name=re.compile(f"^code {code}")).click()
    until("(bench.selection.get('by'), bench.selection['code'], bench.card['code'])", ["code", code, code])
    bench.click_plan(0.5, 0.5)
    until("bench.selection.get('by')", "reference")
    reference = ask("bench.selection['reference']")
    bench.card.get_by_text(f"reference {reference}", exact=True).wait_for()
    bench.button("matrices").click()
    until("bench.plan_view", "matrices")
    bench.click_plan(0.25, 0.5)
    until("bench.selection.get('by')", "cell")
    bench.button("flow").click()
    bench.click_plan(0.055, 0.4)
    until("bench.selection.get('by')", "code")
    code = ask("bench.selection['code']")

    # Order and head
    for order in ("usage", "clustering", "label"):
        bench.button(order).click()
        until("bench.order", order)
    bench.viewer.get_by_title("Codes are cut into heads, each with plans of its own").select_option(index=1)
    until("bench.head", 1)

    # Interventions, each listed and undone
    bench.show("changed")
    bench.button("silence").click()
    until("bench.now['of']['silenced_codes']", [code])
    bench.button("replace by").click()
    until("(bench.now['of']['silenced_codes'], list(bench.now['of']['replaced_codes']))", [[], [str(code)]])
    bench.button("put it back").click()
    until("bench.now['of']['replaced_codes']", {})
    bench.changes.get_by_title("How the tokens are related").select_option("mean")
    bench.changes.get_by_label("1", exact=True).check()
    until("(bench.now['of']['relation'], bench.now['of']['skips'])", ["mean", [0]])
    wanted = np.array(
        ask("(np.frombuffer(bench.now['labels'], np.uint8) != bench.seen.labels[bench.index].ravel()).tolist()")
    )
    assert wanted.sum() == ask("bench.now['changed']") > 0
    bench.changes.get_by_text(f"{wanted.sum()} pixels changed").wait_for()
    bench.seen(lambda: bench.share_alike(9 * wanted.reshape(48, 48)), 0.8)
    bench.click_plan(0.5, 0.5)
    bench.card.get_by_text(re.compile(r"^reference \d")).wait_for()
    bench.button("silence").click()
    until("bench.now['of']['silenced_references'] == [bench.selection['reference']]")
    bench.changes.get_by_label("ε sends").fill("0")
    until("bench.now['of']['epsilon']", 1)
    bench.changes.get_by_label("ε sends").dblclick()
    until("bench.now['of']['epsilon']", None)
    bench.button("over the whole scan").click()
    until("bench.task.get('running') is False and len(bench.task['scores'])", 3)
    after = ask("bench.task['scores'][0]['dice'][1]")
    bench.changes.get_by_text("Dice, the scan").wait_for()
    assert f"{after:.3f}" in bench.changes.inner_text()
    bench.changes.get_by_title(re.compile("^Undo: reference")).click()
    until("bench.now['of']['silenced_references']", [])
    bench.button("clear all").click()
    until("bench.now['changed']", 0)
    bench.button("↶").click()
    until("bench.now['of']['relation']", "mean")
    bench.button("↷").click()
    until("bench.now['of']['relation']", "own")

    # Slices, planes, another scan; one of one's own
    at = ask("bench.index")
    bench.slice.hover()
    bench.page.mouse.wheel(0, -100 if at == 0 else 100)
    until(f"bench.index != {at}")
    bench.viewer.get_by_title("The plane to look at").select_option(value="1")
    until("bench.plane", 1)
    bench.viewer.get_by_title("The plane to look at").select_option(value="0")
    bench.viewer.get_by_title("The scan to look at").select_option(value="1")
    until("(bench.about['scan'], bench.now['scan'])", [1, 1])
    bench.changes.get_by_text("pixels, this slice").wait_for()
    bench.show("truth")
    bench.viewer.get_by_text("this scan has no label map").wait_for()
    nib.Nifti1Image(phantom(3).image.T, np.diag([-3.0, -3, 16, 1])).to_filename(tmp_path / "own.nii.gz")
    bench.viewer.get_by_label("scan file").set_input_files(tmp_path / "own.nii.gz")
    until("(bench.scan, bench.about['scans'][2])", [2, "scan 3"])
    (tmp_path / "own.png").write_bytes(b"no scan")
    bench.viewer.get_by_label("scan file").set_input_files(tmp_path / "own.png")
    bench.viewer.get_by_role("alert").get_by_text("must be NIfTI").wait_for()
    bench.viewer.get_by_title("Dismiss").click()
    until("bench.error", "")


@pytest.mark.parametrize(("place", "theme"), KEYS)
def test_by_keyboard(open_bench, place, theme):
    bench = open_bench(place, theme)
    ask, until, press = bench.ask, bench.until, bench.press
    at = ask("bench.index")
    bench.viewer.get_by_label("slice", exact=True).focus()
    press("ArrowLeft" if at else "ArrowRight")
    until("bench.index", at - 1 if at else 1)
    bench.changes.get_by_text("at it").wait_for(state="hidden")  # plans of the slice before hear no keys
    bench.plan.focus()
    press("ArrowDown")
    until("bench.selection.get('by')", "code")
    first = ask("bench.selection['code']")
    press("ArrowDown")
    until(f"bench.selection['code'] != {first}")
    press("ArrowRight")
    until("bench.selection.get('by')", "reference")
    bench.button("silence").focus()
    press("Enter")
    until("len(bench.now['of']['silenced_references'])", 1)
    assert bench.focused() == "hear it again"
    press("Control+z")
    until("len(bench.now['of']['silenced_references'])", 0)
    press("Control+Shift+z")
    until("len(bench.now['of']['silenced_references'])", 1)
    bench.button("clear all").focus()
    press("Enter")
    until("len(bench.now['of']['silenced_references'])", 0)
    assert bench.focused().startswith("Interventions: none")  # the panel, as there is nothing to clear any more
    slider = bench.changes.get_by_label("ε sends")
    slider.focus()
    press("ArrowRight")
    until("(bench.now['of']['epsilon'] or 0) > bench.model.mapper.setting.epsilons[0]")
    press("?")
    assert bench.viewer.get_by_text("how far the plan is from giving").is_visible()
    assert bench.viewer.get_by_text("Alt + drag, Alt + arrows").is_visible()
    press("Escape")
    assert not bench.viewer.get_by_text("how far the plan is from giving").is_visible()

    # A code that is silenced: references that it has no share in leave the card
    bench.plan.focus()
    press("ArrowDown")
    until("bench.card['kind']", "code")
    bench.button("silence").focus()
    press("Enter")
    until("len(bench.now['of']['silenced_codes'])", 1)
    assert bench.focused() == "hear it again"
    press("Enter")
    until("len(bench.now['of']['silenced_codes'])", 0)
    bench.card.locator(".l2g-bench-link").last.focus()
    press("Enter")  # one of the nearest, whose card Python has yet to make
    bench.card.get_by_text("fires at").wait_for()
    press("Tab")
    assert bench.card.evaluate("(card) => card.contains(document.activeElement)")

    # A name of a code
    name = bench.card.get_by_label("name of this code")
    name.focus()
    bench.page.keyboard.type("apex ?")  # and no help opens
    press("Enter")
    until("bench.about['names'].get(str(bench.selection['code']))", "apex ?")
    assert not bench.viewer.get_by_text("how far the plan is from giving").is_visible()
    name.fill("")
    press("Enter")
    until("bench.about['names']", {})

    # All fits on one screen
    if place == "page":
        assert bench.page.evaluate("document.documentElement.scrollHeight <= innerHeight")
    else:
        box = bench.viewer.bounding_box()
        assert box["height"] < 900 - 110  # below menu and tool bar
    bench.page.screenshot(path=Path(__file__).parent / "screenshots" / f"workbench-{place}-{theme}.png")


def test_the_state_is_copied(open_bench):
    bench = open_bench("page", "light")
    bench.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    bench.show("codes")
    bench.button("copy state").click()
    bench.viewer.get_by_text("the state is on the clipboard").wait_for()
    assert json.loads(bench.page.evaluate("navigator.clipboard.readText()")) == bench.ask("bench.state")


def test_two_models_side_by_side(open_bench, models):
    bench = open_bench("page", "dark", other=models["unet"])
    frames = bench.viewer.locator(".l2g-bench-frame canvas")
    assert frames.count() == 2
    bench.viewer.get_by_label("opacity").fill("1")
    bench.show("models differ")
    bench.viewer.get_by_role("columnheader", name="unet").wait_for()
    wanted = np.array(bench.ask("(bench.seen.labels != bench._published['other'])[bench.index].tolist()"))
    bench.seen(lambda: bench.share_alike(9 * wanted), 0.75)
    frames.last.click(position={"x": 40, "y": 300})
    bench.until("bench.selection.get('by')", "voxel")
    bench.page.set_viewport_size({"width": 1024, "height": 700})
    assert bench.changes.evaluate("(box) => box.scrollWidth <= box.clientWidth")  # also the scores of the other one


def test_a_saved_page_says_what_the_model_was_saved_under(open_page, browser, models, tmp_path):
    page, ask = open_page("light", models["l2gnet"], [(volume(1), truth(1))])
    bench = Bench(page, ask)
    code = ask("bench.now['names'][0]")
    ask(f"setattr(bench, 'interventions', bench.interventions | {{'silenced_codes': [{code}], 'relation': 'mean'}})")
    bench.changes.get_by_text("pixels changed").wait_for()
    other, kept = browser.new_page(), []
    other.on("download", lambda file: kept.append(file))
    other.goto(page.url)
    other.get_by_text(re.compile(r"\d+ codes · marginal error")).wait_for()
    with page.expect_download() as download:
        bench.button("save page").click()
    download.value.save_as(tmp_path / "page.html")
    other.wait_for_timeout(500)
    assert kept == []  # nobody asked for it there
    other.goto((tmp_path / "page.html").as_uri())
    saved = Bench(other, ask)
    saved.changes.get_by_text("Interventions: on").wait_for()
    changed = ask("bench.now['changed']")
    saved.changes.get_by_text(f"{changed} pixels changed", exact=True).wait_for()
    chip = saved.button(f"code {code} silenced ×")
    relation = saved.changes.get_by_title("How the tokens are related")
    assert (chip.is_disabled(), relation.is_disabled(), relation.input_value()) == (True, True, "mean")
    other.screenshot(path=Path(__file__).parent / "screenshots" / "workbench-saved-page.png")
    nowhere = ask("min(set(range(12)) - set(np.unique(bench.seen.codes).tolist()))")
    point = f"{{ voxel: [0, 1, 1], by: 'code', code: {nowhere} }}"
    other.evaluate(f"l2gnet.models[0].set('selection', {point}), l2gnet.models[0].save_changes()")
    saved.card.get_by_text("0 of 576 tokens").wait_for()
    saved.viewer.locator(".l2g-bench").evaluate(DROP, "00")
    saved.viewer.get_by_role("alert").get_by_text("this is a saved page").wait_for()
    other.close()


@pytest.mark.parametrize("name", ["unet", "vq_unet"])
def test_what_a_model_has_not_is_said(open_page, models, name):
    page, ask = open_page("light", models[name], [volume(slices=1)])
    page.get_by_text(ask("bench.about['missing']")).wait_for()
    page.get_by_title("What lies over the slice").select_option("relation")
    page.get_by_label("1/2").check()
    page.get_by_text(re.compile("pixels changed")).wait_for()
    page.locator(".l2g-bench-frame canvas").click(position={"x": 200, "y": 300})
    page.get_by_text("pixel (").wait_for()
    assert ask("bench.error") == ""


def test_the_program_ends_while_one_clicks(open_page, models):
    page, ask = open_page("light", models["l2gnet"], [volume()])
    bench = Bench(page, ask)
    ask("hang_up() and None")
    page.get_by_text("The program that this page belongs to has ended").wait_for()
    bench.click_voxel(20, 20)
    bench.card.get_by_text("pixel (21, 21)").wait_for()  # what is here still answers
    bench.button("matrices").click()
    bench.show_only("codes")


def test_a_scan_is_dropped_from_a_folder(open_page, models, tmp_path):
    page, ask = open_page("dark", models["l2gnet"], [volume()], size=(1024, 768))
    bench = Bench(page, ask)
    nib.Nifti1Image(phantom(3).image.T, np.diag([-3.0, -3, 16, 1])).to_filename(tmp_path / "own.nii")
    bench.viewer.locator(".l2g-bench").evaluate(DROP, (tmp_path / "own.nii").read_bytes().hex())
    bench.until("(bench.scan, bench.now['scan'], bench.about['shape'])", [1, 1, [4, 48, 48]])
    bench.viewer.get_by_text("solving").wait_for(state="hidden")
    bench.viewer.get_by_role("button", name=re.compile(r"\d doubts?")).click()
    bench.viewer.get_by_text("the model's card does not say what is normal", exact=True).wait_for()
    assert bench.viewer.get_by_title("The scan to look at").input_value() == "1"
    page.keyboard.press("Escape")
    bench.viewer.get_by_text("the model's card does not say what is normal").wait_for(state="hidden")
    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.screenshot(path=Path(__file__).parent / "screenshots" / "workbench-page-1024.png")


SENT = "np.frombuffer(bench.now['{plan}'], np.float32).reshape(2, len(bench.now['names']), 5)[bench.head].tolist()"


def ribbon(plan, rows, columns, row, column):
    """Where a ribbon leaves its code, where it meets its reference, and how thick it is: shares of the whole mass."""
    ordered = plan[rows][:, columns] / plan.sum()
    r, c = rows.index(row), columns.index(column)
    before = ordered[:r].sum() + ordered[r, :c].sum()
    return before, ordered[:, :c].sum() + ordered[:r, c].sum(), ordered[r, c]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_ribbons_are_as_wide_as_the_plans_say(open_page, models, theme):
    """A selected ribbon is seen alone: its thickness at the code is its mass, on the side of each plan."""
    page, ask = open_page(theme, models["l2gnet"], [(volume(1), truth(1))])
    bench = Bench(page, ask)
    sending, receiving = (np.array(ask(SENT.format(plan=plan))) for plan in ("sending", "receiving"))
    (rows, columns), names = ask("bench.now['order']"), ask("bench.now['names']")
    row, column = map(int, np.unravel_index(sending.argmax(), sending.shape))
    box = bench.plan.bounding_box()
    tall = box["height"] - 34 - 18
    start, _, thick = ribbon(sending, rows, columns, row, column)
    bench.plan.click(position={"x": 51, "y": 34 + (start + thick / 2) * tall})
    bench.until("bench.selection", {**ask("bench.selection"), "by": "cell", "code": names[row], "reference": column})
    page.mouse.move(box["x"] + 51, box["y"] + 34 + (start + thick / 2) * tall)
    bench.viewer.get_by_text(f"→ reference {column}").wait_for()
    told = re.search(r"([\d.]+).‰ of the slice's mass", bench.viewer.locator(".l2g-bench-plan .l2g-hint").inner_text())
    assert float(told[1]) == pytest.approx(1000 * thick, rel=0.01)
    page.mouse.move(5, 5)
    page.wait_for_timeout(2000)  # nothing moves any more
    picture = np.asarray(Image.open(io.BytesIO(bench.plan.screenshot())).convert("RGB")).astype(int)
    for plan, x in ((sending, 38), (receiving, int(box["width"]) - 26 - 9 - 4)):
        start, _, thick = ribbon(plan, rows, columns, row, column)
        line = picture[34 : 34 + round(tall), x]
        middle = min(int((start + thick / 2) * tall), len(line) - 1)
        ground = np.median(picture[-16:, x], axis=0)
        lit = np.abs(line - ground).sum(1) > 0.5 * np.abs(line[middle] - ground).sum()
        wide = middle - lit[:middle][::-1].tolist().index(False) if not lit[:middle].all() else 0
        end = lit[middle:].tolist().index(False) + middle if not lit[middle:].all() else len(lit)
        assert end - wide == pytest.approx(thick * tall, abs=3)
    page.screenshot(path=Path(__file__).parent / "screenshots" / f"workbench-ribbon-{theme}.png")


def test_the_slice_is_zoomed_and_a_double_click_shows_all_of_it(open_page, models):
    page, ask = open_page("light", models["l2gnet"], [(volume(1), truth(1))], size=(1024, 768))
    bench = Bench(page, ask)
    bench.changes.get_by_text("at it").wait_for(state="hidden")
    page.mouse.move(5, 5)
    whole = bench.slice.screenshot()
    bench.slice.hover()
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    bench.viewer.locator(".l2g-caption").get_by_text(" ×").wait_for()
    page.mouse.move(5, 5)
    zoomed = bench.slice.screenshot()
    assert zoomed != whole
    bench.slice.hover()
    page.keyboard.down("Shift")
    page.mouse.down()
    box = bench.slice.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2 + 60, box["y"] + box["height"] / 2 + 40, steps=4)
    page.mouse.up()
    page.keyboard.up("Shift")
    page.mouse.move(5, 5)
    assert bench.slice.screenshot() not in (whole, zoomed)  # it was dragged
    bench.slice.dblclick()
    bench.viewer.locator(".l2g-caption").get_by_text(" ×").wait_for(state="hidden")
    for keys, zooms in (("+", True), ("0", False)):
        bench.slice.press(keys)
        bench.viewer.locator(".l2g-caption").get_by_text(" ×").wait_for(state="visible" if zooms else "hidden")


def test_what_takes_long_is_stopped(open_page, models, monkeypatch):
    def slowly(self, scan, index, changes, progress):
        for _ in range(600):
            progress(1, 4)
            time.sleep(0.1)
        raise AssertionError("nobody stopped it")

    monkeypatch.setattr("l2gnet.widgets.bench_model.AskedModel.scored", slowly)
    page, ask = open_page("dark", models["l2gnet"], [(volume(1), truth(1))])
    bench = Bench(page, ask)
    bench.click_voxel(20, 20)
    bench.card.get_by_text("pixel (21, 21)").wait_for()
    bench.changes.get_by_title("How the tokens are related").select_option("mean")
    bench.until("bench.now['of']['relation']", "mean")
    bench.button("over the whole scan").click()
    bench.changes.get_by_text("1 of 4 slices").wait_for()
    button = bench.card.get_by_role("button").first.element_handle()
    ask("bench.set_trait('task', {'running': True, 'done': 2, 'total': 4})")
    page.wait_for_timeout(500)  # it is at 1 again
    assert button.evaluate("(button) => button.isConnected")  # or a click would be lost
    page.screenshot(path=Path(__file__).parent / "screenshots" / "workbench-long-dark.png")
    bench.click_voxel(12, 30)  # what is looked at meanwhile does not wait for the end
    bench.card.get_by_text("pixel (13, 31)").wait_for()
    bench.button("stop").click()
    bench.changes.get_by_text("stopped").wait_for()
    bench.until("(bench.task, bench.error)", [{"running": False, "stopped": True}, ""])
    assert not bench.button("stop").is_visible()
    bench.slice.focus()
    bench.press("Control+z")  # from the slice, too: first what was looked at last
    bench.until("bench.selection['voxel'][1:]", [20, 20])
    bench.press("Control+z")
    bench.until("bench.now['of']['relation']", "own")
    bench.press("Control+Shift+z", times=2)
    bench.until("(bench.now['of']['relation'], bench.selection['voxel'][1:])", ["mean", [12, 30]])
