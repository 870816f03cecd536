import re

import folders
import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from l2gnet.data.folders.check import check
from l2gnet.data.regions import Regions
from l2gnet.data.sides import sided, wrong_sides
from l2gnet.data.volume import Volume, read_labels

CLASSES = ("background", "liver", "spleen", "right_kidney", "Kidney L", "right ventricle", "LV")
SPL = np.array([[0, 0, -2.0, 70], [0, -2.0, 0, 60], [5.0, 0, 0, -20], [0, 0, 0, 1]])
PLACES_MM = {1: 60, 2: -60, 3: 40, 4: -40, 5: 15, 6: -15}  # from the middle to the right


def body(*labels, affine=SPL, width=8):
    """Columns of tissue where the body has them."""
    array = np.zeros((8, 60, 70), np.uint8)
    for label in labels:
        w = 35 - PLACES_MM[label] // 2
        array[2:6, 20:40, max(w - width // 2, 0) : w + width // 2] = label
    return Volume(array, affine)


def test_what_lies_as_it_should_is_not_told():
    assert wrong_sides(body(*PLACES_MM), CLASSES) == []


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ((1, 2), "liver lies 1[12]. mm to the left of spleen: does its header mirror it"),
        ((3, 4), "right_kidney lies 8. mm to the left of Kidney L"),
        ((5, 6), "right ventricle lies [23]. mm to the left of LV"),
    ],
)
@pytest.mark.parametrize("how", ["mirrored", "turned about, as LPS taken for RAS"])
def test_a_header_that_mirrors_is_told(labels, words, how):
    flip = np.diag([-1.0, 1, 1, 1] if how == "mirrored" else [-1.0, -1, 1, 1])
    (line,) = wrong_sides(body(*labels, affine=flip @ SPL), CLASSES)
    assert re.match(words, line)


def test_where_it_is_not_sure_nothing_is_told():
    mirrored = np.diag([-1.0, 1, 1, 1]) @ SPL
    assert wrong_sides(body(1, affine=mirrored), CLASSES) == []  # one of the two alone
    assert wrong_sides(body(affine=mirrored), CLASSES) == []
    few = body(1, 2, affine=mirrored)
    few.array[few.array == 2] = 0
    few.array[3, 25, 60:64] = 2  # a few voxels, as a model finds them anywhere
    assert wrong_sides(few, CLASSES) == []
    near = body(affine=mirrored)
    near.array[2:6, 20:40, 30:34], near.array[2:6, 20:40, 34:38] = 2, 1
    assert wrong_sides(near, CLASSES) == []
    in_voxels = Volume(body(1, 2, affine=mirrored).array, mirrored, has_mm=False)
    assert wrong_sides(in_voxels, CLASSES) == []


def test_the_world_is_that_of_simpleitk(tmp_path):
    """Right is where the first coordinate of ITK, which runs to the left, is lower."""
    mirrored = np.diag([-1.0, 1, 1, 1]) @ SPL
    for affine in (SPL, mirrored):
        stored = body(1, 2).array
        nib.Nifti1Image(stored, affine).to_filename(tmp_path / "a.nii.gz")
        image = SimpleITK.ReadImage(str(tmp_path / "a.nii.gz"))
        found = SimpleITK.LabelShapeStatisticsImageFilter()
        found.Execute(image)
        liver_is_right = found.GetCentroid(1)[0] < found.GetCentroid(2)[0]
        assert liver_is_right == (wrong_sides(read_labels(tmp_path / "a.nii.gz"), CLASSES) == [])


def test_classes_with_a_side_are_known_by_their_words():
    names = ("left", "left kidney", "kidney_right", "KidneyL", "Lung-R", "Lt. kidney", "RV", "rib 3 right")
    assert sided(names) == list(names[1:])  # the first is the background
    others = ("background", "liver", "vertebrae_L1", "left and right kidney", "leftover", "MYO", "tumour", "R1")
    assert sided(others) == []


def test_a_pair_that_differs_by_one_letter_has_sides():
    pairs = ("rkid", "lkid", "RVC", "LVC", "Adrenalr", "Adrenall", "Rkidney cyst", "Lkidney cyst")
    assert sided(("background", "aorta", *pairs)) == list(pairs)
    assert sided(("background", "rkid", "liver", "LVC", "lung", "rectum", "colon")) == []
    (line,) = wrong_sides(body(3, 4), ("background", "a", "b", "lkid", "rkid"))
    assert line.startswith("rkid lies 80 mm to the left of lkid")


def test_a_mirrored_case_is_told_among_others(tmp_path):
    folders.write_raw_synapse(tmp_path)
    for path in (tmp_path / "img" / "img0005.nii.gz", tmp_path / "label" / "label0005.nii.gz"):
        image = nib.load(path)
        affine = np.diag([-1.0, 1, 1, 1]) @ image.affine
        nib.Nifti1Image(np.asarray(image.dataobj), affine).to_filename(path)
    report = check(tmp_path)
    told = [note for note in report.notes if "to the left of" in note]
    assert len(told) >= 2
    assert all(note.startswith("case0005: ") for note in told)
    assert any("liver lies" in note for note in told)
    assert not report.problems


def test_a_region_lies_where_all_of_its_labels_lie():
    names, regions = ("background", "right kidney", "left kidney", "cyst"), Regions(((1, 3), (2, 4), (3, 4)), (1, 2, 3))
    assert wrong_sides(body(1, 3, 2, 4), names, regions) == []
    (line,) = wrong_sides(body(1, 3, 2, 4, affine=np.diag([-1.0, 1, 1, 1]) @ SPL), names, regions)
    assert line.startswith("right kidney lies")
