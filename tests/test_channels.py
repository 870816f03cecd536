"""Several image channels, from the files to the scores, on a task that only the second channel shows."""

import json

import nibabel as nib
import numpy as np
import pytest
from tiny import TINY

from l2gnet.checkpoint import read_card
from l2gnet.evaluation import evaluate_cases
from l2gnet.settings import TrainSettings
from l2gnet.training import open_run, train

SHAPE = (32, 32, 10)  # columns, rows, slices
AFFINE = np.diag([-2.0, -2.0, 8.0, 1.0])
CHANNELS = {"0": "T2", "1": "ADC"}


def channels_and_label(number):
    """Noise, and a bright disc in noise; the disc is what is to be found."""
    rng = np.random.default_rng(number)
    x, y = np.mgrid[: SHAPE[0], : SHAPE[1]]
    middle = rng.uniform(10, 22, 2)
    label = np.repeat(np.hypot(x - middle[0], y - middle[1])[..., None] < 7, SHAPE[2], axis=2)
    first, second = rng.normal(100, 20, (2, *SHAPE))
    return (first.astype(np.float32), (second + 200 * label).astype(np.float32)), label.astype(np.uint8)


def save(path, array, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(array, affine).to_filename(path)
    return path


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """A folder as nnU-Net has it."""
    root = tmp_path_factory.mktemp("task")
    for number in range(8):
        channels, label = channels_and_label(number)
        for channel, array in enumerate(channels):
            save(root / "imagesTr" / f"case{number}_{channel:04d}.nii.gz", array)
        save(root / "labelsTr" / f"case{number}.nii.gz", label)
    fields = {"channel_names": CHANNELS, "labels": {"background": 0, "disc": 1}, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(fields))
    return root


def trained(task, folder, **changes):
    given = {"model": "unet", "data": "decathlon", "data_dir": str(task), "cache_dir": str(folder / "cache")}
    given |= {"validation_patients": 2, "spacing_mm": 2.0, "batch_size": 4, "learning_rate": 0.02}
    return train(TrainSettings(**TINY | given | changes), folder / "run")


@pytest.fixture(scope="module")
def run(task, tmp_path_factory):
    return trained(task, tmp_path_factory.mktemp("both"))


def dice(run):
    scores = evaluate_cases(run.model, run.dataset.validation, run.grid, run.dataset.classes)
    return np.mean([score.dice for case in scores.values() for score in case])


def test_what_only_the_second_channel_shows_is_learnt(run, task, tmp_path):
    assert dice(run) > 0.85
    assert dice(trained(task, tmp_path, channel="T2")) < 0.5


def test_the_card_names_the_channels_and_opens_the_run_again(run, task):
    card = read_card(run.run_dir / "model.safetensors")
    assert (card.channels, card.settings["channels"]) == (("T2", "ADC"), 2)
    again = open_run(run.run_dir / "model.safetensors", data_dir=str(task))
    assert again.dataset.channels == ("T2", "ADC")
    assert dice(again) == dice(run)
