import os
import re
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from l2gnet.data.folders.acdc import CITATION, CLASSES, GROUPS, find_scans
from l2gnet.data.folders.check import check
from l2gnet.data.folders.scan import Scan
from l2gnet.errors import VolumeError

AFFINE = np.diag([-1.5, -1.25, 10.0, 1.0])
SHAPE = (6, 5, 4)  # columns, rows, slices


def mask_of_all_classes():
    return np.resize(np.arange(len(CLASSES), dtype=np.uint8), SHAPE)


def add_patient(root, number, group="NOR", ed=1, es=9, suffix=".nii.gz"):
    """Write one tiny patient as ACDC does, and return the folder."""
    folder = root / f"patient{number:03d}"
    folder.mkdir(parents=True)
    (folder / "Info.cfg").write_text(f"ED: {ed}\nES: {es}\nGroup: {group}\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0")
    for frame in (ed, es):
        stem = folder / f"{folder.name}_frame{frame:02d}"
        save(Path(f"{stem}{suffix}"), np.full(SHAPE, number, np.int16))
        save(Path(f"{stem}_gt{suffix}"), mask_of_all_classes())
    return folder


def save(path, array, affine=AFFINE):
    nib.Nifti1Image(array, affine).to_filename(path)


@pytest.fixture
def data(tmp_path):
    for number, group in enumerate(GROUPS, start=1):
        add_patient(tmp_path, number, group)
    return tmp_path


def frames_of(data):
    """The frames of a folder that has no problems; raises the first problem otherwise."""
    folder = find_scans(data)
    if folder.problems:
        raise folder.problems[0]
    return list(folder.scans)


def edit_info(folder, old, new):
    info = folder / "Info.cfg"
    assert old in info.read_text()
    info.write_text(info.read_text().replace(old, new))


def test_frames_are_found_by_name(data):
    (data / "patient003" / "patient003_4d.nii.gz").touch()
    (data / "patientXYZ").mkdir()
    (data / "MANDATORY_CITATION.md").touch()
    frames = frames_of(data)
    assert [frame.name for frame in frames[:3]] == ["patient001_ED", "patient001_ES", "patient002_ED"]
    assert [frame.group for frame in frames[::2]] == list(GROUPS)
    assert frames[5] == Scan(
        name="patient003_ES",
        patient="patient003",
        image=data / "patient003" / "patient003_frame09.nii.gz",
        label=data / "patient003" / "patient003_frame09_gt.nii.gz",
        classes=CLASSES,
        group="DCM",
        phase="ES",
    )
    image, mask = frames[5].read()
    assert image.shape == mask.shape == SHAPE[::-1]
    assert image.spacing_mm == (10, 1.25, 1.5)
    assert np.array_equal(mask.array, mask_of_all_classes().transpose(2, 1, 0))


def test_the_parent_of_training_is_accepted(tmp_path):
    add_patient(tmp_path / "training", 1)
    add_patient(tmp_path / "testing", 101)
    assert {frame.patient for frame in frames_of(tmp_path)} == {"patient001"}
    assert {frame.patient for frame in frames_of(tmp_path / "testing")} == {"patient101"}


@pytest.mark.parametrize("name", ["Info.cfg", "patient001_frame01.nii.gz", "patient001_frame01_gt.nii.gz", "."])
def test_a_link_out_of_the_folder_is_not_followed(tmp_path, name):
    folder = add_patient(tmp_path / "data", 1)
    add_patient(tmp_path / "data", 2)
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name if name != "." else folder).symlink_to(tmp_path / "elsewhere")
    found = find_scans(tmp_path / "data")
    assert "must lie inside the data folder" in str(found.problems[0])
    assert {scan.patient for scan in found.scans if scan.name.endswith("ED")} == {"patient002"}
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert len(find_scans(tmp_path / "link").scans) == len(found.scans)  # the folder itself may be one


def test_uncompressed_files_and_windows_lines_are_accepted(tmp_path):
    folder = add_patient(tmp_path, 1, suffix=".nii")
    (folder / "Info.cfg").write_bytes((folder / "Info.cfg").read_bytes().replace(b"\n", b"\r\n"))
    assert [frame.image.name for frame in frames_of(tmp_path)] == ["patient001_frame01.nii", "patient001_frame09.nii"]
    assert not check(tmp_path).problems


def test_a_missing_folder_and_a_folder_without_patients_are_refused(tmp_path):
    with pytest.raises(VolumeError, match=r"nowhere: the ACDC data must be a folder; found none; check the path\."):
        find_scans(tmp_path / "nowhere")
    with pytest.raises(VolumeError, match="must hold patientNNN folders; found none"):
        find_scans(tmp_path)


def remove_info(folder):
    (folder / "Info.cfg").unlink()


def garble_info(folder):
    (folder / "Info.cfg").write_bytes(b"\xff\xfe\x00")


def remove_ed_frame(folder):
    (folder / f"{folder.name}_frame01.nii.gz").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_info, r"patient002/Info\.cfg: a patient needs a readable Info\.cfg; found .*No such file"),
        (garble_info, r"patient002/Info\.cfg: a patient needs a readable Info\.cfg; found .*decode"),
        (remove_ed_frame, r"patient002_frame01\.nii\.gz: the ED frame that Info\.cfg names must exist; found none"),
        (lambda p: edit_info(p, "ED: 1\n", "ED: 2\n"), r"patient002_frame02\.nii\.gz: the ED frame"),
        (lambda p: edit_info(p, "ED: 1\n", ""), r"Info\.cfg: ED must be the number of a frame; found None"),
        (lambda p: edit_info(p, "ES: 9", "ES: nine"), r"Info\.cfg: ES must be the number of a frame; found nine"),
        (lambda p: edit_info(p, "ES: 9", "ES: 01"), r"Info\.cfg: ED and ES must be two frames; found 1 for both"),
        (lambda p: edit_info(p, "ES: 9", "ES: /../../x"), r"Info\.cfg: ES must be the number of a frame"),
        (lambda p: edit_info(p, "MINF", "FLU"), r"Info\.cfg: Group must be one of NOR, .*; found FLU"),
        (lambda p: edit_info(p, "Group: MINF\n", ""), r"Info\.cfg: Group must be one of NOR, .*; found None"),
    ],
)
def test_damaged_patients_are_refused_and_reported(data, damage, message):
    damage(data / "patient002")
    with pytest.raises(VolumeError, match=message):
        frames_of(data)
    report = check(data)
    assert len(report.problems) == 1
    assert re.search(message, report.problems[0])


def other_grid(folder):
    save(folder / f"{folder.name}_frame01_gt.nii.gz", mask_of_all_classes(), np.diag([-1.5, -1.25, 8, 1]))


def other_shape(folder):
    save(folder / f"{folder.name}_frame01_gt.nii.gz", mask_of_all_classes()[:, :, :3])


def truncate_image(folder):
    path = folder / f"{folder.name}_frame01.nii.gz"
    path.write_bytes(path.read_bytes()[:-20])


def unknown_label(folder):
    mask = mask_of_all_classes()
    mask[0, 0, :2] = 4, 200
    save(folder / f"{folder.name}_frame01_gt.nii.gz", mask)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (other_grid, r"frame01_gt\.nii\.gz: the grid must be that of .*patient002_frame01\.nii\.gz; found a corner"),
        (other_shape, r"frame01_gt\.nii\.gz: the grid must be that of .*found shape \(3, 5, 6\) against \(4, 5, 6\)"),
        (truncate_image, r"patient002_frame01\.nii\.gz: the file must be readable to its end"),
        (unknown_label, r"frame01_gt\.nii\.gz: labels must lie in 0\.\.3; found \[4, 200\]"),
    ],
)
def test_damaged_images_are_refused_and_reported(data, damage, message):
    damage(data / "patient002")
    frame = frames_of(data)[2]
    with pytest.raises(VolumeError, match=message):
        frame.read()
    report = check(data)
    assert len(report.problems) == 1
    assert re.search(message, report.problems[0])


def test_check_reports_every_problem_at_once(data):
    remove_info(data / "patient001")
    remove_ed_frame(data / "patient002")
    truncate_image(data / "patient003")
    unknown_label(data / "patient003")  # the image and the mask of one frame
    other_grid(data / "patient004")
    report = check(data)
    assert [sum(f"patient00{n}" in problem for problem in report.problems) for n in range(1, 6)] == [1, 1, 2, 1, 0]
    assert str(report).endswith("5 problems")


def test_check_counts_and_notes(data):
    mask = mask_of_all_classes()
    mask[mask == 1] = 0
    save(data / "patient001" / "patient001_frame09_gt.nii.gz", mask)
    (data / "patient002" / "patient002_frame01_gt.nii.gz").unlink()
    for name in ("frame01", "frame01_gt"):
        save(data / "patient005" / f"patient005_{name}.nii.gz", mask_of_all_classes(), np.diag([-2, -1, 5, 1]))
    report = check(data)
    assert report.problems == [f"{data}: 1 scan without a mask, neither trained on nor scored: patient002_ED"]
    assert report.notes == [
        "patient001_ES: no right ventricle in the mask",
        "patient002_ED: no mask; it can be segmented, but neither trained on nor scored",
    ]
    assert (report.patients, report.volumes, report.slices) == (5, 10, 40)
    assert report.groups == dict.fromkeys(GROUPS, 1)
    assert report.spacing_mm == ((5, 10), (1, 1.25), (1.5, 2))
    assert str(report).splitlines() == [
        "acdc: 5 patients (DCM 1, HCM 1, MINF 1, NOR 1, RV 1), 10 volumes, 40 slices",
        "classes: background, right ventricle, myocardium, left ventricle",
        "spacing 5-10 x 1-1.25 x 1.5-2 mm (D x H x W)",
        *(f"note: {note}" for note in report.notes),
        f"problem: {report.problems[0]}",
        "1 problem",
    ]
    with pytest.raises(VolumeError, match="patient002_ED must have a mask"):
        frames_of(data)[2].read()


def test_the_citation_is_complete():
    assert "Bernard" in CITATION
    assert "10.1109/TMI.2018.2837502" in CITATION


@pytest.fixture
def real_data():
    folder = os.environ.get("L2GNET_ACDC")
    if not folder or not Path(folder).is_dir():
        pytest.skip("L2GNET_ACDC names no ACDC folder")
    return folder


def test_real_acdc_is_complete_and_sound(real_data):
    frames = frames_of(real_data)
    assert len(frames) == 200
    assert Counter(frame.group for frame in frames if frame.phase == "ED") == dict.fromkeys(GROUPS, 20)
    report = check(real_data)
    assert report.problems == []
    assert all(note.startswith("passed over: ") for note in report.notes)
    assert (report.patients, report.volumes, report.slices) == (100, 200, 1902)
    thickness, rows, columns = report.spacing_mm
    assert thickness == (5, 10)
    assert rows == columns == pytest.approx((0.703, 1.92), abs=1e-3)


def test_masks_of_other_moments_need_their_image_too(data):
    mask = data / "patient001" / "patient001_frame05_gt.nii.gz"
    save(mask, mask_of_all_classes())
    (data / "patient001" / "._patient001_frame06_gt.nii.gz").write_bytes(b"\x00\x05\x16\x07")
    assert check(data).problems == [f"{data}: 1 mask without an image: patient001_frame05"]
