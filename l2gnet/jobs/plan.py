"""What a job is, checked and named before anything starts; quick to import, so that a mistake is told at once."""

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2gnet.checks import exists
from l2gnet.errors import ConfigError
from l2gnet.files import read_json
from l2gnet.jobs.library import find_notebook
from l2gnet.jobs.parameters import checked_values, read_parameters
from l2gnet.jobs.privacy import SECRET
from l2gnet.jobs.provenance import data_fingerprint
from l2gnet.version import code_version


@dataclass(frozen=True)
class Job:
    """A notebook with a checked value for each of its parameters, and the folder that its results go to."""

    name: str
    notebook: Path
    profile: str | None
    values: dict[str, Any]
    run_dir: Path
    data_fingerprint: str | None = None  # of the data that parameters point to
    secrets: tuple[str, ...] = ()  # names of parameters whose given values are not kept

    @property
    def output(self) -> Path:
        """The executed notebook, which is written last."""
        return self.run_dir / self.notebook.name

    @property
    def finished(self) -> bool:
        """Whether it has finished before.

        Raises:
            ConfigError: its folder holds another that has, or the notebook itself.
        """
        if not self.output.exists():
            return False
        record = self.run_dir / "run.json"
        if not record.exists() or read_json(record)["job"] != self.name:
            held = "another finished job" if record.exists() else f"a {self.output.name} that no job has left"
            raise ConfigError(f"run_dir must be free, but {self.run_dir} holds {held}; choose another folder")
        return True


def plan_job(
    notebook: str | Path,
    *,
    profile: str | Path | None = None,
    parameters: Mapping[str, Any] | None = None,
    runs_dir: str | Path = "runs",
    again: bool = False,
) -> Job:
    """Check all that a job is made of, and name it by notebook and profile and a hash of parameters, data and code.

    With `again` it gets a folder of its own, if it has finished in one already.

    Raises:
        ConfigError: a parameter or setting is unknown, of the wrong type or out of range.
    """
    notebook = find_notebook(notebook)
    declared = read_parameters(notebook)
    values = checked_values(notebook, declared, profile=profile, parameters=parameters)
    data = data_fingerprint(values)
    name = _job_name(notebook, profile, values, data)
    run_dir = Path(values.get("run_dir") or Path(runs_dir) / name)
    run_dir = _unfinished(run_dir, notebook.name) if again else run_dir
    _require_apart(values, run_dir)
    marked = (parameter for parameter in declared.values() if parameter.help.endswith(SECRET))
    secrets = tuple(parameter.name for parameter in marked if values[parameter.name] != parameter.default)
    return Job(name, notebook, str(profile) if profile else None, values, run_dir, data, secrets)


def _job_name(notebook: Path, profile: str | Path | None, values: Mapping[str, Any], data: str | None) -> str:
    """Notebook, profile and a hash of all that decides the result; where it lies and whether it resumes do not."""
    deciding = {name: value for name, value in values.items() if name not in ("run_dir", "resume")}
    digest = hashlib.sha256(json.dumps([deciding, data], sort_keys=True).encode())
    digest.update(notebook.read_bytes() + code_version().encode())
    return f"{notebook.stem}-{Path(profile).stem if profile else 'custom'}-{digest.hexdigest()[:8]}"


def _require_apart(values: Mapping[str, Any], run_dir: Path) -> None:
    """Refuse data that hold what a job writes: with each start they, and so its name, would be others."""
    written = [run_dir, *([Path(values["cache_dir"])] if values.get("cache_dir") else [])]
    for name in ("data_dir", "scan"):
        held = values.get(name)
        if not (isinstance(held, str) and held and exists(held)):
            continue
        for folder in written:
            if folder.resolve().is_relative_to(Path(held).resolve()):
                rule = f"{name} must hold nothing that a job writes, by which it would be another with each start"
                raise ConfigError(f"{rule}, got {held!r}, where {folder} lies; name another runs_dir or cache_dir")


def _unfinished(folder: Path, output: str) -> Path:
    """The folder itself, or NAME-2, NAME-3 and so on: the first where the job has not finished."""
    others = (folder.with_name(f"{folder.name}-{count}") for count in itertools.count(2))
    return next(one for one in itertools.chain([folder], others) if not (one / output).exists())
