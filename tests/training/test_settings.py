import dataclasses
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from l2gnet.errors import ConfigError
from l2gnet.models import MODELS, Variant, build_model, model_options
from l2gnet.models.settings import _MATCHED_ONLY
from l2gnet.training.settings import TrainSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"model": "vnet"}, "model must be one of unet, attn_unet, vq_unet, transunet, synergynet, l2gnet, got 'vnet'"),
        ({"data": "acdc"}, "data_dir must be the folder of the acdc data, got ''"),
        ({"data": "decathlon", "data_dir": "nowhere"}, "data_dir must be the folder of the decathlon data, got 'nowh"),
        ({"window": "-125"}, "window must be two numbers, the lower first, as \"-125 275\", got '-125'"),
        ({"window": "275 -125"}, "window must be two numbers, the lower first"),
        ({"window": "0 inf"}, "window must be two numbers"),
        ({"window": "0, 1"}, "window must be two numbers"),
        ({"spacing_mm": -1.0}, "spacing_mm must be 0 or more"),
        ({"data": "phantom-abdomen", "patients": 8}, "validation_patients must be below patients = 8, got 8"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0 and finite, got nan"),
        ({"weight_decay": -1.0}, "weight_decay must be 0 or more"),
        ({"size_px": 16}, "size_px must be at least 32 at depth 4, got 16"),
        ({"devices": 3, "nodes": 2}, "batch_size must be a multiple of devices x nodes = 6, got 16"),
        ({"accumulate": True, "devices": 2}, "accumulate must be off where processes share a batch, .* = 2, got True"),
        ({"heads": 3}, "heads must be a divisor of code_dim = 32, got 3"),
        ({"variant": "published", "heads": 3}, "heads must be a divisor of the published code_dim = 256, got 3"),
        ({"variant": "published", "depth": 1, "size_px": 16}, "size_px must be at least 32 at depth 4, got 16"),
        (
            {"relation": "symmetric", "readout": "grid", "references": 8},
            "references must be 36, one for each token, for readout 'grid' .* got 8",
        ),
        ({"readout": "grid", "relation": "attention"}, "readout must be barycentric for relation 'attention'"),
        ({"readout": "grid", "relation": "send-receive"}, "readout must be barycentric for relation 'send-receive'"),
        (
            {"positions": "relative", "relation": "mean"},
            "positions must be none or absolute for relation 'mean', got 'relative'",
        ),
        ({"tokens_at": 3}, "tokens_at must be 0, or a power of two from 2 to 2\\^4 at this depth, got 3"),
        ({"tokens_at": 1}, "tokens_at must be 0, or a power of two from 2 to 2\\^4 at this depth, got 1"),
        ({"tokens_at": 32}, "tokens_at must be 0, or a power of two from 2 to 2\\^4"),
        ({"size_px": 100}, "size_px must be a multiple of 16, the pixels along a token, got 100"),
        ({"size_px": 98, "tokens_at": 4}, "size_px must be a multiple of 4, .* got 98"),
        ({"recipe": "transunet", "field_shift": 0.3}, "field_shift must be 0 for the recipe transunet, .* got 0.3"),
        ({"variant": "published", "cost": "dot"}, "cost must be 'cosine' for published models, .* got 'dot'"),
        ({"channel": "T2"}, "channel must be empty for phantom, which has one channel, got 'T2'"),
        ({"width": 10**6}, "width must be at most 4096, got 1000000"),
        ({"width": 512, "depth": 4}, "width must be at most 4096 / 2\\^depth"),
        ({"depth": 10**9, "size_px": 64}, "depth must be at most 4096"),
        ({"codes": 10**9}, "codes must be at most 1048576"),
        ({"references": 10**9}, "references must be at most 4096"),
        ({"epsilon": 1e-9}, "epsilon must be from 0.0001 to 1000"),
        ({"epsilon": float("nan")}, "epsilon must be from 0.0001 to 1000, .* got nan"),
        ({"epsilon_receive": float("inf")}, "epsilon_receive must be from 0.0001 to 1000"),
        ({"commitment": float("nan")}, "commitment must be 0 or more, and finite, got nan"),
        ({"weight_decay": float("inf")}, "weight_decay must be at most 2147483647, got inf"),
        ({"spacing_mm": 1e-9}, "spacing_mm must be 0 or more, and if more from 0.01 to 100"),
        ({"spacing_mm": float("nan")}, "spacing_mm must be 0 or more"),
        ({"size_px": 10**6}, "size_px must be at most 4096, got 1000000"),
        ({"seed": 2**40}, "seed must be at most 2147483647"),
        ({"split_seed": -1}, "split_seed must be 0 or more"),
        ({"epochs": 2**80}, "epochs must be at most 2147483647"),
        ({"devices": -1}, "devices must be at least 1, got -1"),
        ({"validation_patients": 40}, "validation_patients must be below patients = 40, got 40"),
        ({"pretrained": "w.npz"}, "pretrained must be empty for any model but published transunet, got 'w.npz'"),
        (
            {"model": "transunet", "variant": "published", "pretrained": "w.npz"},
            "pretrained must be a file of weights, got 'w.npz'",
        ),
        ({"epoch": 3}, "unknown setting 'epoch'; did you mean 'epochs'"),
        ({"epochs": 2.0}, "epochs must be of type int, got 2.0 of type float"),
        ({"flips": 1}, "flips must be of type bool, got 1 of type int"),
        ({"epochs": True}, "epochs must be of type int, got True of type bool"),
    ],
)
@pytest.mark.usefixtures("as_a_user")
def test_a_wrong_setting_is_refused_with_the_rule(values, message):
    with pytest.raises(ConfigError, match=message):
        TrainSettings.from_mapping(values)


def test_what_a_model_does_not_take_is_not_asked_of_it():
    assert TrainSettings(model="vq_unet", code_dim=30).heads == 4  # which only l2gnet cuts its codes into
    assert TrainSettings(relation="none", code_dim=30).heads == 4
    with pytest.raises(ConfigError, match="heads must be a divisor of code_dim = 30, got 4"):
        TrainSettings(code_dim=30)


@pytest.mark.parametrize("model", MODELS)
def test_published_models_have_no_say_in_what_is_refused_for_them(model):
    assert not set(_MATCHED_ONLY) & set(model_options(model, "published"))


def test_whole_numbers_serve_as_floats():
    assert TrainSettings.from_mapping({"spacing_mm": 2}).spacing_mm == 2.0


def test_a_window_is_two_numbers():
    assert TrainSettings(window="-125 275").window_range == (-125.0, 275.0)
    assert TrainSettings().window_range is None


def test_settings_survive_the_trip_through_a_mapping():
    chosen = TrainSettings(model="unet", epochs=3)
    assert TrainSettings.from_mapping(dataclasses.asdict(chosen)) == chosen


@pytest.mark.parametrize("variant", get_args(Variant))
@pytest.mark.parametrize("model", MODELS)
def test_model_settings_build_the_model(model, variant):
    settings = TrainSettings(model=model, variant=variant)
    build_model(model, **settings.model_settings(classes=4))


@settings(max_examples=25, deadline=None)
@given(
    model=st.sampled_from(MODELS),
    relation=st.sampled_from(["send-receive", "symmetric", "attention", "mean", "none"]),
    positions=st.sampled_from(["none", "absolute", "relative"]),
    readout=st.sampled_from(["barycentric", "grid"]),
    size_px=st.integers(2, 33),
    depth=st.integers(1, 4),
    tokens_at=st.sampled_from([0, 1, 2, 4, 8, 12]),
    references=st.sampled_from([1, 4, 9, 16]),
    heads=st.integers(1, 4),
    codes=st.sampled_from([0, 1, 8]),
)
def test_what_the_settings_allow_trains_a_batch_of_one_slice(model, size_px, **chosen):
    """Contradictions are refused before data is prepared: what is not refused runs, whatever it learns."""
    try:
        allowed = TrainSettings(model=model, size_px=size_px, width=2, code_dim=4, **chosen)
    except ConfigError:
        return
    built = build_model(model, **allowed.model_settings(3)).train()
    logits = built(torch.rand(1, 1, size_px, size_px))
    logits.square().mean().backward()
    assert logits.shape == (1, 3, size_px, size_px)
