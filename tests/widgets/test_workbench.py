"""The workbench without a browser: its state, what it tells of a slice, and what becomes of it under interventions."""

import gc
import json
import subprocess
import sys
import threading
import weakref

import nibabel as nib
import numpy as np
import pytest
import torch
from benches import AFFINE, CLASSES, SMALL, phantom, save_model, truth, volume
from l2gnet.widgets.bench_facts import most_to_see
from l2gnet.widgets.bench_scans import BenchScan
from l2gnet.widgets.bench_state import STATE
from l2gnet.widgets.viewer import parts_of
from l2gnet.widgets.workbench import Workbench

from l2gnet.data.grid import Grid
from l2gnet.data.regions import Regions
from l2gnet.data.slices import SliceSet
from l2gnet.data.volume import Volume
from l2gnet.errors import CheckpointError, ConfigError
from l2gnet.inspection.interventions import Interventions, intervene, intervene_slices, mean_skips
from l2gnet.inspection.seen_scan import see_scan
from l2gnet.models import build_model
from l2gnet.models.card import ModelCard, shipped_models
from l2gnet.models.checkpoint import load_checkpoint, save_checkpoint
from l2gnet.prediction.inference import network_input
from l2gnet.prediction.segmenter import Segmenter


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {name: save_model(folder / f"{name}.safetensors", name) for name in ("l2gnet", "vq_unet", "unet")}


@pytest.fixture
def open_bench(front_end):
    opened = []

    def open_(model, scans=None, **options):
        scans = [(volume(), truth())] if scans is None else scans
        opened.append(Workbench(model, scans, **options))
        return opened[-1]

    yield open_
    for bench in opened:
        bench.close()


@pytest.fixture
def bench(open_bench, models):
    return open_bench(models["l2gnet"], [(volume(1), truth(1)), volume(2)])


def changed(front_end, bench, **changes):
    """Interventions as the browser asks for them."""
    front_end.change(bench, interventions=bench.interventions | changes)


def taken(front_end):
    """The last answer to a part of a dropped file."""
    said = [data["content"] for _, _, data, _ in front_end.sent if data and data.get("method") == "custom"]
    return [content["taken"] for content in said if "taken" in content][-1]


def labels(bench):
    return np.frombuffer(bench.now["labels"], np.uint8).reshape(bench.seen.labels.shape[1:])


def plans(bench, name):
    return np.frombuffer(bench.now[name], np.float32).reshape(2, len(bench.now["names"]), 5)


@pytest.mark.parametrize("silenced", [False, True])
def test_where_tokens_receive_each_is_told_what_it_hears(open_bench, front_end, tmp_path, silenced):
    file = save_model(tmp_path / "own.safetensors", receivers="tokens")
    bench = open_bench(file)
    code = bench.now["names"][0]
    if silenced:
        changed(front_end, bench, silenced_codes=[code])
    hearing = np.frombuffer(bench.now["hearing"], np.float32).reshape(2, -1, 5)
    model, _ = load_checkpoint(file)
    image = network_input(bench.seen.images[bench.index : bench.index + 1])
    found = intervene(model, image, Interventions(silenced_codes=(code,) if silenced else ()))
    np.testing.assert_allclose(hearing, found.hearing[0], atol=1e-6)
    rows = np.frombuffer(bench.now["rows"], np.int32)
    for row in range(len(bench.now["names"])):
        np.testing.assert_allclose(plans(bench, "receiving")[:, row], hearing[:, rows == row].sum(1), atol=1e-6)
    assert "tokens receive" in bench.draw().axes[-1].get_title()


def test_it_opens_where_there_is_most_to_see(bench):
    d, h, w = bench.selection["voxel"]
    assert d == (truth().array > 0).sum((1, 2)).argmax()
    assert truth().array[d, h - 3 : h + 4, w - 3 : w + 4].any()
    assert bench.about["scans"] == ["scan 1", "scan 2"]
    assert [each["name"] for each in bench.about["structures"]] == ["right ventricle", "myocardium", "left ventricle"]
    assert (bench.about["two"], bench.about["heads"], bench.about["references"]) == (True, 2, 5)
    assert bench.window == list(bench.seen.range)
    assert np.array_equal(labels(bench), bench.seen.labels[d])
    assert bench.now["changed"] == 0
    assert [len(row["dice"]) for row in bench.now["scores"]] == [2, 2, 2]


def test_a_state_can_be_kept_as_json_and_given_back(open_bench, front_end, models, bench):
    code = int(bench.seen.codes[2, 0, 0])
    front_end.change(bench, scan=1, plane=0, overlay="relation", outline=True, opacity=0.3, head=1, order="usage")
    front_end.change(bench, selection={"voxel": [2, 5, 6], "code": code, "by": "code"}, plan_view="matrices")
    changed(front_end, bench, silenced_codes=[code], silenced_references=[3], epsilon=0.2, skips=[0])
    kept = json.loads(json.dumps(bench.state))
    assert set(kept) == set(STATE)
    again = open_bench(models["l2gnet"], [(volume(1), truth(1)), volume(2)], state=kept)
    assert again.state == bench.state
    assert (again.now | {"ms": 0}, again.card) == (bench.now | {"ms": 0}, bench.card)
    again.state = {"overlay": "codes"}  # what it does not name stays
    assert again.state == bench.state | {"overlay": "codes"}


def test_interventions_of_a_state_that_names_some_are_whole(open_bench, models):
    bench = open_bench(models["l2gnet"], state={"interventions": {"silenced_codes": [3]}})
    assert bench.interventions == Interventions(silenced_codes=(3,)).to_json()  # the browser reads each of them


@pytest.mark.parametrize(
    ("state", "error", "rule"),
    [
        ({"slice": 3}, ConfigError, "a state has scan, plane, .*, got 'slice'; copy one from a workbench"),
        ({"overlay": "heat"}, ConfigError, "a state must hold values as a workbench has them: .*'heat'"),
        ({"plane": 3}, ConfigError, "a state must hold values as a workbench has them: .*plane"),
        ({"interventions": {"silence": [1]}}, ConfigError, "unknown intervention 'silence'"),
        ({"interventions": {"silenced_codes": [99]}}, ConfigError, "numbers from 0 to 11, as the model has"),
        ({"head": 5}, ConfigError, r"head must lie in 0\.\.1, as the model has, got 5; copy one"),
        ({"scan": 4}, ConfigError, r"scan must lie in 0\.\.0, got 4"),
    ],
)
def test_a_state_that_is_none_is_refused(open_bench, models, state, error, rule):
    with pytest.raises(error, match=rule):
        open_bench(models["l2gnet"], state=state)


@pytest.mark.parametrize(
    "wrong", [{"plane": 7}, {"head": 2}, {"scan": 2}, {"scan": 1, "interventions": {"silenced_codes": [99]}}], ids=str
)
def test_of_a_state_that_is_refused_nothing_is_taken(bench, wrong):
    before = bench.state, bench.about, bench.now | {"ms": 0}
    with pytest.raises(ConfigError):
        bench.state = {"overlay": "codes", "order": "usage"} | wrong | {"window": [1, 2]}
    assert (bench.state, bench.about, bench.now | {"ms": 0}) == before


def test_the_names_of_a_state_have_no_order(open_bench, models):
    bench = open_bench(models["l2gnet"], [volume(1, slices=2), volume(2)])
    bench.state = {"selection": {"voxel": [3, 1, 1]}, "scan": 1}  # the first has no such slice
    assert (bench.scan, bench.now["scan"], bench.index) == (1, 1, 3)


def test_a_scan_is_needed(models):
    with pytest.raises(ValueError, match="a workbench needs a scan to look at, got none"):
        Workbench(models["l2gnet"])


@pytest.mark.parametrize(
    "changes",
    [
        {"silenced_codes": [0]},
        {"replaced_codes": {"0": 3}},
        {"silenced_references": [1, 2]},
        {"relation": "none"},
        {"relation": "mean"},
        {"relation": "exact"},
        {"relation": "other"},
        {"skips": [0, 1]},
        {"epsilon": 1, "epsilon_receive": 0.01},
    ],
    ids=str,
)
def test_the_screen_shows_what_the_library_computes(front_end, bench, changes):
    codes = bench.seen.codes[bench.index]
    often = str(np.bincount(codes.ravel()).argmax())
    if "silenced_codes" in changes:
        changes = {"silenced_codes": [int(often)]}
    if "replaced_codes" in changes:
        changes = {"replaced_codes": {often: (int(often) + 1) % 12}}
    changed(front_end, bench, **changes)
    assert bench.error == ""
    model, card = load_checkpoint(bench._names.path.with_name("l2gnet.safetensors"))
    seen = see_scan(model, card, volume(1), truth(1))
    images = network_input(seen.images)
    asked = Interventions.from_json(changes)
    options = {}
    if asked.relation == "other":
        theirs = see_scan(model, card, volume(2)).images
        options["other"] = network_input(theirs[bench.index : bench.index + 1])
    if asked.skips:
        options["reference_images"] = images
    found = intervene(model, images[bench.index : bench.index + 1], asked, **options)
    assert np.array_equal(labels(bench), found.labels[0])
    assert bench.now["changed"] == int(found.changed.sum())
    if found.sending is None:
        assert "sending" not in bench.now
    else:
        rows = found.row_codes[0] >= 0
        np.testing.assert_allclose(plans(bench, "sending"), found.sending[0][:, rows], atol=1e-6)
        np.testing.assert_allclose(plans(bench, "receiving"), found.receiving[0][:, rows], atol=1e-6)
        assert bench.now["names"] == found.row_codes[0][rows].tolist()
        assert bench.now["hearing"] is None
    here = truth().array[bench.index] == 3
    dice = 2 * (here & (found.labels[0].numpy() == 3)).sum() / (here.sum() + int((found.labels == 3).sum()))
    assert bench.now["scores"][2]["dice"][1] == pytest.approx(dice)
    changed(front_end, bench, **Interventions().to_json())  # and back
    assert np.array_equal(labels(bench), bench.seen.labels[bench.index])


def test_epsilon_moves_the_plan_but_not_its_order(front_end, bench):
    front_end.change(bench, order="clustering")
    order, sharp = bench.now["order"], plans(bench, "sending")
    changed(front_end, bench, epsilon=5.0)
    assert np.ptp(plans(bench, "sending") / plans(bench, "sending").sum(2, keepdims=True)) < np.ptp(
        sharp / sharp.sum(2, keepdims=True)
    )
    assert bench.now["order"] == order
    changed(front_end, bench, epsilon=1e-6)
    assert bench.now["errors"][0] > 1e-3  # the browser says that it has not converged
    changed(front_end, bench, epsilon=-1.0)
    assert bench.error.startswith("ConfigError: epsilon must be None, or a weight above 0, got -1.0")


def test_rows_of_tokens_and_heads(front_end, bench):
    rows = np.frombuffer(bench.now["rows"], np.int32)
    codes = bench.seen.codes[bench.index].ravel()
    assert np.array_equal(np.array(bench.now["names"])[rows], codes)
    source = np.frombuffer(bench.now["source"], np.float32)
    np.testing.assert_allclose(source, np.bincount(rows) / len(rows), rtol=1e-5)
    orders = set()
    for head in (0, 1):
        for order in ("usage", "label", "clustering"):
            front_end.change(bench, head=head, order=order)
            assert sorted(bench.now["order"][0]) == list(range(len(source)))
            assert sorted(bench.now["order"][1]) == list(range(5))
            orders.add(str(bench.now["order"]))
    assert len(orders) > 2


def test_a_model_without_codes_says_so_and_the_rest_works(front_end, open_bench, models):
    bench = open_bench(models["unet"])
    assert bench.about["missing"] == "unet has no codebook: no codes, no plans. Slices, doubt and skips work."
    assert (bench.about["codes"], bench.about["cells"], bench.about["epsilons"]) == (0, None, [])
    assert "codes" not in bench.arrays
    changed(front_end, bench, skips=[1])
    assert bench.now["changed"] == (labels(bench) != bench.seen.labels[bench.index]).sum()
    assert bench.error == ""
    changed(front_end, bench, silenced_codes=[1])
    assert "codes to silence or replace must be none for a model without a codebook" in bench.error
    assert bench.interventions["silenced_codes"] == []  # as before
    front_end.change(bench, selection={"voxel": [1, 2, 3], "by": "code", "code": 2})
    assert bench.card == {"kind": "code"}
    assert bench.snapshot().startswith(b"\x89PNG")


def test_a_model_without_a_mapper_has_codes_alone(front_end, open_bench, models):
    bench = open_bench(models["vq_unet"])
    assert bench.about["missing"] == "vq_unet relates no codes by transport: there are no plans. Codes work."
    code = int(bench.seen.codes[bench.index, 0, 0])
    front_end.change(bench, selection=bench.selection | {"by": "code", "code": code})
    assert bench.card["count"] == (bench.seen.codes == code).sum()
    changed(front_end, bench, silenced_codes=[code])
    assert "names" not in bench.now
    changed(front_end, bench, silenced_codes=[], epsilon=0.5)
    assert "epsilon must be None for a model without such a plan" in bench.error
    assert bench.interventions["epsilon"] is None
    assert bench.snapshot().startswith(b"\x89PNG")


def test_a_scan_without_labels_is_counted_in_pixels(front_end, bench):
    front_end.change(bench, scan=1)
    assert not bench.about["truth"]
    assert "dice" not in bench.now["scores"][0]
    number = (bench.seen.labels[bench.index] == 1).sum()
    assert bench.now["scores"][0]["pixels"] == [number, number]
    assert bench.snapshot().startswith(b"\x89PNG")


@pytest.mark.parametrize("slices", [2, 4])
def test_a_selection_that_comes_with_another_scan_is_one_in_it(front_end, open_bench, models, slices):
    scans = [(volume(1), truth(1)), volume(2, slices=slices)]
    alone = open_bench(models["l2gnet"], scans, state={"scan": 1})
    bench = open_bench(models["l2gnet"], scans)
    front_end.change(bench, selection={"voxel": [3, 5, 5]}, scan=1)
    assert (bench.error, bench.about) == ("", alone.about)
    assert bench.selection["voxel"] == ([3, 5, 5] if slices == 4 else alone.selection["voxel"])
    front_end.change(alone, selection=bench.selection)
    assert bench.now | {"ms": 0} == alone.now | {"ms": 0}  # by label: those of this scan


def test_a_change_that_is_none_does_not_keep_another_scan_back(front_end, open_bench, models):
    bench = open_bench(models["l2gnet"], [volume(1), volume(2, slices=2)], state={"selection": {"voxel": [3, 5, 5]}})
    front_end.change(bench, interventions=bench.interventions | {"silenced_codes": [99]}, scan=1)
    assert "numbers from 0 to 11" in bench.error
    assert (bench.about["scan"], bench.now["scan"], bench.now["index"]) == (1, 1, bench.index)
    assert bench.interventions["silenced_codes"] == []


def test_contrast_is_that_of_the_scan_unless_it_was_set_by_hand(front_end, bench):
    first = bench.window
    front_end.change(bench, scan=1)
    assert bench.window == list(bench.seen.range) != first
    front_end.change(bench, scan=0, window=first)  # undo, and redo
    front_end.change(bench, scan=1)
    front_end.change(bench, window=[10, 20])
    front_end.change(bench, scan=0)
    assert bench.window == [10, 20]


def test_what_goes_to_others_does_not_name_its_scan_and_holds_it_alone(front_end, open_bench, models):
    cases = [BenchScan("patient A", lambda: (volume(1), truth(1))), BenchScan("patient B", lambda: (volume(2), None))]
    bench = open_bench(models["l2gnet"], cases)
    assert bench.about["scans"] == ["patient A", "patient B"]
    (part,) = parts_of([bench])
    assert part.arrays["truth"] == truth(1).array.tobytes()
    assert "patient" not in str(part.traits)
    assert bench.draw()._suptitle.get_text() == f"l2gnet, scan 1, slice {bench.index + 1} of 4"
    front_end.change(bench, scan=1)
    (part,) = parts_of([bench])
    assert part.traits["arrays"].keys() == part.arrays.keys() == {"images", "found", "confidence", "codes"}
    front_end.change(bench, scan=0)
    assert bench.arrays["truth"]["version"] == 2  # or the browser would take it for the one that it has


@pytest.mark.parametrize("name", shipped_models())
def test_every_model_that_comes_along_can_be_saved(open_bench, name, tmp_path):
    bench = open_bench(name, [volume(slices=1)])
    assert bench.save(tmp_path / "bench.html").stat().st_size > 100_000


def test_a_saved_page_knows_every_code_and_head(front_end, bench):
    page = bench.page_data()
    assert page["cards"].keys() == {str(code) for code in range(12)}  # also what fires nowhere, as a neighbour is one
    assert len(np.unique(bench.seen.codes)) < 12
    for head in (0, 1):
        front_end.change(bench, head=head)
        told = page["slices"][bench.index]["heads"][head]
        assert told == {name: bench.now[name] for name in ("source", "target", "errors")}
    assert len({str(told["errors"]) for told in page["slices"][bench.index]["heads"]}) == 2


def test_doubt_about_regions_is_that_about_each(open_bench, tmp_path):
    torch.manual_seed(0)
    settings = SMALL | {"classes": 3}
    regions = Regions(((1, 2, 3), (2, 3), (3,)), (1, 2, 3))
    card = ModelCard("unet", settings, CLASSES, Grid(3.0, 48), regions=regions)
    save_checkpoint(tmp_path / "regions.safetensors", build_model("unet", **settings), card)
    bench = open_bench(tmp_path / "regions.safetensors")
    shares = bench.intervened(bench.index).probabilities[0]
    wanted = np.abs(shares.numpy() - 0.5).min(0) + 0.5
    told = np.frombuffer(bench.now["confidence"], np.uint8).reshape(48, 48)
    assert np.abs(told / 255 - wanted).max() < 0.003
    np.testing.assert_allclose(bench.seen.confidence[bench.index], wanted, atol=1e-5)


def test_one_slice(front_end, open_bench, models):
    bench = open_bench(models["l2gnet"], [(volume(slices=1), truth(slices=1))])
    assert bench.about["shape"] == [1, 48, 48]
    changed(front_end, bench, relation="other")  # of this scan, as there is no other: it hears itself
    assert bench.error == ""
    changed(front_end, bench, relation="own", skips=[0])  # its mean over one slice is itself
    assert (bench.error, bench.now["changed"]) == ("", 0)


def test_a_scan_that_cannot_be_opened_leaves_the_one_before(front_end, open_bench, models, tmp_path):
    image = volume()
    two = Volume(image.array, AFFINE, more=(image.array,))
    (tmp_path / "none.nii").write_bytes(b"no scan")
    left_out, unknown = (truth().like(truth().array.copy()) for _ in range(2))
    left_out.array[0, 0], unknown.array[0, :2] = 255, 4
    scans = [(image, left_out), two, tmp_path / "none.nii", (image, truth(slices=3)), (image, unknown)]
    bench = open_bench(models["l2gnet"], scans)
    before = bench.now
    foreign = "its label map: labels must be those of the model, 0 background, 1 right ventricle, 2 myocardium, 3 left"
    for scan, words in ((1, "channels"), (2, "none.nii"), (3, "the scan"), (4, foreign), (4, "found 4; give")):
        front_end.change(bench, scan=scan)
        assert words in bench.error
        assert (bench.scan, bench.now, bench.about["scan"]) == (0, before, 0)
    front_end.change(bench, selection={"voxel": [0, 1, 1]})
    assert bench.now["index"] == 0


@pytest.mark.parametrize("name", ["heart.nii.gz", "heart.nii"])
def test_a_scan_is_dropped_in_parts(front_end, bench, tmp_path, name):
    image = phantom(3).image.T.astype(np.float32)
    nib.Nifti1Image(image, np.diag([-3.0, -3.0, 16.0, 1.0])).to_filename(tmp_path / name)
    data = (tmp_path / name).read_bytes()
    answers = []
    front_end.change(bench, selection={"voxel": [0, 0, 0]})
    for start in range(0, len(data), 10_000):
        front_end.drop(bench, name, start, len(data), data[start : start + 10_000])
        answers.append(taken(front_end))
    assert answers == [min(start + 10_000, len(data)) for start in range(0, len(data), 10_000)]
    assert (bench.error, bench.scan, bench.about["scans"]) == ("", 2, ["scan 1", "scan 2", "scan 3"])
    assert bench.about["shape"] == [4, 48, 48]
    assert bench.selection["voxel"] == most_to_see(bench.seen)  # and not where the one before was looked at
    front_end.change(bench, scan=0)
    front_end.change(bench, scan=2)
    assert bench.error == ""


def test_what_is_dropped_and_is_no_scan_is_refused(front_end, bench):
    front_end.drop(bench, "patient.png", 0, 4, b"abcd")
    assert taken(front_end) == -1
    assert "a scan that is dropped must be NIfTI (.nii, .nii.gz), DICOM (.dcm), a folder or a .zip" in bench.error
    assert "patient" not in bench.error
    front_end.drop(bench, "a.nii", 0, 4, b"abcd")
    assert taken(front_end) == -1
    assert (bench.scan, len(bench.scans)) == (0, 2)
    front_end.drop(bench, "a.nii", 0, 8, b"abcd")
    front_end.drop(bench, "a.nii", 6, 8, b"abcd")
    assert "the parts of a file must follow each other, got one from 6; drop it again" in bench.error


def test_two_models_on_one_scan(front_end, open_bench, models, tmp_path):
    bench = open_bench(models["l2gnet"], other=models["unet"])
    assert bench.about["other"] == "unet"
    model, card = load_checkpoint(models["unet"])
    theirs = see_scan(model, card, volume(), truth()).labels
    assert np.array_equal(bench._published["other"], theirs)
    here, found = truth().array[bench.index] == 1, theirs[bench.index] == 1
    assert bench.now["scores"][0]["dice"][2] == pytest.approx(2 * (here & found).sum() / (here.sum() + found.sum()))
    for name in ("one", "two"):  # as runs keep their models
        (tmp_path / name).mkdir()
        save_model(tmp_path / name / "model.safetensors", "unet")
    runs = open_bench(tmp_path / "one/model.safetensors", other=tmp_path / "two/model.safetensors")
    assert (runs.about["model"], runs.about["other"]) == ("one", "two")
    wrong = save_model(tmp_path / "small.safetensors", "unet", size_px=32)
    with pytest.raises(CheckpointError, match="two models side by side must share classes, channels, grid and plane"):
        open_bench(models["l2gnet"], other=wrong)


def test_a_scan_that_was_brought_has_the_doubts_of_predict(front_end, open_bench, models):
    wanted = Segmenter(models["l2gnet"]).predict([volume(2)], "it").doubts
    assert "the model's card does not say what is normal" in wanted
    known = BenchScan("case", lambda: (volume(1), truth(1)), brought=False)
    bench = open_bench(models["l2gnet"], [known, volume(2)])
    assert bench.doubts == []
    found = threading.Event()
    bench.observe(lambda change: change["new"] and found.set(), "doubts")
    front_end.change(bench, scan=1)
    assert found.wait(60)
    assert bench.doubts == wanted
    front_end.change(bench, scan=0)
    assert bench.doubts == []
    front_end.change(bench, scan=1)
    assert bench.doubts == wanted  # without another look


def test_doubts_that_cannot_be_found_out_are_said(front_end, open_bench, tmp_path):
    bench = open_bench(save_model(tmp_path / "gone.safetensors"), [BenchScan("case", lambda: (volume(), None), False)])
    (tmp_path / "gone.safetensors").unlink()
    found = threading.Event()
    bench.observe(lambda change: change["new"] and found.set(), "doubts")
    bench.add(volume(2))
    assert found.wait(60)
    assert bench.doubts[0].startswith("whether it is unusual could not be found out: ")


def test_what_is_closed_keeps_no_scan(open_bench, models):
    scan = volume(2)
    bench = open_bench(models["l2gnet"], [volume(), scan], state={"scan": 1}, other=models["unet"])
    held = [weakref.ref(each) for each in (scan, bench.seen, bench._atlas, bench.other)]
    bench.close()
    del scan
    gc.collect()
    assert [reference() for reference in held] == [None] * 4  # although `bench` is still here


def test_what_is_closed_seeks_no_doubts(open_bench, models, monkeypatch):
    begun = threading.Event()

    def endless(self, frames, name, on_slices):
        while True:
            begun.set()
            on_slices(1)

    monkeypatch.setattr(Segmenter, "predict", endless)
    bench = open_bench(models["l2gnet"], [volume()])
    assert begun.wait(60)
    (part,) = parts_of([bench])  # in which nothing will be found out any more
    assert "was not known when this page was saved" in part.traits["doubts"][0]
    bench.close()
    assert [task._thread.is_alive() for task in bench._asked._seeking] == [False]
    assert (bench.doubts, bench.error) == (None, "")


@pytest.mark.slow
def test_a_program_can_end_while_doubts_are_sought():
    code = "from l2gnet.data.made import heart_beat; from l2gnet.widgets import Workbench; import time; "
    code += "Workbench('phantom-heart', heart_beat(2027)[:1]); time.sleep(0.1)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_long_task_scores_the_whole_scan(front_end, bench):
    changed(front_end, bench, silenced_references=[0, 1], skips=[1])
    told = []
    bench.observe(lambda change: told.append(change["new"]), "task")
    front_end.event(bench, "whole")
    bench._task.wait()
    assert [each["done"] for each in told if each["running"]] == [0, 4]
    assert (bench.task["running"], bench.task["of"], bench.task["truth"]) == (False, [0, bench.interventions], True)
    model, seen = bench.model, bench.seen
    slices = SliceSet(seen.images, seen.truth, np.zeros(4, np.int64), ("a",))
    means = mean_skips(model, [network_input(seen.images)])
    scores = intervene_slices(model, slices, Interventions.from_json(bench.interventions), skip_means=means)
    assert [row["dice"] for row in bench.task["scores"]] == [
        list(pair) for pair in zip(scores.plain_dice[0], scores.changed_dice[0], strict=True)
    ]
    assert bench.task["changed"] == scores.changed_share[0]


def test_a_long_task_can_be_stopped_and_shows_its_error(front_end, bench):
    told = []

    def stop(change):
        told.append(change["new"])
        front_end.event(bench, "stop")

    bench.observe(stop, "task")
    front_end.event(bench, "whole")
    bench._task.wait()
    assert told[-1] == {"running": False, "stopped": True}
    front_end.change(bench, selection={"voxel": [1, 1, 1]})
    assert bench.task == told[-1]
    changed(front_end, bench, relation="none")
    assert bench.task == {}  # which is none that was stopped
    bench.unobserve_all("task")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("l2gnet.widgets.bench_model.intervene_slices", lambda *_, **__: 1 / 0)
        front_end.event(bench, "whole")
        bench._task.wait()
    assert bench.error.startswith("ZeroDivisionError")
    assert bench.task == {"running": False}
    front_end.change(bench, selection={"voxel": [0, 0, 0]})  # and what it held is free
    assert bench.now["index"] == 0


def test_names_of_codes_are_kept_beside_the_model(front_end, open_bench, models, bench):
    front_end.event(bench, "name", code=7, name="apex")
    assert bench.about["names"] == {"7": "apex"}
    assert json.loads(models["l2gnet"].with_name("l2gnet.names.json").read_text()) == {"7": "apex"}
    front_end.change(bench, selection=bench.selection | {"by": "code", "code": 7})
    assert bench.card["name"] == "apex"
    assert open_bench(models["l2gnet"]).about["names"] == {"7": "apex"}
    front_end.event(bench, "name", code=7, name=" ")
    assert bench.about["names"] == {}


def test_the_card_of_a_code(front_end, bench):
    code = int(np.bincount(bench.seen.codes.ravel()).argmax())
    front_end.change(bench, selection=bench.selection | {"by": "code", "code": code})
    fires = bench.seen.codes == code
    assert (bench.card["count"], bench.card["tokens"]) == (fires.sum(), fires.size)
    assert bench.card["slices"] == fires.any((1, 2)).sum()
    for d, row, column in bench.card["examples"]["nearest"]:
        assert bench.seen.codes[d, row, column] == code
    front_end.change(bench, selection=bench.selection | {"code": 12})
    assert "a code must lie in 0..11" in bench.error


def test_the_picture_of_a_saved_notebook(bench):
    titles = [axes.get_title() for axes in bench.draw().axes]
    assert len(titles) > 2
    assert "codes receive" in titles[-1]
    assert "text/html" in bench._repr_mimebundle_()[0]
