"""What a sweep costs over bare papermill, and whether runs are lost or run twice when workers are killed.

Run `OMP_NUM_THREADS=1 python benchmarks/jobs.py`, for a quarter of an hour on two cores that are free. Both ways run
the same notebook, two runs at a time, block by block in turn, so that what else the machine does falls on both:
papermill in a pool of two processes, and `l2gnet sweep` with two workers. A block's time is that of its whole command,
from start to end; its CPU time is that of all processes, kernels included. Then one sweep of 100 shorter runs loses a
worker, by SIGKILL, whenever ten more runs have finished. Results go to runs/jobs-benchmark/jobs.json.
"""

import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import numpy as np
import yaml

from l2gnet.files import write_json
from l2gnet.jobs.sweep import run_sweep
from l2gnet.jobs.sweep_file import Run, read_sweep

PARAMETERS = """\
number: int = 0  # of the run
seconds: float = 5.0  # of work
run_dir: str = ""  # where results go"""
START = """\
import os, time
from pathlib import Path
with (Path(run_dir) / "starts.txt").open("a") as file:
    print(os.getppid(), (Path(run_dir) / "work.ipynb").exists(), file=file)"""
WORK = """\
import numpy as np
table, end = np.random.default_rng(number).random(200_000), time.process_time() + seconds
while time.process_time() < end:
    table.sort()"""
POOL = """\
import multiprocessing, sys
from pathlib import Path
import papermill

def run(number):
    Path(f"bare/{number}").mkdir()
    parameters = {"number": number, "seconds": float(sys.argv[2]), "run_dir": f"bare/{number}"}
    papermill.execute_notebook("work.ipynb", f"bare/{number}/work.ipynb", parameters, progress_bar=False)

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(run, range(int(sys.argv[1])), chunksize=1)
        pool.close()
        pool.join()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=4, help="of each way")
    parser.add_argument("--runs", type=int, default=25, help="of a block")
    parser.add_argument("--killed", type=int, default=100, help="runs of the sweep that loses workers")
    parser.add_argument("--seconds", type=float, default=5.0, help="of work in a run")
    arguments = parser.parse_args()
    folder = Path("runs/jobs-benchmark")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_files(folder, arguments.runs, arguments.seconds)
    spent = compare(folder, arguments.blocks, arguments.runs, arguments.seconds)
    write_json(folder / "jobs.json", {"seconds": spent})
    write_files(folder, arguments.killed, 1.0)
    write_json(folder / "jobs.json", {"seconds": spent, "killed": kill_workers(folder)})


def compare(folder: Path, blocks: int, runs: int, seconds: float) -> dict[str, list[tuple[float, float]]]:
    """Wall and CPU time of each block, both ways in turn."""
    commands = {
        "papermill": [sys.executable, "pool.py", str(runs), str(seconds)],
        "sweep": [sys.executable, "-m", "l2gnet", "sweep", "sweep.yaml", "--runs-dir", "swept"],
    }
    spent: dict[str, list[tuple[float, float]]] = {way: [] for way in commands}
    print("| block | way | wall (s) | CPU (s) |\n|---|---|---|---|")
    for block in range(blocks):
        for way in list(commands)[:: 1 if block % 2 else -1]:
            for results in ("bare", "swept"):
                shutil.rmtree(folder / results, ignore_errors=True)
                (folder / results).mkdir()
            wall, cpu = time_command(commands[way], folder)
            assert len(list(folder.glob("*/**/work.ipynb"))) == runs, "a run is missing"
            spent[way].append((wall, cpu))
            print(f"| {block} | {way} | {wall:.1f} | {cpu:.1f} |", flush=True)
    wall, cpu = np.median(spent["sweep"], 0) / np.median(spent["papermill"], 0) - 1
    print(f"a sweep costs over papermill, medians: wall {wall:+.1%}, CPU {cpu:+.1%}", flush=True)
    return spent


def kill_workers(folder: Path) -> dict[str, int]:
    """Run the sweep while workers are killed; counts of runs, kills, starts, runs lost and runs started when done."""
    sweep = read_sweep(folder / "sweep.yaml", parameters={}, runs_dir=folder / "killed")
    killer = Killer()
    run_sweep(sweep, show=killer, every_s=0.2)
    starts = [start for run in sweep.runs for start in starts_of(run)]
    for number, run in enumerate(sweep.runs):
        if run.state != "finished" or not run.job.output.exists():
            print(f"run {number} is lost: {run.state}, {starts_of(run)}, {run.error}", flush=True)
    counts = {
        "runs": len(sweep.runs),
        "workers killed": len(killer.killed),
        "starts": len(starts),
        "lost": sum(run.state != "finished" or not run.job.output.exists() for run in sweep.runs),
        "run twice": sum(done == "True" for _, done in starts),
    }
    print(", ".join(f"{name} {count}" for name, count in counts.items()), flush=True)
    assert counts["lost"] == counts["run twice"] == 0
    assert counts["starts"] <= counts["runs"] + counts["workers killed"], "a kill explains one more start"
    return counts


def write_files(folder: Path, runs: int, seconds: float) -> None:
    """The notebook, the pool's program and the sweep file."""
    cells = [nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(source) for source in (START, WORK, "print(table[:5])")]
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), folder / "work.ipynb")
    (folder / "pool.py").write_text(POOL)
    plan = {"notebook": "work.ipynb", "parameters": {"seconds": seconds}, "grid": {"number": list(range(runs))}}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(plan | {"workers": {"count": 2}}))


def time_command(command: list[str], folder: Path) -> tuple[float, float]:
    """Wall and CPU time of a command and of all that it started."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@dataclass
class Killer:
    """Watches a sweep, and kills the worker of a run under way: when 5 runs have finished, 15, 25 and so on."""

    killed: list[int] = field(default_factory=list)

    def __call__(self, runs: tuple[Run, ...]) -> None:
        finished = sum(run.job.output.exists() for run in runs)
        if finished < 10 * len(self.killed) + 5:
            return
        for run in runs:
            if not run.job.output.exists() and (begun := starts_of(run)):
                worker = int(begun[-1][0])
                if worker not in self.killed:
                    os.kill(worker, signal.SIGKILL)
                    self.killed.append(worker)
                    return


def starts_of(run: Run) -> list[list[str]]:
    """For each start of a run, its worker and whether its result was there already."""
    path = run.job.run_dir / "starts.txt"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


if __name__ == "__main__":
    main()
