"""Where a result comes from: the data, the code, the packages, the machine, and the memory that it took."""

import functools
import hashlib
import os
import platform
import shutil
import subprocess
import threading
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import psutil
from packaging.requirements import Requirement

from l2gnet.files import content_hash
from l2gnet.version import code_version

_FIRST_LOOK_S, _LOOK_EVERY_S = 0.25, 1.0  # often while a process is young, as it may be short
# Parameters that may name a folder to read, and what of it counts; others may be folders to write to.
_READ_FROM = {"data_dir": "*", "scan": "*", "runs_dir": "scores.csv", "checkpoint": "model.safetensors"}


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

    That is every file, all files below the folders `data_dir` and `scan`, the scores of the runs below `runs_dir`, and
    the model of a run folder `checkpoint`. Names and contents count, places and dates do not.
    """
    digest = hashlib.sha256()
    found = False
    for name, value in sorted(values.items()):
        for text in value if isinstance(value, list) else [value]:
            if not (isinstance(text, str) and text):
                continue
            path = Path(text)
            below = path.rglob(_READ_FROM[name]) if name in _READ_FROM else ()
            for file in [path] if path.is_file() else sorted(file for file in below if file.is_file()):
                found = True
                digest.update(f"{name} {file.relative_to(path)} {content_hash(file)}\n".encode())
    return digest.hexdigest()[:16] if found else None


class PeakMemory:
    """The most memory, in MB, that processes hold together which this one starts while `with` lasts, and theirs."""

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
        while not self._ended.wait(pause_s):
            pause_s = min(2 * pause_s, _LOOK_EVERY_S)
            started = set(own.children()) - self._before
            self.mb = max(self.mb, sum(map(_held, started)) / 1e6)


def _held(process: psutil.Process) -> int:
    """What a process and all that it has started hold, in bytes."""
    try:
        return process.memory_info().rss + sum(map(_held, process.children()))
    except psutil.Error:  # it has ended meanwhile
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
    return subprocess.run(asked, capture_output=True, text=True).stdout.splitlines()
