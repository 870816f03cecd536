from dataclasses import replace

import pytest
import torch

from l2gnet.data.dataset import open_dataset
from l2gnet.data.grid import Grid
from l2gnet.evaluation.metrics import score_case, summarise
from l2gnet.evaluation.scores import record_metrics, unseen
from l2gnet.models import build_model
from l2gnet.models.card import ModelCard, read_card
from l2gnet.models.checkpoint import load_checkpoint, save_checkpoint
from l2gnet.prediction.doubt import learn_familiar
from l2gnet.prediction.model_card import card_text
from l2gnet.training.run_folder import _described
from l2gnet.training.settings import TrainSettings

GRID = Grid(3.0, 32)
SMALL = {"classes": 4, "width": 4, "depth": 2, "codes": 8, "code_dim": 8, "references": 4}


@pytest.fixture(scope="module")
def dataset():
    return open_dataset(TrainSettings(patients=3, validation_patients=1))


@pytest.fixture
def card(dataset):
    return ModelCard("l2gnet", SMALL, dataset.classes, GRID, _described(dataset, GRID))


@pytest.fixture
def metrics(dataset):
    _, truth = dataset.validation[0].load()
    return summarise({"one": score_case(truth.array, truth.array, dataset.classes, truth.spacing_mm)})


def test_the_card_says_what_a_user_must_know(card, dataset, metrics):
    familiar = learn_familiar(build_model("l2gnet", **SMALL), dataset.validation, card.grid)
    told = {"metrics": metrics, "familiar": familiar.as_dict(), "epochs": 3, "code": "0.1.0+abc"}
    told["settings"] = {"recipe": "onecycle", "learning_rate": 0.005, "seed": 7, "channel": ""}
    text = card_text(replace(card, training=card.training | told), 1234)
    for words in (
        "# l2gnet, 1,234 parameters",
        "Not for clinical use",
        "finds: right ventricle, myocardium, left ventricle",
        "32 x 32 pixels of 3 mm",
        "phantom, 2 volumes to train on, 1 held out; 3 epochs",
        "trained with: recipe onecycle, learning_rate 0.005, seed 7; code 0.1.0+abc",
        "licence of the data: free",
        "| myocardium | 1.000 | 0.0 | 0 |",
        "voxels of 10-10 x 1.5-1.5 x 1.5-1.5 mm",
        "of 8 codes are in use",
    ):
        assert words in text


def test_a_card_that_says_nothing_is_shown_as_such(card):
    text = card_text(replace(card, training={}), 1)
    assert "licence of the data: unknown" in text
    assert "trained with: unknown; code unknown" in text
    assert "None: it was not evaluated." in text
    assert "no scan can be doubted" in text


def test_patients_are_known_again_and_not_named(card, dataset):
    assert unseen(card, dataset.cases) == list(dataset.validation)
    assert unseen(replace(card, training={}), dataset.cases) == list(dataset.cases)
    assert not any(case.patient in str(card) for case in dataset.cases)


def test_scores_go_onto_the_card_and_leave_the_weights_alone(tmp_path, card, metrics):
    path, model = tmp_path / "model.safetensors", build_model("l2gnet", **SMALL)
    save_checkpoint(path, model, card)
    record_metrics(path, metrics)
    assert read_card(path).training["metrics"]["overall"]["dice"]["mean"] == 1.0
    for name, tensor in load_checkpoint(path)[0].state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
