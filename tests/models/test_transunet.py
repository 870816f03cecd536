import pytest
import torch

from l2gnet.models import build_model
from l2gnet.models.blocks.resnet import ResNetEncoder
from l2gnet.models.blocks.transformer import resized_positions

SMALL = {"width": 4, "depth": 3, "size_px": 32, "layers": 2}


def test_every_pixel_sees_every_other():
    torch.manual_seed(0)
    bottleneck = build_model("transunet", **SMALL).eval().bottleneck
    features = torch.randn(1, 32, 4, 4, requires_grad=True)
    bottleneck(features).features[0, :, 0, 0].square().sum().backward()
    assert (features.grad.abs().sum(dim=1) > 0).all()


def test_there_is_a_map_for_each_layer():
    attention = build_model("transunet", **SMALL).eval().trace(torch.randn(2, 1, 32, 40)).latent.attention
    assert len(attention) == 2
    for layer in attention:
        assert layer.matrix().shape == (2, 2, 20, 20)
        torch.testing.assert_close(layer.matrix().sum(-1), torch.ones(2, 2, 20))


def test_positions_are_learnt_for_one_size_and_interpolated_for_others():
    bottleneck = build_model("transunet", **SMALL).bottleneck
    assert bottleneck.position.shape == (1, 32, 4, 4)
    assert resized_positions(bottleneck.position, 4, 4) is bottleneck.position
    wide = resized_positions(torch.arange(4.0).expand(1, 32, 4, 4), 6, 8)
    assert wide.shape == (1, 32, 6, 8)
    torch.testing.assert_close(wide[0, 0, 3], torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_it_can_be_cast_and_sees_images_of_other_sizes(dtype):
    model = build_model("transunet", **SMALL).eval()
    images = torch.rand(1, 1, 48, 40)
    expected = model(images)
    torch.testing.assert_close(model.to(dtype)(images.to(dtype)), expected.to(dtype), rtol=0.1, atol=0.05)
    places = torch.arange(4.0, dtype=torch.float64).div(3).expand(1, 1, 4, 4)
    assert not torch.equal(resized_positions(places, 6, 8), resized_positions(places.float(), 6, 8).double())


@pytest.fixture(scope="module")
def published():
    torch.manual_seed(0)
    return build_model("transunet", variant="published", classes=5, size_px=64)


@pytest.mark.parametrize("size", [(64, 64), (32, 48), (52, 69)])
def test_the_published_model_takes_images_of_any_size(published, size):
    trace = published.eval().trace(torch.randn(1, 1, *size))
    assert trace.logits.shape == (1, 5, *size)
    h, w = -(-size[0] // 16), -(-size[1] // 16)
    assert trace.latent.features.shape == (1, 768, h, w)
    assert [layer.matrix().shape for layer in trace.latent.attention] == [(1, 12, h * w, h * w)] * 12


def test_every_published_parameter_learns(published):
    trace = published.train().trace(torch.randn(2, 1, 64, 64))
    trace.logits.square().mean().backward()
    still = [n for n, p in published.named_parameters() if not p.grad.abs().sum() > 0]
    assert still == []
    published.zero_grad(set_to_none=True)


def test_a_grey_image_is_the_same_in_three_channels(published):
    grey = torch.randn(1, 1, 64, 64)
    coloured = build_model("transunet", variant="published", classes=5, size_px=64, channels=3).eval()
    coloured.load_state_dict(published.eval().state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(coloured(grey.expand(1, 3, 64, 64)), published(grey))


def test_an_image_too_small_for_the_published_model_is_refused(published):
    with pytest.raises(ValueError, match="at least 32 x 32 pixels, got 16 x 32"):
        published(torch.randn(1, 1, 16, 32))


def test_weights_are_standardised():
    encoder = ResNetEncoder(3)
    for conv in (encoder.conv, encoder.stages[1][0].conv2, encoder.stages[2][0].shortcut[0]):
        stored = conv.parametrizations.weight.original
        stored.data.mul_(10).add_(3)
        variance, mean = torch.var_mean(conv.weight, dim=(1, 2, 3), unbiased=False)
        torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-4, rtol=0)
        torch.testing.assert_close(variance, torch.ones_like(variance), atol=2e-3, rtol=0)
