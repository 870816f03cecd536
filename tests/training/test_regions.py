"""nnU-Net's regions, from the files to the scores: tumours as BraTS labels them, shells of three numbers."""

import csv
import json
import sys
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from tiny import TINY

from l2gnet.cli.main import main
from l2gnet.data.dataset import open_dataset
from l2gnet.data.folders.check import check
from l2gnet.data.regions import Regions
from l2gnet.data.volume import IGNORED
from l2gnet.errors import CheckpointError, ConfigError
from l2gnet.evaluation.scores import evaluate_cases
from l2gnet.inspection.audit import audit, open_slices
from l2gnet.models.card import read_card
from l2gnet.models.checkpoint import load_checkpoint, save_checkpoint
from l2gnet.prediction.inference import predict_volume
from l2gnet.prediction.segmenter import Segmenter
from l2gnet.training.run import train
from l2gnet.training.settings import TrainSettings

SHAPE, AFFINE = (32, 32, 10), np.diag([-2.0, -2.0, 8.0, 1.0])
NAMES = ("background", "whole tumor", "tumor core", "enhancing tumor")
PARTS = {"whole tumor": (1, 2, 3), "tumor core": (2, 3), "enhancing tumor": (3,)}


def write_tumours(root, cases=range(6), **changes):
    """A folder of discs in noise: oedema 1 around necrosis 2 around what enhances 3, and each is brighter."""
    x, y = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for number in cases:
        rng = np.random.default_rng(number)
        away = np.hypot(x - rng.uniform(12, 20), y - rng.uniform(12, 20))[..., None]
        mask = sum((away < radius).astype(np.uint8) for radius in (10, 7, 4)) * np.ones(SHAPE, np.uint8)
        image = (rng.normal(100, 10, SHAPE) + 100 * mask).astype(np.float32)
        nib.Nifti1Image(image, AFFINE).to_filename(root / "imagesTr" / f"case{number}_0000.nii.gz")
        nib.Nifti1Image(mask, AFFINE).to_filename(root / "labelsTr" / f"case{number}.nii.gz")
    labels = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": 3}
    described = {"channel_names": {"0": "MR"}, "labels": labels, "regions_class_order": [1, 2, 3]}
    (root / "dataset.json").write_text(json.dumps(described | changes))


def settings(root, tmp_path, **changes):
    given = {"data": "decathlon", "data_dir": str(root), "cache_dir": str(tmp_path / "cache"), "validation_patients": 2}
    given |= {"spacing_mm": 2.0, "batch_size": 4, "learning_rate": 0.02, "epochs": 3}
    return TrainSettings(**TINY | given | changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("regions")
    write_tumours(root / "task")
    changes = {"model": "l2gnet", "deep_supervision": True, "epochs": 10}
    return root / "task", train(settings(root / "task", root, **changes), root / "run")


def dice(predicted, truth, labels):
    a, b = np.isin(predicted, labels), np.isin(truth, labels)
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_a_model_of_regions_is_learnt_and_scored_on_unions_of_labels(trained):
    _, run = trained
    assert run.dataset.classes == NAMES
    assert run.model(torch.zeros(1, 1, 32, 32)).shape == (1, 3, 32, 32)  # none is of the background
    scores = evaluate_cases(
        run.model, run.dataset.validation, run.grid, run.dataset.classes, regions=run.dataset.regions
    )
    with pytest.raises(ConfigError, match=r"an output for each class or region, .*, got 3; give the regions"):
        evaluate_cases(run.model, run.dataset.validation, run.grid, run.dataset.classes)
    segmenter = Segmenter(run.run_dir)
    for case in run.dataset.validation:
        image, truth = case.load()
        predicted = segmenter.predict([image], case.name).labels[0].array
        for score in scores[case.name]:
            by_hand = dice(predicted, truth.array, PARTS[score.structure])
            assert score.dice == pytest.approx(by_hand)
            assert by_hand > 0.8
    card = read_card(run.run_dir)
    assert (card.classes, card.regions) == (NAMES, Regions(tuple(PARTS.values()), (1, 2, 3)))
    assert card.labels[2] == "2: whole tumor + tumor core"
    assert load_checkpoint(run.run_dir)[1] == card


def run_command(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["l2gnet", *map(str, words)])
    main()


def test_predict_writes_labels_that_nnunet_reads_and_a_volume_for_each_region(trained, tmp_path, monkeypatch):
    root, run = trained
    scan = root / "imagesTr" / "case0_0000.nii.gz"
    run_command(monkeypatch, "predict", run.run_dir, scan, "-o", tmp_path, "--nnunet-names", "--probabilities")
    labels = np.asarray(nib.load(tmp_path / "case0.nii.gz").dataobj)
    shares = nib.load(tmp_path / "probabilities" / "case0_probabilities.nii.gz").get_fdata(dtype=np.float32)
    assert shares.shape == (*SHAPE, 3)
    painted = np.zeros(SHAPE, np.uint8)
    for number in range(3):
        painted[shares[..., number] > 0.5] = number + 1
    assert np.array_equal(labels, painted)
    told = json.loads((tmp_path / "case0.json").read_text())
    assert told["labels"] == {"background": 0} | {name: list(numbers) for name, numbers in PARTS.items()}
    assert told["regions_class_order"] == [1, 2, 3]
    for name, numbers in PARTS.items():
        expected = np.isin(labels, numbers).sum() * 2 * 2 * 8 / 1000
        assert told["frames"][0]["volumes_ml"][name] == pytest.approx(expected)
    truth = np.asarray(nib.load(root / "labelsTr" / "case0.nii.gz").dataobj)
    assert min(dice(labels, truth, numbers) for numbers in PARTS.values()) > 0.8


def test_evaluate_goes_by_the_names_of_regions_whatever_their_numbers(trained, tmp_path, monkeypatch):
    root, run = trained
    run_command(monkeypatch, "evaluate", run.run_dir, root, "--data", "decathlon", "-o", tmp_path / "same")
    other = tmp_path / "other"
    write_tumours(other)
    renumber = np.array([0, 4, 9, 2], np.uint8)
    for path in (other / "labelsTr").iterdir():
        mask = np.asarray(nib.load(path).dataobj)
        nib.Nifti1Image(renumber[mask], AFFINE).to_filename(path)
    labels = {"whole tumor": [2, 4, 9], "enhancing tumor": [2], "background": 0}  # and none of the core
    description = json.loads((other / "dataset.json").read_text())
    (other / "dataset.json").write_text(json.dumps(description | {"labels": labels, "regions_class_order": [4, 2]}))
    run_command(monkeypatch, "evaluate", run.run_dir, other, "--data", "decathlon", "-o", tmp_path / "renumbered")
    same, renumbered = (read_scores(tmp_path / name) for name in ("same", "renumbered"))
    assert same.keys() == {(case.name, name) for case in run.dataset.validation for name in PARTS}
    assert renumbered == {key: score for key, score in same.items() if key[1] != "tumor core"}
    calibration = json.loads((tmp_path / "same" / "metrics.json").read_text())["calibration"]
    assert calibration["all_voxels"]["voxels"] == 2 * 3 * np.prod(SHAPE)
    assert calibration["all_voxels"]["brier"] < 0.1


def read_scores(folder):
    rows = csv.DictReader((folder / "scores.csv").read_text().splitlines())
    return {(row["case"], row["structure"]): (row["dice"], row["hd95_mm"], row["truth_ml"]) for row in rows}


def test_an_audit_counts_regions_and_refuses_others(trained):
    _, run = trained
    card, cases = read_card(run.run_dir), run.dataset.cases
    slices = open_slices(cases, card, run.dataset.classes, run.dataset.regions)
    found = audit(run.model, slices, card.classes, regions=card.regions)
    assert found.dice > 0.8
    assert found.structures == NAMES[1:]
    for classes, regions in [(NAMES, Regions()), (NAMES[:3], Regions(((1, 2), (2,)), (1, 2)))]:
        with pytest.raises(ConfigError, match=r"labels of the model, 1: whole tumor, 2: whole .*; write labels in"):
            open_slices(cases, card, classes, regions)


def test_an_ensemble_is_of_the_same_regions(trained, tmp_path):
    _, run = trained
    model, card = load_checkpoint(run.run_dir)
    other = replace(card, regions=Regions(tuple(PARTS.values()), (2, 3, 3)))
    save_checkpoint(tmp_path / "other.safetensors", model, other)
    both = Segmenter(run.run_dir, run.run_dir / "best.safetensors", augment=True)
    image, truth = run.dataset.validation[0].load()
    prediction = both.predict([image], "case")
    assert dice(prediction.labels[0].array, truth.array, PARTS["whole tumor"]) > 0.8
    with pytest.raises(CheckpointError, match="an ensemble must share classes, regions"):
        Segmenter(run.run_dir, tmp_path / "other.safetensors")


def test_check_says_which_regions_there_are_and_what_no_case_has(tmp_path):
    write_tumours(tmp_path, range(2))
    report = check(tmp_path)
    assert report.classes == NAMES
    assert not report.problems
    assert any(note.startswith("regions: its labels are 1: whole tumor, 2: whole") for note in report.notes)
    path = tmp_path / "labelsTr" / "case0.nii.gz"
    nib.Nifti1Image(np.minimum(np.asarray(nib.load(path).dataobj), 2), AFFINE).to_filename(path)
    assert "case0: no enhancing tumor in the mask" in check(tmp_path).notes
    nib.Nifti1Image(np.full(SHAPE, 4, np.uint8), AFFINE).to_filename(path)
    assert any("labels must lie in 0..3; found [4]" in problem for problem in check(tmp_path).problems)


def test_some_regions_alone_are_refused_with_what_to_do(tmp_path):
    write_tumours(tmp_path / "task", range(3))
    with pytest.raises(ConfigError, match=r"structures must be empty for a folder of regions.*; leave the others out"):
        open_dataset(settings(tmp_path / "task", tmp_path, structures="tumor core"))


def test_what_nobody_drew_is_neither_learnt_nor_scored(tmp_path):
    write_tumours(tmp_path / "task", range(4))
    for path in (tmp_path / "task" / "labelsTr").iterdir():
        mask = np.asarray(nib.load(path).dataobj).copy()
        mask[:, 16:] = 4
        nib.Nifti1Image(mask, AFFINE).to_filename(path)
    path = tmp_path / "task" / "dataset.json"
    description = json.loads(path.read_text())
    description["labels"]["ignore"] = 4
    path.write_text(json.dumps(description))
    run = train(settings(tmp_path / "task", tmp_path, model="unet", epochs=2, validation_patients=1), tmp_path / "run")
    (case,) = run.dataset.validation
    image, truth = case.load()
    assert (truth.array == IGNORED).mean() == 0.5
    scores = evaluate_cases(run.model, [case], run.grid, NAMES, regions=run.dataset.regions)[case.name]
    predicted = predict_volume(run.model, image, run.grid, regions=run.dataset.regions).array
    drawn = truth.array != IGNORED
    for score in scores:
        assert score.dice == pytest.approx(dice(predicted[drawn], truth.array[drawn], PARTS[score.structure]))
