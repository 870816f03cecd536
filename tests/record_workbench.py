"""Record the moving picture of the README, a person at the workbench in a real browser: `tests/record_workbench.py`.

Look at it before you commit it. It must stay below 3 MB.
"""

import io
import re
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parent / "browser"))
from lab import CHROMIUM

OUT = Path(__file__).parent.parent / "docs" / "workbench.webp"
SIZE = (1280, 760)


def record(page: Page) -> list[Image.Image]:
    """Frames of what a person does first."""
    frames: list[Image.Image] = []

    def shoot(wait_ms: int = 900) -> None:
        page.wait_for_timeout(wait_ms)
        frames.append(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))

    slice_ = page.locator(".l2g-bench-frame canvas")
    plan = page.locator(".l2g-bench-plan canvas")
    show = page.get_by_title("What lies over the slice")
    plan.wait_for()
    page.get_by_text("(converged)").wait_for()
    shoot(2000)
    for _ in range(3):
        page.get_by_label("slice", exact=True).press("ArrowLeft")
        shoot(700)
    show.select_option("relation")
    box = slice_.bounding_box()
    slice_.click(position={"x": 0.42 * box["width"], "y": 0.45 * box["height"]})
    for _ in range(4):
        shoot(250)
    shoot(1200)
    box = plan.bounding_box()
    plan.click(position={"x": 30, "y": 0.84 * box["height"]})
    for _ in range(4):
        shoot(250)
    shoot(1200)
    show.select_option("prediction")
    page.get_by_role("button", name="silence", exact=True).click()
    shoot(1500)
    show.select_option("changed")
    page.get_by_title("How the tokens are related").select_option("none")
    shoot(1500)
    page.get_by_role("button", name="matrices").click()
    page.get_by_role("button", name="clear all").click()
    shoot(1500)
    return frames


def main() -> None:
    """Serve the workbench, record it, and write the picture."""
    command = [sys.executable, "-m", "l2gnet", "view", "phantom-abdomen", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as playwright:
        try:
            assert server.stdout is not None
            address = re.search(r"http\S+", server.stdout.readline())
            assert address is not None
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
            page.set_default_timeout(120_000)
            page.goto(address[0], wait_until="commit")
            first, *rest = record(page)
            browser.close()
        finally:
            server.terminate()
    durations = [1500, *[700] * 3, *[220] * 4, 1800, *[220] * 4, 1800, 2000, 2000, 2400]
    first.save(OUT, save_all=True, append_images=rest, duration=durations, loop=0, quality=72, method=6)
    size = OUT.stat().st_size
    assert size < 3e6, f"{size} bytes are more than 3 MB"
    print(f"{OUT}: {size / 1e6:.1f} MB, {len(durations)} frames")


if __name__ == "__main__":
    main()
