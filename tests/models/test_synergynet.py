import torch

from l2gnet.models import build_model

SMALL = {"width": 4, "depth": 3, "codes": 6, "code_dim": 8}


def test_both_kinds_of_features_look_at_each_other():
    torch.manual_seed(0)
    model = build_model("synergynet", **SMALL).train()
    for _ in range(30):  # until the running statistics of the normalisation have settled
        model.trace(torch.randn(4, 1, 32, 32))
    model.eval()
    calls = []
    for name in ("continuous_to_discrete", "discrete_to_continuous"):
        layer = getattr(model.bottleneck, name)
        layer.register_forward_pre_hook(lambda _, inputs, name=name: calls.append((name, *inputs)))
    latent = model.trace(torch.randn(2, 1, 32, 40)).latent
    (first, continuous, discrete), (second, *swapped) = calls
    assert (first, second) == ("continuous_to_discrete", "discrete_to_continuous")
    assert swapped[0] is discrete
    assert swapped[1] is continuous
    torch.testing.assert_close(discrete, model.bottleneck.codebook.vectors[latent.codes.flatten(1)])
    assert not torch.allclose(continuous, discrete)
    for layer in latent.attention:
        assert layer.matrix().shape == (2, 1, 20, 20)
        torch.testing.assert_close(layer.matrix().sum(-1), torch.ones(2, 1, 20))
    # Tokens of one code attend alike; the continuous tokens that they came from do not.
    same = latent.codes[0].flatten() == latent.codes[0].flatten().mode().values
    rows = latent.attention[1].matrix()[0, 0, same]
    torch.testing.assert_close(rows, rows[:1].expand_as(rows))
    rows = latent.attention[0].matrix()[0, 0, same]
    assert not torch.allclose(rows, rows[:1].expand_as(rows))
