"""What is published: a wheel that needs no repository, an sdist to build it from, and the pages that go with them."""

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tarfile
import time
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import yaml

from l2gnet.jobs.library import brought
from l2gnet.version import code_version

ROOT = Path(__file__).parent.parent
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
PAGES = sorted(ROOT.glob("*.md"))
LARGEST = 2**20  # bytes of a file
TINY = {"epochs": 1, "patients": 6, "validation_patients": 2, "size_px": 48, "spacing_mm": 4.0, "width": 4}
CAME_FROM = """\
import atexit, os, sys

def tell():
    with open(os.path.join(sys.prefix, "came-from.txt"), "a") as told:
        for name, module in list(sys.modules.items()):
            if name.split(".")[0] in ("l2gnet", "widgets") and getattr(module, "__file__", None):
                print(module.__file__, file=told)

atexit.register(tell)
"""


def ran(*words, **settings) -> str:
    result = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=300, **settings)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


class Built(NamedTuple):
    """The files that are published, and what is in them by its name there."""

    sdist: Path
    wheel: Path

    def in_wheel(self) -> dict[str, bytes]:
        with zipfile.ZipFile(self.wheel) as file:
            return {name: file.read(name) for name in file.namelist()}

    def in_sdist(self) -> dict[str, bytes]:
        with tarfile.open(self.sdist) as file:
            members = [member for member in file.getmembers() if member.isfile()]
            return {member.name.partition("/")[2]: file.extractfile(member).read() for member in members}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Built:
    """An sdist of this checkout, and the wheel that is built from it."""
    work = tmp_path_factory.mktemp("build")
    left = shutil.ignore_patterns(".*", "*.egg-info", "build", "dist", "runs", "cache", "__pycache__", "node_modules")
    shutil.copytree(ROOT, work / "checkout", ignore=left)
    told = ran(sys.executable, "-m", "build", "--no-isolation", "--outdir", work / "dist", work / "checkout")
    assert not re.search("absent from|no files found|deprecat", told, re.IGNORECASE)
    return Built(next((work / "dist").glob("*.tar.gz")), next((work / "dist").glob("*.whl")))


@pytest.mark.slow
def test_the_wheel_holds_library_viewers_and_notebooks_under_one_name(built):
    inside = built.in_wheel()
    assert {name.partition("/")[0] for name in inside} == {
        "l2gnet",
        *(f"l2gnet-{VERSION}.{x}" for x in ("data", "dist-info")),
    }
    homes = {"l2gnet": "l2gnet", "widgets": "l2gnet/widgets", "notebooks": "l2gnet/notebooks"}
    files = [ROOT / "l2gnet/py.typed", *brought(), *(ROOT / "widgets/js").glob("*.*")]
    files += [file for folder in ("l2gnet", "widgets") for file in (ROOT / folder).rglob("*.py")]
    files += [file for file in (ROOT / "l2gnet").rglob("shipped/**/*") if file.is_file()]  # models and scores
    wanted = {}
    for file in files:
        folder, _, rest = file.relative_to(ROOT).as_posix().partition("/")
        wanted[f"{homes[folder]}/{rest}"] = file.read_bytes()
    assert {name for name in inside if name.startswith("l2gnet/")} == set(wanted)
    assert [name for name, content in wanted.items() if inside[name] != content] == []


@pytest.mark.slow
def test_the_wheel_brings_its_extension_to_where_jupyterlab_looks(built):
    inside = built.in_wheel()
    place = f"l2gnet-{VERSION}.data/data/share/jupyter/labextensions/l2gnet/"
    for name in ("package.json", "remoteEntry.js"):
        assert inside[place + name] == (ROOT / "widgets/lab/l2gnet" / name).read_bytes()


@pytest.mark.slow
def test_the_sdist_holds_what_the_wheel_is_built_from_and_no_tests(built):
    inside = built.in_sdist()
    scripts = (ROOT / "widgets/js").glob("*.[jc]s*")
    whole = {file.relative_to(ROOT).as_posix() for file in [*brought(), *scripts, *PAGES]}
    whole |= {page.relative_to(ROOT).as_posix() for page in (ROOT / "docs").rglob("*.md")}
    whole |= {"LICENSE", "CITATION.cff", "Makefile", "constraints.txt", "environment.yml", "docs/workbench.webp"}
    whole.add("docs/architecture.svg")
    assert whole <= set(inside)
    assert [name for name in inside if name.startswith(("tests/", "benchmarks/"))] == []


@pytest.mark.slow
def test_nothing_published_is_large(built):
    contents = built.in_wheel() | built.in_sdist()
    assert [name for name, content in contents.items() if len(content) > LARGEST] == []


@pytest.mark.slow
def test_an_index_takes_it_without_a_warning(built):
    told = ran(sys.executable, "-m", "twine", "check", "--strict", built.sdist, built.wheel)
    assert told.count("PASSED") == 2
    assert "warning" not in told.lower()
    inside = built.in_wheel()
    said = message_from_bytes(inside[f"l2gnet-{VERSION}.dist-info/METADATA"])
    assert (said["License-Expression"], said["License-File"]) == ("Apache-2.0", "LICENSE")
    assert said["Author"] == "The L2GNet workbench contributors"
    assert said["Project-URL"] is None  # they are for whoever publishes
    assert inside[f"l2gnet-{VERSION}.dist-info/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()


class Fresh(NamedTuple):
    """An environment with the wheel; of the one that tests run in it sees all but the editable library."""

    home: Path
    environment: dict[str, str]

    def run(self, folder: Path, *words: object) -> str:
        return ran(*self.command(*words), cwd=folder, env=self.environment)

    def command(self, program: str, *words: object) -> list[str]:
        return [str(self.home / "env/bin" / program), *map(str, words)]


@pytest.fixture(scope="module")
def fresh(built, tmp_path_factory) -> Fresh:
    home = tmp_path_factory.mktemp("fresh")
    venv.create(home / "env", symlinks=True)
    pip = (sys.executable, "-m", "pip", "--python", home / "env/bin/python", "--disable-pip-version-check")
    ran(*pip, "install", "--no-deps", "--no-index", built.wheel)
    packages = next((home / "env/lib").glob("*/site-packages"))
    (packages / "came_from.py").write_text(CAME_FROM)
    (packages / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\nimport came_from\n")
    places = {f"JUPYTER_{place.upper()}_DIR": str(home / place) for place in ("config", "runtime", "data")}
    (home / "config").mkdir()
    (home / "config/jupyter_server_config.json").write_text('{"ServerApp": {"allow_root": true}}')
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE"))}
    shared = {"JUPYTER_PATH": f"{sys.prefix}/share/jupyter", "IPYTHONDIR": str(home / "ipython")}
    return Fresh(home, inherited | places | shared)


@pytest.mark.slow
def test_in_an_empty_folder_it_needs_no_repository(fresh, tmp_path):
    helped = fresh.run(tmp_path, "l2gnet", "--help")
    assert all(verb in helped for verb in ("run", "notebooks", "lab", "app"))
    assert fresh.run(tmp_path, "l2gnet", "notebooks", "out") == f"{len(brought())} files in out\n"
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == len(brought())
    parameters = [word for name, value in TINY.items() for word in ("-p", name, value)]
    out = fresh.run(tmp_path, "l2gnet", "run", "01_train", "--profile", "demo", *parameters)
    run_dir = tmp_path / re.search(r"run folder: (\S+)", out)[1]
    assert {"model.safetensors", "metrics.json", "01_train.html"} <= {file.name for file in run_dir.iterdir()}
    record = json.loads((run_dir / "run.json").read_text())
    assert (record["code"].partition("+")[0], record["git"]) == (VERSION, None)
    assert record["code"] == code_version()  # an installed library is the code that its checkout is
    assert "l2gnet" in fresh.run(tmp_path, "l2gnet", "info", run_dir / "model.safetensors")
    fresh.run(tmp_path, "python", "-c", "import l2gnet.widgets")
    came_from = set((fresh.home / "env/came-from.txt").read_text().splitlines())
    assert [file for file in came_from if not Path(file).is_relative_to(fresh.home)] == []
    ends = {"cli/main.py", "jobs/run.py", "training/run.py", "widgets/pictures.py"}  # command and kernel
    assert {end for end in ends for file in came_from if file.endswith(f"l2gnet/{end}")} == ends


@contextmanager
def serving(fresh: Fresh, folder: Path, verb: str, *words: str, path: str) -> Iterator[str]:
    """Run a verb that serves; yields what it answers at this path."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = fresh.command("l2gnet", verb, f"--port={port}", *words)
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(line, cwd=folder, env=fresh.environment, stdout=log, stderr=log) as server,
    ):
        try:
            yield answer(f"http://127.0.0.1:{port}{path}", server, folder / "log")
        finally:
            server.terminate()


def answer(address: str, server: subprocess.Popen, log: Path) -> str:
    for _ in range(600):
        try:
            with urlopen(address) as page:
                return page.read().decode()
        except URLError:
            assert server.poll() is None, log.read_text()
            time.sleep(0.1)
    raise TimeoutError(log.read_text())


@pytest.mark.slow
def test_lab_copies_the_notebooks_and_opens_them(fresh, tmp_path):
    with serving(fresh, tmp_path, "lab", "--no-browser", path="/api") as told:
        assert "version" in json.loads(told)
        (server,) = (fresh.home / "runtime").glob("jpserver-*.json")
        assert json.loads(server.read_text())["root_dir"] == str(tmp_path / "notebooks")
    assert (tmp_path / "notebooks/profiles/demo.yaml").is_file()


@pytest.mark.slow
def test_app_serves_notebooks_that_are_named(fresh, tmp_path):
    with serving(fresh, tmp_path, "app", "02_codebook_usage", "04_predictions", path="/") as page:
        served = set(re.findall(r"\b\d\d_\w+\.ipynb", page))
    assert served == {"02_codebook_usage.ipynb", "04_predictions.ipynb"}
    assert {path.name for path in tmp_path.iterdir()} == {"log"}


@pytest.mark.slow
def test_app_serves_pages_for_people_without_notebooks(fresh, tmp_path):
    line = fresh.command("l2gnet", "app", "--port=0")
    with subprocess.Popen(line, cwd=tmp_path, env=fresh.environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            address = re.search(r"http\S+", server.stdout.readline())[0]
            pages = {path: urlopen(address + path).read().decode() for path in ("", "1/live.js", "1/viewer.js")}
        finally:
            server.terminate()
    assert "Segment a scan" in pages[""]
    assert "export default viewer(" in pages["1/viewer.js"]
    assert list(tmp_path.iterdir()) == []


def test_the_licence_is_that_of_the_apache_foundation_word_for_word():
    digest = hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest()
    assert digest == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"


def test_the_citation_file_has_its_form_and_tells_this_version():
    schema = ("--builtin-schema", "vendor.citation-file-format")
    ran(sys.executable, "-m", "check_jsonschema", *schema, ROOT / "CITATION.cff")
    said = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (said["version"], said["license"]) == (VERSION, "Apache-2.0")
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert [title for title in (work["title"] for work in said["references"]) if title not in readme] == []


def test_changelog_and_install_page_tell_this_version():
    assert re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0] == VERSION
    assert re.findall(r"l2gnet-([\d.]+)-py3-none-any\.whl", (ROOT / "docs/how-to/install.md").read_text()) == [VERSION]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([\w-]+))?\)", page.read_text())
    assert [path for path, _ in links if not (ROOT / path).exists()] == []
    for path, part in links:
        headings = re.findall(r"^#+ (.+)", (ROOT / (path or page.name)).read_text(), re.MULTILINE) if part else []
        assert not part or part in [heading.lower().replace(" ", "-") for heading in headings]
