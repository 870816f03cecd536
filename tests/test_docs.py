"""The site that `make docs` makes: without a warning, with every link inside it leading somewhere, and offline."""

import dataclasses
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from l2gnet.training.settings import TrainSettings

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """What a page links to, what it loads, and which places in it can be linked to."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.places = set(), set(), set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.places |= {given.get("id"), given.get("name")}
        if tag == "a" and given.get("href"):
            self.links.add(given["href"])
        if tag in ("script", "img", "iframe", "source", "video"):
            self.loads.add(given.get("src"))
        if tag == "link" and given.get("rel") != "canonical":
            self.loads.add(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, made as `make docs` makes it."""
    out = tmp_path_factory.mktemp("site")
    words = re.search(
        r"^docs:.*\n\t\$\(BIN\)/sphinx-build (.*) docs/_build/html$", (ROOT / "Makefile").read_text(), re.M
    )
    command = [sys.executable, "-m", "sphinx", *words[1].split(), str(out)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    return out


@pytest.fixture(scope="module")
def pages(site):
    """Every page by its path."""
    return {path: Page(path) for path in site.rglob("*.html")}


def test_every_link_inside_leads_somewhere(pages):
    lost = []
    for path, page in pages.items():
        for link in page.links | page.loads - {None}:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages[there].places if there in pages else {parts.fragment}
            if not there.exists() or (parts.fragment and unquote(parts.fragment) not in known):
                lost.append((path.name, link))
    assert lost == []


def test_it_is_read_offline(pages, site):
    loads = {load for page in pages.values() for load in page.loads if load}
    assert [load for load in loads if urlsplit(load).scheme not in ("", "data")] == []
    styles = "".join(style.read_text() for style in site.rglob("*.css"))
    assert re.findall(r"url\(['\"]?(?:https?:)?//[^)]*\)|@import[^;]*//[^;]*", styles) == []


def test_every_notebook_is_a_page(site):
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        page = (site / f"notebooks/{notebook.stem}.html").read_text()
        assert "cell_output" in page
        assert "$$" not in re.sub(r"<pre>.*?</pre>", "", page, flags=re.DOTALL)


def test_the_reference_is_whole(site):
    said = (site / "docs/reference/settings.html").read_text()
    assert [field.name for field in dataclasses.fields(TrainSettings) if f">{field.name}<" not in said] == []
    commands = (site / "docs/reference/commands.html").read_text()
    assert "usage: l2gnet data check [-h] PATH" in commands
    assert os.environ.get("HOME", "/root") + "/" not in commands
    api = "".join(page.read_text() for page in (site / "docs/reference/api").glob("*.html"))
    for name in ("method.mapper.L2GMapper", "models.build_model", "errors.ConfigError", "widgets.viewer.Viewer"):
        assert f'id="l2gnet.{name}"' in api


def test_what_a_reader_searches_is_found(site):
    index = (site / "searchindex.js").read_text()
    assert all(word in index for word in ("papermill", "slurm", "epsilon", "dicom"))
