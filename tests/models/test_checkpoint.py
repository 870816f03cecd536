import io
import json
import os
import pickle
import resource
import zipfile
from dataclasses import asdict, replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from l2gnet.data.grid import Grid
from l2gnet.data.regions import Regions
from l2gnet.errors import CheckpointError
from l2gnet.models import MODELS, build_model, model_options
from l2gnet.models.card import ModelCard, count_parameters, read_card
from l2gnet.models.checkpoint import load_checkpoint, save_checkpoint
from l2gnet.training.resume import require_resumable

SETTINGS = {"classes": 4, "width": 4, "depth": 2, "codes": 8, "code_dim": 8, "references": 4}
SETTINGS |= {"relation": "symmetric", "heads": 1}  # which older cards do not say
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


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_neither_written_nor_read(saved, number):
    path, model = saved
    before = path.read_bytes()
    with torch.no_grad():
        model.head.weight[0, 0] = number
    with pytest.raises(CheckpointError, match=r"weights must be finite, but head.weight holds NaN .*; train it again"):
        save_checkpoint(path, model, CARD)
    assert path.read_bytes() == before
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    save_file({name: weight.contiguous() for name, weight in model.state_dict().items()}, path, metadata=header)
    with pytest.raises(CheckpointError, match=r"model.safetensors: .* head.weight holds NaN or infinity"):
        load_checkpoint(path)


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


@pytest.mark.slow
def test_a_published_model_makes_the_trip_as_such(tmp_path):
    settings = {"classes": 4, "variant": "published", "size_px": 32}
    model = build_model("transunet", **settings).eval()
    save_checkpoint(tmp_path / "model.safetensors", model, replace(CARD, model="transunet", settings=settings))
    again, _ = load_checkpoint(tmp_path / "model.safetensors")
    image = torch.randn(1, 1, 32, 48)
    with torch.inference_mode():
        torch.testing.assert_close(again(image), model(image), rtol=0, atol=0)


def test_a_run_folder_stands_for_its_model(saved):
    path, model = saved
    assert read_card(path.parent) == CARD
    again, card = load_checkpoint(path.parent)
    assert card == CARD
    torch.testing.assert_close(again.state_dict(), model.state_dict())
    with pytest.raises(CheckpointError, match=r"modle\.safetensors: a checkpoint must .*; did you mean .*model\.safet"):
        read_card(path.with_name("modle.safetensors"))
    path.unlink()
    with pytest.raises(
        CheckpointError, match=r"a run folder with model\.safetensors, or .* \(phantom-.*\), found none$"
    ):
        read_card(path.parent)


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_counted_without_the_weights(tmp_path, name):
    settings = {key: value for key, value in SETTINGS.items() if key in model_options(name)}
    model = build_model(name, **settings)
    save_checkpoint(tmp_path / "model.safetensors", model, replace(CARD, model=name, settings=settings))
    assert count_parameters(tmp_path) == sum(parameter.numel() for parameter in model.parameters())


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
        (lambda path: save_file({"w": torch.zeros(1)}, path), "has the format l2gnet-2, got None"),
        (
            lambda path: save_file({"w": torch.zeros(1)}, path, {"format": "l2gnet-2", "card": "{}"}),
            "the model card is damaged",
        ),
        (
            lambda path: save_file(
                {"w": torch.zeros(1)},
                path,
                {"format": "l2gnet-2", "card": json.dumps(asdict(CARD))},
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


def forged(path, weights=None, layout="l2gnet-2", **changes):
    """A checkpoint file with some of the card's JSON changed."""
    card = json.loads(json.dumps(asdict(CARD))) | changes
    weights = {name: tensor.contiguous() for name, tensor in (weights or {"w": torch.zeros(1)}).items()}
    save_file(weights, path, {"format": layout, "card": json.dumps(card)})
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": 5}, "model cannot be 5"),
        ({"settings": []}, "settings cannot be"),
        ({"settings": SETTINGS | {"colour": 1}}, "settings cannot be 'colour'"),
        ({"settings": SETTINGS | {"width": 4.0}}, "width cannot be 4.0"),
        ({"settings": SETTINGS | {"epsilon": float("nan")}}, "epsilon cannot be nan"),
        ({"settings": SETTINGS | {"cost": "price"}}, "cost cannot be 'price'"),
        ({"classes": ["background"]}, "classes cannot be"),
        ({"classes": [1, 2, 3, 4]}, "classes cannot be"),
        ({"grid": {"spacing_mm": 0.0, "size_px": 10**9, "window": None}}, "size_px cannot be 1000000000"),
        ({"grid": {"spacing_mm": -1.0, "size_px": 32, "window": None}}, "spacing_mm cannot be -1.0"),
        ({"grid": {"spacing_mm": 1.0, "size_px": 32, "window": [5, 5]}}, "window cannot be"),
        ({"grid": {"spacing_mm": 1.0, "size_px": 32, "window": None, "windowed": ["CT"]}}, "windowed cannot be"),
        ({"channels": ["T2", "ADC"]}, r"channels cannot be \['T2', 'ADC'\]"),  # the settings build a model for one
        ({"channels": [1]}, "channels cannot be"),
        ({"channels": "T"}, "channels cannot be 'T'"),
        ({"plane": "diagonal"}, "plane cannot be 'diagonal'"),
        ({"training": 5}, "training cannot be 5"),
        ({"training": {"settings": [1]}}, r"settings cannot be \[1\]"),
        ({"training": {"settings": None}}, "settings cannot be None"),
        ({"training": {"familiar": "all"}}, "familiar cannot be 'all'"),
        ({"training": {"parts": "2"}}, "parts cannot be '2'"),
        ({"training": {"trained_on": [[]]}}, r"trained_on cannot be \[\[\]\]"),
        ({"training": {"metrics": "2"}}, "metrics cannot be '2'"),
        ({"training": {"metrics": {"cases": 1, "structures": {}, "overall": {}}}}, "'dice'"),
        ({"training": {"metrics": {"cases": 1, "structures": [], "overall": {}}}}, "metrics cannot be"),
        ({"regions": []}, r"regions cannot be \[\]"),
        ({"regions": None}, "regions cannot be None"),
        ({"classes": ["a"], "settings": SETTINGS | {"classes": 1}}, "classes cannot be"),
        ({"classes": list(map(str, range(256))), "settings": SETTINGS | {"classes": 256}}, "classes cannot be"),
    ],
)
def test_a_card_is_read_with_suspicion(tmp_path, changes, message):
    with pytest.raises(CheckpointError, match=f"the model card is damaged \\({message}"):
        load_checkpoint(forged(tmp_path / "model.safetensors", **changes))


def test_a_model_that_this_version_has_not_is_not_called_damaged(tmp_path):
    path = forged(tmp_path / "model.safetensors", model="resnet")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: this l2gnet has no model 'resnet'; use the one"):
        load_checkpoint(path)


def test_a_card_from_before_channels_had_names_is_of_one(tmp_path):
    path = tmp_path / "model.safetensors"
    card = asdict(CARD) | {"grid": {"spacing_mm": 1.0, "size_px": 32, "window": [0, 1]}}
    del card["channels"]
    save_file({"w": torch.zeros(1)}, path, {"format": "l2gnet-2", "card": json.dumps(card)})
    assert (read_card(path).channels, read_card(path).grid) == (("image",), Grid(1.0, 32, (0.0, 1.0)))


@pytest.mark.parametrize(
    "asked", [{"width": 10**9}, {"width": 4096}, {"codes": 10**10}, {"depth": 62}, {"depth": 10**6}, {"width": -4}]
)
def test_a_small_file_cannot_ask_for_a_large_model(saved, asked):
    path, model = saved
    forged(path, model.state_dict(), settings=SETTINGS | asked)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match="the weights do not fit the model of the card"):
        load_checkpoint(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024  # KiB; width 4096 is 4 GiB


@pytest.mark.parametrize(("name", "asked"), [("transunet", {"layers": 10**9}), ("unet", {"width": 0, "depth": 10**9})])
def test_a_small_file_cannot_ask_for_a_deep_model(tmp_path, name, asked):
    path = forged(tmp_path / "model.safetensors", model=name, settings={"classes": 4} | asked)
    with pytest.raises(CheckpointError, match=r"(layers|depth) must be at most the number of weights, 1, found 1000"):
        load_checkpoint(path)


def test_one_weight_of_another_shape_is_named(saved):
    path, model = saved
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights["bottleneck.mapper.references"] = torch.zeros(5, 8)
    forged(path, weights)
    with pytest.raises(CheckpointError, match=r"bottleneck\.mapper\.references must have shape .* found \(5, 8\)"):
        load_checkpoint(path)


class Hostile:
    """What a stranger's pickle can be: opened without care, it runs a command."""

    def __init__(self, sign):
        self.sign = sign

    def __reduce__(self):
        return os.mkdir, (str(self.sign),)


def test_the_hostile_pickle_is_a_real_one(tmp_path):
    pickle.loads(pickle.dumps(Hostile(tmp_path / "owned")))
    assert (tmp_path / "owned").exists()


def test_a_pickle_never_runs(tmp_path):
    path = tmp_path / "model.safetensors"
    for data in (pickle.dumps(Hostile(tmp_path / "owned")), zipped(Hostile(tmp_path / "owned"))):
        path.write_bytes(data)
        with pytest.raises(CheckpointError):
            load_checkpoint(path)
    assert not (tmp_path / "owned").exists()


def zipped(value, **settings):
    file = io.BytesIO()
    torch.save(value, file, **settings)
    return file.getvalue()


@pytest.mark.parametrize("hide", ["alone", "beside the weights", "old format", "bare"])
def test_a_hostile_checkpoint_is_not_resumed_from(tmp_path, hide):
    model, path = build_model("l2gnet", **SETTINGS), tmp_path / "last.ckpt"
    state, hostile = {"state_dict": weights_of_lightning(model)}, Hostile(tmp_path / "owned")
    match hide:
        case "alone":
            path.write_bytes(zipped(hostile))
        case "beside the weights":
            path.write_bytes(zipped(state | {"callbacks": hostile}))
        case "old format":
            path.write_bytes(zipped(state | {"callbacks": hostile}, _use_new_zipfile_serialization=False))
        case "bare":
            path.write_bytes(pickle.dumps(hostile))
    with pytest.raises(CheckpointError, match=r"last\.ckpt: a run resumes from a whole checkpoint of its own model"):
        require_resumable(path, task_of(model))
    assert not (tmp_path / "owned").exists()


def task_of(model):
    return torch.nn.ModuleDict({"model": model})


def weights_of_lightning(model):
    return task_of(model).state_dict()


def test_only_a_whole_checkpoint_of_the_same_model_is_resumed_from(tmp_path):
    model, path = build_model("l2gnet", **SETTINGS), tmp_path / "last.ckpt"
    whole = zipped({"state_dict": weights_of_lightning(model)})
    path.write_bytes(whole)
    require_resumable(path, task_of(model))
    with pytest.raises(CheckpointError, match="must have shape"):
        require_resumable(path, task_of(build_model("l2gnet", **SETTINGS | {"codes": 16})))
    middle = whole.index(model.state_dict()["bottleneck.mapper.references"].numpy().tobytes())
    for data, message in [
        (whole[:-100], "not a zip file"),
        (b"", "not a zip file"),
        (whole[:middle] + b"????" + whole[middle + 4 :], "another checksum"),
        (zipped({"weights": {}}), "state_dict"),
        (zipped([1, 2]), "list indices"),
    ]:
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=message):
            require_resumable(path, task_of(model))


def test_a_checkpoint_that_would_unfold_is_not_opened(tmp_path):
    path = tmp_path / "last.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("last/data.pkl", bytes(50 * 2**20))
    assert path.stat().st_size < 2**17
    with pytest.raises(CheckpointError, match="compressed entries"):
        require_resumable(path, task_of(build_model("l2gnet", **SETTINGS)))


def test_a_card_means_what_was_the_default_when_it_was_written(tmp_path):
    settings = {"classes": 4}
    for layout, model, told in (
        ("l2gnet-1", "l2gnet", settings | {"relation": "symmetric", "references": 64, "heads": 1}),
        ("l2gnet-1", "unet", settings),
        ("l2gnet-2", "l2gnet", settings | {"receivers": "codes"}),
    ):
        assert (
            read_card(forged(tmp_path / "a.safetensors", None, layout, model=model, settings=settings)).settings == told
        )


def test_a_card_tells_of_regions_and_damaged_ones_are_refused(tmp_path):
    path, model = tmp_path / "model.safetensors", build_model("unet", classes=2, width=4, depth=2)
    settings = {"classes": 2, "width": 4, "depth": 2}
    card = ModelCard(
        "unet", settings, ("background", "whole", "core"), CARD.grid, regions=Regions(((1, 2), (2,)), (1, 2))
    )
    save_checkpoint(path, model, card)
    assert read_card(path) == load_checkpoint(path)[1] == card
    assert card.labels == ("background", "1: whole", "2: whole + core")
    for labels, painted in [
        ((), ()),  # then there would be three outputs
        (((1, 2),), (1,)),
        (((1, 2), (2,)), (1,)),
        (((1, 2), (2,)), (1, 1)),
        (((1, 2), (255,)), (1, 255)),
        (((1, 2), (0,)), (1, 0)),
    ]:
        save_checkpoint(path, model, replace(card, regions=Regions(labels, painted)))
        with pytest.raises(CheckpointError, match="the model card is damaged"):
            read_card(path)
