import re
from dataclasses import replace
from pathlib import Path

import folders
import pytest
import torch
from runs import write_run

from l2gnet import build_model
from l2gnet.cli.audit import audit
from l2gnet.data.folders.synapse import CLASSES
from l2gnet.data.grid import Grid
from l2gnet.errors import ConfigError
from l2gnet.models.card import ModelCard, checkpoint_file
from l2gnet.models.checkpoint import load_checkpoint, save_checkpoint

SMALL = {"classes": len(CLASSES), "width": 4, "depth": 2, "code_dim": 8}


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    root = tmp_path_factory.mktemp("task")
    folders.write_decathlon(root, cases=range(2, 8))
    return root


def saved(path, model="l2gnet", **options):
    settings = SMALL | {"relation": "send-receive", "codes": 8, "references": 4, "heads": 2} | options
    card = ModelCard(model, settings, CLASSES, Grid(8.0, 32, (-125.0, 275.0)), {"data": "phantom"}, channels=("image",))
    network = build_model(model, **settings)
    with torch.no_grad():  # it says that all is liver, and so finds something without having learnt to listen
        network.head.weight.mul_(1e-3)
        network.head.bias.copy_(torch.eye(len(CLASSES))[CLASSES.index("liver")])
    save_checkpoint(path, network, card)
    return path


def test_an_audit_is_a_table_and_a_verdict(task, tmp_path, capsys):
    audit(saved(tmp_path / "model.safetensors"), task, data="decathlon")
    told = capsys.readouterr().out
    assert "on slices of 6 patients" in told
    assert "another patient's, heard by its own plan" in told
    assert "liver" in told
    assert "bottleneck.mapper: idle" in told  # it has learnt nothing
    assert "fields of view" not in told


def test_worth_is_told_by_runs_with_and_without(task, tmp_path, capsys):
    write_run(tmp_path / "with", "l2gnet", gain=0.1)
    write_run(tmp_path / "without", "l2gnet")
    model = saved(tmp_path / "model.safetensors")
    audit(model, task, data="decathlon", with_block=(tmp_path / "with",), without_block=(tmp_path / "without",))
    assert "bottleneck.mapper: idle" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="runs with and without the block, got one kind"):
        audit(model, task, data="decathlon", with_block=(tmp_path / "with",))
    network, card = load_checkpoint(model)
    save_checkpoint(model, network, replace(card, training=card.training | {"settings": {"model": "synergynet"}}))
    with pytest.raises(ConfigError, match="must be of the audited model, which has model 'synergynet'"):
        audit(model, task, data="decathlon", with_block=(tmp_path / "with",), without_block=(tmp_path / "without",))


def test_a_model_that_relates_nothing_is_refused_before_a_scan_is_read(task, tmp_path, monkeypatch):
    monkeypatch.setattr("l2gnet.evaluation.scores.open_whole", None)
    path = tmp_path / "unet.safetensors"
    settings = {"classes": len(CLASSES), "width": 4, "depth": 2}
    save_checkpoint(
        path, build_model("unet", **settings), ModelCard("unet", settings, CLASSES, Grid(8.0, 32, (-125.0, 275.0)))
    )
    with pytest.raises(ValueError, match="nothing to audit"):
        audit(path, task, data="decathlon")


def test_made_patients_are_those_of_the_training(tmp_path, monkeypatch):
    path = saved(tmp_path / "model.safetensors")
    model, card = load_checkpoint(path)
    made = {"patients": 4, "validation_patients": 3, "split_seed": 3, "field_shift": 0.3}
    save_checkpoint(path, model, replace(card, training={"settings": {"data": "phantom-key"} | made}))
    asked = []
    monkeypatch.setattr("l2gnet.evaluation.scores.open_whole", lambda settings: asked.append(settings) or 1 / 0)
    for data in ("phantom-key", "phantom-side"):
        with pytest.raises(ZeroDivisionError):
            audit(path, data=data)
    told = [(each.patients, each.validation_patients, each.split_seed, each.field_shift) for each in asked]
    assert told == [(4, 3, 3, 0.3), (40, 8, 0, 0)]


def test_that_fields_of_view_were_shifted_in_training_is_said(task, tmp_path, capsys):
    path = saved(tmp_path / "model.safetensors")
    model, card = load_checkpoint(path)
    save_checkpoint(path, model, replace(card, training={"settings": {"data": "decathlon", "field_shift": 0.3}}))
    audit(path, task, data="decathlon")
    assert "in training they lay off the middle by up to 0.3 of a side" in capsys.readouterr().out


def test_runs_with_and_without_may_be_those_of_a_sweep_that_comes_along(task, tmp_path):
    names = (Path("phantom-choices"),)
    with pytest.raises(ConfigError, match="runs must differ in block and seed only"):
        audit(saved(tmp_path / "model.safetensors"), task, data="decathlon", with_block=names, without_block=names)


def test_a_made_task_needs_no_folder_and_tells_of_distances(tmp_path, capsys):
    figure = tmp_path / "pictures/audit.svg"
    audit(checkpoint_file("phantom-key"), data="phantom-key", figure=figure)
    told = capsys.readouterr().out
    assert "on slices of 8 patients" in told  # those that its training held out
    assert re.search(r"as it is +100 % +100 %", told)
    assert "bottleneck.mapper: leans" in told
    assert re.search(r"heard by its own plan +\+[1-9]\d\.", told)  # many points: others have other keys
    drawn = figure.read_text()
    assert drawn.startswith("<?xml")
    with pytest.raises(ConfigError, match=r"figure must be a file \.svg, \.png, \.pdf, got .*audit.jpg"):
        audit(checkpoint_file("phantom-key"), data="phantom-key", figure=tmp_path / "audit.jpg")
    with pytest.raises(ConfigError, match="data_dir must be the folder of the acdc data"):
        audit(checkpoint_file("phantom-key"))
