import gzip
import json
import shutil
from pathlib import Path

import folders
import nibabel as nib
import numpy as np
import pydicom
import pytest

from l2gnet.data.beside import passed_over, what_it_is
from l2gnet.data.dataset import open_dataset
from l2gnet.data.folders.check import check
from l2gnet.data.inputs import find_inputs
from l2gnet.data.settings import DataSettings

FORK = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(100)
BESIDE = {
    "._case.nii.gz": (FORK, "a resource fork of macOS"),
    "._IM0001": (b"", "a resource fork of macOS"),
    "._IM0001.dcm": (FORK, "a resource fork of macOS"),
    ".DS_Store": (b"\x00\x00\x00\x01Bud1" + bytes(200), "a hidden file"),
    ".writing-x.nii.gz": (b"", "a hidden file"),
    "Thumbs.db": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(200), "thumbnails, or a document"),
    "preview.png": (b"\x89PNG\r\n\x1a\n" + bytes(50), "a picture"),
    "IM0001.jpg": (b"\xff\xd8\xff\xe0" + bytes(50), "a picture"),
    "report.pdf": (b"%PDF-1.4\n%\xe2\xe3", "a report as PDF"),
    "README": ("Größe in mm\n".encode(), "a text"),
    "study.zip": (b"PK\x03\x04" + bytes(50), "an archive, into which nobody looked"),
    "notes.gz": (gzip.compress(b"notes"), "an archive, into which nobody looked"),
    **{
        name: (
            content,
            "of a format of scans that is not read here: convert it to NIfTI",
        )
        for name, content in {"a.nrrd": b"NRRD0004\n", "a.hdr": bytes(348), "a.img.gz": gzip.compress(b"1")}.items()
    },
    "scan.nii.gz.part": (bytes(50), "an unfinished download"),
    "viewer.exe": (b"MZ" + bytes(50), "a program"),
}
MAY_BE = {
    "case.nii.gz": b"",
    "case.nii": b"<html>not found</html>",
    "1.dcm": b"a text",
    "IM0007": b"",
    "unknown": bytes(range(128, 256)),
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_is_no_scan_is_known_by_its_content(tmp_path, name):
    content, what = BESIDE[name]
    (tmp_path / name).write_bytes(content)
    assert what_it_is(tmp_path / name) == what


@pytest.mark.parametrize("name", MAY_BE)
def test_what_may_belong_to_a_scan_is_not_passed_over(tmp_path, name):
    (tmp_path / name).write_bytes(MAY_BE[name])
    assert what_it_is(tmp_path / name) == ""


def test_dicom_is_what_its_class_says_whatever_its_name(tmp_path):
    image = folders.dicom_slices([np.zeros((8, 8, 1), np.int16)], np.eye(4))[0]
    folders.save_dicom(tmp_path / "._IM1.png", image)
    assert what_it_is(tmp_path / "._IM1.png") == ""
    for kind, what in {
        "1.2.840.10008.1.3.10": "a directory of DICOM files",
        "1.2.840.10008.5.1.4.1.1.88.22": "DICOM, but no scan: Enhanced SR Storage",
        "1.2.840.10008.5.1.4.1.1.104.1": "DICOM, but no scan: Encapsulated PDF Storage",
        "1.2.840.10008.5.1.4.1.1.11.1": "DICOM, but no scan: Grayscale Softcopy Presentation State Storage",
        "1.2.840.10008.5.1.4.1.1.7": "DICOM, but no scan: Secondary Capture Image Storage",
    }.items():
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = kind
        folders.save_dicom(tmp_path / "file.dcm", image)
        assert what_it_is(tmp_path / "file.dcm") == what


def test_a_deflated_file_that_is_no_scan_is_passed_over(tmp_path):
    shutil.copy(Path(pydicom.__file__).parent / "data" / "test_files" / "image_dfl.dcm", tmp_path)
    assert what_it_is(tmp_path / "image_dfl.dcm") == "DICOM, but no scan: Secondary Capture Image Storage"


def test_files_of_one_kind_are_one_line(tmp_path):
    paths = [tmp_path / f"{n}.png" for n in range(5)] + [tmp_path / "empty", tmp_path / "blob"]
    for path in paths:
        path.write_bytes(b"\x89PNG" if path.suffix else b"" if path.name == "empty" else b"\x80\x81")
    assert passed_over(paths) == [
        "passed over: blob (a file of no known kind)",
        "passed over: 0.png, 1.png, 2.png and 2 more (a picture)",
        "passed over: empty (an empty file)",
    ]


def clutter(folder):
    for name, (content, _) in BESIDE.items():
        (folder / name).write_bytes(content)


def lines_about(folder):
    """What every door is to say of the clutter."""
    return passed_over(folder / name for name in BESIDE)


def test_one_rule_for_every_door(tmp_path, capsys):
    folders.write_decathlon(tmp_path / "task")
    document = json.loads((tmp_path / "task" / "dataset.json").read_text())
    del document["training"]  # so that the files are the cases
    (tmp_path / "task" / "dataset.json").write_text(json.dumps(document))
    clutter(tmp_path / "task" / "labelsTr")
    expected = lines_about(tmp_path / "task" / "labelsTr")
    report = check(tmp_path / "task")
    assert report.problems == []
    assert report.volumes == 4
    assert [note for note in report.notes if note.startswith("passed over")] == expected
    open_dataset(DataSettings(data="decathlon", data_dir=str(tmp_path / "task"), validation_patients=1))
    assert capsys.readouterr().err.splitlines() == expected
    scans = find_inputs([tmp_path / "task" / "labelsTr"])
    assert capsys.readouterr().err.splitlines() == expected
    assert [scan.name for scan in scans] == [f"organs_{number:02d}" for number in folders.CASES]


def test_clutter_beside_a_series_is_passed_over_and_the_series_is_whole(tmp_path):
    folders.write_dicom(tmp_path, [np.arange(320, dtype=np.int16).reshape(8, 8, 5)], np.eye(4), number=1)
    clutter(tmp_path)
    said = []
    (scan,) = find_inputs([tmp_path], say=said.append)
    assert said == lines_about(tmp_path)
    (frame,) = scan.read()
    assert frame.shape == (5, 8, 8)
    assert frame.remarks == ()


def test_label_maps_are_passed_over_and_said_to_be(tmp_path):
    for name in ("a.nii.gz", "a_gt.nii.gz", "b_seg.nii.gz"):
        nib.Nifti1Image(np.zeros((4, 5, 3), np.int16), np.eye(4)).to_filename(tmp_path / name)
    said = []
    find_inputs([tmp_path], say=said.append)
    assert said == ["passed over: a_gt.nii.gz, b_seg.nii.gz (label maps, by their names)"]
