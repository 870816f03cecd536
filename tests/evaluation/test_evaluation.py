import csv
import dataclasses
import json

import nibabel as nib
import numpy as np
import pytest
import torch

from l2gnet.data.dataset import Case
from l2gnet.data.grid import Grid
from l2gnet.data.volume import Volume
from l2gnet.errors import ConfigError
from l2gnet.evaluation.calibration import Calibration
from l2gnet.evaluation.metrics import score_case
from l2gnet.evaluation.scores import evaluate_cases, open_for_model, structure_table, summarise_phases, write_scores
from l2gnet.models import build_model
from l2gnet.models.backbone import Trace
from l2gnet.models.blocks.latent import Latent
from l2gnet.models.card import ModelCard
from l2gnet.models.checkpoint import load_checkpoint, save_checkpoint
from l2gnet.prediction.segmenter import Segmenter
from l2gnet.training.settings import TrainSettings

CLASSES = ("background", "square", "stripe")


def case(name, phase, labels):
    def load():
        label = Volume(labels, np.diag([8.0, 2.0, 2.0, 1.0]))
        return label.like(labels.astype(np.float32)), label

    return Case(name, name[:2], "NOR", phase, load)


@pytest.fixture
def cases():
    labels = np.zeros((2, 32, 32), dtype=np.uint8)
    labels[:, 8:20, 8:20] = 1
    labels[:, 24:30] = 2
    return [case("p1_ED", "ED", labels), case("p1_ES", "ES", labels)]


@pytest.fixture
def model():
    """A model that finds squares and is blind for stripes, which are brighter."""
    model = build_model("unet", classes=3, width=4, depth=2)

    def trace(images):
        square = ((images > 0.3) & (images < 0.7)).float()
        return Trace(50 * torch.cat([1 - square, square, torch.zeros_like(square)], dim=1), Latent(images))

    model.trace = trace
    return model


@pytest.fixture
def scores(model, cases):
    return evaluate_cases(model, cases, Grid(2.0, 32), CLASSES)


def test_every_case_is_scored_on_its_own_grid(scores, cases):
    assert list(scores) == ["p1_ED", "p1_ES"]
    square, stripe = scores["p1_ED"]
    assert square.dice == 1.0
    assert square.hd95_mm == 0.0
    assert square.truth_ml == pytest.approx(2 * 12 * 12 * 8 * 2 * 2 / 1000)
    assert stripe.missed
    assert stripe.dice == 0.0
    assert stripe.false_negative_rate == 1.0


@pytest.mark.parametrize(("convention", "has_mm"), [("transunet", True), ("transunet", False), ("strict", False)])
def test_no_millimetre_is_claimed_where_none_is_scored(cases, model, convention, has_mm, tmp_path):
    def in_voxels(case):
        return dataclasses.replace(case, load=lambda: [dataclasses.replace(v, has_mm=has_mm) for v in case.load()])

    cases = [in_voxels(case) for case in cases]
    grid = Grid(2.0 if has_mm else 0.0, 32)
    scores = evaluate_cases(model, cases, grid, CLASSES, convention=convention)
    write_scores(tmp_path, scores, cases, {})
    rows = {row["structure"]: row for row in structure_table(scores)}
    assert not any("mm" in name for name in rows["square"])
    assert rows["square"]["HD95 (voxels)"] == "0.00 ± 0.00"
    assert rows["stripe"]["HD95 (voxels)"] == ("0.00 ± 0.00" if convention == "transunet" else "2 infinite")
    assert rows["stripe"]["missed"] == "2"
    summary = json.loads((tmp_path / "metrics.json").read_text())["all"]["structures"]["square"]
    assert all(summary[name]["count"] == 0 for name in ("hd95_mm", "assd_mm", "nsd"))
    assert summary["truth_ml"]["count"] == (2 if has_mm else 0)
    with (tmp_path / "scores.csv").open() as file:
        row = next(csv.DictReader(file))
    assert (row["hd95_voxels"], row["hd95_mm"], row["assd_mm"]) == ("0.0", "nan", "nan")


def test_phases_are_summarised_by_themselves(scores, cases):
    summary = summarise_phases(scores, cases)
    assert {name: part["cases"] for name, part in summary.items()} == {"all": 2, "ED": 1, "ES": 1}


def test_the_table_says_what_was_missed(scores):
    rows = {row["structure"]: row for row in structure_table(scores)}
    assert list(rows) == ["square", "stripe", "all structures"]
    assert rows["square"]["Dice"] == "1.0000 ± 0.0000"
    assert rows["stripe"]["missed"] == "2"
    assert rows["stripe"]["HD95 (mm)"] == rows["stripe"]["ASSD (mm)"] == "2 infinite"
    assert rows["stripe"]["HD95 median (mm)"] == "infinite"
    assert rows["stripe"]["false negatives (%)"] == "100.00"
    assert rows["all structures"]["HD95 (mm)"] == "0.00 ± 0.00 (2 infinite)"


def test_scores_are_written_for_people_and_programs(scores, cases, tmp_path):
    write_scores(tmp_path, scores, cases, {"model": "blind"})
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["model"] == "blind"
    assert metrics["all"]["structures"]["square"]["dice"]["mean"] == 1.0
    assert metrics["all"]["structures"]["stripe"]["hd95_mm"] == {
        "mean": None,
        "std": None,
        "median": None,
        "count": 2,
        "infinite": 2,
    }
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["patient"], row["case"], row["phase"], row["structure"]) for row in rows][:2] == [
        ("p1", "p1_ED", "ED", "square"),
        ("p1", "p1_ED", "ED", "stripe"),
    ]
    assert (tmp_path / "per_structure.csv").read_text().startswith("structure,Dice,HD95 (mm)")


def write_folder(root, labels):
    """One patient as nnU-Net has it: a square of 1, a stripe of 2, in whatever numbers `labels` give them."""
    classes = np.zeros((32, 32, 2), np.uint8)
    classes[8:20, 8:20], classes[24:30] = 1, 2
    numbers = np.array([labels.get(name, 0) for name in CLASSES], np.uint8)
    affine = np.diag([-2.0, -2.0, 8.0, 1.0])
    for folder, array in (("imagesTr/a_0000", classes.astype(np.float32)), ("labelsTr/a", numbers[classes])):
        (root / folder).parent.mkdir(parents=True)
        nib.Nifti1Image(array, affine).to_filename(root / f"{folder}.nii.gz")
    fields = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, **labels}, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(fields))
    return TrainSettings(data="decathlon", data_dir=str(root))


@pytest.fixture
def card():
    return ModelCard("unet", {}, CLASSES, Grid(2.0, 32), {})


def test_scores_are_those_of_what_predict_writes_in_the_plane_of_the_model(tmp_path):
    """A scan of coronal slices, for a model of axial ones."""
    torch.manual_seed(0)
    grid = Grid(2.0, 32)
    own = ModelCard(
        "unet", {"classes": 3, "width": 4, "depth": 2}, CLASSES, grid, {}, channels=("image",), plane="axial"
    )
    network = build_model("unet", **own.settings).eval()
    with torch.no_grad():  # so that all classes are found
        logits = network(torch.rand(4, 1, 32, 32))
        network.head.weight /= logits.std((0, 2, 3)).view(3, 1, 1, 1)
        network.head.bias -= network(torch.rand(4, 1, 32, 32)).mean((0, 2, 3))
    save_checkpoint(tmp_path / "model.safetensors", network, own)
    random = np.random.default_rng(0)
    array = random.normal(size=(9, 30, 40)).astype(np.float32)
    scan = Volume(array, np.array([[0, 0, -2.0, 40], [-6, 0, 0, 30], [0, -2, 0, 60], [0, 0, 0, 1]]))
    assert scan.axes == "PIL"
    predicted = Segmenter(tmp_path / "model.safetensors").predict([scan], "a").labels[0]
    assert len(np.unique(predicted.array)) == 3
    one = Case("a", "a", "NOR", "ED", lambda: (scan, predicted))
    network, _ = load_checkpoint(tmp_path / "model.safetensors")
    calibration = Calibration(CLASSES)
    scores = evaluate_cases(network, [one], grid, CLASSES, card=own, calibration=calibration)
    assert [score.dice for score in scores["a"]] == [1.0, 1.0]
    other = evaluate_cases(network, [one], grid, CLASSES)
    assert max(score.dice for score in other["a"]) < 1
    assert {row["right"] for row in calibration.table()} == {1.0}


def test_what_is_undefined_is_not_called_infinite(cases):
    """A structure that is nowhere and was found nowhere."""
    empty = {case.name: score_case(*[np.zeros((2, 8, 8), np.uint8)] * 2, CLASSES, (1.0, 1.0, 1.0)) for case in cases}
    row, *_, whole = structure_table(empty)
    assert (row["Dice"], row["HD95 median (mm)"], row["false negatives (%)"], row["cases"]) == ("-", "-", "-", "0")
    assert whole["cases"] == "0"


def test_where_some_scans_have_millimetres_and_others_have_none_both_are_told():
    truth = np.ones((2, 8, 8), np.uint8)
    spacings = {"a": (1.0, 1.0, 1.0), "b": (1.0, 1.0, 1.0), "c": None}
    row, *_ = structure_table({name: score_case(truth, truth, CLASSES, mm) for name, mm in spacings.items()})
    assert row["HD95 (mm)"] == row["HD95 (voxels)"] == row["ASSD (mm)"] == "0.00 ± 0.00"
    assert (row["NSD at 2 mm"], row["cases"]) == ("1.000 ± 0.000", "3")


def test_a_case_counts_once_however_many_structures_it_has(cases):
    truth = np.zeros((2, 8, 8), np.uint8)
    truth[:, 2:5, 2:5], truth[:, 6, :] = 1, 2
    lacking = np.where(truth == 2, 0, truth).astype(np.uint8)
    scores = {str(n): score_case(one, one, CLASSES, (1.0, 1.0, 1.0)) for n, one in enumerate((truth, truth, lacking))}
    assert [row["cases"] for row in structure_table(scores)] == ["3", "2", "3"]


@pytest.mark.parametrize("labels", [{"square": 1, "stripe": 2}, {"stripe": 1, "square": 2}, {"square": 1}])
def test_on_other_data_structures_go_by_name(labels, model, card, tmp_path):
    dataset = open_for_model(write_folder(tmp_path, labels), card)
    assert len(dataset.cases) == 1  # of one patient, too
    scores = evaluate_cases(model, dataset.cases, card.grid, dataset.classes, card=card)
    by_name = {score.structure: score.dice for score in scores["a"]}
    assert by_name == {name: float(name == "square") for name in labels}


def test_what_the_masks_do_not_know_counts_as_background(model, card, tmp_path):
    dataset = open_for_model(write_folder(tmp_path, {"stripe": 1}), card)
    (stripe,) = evaluate_cases(model, dataset.cases, card.grid, dataset.classes, card=card)["a"]
    assert (stripe.structure, stripe.predicted_ml, stripe.missed) == ("stripe", 0.0, True)


def test_what_a_model_was_told_to_leave_out_is_background_where_it_is_scored_too(model, card, tmp_path):
    chosen = dataclasses.replace(card, classes=CLASSES[:2], training={"settings": {"structures": "square"}})
    dataset = open_for_model(write_folder(tmp_path, {"stripe": 1, "square": 2}), chosen)
    assert dataset.classes == CLASSES[:2]
    (square,) = evaluate_cases(model, dataset.cases, card.grid, dataset.classes, card=card)["a"]
    assert (square.structure, square.dice) == ("square", 1.0)
    with pytest.raises(ConfigError, match="got circle"):  # none of its own
        open_for_model(write_folder(tmp_path / "other", {"circle": 1}), chosen)


def test_structures_that_the_model_does_not_know_are_refused(card, tmp_path):
    settings = write_folder(tmp_path, {"square": 1, "circle": 2})
    with pytest.raises(
        ConfigError, match=r"masks must hold structures that the model knows, got circle.*; there are square"
    ):
        open_for_model(settings, card)
