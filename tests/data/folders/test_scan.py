import itertools
import re
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st

from l2gnet.data.folders.acdc import GROUPS
from l2gnet.data.folders.scan import Scan, split_patients
from l2gnet.errors import ConfigError, VolumeError


def scans_of(groups):
    """Scans without files, for a patient of each given group."""
    return [
        Scan(f"patient{n:03d}_{phase}", f"patient{n:03d}", Path("image.nii"), None, ("background", "a"), group, phase)
        for n, group in enumerate(groups)
        for phase in ("ED", "ES")
    ]


ACDC_GROUPS = [group for group in GROUPS for _ in range(20)]


@pytest.mark.parametrize("counts", [(80, 20), (70, 10, 20), (100,)])
def test_splits_are_stratified_and_lose_nobody(counts):
    scans = scans_of(ACDC_GROUPS)
    parts = split_patients(scans, counts, seed=3)
    assert [len(part) for part in parts] == list(counts)
    assert sorted(itertools.chain(*parts)) == sorted({scan.patient for scan in scans})
    for part, count in zip(parts, counts, strict=True):
        assert Counter(ACDC_GROUPS[int(name[-3:])] for name in part) == dict.fromkeys(GROUPS, count // 5)


@given(st.lists(st.sampled_from(GROUPS), min_size=2, max_size=60), st.integers(0, 99), st.data())
def test_any_split_keeps_the_proportions(groups, seed, data):
    first = data.draw(st.integers(1, len(groups) - 1))
    one, two = split_patients(scans_of(groups), (first, len(groups) - first), seed)
    assert sorted(one + two) == [f"patient{n:03d}" for n in range(len(groups))]
    drawn = Counter(groups[int(name[-3:])] for name in one)
    for group, size in Counter(groups).items():
        assert abs(drawn[group] - size * first / len(groups)) <= 2


def test_a_split_depends_on_the_seed_and_not_on_the_order():
    scans = scans_of(ACDC_GROUPS)
    assert split_patients(scans, seed=1) == split_patients(scans[::-1], seed=1)
    held_out = {tuple(split_patients(scans, seed=seed)[1]) for seed in range(20)}
    assert len(held_out) == 20
    # A patient list never changes from release to release: published numbers depend on it.
    assert split_patients(scans_of(GROUPS * 2), (7, 3), seed=0)[1] == ["patient000", "patient001", "patient008"]


@pytest.mark.parametrize("counts", [(80, 21), (80, 19), (100, 0), (110, -10), ()])
def test_counts_out_of_range_are_refused(counts):
    with pytest.raises(ConfigError, match=rf"number of patients, 100; found {re.escape(str(counts))}"):
        split_patients(scans_of(ACDC_GROUPS), counts)


def formless(path, array):
    """An image whose header says nothing of where it lies, only how large its voxels are."""
    image = nib.Nifti1Image(array, None)
    image.header["pixdim"][1:4] = 3, 2, 10
    image.header["qform_code"] = image.header["sform_code"] = 0
    image.to_filename(path)


@pytest.mark.parametrize("saver", ["nibabel", "SimpleITK", "without a form, too"])
def test_an_image_that_says_not_where_it_lies_pairs_with_a_mask_that_its_reader_saved(tmp_path, saver):
    array = np.random.default_rng(0).integers(0, 300, (24, 20, 6)).astype(np.int16)
    mask = (array > 150).astype(np.uint8)
    formless(tmp_path / "image.nii.gz", array)
    if saver == "nibabel":
        nib.Nifti1Image(mask, nib.load(tmp_path / "image.nii.gz").affine).to_filename(tmp_path / "mask.nii.gz")
    elif saver == "SimpleITK":
        read = SimpleITK.ReadImage(str(tmp_path / "image.nii.gz"))
        SimpleITK.WriteImage(SimpleITK.Cast(read > 150, SimpleITK.sitkUInt8), str(tmp_path / "mask.nii.gz"))
    else:
        formless(tmp_path / "mask.nii.gz", mask)
    scan = Scan("a", "a", tmp_path / "image.nii.gz", tmp_path / "mask.nii.gz", ("background", "a"))
    image, labels = scan.read()
    assert np.array_equal(labels.array, image.array > 150)
    assert image.spacing_mm == pytest.approx((10, 2, 3))
    np.testing.assert_allclose(image.affine @ np.linalg.inv(labels.affine), np.eye(4), atol=1e-4)
    assert image.remarks == ("its header does not say how it lies: are left and right as shown?",)


def test_labels_that_are_taken_to_their_image_keep_what_was_said_of_them(tmp_path):
    formless(tmp_path / "image.nii.gz", np.zeros((24, 20, 6), np.int16))
    labels = np.full((24, 20, 6), 0.9999)
    nib.Nifti1Image(labels, np.diag([-3.0, -2, 10, 1])).to_filename(tmp_path / "mask.nii.gz")
    scan = Scan("a", "a", tmp_path / "image.nii.gz", tmp_path / "mask.nii.gz", ("background", "a"))
    assert scan.read()[1].remarks == ("its labels were rounded, as 0.9999 to 1",)


def test_an_image_that_says_not_where_it_lies_pairs_with_no_other_mask(tmp_path):
    array = np.random.default_rng(0).integers(0, 300, (24, 20, 6)).astype(np.int16)
    formless(tmp_path / "image.nii.gz", array)
    for affine in (np.diag([3.0, 2, 10, 1]), np.diag([-3.0, -2, 8, 1])):
        nib.Nifti1Image((array > 150).astype(np.uint8), affine).to_filename(tmp_path / "mask.nii.gz")
        with pytest.raises(VolumeError, match=r"mask\.nii\.gz: the grid must be that of .*image\.nii\.gz"):
            Scan("a", "a", tmp_path / "image.nii.gz", tmp_path / "mask.nii.gz", ("background", "a")).read()
