import shutil
from pathlib import Path

import folders
import nibabel as nib
import numpy as np
import pytest

from l2gnet.data.dataset import open_dataset, open_whole, with_moved_field
from l2gnet.data.folders import acdc
from l2gnet.data.phantoms import (
    ABDOMEN_CLASSES,
    HEART_CLASSES,
    make_abdomen,
    make_heart,
    make_key,
    make_kidneys,
    make_match,
    make_side,
)
from l2gnet.data.slices import cache_key, load_slices
from l2gnet.data.volume import require_same_grid
from l2gnet.errors import ConfigError, VolumeError
from l2gnet.training.settings import TrainSettings

SHAPE = (6, 5, 4)  # columns, rows, slices


def add_patient(root, number, group):
    """Write one tiny patient as ACDC does: frame 1 is ED and frame 7 ES; its voxels hold 10 * number + frame."""
    folder = root / f"patient{number:03d}"
    folder.mkdir()
    (folder / "Info.cfg").write_text(f"ED: 1\nES: 7\nGroup: {group}\nHeight: 180.0\nNbFrame: 30\nWeight: 80.0")
    affine = np.diag([-1.5, -1.25, 10.0, 1.0])
    for frame in (1, 7):
        stem = folder / f"{folder.name}_frame{frame:02d}"
        image, mask = np.full(SHAPE, 10 * number + frame, np.int16), np.resize(np.arange(4, dtype=np.uint8), SHAPE)
        nib.Nifti1Image(image, affine).to_filename(Path(f"{stem}.nii.gz"))
        nib.Nifti1Image(mask, affine).to_filename(Path(f"{stem}_gt.nii.gz"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two patients of each of the five groups; patient003 has no mask at ES."""
    root = tmp_path_factory.mktemp("acdc")
    for number, group in enumerate(acdc.GROUPS * 2, start=1):
        add_patient(root, number, group)
    (root / "patient003" / "patient003_frame07_gt.nii.gz").unlink()
    return root


def open_acdc(folder, **changes):
    return open_dataset(TrainSettings(**{"data": "acdc", "data_dir": str(folder), "validation_patients": 5} | changes))


def open_phantom(**changes):
    return open_dataset(TrainSettings(**{"patients": 7, "validation_patients": 2} | changes))


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """Ten cases as nnU-Net 2 stores them; the voxels of case n hold n in channel T2 and n + 100 in channel ADC."""
    root = tmp_path_factory.mktemp("task")
    affine = np.diag([-1.5, -1.25, 10.0, 1.0])
    for name in ("imagesTr", "labelsTr"):
        (root / name).mkdir()
    for number in range(10):
        for channel in range(2):
            image = np.full(SHAPE, number + 100 * channel, np.int16)
            nib.Nifti1Image(image, affine).to_filename(root / "imagesTr" / f"case{number}_{channel:04d}.nii.gz")
        mask = np.resize(np.arange(3, dtype=np.uint8), SHAPE)
        nib.Nifti1Image(mask, affine).to_filename(root / "labelsTr" / f"case{number}.nii.gz")
    (root / "dataset.json").write_text(
        '{"channel_names": {"0": "T2", "1": "ADC"}, "labels": {"background": 0, "zone": 1, "tumour": 2},'
        ' "numTraining": 10, "file_ending": ".nii.gz"}'
    )
    return root


def open_task(root, **changes):
    given = {"data": "decathlon", "data_dir": str(root), "validation_patients": 3, "channel": "T2"}
    return open_dataset(TrainSettings(**given | changes))


@pytest.fixture(params=["phantom", "acdc", "decathlon"])
def reopen(request, folder, task):
    """A function that opens one of the data sets with the settings given."""
    return {
        "phantom": open_phantom,
        "acdc": lambda **changes: open_acdc(folder, **changes),
        "decathlon": lambda **changes: open_task(task, **changes),
    }[request.param]


def patients(cases):
    return {case.patient for case in cases}


def names(cases):
    return [case.name for case in cases]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("held_out", [1, 3, 6])
def test_no_patient_is_on_both_sides_and_none_is_lost(reopen, seed, held_out):
    dataset = reopen(split_seed=seed, validation_patients=held_out)
    training, validation = patients(dataset.training), patients(dataset.validation)
    assert not training & validation
    assert len(validation) == held_out
    assert len(training) + held_out == (7 if dataset.name == "phantom" else 10)
    assert len(set(names(dataset.cases))) == len(dataset.cases) == len(dataset.training) + len(dataset.validation)


def test_the_split_is_a_function_of_its_own_seed(reopen):
    one, again = reopen(split_seed=4), reopen(split_seed=4)
    assert names(one.training) == names(again.training)
    assert names(one.validation) == names(again.validation)
    assert names(one.validation) == names(reopen(split_seed=4, seed=1).validation)  # runs of all seeds compare
    assert len({tuple(names(reopen(split_seed=seed).validation)) for seed in range(6)}) > 3


def test_cases_are_ordered_by_name_whatever_the_split(reopen):
    dataset = reopen(split_seed=1)
    assert names(dataset.cases) == sorted(names(dataset.cases))
    assert set(dataset.cases) == {*dataset.training, *dataset.validation}
    other = reopen(split_seed=1, validation_patients=1)
    assert names(other.cases) == names(dataset.cases)
    assert names(other.validation) != names(dataset.validation)


def test_image_and_label_come_on_one_grid(reopen):
    dataset = reopen()
    for case in (dataset.training[0], dataset.validation[0]):
        image, label = case.load()
        require_same_grid(image, label, "image", "label")
        assert image.shape == label.shape
        assert (image.array.dtype, label.array.dtype) == (np.float32, np.uint8)
        assert label.array.max() == len(dataset.classes) - 1


# The phantom


def test_phantom_patients_have_one_case_each_at_either_phase():
    dataset = open_phantom(patients=5, validation_patients=2, split_seed=3)
    assert dataset.name == "phantom"
    assert dataset.classes == HEART_CLASSES
    assert "synthetic" in dataset.citation
    assert names(dataset.cases) == [f"phantom0300{n}_{phase}" for n, phase in enumerate(["ED", "ES", "ED", "ES", "ED"])]
    assert [case.patient for case in dataset.cases] == [f"phantom0300{n}" for n in range(5)]
    assert [case.phase for case in dataset.cases] == ["ED", "ES", "ED", "ES", "ED"]
    assert {case.group for case in dataset.cases} == {"phantom"}
    assert all(case.files == () for case in dataset.cases)
    assert {case.phase for case in dataset.training} == {case.phase for case in dataset.validation} == {"ED", "ES"}


def test_another_split_means_other_phantom_patients():
    everybody = [patients(open_phantom(split_seed=seed, patients=40, validation_patients=8).cases) for seed in range(4)]
    assert len(set.union(*everybody)) == 160


def test_no_split_makes_the_patients_of_another_however_many_they_are():
    many = patients(open_phantom(patients=2001).cases)
    assert len(many) == 2001
    assert not any(many & patients(open_phantom(split_seed=seed, patients=1000).cases) for seed in (1, 2, 10**9))


def test_a_phantom_case_is_the_heart_of_its_name():
    dataset = open_phantom(split_seed=2)
    for case in (dataset.cases[0], dataset.cases[3]):
        heart = make_heart(int(case.patient.removeprefix("phantom")), phase=case.phase)
        image, label = case.load()
        assert np.array_equal(image.array, heart.image[::-1])
        assert np.array_equal(label.array, heart.label[::-1])
        assert image.spacing_mm == label.spacing_mm == heart.spacing_mm


def test_a_phantom_case_knows_where_its_axes_point():
    image, label = open_phantom().cases[0].load()
    assert nib.aff2axcodes(image.affine) == ("S", "P", "L")
    assert np.array_equal(image.affine, label.affine)
    assert image.spacing_mm == (10.0, 1.5, 1.5)
    # World x runs to the patient's right, where the right ventricle lies.
    middle = [np.argwhere(label.array == k).mean(0) for k in (1, 3)]
    right_ventricle, left_ventricle = (image.affine @ [*place, 1] for place in middle)
    assert right_ventricle[0] > left_ventricle[0] + 15


@pytest.mark.slow
def test_the_abdomen_is_a_phantom_too():
    dataset = open_phantom(data="phantom-abdomen", split_seed=1)
    assert dataset.name == "phantom-abdomen"
    assert dataset.classes == ABDOMEN_CLASSES
    assert dataset.window == (-125.0, 275.0)
    assert names(dataset.cases) == [f"abdomen0100{n}" for n in range(7)]
    image, label = dataset.cases[0].load()
    assert np.array_equal(image.array, make_abdomen(1000).image)
    assert np.unique(label.array).tolist() == list(range(9))
    assert nib.aff2axcodes(image.affine) == ("S", "P", "L")
    # World x runs to the patient's right, where the liver lies; z to the head, where it lies above the kidneys.
    middle = {k: image.affine @ [*np.argwhere(label.array == k).mean(0), 1] for k in (3, 4, 5, 7)}
    left_kidney, right_kidney, liver, spleen = middle.values()
    assert left_kidney[0] < right_kidney[0]
    assert spleen[0] < liver[0]
    assert liver[2] > right_kidney[2]


@pytest.mark.parametrize(
    ("data", "make", "window"),
    [
        ("phantom-key", make_key, (0.0, 255.0)),
        ("phantom-side", make_side, (0.0, 255.0)),
        ("phantom-match", make_match, (0.0, 255.0)),
        ("phantom-kidneys", make_kidneys, (-125.0, 275.0)),
    ],
)
def test_a_task_is_a_phantom_that_knows_how_far_its_evidence_is(data, make, window):
    dataset = open_phantom(data=data, split_seed=1)
    assert len(dataset.classes) == 3
    assert dataset.window == window
    case, made = dataset.cases[2], make(1002)
    assert case.name == case.patient == data.removeprefix("phantom-") + "01002"
    image, labels = case.load()
    assert np.array_equal(image.array, made.image)
    assert np.array_equal(labels.array, made.label)
    assert np.array_equal(case.evidence_px(), made.evidence_px, equal_nan=True)
    # It moves with the labels.
    moved = with_moved_field(case, 0.3)
    _, labels = moved.load()
    assert not np.array_equal(labels.array, made.label)
    assert np.array_equal(np.isnan(moved.evidence_px()), labels.array == 0)


def test_a_model_sees_the_pixels_of_a_task_as_they_were_made():
    settings = TrainSettings(data="phantom-key", patients=2, validation_patients=1)
    dataset = open_dataset(settings)
    slices = load_slices(settings, dataset, dataset.grid(settings))
    assert np.array_equal(slices.images[: len(make_key(0).image), 0], make_key(0).image)


def test_other_cases_tell_of_no_evidence(task):
    assert open_phantom().cases[0].evidence_px is None
    assert with_moved_field(open_task(task).cases[0], 0.1).evidence_px is None


# The Decathlon


def test_decathlon_cases_are_its_training_scans(task):
    dataset = open_task(task, channel="ADC")
    assert dataset.classes == ("background", "zone", "tumour")
    assert dataset.window is None
    assert names(dataset.cases) == [f"case{n}" for n in range(10)]
    case = dataset.cases[4]
    assert case.files == (task / "imagesTr/case4_0001.nii.gz", task / "labelsTr/case4.nii.gz")
    image, _ = case.load()
    assert (image.array == 104).all()


def test_a_fold_of_nnunet_holds_out_its_cases(task, tmp_path):
    folder = shutil.copytree(task, tmp_path / "task")
    (folder / "splits_final.json").write_text('[{"train": ["case1", "case2"], "val": ["case7"]}]')
    dataset = open_task(folder, fold=0)
    assert (names(dataset.training), names(dataset.validation)) == (["case1", "case2"], ["case7"])
    assert len(open_task(folder).validation) == 3
    with pytest.raises(ConfigError, match="fold must be -1, or for data = decathlon a fold from 0 on, got 0"):
        open_phantom(fold=0)


def test_a_channel_that_is_not_there_is_refused(task):
    with pytest.raises(ConfigError, match=r"channel must be one of T2, ADC, or several .*, got 'T1'"):
        open_task(task, channel="T1")


def test_all_channels_are_taken_and_every_file_counts_for_the_cache(task, tmp_path):
    folder = shutil.copytree(task, tmp_path / "task")
    dataset = open_task(folder, channel="")
    assert dataset.channels == ("T2", "ADC")
    case = dataset.cases[4]
    assert [path.name for path in case.files] == ["case4_0000.nii.gz", "case4_0001.nii.gz", "case4.nii.gz"]
    image, labels = case.load()
    assert [np.unique(array).tolist() for array in image.channels] == [[4], [104]]
    assert labels.more == ()
    grid = dataset.grid(TrainSettings(spacing_mm=0.0, size_px=32))
    keys = {cache_key(open_task(folder, channel=channel).cases, grid, 3) for channel in ("", "T2", "ADC", "ADC, T2")}
    second = folder / "imagesTr/case4_0001.nii.gz"
    nib.Nifti1Image(np.full(SHAPE, 7, np.int16), np.diag([-1.5, -1.25, 10.0, 1.0])).to_filename(second)
    keys.add(cache_key(open_task(folder, channel="").cases, grid, 3))
    assert len(keys) == 5


def test_the_window_is_that_of_ct_beside_other_channels(task, tmp_path):
    for name in ("imagesTr", "labelsTr"):
        shutil.copytree(task / name, tmp_path / name)
    description = (task / "dataset.json").read_text().replace('"0": "T2", "1": "ADC"', '"0": "PET", "1": "CT"')
    (tmp_path / "dataset.json").write_text(description)
    for window, expected in (("", (-125.0, 275.0)), ("-1000 400", (-1000.0, 400.0))):
        dataset = open_task(tmp_path, channel="", window=window)
        grid = dataset.grid(TrainSettings())
        assert (grid.window_of(0), grid.window_of(1)) == (None, expected)
    grid = open_task(tmp_path, channel="PET").grid(TrainSettings())
    assert grid.window_of(0) is None
    grid = open_task(task, channel="", window="0 500").grid(TrainSettings())
    assert grid.window_of(0) == grid.window_of(1) == (0.0, 500.0)


def test_a_ct_is_seen_through_the_window_of_soft_tissue_or_the_one_asked_for(task, tmp_path):
    for name in ("imagesTr", "labelsTr"):
        shutil.copytree(task / name, tmp_path / name)
    description = (task / "dataset.json").read_text().replace('"0": "T2", "1": "ADC"', '"0": "CT"')
    (tmp_path / "dataset.json").write_text(description)
    assert open_task(tmp_path, channel="").window == (-125.0, 275.0)
    assert open_task(tmp_path, channel="", window="-1000 400").window == (-1000.0, 400.0)
    assert open_task(task, window="0 500").window == (0.0, 500.0)


def test_the_first_fault_of_a_folder_stops_it(task, tmp_path):
    for name in ("imagesTr", "labelsTr"):
        shutil.copytree(task / name, tmp_path / name)
    shutil.copy(task / "dataset.json", tmp_path)
    (tmp_path / "imagesTr" / "case3_0000.nii.gz").unlink()
    with pytest.raises(VolumeError, match=r"case3\.nii\.gz: the image of case3\.nii\.gz must exist|case3_0000"):
        open_task(tmp_path)


# ACDC


def test_acdc_cases_are_its_frames(folder):
    dataset = open_acdc(folder)
    assert dataset.name == "acdc"
    assert dataset.classes == acdc.CLASSES
    assert dataset.citation == acdc.CITATION
    case = next(case for case in dataset.cases if case.name == "patient004_ES")
    assert (case.patient, case.group, case.phase) == ("patient004", "HCM", "ES")
    stem = folder / "patient004" / "patient004_frame07"
    assert case.files == (Path(f"{stem}.nii.gz"), Path(f"{stem}_gt.nii.gz"))
    image, label = case.load()
    assert (image.array == 47).all()
    assert image.shape == SHAPE[::-1]
    assert image.spacing_mm == (10.0, 1.25, 1.5)
    assert np.unique(label.array).tolist() == [0, 1, 2, 3]


def test_an_acdc_frame_without_a_mask_is_left_out(folder):
    assert "patient003_ES" in [frame.name for frame in acdc.find_scans(folder).scans]
    for seed in range(4):
        found = names(open_acdc(folder, split_seed=seed).cases)
        assert len(found) == 19
        assert "patient003_ES" not in found
        assert "patient003_ED" in found  # its other phase stays


@pytest.mark.parametrize("open_folder", [open_dataset, open_whole])
def test_a_folder_without_masks_is_refused(folder, tmp_path, open_folder):
    shutil.copytree(folder, tmp_path / "acdc", ignore=shutil.ignore_patterns("*_gt.nii.gz"))
    with pytest.raises(VolumeError, match="must hold scans with masks; found none; copy the masks, too"):
        open_folder(TrainSettings(data="acdc", data_dir=str(tmp_path / "acdc")))


def test_whole_data_is_held_out_whatever_its_own_split_says(tmp_path):
    folders.write_raw_synapse(tmp_path, cases=(2,))
    settings = TrainSettings(data="synapse", data_dir=str(tmp_path))
    with pytest.raises(VolumeError, match="and others"):
        open_dataset(settings)
    dataset = open_whole(settings)
    assert (dataset.training, names(dataset.validation)) == ((), names(dataset.cases))
    assert len(dataset.cases) == 1


def test_acdc_holds_out_every_group_alike(folder):
    for seed in range(4):
        dataset = open_acdc(folder, split_seed=seed)
        group_of = {case.patient: case.group for case in dataset.validation}
        assert sorted(group_of.values()) == sorted(acdc.GROUPS)


def test_both_phases_of_an_acdc_patient_are_on_one_side(folder):
    dataset = open_acdc(folder, split_seed=2)
    for side in (dataset.training, dataset.validation):
        for patient in patients(side) - {"patient003"}:
            assert {case.phase for case in side if case.patient == patient} == {"ED", "ES"}


@pytest.mark.parametrize("held_out", [10, 11])
def test_holding_out_every_acdc_patient_is_refused(folder, held_out):
    with pytest.raises(ConfigError, match=f"must be below the 10 patients with masks, got {held_out}"):
        open_acdc(folder, validation_patients=held_out)


def test_a_folder_that_is_not_acdc_is_refused(tmp_path):
    with pytest.raises(VolumeError, match="must hold patientNNN folders"):
        open_acdc(tmp_path)


def test_a_part_of_the_cases_can_be_trained_on_while_all_are_evaluated(folder):
    for whole, part in (
        (open_acdc(folder), open_acdc(folder, train_on="phase=ED")),
        (open_phantom(), open_phantom(train_on="phase=ED")),
    ):
        assert names(part.validation) == names(whole.validation)
        assert names(part.training) == [case.name for case in whole.training if case.phase == "ED"]


def test_a_group_can_be_trained_on(folder):
    assert {case.group for case in open_acdc(folder, train_on="group=DCM").training} == {"DCM"}


def test_a_part_that_is_empty_is_refused(folder):
    with pytest.raises(ConfigError, match="'group=ILL' has none; group is one of DCM, HCM, MINF, NOR, RV"):
        open_acdc(folder, train_on="group=ILL")
    with pytest.raises(ConfigError, match="train_on must be empty, or like"):
        open_acdc(folder, train_on="name=patient001")


def test_some_structures_can_be_learnt_and_the_others_are_background(folder):
    whole, part = open_acdc(folder), open_acdc(folder, structures="left ventricle, right ventricle")
    assert part.classes == ("background", "right ventricle", "left ventricle")
    kept = np.array([0, 1, 0, 2])
    for ours, theirs in zip(part.cases, whole.cases, strict=True):
        assert np.array_equal(ours.load()[1].array, kept[theirs.load()[1].array])
    assert {case.reading for case in part.cases}.isdisjoint(case.reading for case in whole.cases)  # another cache


def test_a_structure_that_is_not_there_is_refused(folder):
    with pytest.raises(
        ConfigError, match=r"structures must be .*, got 'left ventricel'; did you mean 'left ventricle'"
    ):
        open_acdc(folder, structures="left ventricel")


def test_a_field_of_view_lies_elsewhere_in_the_same_world():
    """What is still seen lies where it lay; what has come in is dark background; training slices are left alone."""
    plain, moved = open_phantom(patients=9), open_phantom(patients=9, field_shift=0.3)
    assert [case.reading for case in moved.training] == [case.reading for case in plain.training]
    steps = []
    for before, after in zip(plain.validation, moved.validation, strict=True):
        (image, labels), (seen, seen_labels) = before.load(), after.load()
        require_same_grid(seen, seen_labels, "image", "labels")
        assert after.reading != before.reading
        step = np.linalg.inv(image.affine) @ seen.affine @ [0, 0, 0, 1]
        down, right = (round(value) for value in step[1:3])
        steps += [down / image.shape[1], right / image.shape[2]]
        assert np.allclose(step, [0, down, right, 1], atol=1e-6)
        rows, columns = np.indices(image.shape[1:])
        inside = (rows + down >= 0) & (rows + down < image.shape[1]) & (columns + right >= 0)
        inside &= columns + right < image.shape[2]
        for one, other, dark in ((image, seen, image.array.min()), (labels, seen_labels, 0)):
            there = one.array[
                :, (rows + down).clip(0, image.shape[1] - 1), (columns + right).clip(0, image.shape[2] - 1)
            ]
            assert np.array_equal(other.array, np.where(inside, there, dark))
    assert 0.05 < np.abs(steps).max() <= 0.31
    assert len(set(steps)) == len(steps)  # each patient has its own
