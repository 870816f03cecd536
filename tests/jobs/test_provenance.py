import json
import os
import subprocess
import sys
import time

import pytest

from l2gnet.errors import BusyError
from l2gnet.jobs.provenance import PeakMemory, _git_state, _gpus, data_fingerprint, provenance, recorded
from l2gnet.version import code_version


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data" / "patient001").mkdir(parents=True)
    (tmp_path / "data" / "patient001" / "scan.nii").write_bytes(b"abc")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return tmp_path / "data"


def test_a_fingerprint_is_that_of_names_and_contents(data, tmp_path):
    first = data_fingerprint({"data_dir": str(data)})
    data.rename(tmp_path / "elsewhere")
    moved = {"data_dir": str(tmp_path / "elsewhere")}
    assert data_fingerprint(moved) == first
    scan = tmp_path / "elsewhere" / "patient001" / "scan.nii"
    scan.write_bytes(b"abd")  # of the same size
    os.utime(scan, ns=(1, 1))
    changed = data_fingerprint(moved)
    assert changed != first
    scan.rename(scan.with_name("other.nii"))
    assert data_fingerprint(moved) not in (first, changed)


def test_a_fingerprint_sees_behind_links(data, tmp_path):
    plain = data_fingerprint({"data_dir": str(data)})
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "patient001").symlink_to(data / "patient001")
    assert data_fingerprint({"data_dir": str(tmp_path / "linked")}) == plain
    (data / "patient001" / "scan.nii").write_bytes(b"changed")
    assert (
        data_fingerprint({"data_dir": str(tmp_path / "linked")}) == data_fingerprint({"data_dir": str(data)}) != plain
    )


def test_a_fingerprint_follows_no_link_round_in_circles(data, tmp_path):
    plain = data_fingerprint({"data_dir": str(data)})
    (data / "patient001" / "up").symlink_to(tmp_path)
    (data / "patient001" / "here").symlink_to(data / "patient001")
    (data / "patient001" / "nowhere").symlink_to(tmp_path / "nothing")
    (data / "patient001" / ".DS_Store").write_text("of a file manager")
    assert data_fingerprint({"data_dir": str(data)}) == plain


def test_what_lies_in_hidden_folders_of_the_data_does_not_count(data):
    plain = [data_fingerprint({name: str(data)}) for name in ("data_dir", "scan")]
    (data / ".ipynb_checkpoints").mkdir()
    (data / ".ipynb_checkpoints" / "look-checkpoint.ipynb").write_text("of JupyterLab")
    hidden = [data_fingerprint({name: str(data)}) for name in ("data_dir", "scan")]
    assert hidden[0] == plain[0]
    assert hidden[1] != plain[1]  # scans are looked for there, too


def test_a_fingerprint_counts_files_and_no_folder_but_the_data(data, tmp_path):
    assert data_fingerprint({"cache_dir": str(data), "epochs": 3, "name": "", "model": "unet"}) is None
    for checkpoint in ({"checkpoint": str(tmp_path / "model.safetensors")}, {"checkpoint": str(tmp_path)}):
        (tmp_path / "model.safetensors").write_bytes(b"weights")
        one = data_fingerprint(checkpoint)
        (tmp_path / "model.safetensors").write_bytes(b"weights, trained again")
        assert None is not one != data_fingerprint(checkpoint)


def test_a_fingerprint_knows_new_runs_and_every_file_of_a_list(tmp_path):
    runs = {"runs_dir": str(tmp_path)}
    seen = [data_fingerprint(runs)]
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "history.csv").write_text("1")
        assert data_fingerprint(runs) == seen[-1]  # it has not finished
        (tmp_path / name / "scores.csv").write_text("1")
        seen.append(data_fingerprint(runs))
    (tmp_path / "second" / "config.json").write_text("1")  # by which it is read, or left out
    seen.append(data_fingerprint(runs))
    assert seen[0] is None
    assert len(set(seen)) == 4
    files = [str(tmp_path / name / "history.csv") for name in ("first", "second")]
    before = data_fingerprint({"truth": files})
    (tmp_path / "second" / "history.csv").write_text("2")
    assert None is not before != data_fingerprint({"truth": files})


def test_a_fingerprint_knows_the_scores_that_come_along_by_name(tmp_path, monkeypatch):
    one, other = (data_fingerprint({"runs_dir": name}) for name in ("phantom-models", "phantom-choices"))
    assert None not in (one, other)
    assert one != other
    monkeypatch.chdir(tmp_path)
    (tmp_path / "phantom-models").mkdir()
    (tmp_path / "phantom-models" / "scores.csv").write_text("1")
    assert data_fingerprint({"runs_dir": "phantom-models"}) == one  # as `read_runs` reads it


def test_a_machine_without_a_driver_has_no_gpu(tmp_path, monkeypatch):
    broken = tmp_path / "nvidia-smi"
    broken.write_text("#!/bin/sh\necho NVIDIA-SMI has failed\nexit 9\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert _gpus() == []


def test_the_record_names_code_packages_and_machine():
    record = json.loads(json.dumps(provenance(), allow_nan=False))
    assert record["code"] == code_version()
    assert record["python"].split(".") == [str(part) for part in sys.version_info[:3]]
    assert {"torch", "papermill", "numpy"} <= set(record["packages"])
    assert record["hardware"]["cores"] >= 1
    assert record["hardware"]["memory_gib"] > 0.1
    assert record["hardware"]["cpu"]


def test_code_that_was_edited_meanwhile_is_told_as_it_is_now(monkeypatch):
    before = provenance()
    monkeypatch.setattr("l2gnet.jobs.provenance.code_version", lambda: "edited")
    assert provenance() == {**before, "code": "edited", "git": provenance()["git"]}


def test_the_commit_is_that_of_a_checkout_which_holds_the_package(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    assert _git_state(package) is None

    def git(*arguments):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        return subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)

    git("init")
    assert _git_state(package) is None  # a checkout of something else
    git("add", ".")
    git("commit", "--message", "first")
    commit = git("rev-parse", "HEAD").stdout.strip()
    assert _git_state(package) == {"commit": commit, "dirty": False}
    (package / "__init__.py").write_text("1")
    assert _git_state(package) == {"commit": commit, "dirty": True}


def holding(megabytes, seconds):
    return [sys.executable, "-c", f"import time; x = b'1' * {megabytes}_000_000; time.sleep({seconds})"]


@pytest.mark.slow
def test_the_memory_of_a_process_that_was_started_is_seen():
    with PeakMemory() as peak:
        subprocess.run(holding(300, 3), check=True)
    assert 300 < peak.mb < 400


@pytest.mark.slow
def test_the_memory_of_what_such_a_process_has_started_is_seen_and_that_of_earlier_ones_is_not():
    with subprocess.Popen(holding(600, 60)) as earlier:
        with PeakMemory() as peak:
            subprocess.run([sys.executable, "-c", f"import subprocess; subprocess.run({holding(300, 3)})"], check=True)
        earlier.kill()
    assert 300 < peak.mb < 400


def test_a_command_leaves_what_a_notebook_does(data, tmp_path):
    parameters = {"data_dir": str(data), "cache_dir": "/home/jane/cache", "epochs": 3}
    with recorded(tmp_path / "run", "l2gnet train", parameters, secrets=["data_dir"]):
        held = bytearray(50_000_000)
        time.sleep(0.4)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["parameters"] == {"data_dir": "[data_dir]", "cache_dir": "~/cache", "epochs": 3}
    assert record["data_fingerprint"] == data_fingerprint(parameters)
    assert record["peak_memory_mb"] > len(held) / 1e6
    assert record["seconds"] >= 0.4
    assert str(tmp_path) not in (tmp_path / "run" / "run.json").read_text()
    assert provenance().items() <= record.items()


def test_a_command_that_failed_says_so_where_nothing_has_finished(tmp_path):
    def run(error):
        with pytest.raises(type(error)), recorded(tmp_path / "run", "l2gnet train", {}, secrets=[]):
            raise error

    run(ValueError("before there was a folder"))
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    run(BusyError("another trains there"))
    assert not list((tmp_path / "run").iterdir())
    run(ValueError("in /home/jane/x"))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["status"], record["error"]) == ("failed", "ValueError: in ~/x")
    with recorded(tmp_path / "run", "l2gnet train", {}, secrets=[]):
        pass
    finished = (tmp_path / "run" / "run.json").read_text()
    assert json.loads(finished)["status"] == "finished"
    run(ValueError("the folder holds a run"))
    assert (tmp_path / "run" / "run.json").read_text() == finished
