import contextlib
import json
import re

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from l2gnet.data.folders import scan as scan_module
from l2gnet.data.folders.check import check
from l2gnet.data.folders.decathlon import find_scans
from l2gnet.errors import ConfigError, VolumeError

SHAPE = (6, 5, 4)  # columns, rows, slices
AFFINE = np.diag([-0.8, -0.7, 5.0, 1.0])
CASES = ("spleen_02", "spleen_10", "spleen_19")
CHANNELS = ("T2", "ADC")


def save(path, array, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(array, affine).to_filename(path)


def labels():
    return np.resize(np.arange(3, dtype=np.uint8), SHAPE)


def write_json(root, **fields):
    (root / "dataset.json").write_text(json.dumps(fields))


def decathlon_fields(**changes):
    """A dataset.json as the Decathlon writes it, with everything in it."""
    return {
        "name": "Spleen",
        "description": "Spleen segmentation",
        "reference": "Memorial Sloan Kettering Cancer Center",
        "licence": "CC-BY-SA 4.0",
        "release": "1.0 06/08/2018",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "spleen", "2": "tumour"},
        "numTraining": 3,
        "numTest": 1,
        "training": [{"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"} for case in CASES],
        "test": ["./imagesTs/spleen_01.nii.gz"],
    } | changes


def nnunet_fields(**changes):
    """A dataset.json as nnU-Net 2 wants it."""
    return {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "spleen": 1, "tumour": 2},
        "numTraining": 3,
        "file_ending": ".nii.gz",
    } | changes


@pytest.fixture
def decathlon(tmp_path):
    """A folder as the Decathlon packs it, with the leftovers of macOS archives."""
    for number, case in enumerate(CASES):
        save(tmp_path / "imagesTr" / f"{case}.nii.gz", np.full(SHAPE, number, np.int16))
        save(tmp_path / "labelsTr" / f"{case}.nii.gz", labels())
        (tmp_path / "labelsTr" / f"._{case}.nii.gz").write_bytes(b"Mac OS X")
    save(tmp_path / "imagesTs" / "spleen_01.nii.gz", np.zeros(SHAPE, np.int16))
    write_json(tmp_path, **decathlon_fields())
    return tmp_path


@pytest.fixture
def nnunet(tmp_path):
    """A folder as nnU-Net 2 wants it, with two channels, each in a file of its own."""
    for number, case in enumerate(CASES):
        for channel in range(2):
            save(
                tmp_path / "imagesTr" / f"{case}_{channel:04d}.nii.gz", np.full(SHAPE, 10 * channel + number, np.int16)
            )
        save(tmp_path / "labelsTr" / f"{case}.nii.gz", labels())
        (tmp_path / "labelsTr" / f"._{case}.nii.gz").write_bytes(b"Mac OS X")
    write_json(tmp_path, **nnunet_fields(channel_names=dict(enumerate(CHANNELS))))
    return tmp_path


def first_value(scan):
    image, mask = scan.read()
    assert image.shape == mask.shape == SHAPE[::-1]
    assert image.spacing_mm == pytest.approx((5.0, 0.7, 0.8))
    assert np.unique(mask.array).tolist() == [0, 1, 2]
    assert len(np.unique(image.array)) == 1
    return image.array[0, 0, 0]


def test_a_decathlon_folder_gives_its_training_cases(decathlon):
    folder = find_scans(decathlon)
    assert (folder.name, folder.classes) == ("Spleen", ("background", "spleen", "tumour"))
    assert folder.window == (-125.0, 275.0)
    assert folder.citation == "Memorial Sloan Kettering Cancer Center"
    assert not folder.problems
    assert [scan.name for scan in folder.scans] == list(CASES)
    assert [scan.patient for scan in folder.scans] == list(CASES)
    assert [first_value(scan) for scan in folder.scans] == [0, 1, 2]
    assert folder.scans[0].files == (
        decathlon / "imagesTr" / "spleen_02.nii.gz",
        decathlon / "labelsTr" / "spleen_02.nii.gz",
    )


@pytest.mark.parametrize(("channel", "values"), [("T2", [0, 1, 2]), ("ADC", [10, 11, 12]), ("1", [10, 11, 12])])
def test_an_nnunet_folder_gives_the_channel_asked_for(nnunet, channel, values):
    folder = find_scans(nnunet, channel)
    assert (folder.name, folder.window) == ("decathlon", None)
    assert [first_value(scan) for scan in folder.scans] == values


@pytest.mark.parametrize(
    ("channel", "names", "values"),
    [("", CHANNELS, (1, 11)), ("T2, ADC", CHANNELS, (1, 11)), ("1,T2", ("ADC", "T2"), (11, 1)), ("1", ("ADC",), (11,))],
)
@pytest.mark.parametrize("form", ["a file each", "listed files", "one file", "one file each, as nnU-Net 1 lists them"])
def test_channels_are_read_together_and_in_order(nnunet, form, channel, names, values):
    modality = dict(enumerate(CHANNELS))
    if form == "listed files":
        cases = {
            case: {"images": [f"imagesTr/{case}_{c:04d}.nii.gz" for c in range(2)], "label": f"labelsTr/{case}.nii.gz"}
            for case in CASES
        }
        write_json(nnunet, **nnunet_fields(channel_names=modality, dataset=cases))
    elif form == "one file":
        for number, case in enumerate(CASES):
            array = np.stack([np.full(SHAPE, 10 * c + number, np.int16) for c in range(2)], axis=3)
            save(nnunet / "imagesTr" / f"{case}.nii.gz", array)
        write_json(nnunet, **decathlon_fields(modality=modality))
    elif form.startswith("one file each"):
        write_json(nnunet, **decathlon_fields(modality=modality))
    folder = find_scans(nnunet, channel)
    assert folder.channels == names
    image, _ = folder.scans[1].read()
    assert [np.unique(array).tolist() for array in image.channels] == [[value] for value in values]
    of_channels = [nnunet / "imagesTr" / f"{CASES[1]}_{value // 10:04d}.nii.gz" for value in values]
    images = [nnunet / "imagesTr" / f"{CASES[1]}.nii.gz"] if form == "one file" else of_channels
    assert folder.scans[1].files == (*images, nnunet / "labelsTr" / f"{CASES[1]}.nii.gz")


@pytest.mark.parametrize("channel", ["CT", "2", "T2, CT", "T2, 0", "T2,", "-1"])
def test_a_channel_that_is_not_there_is_refused(nnunet, channel):
    with pytest.raises(ConfigError, match=rf"channel must be one of T2, ADC, or several .*, got '{channel}'; correct"):
        find_scans(nnunet, channel)


def test_channels_on_different_grids_are_refused(nnunet):
    save(nnunet / "imagesTr" / "spleen_10_0001.nii.gz", np.zeros(SHAPE, np.int16), np.diag([-0.8, -0.7, 6.0, 1.0]))
    message = r"spleen_10_0001\.nii\.gz: the grid must be that of .*spleen_10_0000\.nii\.gz; found a corner"
    with pytest.raises(VolumeError, match=message):
        find_scans(nnunet).scans[1].read()
    (problem,) = check(nnunet).problems
    assert "the grid must be that of" in problem


def test_a_channel_may_be_stored_in_another_order(nnunet):
    stored = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    save(nnunet / "imagesTr" / "spleen_10_0000.nii.gz", stored)
    flipped = AFFINE @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    save(nnunet / "imagesTr" / "spleen_10_0001.nii.gz", stored[::-1], flipped)
    image, _ = find_scans(nnunet).scans[1].read()
    assert np.array_equal(*image.channels)


def test_an_nnunet_folder_of_one_channel_and_uncompressed_files(tmp_path):
    for case in CASES:
        save(tmp_path / "imagesTr" / f"{case}_0000.nii", np.zeros(SHAPE, np.int16))
        save(tmp_path / "labelsTr" / f"{case}.nii", labels())
    write_json(tmp_path, **nnunet_fields(file_ending=".nii"))
    assert [first_value(scan) for scan in find_scans(tmp_path).scans] == [0, 0, 0]


def test_an_nnunet_folder_may_list_its_cases(nnunet):
    cases = {
        case: {"images": [f"imagesTr/{case}_{c:04d}.nii.gz" for c in range(2)], "label": f"labelsTr/{case}.nii.gz"}
        for case in CASES[:2]
    }
    write_json(nnunet, **nnunet_fields(channel_names=dict(enumerate(CHANNELS)), dataset=cases))
    assert [first_value(scan) for scan in find_scans(nnunet, "ADC").scans] == [10, 11]


def listed_by_name(root, *images, names=("p1", "p2"), **changes):
    """Cases that are folders, each with the same files in it."""
    for name in ("p1", "p2"):
        for file in images:
            save(root / name / file, np.zeros(SHAPE, np.int16))
        save(root / name / "label.nii.gz", labels())
    cases = {
        name: {"images": [f"{folder}/{file}" for file in images], "label": f"{folder}/label.nii.gz"}
        for name, folder in zip(names, ("p1", "p2"), strict=True)
    }
    write_json(root, **nnunet_fields(numTraining=2, dataset=cases) | changes)


def test_listed_cases_have_the_names_that_the_list_gives_them(tmp_path):
    listed_by_name(tmp_path, "ct.nii.gz")
    write_splits(tmp_path, [{"train": ["p1"], "val": ["p2"]}])
    folder = find_scans(tmp_path, fold=0)
    assert [(scan.name, scan.patient, scan.image.parent.name) for scan in folder.scans] == [
        ("p1", "p1", "p1"),
        ("p2", "p2", "p2"),
    ]
    assert folder.test_patients == {"p2"}
    assert (folder.problems, folder.missing) == ((), ())


@pytest.mark.parametrize("name", ["../p1", "a/b", "..", "", "a\0b"])
def test_a_name_that_no_file_can_have_is_refused(tmp_path, name):
    listed_by_name(tmp_path, "ct.nii.gz", names=(name, "p2"))
    folder = find_scans(tmp_path)
    assert [scan.name for scan in folder.scans] == ["p2"]
    assert "a case must be named as a file can be; found" in str(folder.problems[0])


@pytest.mark.parametrize("channels", [("CT",), ("T1", "T2", "ADC")])
def test_images_that_no_channel_has_are_not_passed_over(tmp_path, channels):
    listed_by_name(tmp_path, "a.nii.gz", "b.nii.gz", channel_names=dict(enumerate(channels)))
    folder = find_scans(tmp_path)
    assert not folder.scans
    for name, problem in zip(("p1", "p2"), folder.problems, strict=True):
        assert f"as many as there are channels, {len(channels)}; found 2 of {name}; correct its images" in str(problem)


def test_a_folder_of_nnunet_1_lists_images_without_their_channel(nnunet):
    write_json(nnunet, **decathlon_fields(modality=dict(enumerate(CHANNELS))))
    assert [first_value(scan) for scan in find_scans(nnunet, "ADC").scans] == [10, 11, 12]


def test_a_decathlon_image_may_hold_its_channels(decathlon):
    for case in CASES:
        channels = np.stack([np.full(SHAPE, value, np.int16) for value in (7, 8)], axis=3)
        save(decathlon / "imagesTr" / f"{case}.nii.gz", channels)
    write_json(decathlon, **decathlon_fields(modality={"1": "ADC", "0": "T2"}))
    assert [first_value(scan) for scan in find_scans(decathlon, "T2").scans] == [7, 7, 7]
    assert [first_value(scan) for scan in find_scans(decathlon, "ADC").scans] == [8, 8, 8]
    report = check(decathlon)
    assert not report.problems
    assert report.notes == [
        "channels T2, ADC; a model takes all together, or those that `channel` names",
        "passed over: ._spleen_02.nii.gz, ._spleen_10.nii.gz, ._spleen_19.nii.gz (a resource fork of macOS)",
    ]
    assert (report.patients, report.volumes, report.slices) == (3, 3, 12)


@pytest.mark.parametrize("channel", ["", "ADC"])
def test_an_image_of_more_channels_than_there_are_names_is_refused(decathlon, channel):
    for case in CASES:
        save(decathlon / "imagesTr" / f"{case}.nii.gz", np.zeros((*SHAPE, 4), np.int16))
    write_json(decathlon, **decathlon_fields(modality=dict(enumerate(CHANNELS))))
    with pytest.raises(VolumeError, match=r"spleen_02.*must hold the 2 channels of dataset\.json; found 4; name all"):
        find_scans(decathlon, channel).scans[0].read()
    assert len(check(decathlon).problems) == 3


def test_files_may_end_in_capitals(nnunet):
    for path in nnunet.glob("*Tr/[!.]*"):
        path.rename(path.with_name(path.name.replace(".nii.gz", ".NII.GZ")))
    assert [scan.name for scan in find_scans(nnunet).scans] == list(CASES)
    assert check(nnunet).problems == []


def test_a_mask_is_read_once_for_all_channels(nnunet, monkeypatch):
    asked = []
    read = scan_module.read_labels
    monkeypatch.setattr(scan_module, "read_labels", lambda path, **how: asked.append(path.name) or read(path, **how))
    assert check(nnunet).problems == []
    assert asked == [f"{case}.nii.gz" for case in CASES]


def test_an_image_without_the_channel_is_refused(decathlon):
    write_json(decathlon, **decathlon_fields(modality={"0": "T2", "1": "ADC"}))
    with pytest.raises(
        VolumeError, match=r"spleen_02\.nii\.gz: the image must hold channel 1.*found dim \[3, 6, 5, 4,"
    ):
        find_scans(decathlon, "ADC").scans[0].read()
    with pytest.raises(VolumeError, match=r"spleen_02\.nii\.gz: the image must hold channel 1, .*; found 1 channel"):
        find_scans(decathlon).scans[0].read()
    assert len(check(decathlon).problems) == 3


def test_one_class_more_or_a_name_with_a_byte_order_mark_makes_no_difference(decathlon):
    text = json.dumps(decathlon_fields(labels={"2": "b", "0": "air", "1": "a", "3": "c"}))
    (decathlon / "dataset.json").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert find_scans(decathlon).classes == ("air", "a", "b", "c")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, "labels must name a class for each number from 0.*found None"),
        ({"labels": {}}, r"labels must name.*found \{\}"),
        ({"labels": {"0": "background"}}, r"found the numbers \[0\]"),
        ({"labels": {"0": "background", "65536": "a"}}, r"found the numbers \[0, 65536\]"),
        ({"labels": {"background": 0, "ignore": 1}}, r"found the numbers \[0\]"),
        ({"labels": {"ignore": 0, "a": 1, "b": [1]}}, "found 'b'"),
        ({"labels": {"1": "a", "2": "b"}}, r"found the numbers \[1, 2\]"),
        ({"labels": {"0": "background", "1": "a", "01": "b"}}, "found '01': 'b'"),
        ({"labels": {"0": "background", "1": ""}}, "found '1': ''"),
        ({"labels": {"0": "a", "1": "a"}}, r"found the names \['a', 'a'\], one of them twice"),
        ({"labels": {"background": 0, "a": True}}, "found 'a': True"),
        ({"labels": {"background": 0, "a": 1.0}}, r"found 'a': 1\.0"),
        ({"labels": {str(n): f"class {n}" for n in range(257)}}, "found the numbers"),
        ({"modality": None}, r"channel_names \(or modality\) must number the image channels from 0.*found None"),
        ({"modality": {"1": "CT"}}, "must number the image channels"),
        ({"modality": {"0": 7}}, "must number the image channels"),
        ({"training": "all"}, "training must be a list.*found str"),
        ({"training": [1]}, "training must be a list.*found list"),
        ({"training": []}, "a data set must have labelled cases; found none"),
        ({"training": None, "dataset": [1]}, "found list"),
        ({"training": None, "file_ending": ".png"}, r"file_ending must be \.nii\.gz or \.nii; found \.png"),
        ({"training": None, "file_ending": ".nii"}, "a data set must have labelled cases"),
    ],
)
def test_a_wrong_description_is_refused_with_its_rule(decathlon, changes, message):
    write_json(decathlon, **decathlon_fields(**changes))
    for read in (find_scans, check):
        with pytest.raises(VolumeError, match=rf"dataset\.json: .*{message}"):
            read(decathlon)


def test_a_description_that_is_missing_or_no_json_is_refused(decathlon):
    path = decathlon / "dataset.json"
    for content, message in [
        (b"{", "must be JSON with every name once; found Expecting property name"),
        (b"\xff\xfe", "must be JSON.*found .*decode"),
        (b'{"labels": {"0": "a", "1": "b", "1": "c"}}', "must be JSON with every name once; found '1' twice"),
        (b"[" * 100_000, "must be JSON"),
        (b"[]", "must be a JSON object; found list"),
        (b" " * (16 * 2**20 + 1), "the file may take 16 MiB; found 16 MiB"),
    ]:
        path.write_bytes(content)
        with pytest.raises(VolumeError, match=rf"dataset\.json: .*{message}"):
            find_scans(decathlon)
    path.unlink()
    with pytest.raises(VolumeError, match=r"dataset\.json: a Decathlon or nnU-Net folder needs this file; found none"):
        find_scans(decathlon)


def only_case(root, **files):
    write_json(
        root, **decathlon_fields(training=[{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"} | files])
    )


@pytest.mark.parametrize(
    "name",
    ["../secret.nii.gz", "labelsTr/../../secret.nii.gz", "/etc/hostname", "link.nii.gz", "far/secret.nii.gz", "a\0b"],
)
@pytest.mark.parametrize("which", ["image", "label"])
def test_no_file_outside_the_folder_is_read(tmp_path, name, which):
    root = tmp_path / "task"
    for folder in ("imagesTr", "labelsTr"):
        save(root / folder / "a.nii.gz", labels())
    save(tmp_path / "secret.nii.gz", labels())
    (root / "link.nii.gz").symlink_to(tmp_path / "secret.nii.gz")
    (root / "far").symlink_to(tmp_path)
    only_case(root)
    assert len(find_scans(root).scans) == 1
    only_case(root, **{which: name})
    (problem,) = find_scans(root).problems
    assert re.search(r"dataset\.json: image and label must be files inside the data folder", str(problem))


def test_a_folder_of_labels_that_is_a_link_out_of_the_folder_is_not_followed(tmp_path, nnunet):
    root = tmp_path / "task"
    root.mkdir()
    for name in ("imagesTr", "labelsTr"):
        (root / name).symlink_to(nnunet / name)
    write_json(root, **nnunet_fields())
    folder = find_scans(root)
    assert not folder.scans
    assert len(folder.problems) == 3


def test_the_folder_itself_may_be_a_link_and_may_be_named_relatively(tmp_path, decathlon, monkeypatch):
    (tmp_path / "task").symlink_to(decathlon)
    monkeypatch.chdir(tmp_path)
    for name in (tmp_path / "task", "task"):
        assert [first_value(scan) for scan in find_scans(name).scans] == [0, 1, 2]


def damaged(root):
    """A folder in which each case has another fault."""
    (root / "imagesTr" / "spleen_02.nii.gz").unlink()
    (root / "labelsTr" / "spleen_10.nii.gz").unlink()
    wrong = labels()
    wrong[0, 0, :2] = 3, 200
    save(root / "labelsTr" / "spleen_19.nii.gz", wrong)


def test_every_fault_is_reported_at_once(decathlon):
    damaged(decathlon)
    again = {"image": "imagesTr/spleen_19.nii.gz", "label": "labelsTr/spleen_19.nii.gz"}
    write_json(decathlon, **decathlon_fields(training=[*decathlon_fields()["training"], again]))
    report = check(decathlon)
    for problem, message in zip(
        report.problems,
        [
            r"spleen_02\.nii\.gz: the image of spleen_02\.nii\.gz must exist",
            r"spleen_10\.nii\.gz: the label map that dataset\.json asks for must exist",
            r"dataset\.json: each case must have a name of its own; found spleen_19",
            r"spleen_19\.nii\.gz: labels must lie in 0\.\.2; found \[3, 200\]",
        ],
        strict=True,
    ):
        assert re.search(message, problem)
    assert str(report).endswith("4 problems")


def test_a_missing_channel_is_reported(nnunet):
    (nnunet / "imagesTr" / "spleen_10_0001.nii.gz").unlink()
    assert not find_scans(nnunet, "T2").problems
    (problem,) = check(nnunet).problems
    assert "spleen_10_0001.nii.gz: the image of spleen_10.nii.gz must exist" in problem


def test_the_report_says_what_was_found(decathlon):
    assert str(check(decathlon)).splitlines() == [
        "decathlon (Spleen): 3 patients, 3 volumes, 12 slices",
        "classes: background, spleen, tumour",
        "spacing 5-5 x 0.7-0.7 x 0.8-0.8 mm (D x H x W)",
        "note: passed over: ._spleen_02.nii.gz, ._spleen_10.nii.gz, ._spleen_19.nii.gz (a resource fork of macOS)",
        "no problems",
    ]


names = st.sampled_from(
    [
        "background",
        "a",
        "0",
        "1",
        "2",
        "images",
        "label",
        "../x",
        "imagesTr/a.nii.gz",
        "labelsTr/a.nii.gz",
        ".",
        "",
        "\0",
    ]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | names | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
keys = st.sampled_from(
    ["labels", "modality", "channel_names", "training", "dataset", "file_ending", "name", "reference"]
)
listed = st.lists(st.dictionaries(st.sampled_from(["image", "label"]), values, max_size=2), max_size=3)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(keys, values | listed, max_size=4), whole=values, which=st.integers(0, 9))
def test_no_description_makes_it_fail_otherwise(tmp_path, changes, whole, which):
    only_case(tmp_path)
    for folder in ("imagesTr", "labelsTr"):
        if not (tmp_path / folder / "a.nii.gz").exists():
            save(tmp_path / folder / "a.nii.gz", labels())
    write_json(tmp_path, **decathlon_fields(**changes))
    if which == 0:
        (tmp_path / "dataset.json").write_text(json.dumps(whole))
    with contextlib.suppress(VolumeError, ConfigError):
        folder = find_scans(tmp_path)
        assert folder.scans or folder.problems
        assert all(file.resolve().is_relative_to(tmp_path) for scan in folder.scans for file in scan.files)


def write_splits(root, folds):
    (root / "splits_final.json").write_text(json.dumps(folds))


def test_a_fold_of_nnunet_decides_who_is_held_out(decathlon):
    write_splits(decathlon, [{"train": [CASES[0]], "val": [CASES[1]]}, {"train": [*CASES[1:]], "val": [CASES[0]]}])
    folder = find_scans(decathlon, fold=1)
    assert [scan.name for scan in folder.scans] == sorted(CASES)
    assert folder.test_patients == {CASES[0]}
    folder = find_scans(decathlon, fold=0)
    assert [scan.name for scan in folder.scans] == sorted(CASES[:2])  # the third is in no part of this fold
    assert folder.test_patients == {CASES[1]}
    assert find_scans(decathlon).test_patients == frozenset()


@pytest.mark.parametrize(
    ("folds", "error", "message"),
    [
        ([{"train": ["a"], "val": ["b"]}], VolumeError, "must name cases of this folder; found a, b"),
        ([{"train": [CASES[0]], "val": [CASES[0]]}], VolumeError, "no case may be trained and validated on"),
        ([{"train": [CASES[0]]}], VolumeError, "a fold must name cases to train and to validate on"),
        ([{"train": [CASES[0]], "val": [3]}], VolumeError, "a fold must name cases to train and to validate on"),
        ([[]], VolumeError, "a fold must name cases to train and to validate on"),
        ({}, VolumeError, "must be a JSON list"),
        ([], ConfigError, "fold must lie in"),
        (None, VolumeError, "needs nnU-Net's file of splits"),
    ],
)
def test_a_fold_that_is_not_there_is_refused(decathlon, folds, error, message):
    if folds is not None:
        write_splits(decathlon, folds)
    with pytest.raises(error, match=re.escape(message)):
        find_scans(decathlon, fold=0)
