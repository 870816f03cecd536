import dataclasses
from typing import get_args

import pytest

from l2gnet.errors import ConfigError
from l2gnet.models import MODELS, Variant, build_model
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


def test_whole_numbers_serve_as_floats():
    assert TrainSettings.from_mapping({"spacing_mm": 2}).spacing_mm == 2.0


def test_a_window_is_two_numbers():
    assert TrainSettings(window="-125 275").window_range == (-125.0, 275.0)
    assert TrainSettings().window_range is None


def test_settings_survive_the_trip_through_a_mapping():
    settings = TrainSettings(model="unet", epochs=3)
    assert TrainSettings.from_mapping(dataclasses.asdict(settings)) == settings


@pytest.mark.parametrize("variant", get_args(Variant))
@pytest.mark.parametrize("model", MODELS)
def test_model_settings_build_the_model(model, variant):
    settings = TrainSettings(model=model, variant=variant)
    build_model(model, **settings.model_settings(classes=4))
