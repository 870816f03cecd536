"""nnU-Net's `ignore`, from the files to the scores: masks of which two thirds were never drawn."""

import json
from dataclasses import replace
from functools import partial

import nibabel as nib
import numpy as np
import pytest
from tiny import TINY

from l2gnet.data.dataset import open_dataset
from l2gnet.data.volume import IGNORED
from l2gnet.evaluation.scores import evaluate_cases
from l2gnet.inspection.audit import open_slices
from l2gnet.models.card import read_card
from l2gnet.training.look import look
from l2gnet.training.run import train
from l2gnet.training.settings import TrainSettings

SHAPE, AFFINE = (32, 32, 10), np.diag([-2.0, -2.0, 8.0, 1.0])


@pytest.fixture(scope="module")
def truths(tmp_path_factory):
    """A folder of bright discs in noise, numbered 7, whose rows are labelled one in three and else 9, `ignore`."""
    root, truths = tmp_path_factory.mktemp("task"), {}
    (root / "imagesTr").mkdir()
    (root / "labelsTr").mkdir()
    x, y = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for number in range(8):
        rng = np.random.default_rng(number)
        middle = rng.uniform(10, 22, 2)
        disc = np.repeat(np.hypot(x - middle[0], y - middle[1])[..., None] < 7, SHAPE[2], axis=2)
        mask = np.where(np.arange(SHAPE[1])[:, None] % 3 == 1, 7 * disc, 9).astype(np.uint8)
        image = (rng.normal(100, 20, SHAPE) + 200 * disc).astype(np.float32)
        nib.Nifti1Image(image, AFFINE).to_filename(root / "imagesTr" / f"case{number}_0000.nii.gz")
        nib.Nifti1Image(mask, AFFINE).to_filename(root / "labelsTr" / f"case{number}.nii.gz")
        truths[f"case{number}"] = disc.transpose(2, 1, 0)
    labels = {"background": 0, "disc": 7, "ignore": 9}
    (root / "dataset.json").write_text(json.dumps({"channel_names": {"0": "MR"}, "labels": labels}))
    return root, truths


def test_a_model_learns_from_what_was_drawn_and_is_scored_on_it(truths, tmp_path):
    root, truths = truths
    given = {"data": "decathlon", "data_dir": str(root), "cache_dir": str(tmp_path), "validation_patients": 2}
    given |= {"model": "unet", "deep_supervision": True, "spacing_mm": 2.0, "batch_size": 4, "learning_rate": 0.02}
    run = train(TrainSettings(**TINY | given), tmp_path / "run")
    assert run.dataset.classes == ("background", "disc")
    scores = evaluate_cases(run.model, run.dataset.validation, run.grid, run.dataset.classes)
    for case in run.dataset.validation:
        labels = case.load()[1]
        (score,) = scores[case.name]
        drawn = labels.array != 255
        assert drawn.mean() == pytest.approx(1 / 3, abs=0.05)
        assert np.array_equal(labels.array[drawn], truths[case.name][drawn])
        assert score.truth_ml == pytest.approx((labels.array == 1).sum() * 32 / 1000)
        assert score.dice > 0.8
    shown = np.load(run.run_dir / "samples.npz")["truth"]
    assert (shown == 1).any((1, 2)).all()
    card = read_card(run.run_dir / "model.safetensors")
    assert 255 in open_slices(run.dataset.validation, card, run.dataset.classes).labels


def test_the_slice_that_is_looked_at_is_one_on_which_something_was_drawn(truths, tmp_path):
    given = {"data": "decathlon", "data_dir": str(truths[0]), "cache_dir": str(tmp_path), "validation_patients": 2}
    settings = TrainSettings(**TINY | given | {"spacing_mm": 2.0})
    dataset = open_dataset(settings)

    def masked(case):
        image, labels = case.load()
        array = labels.array.copy()
        array[3:] = IGNORED  # nobody drew on these
        return image, labels.like(array)

    cases = tuple(replace(case, load=partial(masked, case), files=()) for case in dataset.training)
    plain, _ = look(settings, replace(dataset, training=cases), count=2)
    assert (plain.labels == 1).any((1, 2)).all()
