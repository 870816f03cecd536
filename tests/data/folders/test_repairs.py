"""What need not be refused: numbers with gaps, nnU-Net's `ignore`, and grids that differ by a hair."""

import json

import nibabel as nib
import numpy as np
import pytest

from l2gnet.data.folders.check import check
from l2gnet.data.folders.decathlon import find_scans
from l2gnet.data.folders.scan import Scan
from l2gnet.data.grid import Grid
from l2gnet.data.resampling import labels_on_grid
from l2gnet.data.volume import IGNORED, Volume, read_labels
from l2gnet.errors import VolumeError

SHAPE = (12, 10, 6)
AFFINE = np.diag([-1.5, -1.5, 5.0, 1.0])
HEARTS = {"myocardium": 205, "background": 0, "left ventricle": 500, "right ventricle": 600}  # as MM-WHS numbers them


def write(root, labels, mask, affine=AFFINE):
    """A folder of nnU-Net of one case; its image holds the numbers of its voxels."""
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    image = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    nib.Nifti1Image(image, AFFINE).to_filename(root / "imagesTr" / "a_0000.nii.gz")
    nib.Nifti1Image(mask, affine).to_filename(root / "labelsTr" / "a.nii.gz")
    description = {"channel_names": {"0": "MR"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def drawn(numbers, dtype):
    return np.random.default_rng(0).choice(np.array(numbers, dtype), SHAPE)


def test_numbers_with_gaps_become_classes_and_a_table_says_which(tmp_path):
    stored = drawn(list(HEARTS.values()), np.int16)
    write(tmp_path, HEARTS, stored)
    folder = find_scans(tmp_path)
    assert folder.classes == ("background", "myocardium", "left ventricle", "right ventricle")
    _, labels = folder.scans[0].read()
    assert labels.array.dtype == np.uint8
    expected = np.searchsorted([0, 205, 500, 600], nib.load(tmp_path / "labelsTr" / "a.nii.gz").get_fdata())
    assert np.array_equal(labels.array, expected.transpose(2, 1, 0))
    report = check(tmp_path)
    assert not report.problems
    assert report.notes == [
        "numbers in the masks became classes: 0 -> 0 background, 205 -> 1 myocardium, "
        "500 -> 2 left ventricle, 600 -> 3 right ventricle"
    ]


@pytest.mark.parametrize("number", [1, 204, 601, 65535])
def test_a_number_that_no_class_has_is_refused(tmp_path, number):
    stored = drawn(list(HEARTS.values()), np.uint16)
    stored[3, 3, 3] = number
    write(tmp_path, HEARTS, stored)
    (problem,) = check(tmp_path).problems
    assert f"labels must be 0, 205, 500, 600; found [{number}]; use this data set's own mask" in problem


def test_ignore_is_no_class_and_marks_what_nobody_knows(tmp_path):
    stored = drawn([0, 1, 2, 3], np.uint8)
    write(tmp_path, {"background": 0, "a": 1, "b": 2, "ignore": 3}, stored)
    folder = find_scans(tmp_path)
    assert folder.classes == ("background", "a", "b")
    expected = np.where(stored == 3, IGNORED, stored).transpose(2, 1, 0)
    assert np.array_equal(folder.scans[0].read()[1].array, expected)
    assert check(tmp_path).notes[0].endswith("2 -> 2 b, 3 -> left out of learning and scores")
    (scan,) = folder.with_structures(["b"]).scans
    assert np.array_equal(scan.read()[1].array, np.choose(stored, [0, 0, 1, IGNORED]).transpose(2, 1, 0))
    write(tmp_path, {"background": 0, "a": 1, "b": 2, "ignore": 3}, stored + np.uint8(1))
    with pytest.raises(VolumeError, match=r"labels must lie in 0\.\.3"):
        find_scans(tmp_path).scans[0].read()


def test_what_is_ignored_stays_so_on_the_grid_of_a_model():
    array = np.zeros((2, 8, 8), np.uint8)
    array[:, 2:6, :4], array[:, 2:6, 4:] = 1, IGNORED
    labels = Volume(array, np.diag([5.0, 1, 1, 1]))
    same = labels_on_grid(labels, Grid(1.0, 8), 2)
    assert np.array_equal(same, array)
    coarse = labels_on_grid(labels, Grid(2.0, 6), 2)  # and what lies beyond the image is background
    assert np.array_equal(coarse[0, 2:4], [[0, 1, 1, IGNORED, IGNORED, 0]] * 2)
    assert not coarse[0, [0, 1, 4, 5]].any()


def test_grids_that_differ_by_a_hair_are_one_even_where_it_decides_how_they_are_shown(tmp_path):
    image = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    mask = (image % 3).astype(np.uint8)
    for one, other in (
        (np.diag([1.0, 1.2006, 1.0, 1]), np.diag([1.0, 1.2004, 1.0, 1])),  # the first is shown as slices along y
        (turned(45.011), turned(44.989)),
    ):
        for number, pair in enumerate(((one, other), (other, one))):
            for name, array, affine in zip(("image", "mask"), (image, mask), pair, strict=True):
                nib.Nifti1Image(array, affine).to_filename(tmp_path / f"{name}{number}.nii")
            scan = Scan("a", "a", tmp_path / f"image{number}.nii", tmp_path / f"mask{number}.nii", ("b", "c", "d"))
            seen, labels = scan.read()
            assert read_labels(scan.label).shape != seen.shape
            assert np.array_equal(labels.array, seen.array % 3)
            assert np.abs(labels.affine - seen.affine).max() < 5e-3


def turned(degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1.0, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1]])


def test_channels_that_differ_by_a_hair_are_read_together(tmp_path):
    write(tmp_path, {"background": 0, "a": 1}, drawn([0, 1], np.uint8))
    image = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    for channel, spacing_mm in enumerate((1.2006, 1.2004)):
        affine = np.diag([1.0, spacing_mm, 1.0, 1])
        nib.Nifti1Image(image, affine).to_filename(tmp_path / "imagesTr" / f"a_{channel:04d}.nii.gz")
    nib.Nifti1Image((image % 2).astype(np.uint8), affine).to_filename(tmp_path / "labelsTr" / "a.nii.gz")
    text = (tmp_path / "dataset.json").read_text().replace('{"0": "MR"}', '{"0": "T1", "1": "T2"}')
    (tmp_path / "dataset.json").write_text(text)
    seen, labels = find_scans(tmp_path).scans[0].read()
    assert np.array_equal(seen.array, seen.more[0])
    assert np.array_equal(labels.array, seen.array % 2)
