"""The ground of all viewers, in a real browser."""

from pathlib import Path

DIAL = f"""
import sys
import numpy as np
sys.path.append({str(Path(__file__).parent.parent / "widgets")!r})
from dial import Dial

dial = Dial()
volume = np.zeros((5, 2048, 1024), np.int16)
volume[-1, -1, -1] = -7
dial.publish("volume", volume)
dial
"""


def test_arrays_arrive_events_go_and_errors_are_shown(open_notebook):
    notebook = open_notebook([DIAL])
    notebook.run_all()
    viewer = notebook.page.locator(".l2g-viewer")
    viewer.get_by_text("volume: 5 of 5 rows, 100 %, last -7").wait_for()
    viewer.get_by_role("button", name="turn").click()
    viewer.get_by_text("angle 5").wait_for()
    alert = viewer.get_by_role("alert")
    assert not alert.is_visible()
    viewer.get_by_role("button", name="jam").click()
    alert.get_by_text("RuntimeError: the dial is stuck").wait_for()
    viewer.get_by_title("Dismiss").click()
    assert not alert.is_visible()
    viewer.get_by_role("button", name="broken").click()
    alert.get_by_text("TypeError: ").wait_for()
    for theme in ("light", "dark"):
        notebook.theme(theme)
        notebook.screenshot(f"dial-{theme}", viewer)


def test_closing_and_reloading(open_notebook):
    notebook = open_notebook([DIAL, "dial.close()"])
    notebook.command("notebook:run-cell-and-select-next")
    viewer = notebook.page.locator(".l2g-viewer")
    viewer.get_by_text("volume: 5 of 5 rows").wait_for()
    notebook.command("docmanager:save")
    notebook.page.reload()  # the kernel lives on, and the viewer comes back from it
    viewer.get_by_text("volume: 5 of 5 rows").wait_for()
    notebook.command("notebook:run-all-cells")
    viewer.wait_for(state="detached")
