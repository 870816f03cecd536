from pathlib import Path

import pytest
import yaml

from l2gnet.checks import exists
from l2gnet.data.dataset import open_dataset
from l2gnet.errors import CheckpointError
from l2gnet.evaluation.metrics import summarise
from l2gnet.evaluation.scores import evaluate_cases
from l2gnet.models.card import checkpoint_file, read_card, shipped_models
from l2gnet.models.checkpoint import load_checkpoint
from l2gnet.training.settings import TrainSettings

JOB = yaml.safe_load((Path(__file__).parents[2] / "notebooks" / "jobs" / "shipped-models.yaml").read_text())
MADE = JOB["grid"]["model"]
LEAST = {"phantom-heart": 0.95, "phantom-abdomen": 0.9, "phantom-key": 0.95}


def settings_of(name):
    return TrainSettings(**JOB["parameters"] | MADE[name])


def test_every_model_of_the_job_comes_along():
    assert shipped_models() == sorted(MADE)


@pytest.mark.parametrize("name", shipped_models())
def test_it_is_small_and_built_as_models_are_by_default(name):
    """Train it anew, by the job, when the defaults have changed."""
    card, settings = read_card(name), settings_of(name)
    assert card.model == settings.model
    assert card.settings == settings.model_settings(len(card.classes))
    free = ("resume", "accelerator")
    told = {key: value for key, value in card.training["settings"].items() if key not in free}
    assert told.items() <= vars(settings).items()
    assert checkpoint_file(name).stat().st_size < 3_000_000


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped_models())
def test_it_is_good_on_patients_that_nobody_has_seen(name):
    model, card = load_checkpoint(name)
    settings = TrainSettings(**MADE[name] | {"patients": 3, "validation_patients": 2, "split_seed": 2026})
    unseen = open_dataset(settings)
    overall = summarise(evaluate_cases(model, unseen.validation, card.grid, unseen.classes))["overall"]
    assert overall["dice"]["mean"] > LEAST[name]


def test_a_file_of_its_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("phantom-heart").write_bytes(b"mine")
    assert exists("phantom-heart")
    assert checkpoint_file("phantom-heart") == Path("phantom-heart")
    with pytest.raises(CheckpointError, match=r"or a model that comes along \(phantom-"):
        checkpoint_file("phantom-hart")
