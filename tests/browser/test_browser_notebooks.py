"""The first page in a real browser: the workbench is on one screen, and a click on a pixel shows whom it hears."""

from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"


@pytest.mark.slow
def test_the_first_page_begins_at_the_workbench(open_notebook):
    notebook = open_notebook(NOTEBOOKS / "00_start_here.ipynb", width=1440, height=900)
    notebook.page.set_default_timeout(240_000)
    notebook.run_all()
    bench = notebook.page.locator(".l2g-viewer")
    bench.get_by_text("(converged)").wait_for()
    bench.scroll_into_view_if_needed()
    assert bench.bounding_box()["height"] < 800  # of the 900 pixels of a laptop's screen
    bench.locator(".l2g-bench-frame canvas").click(position={"x": 150, "y": 150})
    bench.get_by_text("hears from").wait_for()
    notebook.screenshot("start-workbench")
