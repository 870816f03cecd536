"""nnU-Net's regions, from the files to the scores: tumours as BraTS labels them, shells of three numbers."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from tiny import TINY

from l2gnet.data.regions import Regions
from l2gnet.evaluation.scores import evaluate_cases
from l2gnet.models.card import read_card
from l2gnet.models.checkpoint import load_checkpoint
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
