import csv
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import folders
import pytest
import torch
from safetensors import safe_open
from tiny import TINY

from l2gnet.errors import ConfigError
from l2gnet.models.card import read_card
from l2gnet.training.held_out import held_out_cases
from l2gnet.training.run import train
from l2gnet.training.run_folder import open_run
from l2gnet.training.settings import TrainSettings
from l2gnet.training.task import SegmentationTask
from l2gnet.version import code_version

KILLS = 30


def history(run_dir):
    with (run_dir / "history.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def content(checkpoint):
    """Card and weights, bit for bit; only the order of the header's two entries is left to chance by safetensors."""
    with safe_open(checkpoint, framework="np") as file:
        return file.metadata(), {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118


@pytest.mark.slow
def test_a_training_killed_thirty_times_ends_bit_for_bit_like_one_that_was_not(tmp_path):
    command = [sys.executable, Path(__file__).parents[1] / "killed_training.py", tmp_path, str(KILLS), "0"]
    lives = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lives = [line for line in lives.splitlines() if line.startswith("life")]
    assert sum(life.endswith("killed") for life in lives) == KILLS
    assert not [life for life in lives if "failed" in life]
    whole, *survivors = sorted(tmp_path.iterdir(), key=lambda folder: folder.name != "whole")
    assert len(survivors) == sum("finished" in life for life in lives)
    for survivor in survivors:
        for name in ("model.safetensors", "best.safetensors"):
            assert content(survivor / name) == content(whole / name), (survivor.name, name)
        assert history(survivor) == history(whole)
        assert not list(survivor.glob(".writing-*"))


def test_a_resumed_run_must_keep_its_data_wherever_it_lies(tmp_path):
    folders.write_decathlon(tmp_path / "data")
    settings = TINY | {"model": "unet", "data": "decathlon", "cache_dir": str(tmp_path / "cache"), "resume": True}

    def go_on(data_dir, run_dir="run"):
        return train(TrainSettings(**settings, data_dir=str(tmp_path / data_dir)), tmp_path / run_dir)

    go_on("data")
    (tmp_path / "data").rename(tmp_path / "moved")
    data = tmp_path / "run" / "data.json"
    data.write_text(data.read_text().replace(code_version(), "0.1.0+older"))
    go_on("moved")
    both = f"0.1.0+older, then {code_version()}"
    assert read_card(tmp_path / "run").training["code"] == both  # of which it is made
    folders.write_decathlon(tmp_path / "fewer", cases=folders.CASES[1:])
    with pytest.raises(ConfigError, match="run: a resumed run must keep its data, got other patients to train on; set"):
        go_on("fewer")
    images = tmp_path / "moved" / "imagesTr"
    shutil.copy(images / "organs_05.nii.gz", images / "organs_06.nii.gz")
    shutil.copytree(tmp_path / "run", tmp_path / "older")
    with pytest.raises(ConfigError, match="a resumed run must keep its data, got other cases or contents"):
        go_on("moved")
    (tmp_path / "older" / "data.json").unlink()  # which older versions did not write
    go_on("moved", "older")


def test_who_was_trained_on_is_never_held_out_of_a_folder_that_has_changed(tmp_path):
    folders.write_decathlon(tmp_path / "data")
    made = TINY | {"model": "unet", "data": "decathlon", "cache_dir": str(tmp_path / "cache")}
    run = train(TrainSettings(**made, data_dir=str(tmp_path / "data")), tmp_path / "run")
    card, held_out = read_card(run.run_dir), [case.name for case in run.dataset.validation]
    assert [case.name for case in held_out_cases(card, data_dir=str(tmp_path / "data"))] == held_out
    others = [number for number in folders.CASES if f"organs_{number:02d}" not in held_out]
    refused = pytest.raises(ConfigError, match=r"others: the data must be that of the training.* got \d+ that it was")
    for name, cases in (("others", others), ("all others", (11, 12, 13, 15))):
        folders.write_decathlon(tmp_path / name, cases=cases)
        for opened in (partial(held_out_cases, card), partial(open_run, run.run_dir)):
            with refused:
                opened(data_dir=str(tmp_path / name))


def test_a_run_that_was_moved_keeps_its_best_epoch(tmp_path, monkeypatch):
    log, step = SegmentationTask.log, SegmentationTask.training_step

    def falling(self, name, value, **more):
        log(self, name, value - self.current_epoch if name == "val_dice" else value, **more)

    def stopped(self, batch, batch_index):
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        return step(self, batch, batch_index)

    settings = TrainSettings(**TINY | {"model": "unet", "resume": True})
    monkeypatch.setattr(SegmentationTask, "log", falling)
    with monkeypatch.context() as patch:
        patch.setattr(SegmentationTask, "training_step", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(settings, tmp_path / "run")
    states = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["callbacks"]
    assert any(name.startswith("ModelCheckpoint{") for name in states)  # as older versions look for it, and wrote it
    run = train(settings, (tmp_path / "run").rename(tmp_path / "moved"))
    trained = {name: read_card(run.run_dir / f"{name}.safetensors").training["epochs"] for name in ("best", "model")}
    assert trained == {"best": 1, "model": 2}


def test_a_run_whose_best_checkpoint_has_not_come_along_still_leaves_its_model(tmp_path, capsys):
    settings = TrainSettings(**TINY | {"model": "unet", "epochs": 1, "resume": True})
    run_dir = train(settings, tmp_path / "run").run_dir
    for name in ("best.ckpt", "best.safetensors", "model.safetensors"):
        (run_dir / name).unlink()
    train(settings, run_dir)
    assert "no best.safetensors is written, as" in capsys.readouterr().err
    assert [file.name for file in run_dir.glob("*.safetensors")] == ["model.safetensors"]
