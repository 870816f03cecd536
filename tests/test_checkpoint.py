import json
import os
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from l2gnet.checkpoint import ModelCard, load_checkpoint, read_card, save_checkpoint
from l2gnet.data.grid import Grid
from l2gnet.errors import CheckpointError
from l2gnet.models import MODELS, build_model, model_options

SETTINGS = {"classes": 4, "width": 4, "depth": 2, "codes": 8, "code_dim": 8, "references": 4}
CARD = ModelCard("l2gnet", SETTINGS, ("background", "a", "b", "c"), Grid(1.5, 32, (-125.0, 275.0)), {"epochs": 1})


@pytest.fixture
def saved(tmp_path):
    model = build_model("l2gnet", **SETTINGS).eval()
    save_checkpoint(tmp_path / "model.safetensors", model, CARD)
    return tmp_path / "model.safetensors", model


def test_a_model_comes_back_as_it_was(saved):
    path, model = saved
    again, card = load_checkpoint(path, expect="l2gnet")
    assert card == CARD
    assert not again.training
    image = torch.randn(1, 1, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(again(image), model(image))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_makes_the_trip(tmp_path, name):
    settings = {key: value for key, value in SETTINGS.items() if key in model_options(name)}
    model = build_model(name, **settings)
    model.trace(torch.randn(4, 1, 32, 32))  # in training mode: codebooks and running statistics move
    save_checkpoint(tmp_path / "model.safetensors", model.eval(), replace(CARD, model=name, settings=settings))
    again, _ = load_checkpoint(tmp_path / "model.safetensors", expect=name)
    image = torch.randn(1, 1, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(again(image), model(image), rtol=0, atol=0)


def test_only_one_file_is_left(saved):
    assert [file.name for file in saved[0].parent.iterdir()] == ["model.safetensors"]


def test_a_checkpoint_of_another_model_is_refused(saved):
    with pytest.raises(CheckpointError, match=r"holds a model 'l2gnet', expected 'unet'"):
        load_checkpoint(saved[0], expect="unet")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "must be a safetensors file"),
        (lambda path: path.write_bytes(b""), "must be a safetensors file"),
        (lambda path: path.unlink(), "must be a safetensors file"),
        (lambda path: save_file({"w": torch.zeros(1)}, path), "has the format l2gnet-1, got None"),
        (
            lambda path: save_file({"w": torch.zeros(1)}, path, {"format": "l2gnet-1", "card": "{}"}),
            "the model card is damaged",
        ),
        (
            lambda path: save_file(
                {"w": torch.zeros(1)},
                path,
                {"format": "l2gnet-1", "card": json.dumps({**CARD.__dict__, "grid": CARD.grid.__dict__})},
            ),
            "weights do not fit the model",
        ),
    ],
)
def test_a_damaged_checkpoint_ends_in_one_error(saved, damage, message):
    path, _ = saved
    damage(path)
    with pytest.raises(CheckpointError, match=message) as error:
        load_checkpoint(path)
    assert str(path) in str(error.value)


def test_a_pickle_never_runs(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(CheckpointError):
        read_card(path)
    assert not (tmp_path / "owned").exists()
