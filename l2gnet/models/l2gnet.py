"""L2GNet: discrete codes in the bottleneck, related globally by optimal transport (arXiv 2502.05229).

The published text gives the idea; sizes, readout and the order of the small layers are our reading.
"""

from einops import rearrange
from torch import Tensor, nn

from l2gnet.method.codebook import Codebook
from l2gnet.method.cost import Cost
from l2gnet.method.mapper import L2GMapper
from l2gnet.method.relation import Readout
from l2gnet.models.backbone import Latent, SegmentationUNet
from l2gnet.models.blocks.discrete import DiscreteBottleneck
from l2gnet.shapes import Float


class L2GBottleneck(DiscreteBottleneck):
    """Features to codes, codes to globally related codes, and back to features.

    Args:
        features: C, channels of the features.
        codebook: the quantiser.
        mapper: relates the quantised tokens.
    """

    def __init__(self, features: int, codebook: Codebook, mapper: L2GMapper):
        super().__init__(features, codebook)
        self.mapper = mapper
        self.from_tokens = nn.Conv2d(codebook.vectors.shape[1], features, kernel_size=1)

    def forward(self, features: Float[Tensor, "B C h w"]) -> Latent:
        """Quantise, relate, and add what the relation gives to each token."""
        quantised = self.codebook(self.tokens(features))
        mapped = self.mapper(quantised.tokens, quantised.indices)
        related = rearrange(quantised.tokens + mapped.tokens, "B (h w) d -> B d h w", h=features.shape[2])
        return self.latent(self.from_tokens(related.to(features.dtype)), quantised, transport=mapped.transport)


def build(
    *,
    channels: int = 1,
    classes: int = 4,
    width: int = 16,
    depth: int = 4,
    deep_supervision: bool = False,
    codes: int = 256,
    code_dim: int = 64,
    commitment: float = 0.0,
    references: int = 64,
    heads: int = 1,
    epsilon: float = 0.02,
    cost: Cost = "cosine",
    readout: Readout = "barycentric",
) -> SegmentationUNet:
    """Build L2GNet: the U-Net backbone with a codebook of `codes` x `code_dim` and `references` references."""
    mapper = L2GMapper(code_dim, references, heads=heads, epsilon=epsilon, cost=cost, readout=readout)
    bottleneck = L2GBottleneck(width * 2**depth, Codebook(codes, code_dim, commitment=commitment), mapper)
    return SegmentationUNet(
        bottleneck, channels=channels, classes=classes, width=width, depth=depth, deep_supervision=deep_supervision
    )


def build_published(*, channels: int = 1, classes: int = 4) -> SegmentationUNet:
    """Build L2GNet at the sizes of published VQ-UNet; those of its own paper were not available: our reading."""
    return build(channels=channels, classes=classes, width=64, depth=4, codes=1024, code_dim=256)
