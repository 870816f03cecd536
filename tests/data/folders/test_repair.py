"""`data repair`: a copy with every mask on the grid of its image, held against SimpleITK."""

import json

import folders
import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from l2gnet.data.folders.check import check
from l2gnet.data.folders.repair import repair
from l2gnet.data.volume import read_labels
from l2gnet.errors import VolumeError

SHAPE = (24, 20, 12)
AFFINE = np.diag([-1.5, -1.5, 4.0, 1.0])
AFFINE[:3, 3] = 10, 20, -30


def rotated(degrees, spacing_mm, origin_mm):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    return nib.affines.from_matvec(turn @ np.diag(spacing_mm), origin_mm)


OTHERS = {  # grids that hold most of the image: coarser, finer, turned, stored in another order
    "coarser": ((10, 12, 9), np.array([[-3.1, 0, 0, 11], [0, -2.7, 0, 21], [0, 0, 5.3, -31], [0, 0, 0, 1]])),
    "finer": ((61, 50, 33), np.array([[-0.62, 0, 0, 10.3], [0, -0.61, 0, 20.2], [0, 0, 1.47, -30.4], [0, 0, 0, 1]])),
    "turned": ((24, 20, 17), rotated(12, (-1.7, -1.6, 2.9), (15, 18, -35))),
    "coronal": ((24, 30, 21), np.array([[-1.6, 0, 0, 11], [0, 0, -1.7, 22], [0, 1.9, 0, -32], [0, 0, 0, 1]])),
}


def write(root, masks, image_affine=AFFINE, dtype=np.uint8):
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for name, (shape, affine) in masks.items():
        image = np.random.default_rng(0).integers(0, 300, SHAPE).astype(np.int16)
        nib.Nifti1Image(image, image_affine).to_filename(root / "imagesTr" / f"{name}_0000.nii.gz")
        mask = np.random.default_rng(1).integers(0, 3, shape).astype(dtype) * 400 ** (dtype != np.uint8)
        nib.Nifti1Image(mask, affine).to_filename(root / "labelsTr" / f"{name}.nii.gz")
    labels = {"background": 0, "a": 1, "b": 2} if dtype == np.uint8 else {"background": 0, "a": 400, "b": 800}
    fields = {"channel_names": {"0": "MR"}, "labels": labels, "numTraining": len(masks), "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(fields))
    return root


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
def test_masks_are_resampled_as_simpleitk_does_and_the_folder_is_left_alone(tmp_path, dtype):
    root, new = write(tmp_path / "old", OTHERS | {"right": (SHAPE, AFFINE)}, dtype=dtype), tmp_path / "new"
    before = contents(root)
    assert len(check(root).problems) == 4
    told = {one.name: one.words for one in repair(root, new)}
    assert contents(root) == before
    assert told.keys() == OTHERS.keys()
    assert told["coarser"].startswith("mask resampled from 9x12x10 of 5.3x2.7x3.1 mm to 12x20x24 of 4x1.5x1.5 mm")
    assert not check(new).problems
    assert (new / "labelsTr" / "right.nii.gz").read_bytes() == (root / "labelsTr" / "right.nii.gz").read_bytes()
    for name in OTHERS:
        image = SimpleITK.ReadImage(str(new / "imagesTr" / f"{name}_0000.nii.gz"))
        mask = SimpleITK.ReadImage(str(root / "labelsTr" / f"{name}.nii.gz"))
        expected = SimpleITK.Resample(mask, image, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor)
        repaired = SimpleITK.ReadImage(str(new / "labelsTr" / f"{name}.nii.gz"))
        assert np.array_equal(SimpleITK.GetArrayFromImage(repaired), SimpleITK.GetArrayFromImage(expected))
        assert np.allclose(repaired.GetOrigin(), image.GetOrigin(), atol=1e-5)
        assert np.allclose(repaired.GetDirection(), image.GetDirection(), atol=1e-6)


def test_what_a_scale_factor_has_rounded_is_written_as_whole_numbers(tmp_path):
    root = write(tmp_path / "old", {"a": (SHAPE, AFFINE)})
    meant = np.random.default_rng(1).integers(0, 3, SHAPE).astype(float)
    mask = nib.Nifti1Image(meant, AFFINE)
    mask.set_data_dtype(np.uint8)
    mask.to_filename(root / "labelsTr" / "a.nii.gz")
    (one,) = repair(root, tmp_path / "new")
    assert "written as whole numbers" in one.words
    assert np.array_equal(nib.load(tmp_path / "new" / "labelsTr" / "a.nii.gz").get_fdata(), meant)


def test_what_no_resampling_can_mend_is_left_as_it_is_with_words(tmp_path):
    far = AFFINE.copy()
    far[0, 3] += 30
    root = write(tmp_path / "old", {"far": (SHAPE, far), "formless": (SHAPE, far)})
    path = root / "labelsTr" / "formless.nii.gz"
    mask = nib.load(path)
    mask.header["qform_code"] = mask.header["sform_code"] = 0
    nib.Nifti1Image(np.asarray(mask.dataobj)[:-1], None, mask.header).to_filename(path)
    far, formless = repair(root, tmp_path / "new")
    assert far.shown is formless.shown is None
    assert "a mask must lie within its image" in far.words
    assert "found 16% of it there; are the two of one scan?" in far.words
    assert "must say where they lie" in formless.words
    assert contents(tmp_path / "new") == contents(root)


@pytest.mark.parametrize("default", [np.eye(4), np.diag([-1.0, -1.0, 1.0, 1.0])], ids=["numpy", "itk"])
def test_a_mask_whose_header_was_not_kept_is_resampled_by_none(tmp_path, default):
    image = default @ np.diag([2.0, 2.0, 3.0, 1.0])  # which holds all of it
    root = write(tmp_path / "old", {"case": (SHAPE, default), "crop": ((9, 9, 9), default)}, image)
    told = {one.name: one for one in repair(root, tmp_path / "new")}
    assert told["case"].shown is None
    assert "1 mm from the origin on: a header that was not kept; save it anew" in told["case"].words
    assert told["crop"].words.startswith("mask resampled")


@pytest.mark.parametrize("by", ["itk", "nibabel"])
def test_a_mask_that_kept_its_spacing_and_lost_its_place_is_resampled_by_none(tmp_path, by):
    root = write(tmp_path / "old", {"case": (SHAPE, AFFINE)})
    array, path = np.ones(SHAPE, np.uint8), root / "labelsTr" / "case.nii.gz"
    if by == "itk":
        mask = SimpleITK.GetImageFromArray(array.T)
        mask.SetSpacing((1.5, 1.5, 4.0))
        SimpleITK.WriteImage(mask, str(path))
    else:
        nib.Nifti1Image(array, np.diag([1.5, 1.5, 4.0, 1.0])).to_filename(path)
    (one,) = repair(root, tmp_path / "new")
    assert one.shown is None
    assert "of 1.5x1.5x4 mm from the origin on: a header that was not kept; save it anew" in one.words
    assert contents(tmp_path / "new") == contents(root)


def test_a_structure_that_is_lost_is_told(tmp_path):
    root = write(tmp_path / "old", {"a": ((96, 80, 48), AFFINE @ np.diag([0.25, 0.25, 0.25, 1]))})
    mask = np.zeros((96, 80, 48), np.uint8)
    mask[8:80, 8:60, 8:40], mask[10, 10, 10] = 1, 2
    nib.Nifti1Image(mask, AFFINE @ np.diag([0.25, 0.25, 0.25, 1])).to_filename(root / "labelsTr" / "a.nii.gz")
    (one,) = repair(root, tmp_path / "new")
    assert one.words.endswith("; LOST, as too thin for the grid: 2")


def test_the_copy_is_a_new_folder_apart_from_the_old_one(tmp_path):
    root = write(tmp_path / "old", {"a": (SHAPE, AFFINE)})
    for new in (root, root / "new", tmp_path):
        with pytest.raises(VolumeError, match="the repaired copy must"):
            list(repair(root, new))
    assert not (root / "new").exists()


def test_folders_that_are_links_are_copied_too(tmp_path):
    """As labelsTr, where masks are kept in versions; but nothing from without."""
    root, new = write(tmp_path / "old", {"a": ((24, 20, 9), AFFINE), "b": (SHAPE, AFFINE)}), tmp_path / "new"
    (root / "annotations").mkdir()
    (root / "labelsTr").rename(root / "annotations" / "v2")
    (root / "labelsTr").symlink_to("annotations/v2")
    (root / "annotations" / "task").symlink_to("..")
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "note.txt").write_text("of others")
    (root / "archive").symlink_to(tmp_path / "archive")
    (one,) = repair(root, new)
    assert one.name == "a"
    assert check(new).volumes == 2
    assert check(new).problems == []
    assert {str(path.parent) for path in contents(new)} == {".", "imagesTr", "labelsTr", "annotations/v2"}


@pytest.mark.parametrize("kind", ["synapse", "decathlon"])
def test_other_kinds_of_folder_are_repaired_too(tmp_path, kind):
    root = tmp_path / "old"
    {"synapse": folders.write_raw_synapse, "decathlon": folders.write_decathlon}[kind](root)
    path = root / ("label/label0005.nii.gz" if kind == "synapse" else "labelsTr/organs_05.nii.gz")
    labels = nib.load(path)
    affine = labels.affine @ np.diag([2, 1, 1, 1])
    nib.Nifti1Image(np.asarray(labels.dataobj)[::2], affine).to_filename(path)
    (one,) = repair(root, tmp_path / "new")
    assert one.name.endswith("05")
    assert not check(tmp_path / "new").problems
    after = read_labels(tmp_path / "new" / path.relative_to(root))
    assert after.shape == (20, 52, 60)
