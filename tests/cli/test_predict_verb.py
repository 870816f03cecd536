"""`predict` where a patient's frames are files of their own, and where files of others lie in its way."""

import json
from pathlib import Path

import folders
import nibabel as nib
import numpy as np
import pytest
from commands import save_model

from l2gnet.cli.predict import predict
from l2gnet.data.made import heart_beat
from l2gnet.data.volume import read_labels, write_arrays, write_labels
from l2gnet.errors import ConfigError

HEART = Path("phantom-heart")


def write_beat(folder, seed=3, last=9, name="cine"):
    """Both ends of a beat, as files of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    for frame, number in zip(heart_beat(seed), (1, last), strict=True):
        write_arrays(folder / f"{name}_frame{number:02d}.nii", frame, frame.array.astype(np.float32))


@pytest.fixture
def tiny(tmp_path):
    """A model that is quick, and knows no hearts."""
    return save_model(tmp_path / "model.safetensors")


def save_noise(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(np.random.default_rng(0).random((40, 40, 3), np.float32), np.eye(4)).to_filename(path)
    return path


def refused(message, *arguments, **options):
    with pytest.raises(ConfigError, match=message):
        predict(*arguments, **options)


def test_each_patient_gets_the_function_of_their_own_frames(tmp_path, capsys):
    write_beat(tmp_path / "in" / "anna", seed=3, last=9)
    write_beat(tmp_path / "in" / "bert", seed=4, last=12)
    predict(HEART, [tmp_path / "in"], tmp_path / "together")
    for name in ("anna", "bert"):
        predict(HEART, [tmp_path / "in" / name], tmp_path / name)
        expected = json.loads((tmp_path / name / "cine_function.json").read_text())
        assert json.loads((tmp_path / "together" / f"{name}_cine_function.json").read_text()) == expected
        assert expected["left_ventricle"]["ejection_fraction_percent"] > 30
    assert "anna_cine: left ventricle" in capsys.readouterr().out


def test_the_function_of_a_patient_comes_with_the_doubts_of_the_frames_and_those_that_failed(tmp_path, capsys):
    write_beat(tmp_path / "in")
    full, empty = heart_beat(3)
    write_arrays(tmp_path / "in" / "cine_frame02.nii", full, np.full(full.shape, 5, np.float32))
    cut = tmp_path / "in" / "cine_frame05.nii"
    write_arrays(cut, empty, empty.array.astype(np.float32))
    cut.write_bytes(cut.read_bytes()[:5000])
    with pytest.raises(SystemExit):
        predict(HEART, [tmp_path / "in"], tmp_path / "out")
    doubts = json.loads((tmp_path / "out" / "cine_function.json").read_text())["doubts"]
    assert "it is blank: all of its voxels have one grey value (in frame 2)" in doubts
    assert "left ventricle measures 0.0 ml in frame 2, taken for end-systole: was it missed there?" in doubts
    assert doubts[-1] == "frame 5 could not be segmented"
    (said,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("cine: ")]
    assert said.endswith("; DOUBTFUL: " + ", ".join(doubts))


def test_function_is_written_over_our_own_alone(tmp_path):
    write_beat(tmp_path / "in")
    for _ in range(2):
        predict(HEART, [tmp_path / "in"], tmp_path / "out")
    drawn = tmp_path / "out" / "cine_function.json"
    drawn.write_text('{"mine": 1}')
    refused(r"cine_function\.json: predict may write cardiac function", HEART, [tmp_path / "in"], drawn.parent)
    assert drawn.read_text() == '{"mine": 1}'


@pytest.mark.parametrize("end", ["", "_frame01"])
def test_probabilities_are_written_over_our_own_alone(tiny, tmp_path, end):
    scan = save_noise(tmp_path / "in" / "a[1].nii.gz")
    for _ in range(2):
        predict(tiny, [scan], tmp_path / "ours", probabilities=True)
    for out, options in ((tmp_path / "out", {}), (tmp_path / "nnunet" / "probabilities", {"nnunet_names": True})):
        theirs = save_noise(out / f"a[1]_probabilities{end}.nii.gz").read_bytes()
        root = tmp_path / out.relative_to(tmp_path).parts[0]
        message = r"_probabilities.*\.nii\.gz: predict may write probabilities over none but our own"
        refused(message, tiny, [scan], root, probabilities=True, **options)
        refused("predict may write labels beside no probabilities but our own", tiny, [scan], root, **options)
        assert (out / f"a[1]_probabilities{end}.nii.gz").read_bytes() == theirs


@pytest.mark.parametrize("end", ["", "_frame01"])
def test_dicom_seg_is_written_over_our_own_alone(tiny, tmp_path, end):
    image = np.random.default_rng(0).integers(0, 500, (40, 40, 3))
    folders.write_dicom(tmp_path / "chest", [image], np.diag([-1, -1, 8, 1]))
    for _ in range(2):
        predict(tiny, [tmp_path / "chest"], tmp_path / "ours", dicom_seg=True)
    drawn = tmp_path / "out" / f"chest_labels{end}.dcm"
    drawn.parent.mkdir()
    drawn.write_bytes(b"a radiologist drew this")
    message = r"\.dcm: predict may write DICOM SEG over none but our own, got a file of this name; name another folder"
    refused(message, tiny, [tmp_path / "chest"], drawn.parent, dicom_seg=True)
    assert drawn.read_bytes() == b"a radiologist drew this"


def test_what_an_earlier_run_left_beside_labels_goes_with_them(tiny, tmp_path, capsys):
    image = np.random.default_rng(0).integers(0, 500, (40, 40, 3))
    folders.write_dicom(tmp_path / "chest", [image], np.diag([-1, -1, 8, 1]))
    predict(tiny, [tmp_path / "chest"], tmp_path / "out", dicom_seg=True, probabilities=True)
    assert "removed" not in capsys.readouterr().err
    seg, shares = (tmp_path / "out" / f"chest{end}" for end in ("_labels.dcm", "_probabilities.nii.gz"))
    of_more_frames, theirs = (tmp_path / "out" / f"chest_labels_frame{end}.dcm" for end in ("12", "1_old"))
    for path in (of_more_frames, theirs):
        path.write_bytes(seg.read_bytes())
    predict(tiny, [tmp_path / "chest"], tmp_path / "out", dicom_seg=True)
    told = f"removed, as they were of earlier labels: {of_more_frames.name}, {shares.name}\n"
    assert capsys.readouterr().err.endswith(told)
    assert [path.exists() for path in (seg, shares, of_more_frames, theirs)] == [True, False, False, True]


def test_nnunets_name_of_a_case_goes_to_one_of_its_channels(tiny, tmp_path):
    for name in ("case_0000", "case_0001", "prostate_0007_0000", "organ_0007"):
        save_noise(tmp_path / "in" / f"{name}.nii.gz")
    alone = [tmp_path / "in" / f"{name}.nii.gz" for name in ("case_0001", "prostate_0007_0000", "organ_0007")]
    predict(tiny, alone, tmp_path / "out", nnunet_names=True)
    labels = {path.name for path in (tmp_path / "out").glob("*.nii.gz")}
    assert labels == {"case.nii.gz", "prostate_0007.nii.gz", "organ_0007.nii.gz"}
    refused("a name of its own, got 2 scans case", tiny, [tmp_path / "in"], tmp_path / "all", nnunet_names=True)


def test_the_function_of_earlier_frames_goes_with_their_labels(tmp_path, capsys):
    write_beat(tmp_path / "in")
    predict(HEART, [tmp_path / "in"], tmp_path / "out")
    (tmp_path / "in" / "cine_frame09.nii").write_bytes(b"damaged")
    with pytest.raises(SystemExit):
        predict(HEART, [tmp_path / "in"], tmp_path / "out")
    assert not (tmp_path / "out" / "cine_function.json").exists()
    assert "removed, as they were of earlier labels: cine_function.json" in capsys.readouterr().err


def test_a_description_that_broke_off_is_not_ours(tiny, tmp_path):
    scan = save_noise(tmp_path / "a.nii.gz")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a_labels.json").write_text('{"labels": ')
    refused(r"a_labels\.json: predict may write labels over none but our own", tiny, [scan], tmp_path / "out")


def test_labels_that_a_person_corrected_are_kept(tiny, tmp_path):
    scan = save_noise(tmp_path / "a.nii.gz")
    for _ in range(2):
        predict(tiny, [scan], tmp_path / "out")
    labels = tmp_path / "out" / "a_labels.nii.gz"
    corrected = read_labels(labels)
    corrected.array[0] = (corrected.array[0] + 1) % 4
    write_labels(labels, corrected)
    kept = labels.read_bytes()
    message = r"a_labels\.nii\.gz: predict may write labels over none but its own, got some that were changed since;"
    refused(message, tiny, [scan], tmp_path / "out")
    assert labels.read_bytes() == kept
    labels.unlink()
    predict(tiny, [scan], tmp_path / "out")
