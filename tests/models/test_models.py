import dataclasses

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

import l2gnet
from l2gnet.errors import ConfigError
from l2gnet.models import MODELS, build_model, model_options, model_types
from l2gnet.models.settings import ModelSettings

SMALL = {"width": 4, "depth": 3}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [(32, 32), (40, 24), (33, 51), (100, 116)])
def test_images_become_logits(name, size):
    model = build_model(name, classes=5, channels=2, **SMALL).eval()
    assert model(torch.randn(2, 2, *size)).shape == (2, 5, *size)


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_learns(name):
    torch.manual_seed(0)
    model = build_model(name, deep_supervision=True, **SMALL).train()
    trace = model.trace(torch.randn(4, 1, 48, 48))
    loss = trace.logits.square().mean() + sum(side.square().mean() for side in trace.side_logits)
    loss.backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still == []


@pytest.mark.parametrize(
    ("name", "own"),
    [*((name, {}) for name in MODELS), *(("l2gnet", {"relation": r}) for r in ("symmetric", "attention", "mean"))],
)
def test_a_model_learns_from_the_tensors_of_monai_as_from_others(name, own):
    gradients = []
    for kind in (torch.as_tensor, MetaTensor):
        torch.manual_seed(0)
        model = build_model(name, **own, **SMALL).train()
        model(kind(torch.rand(2, 1, 32, 32))).square().mean().backward()
        assert {type(state) for state in model.state_dict().values()} == {torch.Tensor}
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_deep_supervision_gives_coarser_logits_while_training():
    model = build_model("unet", deep_supervision=True, **SMALL)
    sides = model.train().trace(torch.randn(2, 1, 32, 32)).side_logits
    assert [tuple(side.shape[2:]) for side in sides] == [(8, 8), (16, 16)]
    assert model.eval().trace(torch.randn(2, 1, 32, 32)).side_logits == []


def test_l2gnet_traces_codes_and_plan():
    model = build_model("l2gnet", codes=10, code_dim=8, references=6, heads=2, **SMALL).eval()
    latent = model.trace(torch.randn(3, 1, 32, 32)).latent
    assert latent.codes.shape == (3, 4, 4)
    assert latent.codes.max() < 10
    distinct = max(len(image.unique()) for image in latent.codes)
    assert latent.transport.plan.shape == (3 * 2, distinct, 6)
    assert latent.transport.converged.all()


@pytest.mark.parametrize(("relation", "sets"), [("symmetric", 1), ("send-receive", 2)])
def test_the_mapper_adds_only_references_to_a_quantised_unet(relation, sets):
    few = build_model("l2gnet", codes=10, code_dim=8, relation=relation, references=6, **SMALL)
    many = build_model("l2gnet", codes=10, code_dim=8, relation=relation, references=26, **SMALL)
    count = [sum(p.numel() for p in model.parameters()) for model in (few, many)]
    assert count[1] - count[0] == sets * 20 * 8


def test_all_models_share_the_backbone():
    backbones = [
        {
            name: p.shape
            for name, p in build_model(m, **SMALL).named_parameters()
            if not name.startswith("bottleneck") and ".gate." not in name
        }
        for m in MODELS
    ]
    assert all(backbone == backbones[0] for backbone in backbones)


def count(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "options", "parameters"),
    [
        ("unet", {"channels": 3, "classes": 1}, 31_037_633),  # with batch normalisation, as it is usually written
        # The well-known code has a bias, without effect, before each normalisation: of two convolutions at each of
        # the levels 64 to 1024, of two and one that follows an upsampling at 512 to 64.
        ("attn_unet", {"channels": 3, "classes": 1}, 34_878_573 - (2 * 1984 + 3 * 960)),
        ("transunet", {"classes": 9}, 105_277_081),
    ],
)
def test_published_models_have_the_size_of_their_source(name, options, parameters):
    assert count(build_model(name, variant="published", **options)) == parameters


def test_published_models_with_codes_have_the_backbone_of_published_unet():
    unet = build_model("unet", variant="published").state_dict()
    for name in ("vq_unet", "synergynet", "l2gnet"):
        model = build_model(name, variant="published")
        assert model.codebook.vectors.shape == (1024, 256)
        assert unet.keys() <= model.state_dict().keys()


def test_l2gnet_is_hardly_larger_than_unet():
    assert count(build_model("l2gnet")) < 1.05 * count(build_model("unet"))
    published = [count(build_model(name, variant="published")) for name in ("l2gnet", "unet")]
    assert published[0] < 1.05 * published[1]


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="unknown model 'vnet'; did you mean 'unet'"):
        build_model("vnet")
    with pytest.raises(ConfigError, match="model 'unet' takes no setting codes; there are channels"):
        build_model("unet", codes=3)
    with pytest.raises(ConfigError, match=r"model 'l2gnet' \(published\) takes no setting width; there are channels"):
        build_model("l2gnet", variant="published", width=8)
    with pytest.raises(ConfigError, match="unknown variant 'big'; there are matched, published"):
        build_model("unet", variant="big")
    assert "codes" in model_options("l2gnet")


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"relation": "two"}, "relation must be one of send-receive, symmetric, attention, mean, none, got 'two'"),
        ({"relation": None}, "relation must be one of .*, got None"),
        ({"receivers": "token"}, "receivers must be one of tokens, codes, got 'token'"),
        ({"positions": "abs"}, "positions must be one of none, absolute, relative, got 'abs'"),
        ({"variant": "published", "relation": "two"}, "relation must be one of"),
        ({"deep_supervision": "false"}, "deep_supervision must be of type bool, got 'false'"),
        ({"codes": None}, "codes must be of type int, got None"),
        ({"codes": True}, "codes must be of type int, got True"),
        ({"tokens_at": "8"}, "tokens_at must be of type int, got '8'"),
        ({"commitment": "0.1"}, "commitment must be of type float, got '0.1'"),
    ],
)
def test_a_value_that_no_setting_has_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        build_model("l2gnet", **settings)


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("l2gnet", {"codes": -5}, "model 'l2gnet': a codebook needs codes and a dimension of at least 1, got -5"),
        ("l2gnet", {"epsilon": -1.0}, "model 'l2gnet': epsilon must be"),
        ("l2gnet", {"heads": 3}, "model 'l2gnet': heads must divide the code dimension 64, got 3"),
        ("vq_unet", {"codes": 0}, "model 'vq_unet': a codebook needs codes"),
        ("l2gnet", {"code_dim": 0, "codes": 0, "relation": "none"}, "code_dim must be at least 1, got 0"),
        ("transunet", {"layers": -1}, "layers must be at least 1, got -1"),
        ("transunet", {"size_px": 0}, "size_px must be at least 1, got 0"),
    ],
)
def test_what_a_part_of_a_model_refuses_is_said_of_the_model(name, settings, message):
    with pytest.raises(ConfigError, match=message):
        build_model(name, **settings)


def test_settings_have_the_choices_of_the_model_that_they_build():
    types = model_types("l2gnet")
    fields = {field.name: field.type for field in dataclasses.fields(ModelSettings)}
    shared = sorted(fields.keys() & types)
    assert [fields[name] for name in shared] == [types[name] for name in shared]


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize("name", MODELS)
def test_sizes_are_counts(name):
    for option in ("channels", "classes", "width", "depth"):
        with pytest.raises(ConfigError, match=f"{option} must be at least 1, got 0"):
            build_model(name, **{option: 0})
        with pytest.raises(ConfigError, match=rf"{option} must be of type int, got 4\.0"):
            build_model(name, **{option: 4.0})
    assert build_model(name, classes=np.int64(3), **SMALL).head.out_channels == 3


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", [(32, 32), (1, 32, 32), (1, 1, 8, 32, 32)])
def test_images_come_as_a_batch(name, shape):
    with pytest.raises(ValueError, match=rf"images must have shape \(B, C, H, W\), got \({shape[0]}, .*; give a batch"):
        build_model(name, **SMALL)(torch.rand(shape))


def test_an_image_that_does_not_fit_is_refused():
    model = build_model("unet", **SMALL).eval()
    with pytest.raises(ValueError, match="at least 8 x 8 pixels, got 4 x 32; pad the image"):
        model(torch.randn(1, 1, 4, 32))
    with pytest.raises(ValueError, match="takes 1 image channel"):
        model(torch.randn(1, 3, 32, 32))


def test_public_names():
    for name in l2gnet.__all__:
        assert getattr(l2gnet, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = l2gnet.nothing
