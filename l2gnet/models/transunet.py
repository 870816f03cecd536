"""TransUNet: a vision transformer over the bottleneck's tokens (Chen et al. 2021, arXiv 2102.04306)."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from l2gnet.models.attention import TransformerBlock, heads_for
from l2gnet.models.backbone import Latent, SegmentationUNet
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
        placed = features + self.positions(*features.shape[2:])
        tokens = self.dropout(rearrange(placed, "B C h w -> B (h w) C"))
        attention = []
        for layer in self.layers:
            tokens, seen = layer(tokens)
            attention.append(seen)
        related = rearrange(self.norm(tokens), "B (h w) C -> B C h w", h=features.shape[2])
        return Latent(related.to(features.dtype), attention=tuple(attention))

    def positions(self, height: int, width: int) -> Float[Tensor, "1 C {height} {width}"]:
        """The learnt positions, interpolated where they were learnt for a grid of another size."""
        if self.position.shape[2:] == (height, width):
            return self.position
        return F.interpolate(self.position, (height, width), mode="bilinear", antialias=True)


def build(
    *,
    channels: int = 1,
    classes: int = 4,
    width: int = 16,
    depth: int = 4,
    deep_supervision: bool = False,
    size_px: int = 224,
    layers: int = 4,
) -> SegmentationUNet:
    """Build a TransUNet on the shared backbone, with positions for images of `size_px`; others interpolate them."""
    features = width * 2**depth
    bottleneck = TransformerBottleneck(
        features, heads=heads_for(features), layers=layers, side=max(size_px // 2**depth, 1)
    )
    return SegmentationUNet(
        bottleneck, channels=channels, classes=classes, width=width, depth=depth, deep_supervision=deep_supervision
    )
