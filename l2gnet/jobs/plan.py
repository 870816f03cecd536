"""What a job is, checked and named before anything starts; quick to import, so that a mistake is told at once."""

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
        """The executed notebook; it is written last, so where it exists the job has finished."""
        return self.run_dir / self.notebook.name


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
    marked = (parameter for parameter in declared.values() if parameter.help.endswith(SECRET))
    secrets = tuple(parameter.name for parameter in marked if values[parameter.name] != parameter.default)
    return Job(name, notebook, str(profile) if profile else None, values, run_dir, data, secrets)


def _job_name(notebook: Path, profile: str | Path | None, values: Mapping[str, Any], data: str | None) -> str:
    """Notebook, profile and a hash of all that decides the result; where it lies and whether it resumes do not."""
    deciding = {name: value for name, value in values.items() if name not in ("run_dir", "resume")}
    digest = hashlib.sha256(json.dumps([deciding, data], sort_keys=True).encode())
    digest.update(notebook.read_bytes() + code_version().encode())
    return f"{notebook.stem}-{Path(profile).stem if profile else 'custom'}-{digest.hexdigest()[:8]}"


def _unfinished(folder: Path, output: str) -> Path:
    """The folder itself, or NAME-2, NAME-3 and so on: the first where the job has not finished."""
    others = (folder.with_name(f"{folder.name}-{count}") for count in itertools.count(2))
    return next(one for one in itertools.chain([folder], others) if not (one / output).exists())
