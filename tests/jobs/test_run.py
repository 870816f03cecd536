import fcntl
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import nbformat
import pytest
from jupyter_client.kernelspec import NoSuchKernel

from l2gnet.errors import ConfigError
from l2gnet.files import sole_writer
from l2gnet.jobs.plan import plan_job
from l2gnet.jobs.run import TerminatedError, run_job, run_notebook, scrub

PARAMETERS = """\
count: int = 3  # how many
share: float = 0.5  # of what
name: str = "a"  # of the thing
quiet: bool = False  # or loud
sizes: list = [1, 2]  # of the things
run_dir: str = ""  # where results go
resume: bool = False  # go on"""
BODY = """\
from pathlib import Path
assert count < 100, "too many"
(Path(run_dir) / "result.txt").write_text(f"{count} {share!r} {name} {quiet} {sizes} {resume}")"""


def write_notebook(folder: Path, parameters: str = PARAMETERS, body: str = BODY, **metadata) -> Path:
    cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell(body)]
    path = folder / "work.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)
    return path


@pytest.fixture
def notebook(tmp_path):
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "big.yaml").write_text("count: 7\nshare: 1\nname: b\n")
    return write_notebook(tmp_path)


def run(notebook, **settings):
    return run_notebook(notebook, runs_dir=notebook.parent / "runs", **settings)


def test_profile_and_parameters_reach_the_notebook(notebook):
    result = run(notebook, profile="big", parameters={"quiet": "true", "sizes": "[5]", "name": "3"})
    assert result.error is None
    assert (result.run_dir / "result.txt").read_text() == "7 1.0 3 True [5] False"
    files = {file.name for file in result.run_dir.iterdir()}
    assert files == {"work.ipynb", "work.html", "run.json", "result.txt", ".lock"}
    record = json.loads((result.run_dir / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["parameters"]["count"] == 7
    assert record["peak_memory_mb"] > 20  # a kernel's
    assert record["seconds"] < 120
    assert record["data_fingerprint"] is None
    assert {"git", "code", "packages", "hardware", "started"} <= set(record)


def test_a_job_that_is_done_is_not_run_twice(notebook):
    first = run(notebook)
    (first.run_dir / "result.txt").unlink()
    second = run(notebook)
    assert (second.run_dir, second.done_before) == (first.run_dir, True)
    assert not (first.run_dir / "result.txt").exists()
    third = run(notebook, again=True)
    assert third.run_dir != first.run_dir
    assert (third.run_dir / "result.txt").exists()
    assert run(notebook, parameters={"count": 4}).run_dir not in (first.run_dir, third.run_dir)


def test_a_job_that_is_done_anew_goes_on_where_it_was_stopped(notebook):
    def planned():
        return plan_job(notebook, runs_dir=notebook.parent / "runs", again=True)

    first = planned()
    first.run_dir.mkdir(parents=True)  # stopped before it finished
    assert planned().run_dir == first.run_dir
    first.output.touch()
    second = planned()
    assert second.run_dir.name == f"{first.run_dir.name}-2"
    second.run_dir.mkdir()
    assert planned().run_dir == second.run_dir


def test_parameters_that_papermill_cannot_read_pass_without_a_word(tmp_path, caplog):
    notebook = write_notebook(tmp_path, 'part: str = ""  # as "phase=ED"', 'assert part == "phase=ES"')
    assert run(notebook, parameters={"part": "phase=ES"}).error is None
    assert not caplog.records


def test_what_a_kernel_says_cannot_be_read_by_others_on_the_machine(notebook, capfd):
    run(notebook)
    assert "without encryption" not in capfd.readouterr().err


def test_a_job_on_changed_data_is_another_job(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "scan").write_text("1")
    notebook = write_notebook(tmp_path, 'data_dir: str = ""  # folder', "pass")
    first = plan_job(notebook, parameters={"data_dir": str(tmp_path / "data")})
    (tmp_path / "data" / "scan").write_text("2")
    second = plan_job(notebook, parameters={"data_dir": str(tmp_path / "data")})
    assert first.name != second.name
    assert first.data_fingerprint != second.data_fingerprint


def test_a_text_too_long_for_a_path_is_a_parameter_like_others(notebook):
    assert plan_job(notebook, parameters={"name": "x" * 5000}).values["name"] == "x" * 5000
    with_data = write_notebook(notebook.parent, 'data_dir: str = ""  # folder')
    for text in ("x" * 5000, "\0"):
        assert plan_job(with_data, parameters={"data_dir": text}).data_fingerprint is None


def test_a_job_that_failed_is_kept_and_goes_on_next_time(notebook):
    result = run(notebook, parameters={"count": 100})
    assert result.error == "AssertionError: too many"
    assert result.notebook.name == "work.failed.ipynb"
    assert {file.name for file in result.run_dir.iterdir()} == {"work.failed.ipynb", "run.json", ".lock"}
    assert json.loads((result.run_dir / "run.json").read_text())["status"] == "failed"
    assert "too many" in result.notebook.read_text()
    again = run(notebook, parameters={"count": 100})
    assert again.run_dir == result.run_dir
    assert json.loads((again.run_dir / "run.json").read_text())["parameters"]["resume"] is True


def test_a_kernel_that_dies_ends_the_job(tmp_path):
    body = f"import os\nos.kill(os.getpid(), {int(signal.SIGKILL)})"
    result = run(write_notebook(tmp_path, body=body))
    assert result.error is not None
    assert result.error.startswith("DeadKernelError")


def test_a_kernel_of_another_environment_ends_the_job(notebook, tmp_path, monkeypatch):
    (tmp_path / "kernels" / "python3").mkdir(parents=True)
    broken = {"argv": ["/bin/false"], "display_name": "Python", "language": "python"}
    (tmp_path / "kernels" / "python3" / "kernel.json").write_text(json.dumps(broken))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    assert run(notebook).error == "RuntimeError: Kernel died before replying to kernel_info"


def test_a_kernel_that_is_not_there_leaves_a_record_and_the_notebook_as_it_was(notebook, monkeypatch):
    monkeypatch.setattr("papermill.execute_notebook", Mock(side_effect=NoSuchKernel("python3")))
    result = run(notebook)
    record = json.loads((result.run_dir / "run.json").read_text())
    assert record["error"] == "NoSuchKernel: No such kernel named python3"
    assert "too many" in result.notebook.read_text()


def test_another_jobs_folder_is_refused(notebook, tmp_path):
    run(notebook, parameters={"run_dir": str(tmp_path / "mine")})
    assert run(notebook, parameters={"run_dir": str(tmp_path / "mine")}).done_before
    with pytest.raises(ConfigError, match=r"run_dir must be free, but .*mine holds another finished job"):
        run(notebook, parameters={"run_dir": str(tmp_path / "mine"), "count": 4})


def test_a_folder_with_the_notebook_itself_is_no_run_folder(notebook):
    before = notebook.read_text()
    with pytest.raises(ConfigError, match=r"run_dir must be free, but .* holds a work\.ipynb that no job has left"):
        run(notebook, parameters={"run_dir": str(notebook.parent)})
    assert notebook.read_text() == before


def test_a_job_that_another_process_finished_meanwhile_is_not_run_again(notebook, monkeypatch):
    job = plan_job(notebook, runs_dir=notebook.parent / "runs")

    def late(lock):
        monkeypatch.undo()
        (run(notebook).run_dir / "result.txt").unlink()
        return sole_writer(lock)

    monkeypatch.setattr("l2gnet.jobs.run.sole_writer", late)
    assert run_job(job).done_before
    assert not (job.run_dir / "result.txt").exists()


def test_data_that_hold_what_a_job_writes_are_refused(tmp_path):
    notebook = write_notebook(tmp_path, 'data_dir: str = ""  # where\ncache_dir: str = "cache"  # kept\n')
    (tmp_path / "data").mkdir()
    given = {"data_dir": str(tmp_path / "data"), "cache_dir": str(tmp_path / "cache")}
    plan_job(notebook, parameters=given, runs_dir=tmp_path / "runs")
    for runs_dir, more in (("data/runs", {}), ("runs", {"cache_dir": str(tmp_path / "data/cache")})):
        with pytest.raises(ConfigError, match="data_dir must hold nothing that a job writes, by which it would be"):
            plan_job(notebook, parameters=given | more, runs_dir=tmp_path / runs_dir)


@pytest.mark.parametrize("saved", [None, "{half"])
def test_a_job_ended_before_anything_was_saved_keeps_its_notebook(notebook, monkeypatch, saved):
    def ended(source, working, *given, **more):
        if saved:
            working.write_text(saved)
        raise TerminatedError

    monkeypatch.setattr("papermill.execute_notebook", ended)
    result = run(notebook)
    assert (result.terminated, result.notebook.name) == (True, "work.failed.ipynb")
    assert "too many" in result.notebook.read_text()


def test_what_a_job_leaves_that_is_killed_keeps_no_secret(tmp_path, monkeypatch):
    def killed(source, working, *given, stdout_file, **more):
        Path(working).write_text("Hospital of Jane")
        print("ε: Hospital of", end=" ", file=stdout_file, flush=True)
        print("Jane\nHospital of Jane", end="", file=stdout_file, flush=True)
        left.update({file.name: file.read_text(encoding="utf-8") for file in job.run_dir.iterdir()})
        raise KeyboardInterrupt

    left = {}
    monkeypatch.setattr("papermill.execute_notebook", killed)
    notebook = write_notebook(tmp_path, 'data_dir: str = ""  # where (secret)')
    job = plan_job(notebook, parameters={"data_dir": "Hospital of Jane"}, runs_dir=tmp_path / "runs")
    with pytest.raises(KeyboardInterrupt):
        run_job(job, quiet=True)
    assert left == {".lock": "", "log.txt": "ε: [data_dir]\n"}
    assert (job.run_dir / "log.txt").read_text(encoding="utf-8") == "ε: [data_dir]\n[data_dir]"


def test_two_jobs_do_not_write_to_one_folder(notebook, tmp_path):
    (tmp_path / "mine").mkdir()
    with (tmp_path / "mine" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="mine must have one writer, but a job is running there"):
            run(notebook, parameters={"run_dir": str(tmp_path / "mine")})
    assert run(notebook, parameters={"run_dir": str(tmp_path / "mine")}).error is None


def test_a_quiet_job_prints_to_its_log(tmp_path, capsys):
    notebook = write_notebook(tmp_path, body='print("hello")')
    result = run_job(plan_job(notebook, runs_dir=tmp_path / "runs"), quiet=True)
    assert (result.run_dir / "log.txt").read_text() == "hello\n"
    assert "hello" not in capsys.readouterr().out


def test_a_log_is_the_same_in_any_locale(tmp_path):
    write_notebook(tmp_path, body='print("ε")')
    plain = os.environ | {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    job = "from l2gnet.jobs.run import plan_job, run_job; run_job(plan_job('work.ipynb'), quiet=True)"
    subprocess.run([sys.executable, "-c", job], cwd=tmp_path, env=plain, check=True)
    (log,) = tmp_path.glob("runs/*/log.txt")
    assert log.read_text(encoding="utf-8") == "ε\n"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"cuont": "3"}, "-p: unknown parameter 'cuont'; did you mean 'count'"),
        ({"count": "3.5"}, r"-p: count must be of type int, got 3.5; how many"),
        ({"count": "many"}, "-p: count must be of type int, got 'many'"),
        ({"quiet": "1"}, "-p: quiet must be of type bool, got 1"),
        ({"sizes": "5"}, "-p: sizes must be of type list, got 5"),
        ({"share": "1e999"}, "-p: share must be of type float and finite, got inf; of what"),
        ({"share": float("nan")}, "-p: share must be of type float and finite, got nan"),
        ({"sizes": "[NaN]"}, r"-p: sizes must be of type list and finite, got \[nan\]"),
        ({"sizes": [{1: 2, "a": 3}]}, "-p: sizes must be of type list, got"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_starts(notebook, parameters, message):
    with pytest.raises(ConfigError, match=message):
        run(notebook, parameters=parameters)
    assert not (notebook.parent / "runs").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("count: [", "a profile must be YAML"),
        ("- count", "a profile must be a list of `name: value` lines"),
        ("cuont: 3", "profile bad: unknown parameter 'cuont'"),
        ("!!python/object/apply:os.system ['true']", "a profile must be YAML"),
    ],
)
def test_a_wrong_profile_is_refused(notebook, text, message):
    (notebook.parent / "profiles" / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        run(notebook, profile="bad")


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ("bigg", "there is no profile 'bigg'; did you mean 'big'?"),
        ("none", "there is no profile 'none'; there are acdc-cpu, .*, big, "),
        ("none.yaml", "none.yaml: there is no such profile"),
        ("profiles/bigg.yaml", "there is no such profile"),
    ],
)
def test_an_unknown_profile_names_the_known_ones(notebook, profile, message):
    with pytest.raises(ConfigError, match=message):
        run(notebook, profile=profile)


@pytest.mark.usefixtures("as_a_user")
def test_the_settings_behind_a_notebook_check_the_ranges(tmp_path):
    notebook = write_notebook(tmp_path, "epochs: int = 3  # passes", l2gnet={"settings": "TrainSettings"})
    with pytest.raises(ConfigError, match="epochs must be at least 1, got 0"):
        run(notebook, parameters={"epochs": 0})


def test_widget_state_is_dropped_and_pictures_stay():
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "bar"}
    outputs = [
        nbformat.v4.new_output("display_data", view),
        nbformat.v4.new_output("display_data", view | {"image/png": "abc"}),
        nbformat.v4.new_output("stream", text="hello"),
    ]
    cells = [nbformat.v4.new_code_cell("x", outputs=outputs), nbformat.v4.new_markdown_cell("y")]
    notebook = scrub(nbformat.v4.new_notebook(cells=cells, metadata={"widgets": {"state": "huge"}}), secrets={})
    assert "widgets" not in notebook.metadata
    kept = [dict(output.get("data", {})) for output in notebook.cells[0].outputs]
    assert kept == [{"image/png": "abc", "text/plain": "bar"}, {}]


@pytest.mark.parametrize("outcome", ["finished", "failed"])
def test_nothing_written_keeps_a_secret_or_a_home_path(tmp_path, outcome):
    home, data = "/home/" + "jdoe", tmp_path / "St Elsewhere"
    data.mkdir()
    parameters = 'data_dir: str = ""  # where (secret)\npin: int = 0  # of the safe (secret)\nrun_dir: str = ""  # to'
    body = f'print(data_dir, pin, "{home}/x")\nfail = {outcome == "failed"}\nassert not fail, data_dir'
    notebook = write_notebook(tmp_path, parameters, body)
    result = run_job(
        plan_job(notebook, parameters={"data_dir": str(data), "pin": 739155}, runs_dir=tmp_path), quiet=True
    )
    assert result.error == (None if outcome == "finished" else "AssertionError: [data_dir]")
    written = {file.name: file.read_text() for file in result.run_dir.iterdir()}
    assert {"run.json", "log.txt", result.notebook.name} <= set(written)
    for name, text in written.items():
        assert not re.search(f"St Elsewhere|{home}", text), name
        assert "739155" not in text.replace("[data_dir] 739155", ""), name  # a number in running text is no secret
    assert "[data_dir] 739155 ~/x" in written["log.txt"]
    assert json.loads(written["run.json"])["parameters"] == {
        "data_dir": "[data_dir]",
        "pin": "[pin]",
        "run_dir": str(result.run_dir),
    }
    again = run_job(
        plan_job(notebook, parameters={"data_dir": str(data), "pin": 739155}, runs_dir=tmp_path), quiet=True
    )
    assert again.run_dir == result.run_dir
    assert again.done_before == (outcome == "finished")


def test_the_environment_of_the_caller_is_left_alone(notebook):
    before = dict(os.environ)
    run(notebook)
    assert dict(os.environ) == before


def test_a_cell_that_takes_too_long_fails(tmp_path):
    result = run(write_notebook(tmp_path, body="import time\ntime.sleep(60)"), cell_timeout_s=1)
    assert result.error is not None
    assert result.error.startswith("CellTimeoutError")
    assert result.notebook.name == "work.failed.ipynb"


@pytest.mark.slow
def test_sigterm_ends_the_kernel_and_keeps_what_was_done(tmp_path):
    body = """\
from pathlib import Path
import os, time
print("before")
(Path(run_dir) / "kernel.txt").write_text(str(os.getpid()))
time.sleep(60)"""
    notebook = write_notebook(tmp_path, body=body)
    job = plan_job(notebook, runs_dir=tmp_path / "runs")
    command = [sys.executable, "-m", "l2gnet", "run", notebook, "--runs-dir", tmp_path / "runs"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    started = job.run_dir / "kernel.txt"
    deadline = time.monotonic() + 60
    while not (started.exists() and started.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert errors.splitlines()[-1].startswith("l2gnet: the notebook failed with terminated by SIGTERM")
    assert not Path(f"/proc/{started.read_text()}").exists()
    assert {file.name for file in job.run_dir.iterdir()} == {"work.failed.ipynb", "run.json", "kernel.txt", ".lock"}
    assert "sleep" in (job.run_dir / "work.failed.ipynb").read_text()
    assert json.loads((job.run_dir / "run.json").read_text())["error"] == "terminated by SIGTERM"


def refused(notebook, runs_dir, **settings):
    """The one line that the command ends in."""
    command = [sys.executable, "-m", "l2gnet", "run", notebook, "--runs-dir", runs_dir]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, **settings)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    return next(line for line in result.stderr.splitlines() if line.startswith("l2gnet: error"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "message", "left"),
    [
        ("size=64k", "results must be written, got: No space left on device; make room", [".lock"]),
        ("ro", "results must be written, got: Read-only file system", []),
    ],
)
def test_a_disk_that_is_full_or_read_only_ends_in_one_error_and_nothing_half_written(tmp_path, option, message, left):
    runs = tmp_path / "runs"
    runs.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", option, "l2gnet", runs], capture_output=True).returncode:
        pytest.skip("only root may mount a disk")
    try:
        assert message in refused(write_notebook(tmp_path, body='print("x" * 200_000)'), runs)
        assert [file.name for run_dir in runs.iterdir() for file in run_dir.iterdir()] == left
    finally:
        subprocess.run(["umount", "--lazy", runs], check=True)


def test_a_file_that_may_not_grow_ends_in_one_error_and_nothing_half_written(tmp_path, monkeypatch):
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # its own file could not grow either
    limit = 20_000
    notebook = write_notebook(tmp_path, body='print("x" * 200_000)')
    line = refused(
        notebook, tmp_path / "runs", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    )
    assert "results must be written, got: File too large" in line
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert [file.name for file in run_dir.iterdir()] == [".lock"]
