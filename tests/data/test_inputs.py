import errno
import os
from pathlib import Path

import folders
import nibabel as nib
import numpy as np
import pytest

from l2gnet.data.inputs import Input, find_inputs, read_inputs
from l2gnet.errors import VolumeError


def save(path: Path, *channels):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(np.zeros((4, 5, 3, *channels), np.int16), np.eye(4)).to_filename(path)
    return path


def names(*paths):
    return [scan.name for scan in find_inputs(paths)]


def test_files_and_folders_are_found_in_order(tmp_path):
    for name in ("b.nii", "a.nii.gz", "below/c.nii.gz"):
        save(tmp_path / "scans" / name)
    (tmp_path / "scans/notes.txt").write_text("no scan")
    single = save(tmp_path / "z.nii.gz")
    assert names(single, tmp_path / "scans") == ["z", "a", "b", "c"]
    (frame,) = find_inputs([single])[0].read()
    assert frame.shape == (3, 5, 4)


def test_label_maps_in_a_folder_are_no_scans(tmp_path):
    frames = ("b_seg_frame01.nii", "b_codes_frame01.nii", "b_codes_frame02.nii", "b_probabilities_frame01_0000.nii")
    for name in ("a.nii.gz", "a_gt.nii.gz", "a_seg.nii.gz", "a_labels.nii.gz", *frames):
        save(tmp_path / name)
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a_gt.nii.gz") == ["a_gt"]  # named outright, it is what the user wants


def test_label_maps_of_a_task_folder_are_no_scans(tmp_path):
    for name in ("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "imagesTs/b_0000.nii.gz", "labelsTs/b.nii.gz"):
        save(tmp_path / name)
    said = []
    assert [scan.name for scan in find_inputs([tmp_path], say=said.append)] == ["a_0000", "b_0000"]
    assert said == ["passed over: a.nii.gz, b.nii.gz (label maps, by their folder)"]
    assert names(tmp_path / "labelsTr") == ["a"]  # named outright, it is what the user wants


def test_links_to_folders_are_followed_and_no_scan_comes_twice(tmp_path):
    for patient in ("p1", "p2"):
        folders.write_dicom(tmp_path / "archive" / patient / "SER0", [np.zeros((8, 8, 3), np.int16)], np.eye(4))
        (tmp_path / "scans").mkdir(exist_ok=True)
        (tmp_path / "scans" / patient).symlink_to(tmp_path / "archive" / patient / "SER0")
    save(tmp_path / "scans" / "p3" / "a.nii")
    save(tmp_path / "b.nii")
    for link, target in (("again", "p3"), ("circle", "."), ("out", "..")):
        (tmp_path / "scans" / link).symlink_to(target)
    (tmp_path / "scans" / "p3" / "below").symlink_to("..")
    assert names(tmp_path / "scans") == ["a", "p1", "p2"]


def test_a_folder_that_may_not_be_read_is_an_error_in_its_turn(tmp_path, monkeypatch):
    for patient in ("p1", "p2", "p3"):
        save(tmp_path / patient / "a.nii")

    def refusing(function, folder):
        def asked(path, *args):
            if folder in Path(path).parts[-2:]:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return function(path, *args)

        return asked

    monkeypatch.setattr("os.scandir", refusing(os.scandir, "p2"))
    monkeypatch.setattr("pathlib.Path.is_file", refusing(Path.is_file, "p3"))  # whose names can be read
    found = find_inputs([tmp_path])
    assert [scan.name for scan in found] == ["a", "p2", "p3"]
    for scan in found[1:]:
        with pytest.raises(VolumeError, match=rf"{scan.name}: .* must be readable; found Permission denied; ask its"):
            scan.read()
    with pytest.raises(VolumeError, match="p2: a folder of scans must be readable"):
        find_inputs([tmp_path / "p2"])


def test_a_folder_without_scans_is_refused(tmp_path):
    with pytest.raises(VolumeError, match=r"a folder must hold scans .* found none"):
        find_inputs([tmp_path])


def test_a_damaged_scan_among_others_comes_in_its_turn_as_an_error(tmp_path):
    paths = [save(tmp_path / name) for name in ("a.nii", "b.nii", "c.nii")]
    paths[1].write_bytes(b"no scan")
    (_, first), (broken, error), (_, last) = read_inputs(find_inputs([tmp_path]))
    assert broken.path == paths[1]
    assert isinstance(error, VolumeError)
    assert [frame.shape for frame in (*first, *last)] == [(3, 5, 4)] * 2


def test_two_scans_of_one_name_are_refused_before_anything_is_written(tmp_path):
    paths = [save(tmp_path / folder / "scan.nii") for folder in ("one", "two")]
    with pytest.raises(VolumeError, match=r"two/scan\.nii: each scan needs a name of its own.*one/scan\.nii"):
        find_inputs(paths)


def test_scans_of_one_name_below_a_folder_are_told_apart_by_theirs(tmp_path):
    for patient in ("PAT0", "PAT1"):
        folders.write_dicom(tmp_path / patient / "STD0" / "SER0", [np.zeros((8, 8, 3), np.int16)], np.eye(4))
        for channel in range(2):
            save(tmp_path / patient / f"head_{channel:04d}.nii.gz")
    save(tmp_path / "other.nii")
    files = [f"{patient}_head_{channel:04d}" for patient in ("PAT0", "PAT1") for channel in range(2)]
    series = ["PAT0_STD0_SER0", "PAT1_STD0_SER0"]
    assert names(tmp_path) == [*files, "other", *series]
    two = find_inputs([tmp_path], ("T1", "T2"))
    assert [scan.name for scan in two] == ["PAT0_head", "PAT1_head", "other", *series]
    assert [len(frame.channels) for scan in two[:2] for frame in scan.read()] == [2, 2]


def test_frames_of_two_people_are_never_those_of_one(tmp_path):
    for folder, frames in (("anna", (1, 9)), ("bert", (1, 12)), ("carl", (3,))):
        for frame in frames:
            save(tmp_path / folder / f"cine_frame{frame:02d}.nii")
    people = ["anna_cine_frame01", "anna_cine_frame09", "bert_cine_frame01", "bert_cine_frame12", "carl_cine_frame03"]
    assert names(tmp_path) == people
    files = [tmp_path / "anna" / "cine_frame09.nii", tmp_path / "bert" / "cine_frame12.nii"]
    for named in (files, [tmp_path / "anna", tmp_path / "carl"]):
        with pytest.raises(VolumeError, match=r"each patient needs a name of its own.*anna/cine.*; found cine; rename"):
            find_inputs(named)
    assert names(tmp_path / "anna") == ["cine_frame01", "cine_frame09"]
    assert names(tmp_path / "anna" / "cine_frame01.nii", files[0]) == ["cine_frame01", "cine_frame09"]


def test_frames_with_nnunets_numbers_are_told_apart_too(tmp_path):  # which --nnunet-names takes off
    for name in ("anna/cine_frame01_0000", "bert/cine_frame12_0000"):
        save(tmp_path / f"{name}.nii")
    assert names(tmp_path) == ["anna_cine_frame01_0000", "bert_cine_frame12_0000"]


def test_numbers_of_cases_are_not_taken_for_those_of_channels(tmp_path):
    for number in (1, 7, 12):
        save(tmp_path / f"prostate_{number:04d}.nii", 2)
    for paths, numbers in (([tmp_path], (1, 7, 12)), ([tmp_path / "prostate_0007.nii"], (7,))):
        found = find_inputs(paths, ("T2", "ADC"))
        assert [scan.name for scan in found] == [f"prostate_{number:04d}" for number in numbers]
        assert [len(frame.channels) for scan in found for frame in scan.read()] == [2] * len(numbers)


def test_a_model_of_one_named_channel_is_not_given_another_of_the_same_case(tmp_path):
    files = [save(tmp_path / "both" / f"case_{channel:04d}.nii") for channel in range(2)]
    for paths in (files, [tmp_path]):
        rule = "both/case: a model of one channel, T2, must be given the file of that channel alone"
        with pytest.raises(VolumeError, match=f"{rule}; found case_0000, case_0001; name the files of T2 one by one"):
            find_inputs(paths, ("T2",))
    for number in (1, 7):
        save(tmp_path / "cases" / f"prostate_{number:04d}.nii")
    found = find_inputs([files[1], tmp_path / "cases"], ("T2",))
    assert [scan.name for scan in found] == ["case_0001", "prostate_0001", "prostate_0007"]


def test_endings_may_be_in_capitals(tmp_path):
    for name in ("A.nii", "B.nii.gz", "A_SEG.nii"):
        scan = save(tmp_path / name)
        scan.rename(scan.with_name(f"{name.partition('.')[0]}.{name.partition('.')[2].upper()}"))
    assert names(tmp_path) == ["A", "B"]
    assert [len(scan.read()) for scan in find_inputs([tmp_path])] == [1, 1]


def test_a_path_without_scans_comes_in_its_turn_as_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    save(tmp_path / "good" / "a.nii")
    found = find_inputs([tmp_path / "empty", tmp_path / "good", tmp_path / "nowhere.nii"])
    read = {scan.name: frames for scan, frames in read_inputs(found)}
    assert [frame.shape for frame in read["a"]] == [(3, 5, 4)]
    assert "a folder must hold scans" in str(read["empty"])
    assert "must be a file or a folder" in str(read["nowhere"])


def test_any_exception_is_of_its_scan_alone(tmp_path):
    save(tmp_path / "b.nii")

    def fail():
        raise ZeroDivisionError

    (_, error), (_, frames) = read_inputs([Input("a", tmp_path, fail), *find_inputs([tmp_path])])
    assert isinstance(error, ZeroDivisionError)
    assert len(frames) == 1


@pytest.mark.parametrize("other", ["anna_frame01_0000", "anna_frame1"])
def test_one_frame_of_a_patient_is_one_scan(tmp_path, other):
    """As where nnU-Net's copy lies beside ACDC's file: the heart's function could be of one of them alone."""
    for name in ("anna_frame01", other, "anna_frame12"):
        save(tmp_path / f"{name}.nii")
    with pytest.raises(VolumeError, match=r"each frame of a patient needs a name .* found frame 1 of anna; rename one"):
        find_inputs([tmp_path])
