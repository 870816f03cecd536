import json

import pytest
from commands import command, refused

TINY = ["--patients", 4, "--validation-patients", 1, "--size-px", 32, "--spacing-mm", 6.0, "--width", 4, "--depth", 3]
TINY += ["--model", "unet", "--epochs", 1, "--accelerator", "cpu", "--run-dir", "run"]
STOPPED = """
import os, signal
from l2gnet.training.task import SegmentationTask

step = SegmentationTask.training_step

def stopped(*given):
    if {number} == signal.SIGINT:  # which a process in the background ignores
        raise KeyboardInterrupt
    os.kill(os.getpid(), {number})
    return step(*given)

SegmentationTask.training_step = stopped
"""


@pytest.mark.parametrize(("number", "status"), [(2, 130), (15, 143)])
def test_a_training_that_is_stopped_says_so_by_its_status(tmp_path, number, status):
    result = command("train", *TINY, cwd=tmp_path, before=STOPPED.format(number=number))
    assert result.returncode == status, result.stderr
    assert "Traceback" not in result.stderr
    assert ("--run-dir run --resume go on with it" in result.stderr) == (status == 130)


def test_a_start_that_is_refused_leaves_the_record_of_the_run_there(tmp_path):
    assert command("train", *TINY, cwd=tmp_path, before=STOPPED.format(number=15)).returncode == 143
    (tmp_path / "run" / "last.ckpt").touch()
    (tmp_path / "run" / "run.json").write_text("of that run")
    refused(command("train", *TINY, "--seed", 1, cwd=tmp_path), "run_dir must be free, but run holds a run")
    assert (tmp_path / "run" / "run.json").read_text() == "of that run"


def test_to_go_on_where_there_is_no_run_is_to_start_anew_and_is_said(tmp_path):
    said = "run holds no run to go on with: it starts anew"
    assert said in command("train", *TINY, "--resume", cwd=tmp_path, before=STOPPED.format(number=15)).stderr
    (tmp_path / "run" / "last.ckpt").touch()
    assert said not in command("train", *TINY, "--resume", cwd=tmp_path).stderr


def test_the_record_keeps_no_path_of_this_machine(tmp_path):
    assert command("train", *TINY, "--cache-dir", "of-jane", cwd=tmp_path).returncode == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["parameters"]["cache_dir"] == "[cache_dir]"
