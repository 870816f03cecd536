"""Where a result comes from: the data, the code, the packages, the machine, and the memory that it took."""

import fnmatch
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import psutil
from packaging.requirements import Requirement

from l2gnet.checks import exists
from l2gnet.errors import BusyError
from l2gnet.evaluation.grids import scores_folder
from l2gnet.files import content_hash, read_json, walk_links, write_json
from l2gnet.jobs.library import is_file
from l2gnet.jobs.privacy import scrubbed, without
from l2gnet.models.card import checkpoint_file, shipped_models
from l2gnet.version import code_version

_FIRST_LOOK_S, _LOOK_EVERY_S = 0.25, 1.0  # often while a process is young, as it may be short
# Parameters that may name a folder to read, and what of it counts; others may be folders to write to.
_READ_FROM = {
    "data_dir": ("[!.]*",),
    "scan": ("[!.]*",),
    "runs_dir": ("scores.csv", "config.json"),
    "checkpoint": ("model.safetensors",),
}


def provenance() -> dict[str, Any]:
    """Python, packages, code, commit and machine; nothing of it names the machine or its user."""
    return _provenance(code_version())  # which may have been edited since the last run of a sweep


@functools.cache
def _provenance(code: str) -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "packages": _packages(),
        "code": code,
        "git": _git_state(Path(__file__).parent),
        "system": platform.platform(),
        "hardware": {
            "cpu": _cpu(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "gpus": _gpus(),
        },
    }


def data_fingerprint(values: Mapping[str, Any]) -> str | None:
    """A hash of what the parameters of a job point to; None where they point to nothing.

    That is every file, all files but hidden ones below the folders `data_dir` (its hidden folders left out) and
    `scan`, settings and scores of the runs below `runs_dir`, and the model of a run folder `checkpoint`, be they of the
    library, behind links too. Names and contents count, places and dates do not.
    """
    digest = hashlib.sha256()
    found = False
    for name, value in sorted(values.items()):
        for text in value if isinstance(value, list) else [value]:
            if not (isinstance(text, str) and text):
                continue
            path = _of_the_library(name, text)
            below = _files_below(path, name) if name in _READ_FROM and exists(path) else ()
            for file in [path] if is_file(path) else sorted(below):
                found = True
                digest.update(f"{name} {file.relative_to(path)} {content_hash(file)}\n".encode())
    return digest.hexdigest()[:16] if found else None


def _of_the_library(name: str, text: str) -> Path:
    """The path that a parameter means, where it may be the name of what comes along."""
    if name == "checkpoint" and text in shipped_models():
        return checkpoint_file(text)
    return scores_folder(text) if name == "runs_dir" else Path(text)


def _files_below(folder: Path, name: str) -> Iterator[Path]:
    """The files that count below a folder which the parameter of this name points to, behind links too."""
    for here, folders, files in walk_links(folder):
        if name == "data_dir":  # where no scan is looked for in .ipynb_checkpoints or .Trash-1000
            folders[:] = [each for each in folders if not each.startswith(".")]
        named = [file for form in _READ_FROM[name] for file in fnmatch.filter(files, form)]
        yield from (here / file for file in named if (here / file).is_file())


def outcome(*, started: float, error: str | None, peak_mb: float, data: str | None) -> dict[str, Any]:
    """What `run.json` says of how a run went, from `started` (seconds since 1970) on, and of where it comes from."""
    return {
        "status": "failed" if error else "finished",
        "error": error,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 1),
        "peak_memory_mb": round(peak_mb),
        "data_fingerprint": data,
        **provenance(),
    }


@contextmanager
def recorded(run_dir: Path, command: str, parameters: Mapping[str, Any], secrets: Sequence[str]) -> Iterator[None]:
    """Leave `run.json` in the folder of a command, finished or failed, as a notebook's job does.

    It keeps no home path, and no value of the parameters that are `secrets`. What has finished stays so.
    """
    started, data = time.time(), data_fingerprint(parameters)
    hidden = {name: parameters[name] for name in secrets if parameters[name]}
    told = {"job": run_dir.name, "notebook": None, "command": command, "profile": None}

    def write(error: str | None) -> None:
        how = outcome(started=started, error=scrubbed(error, hidden), peak_mb=peak.mb, data=data)
        write_json(run_dir / "run.json", told | {"parameters": scrubbed(without(parameters, hidden), hidden)} | how)

    with PeakMemory(with_self=True) as peak:
        try:
            yield
        except BusyError:
            raise
        except Exception as error:
            if run_dir.exists() and not _finished(run_dir):
                write(f"{type(error).__name__}: {error}")
            raise
    write(None)


def _finished(run_dir: Path) -> bool:
    record = run_dir / "run.json"
    return record.exists() and bool(read_json(record)["status"] == "finished")


class PeakMemory:
    """The most memory, in MB, that processes hold together which this one starts while `with` lasts, and theirs.

    Args:
        with_self: count this process, too.
    """

    def __init__(self, *, with_self: bool = False):
        self._with_self = with_self

    def __enter__(self) -> "PeakMemory":
        """Start looking."""
        self.mb = 0.0
        self._before = set(psutil.Process().children())
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop looking."""
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        own, pause_s = psutil.Process(), _FIRST_LOOK_S
        known: set[psutil.Process] = set()
        while not self._ended.wait(pause_s):
            pause_s = min(2 * pause_s, _LOOK_EVERY_S)
            started = {process for child in set(own.children()) - self._before for process in _family(child)}
            held = sum(map(_held, started & known))  # at first sight it may be a copy of what starts it
            known = started
            if self._with_self:
                held += own.memory_info().rss
            self.mb = max(self.mb, held / 1e6)


def _family(process: psutil.Process) -> list[psutil.Process]:
    """A process and all that it has started."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:  # it has ended meanwhile
        return []


def _held(process: psutil.Process) -> int:
    """What a process holds, in bytes."""
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def _packages() -> dict[str, str]:
    found = {}
    for name in sorted({Requirement(line).name for line in requires("l2gnet") or ()} - {"l2gnet"}, key=str.lower):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _git_state(package: Path) -> dict[str, Any] | None:
    """The commit of the checkout that the package runs from, and whether files differ from it; None elsewhere."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", package, *arguments], check=True, capture_output=True, text=True).stdout

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        return {"commit": git("rev-parse", "HEAD").strip(), "dirty": bool(git("status", "--porcelain").strip())}
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _gpus() -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    asked = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    answer = subprocess.run(asked, capture_output=True, text=True)
    return [] if answer.returncode else answer.stdout.splitlines()  # without a driver it prints why
