import torch

from l2gnet.models import build_model

SMALL = {"width": 4, "depth": 3}


def test_gates_are_shares_of_each_skip():
    torch.manual_seed(0)
    model = build_model("attn_unet", **SMALL).eval()
    gates = model.trace(torch.randn(2, 1, 36, 44)).gates
    assert [tuple(gate.shape) for gate in gates] == [(2, 1, 9, 11), (2, 1, 18, 22), (2, 1, 36, 44)]
    for gate in gates:
        assert gate.min() >= 0
        assert gate.max() <= 1
        assert gate.std() > 0


def test_a_closed_gate_lets_nothing_through():
    model = build_model("attn_unet", **SMALL).eval()
    image = torch.randn(2, 1, 32, 32)
    up = model.decoder[-1]
    features, skip = torch.randn(2, 8, 16, 16), torch.randn(2, 4, 32, 32)
    opened = up(features, skip)[0]
    up.gate.psi[1].bias.data.fill_(-1e4)
    closed, let_through = up(features, skip)
    assert let_through.max() == 0
    assert not torch.equal(closed, opened)
    torch.testing.assert_close(closed, up(features, torch.zeros_like(skip))[0])
    assert torch.isfinite(model(image)).all()


def test_models_without_gates_trace_none():
    assert build_model("unet", **SMALL).trace(torch.randn(2, 1, 32, 32)).gates == []
