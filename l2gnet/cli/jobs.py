"""`l2gnet run`, `sweep`, `report` and `app`: notebooks as jobs, as grids of jobs, as one page, and as web pages."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from l2gnet.checks import MOST, require

if TYPE_CHECKING:
    from collections.abc import Mapping

    from l2gnet.jobs.parameters import Parameter
    from l2gnet.jobs.plan import Job

_Parameters = Annotated[tyro.conf.UseAppendAction[tuple[tuple[str, str], ...]], tyro.conf.arg(aliases=["-p"])]


def run(
    notebook: Annotated[Path, tyro.conf.Positional],
    profile: str | None = None,
    parameter: _Parameters = (),
    runs_dir: Path = Path("runs"),
    again: bool = False,
    execution_timeout: int | None = None,
    inspect: bool = False,
    dry_run: bool = False,
) -> None:
    """Run a notebook headless, as a reproducible job.

    Args:
        notebook: The notebook to run: its path, or its name, such as 01_train.
        profile: Settings: the name of a file in profiles/ beside the notebook, or the path of a YAML file.
        parameter: A parameter's name and value, on top of the profile; may be given many times.
        runs_dir: Folder that gets the run folder.
        again: Run even if the same job has finished before, into a folder of its own.
        execution_timeout: Seconds that a cell may take before the job fails; no limit if not given.
        inspect: Run nothing: list the notebook's parameters with types, values and what they are.
        dry_run: Run nothing: say what would run, and where.
    """
    fits = execution_timeout is None or 1 <= execution_timeout <= MOST
    require(fits, "execution_timeout", f"from 1 to {MOST} seconds", execution_timeout)
    from l2gnet.jobs.plan import plan_job

    job = plan_job(notebook, profile=profile, parameters=dict(parameter), runs_dir=runs_dir, again=again)
    if inspect or dry_run:
        from l2gnet.jobs.parameters import read_parameters

        declared = read_parameters(job.notebook)
        print("\n\n".join([_parameters_of(job, declared)] * inspect + [_plan_of(job, declared)] * dry_run))
        return
    from l2gnet.jobs.run import run_job

    result = run_job(job, cell_timeout_s=execution_timeout)
    print("\nthis job has finished before; --again runs it anew" if result.done_before else "")
    print(f"run folder: {result.run_dir}")
    for file in sorted(result.run_dir.glob("[!.]*")):
        print(f"  {file.name}")
    if result.error:
        print(f"l2gnet: the notebook failed with {result.error}; see {result.notebook}", file=sys.stderr)
        sys.exit(143 if result.terminated else 1)


def _parameters_of(job: "Job", declared: "Mapping[str, Parameter]") -> str:
    """A table of the parameters of a job's notebook, with the values that the job gives them."""
    from l2gnet.tables import text_table

    rows = [
        {"parameter": one.name, "type": one.type, "value": repr(job.values[one.name]), "what it is": one.help}
        for one in declared.values()
    ]
    return text_table(rows) if rows else f"{job.notebook} has no parameters"


def _plan_of(job: "Job", declared: "Mapping[str, Parameter]") -> str:
    """Which notebook would run, in which folder, and with what that is not its default."""
    changed = [f"  {name} = {value!r}" for name, value in job.values.items() if value != declared[name].default]
    state = "has finished before, and would not run again" if job.finished else "would run"
    return "\n".join([f"{job.notebook} {state}, in {job.run_dir}", *(changed or ["  with its defaults"])])


def sweep(
    file: Annotated[Path, tyro.conf.Positional],
    parameter: _Parameters = (),
    runs_dir: Path = Path("runs"),
) -> None:
    """Run a grid of notebook runs side by side, on this machine or a cluster; stop it and start it as you like.

    Args:
        file: A YAML file that says which notebook, which grid, and where: its path, or its name, such as compare-acdc.
        parameter: A parameter's name and value for every run, on top of the file's; may be given many times.
        runs_dir: Folder that gets a folder named after the file, with a run folder each.
    """
    from l2gnet.jobs.sweep_file import read_sweep

    plan = read_sweep(file, parameters=dict(parameter), runs_dir=runs_dir)
    from l2gnet.jobs.run import TerminatedError, terminable
    from l2gnet.jobs.sweep import LiveTable, run_sweep

    try:
        with terminable():
            run_sweep(plan, show=LiveTable())
    except (KeyboardInterrupt, TerminatedError) as stop:
        print("\nstopped; the same command goes on with it", file=sys.stderr)
        sys.exit(130 if isinstance(stop, KeyboardInterrupt) else 143)
    print(f"run folders: {runs_dir / file.stem}")
    if any(run.state == "failed" for run in plan.runs):
        sys.exit(1)


def report(run_dirs: Annotated[tuple[Path, ...], tyro.conf.Positional], data_dir: str = "", author: str = "") -> None:
    """Make one page of a training to send, report.html: scores, curves, cases that still scroll; or compare several.

    Of a run that trained nothing it is the notebook, without code.

    Args:
        run_dirs: Run folders, or folders of them, as a sweep makes.
        data_dir: Folder of the scans that the run was trained on, to show cases; phantoms need none.
        author: Who is named below the title.
    """
    from l2gnet.jobs.report import write_report

    require(len(run_dirs) > 0, "report", "given a run folder", "none")
    print(write_report(*run_dirs, data_dir=data_dir, author=author))


def serve(
    notebooks: Annotated[tuple[Path, ...], tyro.conf.Positional] = (),
    parameter: _Parameters = (),
    model: str = "",
    port: int = 8866,
    browser: bool = False,
) -> None:
    """Serve pages for people without notebooks, to browsers on this machine: segment a scan, and the workbench.

    Args:
        notebooks: Notebooks to serve as pages instead, without code, by path or name; each visitor waits for a kernel.
        parameter: A parameter's name and value, for every notebook that has it; may be given many times.
        model: A checkpoint for the pages, in the place of the models that come along.
        port: Where the pages are served; the command prints their whole address.
        browser: Open a browser.
    """
    if notebooks or parameter:
        rule = "left out where notebooks are served, whose parameter checkpoint names one"
        require(not model, "model", rule, model)
        require(not browser, "browser", "left out where notebooks are served", browser)
        from l2gnet.jobs.library import PAGES
        from l2gnet.jobs.pages import serve_pages

        serve_pages(notebooks or PAGES, dict(parameter), port=port)
        return
    if model:
        from l2gnet.models.card import read_card

        read_card(model)
    from l2gnet.jobs.live import serve_live
    from l2gnet.jobs.live_pages import app_pages

    serve_live(app_pages(model), "L2GNet", port=port, browser=browser)
