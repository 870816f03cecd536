"""Multi-head attention between tokens, and its matrices for whoever wants to look at them.

Vaswani et al. 2017, arXiv 1706.03762; the block is that of the vision transformer, Dosovitskiy et al. 2021,
arXiv 2010.11929.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from l2gnet.shapes import Float


@dataclass(frozen=True)
class AttentionMap:
    """Which of M tokens each of N tokens attends to in one layer; the matrix is computed when it is asked for."""

    layer: nn.MultiheadAttention
    queries: Float[Tensor, "B N d"]
    keys: Float[Tensor, "B M d"]

    @torch.no_grad()
    def matrix(self) -> Float[Tensor, "B heads N M"]:
        """The attention matrix of each image and head; every row adds up to one."""
        return self.layer(self.queries, self.keys, self.keys, average_attn_weights=False)[1]


class CrossAttention(nn.Module):
    """Tokens take up what they find in other tokens: normalise both, attend, add.

    Args:
        dim: d, dimension of the tokens.
        heads: attention heads; must divide `dim`.
    """

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.norm, self.norm_context = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)

    def forward(
        self, tokens: Float[Tensor, "B N d"], context: Float[Tensor, "B M d"]
    ) -> tuple[Float[Tensor, "B N d"], AttentionMap]:
        """Tokens that have seen `context`, and where they looked."""
        queries, keys = self.norm(tokens), self.norm_context(context)
        seen = self.attention(queries, keys, keys, need_weights=False)[0]
        return tokens + seen, AttentionMap(self.attention, queries, keys)


class TransformerBlock(nn.Module):
    """The block of a vision transformer: self-attention, then a perceptron of four times the width, both residual.

    Args:
        dim: d, dimension of the tokens.
        heads: attention heads; must divide `dim`.
        dropout: share that the perceptron drops while training; attention drops nothing, as in TransUNet.
    """

    def __init__(self, dim: int, heads: int, dropout: float = 0.1):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.mlp = nn.Sequential(
            OrderedDict(
                linear1=nn.Linear(dim, 4 * dim),
                activation=nn.GELU(),
                dropout1=nn.Dropout(dropout),
                linear2=nn.Linear(4 * dim, dim),
                dropout2=nn.Dropout(dropout),
            )
        )

    def forward(self, tokens: Float[Tensor, "B N d"]) -> tuple[Float[Tensor, "B N d"], AttentionMap]:
        """Tokens that have seen each other, and where they looked."""
        normed = self.norm1(tokens)
        tokens = tokens + self.attention(normed, normed, normed, need_weights=False)[0]
        return tokens + self.mlp(self.norm2(tokens)), AttentionMap(self.attention, normed, normed)


def heads_for(dim: int) -> int:
    """Eight heads, or fewer where tokens are too short for heads of 16 numbers or eight does not divide them."""
    return math.gcd(dim, 8, max(dim // 16, 1))
