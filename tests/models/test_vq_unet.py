import torch

from l2gnet.models import build_model


def test_the_decoder_sees_nothing_but_codes():
    torch.manual_seed(0)
    model = build_model("vq_unet", width=4, depth=3, codes=6, code_dim=8).train()
    for _ in range(30):  # until the running statistics of the normalisation have settled
        model.trace(torch.randn(4, 1, 32, 32))
    bottleneck = model.eval().bottleneck
    seen = []
    bottleneck.from_tokens.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    codes = model.trace(torch.randn(4, 1, 32, 32)).latent.codes
    assert codes.shape == (4, 4, 4)
    assert len(codes.unique()) > 1
    expected = bottleneck.codebook.vectors[codes].permute(0, 3, 1, 2)
    torch.testing.assert_close(seen[0], expected)


def test_the_quantiser_adds_its_loss_while_training():
    model = build_model("vq_unet", width=4, depth=3, codes=6, code_dim=8, commitment=0.25).train()
    assert model.trace(torch.randn(4, 1, 32, 32)).latent.loss > 0
