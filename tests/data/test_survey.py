import gzip
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from l2gnet.data.dataset import Case, DataSet, open_dataset, open_whole
from l2gnet.data.settings import DataSettings
from l2gnet.data.survey import remarks, summary, survey
from l2gnet.data.volume import Volume


def write_patient(root, number, *, mirrored=False, liver_on_the_right=True):
    """Two cubes of known size, a liver and a spleen, on voxels of 2 x 2 x 5 mm."""
    image, labels = np.full((40, 30, 6), 7, np.int16), np.zeros((40, 30, 6), np.uint8)
    labels[28:38, 5:15, :3], labels[2:8, 5:15, :3] = (1, 2) if liver_on_the_right else (2, 1)
    image[labels > 0] = 100
    image[0, 0, 0] = 3000  # one voxel of metal
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    if mirrored:  # the same patient, stored the other way round
        image, labels, affine[0] = image[::-1], labels[::-1], (-2, 0, 0, 78)
    for folder, name, array in (("imagesTr", f"p{number}_0000", image), ("labelsTr", f"p{number}", labels)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        nib.Nifti1Image(array, affine).to_filename(root / folder / f"{name}.nii.gz")
    labels_of = '{"background": 0, "liver": 1, "spleen": 2, "stomach": 3}'
    text = (
        f'{{"channel_names": {{"0": "T1"}}, "labels": {labels_of}, "numTraining": {number}, "file_ending": ".nii.gz"}}'
    )
    (root / "dataset.json").write_text(text)


@pytest.fixture
def found(tmp_path):
    write_patient(tmp_path, 1)
    write_patient(tmp_path, 2, mirrored=True)
    write_patient(tmp_path, 3, liver_on_the_right=False)
    return survey(open_whole(DataSettings(data="decathlon", data_dir=str(tmp_path))))


def test_a_volume_is_told_as_it_was_made(found):
    one = found[0]
    assert (one.name, one.size, one.spacing_mm) == ("p1", (6, 30, 40), (5.0, 2.0, 2.0))
    assert one.grey_values == {"T1": (7.0, 100.0)}  # and not the metal
    assert one.structures_ml == pytest.approx({"liver": 10 * 10 * 3 * 0.02, "spleen": 6 * 10 * 3 * 0.02, "stomach": 0})
    assert [(each.axes, each.mirrored) for each in found] == [("RAS", False), ("LAS", True), ("RAS", False)]
    assert found[0].structures_ml == found[1].structures_ml
    row = one.as_row()
    assert (row["size_D"], row["spacing_D_mm"], row["liver_ml"], row["T1_bright"]) == (6, "5", "6", "100")


def test_a_header_that_says_no_handedness_is_read_as_the_right_handed_one(tmp_path):
    write_patient(tmp_path, 1)
    path = tmp_path / "imagesTr" / "p1_0000.nii.gz"
    image = nib.load(path)
    image.set_qform(image.affine, 1)
    image.set_sform(None, 0)
    data = bytearray(image.to_bytes())
    data[76:80] = bytes(4)  # qfac, the first of pixdim, which the standard reads as 1
    path.write_bytes(gzip.compress(data))
    (one,) = survey(open_whole(DataSettings(data="decathlon", data_dir=str(tmp_path))))
    assert (one.axes, one.mirrored) == ("RAS", False)


def test_all_together_are_told_by_their_least_middle_and_largest(found):
    rows = {row[""]: row for row in summary(found)}
    assert rows["spacing D (mm)"] == {"": "spacing D (mm)", "least": "5", "middle": "5", "most": "5", "volumes": "3"}
    assert (rows["liver (ml)"]["least"], rows["liver (ml)"]["most"]) == ("3.6", "6")
    assert "stomach (ml)" not in rows


def test_what_is_odd_is_said_in_words(found):
    said = remarks(found)
    assert said[:2] == ["axes RAS: 2 of 3 files", "axes LAS, left-handed (mirrored): 1 of 3 files"]
    assert said[2] == "no stomach: 3 of 3 volumes"
    assert len(said) == 4
    assert said[3].startswith("p3: liver lies 56 mm to the left of spleen")


def test_what_was_no_file_has_no_axes():
    settings = DataSettings(patients=2, validation_patients=1)
    found = survey(open_dataset(settings))
    assert [(one.axes, one.mirrored) for one in found] == [("", False)] * 2
    assert remarks(found) == []


def test_a_missing_structure_is_told_where_nobody_knows_the_voxel_size():
    scan = Volume(np.ones((2, 4, 4), np.float32), np.eye(4), has_mm=False)
    labels = replace(scan, array=np.ones((2, 4, 4), np.uint8))
    case = Case("c", "p", "", "", lambda: (scan, labels))
    found = survey(DataSet("small", ("background", "liver", "spleen"), (case,), (), "", ""))
    assert remarks(found) == ["no spleen: 1 of 1 volumes"]
    assert (found[0].as_row()["liver_ml"], found[0].as_row()["spleen_ml"]) == ("", "0")
