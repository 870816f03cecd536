"""Several image channels, from the files to the scores, on a task that only the second channel shows."""

import json
import shutil
from dataclasses import replace

import folders
import nibabel as nib
import numpy as np
import pytest
import torch
from tiny import TINY

from l2gnet.cli.evaluate import evaluate
from l2gnet.cli.predict import predict
from l2gnet.data.grid import Grid
from l2gnet.data.inputs import find_inputs
from l2gnet.data.resampling import image_on_grid
from l2gnet.data.volume import read_frames
from l2gnet.errors import ConfigError, VolumeError
from l2gnet.evaluation.scores import evaluate_cases
from l2gnet.models import build_model
from l2gnet.models.card import ModelCard, read_card
from l2gnet.models.checkpoint import load_checkpoint, save_checkpoint
from l2gnet.prediction.export import write_export
from l2gnet.prediction.inference import network_input
from l2gnet.prediction.model_card import card_text
from l2gnet.prediction.segmenter import Segmenter, write_prediction
from l2gnet.training.run import train
from l2gnet.training.run_folder import open_run
from l2gnet.training.settings import TrainSettings

SMALL = {"classes": 2, "width": 4, "depth": 3}
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


def test_it_is_evaluated_on_the_same_channels_by_name(run, task, tmp_path, capsys):
    other = tmp_path / "other"
    (other / "imagesTr").mkdir(parents=True)
    for number in range(8):
        for here, there in (("0000", "0001"), ("0001", "0000")):
            image = task / "imagesTr" / f"case{number}_{here}.nii.gz"
            shutil.copy(image, other / "imagesTr" / f"case{number}_{there}.nii.gz")
    shutil.copytree(task / "labelsTr", other / "labelsTr")
    fields = json.loads((task / "dataset.json").read_text())
    (other / "dataset.json").write_text(json.dumps(fields | {"channel_names": {"0": "ADC", "1": "T2"}}))

    def score(data_dir, **options):
        evaluate(run.run_dir / "model.safetensors", data_dir, data="decathlon", out=tmp_path / "scores", **options)
        return json.loads((tmp_path / "scores/metrics.json").read_text())["all"]["overall"]["dice"]["mean"]

    assert score(task) == score(other) == pytest.approx(dice(run))
    assert "2 volumes; 6 of patients that it was trained on, by their names, left out" in capsys.readouterr().out
    assert score(other, channel="0, 1") < 0.5  # who insists on an order gets it
    with pytest.raises(ConfigError, match=r"takes the image channels T2, ADC, got ADC; name as many by channel"):
        score(other, channel="ADC")
    (other / "dataset.json").write_text(json.dumps(fields | {"channel_names": {"0": "a", "1": "b"}}))
    with pytest.raises(ConfigError, match=r"channel must be one of a, b, or several .*, got 'T2, ADC'"):
        score(other)


@pytest.fixture
def segmenter(run):
    return Segmenter(run.run_dir / "model.safetensors")


def predicted(segmenter, *paths):
    """The predictions of all scans there, by name."""
    return {
        scan.name: segmenter.predict(scan.read(), scan.name) for scan in find_inputs(paths, segmenter.card.channels)
    }


def test_both_forms_of_a_scan_get_the_same_labels(segmenter, tmp_path):
    folder = tmp_path / "scans"
    for number in (20, 21):
        channels, _ = channels_and_label(number)
        for channel, array in enumerate(channels):
            save(folder / f"case{number}_{channel:04d}.nii.gz", array)
        save(folder / f"whole{number}.nii.gz", np.stack(channels, axis=3))
    found = predicted(segmenter, folder)
    assert list(found) == ["case20", "case21", "whole20", "whole21"]
    for number in (20, 21):
        truth = channels_and_label(number)[1].astype(bool)
        for form in ("case", "whole"):
            prediction = found[f"{form}{number}"]
            (labels,) = prediction.labels
            assert labels.more == ()
            written = np.asarray(nib.load(write_prediction(tmp_path / "out", prediction)).dataobj) == 1
            assert written.shape == SHAPE
            assert 2 * (written & truth).sum() / (written.sum() + truth.sum()) > 0.85
        assert np.array_equal(*(found[f"{form}{number}"].labels[0].array for form in ("case", "whole")))
    named = predicted(segmenter, folder / "case20_0001.nii.gz", folder / "case20_0000.nii.gz")
    assert np.array_equal(named["case20"].labels[0].array, found["case20"].labels[0].array)


def test_a_scan_stored_in_another_order_gets_the_same_labels(segmenter, tmp_path):
    channels, _ = channels_and_label(20)
    flip = AFFINE @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    save(tmp_path / "one.nii", np.stack(channels, axis=3))
    save(tmp_path / "other.nii", np.stack(channels, axis=3)[::-1], flip)
    one, other = predicted(segmenter, tmp_path).values()
    assert np.array_equal(one.labels[0].array, other.labels[0].array)


def test_a_scan_without_all_channels_is_refused(segmenter, tmp_path):
    channels, _ = channels_and_label(20)
    first = save(tmp_path / "case_0000.nii.gz", channels[0])
    wanted = r"case: the channels T2, ADC must lie in case_0000, case_0001 \(.nii.gz\), or in one 4-D file; found "
    with pytest.raises(VolumeError, match=wanted + "case_0000; name all of them"):
        predicted(segmenter, first)
    for name in ("case_0001.nii.gz", "case_0002.nii.gz"):
        save(tmp_path / name, channels[1])
    with pytest.raises(VolumeError, match=wanted + "case_0000, case_0001, case_0002"):
        predicted(segmenter, tmp_path)
    (tmp_path / "case_0002.nii.gz").unlink()
    save(tmp_path / "case_0001.nii.gz", channels[1], np.diag([-2.0, -2.0, 9.0, 1.0]))
    with pytest.raises(VolumeError, match=r"case_0001\.nii\.gz: the grid must be that of .*case_0000\.nii\.gz; found"):
        predicted(segmenter, tmp_path)
    rule = "a scan must have the image channels that the model takes, T2, ADC; found"
    for count in (1, 3):
        whole = save(tmp_path / "whole.nii", np.stack([channels[0]] * count, axis=3))
        with pytest.raises(VolumeError, match=f"whole: {rule} {count}; name the files"):
            predicted(segmenter, whole)
    with pytest.raises(VolumeError, match=f"first: {rule} 1"):
        segmenter.predict(read_frames(first), "first")
    with pytest.raises(VolumeError, match=r"must have 3 dimensions, each positive; found"):
        predicted(segmenter, *(save(tmp_path / f"t_000{n}.nii", np.stack(channels, axis=3)) for n in range(2)))


def test_dicom_is_refused_with_what_to_do(segmenter, tmp_path):
    folders.write_dicom(tmp_path / "series", [np.zeros((8, 8, 3), np.int16)], np.diag([-1.0, -1.0, 8.0, 1.0]))
    with pytest.raises(VolumeError, match=r"several channels, T2, ADC, must be NIfTI; found a DICOM series; convert"):
        predicted(segmenter, tmp_path / "series")


def test_the_command_takes_a_folder_of_nnunet(run, task, tmp_path, capsys):
    predict(run.run_dir / "model.safetensors", [task / "imagesTr"], tmp_path)
    assert "case7: disc " in capsys.readouterr().out
    assert len(list(tmp_path.glob("case?_labels.nii.gz"))) == 8


def test_one_channel_of_several_is_segmented_file_by_file_as_ever(task, tmp_path):
    model = build_model("unet", **SMALL)
    save_checkpoint(tmp_path / "m.safetensors", model, ModelCard("unet", SMALL, ("background", "disc"), Grid(2.0, 32)))
    segmenter = Segmenter(tmp_path / "m.safetensors")
    files = [task / "imagesTr" / f"case0_{channel:04d}.nii.gz" for channel in range(2)]
    assert list(predicted(segmenter, *files)) == ["case0_0000", "case0_0001"]


def test_a_blank_channel_is_doubted(segmenter, tmp_path):
    channels, _ = channels_and_label(20)
    (good,) = predicted(segmenter, save(tmp_path / "good.nii", np.stack(channels, axis=3))).values()
    (blank,) = predicted(segmenter, save(tmp_path / "b.nii", np.stack([channels[0], 0 * channels[1]], axis=3))).values()
    reason = "its channel 1 is blank: all of its voxels have one grey value"
    assert (reason in blank.doubts, reason in good.doubts) == (True, False)


@pytest.mark.usefixtures("as_a_user")  # shape checks would be traced into the graph
def test_it_is_exported_with_its_channels(run, tmp_path):
    model, card = load_checkpoint(run.run_dir / "model.safetensors")
    write_export(tmp_path / "model.pt2", model, card)
    told = {"l2gnet": ""}
    network = torch.export.load(tmp_path / "model.pt2", extra_files=told).module()
    images = network_input(image_on_grid(run.dataset.validation[0].load()[0], run.grid))
    with torch.inference_mode():
        assert torch.equal(network(images)["logits"].argmax(1), model(images).argmax(1))
    words = json.loads(told["l2gnet"])
    assert words["input"].startswith("images: float32 (batch, 2, 32, 32)")
    assert words["model"]["channels"] == ["T2", "ADC"]
    assert "map ADC from their 0.5th to 99.5th percentile over the volume to 0..1, clipped" in words["preparation"]


def test_the_card_shows_how_each_channel_is_seen(run):
    card = read_card(run.run_dir / "model.safetensors")
    of_both = "channels: T2 (grey values 0.5th to 99.5th percentile), ADC (grey values 0.5th to 99.5th percentile)"
    assert of_both in card_text(card, 1)
    beside_ct = replace(card, channels=("PET", "CT"), grid=Grid(2.0, 32, (-125.0, 275.0), windowed=(1,)))
    save_checkpoint(run.run_dir / "other.safetensors", run.model, beside_ct)
    assert read_card(run.run_dir / "other.safetensors") == beside_ct
    assert "PET (grey values 0.5th to 99.5th percentile), CT (grey values from -125 to 275)" in card_text(beside_ct, 1)
