"""The first page in a real browser, from top to bottom: its two viewers are linked."""

from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"


@pytest.mark.slow
def test_the_first_page_shows_linked_viewers(open_notebook):
    notebook = open_notebook(NOTEBOOKS / "00_start_here.ipynb", width=1250, height=1600)
    notebook.page.set_default_timeout(240_000)
    notebook.run_all()
    scan, plan = (notebook.page.locator(".l2g-viewer").nth(i) for i in (0, 1))
    plan.get_by_text("pixel (13, 8) takes from").wait_for()
    notebook.screenshot("start-scan", scan)
    notebook.screenshot("start-plan", plan)
    before = int(scan.get_by_label("slice", exact=True).input_value())
    plan.get_by_label("slice", exact=True).press("ArrowRight")
    scan.get_by_text(f"axial · {before + 2} of 40").wait_for()
    plan.get_by_label("the image, and where the selection").click(position={"x": 206, "y": 104})
    scan.get_by_text("truth: stomach").wait_for()
