import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from l2gnet.cli.examination import Finding, examine, missing_extensions

ROOT = Path(__file__).parents[2]


def doctor(cwd, *more_paths):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (*more_paths, ROOT)))}
    line = [sys.executable, "-m", "l2gnet", "doctor"]
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def pretend(folder, name, number):
    """Install a package of this version as far as its metadata go."""
    (folder / f"{name}-{number}.dist-info").mkdir(parents=True)
    (folder / f"{name}-{number}.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: {number}\n")


def test_all_is_well_where_the_tests_run(tmp_path):
    found = {finding.what: finding for finding in examine(tmp_path)}
    assert [finding for finding in found.values() if finding.remedy] == []
    assert found["torch"].found == version("torch")
    assert found["GPU"].found
    assert {"ipywidgets in JupyterLab", "anywidget in JupyterLab", "plotly in JupyterLab"} <= found.keys()
    assert found["notebooks as jobs (jobs)"].found == "all"
    assert float(found["free disk"].found.removesuffix(" GiB")) > 0
    assert float(found["free memory"].found.removesuffix(" GiB")) > 0


def test_what_is_too_old_is_said_with_what_to_do(tmp_path):
    pretend(tmp_path / "old", "nibabel", "1.0")
    pretend(tmp_path / "old", "pandas", "0.1")
    result = doctor(tmp_path, tmp_path / "old")
    assert result.returncode == 1
    assert re.search(r"^MISSING +nibabel +1\.0 +pip install 'nibabel>=5\.4'$", result.stdout, re.MULTILINE)
    assert re.search(
        r"^optional +notebooks as jobs \(jobs\) +without pandas +pip install 'l2gnet\[jobs\]'$",
        result.stdout,
        re.MULTILINE,
    )
    assert "1 thing that is needed is missing" in result.stderr


def test_the_command_says_that_all_is_well(tmp_path):
    result = doctor(tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(r"^ok +torch +", result.stdout, re.MULTILINE)


def test_extensions_of_jupyterlab_are_looked_for_in_all_of_its_folders(tmp_path):
    for folder, extension in (("a", "anywidget"), ("b", "@jupyter-widgets/jupyterlab-manager")):
        (tmp_path / folder / extension).mkdir(parents=True)
        (tmp_path / folder / extension / "package.json").write_text("{}")
    assert missing_extensions([tmp_path / "a", tmp_path / "b"]) == ["plotly"]
    assert missing_extensions([tmp_path / "b", tmp_path / "none"]) == ["anywidget", "plotly"]


def test_want_of_space_is_a_finding(tmp_path, monkeypatch):
    monkeypatch.setattr("l2gnet.cli.examination.DISK_GIB", 1e9)
    (disk,) = [finding for finding in examine(tmp_path) if finding.what == "free disk"]
    assert disk.wrong
    assert disk.remedy.startswith("free space, or work in another folder")


@pytest.mark.parametrize(("needed", "state"), [(True, "MISSING"), (False, "optional")])
def test_only_what_is_needed_is_wrong(needed, state):
    finding = Finding("a thing", "nothing", "get it", needed)
    assert finding.wrong == needed
    assert finding.as_row()[""] == state
