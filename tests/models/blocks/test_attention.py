import pytest
import torch
from torch import nn

from l2gnet.models.blocks.attention import CrossAttention, TransformerBlock, heads_for


def test_the_map_is_the_attention_that_was_used():
    torch.manual_seed(0)
    layer = CrossAttention(8, heads=2).double().eval()
    tokens, context = torch.randn(2, 5, 8).double(), torch.randn(2, 7, 8).double()
    out, seen = layer(tokens, context)
    matrix = seen.matrix()
    assert matrix.shape == (2, 2, 5, 7)
    torch.testing.assert_close(matrix.sum(-1), torch.ones(2, 2, 5).double())
    values = layer.norm_context(context) @ layer.attention.in_proj_weight[16:].T + layer.attention.in_proj_bias[16:]
    looked_up = matrix @ values.view(2, 7, 2, 4).transpose(1, 2)
    expected = tokens + layer.attention.out_proj(looked_up.transpose(1, 2).reshape(2, 5, 8))
    torch.testing.assert_close(out, expected)


def test_the_map_can_be_asked_for_after_inference():
    layer = CrossAttention(8, heads=2).eval()
    with torch.inference_mode():
        _, seen = layer(torch.randn(2, 5, 8), torch.randn(2, 7, 8))
    assert not seen.matrix().requires_grad


def test_the_block_is_the_one_of_torch():
    torch.manual_seed(0)
    ours = TransformerBlock(16, heads=4).eval()
    torchs = nn.TransformerEncoderLayer(
        16, 4, 64, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    ).eval()
    names = {"attention": "self_attn", "mlp.linear1": "linear1", "mlp.linear2": "linear2"}
    for own, theirs in {**names, "norm1": "norm1", "norm2": "norm2"}.items():
        torchs.get_submodule(theirs).load_state_dict(ours.get_submodule(own).state_dict())
    tokens = torch.randn(2, 5, 16)
    torch.testing.assert_close(ours(tokens)[0], torchs(tokens))


@pytest.mark.parametrize(("dim", "heads"), [(256, 8), (64, 4), (8, 1), (35, 1), (112, 1), (72, 4)])
def test_heads_divide_the_tokens(dim, heads):
    assert heads_for(dim) == heads
    assert dim % heads == 0
