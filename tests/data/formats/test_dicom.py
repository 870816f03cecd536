import contextlib
import functools

import folders
import nibabel as nib
import numpy as np
import pytest
from pydicom import Dataset

from l2gnet.data.inputs import find_inputs
from l2gnet.data.phantoms import make_heart
from l2gnet.data.volume import in_stored_order, read_frames
from l2gnet.errors import VolumeError

SPACING_MM = (1.4, 1.6, 8.0)
OBLIQUE = nib.eulerangles.euler2mat(x=0.6, y=-0.4, z=0.25)


def placed(signs=(-1, -1, 1), axes=(0, 1, 2)):
    affine = np.eye(4)
    affine[:3, :3] = OBLIQUE @ np.diag(signs)[:, axes] @ np.diag(SPACING_MM)
    affine[:3, 3] = 10, -20, 30
    return affine


make_heart = functools.cache(make_heart)


def heart(phase="ED"):
    return make_heart(1, shape=(5, 30, 36), spacing_mm=(16.0, 6.0, 6.0), phase=phase).image.T.astype(np.int16)


def shuffled(count, seed=0):
    return np.random.default_rng(seed).permutation(count).tolist()


def one_input(folder):
    (found,) = find_inputs([folder])
    return found


@pytest.mark.parametrize(
    ("signs", "axes"),
    [((-1, -1, 1), (0, 1, 2)), ((-1, -1, -1), (0, 1, 2)), ((1, -1, -1), (1, 2, 0)), ((1, 1, 1), (0, 2, 1))],
    ids=["axial, upwards", "axial, downwards", "sagittal", "coronal"],
)
def test_an_oblique_series_in_any_file_order_is_the_volume_that_nifti_has(tmp_path, signs, axes):
    affine = placed(signs, axes)
    folders.write_dicom(tmp_path / "series", [heart()], affine, order=shuffled(5))
    nib.Nifti1Image(heart(), affine).to_filename(tmp_path / "same.nii")
    (expected,), (read,) = read_frames(tmp_path / "same.nii"), one_input(tmp_path / "series").read()
    assert np.array_equal(read.array, expected.array)
    np.testing.assert_allclose(read.affine, expected.affine, atol=2e-4)
    assert read.axes == expected.axes


def test_stored_values_are_rescaled_to_hounsfield_units(tmp_path):
    folders.write_dicom(tmp_path / "ct", [heart()], placed(), RescaleSlope="2", RescaleIntercept="-1024")
    (read,) = one_input(tmp_path / "ct").read()
    assert (read.array.min(), read.array.max()) == (2 * heart().min() - 1024, 2 * heart().max() - 1024)


def test_a_cine_has_its_phases_in_time(tmp_path):
    phases = [heart(), heart("ES"), heart() // 2]
    folders.write_dicom(tmp_path / "cine", phases, placed(), order=shuffled(15))
    frames = one_input(tmp_path / "cine").read()
    nib.Nifti1Image(np.stack(phases, -1), placed()).to_filename(tmp_path / "same.nii")
    for frame, expected in zip(frames, read_frames(tmp_path / "same.nii"), strict=True):
        assert np.array_equal(frame.array, expected.array)


def test_phases_that_lie_a_trifle_apart_are_still_in_time(tmp_path):
    moved = placed()
    moved[:3, 3] -= 1e-4 * moved[:3, 2]
    folders.write_dicom(tmp_path / "cine", [heart()], placed())
    folders.write_dicom(tmp_path / "cine", [heart("ES")], moved, start=20, TriggerTime=50.0)
    folders.write_dicom(tmp_path / "same", [heart(), heart("ES")], placed())
    frames, expected = (one_input(tmp_path / name).read() for name in ("cine", "same"))
    for frame, other in zip(frames, expected, strict=True):
        assert np.array_equal(frame.array, other.array)


def test_two_series_in_a_folder_are_two_scans_beside_others(tmp_path):
    folders.write_dicom(tmp_path / "study", [heart()], placed(), number=3)
    folders.write_dicom(tmp_path / "study", [heart("ES")], placed(), number=7, start=20)
    folders.write_dicom(tmp_path / "alone", [heart()], placed())
    (tmp_path / "study" / "README").write_text("no scan")
    nib.Nifti1Image(heart(), placed()).to_filename(tmp_path / "nifti.nii")
    found = find_inputs([tmp_path])
    assert [scan.name for scan in found] == ["nifti", "alone", "study_series3", "study_series7"]
    assert not np.array_equal(found[2].read()[0].array, found[3].read()[0].array)
    with pytest.raises(VolumeError, match=r"a DICOM series is named by its folder.*name .*study"):
        find_inputs([tmp_path / "study" / "IM0001"])


def test_a_single_slice_is_as_thick_as_it_says(tmp_path):
    folders.write_dicom(tmp_path / "one", [heart()[:, :, :1]], placed())
    (read,) = one_input(tmp_path / "one").read()
    assert read.spacing_mm == pytest.approx((8.0, 1.6, 1.4))


def test_a_single_coronal_slice_of_cubic_voxels_is_one_slice(tmp_path):
    coronal, affine = heart()[:, :, :1], np.eye(4)
    affine[:3, :3] = [[-1, 0, 0], [0, 0, 1], [0, -1, 0]]
    folders.write_dicom(tmp_path / "one", [coronal], affine)
    (read,) = one_input(tmp_path / "one").read()
    assert read.shape == (1, 30, 36)
    assert np.array_equal(in_stored_order(read.array, read.stored), coronal)


def refused(folder, message):
    with pytest.raises(VolumeError, match=message):
        one_input(folder).read()


def test_what_is_missing_or_does_not_belong_together_is_said(tmp_path):
    folders.write_dicom(tmp_path / "gap", [heart()], placed(), order=[0, 1, 3, 4])
    refused(tmp_path / "gap", r"gap: the slices of series 1 must lie at equal distances; found gaps of 8 to 16 mm")
    folders.write_dicom(tmp_path / "cine", [heart(), heart("ES")], placed(), order=range(9))
    refused(tmp_path / "cine", r"as many images at one position as at any other; found \[1, 2\]")
    folders.write_dicom(tmp_path / "echoes", [heart()], placed(), EchoTime=1.5)
    folders.write_dicom(tmp_path / "echoes", [heart()], placed(), EchoTime=4.5, start=20)
    refused(tmp_path / "echoes", r"the images of series 1 must have one EchoTime; found 1\.5; 4\.5")
    folders.write_dicom(tmp_path / "turned", [heart()], placed(), order=range(4))
    folders.write_dicom(tmp_path / "turned", [heart()], placed((1, 1, 1), (0, 2, 1)), order=[4], start=20)
    refused(tmp_path / "turned", r"turned: .* must")


def test_a_damaged_file_is_named_and_takes_no_other_folder_with_it(tmp_path):
    for name in ("cut", "whole"):
        folders.write_dicom(tmp_path / name, [heart()], placed())
    whole = (tmp_path / "cut" / "IM0002").read_bytes()
    for length in (len(whole) - 100, 140):  # without its last pixels, and without most of its header
        (tmp_path / "cut" / "IM0002").write_bytes(whole[:length])
        damaged, other = find_inputs([tmp_path])
        with pytest.raises(VolumeError, match=r"IM0002: DICOM images must be readable and make a volume"):
            damaged.read()
        assert len(other.read()) == 1


@pytest.mark.parametrize("seed", range(3))
def test_bytes_changed_at_random_give_the_scan_or_a_clear_error(tmp_path, seed):
    folders.write_dicom(tmp_path / "series", [heart()[:, :, :2]], placed())
    path, draw = tmp_path / "series" / "IM0001", np.random.default_rng(seed)
    whole = path.read_bytes()
    for _ in range(60):
        changed = np.frombuffer(whole, np.uint8).copy()
        changed[draw.integers(132, len(whole) - 2 * heart()[:, :, 0].size, 3)] = draw.integers(0, 256, 3)
        path.write_bytes(changed.tobytes())
        with contextlib.suppress(VolumeError):
            (frame,) = one_input(tmp_path / "series").read()
            assert np.isfinite(frame.array).all()


def same_frames(read, expected):
    for one, other in zip(read, expected, strict=True):
        assert np.array_equal(one.array, other.array)
        assert one.axes == other.axes
        np.testing.assert_allclose(one.affine, other.affine, atol=2e-4)


@pytest.mark.parametrize("make", [folders.enhanced, folders.legacy_converted])
@pytest.mark.parametrize("phases", [[heart()], [heart(), heart("ES"), heart() // 2]], ids=["volume", "cine"])
def test_an_enhanced_file_is_the_scan_that_the_classic_series_and_nifti_are(tmp_path, make, phases):
    affine, order = placed((1, -1, -1), (1, 2, 0)), shuffled(5 * len(phases))
    folders.write_dicom(tmp_path / "classic", phases, affine, order=order)
    folders.save_dicom(tmp_path / "enhanced" / "scan.dcm", make(phases, affine, order=order))
    nib.Nifti1Image(np.stack(phases, -1), affine).to_filename(tmp_path / "same.nii")
    scan = one_input(tmp_path / "enhanced")
    assert scan.name == "scan"
    same_frames(scan.read(), one_input(tmp_path / "classic").read())
    same_frames(scan.read(), read_frames(tmp_path / "same.nii"))


@pytest.mark.parametrize("kind", ["2.1", "2.2", "4.1", "4.4", "128.1", "130"])
def test_enhanced_ct_mr_and_pet_are_scans(tmp_path, kind):
    image = folders.enhanced([heart()], placed())
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = f"1.2.840.10008.5.1.4.1.1.{kind}"
    folders.save_dicom(tmp_path / "scan.dcm", image)
    (read,) = one_input(tmp_path / "scan.dcm").read()
    assert read.shape == heart().T.shape


def test_each_frame_of_an_enhanced_file_has_its_own_rescale(tmp_path):
    image = folders.enhanced([heart() // 50], placed())
    for number, groups in enumerate(image.PerFrameFunctionalGroupsSequence):
        groups.PixelValueTransformationSequence[0].RescaleSlope = number + 1
        groups.PixelValueTransformationSequence[0].RescaleIntercept = -10 * number
    folders.save_dicom(tmp_path / "scan.dcm", image)
    rescaled = heart() // 50 * np.arange(1, 6) - 10 * np.arange(5)
    nib.Nifti1Image(rescaled.astype(np.int16), placed()).to_filename(tmp_path / "same.nii")
    same_frames(one_input(tmp_path / "scan.dcm").read(), read_frames(tmp_path / "same.nii"))


def test_phases_of_an_enhanced_file_are_in_time_by_whatever_says_it(tmp_path):
    phases = [heart(), heart("ES"), heart() // 2]
    nib.Nifti1Image(np.stack(phases, -1), placed()).to_filename(tmp_path / "same.nii")
    said = [
        ("FrameContentSequence", "TemporalPositionIndex", int),
        ("TemporalPositionSequence", "TemporalPositionTimeOffset", float),
        ("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase", float),
    ]
    for group, name, kind in said:
        image = folders.enhanced(phases, placed(), order=shuffled(15))
        for groups in image.PerFrameFunctionalGroupsSequence:
            time = groups.CardiacSynchronizationSequence[0].pop("NominalCardiacTriggerDelayTime").value
            if group not in groups:
                setattr(groups, group, [Dataset()])
            setattr(groups[group][0], name, kind(time))
        folders.save_dicom(tmp_path / "scan.dcm", image)
        same_frames(one_input(tmp_path / "scan.dcm").read(), read_frames(tmp_path / "same.nii"))


def test_each_enhanced_file_is_a_scan_of_its_own_with_the_name_of_the_file(tmp_path):
    for name, phase in (("a", "ED"), ("b", "ES")):
        folders.save_dicom(tmp_path / "study" / f"{name}.dcm", folders.enhanced([heart(phase)], placed()))
    folders.write_dicom(tmp_path / "study", [heart()], placed(), number=3)
    (tmp_path / "study" / "cut.dcm").write_bytes((tmp_path / "study" / "IM0001").read_bytes()[:140])
    found = find_inputs([tmp_path])
    assert [scan.name for scan in found] == ["study", "a", "b"]
    assert not np.array_equal(found[1].read()[0].array, found[2].read()[0].array)
    with pytest.raises(VolumeError, match=r"cut\.dcm"):
        found[0].read()


def test_an_enhanced_file_that_mixes_things_is_refused(tmp_path):
    def refuses(group, name, value, message):
        image = folders.enhanced([heart()], placed())
        groups = image.PerFrameFunctionalGroupsSequence[2]
        if group not in groups:
            setattr(groups, group, [Dataset()])
        setattr(groups[group][0], name, value)
        folders.save_dicom(tmp_path / "scan.dcm", image)
        refused(tmp_path / "scan.dcm", rf"scan\.dcm: {message}")

    refuses("FrameContentSequence", "StackID", "2", "the images of series 1 must have one StackID; found 1; 2; split")
    refuses("MREchoSequence", "EffectiveEchoTime", 4.5, r"the images .* one EffectiveEchoTime; found 1\.5; 4\.5")
    refuses("MRDiffusionSequence", "DiffusionBValue", 800.0, r"the images .* one DiffusionBValue; found 800\.0; None")
    refuses("MRImageFrameTypeSequence", "FrameType", ["DERIVED"], "the images .* must have one FrameType")
    refuses("MRImageFrameTypeSequence", "ComplexImageComponent", "PHASE", "the images .* one ComplexImageComponent")
    refuses("PlanePositionSequence", "ImagePositionPatient", [0, 0, 0], ".* must")


def test_an_enhanced_file_must_hold_all_its_frames(tmp_path):
    image = folders.enhanced([heart()], placed())
    image.ConcatenationUID = "1.2.3"
    folders.save_dicom(tmp_path / "part.dcm", image)
    refused(tmp_path / "part.dcm", r"part\.dcm: .* other frames are in other files, of one concatenation")
    image = folders.enhanced([heart()], placed())
    del image.PerFrameFunctionalGroupsSequence[4]
    folders.save_dicom(tmp_path / "fewer.dcm", image)
    refused(tmp_path / "fewer.dcm", r"fewer\.dcm: .* functional groups, .*: 1 for all and 4 for each of 5 frames")
    del image.SharedFunctionalGroupsSequence
    folders.save_dicom(tmp_path / "none.dcm", image)
    refused(tmp_path / "none.dcm", r"none\.dcm: .* functional groups, .*: 0 for all and 4 for each of 5 frames")
