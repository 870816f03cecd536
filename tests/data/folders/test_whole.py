"""Folders that are not whole: `data check` counts and names what is missing, training says it or refuses."""

import json

import folders
import pytest

from l2gnet.data.dataset import open_dataset
from l2gnet.data.folders.check import check
from l2gnet.data.settings import DataSettings
from l2gnet.errors import VolumeError


def describe(root, **changes):
    path = root / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def problems(root):
    return [problem.removeprefix(f"{root}: ") for problem in check(root).problems]


@pytest.fixture
def nnunet(tmp_path):
    folders.write_nnunet(tmp_path)
    return tmp_path


@pytest.fixture
def decathlon(tmp_path):
    folders.write_decathlon(tmp_path)
    return tmp_path


def test_whole_folders_have_no_problems(tmp_path):
    for write in (folders.write_nnunet, folders.write_decathlon, folders.write_raw_synapse):
        write(tmp_path / write.__name__)
        assert problems(tmp_path / write.__name__) == []


def test_an_image_without_a_mask_is_named_and_left_out_with_words(nnunet, capsys):
    (nnunet / "labelsTr" / "organs_006.nii.gz").unlink()
    expected = ["numTraining in dataset.json is 4, and there are 3", "1 image without a mask: organs_006"]
    assert problems(nnunet) == expected
    capsys.readouterr()
    dataset = open_dataset(DataSettings(data="decathlon", data_dir=str(nnunet), validation_patients=1))
    assert len(dataset.cases) == 3
    assert capsys.readouterr().err.splitlines() == [f"{nnunet}: {line}" for line in expected]


def test_a_mask_without_an_image_is_refused(nnunet):
    for channel in range(2):
        (nnunet / "imagesTr" / f"organs_006_{channel:04d}.nii.gz").unlink()
    for line in problems(nnunet):
        assert "organs_006" in line
        assert "must exist; found none" in line
    with pytest.raises(VolumeError, match="organs_006_0000"):
        open_dataset(DataSettings(data="decathlon", data_dir=str(nnunet), validation_patients=1))


def test_a_missing_image_is_missed_by_either_name(decathlon):
    (decathlon / "imagesTr" / "organs_05.nii.gz").unlink()
    (line,) = problems(decathlon)
    assert "imagesTr/organs_05.nii.gz: " in line
    assert "must exist; found none, nor organs_05_0000.nii.gz; copy" in line


def test_what_a_list_of_cases_does_not_name_is_counted(decathlon):
    listed = json.loads((decathlon / "dataset.json").read_text())["training"]
    for number, gone in ((3, ""), (4, "labelsTr"), (8, "imagesTr")):
        folders.write_decathlon(decathlon, cases=(number,))
        if gone:
            (decathlon / gone / f"organs_{number:02d}.nii.gz").unlink()
    describe(decathlon, training=listed, numTraining=7, test=["./imagesTs/organs_99.nii.gz"], numTest=2)
    assert problems(decathlon) == [
        "numTraining in dataset.json is 7, and there are 4",
        "numTest in dataset.json is 2, and there are 1",
        "1 image without a mask: organs_04",
        "1 mask without an image: organs_08",
        "1 case with image and mask that dataset.json does not name: organs_03",
        "1 test image in dataset.json, but not here: organs_99",
    ]


def test_test_images_are_found_under_either_name(decathlon):
    folders.save(decathlon / "imagesTs" / "a.nii.gz", folders.abdomen(2)[0])
    folders.save(decathlon / "imagesTs" / "b_0000.nii.gz", folders.abdomen(2)[0])
    describe(decathlon, test=["./imagesTs/a.nii.gz", {"image": "imagesTs/b.nii.gz"}], numTest=2)
    assert problems(decathlon) == []


def test_a_mask_of_a_test_image_that_is_not_here_is_counted(decathlon):
    for name in ("a.nii.gz", "b_0000.nii.gz"):
        folders.save(decathlon / "imagesTs" / name, folders.abdomen(2)[0])
    for name in ("a", "b", "c"):
        folders.save(decathlon / "labelsTs" / f"{name}.nii.gz", folders.abdomen(2)[1])
    assert problems(decathlon) == ["1 mask of a test image that is not here: c"]


def test_a_channel_too_many_is_named(nnunet):
    folders.save(nnunet / "imagesTr" / "organs_005_0002.nii.gz", folders.abdomen(5)[0])
    assert problems(nnunet) == ["1 image of a channel beyond the 2 of dataset.json: organs_005_0002"]


def test_folds_are_held_against_the_folder(nnunet, capsys):
    names = ["organs_002", "organs_005", "organs_006"]
    folds = [{"train": [*names, "organs_011"], "val": ["organs_006", "organs_012"]}, {"train": names, "val": []}, 7]
    (nnunet / "splits_final.json").write_text(json.dumps(folds))
    expected = [
        "2 cases in fold 0 of splits_final.json, but not here: organs_011, organs_012",
        "1 case to train and to validate on in fold 0 of splits_final.json: organs_006",
        "fold 2 of splits_final.json does not name cases to train and to validate on",
        "1 case in no fold of splits_final.json: organs_007",
    ]
    assert problems(nnunet) == expected
    capsys.readouterr()
    settings = {"data": "decathlon", "data_dir": str(nnunet), "validation_patients": 1}
    assert len(open_dataset(DataSettings(**settings)).cases) == 4  # with a split of its own
    assert capsys.readouterr().err.splitlines() == [f"{nnunet}: {line}" for line in expected]
    with pytest.raises(VolumeError, match="a fold must name cases of this folder; found organs_011, organs_012"):
        open_dataset(DataSettings(**settings, fold=0))
    (nnunet / "splits_final.json").write_text("{")
    assert "splits_final.json: the file must be JSON" in "".join(check(nnunet).problems)


def test_training_says_how_many_cases_are_damaged(decathlon):
    for name in ("organs_02", "organs_05"):
        (decathlon / "labelsTr" / f"{name}.nii.gz").unlink()
    with pytest.raises(VolumeError, match=r"organs_02.* must exist; .*again\. 1 more such: see `l2gnet data check`\."):
        open_dataset(DataSettings(data="decathlon", data_dir=str(decathlon), validation_patients=1))


def test_synapse_says_which_test_cases_are_not_here(tmp_path):
    folders.write_raw_synapse(tmp_path)
    (tmp_path / "img" / "img0007.nii.gz").unlink()
    report = check(tmp_path)
    assert "a label map needs its image img0007.nii.gz" in report.problems[0]
    assert report.notes[0].startswith("11 test cases of TransUNet's split, but not here: case0001, case0003")
