"""SynergyNet: continuous and discrete features look at each other (Gorade et al., WACV 2024, arXiv 2310.17764).

The abstract gives the idea: both kinds of features, cross-attention between them, refinement. The order and the
sizes of the layers are our reading.
"""

import torch
from einops import rearrange
from torch import Tensor, nn

from l2gnet.method.codebook import Codebook
from l2gnet.models.backbone import SegmentationUNet
from l2gnet.models.blocks.attention import CrossAttention, heads_for
from l2gnet.models.blocks.convolution import ResidualBlock
from l2gnet.models.blocks.discrete import DiscreteBottleneck, discrete_latent
from l2gnet.models.blocks.latent import Latent
from l2gnet.shapes import Float


class SynergyBottleneck(DiscreteBottleneck):
    """Tokens and their codes, cross-attention in both directions, and a residual block over the two together.

    Args:
        features: C, channels of the features.
        codebook: the quantiser.
    """

    def __init__(self, features: int, codebook: Codebook):
        super().__init__(features, codebook)
        dim = codebook.vectors.shape[1]
        self.continuous_to_discrete = CrossAttention(dim, heads_for(dim))
        self.discrete_to_continuous = CrossAttention(dim, heads_for(dim))
        self.refine = nn.Sequential(
            nn.Conv2d(2 * dim, features, kernel_size=1),
            ResidualBlock(features),
        )

    def forward(self, features: Float[Tensor, "B C h w"]) -> Latent:
        """Quantise, attend from each kind to the other, join and refine.

        `attention` of the result: where continuous tokens look among the discrete ones, then the other way round.
        """
        continuous = self.tokens(features).to(next(self.parameters()).dtype)  # in float32 under autocast, too
        quantised = self.codebook(continuous)
        from_continuous, to_discrete = self.continuous_to_discrete(continuous, quantised.tokens)
        from_discrete, to_continuous = self.discrete_to_continuous(quantised.tokens, continuous)
        both = torch.cat([from_continuous, from_discrete], dim=2)
        joined = rearrange(both, "B (h w) d -> B d h w", h=features.shape[2])
        refined = self.refine(joined.to(features.dtype))
        return discrete_latent(refined, quantised, attention=(to_discrete, to_continuous))


def build(
    *,
    channels: int = 1,
    classes: int = 4,
    width: int = 16,
    depth: int = 4,
    deep_supervision: bool = False,
    tokens_at: int = 0,
    codes: int = 256,
    code_dim: int = 64,
    commitment: float = 0.0,
) -> SegmentationUNet:
    """Build SynergyNet: the backbone with a codebook of `codes` x `code_dim` and cross-attention around it."""
    return SegmentationUNet(
        lambda features: SynergyBottleneck(features, Codebook(codes, code_dim, commitment=commitment)),
        channels=channels,
        classes=classes,
        width=width,
        depth=depth,
        deep_supervision=deep_supervision,
        tokens_at=tokens_at,
    )


def build_published(*, channels: int = 1, classes: int = 4) -> SegmentationUNet:
    """Build SynergyNet at the sizes of published VQ-UNet; those of its own paper were not available: our reading."""
    return build(channels=channels, classes=classes, width=64, depth=4, codes=1024, code_dim=256)
