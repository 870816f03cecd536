import torch

from l2gnet.models import build_model

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
    assert bottleneck.positions(4, 4) is bottleneck.position
    ramp = torch.arange(4.0).expand(1, 32, 4, 4)
    bottleneck.position.data.copy_(ramp)
    wide = bottleneck.positions(6, 8)
    assert wide.shape == (1, 32, 6, 8)
    torch.testing.assert_close(wide[0, 0, 3], torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]))
