import io
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import dask
import pytest
import yaml
from test_run import write_notebook

from l2gnet.errors import ConfigError
from l2gnet.files import sole_writer, write_json
from l2gnet.jobs.sweep import LiveTable, _settled, _started, run_sweep, run_table
from l2gnet.jobs.sweep_file import read_sweep

ROOT = Path(__file__).parents[2]
PARAMETERS = """\
count: int = 0  # of the run
mode: str = "well"  # how it goes: well, badly, or a kill of its worker at the first start
run_dir: str = ""  # where results go"""
BODY = """\
import os, signal, time
from pathlib import Path
starts = Path(run_dir) / "starts.txt"
with starts.open("a") as file:
    threads = {os.environ[f"{name}_NUM_THREADS"] for name in ("OMP", "MKL", "OPENBLAS")}
    print(os.getpid(), os.getppid(), *threads, file=file)
assert mode != "badly", "as asked"
if mode == "kill" and len(starts.read_text().splitlines()) == 1:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)
if mode == "slow":
    time.sleep(60)
(Path(run_dir) / "done.txt").write_text("done")"""


@pytest.fixture
def plan(tmp_path):
    """A function that writes a sweep file and reads it."""
    write_notebook(tmp_path, PARAMETERS, BODY)

    def plan(grid, parameters=(), **more):
        (tmp_path / "try.yaml").write_text(
            yaml.safe_dump({"notebook": "work.ipynb", "grid": grid} | more, sort_keys=False)
        )
        return read_sweep(tmp_path / "try.yaml", parameters=dict(parameters), runs_dir=tmp_path / "runs")

    return plan


def starts(run):
    return [line.split() for line in (run.job.run_dir / "starts.txt").read_text().splitlines()]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_grid_is_every_combination_in_folders_of_their_own(plan, tmp_path):
    sweep = plan({"count": [1, 2], "way": {"fine": {}, "bad": {"mode": "badly"}}}, parameters={"run_dir": ""})
    assert [run.place for run in sweep.runs] == [
        {"count": count, "way": way} for count in ("1", "2") for way in ("fine", "bad")
    ]
    assert [run.job.values["mode"] for run in sweep.runs] == ["well", "badly", "well", "badly"]
    folders = {run.job.run_dir for run in sweep.runs}
    assert len(folders) == 4
    assert {folder.parent for folder in folders} == {tmp_path / "runs" / "try"}


def test_what_is_given_counts_more_than_the_grid_and_that_more_than_the_file(plan):
    sweep = plan({"count": [1]}, parameters={"mode": "badly"}, profile=None)
    assert sweep.runs[0].job.values == {"count": 1, "mode": "badly", "run_dir": ""}
    (other,) = plan({"count": [1]}, parameters={"count": "2"}).runs
    assert (other.job.values["count"], other.place) == (2, {"count": "2"})


def test_a_profile_lies_beside_the_sweep_and_one_that_is_given_is_meant_from_here(plan, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "mine.yaml").write_text("count: 5")
    assert plan({"mode": ["well"]}, profile="mine.yaml").runs[0].job.values["count"] == 5
    Path("mine.yaml").write_text("count: 6")
    assert plan({"mode": ["well"]}, {"profile": "mine.yaml"}, profile="mine.yaml").runs[0].job.values["count"] == 6


def test_a_folder_with_another_finished_job_is_not_done_before(plan, tmp_path):
    finished = tmp_path / "mine"
    finished.mkdir()
    (finished / "work.ipynb").write_text("{}")
    (finished / "run.json").write_text('{"job": "another"}')
    with pytest.raises(ConfigError, match=r"try\.yaml: run_dir must be free, but .*mine holds another finished job"):
        plan({"count": [1]}, parameters={"run_dir": str(finished)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("grid: [", "a sweep must be YAML of plain values"),
        ("- notebook", "a sweep must be a list of `name: value` lines, got list"),
        ("notebook: work.ipynb", "a sweep has a notebook, a grid and maybe profile"),
        ("{notebook: work.ipynb, grid: {}, gird: {}}", "a sweep has a notebook, a grid"),
        ("{notebook: work.ipynb, grid: [count]}", "grid must be `name: value` lines"),
        (
            "{notebook: work.ipynb, grid: {on: [1, 2]}}",
            r"grid must be `name: value` lines, .* in quotes, got \{True: \[",
        ),
        ("{notebook: work.ipynb, parameters: {no: 5}, grid: {count: [3]}}", "parameters must be `name: value` lines"),
        ("{notebook: work.ipynb, grid: {count: [3]}, workers: {1: 2}}", "workers must be `name: value` lines"),
        ("{notebook: work.ipynb, grid: {count: {few: {no: 5}}}}", "an axis of the grid must be a list of values"),
        ("{notebook: work.ipynb, grid: {run_dir: [a, b]}}", "every run must differ, but 1 would be the same"),
        (
            "{notebook: work.ipynb, grid: {count: [1, 2], way: {a: {count: 3}, b: {mode: badly}}}}",
            "each parameter must be given by one axis, got count by count and way",
        ),
        ("{notebook: work.ipynb, grid: {count: 3}}", "an axis of the grid must be a list of values"),
        ("{notebook: work.ipynb, grid: {count: []}}", "an axis of the grid must be a list of values"),
        ("{notebook: work.ipynb, grid: {cuont: [3]}}", "try.yaml: -p: unknown parameter 'cuont'"),
        ("{notebook: work.ipynb, grid: {count: [3, x]}}", "count must be of type int, got 'x'"),
        ("{notebook: none.ipynb, grid: {count: [3]}}", "there is no such notebook"),
        ("{notebook: work.ipynb, grid: {count: [3, 3]}}", "every run must differ, but 1 would be the same"),
        (
            "{notebook: work.ipynb, grid: {count: [3]}, retries: -1}",
            "retries must be a whole",
        ),
        (
            "{notebook: work.ipynb, grid: {count: [3]}, workers: {cores: 2}}",
            "workers has no setting 'cores'; there are kind",
        ),
        ("{notebook: work.ipynb, grid: {count: [3]}, workers: {count: -2}}", "count must be a whole number"),
        ("{notebook: work.ipynb, grid: {count: [3]}, workers: {kind: cloud}}", "kind must be one of local, slurm"),
        ("{notebook: work.ipynb, grid: {count: [3]}, workers: {kind: slurm}}", "count must be given for kind slurm"),
        ("!!python/object/apply:os.system ['true']", "a sweep must be YAML of plain values"),
        ("{notebook: [a], grid: {count: [3]}}", r"notebook must be a name, got \['a'\]"),
        ("{notebook: work.ipynb, profile: 3, grid: {count: [3]}}", "profile must be a name, got 3"),
        ("{notebook: work.ipynb, profile: [], grid: {count: [3]}}", r"profile must be a name, got \[\]"),
        ("{notebook: work.ipynb, grid: {profile: [3]}}", "profile must be a name, got 3"),
        ("{notebook: work.ipynb, grid: {count: {a: {profile: [b]}}}}", r"profile must be a name, got \['b'\]"),
        ("{notebook: work.ipynb, grid: {count: [2001-01-01]}}", "count must be of type int, got datetime"),
        ("{notebook: work.ipynb, grid: {count: [3]}, workers: {kind: [local]}}", "kind must be of type str"),
        ("{notebook: work.ipynb, grid: {count: [3]}, workers: {options: many}}", "options must be of type dict"),
        (
            f"{{notebook: work.ipynb, grid: {{{', '.join(f'a{n}: {list(range(99))}' for n in range(9))}}}}}",
            "a grid may have 10000 runs, got 913517247483640899; split it",
        ),
    ],
)
@pytest.mark.usefixtures("as_a_user")
def test_a_wrong_sweep_is_refused_before_anything_starts(tmp_path, content, message):
    write_notebook(tmp_path, PARAMETERS, BODY)
    (tmp_path / "try.yaml").write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_sweep(tmp_path / "try.yaml", parameters={}, runs_dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_the_example_sweeps_are_sound(tmp_path):
    (tmp_path / "data").mkdir()
    for path in (ROOT / "notebooks" / "jobs").glob("*.yaml"):
        sweep = read_sweep(path, parameters={"data_dir": str(tmp_path / "data")}, runs_dir=tmp_path / "runs")
        assert "l2gnet" in {run.job.values["model"] for run in sweep.runs}


@pytest.mark.slow
def test_one_failure_takes_no_other_run_and_a_killed_workers_run_goes_on(plan, capsys):
    modes = ["well", "badly", "kill"]
    sweep = plan({"mode": modes}, retries=1, workers={"count": 2, "threads": 3})
    run_sweep(sweep, show=LiveTable(), every_s=0.1)
    assert [run.state for run in sweep.runs] == ["finished", "failed", "finished"]
    assert "3 runs: 2 finished, 1 failed" in capsys.readouterr().out
    well, badly, killed = sweep.runs
    assert len(starts(well)) == 1
    assert len(starts(badly)) == 2
    assert badly.error == "AssertionError: as asked"
    assert run_table(sweep.runs)[1] == {
        "mode": "badly",
        "state": "failed",
        "starts": "2",
        "progress": "AssertionError: as asked",
    }
    (first_kernel, first_worker, _), (_, second_worker, threads) = starts(killed)
    assert first_worker != second_worker
    assert not alive(first_kernel)  # it would go on writing to the run folder
    assert threads == "3"
    assert (killed.job.run_dir / "done.txt").exists()

    (well.job.run_dir / "done.txt").unlink()
    again = plan({"mode": modes}, retries=0, workers={"count": 1})
    assert [run.state for run in again.runs] == ["done before", "waiting", "done before"]
    run_sweep(again, show=LiveTable(), every_s=0.1)
    assert [run.state for run in again.runs] == ["done before", "failed", "done before"]
    assert not (well.job.run_dir / "done.txt").exists()
    assert len(starts(badly)) == 3


@pytest.mark.slow
def test_a_run_that_finished_does_not_start_again_when_its_worker_dies(plan):
    sweep = plan({"mode": ["well", "kill"]}, workers={"count": 1})
    run_sweep(sweep, show=lambda runs: None, every_s=0.05)
    assert [(run.state, run.starts) for run in sweep.runs] == [("finished", 1), ("finished", 2)]


@pytest.mark.slow
def test_a_worker_that_was_given_up_is_replaced(plan):
    sweep = plan({"mode": ["kill", "well"]}, workers={"count": 1})
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1ms"}):  # it cannot be back so soon
        run_sweep(sweep, show=lambda runs: None, every_s=0.5)
    assert [run.state for run in sweep.runs] == ["finished", "finished"]


@pytest.mark.slow
def test_a_run_that_another_process_is_at_is_waited_for(plan):
    sweep = plan({"mode": ["well"]}, workers={"count": 1})
    folder = sweep.runs[0].job.run_dir
    folder.mkdir(parents=True)
    with ThreadPoolExecutor() as other, sole_writer(folder / ".lock"):
        ended = other.submit(run_sweep, sweep, show=lambda runs: None)
        while sweep.runs[0].starts == 0 and not ended.done():
            time.sleep(0.1)
        time.sleep(1)
        assert not ended.done()
    assert (sweep.runs[0].state, len(starts(sweep.runs[0]))) == ("finished", 1)


@pytest.mark.slow
def test_the_run_of_a_worker_that_died_is_not_put_behind_all_others(plan):
    sweep = plan({"run": {"first": {"mode": "kill"}, "next": {"count": 1}, "last": {"count": 2}}}, workers={"count": 1})
    run_sweep(sweep, show=lambda runs: None)
    ended = [(run.job.run_dir / "done.txt").stat().st_mtime for run in sweep.runs]
    assert ended == sorted(ended)


def test_news_of_a_start_that_comes_late_does_not_undo_the_end(plan):
    (run,) = plan({"mode": ["well"]}).runs
    run.state = "finished"
    _started(run)
    assert (run.state, run.starts) == ("finished", 1)


@pytest.mark.usefixtures("as_a_user")
def test_a_run_that_ends_while_it_is_asked_for_has_not_failed(plan):
    class Ending:
        asked = 0

        @property
        def status(self):
            self.asked += 1
            return "pending" if self.asked == 1 else "finished"

    run, future = plan({"count": [1]}).runs[0], Ending()
    while not _settled(run, future):
        pass
    assert (run.state, run.error) == ("finished", "")


@pytest.mark.slow
@pytest.mark.parametrize(("stop", "status"), [("Ctrl-C", 130), ("SIGTERM", 143)])
def test_a_sweep_that_was_stopped_keeps_no_secret_and_goes_on(plan, tmp_path, stop, status):
    write_notebook(tmp_path, PARAMETERS + '\nward: str = ""  # where (secret)', f"print(ward)\n{BODY}")
    ward = {"ward": "Hospital of Jane"}
    sweep = plan({"mode": ["well", "slow"]}, ward, workers={"count": 1})
    command = [sys.executable, "-m", "l2gnet", "sweep", tmp_path / "try.yaml", "--runs-dir", tmp_path / "runs"]
    command += ["-p", "ward", "Hospital of Jane"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore it
    )
    slow = sweep.runs[1].job.run_dir / "starts.txt"
    deadline = time.monotonic() + 60
    while not slow.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    if stop == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.terminate()
    _, errors = process.communicate(timeout=90)
    assert process.returncode == status, errors
    assert "the same command goes on with it" in errors
    assert "Traceback" not in errors
    assert "leaked" not in errors
    assert "WARNING" not in errors  # of kernels, which lose their worker
    time.sleep(1.5)
    kernel, worker, _ = starts(sweep.runs[1])[0]
    assert not alive(kernel)
    assert not alive(worker)
    assert [run.state for run in plan({"mode": ["well", "slow"]}, ward).runs] == ["done before", "waiting"]
    for file in sweep.runs[1].job.run_dir.iterdir():
        assert "Jane" not in file.read_text(), file


def test_a_terminal_is_drawn_over(plan, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    sweep, screen = plan({"count": [1, 2]}), Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    table = LiveTable()
    table(sweep.runs)
    table(sweep.runs)
    first, second = screen.getvalue().split("\x1b[4A\x1b[J")
    assert first == second
    assert first.splitlines()[:2] == ["2 runs: 2 waiting", "count  state    starts  progress"]


def test_a_table_that_does_not_fit_shows_what_runs_and_what_failed(plan, monkeypatch):
    sweep, screen = plan({"count": list(range(10))}), io.StringIO()
    sweep.runs[3].state, sweep.runs[7].state = "running", "failed"
    sweep.runs[7].error = "AssertionError: as asked"
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr("shutil.get_terminal_size", lambda *_, **__: os.terminal_size((80, 10)))
    LiveTable()._draw("10 runs", run_table(sweep.runs))
    assert [line.split()[:2] for line in screen.getvalue().splitlines()[2:]] == [["3", "running"], ["7", "failed"]]


def test_the_table_says_how_far_a_run_has_come(plan):
    sweep = plan({"mode": ["well"]})
    (run,) = sweep.runs
    run.job.run_dir.mkdir(parents=True)
    run.state = "running"
    assert run_table(sweep.runs)[0]["progress"] == ""
    (run.job.run_dir / "history.csv").write_text("epoch,val_dice\n1,0.5\n2,0.75\n")
    assert run_table(sweep.runs)[0]["progress"] == "epoch 2, val Dice 0.750"
    run.state = "finished"
    write_json(run.job.run_dir / "metrics.json", {"all": {"overall": {"dice": {"mean": 0.81234}}}})
    assert run_table(sweep.runs)[0]["progress"] == "Dice 0.8123"


@pytest.mark.parametrize(
    ("state", "name", "content"),
    [
        ("finished", "metrics.json", '{"accuracy": 0.9}'),
        ("finished", "metrics.json", '{"all": {"overall": {"dice": {"mean": null}}}}'),
        ("finished", "metrics.json", "not JSON"),
        ("running", "history.csv", "epoch,loss\n1,0.5\n"),
        ("running", "history.csv", ""),
    ],
)
def test_files_that_tell_no_progress_end_no_sweep(plan, state, name, content):
    sweep = plan({"mode": ["well"]})
    (run,) = sweep.runs
    run.job.run_dir.mkdir(parents=True)
    (run.job.run_dir / name).write_text(content)
    run.state = state
    assert run_table(sweep.runs)[0]["progress"] == ""


@pytest.mark.usefixtures("as_a_user")
def test_an_error_without_words_is_told_by_its_name(plan):
    sweep = plan({"mode": ["well"]})
    assert _settled(sweep.runs[0], Mock(status="error", exception=MemoryError))
    assert run_table(sweep.runs)[0]["progress"] == "MemoryError()"
