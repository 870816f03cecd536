import pytest
import torch

from l2gnet import build_model
from l2gnet.errors import ConfigError
from l2gnet.inspection.redundancy import relations
from l2gnet.models import model_options

SMALL = {"classes": 3, "width": 4, "depth": 3, "code_dim": 8, "references": 6, "heads": 2}


@pytest.mark.parametrize(("codes", "receivers"), [(0, "codes"), (16, "codes"), (16, "tokens")])
@pytest.mark.parametrize(
    ("relation", "positions"),
    [
        ("send-receive", "none"),
        ("send-receive", "relative"),
        ("send-receive", "absolute"),
        ("symmetric", "none"),
        ("attention", "none"),
        ("attention", "relative"),
        ("mean", "absolute"),
        ("none", "none"),
    ],
)
def test_whatever_relates_the_tokens_stands_at_the_same_place(relation, positions, codes, receivers):
    torch.manual_seed(0)
    model = build_model("l2gnet", relation=relation, positions=positions, codes=codes, receivers=receivers, **SMALL)
    images = torch.rand(2, 1, 48, 32)
    trace = model.trace(images)
    trace.logits.sin().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    latent = trace.latent
    assert latent.features.shape == (2, 32, 6, 4)
    assert (latent.codes is None) == (codes == 0)
    assert (latent.transport is None) == (relation not in ("send-receive", "symmetric"))
    assert (latent.receiving is latent.transport) == (relation != "send-receive")
    for matrix in relations(model.train(), images).values():  # rows of any relation are shares
        torch.testing.assert_close(matrix.sum(2), torch.ones(len(matrix), 24), atol=2e-3, rtol=0)


@pytest.mark.parametrize(("receivers", "alike"), [("codes", True), ("tokens", False)])
def test_codes_are_sent_and_decoded_whoever_receives(receivers, alike):
    """Of two tokens with one code the decoder hears the same code, and what each is given is its own, or its code's."""
    torch.manual_seed(0)
    model = build_model("l2gnet", codes=4, receivers=receivers, **SMALL)
    assert model.tokens_receive == (receivers == "tokens")
    heard = []
    hook = model.bottleneck.from_tokens.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    latent = model.trace(torch.rand(1, 1, 48, 32)).latent
    hook.remove()
    codes, tokens = latent.codes.flatten(), heard[0][0].flatten(1).T
    same = (codes == codes.mode().values).nonzero().flatten()
    vectors, given = tokens[same].split(8, dim=1)
    assert len(same) > 1
    torch.testing.assert_close(vectors, model.codebook.vectors[codes[same]], atol=1e-5, rtol=0)
    assert torch.allclose(given, given[:1].expand_as(given), atol=1e-5) == alike
    assert latent.transport.plan.shape[1] == len(codes.unique())
    assert latent.receiving.plan.shape[1] == (24 if receivers == "tokens" else len(codes.unique()))


def test_only_what_is_related_tells_one_side_of_an_image_of_the_other():
    """A change in one corner reaches the far corner through the relation, and through nothing else."""
    images = torch.rand(1, 1, 128, 32)
    moved = images.clone()
    moved[..., :8, :] = 0
    reached = {}
    for relation in ("none", "mean", "send-receive", "attention"):
        torch.manual_seed(0)
        model = build_model("l2gnet", relation=relation, codes=0, **SMALL).train()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()  # else the statistics of the batch would reach everywhere
        with torch.no_grad():
            before, after = (model(one)[..., -8:, :] for one in (images, moved))
        reached[relation] = not torch.equal(before, after)
    assert reached == {"none": False, "mean": True, "send-receive": True, "attention": True}


@pytest.mark.parametrize(("tokens_at", "side"), [(0, 4), (8, 4), (4, 8), (2, 16)])
@pytest.mark.parametrize("name", ["l2gnet", "vq_unet", "synergynet"])
def test_tokens_lie_at_the_level_that_is_asked_for(name, tokens_at, side):
    sizes = {option: size for option, size in SMALL.items() if option in model_options(name)}
    model = build_model(name, tokens_at=tokens_at, **sizes)
    trace = model.trace(torch.rand(2, 1, 32, 32))
    assert trace.latent.codes.shape == (2, side, side)
    assert trace.logits.shape == (2, 3, 32, 32)


def test_transformer_layers_too_stand_where_they_are_asked_for():
    model = build_model("transunet", classes=3, width=8, depth=3, tokens_at=4, size_px=32)
    trace = model.trace(torch.rand(2, 1, 32, 32))
    assert trace.latent.features.shape == (2, 32, 8, 8)
    assert trace.logits.shape == (2, 3, 32, 32)


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens_at": 16}, r"tokens_at must be 0, or a power of two from 2 to 2\^3 at this depth, got 16"),
        ({"tokens_at": 3}, r"tokens_at must be 0, or a power of two from 2 to 2\^3 at this depth, got 3"),
        ({"tokens_at": 1}, r"tokens_at must be 0, or a power of two from 2 to 2\^3 at this depth, got 1"),
        (
            {"relation": "none", "positions": "relative"},
            "positions must be none or absolute for relation 'none'",
        ),
        (
            {"relation": "symmetric", "positions": "relative"},
            "positions must be none or absolute for relation 'sym",
        ),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build_model("l2gnet", **SMALL | options)
