"""Sweeps: a grid of notebook runs, side by side, each in its own folder, which can be stopped and go on."""

import contextlib
import os
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from distributed import Client, Future, get_worker

from l2gnet.errors import BusyError
from l2gnet.files import read_json
from l2gnet.jobs.cluster import keep_workers, open_cluster, runs_at_once, threads_of_a_run
from l2gnet.jobs.plan import Job
from l2gnet.jobs.run import run_job
from l2gnet.jobs.sweep_file import Run, Sweep
from l2gnet.tables import read_rows, text_table

_TOPIC = "l2gnet-sweep"
_LOOK_AGAIN_S = 1.0
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def run_sweep(sweep: Sweep, *, show: Callable[[Sequence[Run]], None], every_s: float = 2.0) -> None:
    """Run what has not finished yet; `show` is called with all runs every few seconds, and at the end.

    A run that fails is tried again as the sweep says, and takes no other with it; the run of a worker that dies goes
    on at another. When this function is interrupted, the runs under way stop, and the same sweep goes on with them.
    """
    waiting = {run.job.name: run for run in sweep.runs if run.state != "done before"}
    if waiting:
        threads = threads_of_a_run(sweep.workers, len(sweep.runs))  # as many when it goes on, for the same rounding
        with open_cluster(sweep.workers, len(waiting)) as cluster, Client(cluster) as client:
            client.subscribe_topic(_TOPIC, lambda event: _started(waiting[event[1]["job"]]))
            # The first comes first, also again: the run of a worker that died is not put behind all others.
            futures = {
                name: client.submit(
                    _run_on_worker, run.job, threads, str(Path.cwd()), key=name, pure=False,
                    retries=sweep.retries, priority=-number,
                )
                for number, (name, run) in enumerate(waiting.items())
            }  # fmt: skip
            # Not by distributed.wait: each time it runs out it keeps all futures alive, until garbage is collected.
            news = threading.Event()
            _tell(news, futures.values())
            while futures:
                show(sweep.runs)
                keep_workers(cluster, runs_at_once(sweep.workers, len(futures)))
                news.wait(every_s)
                news.clear()
                # A future that is let go is not asked for again when the worker that held its result dies.
                futures = {name: future for name, future in futures.items() if not _settled(waiting[name], future)}
    show(sweep.runs)


def run_table(runs: Sequence[Run]) -> list[dict[str, str]]:
    """One row a run: its place in the grid, how it stands, and how far it has come."""
    return [{**run.place, "state": run.state, "starts": str(run.starts), "progress": _progress(run)} for run in runs]


class LiveTable:
    """Show a sweep on a terminal by drawing over the last picture; elsewhere write a line for each change."""

    def __init__(self) -> None:
        self.height = 0
        self.states: list[str] = []

    def __call__(self, runs: Sequence[Run]) -> None:
        """Show how the runs stand now."""
        counts = Counter(run.state for run in runs)
        summary = f"{len(runs)} runs: " + ", ".join(f"{count} {state}" for state, count in counts.items())
        rows = run_table(runs)
        if sys.stdout.isatty():
            self._draw(summary, rows)
        else:
            states = [f"{run.state} {run.starts}" for run in runs]
            before = self.states or [""] * len(runs)
            changed = [row for row, old, new in zip(rows, before, states, strict=True) if old != new]
            if changed:
                sys.stdout.write(f"{summary}\n" + "".join(f"  {'  '.join(row.values())}\n" for row in changed))
            self.states = states
        sys.stdout.flush()

    def _draw(self, summary: str, rows: list[dict[str, str]]) -> None:
        columns, height = shutil.get_terminal_size()
        if len(rows) + 2 >= height:  # what has scrolled away cannot be drawn over, so only what matters now is drawn
            rows = [row for row in rows if row["state"] in ("running", "failed")][: height - 3] or rows[:1]
        lines = [summary, *text_table(rows).splitlines()]
        up = f"\x1b[{self.height}A\x1b[J" if self.height else ""
        sys.stdout.write(up + "".join(f"{line[: columns - 1]}\n" for line in lines))
        self.height = len(lines)


def _run_on_worker(job: Job, threads: int, folder: str) -> None:
    """Run a job in this worker process, from the folder the sweep was started in; raises what stopped it."""
    os.chdir(folder)  # queues may start a worker elsewhere
    os.environ |= dict.fromkeys(_THREADS, str(threads))  # the kernel inherits them; Dask has set each to 1
    get_worker().log_event(_TOPIC, {"job": job.name})
    while True:
        with contextlib.suppress(BusyError):  # a worker that was given up may still be at it, or another sweep
            result = run_job(job, quiet=True)
            break
        time.sleep(_LOOK_AGAIN_S)
    if result.error:
        raise RuntimeError(result.error)


def _started(run: Run) -> None:
    run.starts += 1
    if run.state == "waiting":  # the news may come after that of the run's end
        run.state = "running"


def _tell(news: threading.Event, futures: Iterable[Future]) -> None:
    """Set an event whenever one of the futures comes to its end."""
    for future in futures:
        future.add_done_callback(lambda _: news.set())


def _settled(run: Run, future: Future) -> bool:
    """Whether a run has come to its end; if so, note how."""
    match future.status:  # asked once: it may come to its end between two questions
        case "finished":
            run.state, run.error = "finished", ""
        case "error":
            error = future.exception()
            run.state, run.error = "failed", str(error) or repr(error)
        case "cancelled":
            run.state, run.error = "failed", "the cluster gave it up; start the sweep again"
        case _:
            return False
    return True


def _progress(run: Run) -> str:
    """The last line of the training history, the score at the end, or what went wrong."""
    metrics, history = run.job.run_dir / "metrics.json", run.job.run_dir / "history.csv"
    if run.state == "failed":
        return run.error.splitlines()[0][:80]
    with contextlib.suppress(Exception):  # a notebook of any kind may leave anything under these names
        if run.state in ("finished", "done before") and metrics.exists():
            return f"Dice {read_json(metrics)['all']['overall']['dice']['mean']:.4f}"
        if run.state == "running" and history.exists():
            last = read_rows(history)[-1]
            return f"epoch {last['epoch']}, val Dice {float(last['val_dice']):.3f}"
    return ""
