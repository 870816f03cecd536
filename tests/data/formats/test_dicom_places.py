"""Which files make a volume: copies, gaps, noise in headers, and files that cannot be read."""

import shutil
import warnings

import folders
import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from pydicom import Dataset, dcmread
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid
from test_dicom import heart, one_input, placed, same_frames, shuffled

from l2gnet.data.inputs import find_inputs
from l2gnet.data.volume import read_frames
from l2gnet.errors import VolumeError


def write(folder, phases=None, affine=None, **options):
    folders.write_dicom(folder, phases or [heart()], placed() if affine is None else affine, **options)
    return folder


def change(path, **values):
    image = dcmread(path)
    for name, value in values.items():
        setattr(image, name, value)
    with warnings.catch_warnings(action="ignore"):
        image.save_as(path, enforce_file_format=True)


def expected(tmp_path, *phases, affine=None):
    nib.Nifti1Image(np.stack(phases or [heart()], -1), placed() if affine is None else affine).to_filename(
        tmp_path / "same.nii"
    )
    return read_frames(tmp_path / "same.nii")


def refused(folder, message):
    with pytest.raises(VolumeError, match=message):
        one_input(folder).read()


def remarks(folder):
    (frame, *_) = one_input(folder).read()
    return list(frame.remarks)


def test_a_whole_series_has_nothing_to_remark(tmp_path):
    assert remarks(write(tmp_path / "series", order=shuffled(5))) == []
    assert remarks(write(tmp_path / "cine", [heart(), heart("ES")], order=shuffled(10))) == []


def test_a_volume_lies_where_simple_itk_puts_it(tmp_path):
    folder = write(tmp_path / "series", affine=placed((1, -1, -1), (1, 2, 0)), order=shuffled(5))
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = SimpleITK.ReadImage(names)
    (volume,) = one_input(folder).read()
    world = SimpleITK.GetArrayFromImage(image)
    for index in np.ndindex(3, 3, 3):
        ijk = [int(n * (size - 1) // 2) for n, size in zip(index, image.GetSize(), strict=True)]
        ras = np.array(image.TransformIndexToPhysicalPoint(ijk)) * (-1, -1, 1)
        d, h, w = np.rint(nib.affines.apply_affine(np.linalg.inv(volume.affine), ras)).astype(int)
        np.testing.assert_allclose(nib.affines.apply_affine(volume.affine, (d, h, w)), ras, atol=1e-3)
        assert volume.array[d, h, w] == world[tuple(ijk[::-1])]


@pytest.mark.parametrize("seed", range(5))
def test_noise_of_a_thousandth_neither_parts_nor_merges(tmp_path, seed):
    draw = np.random.default_rng(seed)
    folder = write(tmp_path / "cine", [heart(), heart("ES"), heart() // 2], order=shuffled(15, seed))
    for path in folder.iterdir():
        image = dcmread(path)
        for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            noise = draw.uniform(-1e-3, 1e-3, len(image[name].value))
            setattr(image, name, [f"{value:.10f}"[:16] for value in np.array(image[name].value, float) + noise])
        image.TriggerTime = float(image.TriggerTime) + draw.uniform(-1e-3, 1e-3)
        folders.save_dicom(path, image)
    frames = one_input(folder).read()
    for frame, other in zip(frames, expected(tmp_path, heart(), heart("ES"), heart() // 2), strict=True):
        assert np.array_equal(frame.array, other.array)
        np.testing.assert_allclose(frame.affine, other.affine, atol=0.05)
    assert frames[0].remarks == ()


@pytest.mark.parametrize("height_mm", [0.005, 0.015, 7.995, 7.9949])
def test_no_limit_of_rounding_parts_a_slice(tmp_path, height_mm):
    affine = np.diag([-1.4, -1.6, 8.0, 1.0])
    affine[2, 3] = height_mm
    folder = write(tmp_path / "cine", [heart()], affine)
    affine[2, 3] += 2e-4
    folders.write_dicom(folder, [heart("ES")], affine, start=20, TriggerTime=50.0)
    assert len(one_input(folder).read()) == 2


def test_slices_close_together_stay_apart(tmp_path):
    affine = np.diag([-1.4, -1.6, 0.3, 1.0])  # a CT reconstructed with overlap
    (volume,) = one_input(write(tmp_path / "series", affine=affine)).read()
    assert volume.shape == (5, 30, 36)
    assert volume.spacing_mm[0] == pytest.approx(0.3)


def test_copies_are_one_image_and_said_so(tmp_path):
    folder = write(tmp_path / "series")
    shutil.copy(folder / "IM0002", folder / "IM0002 (1)")
    shutil.copy(folder / "IM0005", folder / "another")
    same_frames(one_input(folder).read(), expected(tmp_path))
    assert remarks(folder) == ["2 of its images are copies of others and were left out (IM0002 (1), another)"]


def test_a_second_export_with_new_identifiers_is_a_copy_too(tmp_path):
    folder = write(tmp_path / "series")
    for path in sorted(folder.iterdir()):
        shutil.copy(path, folder / f"again{path.name}")
        change(folder / f"again{path.name}", SOPInstanceUID=generate_uid(), InstanceNumber=99)
    same_frames(one_input(folder).read(), expected(tmp_path))
    assert any("5 of its images are copies" in remark for remark in remarks(folder))


def test_moments_that_are_the_same_to_the_last_bit_are_copies(tmp_path):
    folder = write(tmp_path / "cine", [heart(), heart("ES"), heart()])
    same_frames(one_input(folder).read(), expected(tmp_path, heart(), heart("ES")))
    assert "5 of its images are copies" in remarks(folder)[0]


def test_a_blank_slice_of_a_cine_is_no_copy(tmp_path):
    blank = heart("ES")
    blank[:, :, 2] = 0
    first = heart()
    first[:, :, 2] = 0
    folder = write(tmp_path / "cine", [first, blank])
    same_frames(one_input(folder).read(), expected(tmp_path, first, blank))


def test_one_identifier_for_two_images_is_doubted(tmp_path):
    folder = write(tmp_path / "series")
    change(folder / "IM0002", SOPInstanceUID=dcmread(folder / "IM0001").SOPInstanceUID)
    assert remarks(folder) == [
        "images that differ have one SOPInstanceUID (IM0001 and IM0002): are they of one series?"
    ]


@pytest.mark.parametrize(("missing", "between"), [([2], "IM0002 and IM0004"), ([1, 3], "gaps")])
def test_a_missing_slice_is_named(tmp_path, missing, between):
    folder = write(tmp_path / "series", [heart().repeat(2, axis=2)])
    for number in missing:
        (folder / f"IM000{number + 1}").unlink()
    refused(folder, "must lie at equal distances; found gaps of 8 to 16 mm, the widest between IM000")


def test_every_other_slice_missing_is_doubted(tmp_path):
    folder = write(tmp_path / "series", [heart().repeat(2, axis=2)[:, :, :9]], SpacingBetweenSlices=8.0)
    for number in (2, 4, 6, 8):
        (folder / f"IM000{number}").unlink()
    assert remarks(folder) == [
        "no image of it has number 2, 4, 6, 8 of 1 to 9: are files missing?",
        "its slices lie 16 mm apart, 8 mm by their headers: are some of them missing?",
    ]


@pytest.mark.parametrize(("between", "change_mm"), [(True, 4), (False, 24)])
def test_two_acquisitions_that_were_joined_are_doubted(tmp_path, between, change_mm):
    """As one before contrast and one after it under one identifier, whose slices share no place."""
    later = placed()
    later[:3, 3] += later[:3, 2] * change_mm / 8
    agent = {"SpacingBetweenSlices": 8.0, "SeriesDescription": "after", "ContrastBolusAgent": "Gd"}
    images = [
        *folders.dicom_slices([heart()[:, :, :3]], placed(), SpacingBetweenSlices=8.0, SeriesDescription="before"),
        *folders.dicom_slices([heart()[:, :, :3]], later, **agent),
    ]
    for number, image in enumerate(images, start=1):
        image.InstanceNumber = number
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        folders.save_dicom(tmp_path / "series" / f"IM{number}", image)
    closer = ["its slices lie 4 mm apart, 8 mm by their headers: are some of them of another acquisition?"]
    assert remarks(tmp_path / "series") == [
        *(closer if between else []),
        "3 of its 6 slices have another SeriesDescription: are they of another acquisition?",
        "3 of its 6 slices have another ContrastBolusAgent: are they of another acquisition?",
    ]


def test_a_last_slice_missing_is_doubted_where_a_header_counts(tmp_path):
    for name, what in (("ImagesInAcquisition", "images"), ("NumberOfSlices", "slices")):
        folder = write(tmp_path / name, **{name: 5})
        assert remarks(folder) == []
        (folder / "IM0005").unlink()
        assert remarks(folder) == [f"its headers speak of 5 {what}, of which 4 are here"]


def test_the_first_slices_missing_are_doubted(tmp_path):
    folder = write(tmp_path / "series")
    (folder / "IM0001").unlink()
    assert remarks(folder) == ["its images are numbered from 2 on: are the first ones missing?"]


def test_a_last_slice_missing_leaves_no_trace(tmp_path):
    folder = write(tmp_path / "series")
    (folder / "IM0005").unlink()
    assert one_input(folder).read()[0].shape[0] == 4  # as the docstring of dicom.py says
    assert remarks(folder) == []


@pytest.mark.filterwarnings("ignore")  # of pydicom, about the end of the file
def test_a_last_slice_that_was_cut_anywhere_is_never_left_out_in_silence(tmp_path):
    folder = write(tmp_path / "series", [heart()[:8, :8]])
    whole = (folder / "IM0005").read_bytes()
    for length in range(0, len(whole), 19):
        (folder / "IM0005").write_bytes(whole[:length])
        with pytest.raises(VolumeError, match="IM0005: "):
            find_inputs([tmp_path])[0].read()


def test_a_link_to_nothing_and_a_pointer_in_place_of_a_slice_are_refused(tmp_path):
    folder = write(tmp_path / "link")
    (folder / "IM0005").unlink()
    (folder / "IM0005").symlink_to("nowhere")
    refused(folder, "IM0005: a file that has its place among those of a series must be a DICOM image")
    folder = write(tmp_path / "pointer")
    (folder / "IM0005").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    refused(folder, "IM0005: a file that has its place among those of a series .* found another kind of file")


def test_an_empty_file_of_another_name_is_doubted(tmp_path):
    folder = write(tmp_path / "series")
    (folder / "unknown").touch()
    assert remarks(folder) == ["beside it lies unknown, which is no image of a scan: is it one of its slices?"]


def test_a_slice_that_was_made_a_picture_is_doubted(tmp_path):
    folder = write(tmp_path / "series")
    image = dcmread(folder / "IM0005")
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    folders.save_dicom(folder / "IM0005", image)
    assert remarks(folder) == ["beside it lies IM0005, which is no image of a scan: is it one of its slices?"]


def test_a_series_in_two_folders_is_doubted_unless_one_is_a_copy(tmp_path):
    write(tmp_path / "a" / "whole")
    shutil.copytree(tmp_path / "a" / "whole", tmp_path / "a" / "copy")
    assert [scan.read()[0].remarks for scan in find_inputs([tmp_path / "a"])] == [(), ()]
    write(tmp_path / "b" / "one")
    (tmp_path / "b" / "two").mkdir()
    for number in (4, 5):
        (tmp_path / "b" / "one" / f"IM000{number}").rename(tmp_path / "b" / "two" / f"IM000{number}")
    for scan, other in zip(find_inputs([tmp_path / "b"]), ("two", "one"), strict=True):
        assert scan.series.remarks == (
            f"its series goes on in {other}, read as another scan: do they belong together?",
        )


def test_slices_that_are_not_stacked_like_pages_are_refused(tmp_path):
    tilted = placed()
    tilted[:3, 2] += 0.2 * tilted[:3, 1]  # a gantry tilted by a few degrees
    folder = write(tmp_path / "tilted")
    for k, path in enumerate(sorted(folder.iterdir())):
        corner = (np.diag([-1, -1, 1, 1]) @ tilted @ (0, 0, k, 1))[:3]
        change(path, ImagePositionPatient=[f"{value:.8f}"[:16] for value in corner])
    refused(folder, "must be stacked along their normal; found slices that are shifted by up to 1.28 mm")


def test_images_that_differ_in_kind_are_no_volume(tmp_path):
    def differs(message, **values):
        folder = write(tmp_path / message.replace(" ", "_"))
        change(folder / "IM0003", **values)
        refused(folder, message)

    differs("must have one ImageType", ImageType=["ORIGINAL", "PRIMARY", "P"])
    differs("must have one EchoNumbers", EchoNumbers=2)
    differs("must have one SequenceName", SequenceName="ep_b1000")
    differs("must have one FrameOfReferenceUID", FrameOfReferenceUID="1.2.3")
    differs("must have one StudyInstanceUID", StudyInstanceUID="1.2.4")
    differs("must have one SeriesNumber", SeriesNumber=2)
    differs("must be of one patient", PatientID="4712")
    differs("must have one PixelSpacing, above 0", PixelSpacing=[1.7, 1.4])
    differs("must lie in parallel planes", ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    differs("must have one size", Rows=15, Columns=72)
    differs("must say ImagePositionPatient, 3 finite numbers; found none", ImagePositionPatient=None)
    differs("must hold two unit vectors|parallel planes", ImageOrientationPatient=[1, 1, 0, 0, 1, 0])


def test_a_single_slice_must_say_how_thick_it_is(tmp_path):
    folder = write(tmp_path / "one", [heart()[:, :, :1]], SliceThickness=None)
    refused(folder, r"a single slice must say how thick it is \(SliceThickness\); found None")


def test_series_of_one_number_in_one_folder_get_names_of_their_own(tmp_path):
    folders.write_dicom(tmp_path / "study", [heart()], placed(), number=3)
    folders.write_dicom(tmp_path / "study", [heart("ES")], placed(), number=7, start=20, SeriesNumber=3)
    assert [scan.name for scan in find_inputs([tmp_path])] == ["study_series3_1", "study_series3_2"]


def test_enhanced_files_of_one_series_are_doubted(tmp_path):
    for name, phase in (("a", "ED"), ("b", "ES")):
        image = folders.enhanced([heart(phase)], placed())
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        folders.save_dicom(tmp_path / f"{name}.dcm", image)
    first, _ = find_inputs([tmp_path])
    assert first.read()[0].remarks == ("its series goes on in b.dcm, read as another scan: do they belong together?",)


def test_a_report_beside_a_series_is_passed_over(tmp_path):
    folder = write(tmp_path / "series")
    image = Dataset()
    image.file_meta = dcmread(folder / "IM0001").file_meta
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    image.SOPInstanceUID = image.SeriesInstanceUID = generate_uid()
    folders.save_dicom(folder / "IM0006", image)
    said = []
    (scan,) = find_inputs([folder], say=said.append)
    assert said == ["passed over: IM0006 (DICOM, but no scan: Basic Text SR Storage)"]
    assert scan.read()[0].remarks == ()
