"""The pages of `make app` in a real browser: with a run of one's own they show its viewers, and a click works."""

import socket
import subprocess
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from l2gnet.jobs.library import PAGES, find_notebook
from l2gnet.training.run import train
from l2gnet.training.settings import TrainSettings

NOTEBOOKS = [find_notebook(name) for name in PAGES]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    home = tmp_path_factory.mktemp("pages")
    few = {"patients": 26, "validation_patients": 2, "spacing_mm": 3.0, "size_px": 64}
    run = train(TrainSettings(**few, depth=3, epochs=8, batch_size=8), home / "run")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [sys.executable, "-m", "l2gnet", "app", f"--port={port}", "-p", "checkpoint"]
    with (
        (home / "log").open("w") as log,
        subprocess.Popen([*line, run.run_dir.name + "/model.safetensors"], cwd=home, stdout=log, stderr=log) as server,
    ):
        try:
            for _ in range(600):
                try:
                    urlopen(f"http://127.0.0.1:{port}/")
                    break
                except URLError:
                    assert server.poll() is None, (home / "log").read_text()
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/voila/render"
        finally:
            server.terminate()


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_page_shows_viewers_of_ones_own_run_that_can_be_clicked(browser, address, notebook):
    from lab import SCREENSHOTS

    page = browser.new_page(viewport={"width": 1100, "height": 1000})
    page.set_default_timeout(240_000)
    errors = []
    page.on("pageerror", lambda error: errors.append(error.stack))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    # Voilà's template asks a content network for icon fonts; where there is no internet that is an error.
    page.route("https://cdn.jsdelivr.net/**", lambda route: route.fulfill(content_type="text/css", body=""))
    page.goto(f"{address}/{notebook.name}")
    viewer = page.locator(".l2g-viewer").last
    viewer.wait_for()
    page.wait_for_timeout(1000)
    assert " 2 held-out volumes" in page.inner_text("body")
    assert page.locator(".jp-CodeCell .cm-editor").count() == 0
    before = viewer.screenshot()
    viewer.locator("canvas").first.click(position={"x": 30, "y": 40})
    page.wait_for_timeout(1000)
    assert viewer.screenshot(path=SCREENSHOTS / f"page-{notebook.stem}.png") != before
    page.close()
    assert errors == []
