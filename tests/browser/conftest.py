"""JupyterLab in a real browser; screenshots stay in tests/browser/screenshots.

Where Playwright or Chromium is not installed, these tests are skipped.
"""

from pathlib import Path

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker("browser")


@pytest.fixture(scope="session")
def chromium():
    """The module that starts Chromium, which is there."""
    pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    import lab

    if not lab.CHROMIUM.exists():
        pytest.skip(f"there is no Chromium at {lab.CHROMIUM}; apt-get install chromium, or set CHROMIUM")
    return lab


@pytest.fixture(scope="module")
def browser(chromium):
    """Chromium without a window, one for each file: what the pages of one go on doing slows no other."""
    with chromium.start_chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def jupyter(chromium, tmp_path_factory):
    """JupyterLab on the loopback interface."""
    lab = chromium
    with lab.start_lab(tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture
def open_notebook(jupyter, browser):
    """Open a notebook in JupyterLab: a file, or a list of code cells. Its console must show no error until the end."""
    import lab

    opened = []

    def open_(notebook, **size):
        opened.append(lab.open_notebook(jupyter, browser, notebook, **size))
        return opened[-1]

    yield open_
    for notebook in opened:
        notebook.close()
    assert [error for notebook in opened for error in notebook.errors] == []
