"""What is installed, what this machine has, what is missing, and what to do about it."""

import importlib.util
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

DISK_GIB, MEMORY_GIB = 2.0, 2.0  # a run folder with its cache, and a training on slices of ACDC
_EXTRAS = {"jobs": "notebooks as jobs", "lab": "notebooks in a browser", "dicom": "DICOM", "export": "ONNX"}
_EXTENSIONS = {  # of JupyterLab, by the package that brings each
    "ipywidgets": "@jupyter-widgets/jupyterlab-manager",
    "anywidget": "anywidget",
    "plotly": "jupyterlab-plotly",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `remedy` says what to do; without `needed`, only if you want what it is for."""

    what: str
    found: str
    remedy: str = ""
    needed: bool = True

    @property
    def wrong(self) -> bool:
        """Whether something that is needed is missing."""
        return self.needed and self.remedy != ""

    def as_row(self) -> dict[str, str]:
        """For `text_table`."""
        state = "MISSING" if self.wrong else "optional" if self.remedy else "ok"
        return {"": state, "what": self.what, "found": self.found, "what to do": self.remedy}


def examine(folder: str | Path = ".") -> list[Finding]:
    """Look at Python, packages, GPU, JupyterLab, and the space in a folder and in memory."""
    return [
        _python(),
        *_packages(),
        _gpu(),
        *_lab(),
        _space("free disk", shutil.disk_usage(folder).free / 2**30, DISK_GIB, "free space, or work in another folder"),
        _space("free memory", _free_memory_gib(), MEMORY_GIB, "end other programs, or use smaller batches"),
    ]


def missing_extensions(folders: Sequence[str | Path]) -> list[str]:
    """The packages whose extension of JupyterLab lies in none of its folders."""
    return [
        package
        for package, extension in _EXTENSIONS.items()
        if not any((Path(folder) / extension / "package.json").is_file() for folder in folders)
    ]


def _python() -> Finding:
    running = ".".join(map(str, sys.version_info[:3]))
    wanted = metadata("l2gnet")["Requires-Python"]
    fits = SpecifierSet(wanted).contains(running)
    return Finding("Python", running, "" if fits else f"make an environment with Python {wanted}")


def _packages() -> Iterator[Finding]:
    """Every package of the library itself, and of each extra what is missing."""
    needs = [Requirement(line) for line in requires("l2gnet") or ()]
    for need in needs:
        if need.marker is None:
            found = _version(need)
            yield Finding(need.name, found, "" if _fits(need, found) else f"pip install '{need.name}{need.specifier}'")
    for extra, purpose in _EXTRAS.items():
        of_extra = [
            need for need in needs if need.marker and need.marker.evaluate({"extra": extra}) and not need.extras
        ]
        if not of_extra:
            continue  # younger than what is installed
        lacking = [need.name for need in of_extra if not _fits(need, _version(need))]
        remedy = f"pip install 'l2gnet[{extra}]'" if lacking else ""
        yield Finding(f"{purpose} ({extra})", f"without {', '.join(lacking)}" if lacking else "all", remedy, False)


def _gpu() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("GPU", "unknown without torch")
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        return Finding("GPU", ", ".join(f"{gpu.name} ({gpu.total_memory / 2**30:.0f} GiB)" for gpu in names))
    if Path("/dev/nvidia0").exists():
        return Finding("GPU", "one that torch does not see", "install a driver and a build of torch for the same CUDA")
    return Finding("GPU", "none: the CPU does all")


def _lab() -> Iterator[Finding]:
    if importlib.util.find_spec("jupyterlab") is None:
        return  # a machine for jobs; the extra lab says what to do
    from jupyter_core.paths import jupyter_path

    missing = missing_extensions(jupyter_path("labextensions"))
    for package in _EXTENSIONS:
        found = "missing" if package in missing else "there"
        remedy = f"pip install --force-reinstall {package}, then reload the page" if package in missing else ""
        yield Finding(f"{package} in JupyterLab", found, remedy)


def _space(what: str, gib: float, wanted_gib: float, remedy: str) -> Finding:
    return Finding(what, f"{gib:.1f} GiB", "" if gib >= wanted_gib else f"{remedy}: {wanted_gib:.0f} GiB are needed")


def _free_memory_gib() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 2**20


def _version(need: Requirement) -> str:
    try:
        return version(need.name)
    except PackageNotFoundError:
        return "nothing"


def _fits(need: Requirement, found: str) -> bool:
    return found != "nothing" and need.specifier.contains(found, prereleases=True)
