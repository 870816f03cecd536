"""Sweep files: which runs, and where they go; checked before anything starts, and quick to import.

A sweep file is YAML:

    notebook: ../01_train.ipynb  # from this file; or a name, as 01_train
    profile: acdc-cpu  # or a file, from this one or from the current folder
    parameters: {epochs: 40}  # the same for every run
    grid:  # every combination of these
      model: [unet, l2gnet]
      seed: [0, 1, 2]
      codes: {few: {codes: 16, code_dim: 32}, many: {codes: 512}}  # or named groups of parameters
    retries: 1  # how often a run that failed is tried again
    workers: {count: 2}  # as in `Workers`
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from l2gnet.checks import nearest
from l2gnet.errors import ConfigError
from l2gnet.jobs.library import find_notebook, find_sweep, is_file
from l2gnet.jobs.plain_yaml import read_yaml
from l2gnet.jobs.plan import Job, plan_job

Kind = Literal["local", "slurm", "pbs", "lsf", "sge", "oar", "htcondor", "kubernetes"]
_KEYS = ("notebook", "profile", "parameters", "grid", "retries", "workers")
_WORKERS = {"kind": str, "count": int, "threads": int, "options": dict}
_MOST_RUNS = 10_000


@dataclass(frozen=True)
class Workers:
    """How many runs go on at once, and where; a worker takes one run at a time."""

    kind: Kind = "local"
    count: int = 0  # runs at once; 0 means one a GPU, or one a core where there is no GPU (for a queue: give it)
    threads: int = 0  # cores of a run; 0 means an equal share of this machine's (for a queue: 1)
    options: Mapping[str, Any] = field(default_factory=dict)  # of the queue's class in dask-jobqueue or dask-kubernetes

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigError(f"workers: kind must be one of {', '.join(get_args(Kind))}, got {self.kind!r}")
        for name in ("count", "threads"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= _MOST_RUNS:
                raise ConfigError(f"workers: {name} must be a whole number, 0 or more, to {_MOST_RUNS}, got {value!r}")
        if self.kind == "local" and self.options:
            raise ConfigError(f"workers: options are for queues, but kind is local; got {', '.join(self.options)}")
        if self.kind != "local" and self.count == 0:
            raise ConfigError(f"workers: count must be given for kind {self.kind}: how many jobs at once?")


@dataclass
class Run:
    """One run of a sweep: its place on each axis of the grid, its job, and how it stands."""

    place: dict[str, str]
    job: Job
    state: str = "waiting"  # waiting, running, finished, failed, or done before
    starts: int = 0
    error: str = ""


@dataclass(frozen=True)
class Sweep:
    """A grid of checked runs, and how they are to be run."""

    runs: tuple[Run, ...]
    retries: int
    workers: Workers = field(default_factory=Workers)


def read_sweep(path: str | Path, *, parameters: Mapping[str, Any], runs_dir: str | Path = "runs") -> Sweep:
    """Read a sweep file, by path or name, and check every run of its grid, with the given parameters on top.

    Raises:
        ConfigError: the file is not as it should be, or a run has an unknown or wrong parameter. Nothing was started.
    """
    path = find_sweep(path)
    content = _read(path)
    notebook = find_notebook(content["notebook"], path.parent)
    shared = {"profile": content.get("profile")} | content.get("parameters", {})
    runs = []
    axes = {name: _axis(path, name, axis) for name, axis in content["grid"].items()}
    _require_decided_once(path, axes)
    for combination in itertools.product(*axes.values()):
        values = {**shared, **{key: value for _, given in combination for key, value in given.items()}, **parameters}
        profile = values.pop("profile")
        if not isinstance(profile, str | None):  # of the file, or of a place in the grid
            raise ConfigError(f"{path}: profile must be a name, got {_short(profile)}")
        if profile and "profile" not in parameters and is_file(path.parent / profile):
            profile = path.parent / profile
        try:
            job = plan_job(notebook, profile=profile, parameters=values, runs_dir=Path(runs_dir) / path.stem)
            state = "done before" if job.finished else "waiting"
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
        # Of a list of values, that which the run has: it may have been given another.
        place = {
            name: str(job.values.get(name, label)) if isinstance(content["grid"][name], list) else label
            for name, (label, _) in zip(axes, combination, strict=True)
        }
        runs.append(Run(place, job, state=state))
    folders, names = {run.job.run_dir for run in runs}, {run.job.name for run in runs}
    twice = len(runs) - min(len(folders), len(names))  # a run_dir of its own makes no other job
    if twice:
        raise ConfigError(f"{path}: every run must differ, but {twice} would be the same as others; mend the grid")
    return Sweep(tuple(runs), content.get("retries", 0), Workers(**content.get("workers", {})))


def _read(path: Path) -> dict[str, Any]:
    content = read_yaml(path, "a sweep")
    if not {"notebook", "grid"} <= set(content) <= set(_KEYS):
        got = ", ".join(content)[:200]
        raise ConfigError(f"{path}: a sweep has a notebook, a grid and maybe {', '.join(_KEYS[1:])}; got {got}")
    for key in ("parameters", "grid", "workers"):
        if not _named(content.get(key, {})):
            rule = f"{key} must be `name: value` lines, names like no, on and 1 in quotes"
            raise ConfigError(f"{path}: {rule}, got {_short(content[key])}")
    if not isinstance(content["notebook"], str):
        raise ConfigError(f"{path}: notebook must be a name, got {_short(content['notebook'])}")
    if type(content.get("retries", 0)) is not int or content.get("retries", 0) < 0:
        raise ConfigError(f"{path}: retries must be a whole number, 0 or more, got {_short(content['retries'])}")
    unknown = sorted(set(content.get("workers", {})) - _WORKERS.keys())
    if unknown:
        raise ConfigError(f"{path}: workers has no setting {unknown[0]!r}{nearest(unknown[0], _WORKERS)}")
    for key, kind in _WORKERS.items():
        value = content.get("workers", {}).get(key, kind())
        if type(value) is not kind:
            raise ConfigError(f"{path}: workers: {key} must be of type {kind.__name__}, got {_short(value)}")
    size = math.prod(len(axis) for axis in content["grid"].values() if isinstance(axis, list | dict))
    if size > _MOST_RUNS:
        raise ConfigError(f"{path}: a grid may have {_MOST_RUNS} runs, got {size}; split it")
    return content


def _named(value: object) -> bool:
    """Whether these are `name: value` lines: YAML reads some words as truth values and numbers."""
    return isinstance(value, dict) and all(isinstance(name, str) for name in value)


def _short(value: object) -> str:
    return repr(value)[:200]


def _require_decided_once(path: Path, axes: Mapping[str, list[tuple[str, dict[str, Any]]]]) -> None:
    """Refuse two axes that give one parameter: a run would not be what its place says."""
    given = {axis: {name for _, values in places for name in values} for axis, places in axes.items()}
    for one, other in itertools.combinations(given, 2):
        if twice := sorted(given[one] & given[other]):
            raise ConfigError(f"{path}: each parameter must be given by one axis, got {twice[0]} by {one} and {other}")


def _axis(path: Path, name: str, axis: Any) -> list[tuple[str, dict[str, Any]]]:
    """The places of one axis: a label, and the parameters that it stands for."""
    match axis:
        case list() if axis:
            return [(str(value), {name: value}) for value in axis]
        case dict() if axis and all(map(_named, axis.values())):
            return [(str(label), given) for label, given in axis.items()]
    raise ConfigError(
        f"{path}: an axis of the grid must be a list of values, or names with the parameters that each stands for; "
        f"got {name}: {_short(axis)}"
    )
