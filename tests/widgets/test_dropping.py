"""Scans that are dropped, and what is left of them on the disk."""

import io
import tempfile
import zipfile

import nibabel as nib
import numpy as np
import pytest
from l2gnet.widgets.dropping import Dropping
from matplotlib.figure import Figure

from l2gnet.data.inputs import LABEL_MAPS, find_inputs, patient_and_frame
from l2gnet.errors import VolumeError


class Basket(Dropping):
    """Notes what there is when a drop is whole, and takes no file that is empty at its end."""

    script = "scan_desk"

    def dropped(self, folder):
        self.files = {path.name: path.read_bytes() for path in folder.iterdir()}
        if not all(data.strip() for data in self.files.values()):
            raise VolumeError(f"{folder}/000000.dcm: a scan must hold something; found spaces; drop another.")

    def draw(self):
        return Figure()


@pytest.fixture
def basket(front_end):
    made = Basket()
    yield made
    made.close()


@pytest.fixture
def disk(monkeypatch, tmp_path):
    """Where folders for a while are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_what_was_dropped_is_on_the_disk_only_until_it_is_read(front_end, basket, disk):
    front_end.drop_files(basket, ("a.dcm", b"one"), ("b.nii.gz", b"two"))
    assert (basket.error, basket.files) == ("", {"000000.dcm": b"one", "000001.nii.gz": b"two"})
    assert list(disk.iterdir()) == []


@pytest.mark.parametrize("name", ["a.dcm", "a.txt"])
def test_what_is_refused_leaves_nothing(front_end, basket, disk, name):
    front_end.drop_files(basket, (name, b"   "))
    assert basket.error.startswith("what was dropped: a scan" if name == "a.dcm" else "a scan that is dropped must be")
    assert list(disk.iterdir()) == []
    front_end.drop(basket, name, 2, 4, b"  ")
    assert "a scan must come from its start on, got file 0 from 2; drop it again" in basket.error


def test_the_next_scan_takes_back_what_was_said_of_the_one_before(front_end, basket):
    front_end.drop_files(basket, ("a.txt", b"no scan"))
    assert basket.error != ""
    front_end.drop(basket, "a.dcm", 0, 4, b"on")
    assert basket.error == ""


def test_drops_of_two_pages_do_not_disturb_each_other(front_end, basket, disk, monkeypatch):
    front_end.drop(basket, "a.dcm", 0, 4, b"on", of="one")
    front_end.drop(basket, "b.dcm", 0, 4, b"tw", of="two")
    refusal = front_end.said(basket)[-1]
    assert (refusal["of"], refusal["taken"], basket.error) == ("two", -1, "")  # only to the page that made it
    assert "another scan is on its way here, perhaps from another page" in refusal["refused"]
    front_end.drop(basket, "a.dcm", 2, 4, b"e.", of="one")
    assert (front_end.said(basket)[-1], basket.files) == ({"of": "one", "taken": 4}, {"000000.dcm": b"one."})
    front_end.drop(basket, "a.dcm", 0, 4, b"on", of="gone")
    monkeypatch.setattr("l2gnet.widgets.dropping._LONGEST_PAUSE_S", -1)
    front_end.drop(basket, "b.dcm", 2, 4, b"o.", of="two")
    assert basket.error == "a scan must come from its start on, got file 0 from 2; drop it again"
    front_end.drop(basket, "a.dcm", 0, 4, b"on", of="gone")
    front_end.drop(basket, "b.dcm", 0, 3, b"two", of="two")
    assert (basket.error, basket.files, list(disk.iterdir())) == ("", {"000000.dcm": b"two"}, [])


def test_a_drop_that_never_ends_leaves_nothing_when_another_comes_or_the_viewer_goes(front_end, basket, disk):
    for _ in range(2):
        front_end.drop(basket, "a.dcm", 0, 4, b"on")
        assert len(list(disk.iterdir())) == 1
    basket.close()
    assert list(disk.iterdir()) == []


def found(folder, channels):
    """Of each scan its frame, where it is one of a patient's, and what its channels hold; or the rule it breaks."""
    try:
        scans = find_inputs([folder], channels, say=lambda line: None)
    except VolumeError as error:
        return str(error).split(": ")[1].split(";")[0]
    frames = [(patient_and_frame(scan.name) or ("", 0))[1] for scan in scans]
    read = [[int(channel.max()) for channel in scan.read()[0].channels] for scan in scans]
    return sorted(zip(frames, read, strict=True))


@pytest.mark.parametrize("how", ["files", "zip"])
@pytest.mark.parametrize("channels", [("image",), ("T1", "T2"), ("T2",)])
def test_scans_are_told_from_label_maps_as_on_the_command_line(front_end, basket, tmp_path, monkeypatch, channels, how):
    names = ["anna_frame01", "anna_frame01_GT", "anna_frame12", "ben/scan_0000", "ben/scan_0001", "carl", "carl_0010"]
    names += [*(f"carl{end}" for end in LABEL_MAPS), "carl_codes_frame01", "imagesTr/dora", "labelsTr/dora"]
    for number, name in enumerate(names, start=1):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        nib.Nifti1Image(np.full((2, 2, 2), number, np.uint8), np.eye(4)).to_filename(tmp_path / f"{name}.nii.gz")
    paths = [path for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    files = [(f"patients/{path.relative_to(tmp_path)}", path.read_bytes()) for path in paths]
    if how == "zip":
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for file in files:
                archive.writestr(*file)
        files = [("patients.zip", stream.getvalue())]
    seen = []

    def dropped(folder):
        seen.extend([found(folder, channels), " ".join(str(path.relative_to(folder)) for path in folder.rglob("*"))])

    monkeypatch.setattr(basket, "dropped", dropped)
    front_end.drop_files(basket, *files)
    assert (basket.error, seen[0]) == ("", found(tmp_path, channels))
    assert not any(name in seen[1] for name in ("patients", "anna", "ben", "scan", "carl", "dora"))


def test_files_of_one_name_are_those_of_several_cases(front_end, basket):
    names = ["a_0000.nii", "a_0001.nii", "a_0000.nii", "a_0001.nii", "b.nii"]  # of folders that were not told
    front_end.drop_files(basket, *((name, bytes([number])) for number, name in enumerate(names, 1)))
    kept = ["000000_0000.nii", "000000_0001.nii", "000002_0000.nii", "000002_0001.nii", "000004.nii"]
    assert (basket.error, sorted(basket.files)) == ("", kept)
