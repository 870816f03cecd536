"""How fast pictures follow keys and clicks in JupyterLab: SliceViewer, ipyniivue and matplotlib in an Output.

Run `python benchmarks/viewer.py`. All three show the same 512x512 volume with two label maps (matplotlib and ipyniivue
move by an ipywidgets slider, as they have none of their own). A press is timed in the page, from the key event to the
first task in which the picture differs. In a burst, 40 keys follow each other at the pace of a key that is held down,
30 a second, and frames of the screen that show another picture are counted. A click on the plan of a TransportExplorer
is timed in the same way as a key, to the pixels that it lights up.
So are, in the workbench with the heart model that comes along, an intervention to the labels that it changes, a step of
epsilon to the plan, and a click on the plan to the pixels.

ipyniivue needs WebGL, which has to be computed on a machine without a GPU, and that slows every canvas of the page; so
it has a browser of its own.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "browser"))
from lab import Lab, OpenNotebook, open_notebook, start_chromium, start_lab
from playwright.sync_api import Browser

DATA = """
import numpy as np
D = {depth}
rng = np.random.default_rng(0)
y, x = np.mgrid[:512, :512]
volume = np.empty((D, 512, 512), np.int16)
one, two = np.zeros((2, D, 512, 512), np.uint8)
for d in range(D):
    volume[d] = rng.integers(-50, 50, (512, 512)) + 8 * d - 500
    for label in range(1, 5):
        r = np.hypot(y - 128 * (label % 2) - 190, x - 128 * (label // 2) - 190)
        one[d][r < 40 + 15 * np.sin(d / 5 + label)] = label
        two[d][r < 42 + 15 * np.sin(d / 5 + label + 0.2)] = label
"""
OURS = """
from l2gnet.widgets import SliceViewer
viewer = SliceViewer(volume, {"one": one, "two": two}, spacing_mm=(2, 0.7, 0.7))
viewer.index = D // 2
viewer
"""
MATPLOTLIB = """
import ipywidgets, io
import matplotlib.pyplot as plt
slider, output = ipywidgets.IntSlider(D // 2, 0, D - 1), ipywidgets.Output()
def show(change=None):
    with output:
        output.clear_output(wait=True)
        figure, axes = plt.subplots(figsize=(4.8, 4.8))
        axes.imshow(volume[slider.value], cmap="gray", vmin=-600, vmax=800)
        for labels in (one, two):
            axes.imshow(np.ma.masked_equal(labels[slider.value], 0), cmap="tab10", vmin=0, vmax=9, alpha=0.4)
        axes.set_axis_off()
        plt.show()
slider.observe(show, "value")
show()
ipywidgets.VBox([slider, output])
"""
NIIVUE = """
import ipywidgets, nibabel
from ipyniivue import NiiVue, SliceType
paths = []
for name, array in {"volume": volume, "one": one, "two": two}.items():
    paths.append(f"{name}.nii")
    nibabel.Nifti1Image(array.T, np.diag([0.7, 0.7, 2, 1])).to_filename(paths[-1])
slider, viewer = ipywidgets.IntSlider(D // 2, 0, D - 1), NiiVue(height=480)
viewer.load_volumes([{"path": paths[0]}] + [{"path": p, "colormap": "warm", "opacity": 0.4} for p in paths[1:]])
viewer.set_slice_type(SliceType.AXIAL)
def show(change):
    viewer.scene.crosshair_pos = [0.5, 0.5, (slider.value + 0.5) / D]
slider.observe(show, "value")
ipywidgets.VBox([slider, viewer])
"""
PLAN = """
import numpy as np
from l2gnet.inspection.image_transport import ImageTransport
from l2gnet.widgets import TransportExplorer
rng = np.random.default_rng(0)
rows = rng.integers(0, 256, (28, 28))
rows.flat[:256] = np.arange(256)
transport = ImageTransport(rng.uniform(size=(256, 64)), rows, tokens=rng.normal(size=(256, 64)))
TransportExplorer(transport, rng.normal(size=(512, 512)), epsilon=0.05)
"""
BENCH = """
from l2gnet.widgets.workbench import Workbench
bench = Workbench()
bench
"""
# Watches a picture from task to task, or frame to frame: `seen` counts how often it differs from what it was before.
WATCH = """
([selector, byFrame]) => {
  const small = Object.assign(document.createElement("canvas"), { width: 24, height: 24 });
  const context = small.getContext("2d", { willReadFrequently: true });
  const look = () => {
    const picture = document.querySelector(selector);
    if (!picture || (picture.tagName === "IMG" && !picture.complete)) return watch.last;
    context.clearRect(0, 0, 24, 24);
    context.drawImage(picture, 0, 0, 24, 24);
    return context.getImageData(0, 0, 24, 24).data.join();
  };
  const watch = (window.watch = { last: "", seen: 0, changed: 0, pressed: 0 });
  for (const type of ["keydown", "pointerdown"]) {
    document.addEventListener(type, (event) => (watch.pressed = event.timeStamp), true);
  }
  const channel = new MessageChannel();
  const next = () => (byFrame ? requestAnimationFrame(turn) : channel.port2.postMessage(0));
  const turn = () => {
    const now = look();
    if (now !== watch.last) {
      watch.last = now;
      watch.seen += 1;
      watch.changed = performance.now();
    }
    if (window.watch === watch) next();
  };
  channel.port1.onmessage = turn;
  next();
}
"""


def measure(notebook: OpenNotebook, slider: str, picture: str, presses: int) -> tuple[list[float], int]:
    """Milliseconds from each key press to its picture, and the pictures that a burst of 40 shows."""
    page = notebook.page
    page.locator(picture).first.wait_for(timeout=180_000)  # ipyniivue takes its time
    page.locator(slider).first.focus()
    page.evaluate(WATCH, [picture, False])
    page.wait_for_timeout(2000)
    times = []
    for _ in range(presses):
        before = page.evaluate("window.watch.seen")
        page.keyboard.press("ArrowRight")
        page.wait_for_function(f"window.watch.seen > {before}", polling=20)
        times.append(page.evaluate("window.watch.changed - window.watch.pressed"))
        page.wait_for_timeout(100)
    page.evaluate(WATCH, [picture, True])
    page.wait_for_timeout(1000)
    before = page.evaluate("window.watch.seen")
    for _ in range(40):
        due = time.monotonic() + 1 / 30
        page.keyboard.press("ArrowLeft")
        time.sleep(max(0.0, due - time.monotonic()))
    page.wait_for_timeout(4000)
    shown = page.evaluate("window.watch.seen") - before
    page.evaluate("window.watch = null")
    return times, shown


def first_picture(notebook: OpenNotebook, cell: int) -> float:
    """Seconds from running the cell to the first picture: pixels that are neither blank nor black."""
    return notebook.page.evaluate(
        """async (cell) => {
          const content = window.jupyterapp.shell.currentWidget.content;
          content.activeCellIndex = cell;
          const start = performance.now();
          window.jupyterapp.commands.execute("notebook:run-cell");
          for (;;) {
            await new Promise((resolve) => setTimeout(resolve, 5));
            const canvas = document.querySelector(".l2g-pane canvas");
            if (!canvas) continue;
            const { data } = canvas.getContext("2d").getImageData(canvas.width >> 1, canvas.height >> 1, 1, 1);
            if (data[0] > 0) return (performance.now() - start) / 1000;
          }
        }""",
        cell,
    )


def click_plan(notebook: OpenNotebook, clicks: int) -> list[float]:
    """Milliseconds from each click on a reference of the plan to the pixels that light up for it."""
    page = notebook.page
    plan = page.get_by_label("transport plan: codes down")
    plan.scroll_into_view_if_needed()
    box = plan.bounding_box()
    page.evaluate(WATCH, [".l2g-transport canvas", False])
    page.wait_for_timeout(2000)
    times = []
    for i in range(clicks):
        before = page.evaluate("window.watch.seen")
        page.mouse.click(box["x"] + box["width"] * (0.3 + 0.6 * (i * 7 % 13) / 13), box["y"] + 20)
        page.wait_for_function(f"window.watch.seen > {before}", polling=20)
        times.append(page.evaluate("window.watch.changed - window.watch.pressed"))
        page.wait_for_timeout(100)
    page.evaluate("window.watch = null")
    return times


def workbench(lab: Lab, browser: Browser, presses: int) -> None:
    """The workbench: medians of what a person waits for."""
    notebook = open_notebook(lab, browser, ["import l2gnet.widgets.workbench", BENCH], width=1440, height=900)
    notebook.run_cell(0)
    seconds = first_picture(notebook, 1)
    print(f"workbench: first picture {seconds:.2f} s after running the cell", flush=True)
    page = notebook.page
    page.get_by_text("codes · marginal error").wait_for()
    plan, image = page.locator(".l2g-bench-plan canvas"), ".l2g-bench-frame canvas"
    box = plan.bounding_box()
    overlay = page.get_by_title("What lies over the slice")

    def timed(picture: str, act: Callable[[int], object]) -> str:
        page.evaluate(WATCH, [picture, False])
        page.wait_for_timeout(2000)
        times = []
        for i in range(presses):
            before = page.evaluate("window.watch.seen")
            act(i)
            page.wait_for_function(f"window.watch.seen > {before}", polling=20)
            times.append(page.evaluate("window.watch.changed - window.watch.pressed"))
            page.wait_for_timeout(300)
        page.evaluate("window.watch = null")
        return in_words(times)

    overlay.select_option("prediction")
    skip = page.get_by_label("1/4")
    print(f"workbench: intervention to changed pixels {timed(image, lambda i: skip.click())}", flush=True)
    page.get_by_role("button", name="matrices").click()
    page.get_by_label("ε sends").focus()
    keys = ("ArrowRight", "ArrowLeft")
    step = lambda i: page.keyboard.press(keys[i % 2])  # noqa: E731
    print(f"workbench: epsilon step to plan {timed('.l2g-bench-plan canvas', step)}", flush=True)
    overlay.select_option("reference")
    at = lambda i: (box["x"] + box["width"] * (0.1 + 0.35 * (i * 7 % 13) / 13), box["y"] + 40)  # noqa: E731
    print(f"workbench: click on the plan {timed(image, lambda i: page.mouse.click(*at(i)))}", flush=True)
    notebook.close()


def memory(lab: Lab, browser: Browser) -> None:
    """What a large scan adds to a page, and whether it grows with use."""
    notebook = open_notebook(lab, browser, [DATA.format(depth=300), OURS])
    notebook.run_cell(0)
    page = notebook.page
    session = page.context.new_cdp_session(page)

    def added(before: float = 0.0) -> float:
        """Megabytes that all pages hold, all together, beyond `before`."""
        session.send("HeapProfiler.collectGarbage")
        page.wait_for_timeout(1000)
        rollups = [path.parent / "smaps_rollup" for path in Path("/proc").glob("[0-9]*/cmdline") if _renders(path)]
        lines = [line for rollup in rollups for line in rollup.read_text().splitlines()]
        return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000 - before

    def press(times: int) -> None:
        page.locator(".l2g-slider").first.focus()
        for i in range(times):
            page.keyboard.press("ArrowRight" if i // 299 % 2 else "ArrowLeft")
            page.wait_for_timeout(20)
        page.wait_for_timeout(2000)

    page.wait_for_timeout(5000)
    empty = added()
    notebook.run_cell(1)
    page.locator(".l2g-pane canvas").first.wait_for()
    press(330)
    voxels = 512 * 512 * 300 * 2 / 1e6
    print(f"512x512x300 with two label maps, {voxels:.0f} MB of voxels: {added(empty):.0f} MB more", flush=True)
    press(2000)
    print(f"after 2,000 slices more: {added(empty):.0f} MB", flush=True)
    for _ in range(50):
        notebook.run_cell(1)
    press(330)
    print(f"after the cell was run 50 times more: {added(empty):.0f} MB", flush=True)
    notebook.close()


def _renders(cmdline: Path) -> bool:
    try:
        return b"--type=renderer" in cmdline.read_bytes()
    except OSError:  # it has ended
        return False


def main(presses: int) -> None:
    webgl = ("--enable-unsafe-swiftshader", "--use-angle=swiftshader")
    with tempfile.TemporaryDirectory() as home, start_lab(Path(home)) as lab:
        with start_chromium() as browser:
            notebook = open_notebook(lab, browser, [DATA.format(depth=150), OURS])
            notebook.run_cell(0)
            seconds = first_picture(notebook, 1)
            print(
                f"first picture of 512x512x150 with two label maps: {seconds:.2f} s after running the cell", flush=True
            )
            notebook.close()
            notebook = open_notebook(lab, browser, [PLAN], width=1300)
            notebook.run_all()
            print(f"click on the plan: {in_words(click_plan(notebook, presses))}", flush=True)
            notebook.close()
            workbench(lab, browser, presses)
            compare(lab, browser, "SliceViewer", OURS, ".l2g-slider", ".l2g-pane canvas", presses)
            memory(lab, browser)
            compare(lab, browser, "matplotlib Output", MATPLOTLIB, ".noUi-handle", ".jp-OutputArea-output img", presses)
        with start_chromium(*webgl) as browser:
            compare(lab, browser, "ipyniivue", NIIVUE, ".noUi-handle", ".jp-OutputArea-output canvas", presses)


def compare(lab: Lab, browser: Browser, name: str, cell: str, slider: str, picture: str, presses: int) -> None:
    notebook = open_notebook(lab, browser, [DATA.format(depth=100), cell])
    notebook.run_all()
    times, shown = measure(notebook, slider, picture, presses)
    print(f"{name}: {in_words(times)}; {min(shown, 40)} pictures in a burst of 40", flush=True)
    notebook.close()


def in_words(times: list[float]) -> str:
    high = statistics.quantiles(times, n=20)[-1]
    return f"median {statistics.median(times):.1f} ms, 95th percentile {high:.1f} ms"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--presses", type=int, default=40, help="key presses that are timed one by one")
    main(parser.parse_args().presses)
