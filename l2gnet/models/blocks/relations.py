"""What else can relate the tokens of an image, at the place of the mapper: the lines to draw beside it.

Each takes tokens (B, N, d) and gives every token some numbers more, beside its own.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from l2gnet.method.places import in_own_frame, waves, waves_size
from l2gnet.shapes import Float, Int64


@dataclass(frozen=True)
class Related:
    """What each token is given, and for attention the queries and keys that say from whom."""

    tokens: Float[Tensor, "B N _"]
    queries: Float[Tensor, "B heads N _"] | None = None
    keys: Float[Tensor, "B heads N _"] | None = None

    @torch.no_grad()
    def matrix(self) -> Float[Tensor, "B heads N N"]:
        """The attention of each image and head; every row adds up to one."""
        assert self.queries is not None
        assert self.keys is not None
        return (self.queries @ self.keys.transpose(-1, -2) / self.queries.shape[-1] ** 0.5).softmax(-1)


class MeanRelation(nn.Module):
    """Every token is given the mean token of its image: global, and the same for all."""

    def __init__(self, dim: int):
        super().__init__()
        self.given = dim

    def forward(
        self, tokens: Float[Tensor, "B N d"], indices: Int64[Tensor, "B N"] | None, shape: tuple[int, int]
    ) -> Related:
        """The mean over the image."""
        return Related(tokens.mean(1, keepdim=True).expand_as(tokens))


class SelfAttention(nn.Module):
    """Softmax attention between the tokens of an image (Vaswani et al. 2017, arXiv 1706.03762).

    With `positions`, values carry the place of their token and are read in the receiver's own frame, as the mapper's.

    Args:
        dim: d, dimension of the tokens.
        heads: attention heads; must divide `dim`.
        positions: whether tokens hear where the tokens that they attend to lie.

    Raises:
        ValueError: heads do not divide the dimension.
    """

    def __init__(self, dim: int, heads: int, *, positions: bool):
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"heads must divide the {dim} numbers of a token, got {heads}")
        self.heads, self.positions = heads, positions
        self.project = nn.Linear(dim, 3 * dim)
        self.given = dim + positions * heads * waves_size()

    def forward(
        self, tokens: Float[Tensor, "B N d"], indices: Int64[Tensor, "B N"] | None, shape: tuple[int, int]
    ) -> Related:
        """What each token finds in the others."""
        queries, keys, values = rearrange(self.project(tokens), "B N (t h d) -> t B h N d", t=3, h=self.heads)
        places = waves(*shape, like=values) if self.positions else values.new_empty((values.shape[2], 0))
        values = torch.cat([values, places.expand(*values.shape[:2], *places.shape)], dim=-1)
        seen = F.scaled_dot_product_attention(queries, keys, values)
        if self.positions:
            seen = in_own_frame(seen, places)
        return Related(rearrange(seen, "B h N d -> B N (h d)"), queries, keys)
