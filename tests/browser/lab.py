"""A person at JupyterLab: Debian's Chromium, driven by Playwright, on a server of its own on the loopback interface."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import nbformat
import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from l2gnet.files import write_json

ROOT = Path(__file__).parent.parent.parent
SCREENSHOTS = Path(__file__).parent / "screenshots"
CHROMIUM = Path(os.environ.get("CHROMIUM", shutil.which("chromium") or "/usr/bin/chromium"))
QUIET = {  # no dialogues over the notebook, and no look-ups on the internet
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},  # outputs far below are drawn as well
}


@dataclass
class Lab:
    """A running JupyterLab: its address, its token, and the folder that it shows."""

    url: str
    token: str
    folder: Path

    def ask(self, method: str, what: str, body: object = None) -> Any:
        """Talk to the server as its pages do."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"token {self.token}", "Content-Type": "application/json"}
        with urlopen(Request(self.url + what, data, headers, method=method)) as answer:
            return json.load(answer)


@dataclass
class OpenNotebook:
    """A notebook open in a browser; `errors` are the errors that the browser's console has shown."""

    page: Page
    errors: list[str] = field(default_factory=list)

    def run_all(self) -> None:
        """Run every cell, from top to bottom, and fail where one fails."""
        self.command("notebook:run-all-cells")
        wrong = self.page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']")
        assert wrong.all_inner_texts() == []

    def run_cell(self, index: int) -> str:
        """Run one cell, and return what it prints."""
        self.page.evaluate(f"window.jupyterapp.shell.currentWidget.content.activeCellIndex = {index}")
        self.command("notebook:run-cell")
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index).locator(".jp-OutputArea").inner_text()

    def command(self, name: str, **arguments: object) -> None:
        """Run one of JupyterLab's commands, and wait until it is done."""
        self.page.evaluate("([name, args]) => window.jupyterapp.commands.execute(name, args)", [name, arguments])

    def theme(self, name: str) -> None:
        """Choose `light` or `dark`."""
        self.command("apputils:change-theme", theme=f"JupyterLab {name.title()}")
        self.page.wait_for_function(f"document.body.dataset.jpThemeLight === '{str(name == 'light').lower()}'")

    def screenshot(self, name: str, target: Locator | None = None) -> np.ndarray:
        """Keep a picture of the page, or of one element of it; returns its pixels (H, W, 3)."""
        SCREENSHOTS.mkdir(exist_ok=True)
        (target or self.page).screenshot(path=SCREENSHOTS / f"{name}.png")
        return np.asarray(Image.open(SCREENSHOTS / f"{name}.png").convert("RGB"))

    def close(self) -> None:
        """Leave the page, and a kernel in which there is nothing but what it has imported."""
        kernel = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"
        code = "import ipywidgets\nipywidgets.Widget.close_all()\n%reset -f"
        reply = self.page.evaluate(f"(code) => {kernel}.requestExecute({{ code }}).done", code)
        assert reply["content"]["status"] == "ok", reply
        self.page.close()


@contextmanager
def start_lab(home: Path) -> Iterator[Lab]:
    """JupyterLab with nothing of this machine's configuration; all it writes goes to `home`."""
    folder = home / "work"
    folder.mkdir()
    for name, settings in QUIET.items():
        write_json(home / "settings" / f"{name}.jupyterlab-settings", settings)
    places = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    found = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {name: str(home / place) for name, place in places.items()} | {"PYTHONPATH": found}
    options = ("--no-browser", "--allow-root", "--expose-app-in-browser", "--ip=127.0.0.1", "--port=0")
    options += (f"--LabApp.extra_labextensions_path={ROOT / 'widgets/lab'}",)  # as `l2gnet lab` has it
    command = [sys.executable, "-m", "jupyterlab", *options, f"--ServerApp.root_dir={folder}"]
    with (home / "log").open("w") as log, subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server:
        try:
            info = _server_info(home / "runtime", server, home / "log")
            yield Lab(info["url"], info["token"], folder)
        finally:
            server.terminate()


@contextmanager
def start_chromium(*options: str) -> Iterator[Browser]:
    """Chromium without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *options])
        yield browser
        browser.close()


def open_notebook(
    lab: Lab, browser: Browser, notebook: Path | Sequence[str], *, width: int = 1100, height: int = 1000
) -> OpenNotebook:
    """Open a notebook in JupyterLab, a file or a list of code cells, and wait for its kernel.

    It is the kernel of the last one, if there was one: its imports take ten times as long as most tests.
    """
    if isinstance(notebook, Path):
        path = lab.folder / notebook.name
        shutil.copy(notebook, path)
    else:
        path = lab.folder / f"cells-{len(list(lab.folder.iterdir()))}.ipynb"
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        cells = [nbformat.v4.new_code_cell(source) for source in notebook]
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    for session in lab.ask("GET", "api/sessions"):
        lab.ask("PATCH", f"api/sessions/{session['id']}", {"path": path.name, "name": path.name, "type": "notebook"})
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(60_000)
    opened = OpenNotebook(page)
    page.on("pageerror", lambda error: None if _is_of_the_lab(error.stack) else opened.errors.append(error.stack))
    page.on("console", lambda line: opened.errors.append(line.text) if line.type == "error" else None)
    page.goto(f"{lab.url}doc/tree/{path.name}?token={lab.token}&reset")
    page.locator(".jp-Notebook .jp-Cell").first.wait_for()
    page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status=='idle'")
    return opened


def _is_of_the_lab(stack: str) -> bool:
    """On a busy machine JupyterLab may remove an element of its own twice; no viewer is on the stack then."""
    return "removeChild" in stack and all("/static/lab/" in line for line in stack.splitlines() if "http" in line)


def _server_info(runtime: Path, server: subprocess.Popen, log: Path) -> dict:
    for _ in range(600):
        for file in runtime.glob("jpserver-*.json"):
            with suppress(json.JSONDecodeError, URLError):  # it is being written, or is not served yet
                info = json.loads(file.read_text())
                with urlopen(f"{info['url']}api"):
                    return info
        assert server.poll() is None, log.read_text()
        time.sleep(0.1)
    raise TimeoutError(log.read_text())
