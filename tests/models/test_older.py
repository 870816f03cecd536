"""Files that version 0.1.0 wrote, of models with random weights, and what it predicted with them for one image."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from l2gnet.models import MODELS, build_model
from l2gnet.models.card import count_parameters, read_card
from l2gnet.models.checkpoint import load_checkpoint, save_checkpoint
from l2gnet.models.older import name_today

FILES = Path(__file__).parent / "version_0_1"


@pytest.mark.parametrize("name", MODELS)
def test_a_checkpoint_of_version_0_1_predicts_as_it_did(name, tmp_path):
    told = load_file(FILES / "logits.safetensors")
    model, card = load_checkpoint(FILES / f"{name}.safetensors", expect=name)
    save_checkpoint(tmp_path / "again.safetensors", model, card)
    again, _ = load_checkpoint(tmp_path / "again.safetensors")
    with torch.inference_mode():
        torch.testing.assert_close(model(told["image"]), told[name], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(again(told["image"]), told[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_the_parameters_of_old_and_new_files_are_counted_without_their_weights(name, tmp_path):
    path = FILES / f"{name}.safetensors"
    model, card = load_checkpoint(path)
    save_checkpoint(tmp_path / "again.safetensors", model, card)
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert count_parameters(path) == count_parameters(tmp_path / "again.safetensors") == counted
    assert read_card(path) == read_card(tmp_path / "again.safetensors")


@pytest.mark.parametrize("name", ["attn_unet", "transunet"])  # the published models with blocks of their own
def test_every_weight_of_a_published_model_has_a_name_today(name):
    old = json.loads((FILES / "published.json").read_text())[name]
    with torch.device("meta"):
        model = build_model(name, variant="published")
    assert {name_today(weight): shape for weight, shape in old.items()} == {
        weight: list(tensor.shape) for weight, tensor in model.state_dict().items()
    }
