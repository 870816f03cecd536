"""The desk where a scan is segmented for people without notebooks."""

import io
import re
import threading
import zipfile

import nibabel as nib
import numpy as np
import pytest
from benches import CLASSES, SMALL, volume
from folders import write_dicom
from l2gnet.widgets import ScanDesk
from l2gnet.widgets.scan_desk import example_hearts, told
from l2gnet.widgets.viewer import parts_of

from l2gnet.data.grid import Grid
from l2gnet.data.inputs import find_inputs
from l2gnet.data.made import heart_beat
from l2gnet.models import build_model
from l2gnet.models.card import ModelCard
from l2gnet.models.checkpoint import save_checkpoint
from l2gnet.prediction.segmenter import Segmenter


@pytest.fixture
def desk(front_end):
    made = ScanDesk("phantom-heart", {"heart": lambda: heart_beat(2027)})
    yield made
    made.close()


@pytest.fixture(scope="module")
def prediction():
    return Segmenter("phantom-heart").predict(heart_beat(2027), "scan")


def test_an_example_is_segmented_as_on_the_command_line(desk, prediction):
    desk._on_example("heart")
    desk._task.wait()
    assert desk.error == ""
    for ours, theirs in zip(desk.prediction.labels, prediction.labels, strict=True):
        np.testing.assert_array_equal(ours.array, theirs.array)
    assert desk.answer == {"lines": told(prediction), "doubts": prediction.doubts}
    words = {line["what"]: line["text"] for line in desk.answer["lines"]}
    assert words["left ventricle: ejection fraction"] == f"{prediction.function.left.ejection_fraction:.0f} %"
    assert words["moments taken as full, and after the beat"] == "1 and 2"
    np.testing.assert_array_equal(desk._published["labels"], prediction.labels[0].array)
    contrasts = desk.scan["presets"]
    desk.frame = 1
    np.testing.assert_array_equal(desk._published["labels"], prediction.labels[1].array)
    assert desk.scan["presets"] == contrasts  # a beat does not flicker, and the picture keeps the keyboard


def test_a_dropped_file_is_segmented_and_its_labels_can_be_taken_away(desk, prediction, tmp_path, monkeypatch):
    first, second = heart_beat(2027)
    # Stored as (W, H, D) to the left, to the back and upwards: what is read is the same.
    affine = first.affine[:, [2, 1, 0, 3]]
    stacked = np.stack([first.array.T, second.array.T], -1)
    nib.Nifti1Image(stacked.astype(np.float32), affine).to_filename(tmp_path / "patient.nii.gz")
    data = (tmp_path / "patient.nii.gz").read_bytes()
    sent = []
    monkeypatch.setattr(desk, "send", lambda content, buffers=None: sent.append((content, buffers)))
    half = len(data) // 2
    for start, part in ((0, data[:half]), (half, data[half:])):
        desk._on_drop("patient.nii.gz", start, len(data), [memoryview(part)])
    desk._task.wait()
    assert [content["taken"] for content, _ in sent if "taken" in content] == [half, len(data)]
    assert desk.answer["lines"] == told(prediction)
    desk._on_take()
    content, (archive,) = sent[-1]
    assert content == {"file": "l2gnet-result.zip"}
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        assert sorted(files.namelist()) == ["scan_labels.json", "scan_labels.nii.gz"]


def test_what_is_no_scan_is_refused_and_the_one_before_stays(desk):
    desk._on_example("heart")
    desk._task.wait()
    before = desk.answer
    desk._handle_custom_msg({"event": "drop", "name": "a.png", "start": 0, "size": 3}, [memoryview(b"abc")])
    assert "a scan that is dropped must be NIfTI" in desk.error
    desk._handle_custom_msg({"event": "drop", "name": "a.nii", "start": 0, "size": 3}, [memoryview(b"abc")])
    assert desk.error.startswith("what was dropped: ")
    assert (desk.answer, desk.scan["name"]) == (before, "heart")  # it says whose answer is still there


def test_the_next_scan_has_a_name_and_takes_back_what_was_said_of_the_one_before(front_end, desk):
    for name in ("heart", "scan 2"):  # a file has a name of its own, which may be a patient's
        desk.error = "this was no scan"
        desk.segment(heart_beat(2027)[:1], "" if name == "scan 2" else name)
        desk._task.wait()
        assert (desk.scan["name"], desk.error) == (name, "")


def series(folder, number=1, **changes):
    """The bytes of a DICOM series of a made heart, a file a slice and moment, and the volumes that it holds."""
    frames = heart_beat(2027)
    phases = [np.round(frame.array).astype(np.int16).T for frame in frames]
    write_dicom(folder, phases, frames[0].affine[:, [2, 1, 0, 3]], number=number, **changes)
    return [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())], phases


def packed(*files, **options):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", **options) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return stream.getvalue()


@pytest.mark.parametrize("how", ["files", "zip"])
def test_a_dropped_series_is_read_as_on_the_command_line(front_end, desk, tmp_path, how):
    files, phases = series(tmp_path)
    if how == "zip":
        within = [(f"../../patient/{name}", data) for name, data in files]  # a path that leads out
        files = [("patient.zip", packed(*within, ("patient/readme.txt", b"hello"), compression=zipfile.ZIP_DEFLATED))]
    else:
        files += [("DICOMDIR", b"an index"), (".DS_Store", b"?"), ("report.pdf", b"words")]  # as folders hold
    front_end.drop_files(desk, *files)
    desk._task.wait()
    assert desk.error == ""
    assert len(desk._frames) == desk.scan["frames"] == 2
    assert desk.scan["spacing_mm"] == pytest.approx(list(heart_beat(2027)[0].spacing_mm))
    for frame, phase in zip(desk._frames, phases, strict=True):
        np.testing.assert_array_equal(frame.array, find_inputs([tmp_path])[0].read()[desk._frames.index(frame)].array)
        assert sorted(frame.array.ravel()) == sorted(phase.ravel())
    assert {line["what"] for line in desk.answer["lines"]} >= {"left ventricle: ejection fraction"}


def test_what_a_drop_lacks_is_said_in_words(front_end, desk, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    files, _ = series(tmp_path / "one")
    for wrong, words in [
        (files[:3] + files[4:], "copy the missing files"),  # a slice is missing
        (files + [(f"two{name}", data) for name, data in series(tmp_path / "two", number=2)[0]], "found 2; drop one"),
        ([("a.zip", b"PK but no archive")], "an archive must be whole and open to all"),
        ([("a.zip", packed(("notes.txt", b"none")))], "must hold NIfTI or DICOM files; found none"),
        ([("a.zip", packed())], "must hold NIfTI or DICOM files; found none"),
        ([("a.txt", b"none"), ("b.pdf", b"none")], "must hold NIfTI or DICOM files; found none"),
        ([("1.2.840.10008", b"no DICOM")], "what was dropped: a folder must hold scans"),
    ]:
        desk.error = ""
        front_end.drop_files(desk, *wrong)
        assert words in desk.error
        assert not re.search(r"Error|l2gnet-|\.py", desk.error)  # no class, no place in a program or on this machine
    assert desk._frames == []


@pytest.mark.parametrize(("compression", "wrong"), [(zipfile.ZIP_DEFLATED, 35), (zipfile.ZIP_LZMA, 39)])
def test_a_damaged_archive_is_said_to_be_one(front_end, desk, compression, wrong):
    damaged = bytearray(packed(("a.dcm", bytes(100)), compression=compression))
    damaged[wrong] = 255  # just after the head of the file, which is whole
    front_end.drop_files(desk, ("a.zip", bytes(damaged)))
    assert desk.error.startswith("an archive must be whole and open to all; got: ")


def test_an_archive_that_would_fill_the_disk_is_refused(front_end, desk, monkeypatch):
    monkeypatch.setattr("l2gnet.widgets.dropping._MOST_BYTES", 1 << 20)
    front_end.drop_files(desk, ("a.zip", packed(("a.dcm", bytes(1 << 21)), compression=zipfile.ZIP_DEFLATED)))
    assert "an archive must unpack to at most 16 GiB" in desk.error


def test_without_a_scan_there_is_nothing_to_take_away(desk):
    with pytest.raises(ValueError, match="there are no labels yet"):
        desk._on_take()


def test_its_picture_shows_what_was_found(desk):
    assert desk.draw().axes == []
    desk._on_example("heart")
    desk._task.wait()
    assert [axes.get_title() for axes in desk.draw().axes] == [f"slice {desk.selection['voxel'][0] + 1}"]


def test_one_scan_at_a_time(desk, monkeypatch):
    desk._on_example("heart")
    desk._task.wait()
    monkeypatch.setattr(desk._task, "require_free", lambda: (_ for _ in ()).throw(RuntimeError("one task must end")))
    before = desk.scan
    with pytest.raises(RuntimeError, match="one task must end"):
        desk._on_example("heart")
    assert desk.scan is before
    assert desk.prediction is not None


def test_while_it_segments_another_scan_waits_and_what_is_closed_keeps_nothing(front_end, desk, monkeypatch):
    going, predict = threading.Event(), desk.segmenter.predict
    monkeypatch.setattr(desk.segmenter, "predict", lambda *given, **more: going.wait() and predict(*given, **more))
    front_end.event(desk, "example", name="heart")
    front_end.event(desk, "example", name="heart")
    assert desk.error == "one task must end before the next begins; stop it, or wait"  # and no place in a program
    desk.error = ""
    (part,) = parts_of([desk])  # a page in which nothing goes on
    assert (desk.task["running"], part.traits["task"]) == (True, {"stopped": True})
    front_end.drop(desk, "a.nii", 0, 1 << 20, b"the first part")  # the others would come in vain
    assert (front_end.said(desk)[-1]["taken"], desk.error[:13]) == (-1, "one task must")
    desk.close()
    going.set()
    desk._task.wait()
    assert (desk._frames, desk.prediction, desk.answer) == ([], None, {})


def test_it_tells_how_far_it_is_and_can_be_stopped(front_end, desk, monkeypatch, capsys):
    desk._on_example("heart")
    desk._task.wait()
    assert capsys.readouterr().err == ""  # no bar in the terminal
    told, predict = [], desk.segmenter.predict
    desk.observe(lambda change: told.append(change["new"]), "task")

    def stopping(*given, on_slices, **more):
        def tell(count):
            front_end.event(desk, "stop")
            on_slices(count)

        return predict(*given, on_slices=tell, **more)

    with monkeypatch.context() as patch:
        patch.setattr(desk.segmenter, "predict", stopping)
        desk._on_example("heart")
        desk._task.wait()
    assert told == [{"running": True, "done": 0, "total": 20}, {"running": False, "stopped": True}]
    assert (desk.prediction, desk.answer, desk.error) == (None, {}, "")
    told.clear()
    desk._on_example("heart")
    desk._task.wait()
    done = [task["done"] for task in told if task["running"]]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, 20)
    assert desk.answer["lines"]


def test_a_moment_of_the_scan_before_does_not_lose_the_answer(front_end, desk):
    front_end.change(desk, frame=1)  # there is no scan yet
    desk.segment(heart_beat(2027)[:1])
    front_end.change(desk, frame=2)  # it was sent before
    desk._task.wait()
    assert desk.error == ""
    assert desk.answer["lines"] == told(desk.prediction)
    np.testing.assert_array_equal(desk._published["labels"], desk.prediction.labels[0].array)
    assert len(desk.draw().axes) == 1


def test_slices_are_those_of_the_plane_of_the_model(front_end, tmp_path):
    card = ModelCard("unet", SMALL, CLASSES, Grid(3.0, 48), plane="axial")
    save_checkpoint(tmp_path / "axial.safetensors", build_model("unet", **SMALL), card)
    desk, coronal = ScanDesk(tmp_path / "axial.safetensors"), volume().turned("PIL")
    desk.segment([coronal])
    desk._task.wait()
    assert (desk.scan["shape"], desk.scan["planes"][0]["name"]) == ([4, 48, 48], "axial")
    assert desk.prediction.confidence.shape == (1, 4)  # which the answer names slices by
    np.testing.assert_array_equal(desk._published["volume"], volume().array)
    (labels,) = desk.prediction.labels
    np.testing.assert_array_equal(desk._published["labels"], labels.turned("SPL").array)
    assert (labels.axes, labels.shape) == ("PIL", (48, 4, 48))  # what is taken away lies on the scan
    assert len(desk.draw().axes) == 1
    desk.close()


def test_examples_are_beats():
    frames = example_hearts()["heart 1"]()
    assert len(frames) == 2
    assert frames[0].axes == "SPL"
