"""Against torchmetrics' calibration error, and by hand."""

import csv
import json

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from l2gnet.data.dataset import Case
from l2gnet.data.grid import Grid
from l2gnet.data.regions import Regions
from l2gnet.data.volume import IGNORED, Volume
from l2gnet.evaluation.calibration import Calibration
from l2gnet.evaluation.scores import evaluate_cases, write_scores
from l2gnet.models import build_model
from l2gnet.models.card import ModelCard
from l2gnet.prediction.inference import segment

CLASSES = ("background", "square", "stripe")


def drawn(seed, sharpness=2.0):
    """Probabilities (slices, classes, H, W) and a truth that they know something of."""
    draw = np.random.default_rng(seed)
    scores = sharpness * draw.normal(size=(4, 3, 12, 10))
    shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    truth = np.where(draw.random((4, 12, 10)) < 0.6, shares.argmax(1), draw.integers(0, 3, (4, 12, 10)))
    return shares.astype(np.float32), truth.astype(np.uint8)


def one_of_each(truth):
    return np.moveaxis(np.eye(3)[truth], -1, 1)


def test_the_numbers_are_those_of_others():
    calibration, parts = Calibration(CLASSES), [drawn(seed) for seed in range(3)]
    for shares, truth in parts:
        calibration.add(shares, truth)
    shares, truth = map(np.concatenate, zip(*parts, strict=True))
    found = calibration.as_dict()
    flat = np.moveaxis(shares, 1, -1).reshape(-1, 3), truth.reshape(-1).astype(np.int64)
    for name, chosen in (("all_voxels", flat[1] >= 0), ("structures", (flat[1] > 0) | (flat[0].argmax(1) > 0))):
        values, labels = torch.from_numpy(flat[0][chosen]), torch.from_numpy(flat[1][chosen])
        expected = multiclass_calibration_error(values, labels, num_classes=3, n_bins=15, norm="l1")
        assert found[name]["expected_calibration_error"] == pytest.approx(float(expected), abs=1e-5)
        squares = ((values - torch.nn.functional.one_hot(labels, 3)) ** 2).sum(1)
        assert found[name]["brier"] == pytest.approx(float(squares.mean()), abs=1e-6)
        assert found[name]["voxels"] == chosen.sum()


def test_the_table_says_how_often_each_confidence_is_right():
    shares = np.array([0.62, 0.64, 0.9, 0.25], np.float32)  # of the square; the first two in one bin
    probabilities = np.stack([1 - shares, shares, 0 * shares])[None, :, None]
    calibration = Calibration(CLASSES)
    calibration.add(probabilities, np.array([[[1, 0, 1, 0]]], np.uint8))
    rows = {(row["voxels_of"], row["from"]): row for row in calibration.table()}
    assert rows["all voxels", 0.6] == {
        "voxels_of": "all voxels",
        "from": 0.6,
        "to": 0.6667,
        "voxels": 2,
        "confidence": pytest.approx(0.63),
        "right": 0.5,
    }
    assert rows["all voxels", 0.7333]["confidence"] == pytest.approx(0.75)  # of the background, and right
    assert {key for key in rows if key[0] == "structures"} == {("structures", 0.6), ("structures", 0.8667)}
    ece = (2 * abs(0.5 - 0.63) + abs(1 - 0.9) + abs(1 - 0.75)) / 4
    assert calibration.as_dict()["all_voxels"]["expected_calibration_error"] == pytest.approx(ece)
    brier = 2 * (0.38**2 + 0.64**2 + 0.1**2 + 0.25**2) / 4
    assert calibration.as_dict()["all_voxels"]["brier"] == pytest.approx(brier)
    assert f"expected calibration error and Brier score: {ece:.4f} and 0.31" in str(calibration)


def test_perfect_probabilities_have_no_error():
    _, truth = drawn(0)
    calibration = Calibration(CLASSES)
    calibration.add(one_of_each(truth), truth)
    assert calibration.as_dict()["all_voxels"] == {"expected_calibration_error": 0.0, "brier": 0.0, "voxels": 480}


def test_where_no_structure_is_nothing_is_claimed():
    calibration = Calibration(CLASSES)
    calibration.add(one_of_each(np.zeros((1, 4, 4), np.uint8)), np.zeros((1, 4, 4), np.uint8))
    found = calibration.as_dict()["structures"]
    assert found == {"expected_calibration_error": None, "brier": None, "voxels": 0}
    assert "structures" not in str(calibration)


def test_what_the_masks_do_not_know_counts_as_background():
    shares, truth = drawn(1)
    truth[truth == 2] = 0
    folded = Calibration(("background", "square"), card=ModelCard("unet", {}, CLASSES, Grid(2.0, 16)))
    folded.add(shares, truth)
    by_hand = Calibration(("background", "square"))
    by_hand.add(np.stack([shares[:, 0] + shares[:, 2], shares[:, 1]], axis=1), truth)
    for part in ("all_voxels", "structures"):
        assert folded.as_dict()[part] == pytest.approx(by_hand.as_dict()[part])


def test_an_evaluation_counts_every_voxel_of_every_case(tmp_path):
    torch.manual_seed(0)
    model = build_model("unet", classes=3, width=4, depth=2).eval()
    volumes = []
    for seed in (0, 1):
        draw = np.random.default_rng(seed)
        image = Volume(draw.random((11, 20, 24), np.float32), np.diag([8.0, 2.0, 2.0, 1.0]))
        volumes.append((image, image.like(draw.integers(0, 3, image.shape).astype(np.uint8))))
    cases = [Case(f"p{n}", f"p{n}", "", "", load=lambda pair=pair: pair) for n, pair in enumerate(volumes)]
    calibration = Calibration(CLASSES)
    scores = evaluate_cases(model, cases, Grid(2.0, 16), CLASSES, calibration=calibration)
    shares, truths = [], []
    for image, truth in volumes:
        segment([model], image, Grid(2.0, 16), on_scores=lambda part: shares.append(part.numpy()))
        truths.append(truth.array)
    again = Calibration(CLASSES)
    again.add(np.concatenate(shares), np.concatenate(truths))
    assert calibration.as_dict()["all_voxels"] == pytest.approx(again.as_dict()["all_voxels"])
    assert calibration.as_dict()["all_voxels"]["voxels"] == 2 * 11 * 20 * 24
    write_scores(tmp_path, scores, cases, {"model": "unet"}, calibration)
    assert json.loads((tmp_path / "metrics.json").read_text())["calibration"] == calibration.as_dict()
    with (tmp_path / "reliability.csv").open() as file:
        assert sum(int(row["voxels"]) for row in csv.DictReader(file) if row["voxels_of"] == "all voxels") == 10560


def test_each_region_is_counted_as_a_question_of_two_answers():
    draw = np.random.default_rng(0)
    regions = Regions(((1, 2), (2,)), (1, 2))
    shares, truth = draw.random((4, 2, 6, 5), np.float32), draw.integers(0, 3, (4, 6, 5)).astype(np.uint8)
    both = Calibration(CLASSES, regions)
    both.add(shares, truth)
    by_hand = Calibration(("background", "region"))
    for number, labels in enumerate(regions.labels):
        by_hand.add(np.stack([1 - shares[:, number], shares[:, number]], 1), np.isin(truth, labels).astype(np.uint8))
    assert both.as_dict() == by_hand.as_dict()
    assert both.as_dict()["all_voxels"]["voxels"] == 2 * truth.size
    brier = np.mean([2 * (shares[:, n] - np.isin(truth, own)) ** 2 for n, own in enumerate(regions.labels)])
    assert both.as_dict()["all_voxels"]["brier"] == pytest.approx(brier)


def test_voxels_that_the_truth_leaves_open_are_not_counted():
    shares, truth = drawn(2)
    unknown = truth.copy()
    unknown[..., 4:] = IGNORED
    left, all_known = Calibration(CLASSES), Calibration(CLASSES)
    left.add(shares, unknown)
    all_known.add(shares[..., :4], truth[..., :4])
    assert left.as_dict() == all_known.as_dict()
