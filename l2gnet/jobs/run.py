"""Notebooks as jobs: papermill runs a job that was planned, and its results lie in one folder."""

import contextlib
import logging
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_client.kernelspec import NoSuchKernel
from nbclient.exceptions import CellTimeoutError
from nbconvert import HTMLExporter
from nbformat.reader import NotJSONError
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from l2gnet.files import sole_writer, write_json, write_text
from l2gnet.jobs.plan import Job, plan_job
from l2gnet.jobs.privacy import scrubbed, without
from l2gnet.jobs.provenance import PeakMemory, outcome

_TERMINATED = "terminated by SIGTERM"
_KERNELS = Config(
    AsyncKernelManager={"transport_encryption": "auto"},  # others work on the same cluster node
    NotebookClient={"extra_arguments": ["--log-level=ERROR"]},  # a kernel warns when its worker ends before it
)
_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
_HTML = HTMLExporter()  # one for all runs: it reads its template once


@dataclass(frozen=True)
class JobResult:
    """Where a job's results lie, the error that stopped it, if one did, and whether it had been done before."""

    run_dir: Path
    notebook: Path
    error: str | None = None
    done_before: bool = False
    terminated: bool = False  # the error is that the system asked the job to end


class TerminatedError(BaseException):
    """SIGTERM came: queues send it before they kill."""


def run_notebook(
    notebook: str | Path,
    *,
    profile: str | Path | None = None,
    parameters: Mapping[str, Any] | None = None,
    runs_dir: str | Path = "runs",
    again: bool = False,
    cell_timeout_s: int | None = None,
) -> JobResult:
    """Run a notebook headless, by path or name, with a profile's settings and then the given parameters on top.

    A job that has finished is not run twice unless `again` is set, and then into a folder of its own; one that was
    stopped goes on where it can (its parameter `resume` is set). A cell that takes longer than `cell_timeout_s` fails.

    Raises:
        ConfigError: a name is unknown, a parameter or setting of the wrong type or out of range, or the folder is not
            free. No kernel was started.
        OSError: results cannot be written; what is there is whole.
    """
    job = plan_job(notebook, profile=profile, parameters=parameters, runs_dir=runs_dir, again=again)
    return run_job(job, cell_timeout_s=cell_timeout_s)


def run_job(job: Job, *, quiet: bool = False, cell_timeout_s: int | None = None) -> JobResult:
    """Run a planned job, unless it has finished before.

    Its folder receives the executed notebook, its HTML and `run.json`, beside what the notebook itself writes. A
    notebook that fails is kept as `NAME.failed.ipynb`. What it prints goes to the screen, or to `log.txt` if `quiet`.
    None of these keeps a home path, or the value of a parameter whose help ends in "(secret)".

    Raises:
        ConfigError: the folder holds another finished job, or another process is writing to it.
    """
    done_before = JobResult(job.run_dir, job.output, done_before=True)
    if job.finished:
        return done_before
    values = dict(job.values)
    if "run_dir" in values:
        values["run_dir"] = str(job.run_dir)
    if "resume" in values:
        values["resume"] = values["resume"] or job.run_dir.exists()
    job.run_dir.mkdir(parents=True, exist_ok=True)
    failed = job.output.with_suffix(".failed.ipynb")
    secrets = {name: values[name] for name in job.secrets}
    started = time.time()
    with sole_writer(job.run_dir / ".lock"):
        if job.finished:  # meanwhile, by another process
            return done_before
        with tempfile.TemporaryDirectory() as private:  # what papermill saves holds secrets, also when it is killed
            working = Path(private) / job.notebook.name
            log = contextlib.closing(_Log(job.run_dir / "log.txt", secrets)) if quiet else contextlib.nullcontext()
            with log as said, PeakMemory() as peak:
                error = _execute(job, working, values, said, cell_timeout_s)
            executed = scrub(_executed(job, working, error), secrets)
        terminated, error = error == _TERMINATED, scrubbed(error, secrets)
        if error is None:
            html, _ = _HTML.from_notebook_node(executed)
            write_text(job.output.with_suffix(".html"), html)
            failed.unlink(missing_ok=True)
        write_json(
            job.run_dir / "run.json",
            {
                "job": job.name,
                "notebook": job.notebook.name,
                "profile": scrubbed(job.profile, secrets),
                "parameters": scrubbed(without(values, secrets), secrets),
                **outcome(started=started, error=error, peak_mb=peak.mb, data=job.data_fingerprint),
            },
        )
        kept = failed if error else job.output
        write_text(kept, nbformat.writes(executed) + "\n")  # last: it marks the job as finished
    return JobResult(job.run_dir, kept, error, terminated=terminated)


def scrub(notebook: nbformat.NotebookNode, secrets: Mapping[str, Any]) -> nbformat.NotebookNode:
    """Drop home paths, the values of secret parameters, and widget state and views.

    A viewer's volume would make the file huge, and a progress bar is dead.
    """
    notebook.metadata.pop("widgets", None)
    ran = notebook.metadata.get("papermill", {})
    ran["parameters"] = without(ran.get("parameters", {}), secrets)
    ran.pop("output_path", None)  # a temporary folder
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "data" in output and output.data.pop(_WIDGET_VIEW, None) and set(output.data) <= {"text/plain"}:
                output.data.clear()
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("data") != {}]
        if "injected-parameters" in cell.metadata.get("tags", []):
            for name in secrets:
                cell.source = re.sub(rf"(?m)^{name} = .*$", f'{name} = "[{name}]"', cell.source)
    return nbformat.from_dict(scrubbed(notebook, secrets))


def _executed(job: Job, working: Path, error: str | None) -> nbformat.NotebookNode:
    """What papermill has saved; the notebook as it was, if it was ended before it had saved anything whole."""
    try:
        return nbformat.read(working, as_version=4)
    except (FileNotFoundError, NotJSONError):
        if error is None:
            raise
        return nbformat.read(job.notebook, as_version=4)


class _Log:
    """A file that a quiet job prints to, by whole lines without secrets: a sweep that is stopped kills its workers."""

    def __init__(self, path: Path, secrets: Mapping[str, Any]):
        self._file, self._secrets, self._begun = path.open("a", encoding="utf-8"), secrets, ""

    def write(self, text: str) -> None:
        """Write what is a whole line by now."""
        lines, end, self._begun = (self._begun + text).rpartition("\n")
        self._file.write(scrubbed(lines + end, self._secrets))

    def flush(self) -> None:
        """Let others see it."""
        self._file.flush()

    def close(self) -> None:
        """Write the line that was begun, too."""
        self._file.write(scrubbed(self._begun, self._secrets))
        self._file.close()


def _execute(
    job: Job, working: Path, values: Mapping[str, Any], log: _Log | None, cell_timeout_s: int | None
) -> str | None:
    """Run the notebook, saving as it goes; returns the error that stopped it."""
    logging.getLogger("papermill").setLevel(logging.ERROR)  # it warns of parameters with two equals signs in a line
    try:
        with terminable():
            papermill.execute_notebook(
                job.notebook,
                working,
                dict(values),
                kernel_name="python3",
                language="python",
                stdout_file=sys.stdout if log is None else log,
                progress_bar=log is None,
                request_save_on_cell_execute=True,
                execution_timeout=cell_timeout_s,
                config=_KERNELS,
            )
    except PapermillExecutionError as error:
        return f"{error.ename}: {error.evalue}"
    except (RuntimeError, NoSuchKernel, CellTimeoutError) as error:  # of a kernel that died, or has never lived
        return f"{type(error).__name__}: {error}"
    except TerminatedError:
        return _TERMINATED
    return None


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end what is done within as an error would: kernels and workers are shut down on its way out."""
    if threading.current_thread() is not threading.main_thread():  # as in a worker of a sweep, which Dask ends
        yield
        return

    def terminate(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
        raise TerminatedError

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
