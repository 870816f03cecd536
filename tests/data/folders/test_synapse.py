import os
import re
import shutil
from pathlib import Path

import folders
import h5py
import nibabel as nib
import numpy as np
import pytest

from l2gnet.data.dataset import open_dataset
from l2gnet.data.folders.check import check
from l2gnet.data.folders.synapse import BTCV, CLASS_OF_BTCV, CLASSES, TEST_CASES, find_scans
from l2gnet.data.grid import Grid
from l2gnet.data.phantoms import ABDOMEN_CLASSES
from l2gnet.data.resampling import image_on_grid, labels_on_grid
from l2gnet.errors import ConfigError, VolumeError
from l2gnet.evaluation.scores import evaluate_cases
from l2gnet.models import build_model
from l2gnet.training.settings import TrainSettings

NAMES = ["case0002", "case0005", "case0006", "case0007"]


@pytest.fixture
def raw(tmp_path):
    folders.write_raw_synapse(tmp_path)
    return tmp_path


@pytest.fixture
def prepared(tmp_path):
    folders.write_prepared_synapse(tmp_path)
    return tmp_path


def open_synapse(root, **changes):
    return open_dataset(TrainSettings(**{"data": "synapse", "data_dir": str(root), "spacing_mm": 0.0} | changes))


def test_the_eight_organs_have_transunets_order_and_the_challenges_numbers():
    assert CLASSES == ABDOMEN_CLASSES
    # Written out once more, from the challenge's list of labels.
    assert {BTCV.index(organ): CLASSES.index(organ) for organ in CLASSES[1:]} == {
        8: 1,  # aorta
        4: 2,  # gallbladder
        3: 3,  # left kidney
        2: 4,  # right kidney
        6: 5,  # liver
        11: 6,  # pancreas
        1: 7,  # spleen
        7: 8,  # stomach
    }
    assert CLASS_OF_BTCV == (0, 7, 4, 3, 2, 0, 5, 8, 1, 0, 0, 6, 0, 0)


def test_the_split_is_transunets():
    assert len(TEST_CASES) == 12
    everyone = {f"case{n:04d}" for n in (*range(1, 11), *range(21, 41))}  # the thirty scans with masks
    assert everyone > TEST_CASES
    assert len(everyone - TEST_CASES) == 18


@pytest.mark.parametrize(
    ("below", "into"),
    [
        ("", ("", "")),
        ("", ("img", "label")),
        ("RawData/Training", ("img", "label")),
        ("Training", ("img", "label")),
    ],
)
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_raw_scans_are_found_where_people_keep_them(tmp_path, below, into, suffix):
    folders.write_raw_synapse(tmp_path / below, into, suffix=suffix)
    folder = find_scans(tmp_path)
    assert [scan.name for scan in folder.scans] == NAMES
    assert not folder.problems
    for number, scan in zip(folders.CASES, folder.scans, strict=True):
        image, labels = scan.read()
        expected_image, expected_labels = folders.abdomen(number)
        assert np.array_equal(image.array, expected_image)
        assert np.array_equal(labels.array, expected_labels)  # without the organs that TransUNet leaves out
        assert image.spacing_mm == folders.SPACING_MM
        assert image.has_mm


def test_prepared_scans_equal_what_they_were_prepared_from(prepared):
    folder = find_scans(prepared)
    assert [scan.name for scan in folder.scans] == NAMES
    assert not folder.problems
    assert [len(scan.files) for scan in folder.scans] == [1, 20, 20, 20]
    for number, scan in zip(folders.CASES, folder.scans, strict=True):
        image, labels = scan.read()
        expected_image, expected_labels = folders.abdomen(number)
        expected = (np.clip(expected_image, -125, 275) + 125) / 400
        assert np.allclose(image.array, expected, atol=1e-6)
        assert np.array_equal(labels.array, expected_labels)
        assert not image.has_mm
        assert not labels.has_mm


def test_both_forms_give_a_model_the_same_pictures(tmp_path):
    folders.write_raw_synapse(tmp_path / "raw")
    folders.write_prepared_synapse(tmp_path / "prepared")
    sets = [open_synapse(tmp_path / form) for form in ("raw", "prepared")]
    for raw_case, prepared_case in zip(*(dataset.cases for dataset in sets), strict=True):
        pictures = []
        for dataset, case in zip(sets, (raw_case, prepared_case), strict=True):
            grid = Grid(0.0, 48, dataset.window)
            image, labels = case.load()
            pictures.append((image_on_grid(image, grid).astype(int), labels_on_grid(labels, grid, 9)))
        (one, one_labels), (other, other_labels) = pictures
        assert np.abs(one - other).max() <= 1
        assert np.array_equal(one_labels, other_labels)


@pytest.mark.parametrize("write", [folders.write_raw_synapse, folders.write_prepared_synapse])
def test_some_organs_can_be_learnt_from_either_form(tmp_path, write):
    write(tmp_path)
    dataset = open_synapse(tmp_path, structures="liver, aorta")
    assert dataset.classes == ("background", "aorta", "liver")
    for number, case in zip(folders.CASES, dataset.cases, strict=True):
        theirs = folders.abdomen(number)[1]
        expected = np.select([theirs == CLASSES.index("aorta"), theirs == CLASSES.index("liver")], [1, 2])
        assert np.array_equal(case.load()[1].array, expected)


def test_what_was_windowed_is_not_windowed_again(prepared):
    rule = r"window must be empty for scans that were prepared, .* 0\.\.1, got '-125 275'; leave it out"
    with pytest.raises(ConfigError, match=rule):
        open_synapse(prepared, window="-125 275")


def test_the_split_is_by_list_whatever_the_settings_say(raw):
    dataset = open_synapse(raw, validation_patients=3, seed=5)
    assert [case.name for case in dataset.validation] == ["case0002"]
    assert [case.name for case in dataset.training] == NAMES[1:]
    assert dataset.classes == CLASSES
    assert dataset.window == (-125.0, 275.0)
    assert "syn3193805" in dataset.citation


@pytest.mark.parametrize(("cases", "found"), [((2,), "case0002"), ((5, 6), "case0005, case0006")])
def test_a_folder_with_one_side_of_the_split_is_refused(tmp_path, cases, found):
    folders.write_raw_synapse(tmp_path, cases=cases)
    with pytest.raises(VolumeError, match=rf"test list \(case0001 \.\.\.\) and others; found {found}; copy the whole"):
        open_synapse(tmp_path)


def test_a_raw_scan_without_a_mask_is_left_out_and_noted(raw):
    (raw / "label" / "label0006.nii.gz").unlink()
    assert [case.name for case in open_synapse(raw).cases] == ["case0002", "case0005", "case0007"]
    report = check(raw)
    assert report.problems == [f"{raw}: 1 scan without a mask, neither trained on nor scored: case0006"]
    assert "case0006: no mask; it can be segmented, but neither trained on nor scored" in report.notes


def test_a_prepared_scan_is_not_resampled_to_millimetres(prepared):
    image, _ = open_synapse(prepared).cases[0].load()
    with pytest.raises(
        VolumeError, match=r"unknown voxel size cannot be resampled to spacing_mm = 2\.0; set spacing_mm"
    ):
        image_on_grid(image, Grid(2.0, 48))


def test_the_scan_that_a_model_cannot_take_is_named(prepared):
    model = build_model("unet", classes=len(CLASSES), width=4, depth=2)
    with pytest.raises(VolumeError, match=r"case0002: .*unknown voxel size"):
        evaluate_cases(model, open_synapse(prepared).cases[:1], Grid(2.0, 48), CLASSES)


def test_the_report_of_each_form(raw, tmp_path_factory):
    lines = str(check(raw)).splitlines()
    assert lines[0] == "synapse: 4 patients, 4 volumes, 80 slices"
    assert "spacing 10-10 x 8-8 x 7-7 mm (D x H x W)" in lines
    other = tmp_path_factory.mktemp("prepared")
    folders.write_prepared_synapse(other)
    text = str(check(other))
    assert text.startswith("synapse: 4 patients, 4 volumes, 80 slices")
    assert " mm" not in text
    assert text.count("note: prepared by others, without voxel size") == 1
    assert text.endswith("no problems")


@pytest.mark.parametrize("form", ["raw", "prepared"])
def test_a_link_out_of_the_folder_is_not_followed(form, tmp_path, request):
    root = request.getfixturevalue(form)
    file = next(root.rglob("label0005.nii.gz" if form == "raw" else "case0005_slice003.npz"))
    outside = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    file.rename(outside)
    file.symlink_to(outside)
    found = find_scans(root)
    assert "case0005" not in {scan.name for scan in found.scans}
    assert any(f"{file}: files must lie inside the data folder" in str(problem) for problem in found.problems)


def test_folders_without_cases_are_refused(tmp_path):
    with pytest.raises(
        VolumeError, match=r"must hold imgNNNN\.nii\.gz and labelNNNN\.nii\.gz, or train_npz.*found none"
    ):
        find_scans(tmp_path)
    with pytest.raises(VolumeError, match="found no folder"):
        find_scans(tmp_path / "nowhere")
    (tmp_path / "train_npz").mkdir()
    with pytest.raises(VolumeError, match="train_npz and test_vol_h5 must hold cases; found none"):
        find_scans(tmp_path)


def lose_an_image(root):
    (root / "img" / "img0005.nii.gz").unlink()


def mask_of_another_data_set(root):
    folders.save(root / "label" / "label0005.nii.gz", np.full((20, 52, 60), 14, np.uint8))


def mask_of_another_scan(root):
    folders.save(root / "label" / "label0005.nii.gz", np.zeros((19, 52, 60), np.uint8))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lose_an_image, r"label0005\.nii\.gz: a label map needs its image img0005\.nii\.gz; found none"),
        (mask_of_another_data_set, r"label0005\.nii\.gz: labels must lie in 0\.\.13; found \[14\]"),
        (mask_of_another_scan, r"label0005\.nii\.gz: the grid must be that of .*img0005\.nii\.gz; found shape"),
    ],
)
def test_faults_of_raw_scans_are_reported(raw, damage, message):
    damage(raw)
    (problem,) = check(raw).problems
    assert re.search(message, problem)


def npz(root, slice_number=3):
    return root / "train_npz" / f"case0005_slice{slice_number:03d}.npz"


def save_slice(root, **arrays):
    good = {"image": np.zeros((52, 60), np.float32), "label": np.zeros((52, 60), np.float32)}
    np.savez(npz(root), **good | arrays)


def save_h5(root, **arrays):
    good = {"image": np.zeros((20, 52, 60), np.float32), "label": np.zeros((20, 52, 60), np.float32)}
    with h5py.File(root / "test_vol_h5" / "case0002.npy.h5", "w") as file:
        for name, array in (good | arrays).items():
            file[name] = array


FAULTS = [
    (lambda root: npz(root).unlink(), r"slices of case0005 must be numbered from 0 without a gap; found no slice 003"),
    (
        lambda root: shutil.copy(npz(root), root / "test_vol_h5/case0005.npy.h5"),
        "must be in train_npz or in.*found both",
    ),
    (
        lambda root: save_slice(root, image=np.full((52, 60), 2.0)),
        r"must lie in 0\.\.1; found 0 to 2; use the raw scans",
    ),
    (lambda root: save_slice(root, image=np.full((52, 60), np.nan)), r"must lie in 0\.\.1; found nan to nan"),
    (
        lambda root: save_slice(root, image=np.zeros((50, 60))),
        r"slice003\.npz: all slices of case0005 must have one shape",
    ),
    (lambda root: save_slice(root, label=np.full((52, 60), 9.0)), r"labels must lie in 0\.\.8; found 9"),
    (
        lambda root: save_slice(root, label=np.full((52, 60), 0.5)),
        r"labels must be integers in 0\.\.255; found \[0\.5\]",
    ),
    (lambda root: save_slice(root, label=np.zeros((52, 60, 1))), r"slice003\.npz: the array 'label' must have 2 dim"),
    (lambda root: save_h5(root, image=np.full((20, 52, 60), -7.0)), r"case0002\.npy\.h5: a prepared.*found -7 to -7"),
    (lambda root: save_h5(root, label=np.full((20, 52, 60), 13)), r"labels must lie in 0\.\.8; found 13"),
    (
        lambda root: save_h5(root, label=np.zeros((19, 52, 60))),
        r"the grid must be that of .*found shape \(19, 52, 60\)",
    ),
]


@pytest.mark.parametrize(("damage", "message"), FAULTS)
def test_faults_of_prepared_scans_are_reported(prepared, damage, message):
    damage(prepared)
    (problem,) = check(prepared).problems
    assert re.search(message, problem)


@pytest.fixture
def real_ct():
    """The real CT and a machine's label map in TotalSegmentator's numbers, as stored."""
    folder = os.environ.get("L2GNET_CT")
    if not folder or not Path(folder).is_dir():
        pytest.skip("L2GNET_CT names no folder with a CT")
    return [nib.load(Path(folder) / f"example_{name}.nii.gz") for name in ("ct", "seg_fast_force_split")]


TOTALSEGMENTATOR = {1: 1, 2: 2, 3: 3, 4: 4, 15: 5, 5: 6, 6: 7, 52: 8, 63: 9, 64: 10, 7: 11, 8: 12, 9: 13}  # to BTCV


def test_a_real_ct_in_both_forms(real_ct, tmp_path):
    image, segmentation = real_ct
    lookup = np.zeros(256, np.uint8)
    lookup[list(TOTALSEGMENTATOR)] = list(TOTALSEGMENTATOR.values())
    btcv = lookup[np.asarray(segmentation.dataobj)]
    for name in ("img", "label"):
        (tmp_path / "raw" / name).mkdir(parents=True)
    for number in (1, 5):
        nib.save(image, tmp_path / "raw/img" / f"img{number:04d}.nii.gz")
        nib.Nifti1Image(btcv, segmentation.affine).to_filename(tmp_path / "raw/label" / f"label{number:04d}.nii.gz")
    assert not check(tmp_path / "raw").problems
    dataset = open_synapse(tmp_path / "raw")
    scan, labels = dataset.training[0].load()
    assert scan.shape == labels.shape == (112, 101, 122)
    assert scan.spacing_mm == pytest.approx((3, 3, 3))
    assert scan.array.min() < -900
    present = np.unique(labels.array)
    middle = {CLASSES[k]: scan.affine @ [*np.argwhere(labels.array == k).mean(0), 1] for k in present if k}
    assert {"liver", "spleen", "left kidney", "right kidney", "stomach"} <= middle.keys()
    # World x runs to the patient's right, y to the front, z to the head.
    assert middle["liver"][0] > middle["spleen"][0]
    assert middle["right kidney"][0] > middle["left kidney"][0]
    assert middle["stomach"][1] > middle["left kidney"][1]
    liver = scan.array[labels.array == CLASSES.index("liver")]
    assert 0 < np.median(liver) < 200
    on_grid = image_on_grid(scan, Grid(0.0, 64, dataset.window))
    assert on_grid[0].shape == (1, 64, 64)
    assert 0.2 < (on_grid == 0).mean() < 0.9  # air, and what lies below the window


def test_the_affine_points_to_the_patients_left_in_the_world(real_ct):
    image, _ = real_ct
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
