"""pyproject.toml, constraints.txt and environment.yml say the same, and it is what runs here."""

import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from rattler import MatchSpec
from rattler import Version as CondaVersion

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = {
    canonicalize_name(pin.name): next(iter(pin.specifier)).version
    for pin in map(Requirement, (ROOT / "constraints.txt").read_text().splitlines()[1:])
}
EXTRAS = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
REQUIREMENTS = [r for r in map(Requirement, PROJECT["dependencies"] + EXTRAS) if r.name != "l2gnet"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.name)
def test_every_dependency_is_pinned_within_its_range(requirement):
    name = canonicalize_name(requirement.name)
    assert name in PINS, "make a fresh environment and write constraints.txt anew"
    assert Version(PINS[name]) in requirement.specifier


def test_what_is_pinned_is_what_runs():
    running = {name: version(name).split("+")[0] for name in PINS}  # torch has a suffix for its build: +cpu
    assert running == PINS


def test_the_safe_torch_is_pinned():
    assert PINS["torch"] == "2.13.0"
    assert "2.9.1" not in next(r for r in REQUIREMENTS if r.name == "torch").specifier


def test_conda_takes_the_same_pythons():
    specs = [MatchSpec(spec) for spec in CONDA["dependencies"] if isinstance(spec, str)]
    assert [spec.name.normalized for spec in specs] == ["python", "pip"]
    declared = SpecifierSet(PROJECT["requires-python"])
    for python in ("3.10.14", "3.11.0", "3.12.7", "3.13.5", "3.14.0"):
        bounds = [part.strip() for part in str(specs[0].version).split(",")]
        assert all(_holds(CondaVersion(python), bound) for bound in bounds) == (python in declared)


def _holds(python: CondaVersion, bound: str) -> bool:
    return python >= CondaVersion(bound[2:]) if bound.startswith(">=") else python < CondaVersion(bound[1:])


@pytest.mark.slow
def test_the_pip_part_of_the_conda_environment_installs_what_runs_here():
    lines = next(part["pip"] for part in CONDA["dependencies"] if isinstance(part, dict))
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--disable-pip-version-check", "--requirement"]
    # As conda does: these lines in a file beside environment.yml, and pip run in that folder.
    with tempfile.NamedTemporaryFile("w", dir=ROOT, prefix="condaenv.", suffix=".requirements.txt") as file:
        file.write("\n".join(lines))
        file.flush()
        result = subprocess.run([*command, file.name], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert [line for line in result.stdout.splitlines() if line.startswith("Would install")] == [
        f"Would install l2gnet-{PROJECT['version']}"
    ]
