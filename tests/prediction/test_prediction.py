import dataclasses
import functools
import itertools
import json
import re

import folders
import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch

from l2gnet.data.dataset import open_dataset
from l2gnet.data.grid import Grid
from l2gnet.data.inputs import find_inputs
from l2gnet.data.phantoms import make_abdomen, make_heart
from l2gnet.data.volume import read_frames, read_labels
from l2gnet.errors import CheckpointError, ConfigError, VolumeError
from l2gnet.models import build_model
from l2gnet.models.card import ModelCard
from l2gnet.models.checkpoint import save_checkpoint
from l2gnet.prediction import segmenter
from l2gnet.prediction.doubt import learn_familiar
from l2gnet.prediction.inference import segment
from l2gnet.prediction.segmenter import (
    Segmenter,
    structure_volumes_ml,
    write_prediction,
    write_probabilities,
    write_seg,
)
from l2gnet.training.settings import TrainSettings

CLASSES = ("background", "right ventricle", "myocardium", "left ventricle")
SMALL = {"classes": 4, "width": 4, "depth": 2, "codes": 8, "code_dim": 8, "references": 4}
ORDERS = list(itertools.product(itertools.permutations(range(3)), itertools.product((False, True), repeat=3)))
OBLIQUE = nib.eulerangles.euler2mat(x=0.3, y=-0.2, z=0.25)


@functools.cache
def scattered_model(seed):
    """Random weights, made to find every structure somewhere: senseless labels that depend on place and side."""
    torch.manual_seed(seed)
    model = build_model("l2gnet", **SMALL).train()
    images = torch.from_numpy(make_heart(1, shape=(4, 48, 48), spacing_mm=(16.0, 3.0, 3.0)).image)[:, None] / 1000
    with torch.no_grad():
        for _ in range(10):
            model(images)
        model.head.bias -= model.eval()(images).mean((0, 2, 3))
    return model


def save_model(path, *, seed=0, plane="acquired", classes=CLASSES):
    card = ModelCard("l2gnet", SMALL, classes, Grid(3.0, 48), plane=plane)
    save_checkpoint(path, scattered_model(seed), card)
    return path


@pytest.fixture
def model(tmp_path):
    return save_model(tmp_path / "model.safetensors")


def save_scan(path, array, affine):
    path.parent.mkdir(exist_ok=True)
    nib.Nifti1Image(array, affine).to_filename(path)
    return path


def scan_and_affine(spacing_mm=(1.4, 1.6, 8.0)):
    """A phantom heart with axes to the left, to posterior and to superior, tilted in the scanner."""
    array = make_heart(1, shape=(5, 60, 70), spacing_mm=(16.0, 3.0, 3.0)).image.T.astype(np.int16)
    affine = np.eye(4)
    affine[:3, :3] = OBLIQUE @ np.diag([-1, -1, 1]) @ np.diag(spacing_mm)
    affine[:3, 3] = 10, -20, 30
    return array, affine


def stored_as(array, affine, axes, flips):
    """The same scan with its axes stored in another order, some of them backwards."""
    to_old = np.zeros((4, 4))
    to_old[3, 3] = 1
    for new, (old, flip) in enumerate(zip(axes, flips, strict=True)):
        to_old[old, new] = -1 if flip else 1
        to_old[old, 3] = array.shape[old] - 1 if flip else 0
    return np.flip(np.transpose(array, axes), [axis for axis in range(3) if flips[axis]]), affine @ to_old


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plane", "spacing_mm"),
    [("acquired", (1.4, 1.6, 8.0)), ("acquired", (8.0, 1.4, 1.6)), ("coronal", (2.0, 1.5, 8.0))],
)
def test_a_scan_stored_in_any_of_48_orders_gets_the_same_labels_in_the_world(tmp_path, plane, spacing_mm):
    segmenter = Segmenter(save_model(tmp_path / "model.safetensors", plane=plane))
    array, affine = scan_and_affine(spacing_mm)
    expected = None
    for order in ORDERS:
        stored, stored_affine = stored_as(array, affine, *order)
        path = save_scan(tmp_path / "scan.nii.gz", stored, stored_affine)
        written = nib.load(write_prediction(tmp_path / "out", segmenter.predict(read_frames(path), "scan")))
        assert written.affine.tobytes() == nib.load(path).affine.tobytes()
        labels = np.asarray(written.dataobj)
        expected = labels if expected is None else expected  # the first order is that of the array itself
        assert np.array_equal(labels, stored_as(expected, affine, *order)[0])
    shares = np.bincount(expected.ravel(), minlength=4) / expected.size
    assert np.sort(shares)[-2] > 0.02  # or the labels would prove nothing


def test_one_slice_of_any_stored_order_gets_one_map(tmp_path, model):
    array, affine = scan_and_affine()
    array, segmenter, expected = array[:, :, 2:3], Segmenter(model), None
    for order in ORDERS:
        stored, stored_affine = stored_as(array, affine, *order)
        path = save_scan(tmp_path / "scan.nii.gz", stored, stored_affine)
        labels = np.asarray(
            nib.load(write_prediction(tmp_path / "out", segmenter.predict(read_frames(path), "scan"))).dataobj
        )
        expected = labels if expected is None else expected
        assert np.array_equal(labels, stored_as(expected, affine, *order)[0])


def test_what_a_reader_was_not_sure_of_is_a_doubt_of_the_result(tmp_path, model):
    array, affine = scan_and_affine()
    folders.write_dicom(tmp_path / "series", [array], affine)
    (tmp_path / "series" / "IM0001").unlink()
    (scan,) = find_inputs([tmp_path / "series"])
    prediction = Segmenter(model).predict(scan.read(), scan.name)
    assert "its images are numbered from 2 on: are the first ones missing?" in prediction.doubts
    assert "DOUBTFUL: its images are numbered from 2 on" in str(prediction)
    write_prediction(tmp_path / "out", prediction)
    assert prediction.doubts == json.loads((tmp_path / "out" / "series_labels.json").read_text())["doubts"]


def test_slices_are_cut_in_the_plane_that_the_model_was_trained_on(tmp_path):
    array, affine = scan_and_affine((8.0, 1.6, 1.4))  # thick from left to right: sagittal slices
    path = save_scan(tmp_path / "scan.nii", array, affine)
    counts = {
        plane: Segmenter(save_model(tmp_path / f"{plane}.safetensors", plane=plane))
        .predict(read_frames(path), "scan")
        .confidence.shape
        for plane in ("acquired", "sagittal", "coronal", "axial")
    }
    assert counts == {"acquired": (1, 70), "sagittal": (1, 70), "coronal": (1, 60), "axial": (1, 5)}


def test_every_geometry_field_is_that_of_the_scan(tmp_path, model):
    path = save_scan(tmp_path / "scan.nii.gz", *scan_and_affine())
    out = write_prediction(tmp_path / "out", Segmenter(model).predict(read_frames(path), "scan"))
    scan, labels = nib.load(path).header, nib.load(out).header
    for name in ("dim", "pixdim", "qform_code", "sform_code", "qoffset_x", "srow_x", "srow_y", "srow_z", "xyzt_units"):
        assert labels[name].tobytes() == scan[name].tobytes(), name
    assert sorted(file.name for file in out.parent.iterdir()) == ["scan_labels.json", "scan_labels.nii.gz"]


def test_numbers_lie_beside_the_labels(tmp_path, model):
    path = save_scan(tmp_path / "scan.nii.gz", *scan_and_affine())
    prediction = Segmenter(model).predict(read_frames(path), "scan")
    out = write_prediction(tmp_path / "out", prediction)
    told = json.loads((tmp_path / "out/scan_labels.json").read_text())
    assert told["labels"] == {name: label for label, name in enumerate(CLASSES)}
    labels = read_labels(out).array
    (frame,) = told["frames"]
    for label, name in enumerate(CLASSES[1:], start=1):
        assert frame["volumes_ml"][name] == pytest.approx((labels == label).sum() * 1.4 * 1.6 * 8 / 1000, rel=1e-5)
    assert len(frame["slice_confidence"]) == 5
    assert all(0 <= value <= 1 for value in frame["slice_confidence"])
    assert str(prediction).startswith("scan: right ventricle ")


def test_an_ensemble_is_the_mean_of_its_models(tmp_path, model):
    other = save_model(tmp_path / "other.safetensors", seed=1)
    frames = read_frames(save_scan(tmp_path / "scan.nii", *scan_and_affine()))
    one, two = (Segmenter(path).predict(frames, "scan") for path in (model, other))
    both = Segmenter(model, other).predict(frames, "scan")
    assert not np.array_equal(both.labels[0].array, one.labels[0].array)
    agreed = one.labels[0].array == two.labels[0].array
    assert (both.labels[0].array == one.labels[0].array)[agreed].mean() > 0.95
    twice = Segmenter(model, model).predict(frames, "scan")
    assert np.array_equal(twice.labels[0].array, one.labels[0].array)


def test_test_time_augmentation_uses_the_views_that_the_model_was_trained_with(tmp_path, model):
    with pytest.raises(CheckpointError, match="needs a card that says how the model was trained"):
        Segmenter(model, augment=True)
    frames = read_frames(save_scan(tmp_path / "scan.nii", *scan_and_affine()))
    plain = Segmenter(model).predict(frames, "scan")
    trained = {"settings": {"recipe": "onecycle", "flips": True}}
    card = ModelCard("l2gnet", SMALL, ("background", "a", "b", "c"), Grid(3.0, 48), trained)  # of no side
    save_checkpoint(tmp_path / "mirrors.safetensors", scattered_model(0), card)
    segmenter = Segmenter(tmp_path / "mirrors.safetensors", augment=True)
    assert len(segmenter.views[0]) == 4
    augmented = segmenter.predict(frames, "scan")
    assert not np.array_equal(augmented.labels[0].array, plain.labels[0].array)


@pytest.mark.usefixtures("as_a_user")
def test_a_precision_that_there_is_not_is_refused(model):
    with pytest.raises(ConfigError, match="precision must be one of 32-true, bf16-mixed, 16-mixed, got 'bf16'"):
        Segmenter(model, precision="bf16")


def test_mixed_precision_runs_the_network_in_it_and_changes_few_labels(tmp_path, model):
    frames = read_frames(save_scan(tmp_path / "scan.nii", *scan_and_affine()))
    plain = Segmenter(model).predict(frames, "scan").labels[0].array
    segmenter, seen = Segmenter(model, precision="bf16-mixed"), []
    segmenter.models[0].head.register_forward_hook(lambda _, __, logits: seen.append(logits.dtype))
    mixed = segmenter.predict(frames, "scan").labels[0].array
    assert set(seen) == {torch.bfloat16}
    assert (mixed == plain).mean() > 0.97


def test_an_answer_that_is_no_number_is_an_error_of_that_scan(tmp_path, model):
    segmenter = Segmenter(model)
    frames = read_frames(save_scan(tmp_path / "a.nii.gz", *scan_and_affine()))
    with torch.no_grad():
        segmenter.models[0].head.weight.mul_(torch.inf)  # as numbers that half precision does not hold
    with pytest.raises(VolumeError, match=r"a: the answer of the model must be finite numbers; found NaN or infinity"):
        segmenter.predict(frames, "a")


def test_models_of_different_tasks_are_no_ensemble(tmp_path, model):
    other = save_model(tmp_path / "other.safetensors", classes=("background", "liver", "spleen", "stomach"))
    with pytest.raises(CheckpointError, match=r"other.safetensors: the models of an ensemble must share classes"):
        Segmenter(model, other)
    differing = r"plane, got classes background, liver, spleen, stomach beside background, right .*; name models of one"
    with pytest.raises(CheckpointError, match=differing):
        Segmenter(model, other)


def test_volumes_follow_from_the_voxel_size(tmp_path):
    labels = np.zeros((10, 10, 10), np.uint8)
    labels[:5] = 2
    path = save_scan(tmp_path / "labels.nii", labels, np.diag([1.0, 2.0, 3.0, 1.0]))
    assert structure_volumes_ml(read_labels(path), ("background", "a", "b")) == {"a": 0.0, "b": pytest.approx(3.0)}


@pytest.mark.parametrize("plane", ["acquired", "coronal"])
def test_the_largest_probability_of_a_voxel_is_that_of_its_label(tmp_path, plane):
    model = save_model(tmp_path / "model.safetensors", plane=plane)
    array, affine = scan_and_affine()
    path = save_scan(tmp_path / "scan.nii.gz", *stored_as(array, affine, (1, 2, 0), (True, False, True)))
    prediction = Segmenter(model, probabilities=True).predict(read_frames(path), "scan")
    labels = nib.load(write_prediction(tmp_path / "out", prediction))
    write_probabilities(tmp_path / "out", prediction)
    shares = nib.load(tmp_path / "out/scan_probabilities.nii.gz")
    assert shares.get_data_dtype() == np.float32
    assert shares.shape == (*labels.shape, 4)
    assert shares.affine.tobytes() == labels.affine.tobytes() == nib.load(path).affine.tobytes()
    values = np.asarray(shares.dataobj)
    np.testing.assert_allclose(values.sum(-1), 1, atol=1e-5)
    assert np.array_equal(values.argmax(-1), np.asarray(labels.dataobj))
    by_itk = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "out/scan_probabilities.nii.gz")))
    assert np.array_equal(by_itk.T, values)
    assert Segmenter(model).predict(read_frames(path), "scan").probabilities == ()


def test_probabilities_of_a_cine_are_a_file_a_frame(tmp_path, model):
    array, affine = scan_and_affine()
    nib.Nifti1Image(np.stack([array, array // 2 + 40], axis=3), affine).to_filename(tmp_path / "cine.nii")
    prediction = Segmenter(model, probabilities=True).predict(read_frames(tmp_path / "cine.nii"), "cine")
    write_probabilities(tmp_path / "out", prediction)
    labels = np.asarray(nib.load(write_prediction(tmp_path / "out", prediction)).dataobj)
    for frame in (1, 2):
        shares = np.asarray(nib.load(tmp_path / f"out/cine_probabilities_frame{frame:02d}.nii.gz").dataobj)
        assert np.array_equal(shares.argmax(-1), labels[..., frame - 1])


def test_a_cine_gives_one_4d_file_and_the_function_of_the_heart(tmp_path, model):
    array, affine = scan_and_affine()
    image = nib.Nifti1Image(np.stack([array, array // 2 + 40, array[::-1]], axis=3), affine)
    image.header["pixdim"][4] = 33.3
    image.header.set_xyzt_units("mm", "msec")
    image.to_filename(tmp_path / "cine.nii.gz")
    prediction = Segmenter(model).predict(read_frames(tmp_path / "cine.nii.gz"), "cine")
    out = nib.load(write_prediction(tmp_path / "out", prediction))
    assert out.shape == image.shape
    assert out.affine.tobytes() == nib.load(tmp_path / "cine.nii.gz").affine.tobytes()
    assert out.header["pixdim"][4] == np.float32(33.3)
    assert out.header.get_xyzt_units() == ("mm", "msec")
    first = Segmenter(model).predict(read_frames(save_scan(tmp_path / "first.nii", array, affine)), "first")
    assert np.array_equal(np.asarray(out.dataobj)[..., 0], labels_in_file_order(tmp_path, first))
    told = json.loads((tmp_path / "out/cine_labels.json").read_text())
    blood_ml = [frame["volumes_ml"]["left ventricle"] for frame in told["frames"]]
    assert told["cardiac_function"]["left_ventricle"]["ed_ml"] == max(blood_ml)
    assert told["cardiac_function"]["es_frame"] == 1 + int(np.argmin(blood_ml))
    assert "ejection fraction" in str(prediction)


def labels_in_file_order(folder, prediction):
    return np.asarray(nib.load(write_prediction(folder / "out", prediction)).dataobj)


@pytest.fixture(scope="module")
def of_hearts(tmp_path_factory):
    """A model that knows what phantom hearts look like."""
    hearts = open_dataset(TrainSettings(patients=4, validation_patients=3)).validation
    familiar = learn_familiar(scattered_model(0), hearts, Grid(3.0, 48)).as_dict()
    card = ModelCard("l2gnet", SMALL, CLASSES, Grid(3.0, 48), {"familiar": familiar})
    path = tmp_path_factory.mktemp("hearts") / "model.safetensors"
    save_checkpoint(path, scattered_model(0), card)
    return Segmenter(path)


def doubted(segmenter, path, reason):
    prediction = segmenter.predict(read_frames(path), "scan")
    assert any(reason in doubt for doubt in prediction.doubts), prediction.doubts
    assert "DOUBTFUL" in str(prediction)
    return prediction


def test_a_scan_unlike_the_training_data_is_doubted(tmp_path, of_hearts):
    array, affine = scan_and_affine((0.4, 0.4, 3.0))
    path = save_scan(tmp_path / "scan.nii", array - 1000, affine)
    prediction = doubted(of_hearts, path, "grey values begin at")
    doubted(of_hearts, path, "voxels measure")
    write_prediction(tmp_path / "out", prediction)
    assert json.loads((tmp_path / "out/scan_labels.json").read_text())["doubts"] == prediction.doubts


def test_another_modality_another_plane_and_single_slices_are_doubted(tmp_path, of_hearts):
    array, affine = scan_and_affine()
    ct = make_abdomen(2, shape=(5, 52, 60), spacing_mm=(10.0, 8.0, 7.0)).image.T.astype(np.int16)
    doubted(of_hearts, save_scan(tmp_path / "ct.nii", ct, affine), "is it another modality or unit?")
    sagittal = scan_and_affine((8.0, 1.4, 1.6))[1]
    doubted(of_hearts, save_scan(tmp_path / "plane.nii", array, sagittal), "was it cut in another plane?")
    doubted(of_hearts, save_scan(tmp_path / "slice.nii", array[:, :, :1], affine), "it is one slice")
    doubted(of_hearts, save_scan(tmp_path / "blank.nii", np.full_like(array, 7), affine), "it is blank")
    axial = Segmenter(save_model(tmp_path / "axial.safetensors", plane="axial"))
    doubted(axial, save_scan(tmp_path / "coronal.nii", array[:, :1], affine), "it is one slice")


def test_a_card_that_counts_other_codes_than_the_model_has_is_refused(tmp_path, of_hearts):
    told = of_hearts.card.training["familiar"]
    told = {"familiar": told | {"code_counts": told["code_counts"][:-1]}}
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, scattered_model(0), dataclasses.replace(of_hearts.card, training=told))
    with pytest.raises(CheckpointError, match=r"m\.safetensors: .* each of the 8 codes, got 7 counts; train the model"):
        Segmenter(path)


def test_the_labels_of_a_scan_are_counted_once(tmp_path, model, monkeypatch):
    prediction = Segmenter(model).predict(read_frames(save_scan(tmp_path / "scan.nii", *scan_and_affine())), "scan")
    counted = []

    def count(*given):
        counted.append(given)
        return structure_volumes_ml(*given)

    monkeypatch.setattr(segmenter, "structure_volumes_ml", count)
    write_prediction(tmp_path / "out", prediction)
    assert str(prediction).startswith("scan: ")
    assert len(counted) == 1


def test_a_model_that_says_nothing_of_its_data_makes_every_scan_doubtful(tmp_path, model):
    path = save_scan(tmp_path / "scan.nii", *scan_and_affine())
    doubted(Segmenter(model), path, "card does not say what is normal")


def test_channels_are_not_taken_for_time_in_silence(tmp_path):
    organs = Segmenter(save_model(tmp_path / "organs.safetensors", classes=("background", "liver", "spleen", "aorta")))
    array, affine = scan_and_affine()
    path = save_scan(tmp_path / "channels.nii", np.stack([array, array // 2], -1), affine)
    doubted(organs, path, "its 2 frames were taken for moments in time: are they channels?")


def test_the_doubts_of_a_cine_are_those_of_all_its_frames(tmp_path, model):
    (frame,) = read_frames(save_scan(tmp_path / "scan.nii", *scan_and_affine()))
    prediction = Segmenter(model).predict([frame] * 4, "cine")
    whole = prediction.labels[0]
    no_blood = whole.like(np.where(whole.array == CLASSES.index("left ventricle"), 0, whole.array))
    nothing = whole.like(np.zeros_like(whole.array))
    reasons = (
        ("its grain is 0.9: is it noisy?", "sure by 0.5 only"),
        (),
        ("it is blank",),
        ("its grain is 0.8: is it noisy?",),
    )
    strange = tuple(dataclasses.replace(prediction.strange[0], reasons=of_frame) for of_frame in reasons)
    said = [
        "its grain is 0.9: is it noisy? (in frame 1, likewise in 4)",
        "sure by 0.5 only (in frame 1)",
        "it is blank (in frame 3)",
    ]
    missed = "left ventricle measures 0.0 ml in frame 3, taken for end-systole: was it missed there?"
    for third, more in (
        (whole, []),
        (no_blood, [missed]),
        (nothing, ["no structure was found (in frame 3)", missed]),
    ):
        seen = dataclasses.replace(prediction, strange=strange, labels=(whole, whole, third, whole))
        assert [line for line in seen.doubts if not line.startswith("right ventricle")] == [*said, *more]
    assert str(seen).endswith("; DOUBTFUL: " + ", ".join(seen.doubts))


def test_frames_of_two_scans_are_refused(tmp_path, model):
    array, affine = scan_and_affine()
    frames = [read_frames(save_scan(tmp_path / f"{D}.nii", array[:, :, :D], affine))[0] for D in (5, 4)]
    with pytest.raises(VolumeError, match=r"mixed: the frames of a scan must have one shape; found \[\(4, "):
        Segmenter(model).predict(frames, "mixed")


def test_dicom_gets_the_labels_of_the_same_scan_as_nifti(tmp_path, model):
    array, affine = scan_and_affine()
    folders.write_dicom(tmp_path / "series", [array, array // 2 + 40], affine, order=[3, 9, 0, 4, 1, 2, 8, 7, 5, 6])
    nib.Nifti1Image(np.stack([array, array // 2 + 40], -1), affine).to_filename(tmp_path / "same.nii")
    segmenter = Segmenter(model)
    (scan,) = find_inputs([tmp_path / "series"])
    of_series = segmenter.predict(scan.read(), scan.name)
    of_nifti = segmenter.predict(read_frames(tmp_path / "same.nii"), "same")
    for one, two in zip(of_series.labels, of_nifti.labels, strict=True):
        assert np.array_equal(one.array, two.array)
    assert "ejection fraction" in str(of_series)
    write_prediction(tmp_path / "out", of_series)
    write_seg(tmp_path / "out", of_series, scan.series, "l2gnet")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "series_labels.json",
        "series_labels.nii.gz",
        "series_labels_frame01.dcm",
        "series_labels_frame02.dcm",
    ]
    folders.save_dicom(tmp_path / "enhanced.dcm", folders.enhanced([array, array // 2 + 40], affine))
    (enhanced,) = find_inputs([tmp_path / "enhanced.dcm"])
    of_file = segmenter.predict(enhanced.read(), enhanced.name)
    for one, two in zip(of_file.labels, of_nifti.labels, strict=True):
        assert np.array_equal(one.array, two.array)
    write_seg(tmp_path / "out", of_file, enhanced.series, "l2gnet")
    assert (tmp_path / "out/enhanced_labels_frame02.dcm").is_file()
    header = nib.load(tmp_path / "out/series_labels.nii.gz").header
    assert not any(word in header.binaryblock for word in (b"Doe", b"4711"))


def test_a_heart_whose_right_ventricle_lies_on_the_left_is_doubted(tmp_path, model, monkeypatch):
    def mirrored(models, scan, grid, **options):
        labels = np.zeros(scan.shape, np.uint8)
        W = scan.shape[2]  # whose far end is on the left
        labels[:, :, : W // 3], labels[:, :, -(W // 3) :] = CLASSES.index("left ventricle"), 1
        return dataclasses.replace(segment(models, scan, grid, **options), labels=scan.like(labels))

    monkeypatch.setattr("l2gnet.prediction.segmenter.segment", mirrored)
    frames = read_frames(save_scan(tmp_path / "scan.nii", *scan_and_affine()))
    doubts = Segmenter(model).predict(frames, "scan").doubts
    assert any(
        re.match(r"right ventricle lies \d+ mm to the left of left ventricle: does its", line) for line in doubts
    )
