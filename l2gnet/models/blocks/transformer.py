"""A vision transformer over the pixels of a feature map (Dosovitskiy et al. 2021, arXiv 2010.11929)."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from l2gnet.models.blocks.attention import TransformerBlock
from l2gnet.models.blocks.latent import Latent
from l2gnet.shapes import Float


class TransformerBottleneck(nn.Module):
    """Features become tokens with a learnt position, and see each other in `layers` blocks of self-attention.

    Args:
        features: C, channels of the features, and dimension of the tokens.
        heads: attention heads.
        layers: transformer blocks.
        side: of the square grid of learnt positions; for a grid of another size they are interpolated.
    """

    def __init__(self, features: int, *, heads: int, layers: int, side: int):
        super().__init__()
        self.position = nn.Parameter(0.02 * torch.randn(1, features, side, side))
        self.dropout = nn.Dropout(0.1)
        self.layers = nn.ModuleList(TransformerBlock(features, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(features, eps=1e-6)

    def forward(self, features: Float[Tensor, "B C h w"]) -> Latent:
        """Relate all pixels to all others."""
        placed = features + resized_positions(self.position, *features.shape[2:])
        tokens = self.dropout(rearrange(placed, "B C h w -> B (h w) C"))
        attention = []
        for layer in self.layers:
            tokens, seen = layer(tokens)
            attention.append(seen)
        related = rearrange(self.norm(tokens), "B (h w) C -> B C h w", h=features.shape[2])
        return Latent(related.to(features.dtype), attention=tuple(attention))


def resized_positions(
    position: Float[Tensor, "1 C _ _"], height: int, width: int
) -> Float[Tensor, "1 C {height} {width}"]:
    """Positions for a grid of another size than the one they were learnt for."""
    if position.shape[2:] == (height, width):
        return position
    single = position.to(torch.promote_types(position.dtype, torch.float32))  # no half precision on CPUs
    return F.interpolate(single, (height, width), mode="bilinear", antialias=True).to(position.dtype)
