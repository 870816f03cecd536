"""L2GNet: discrete codes in the bottleneck, related globally by optimal transport (arXiv 2502.05229).

The published text gives the idea; sizes, readout and the order of the small layers are our reading.
"""

from einops import rearrange
from torch import Tensor, nn

from l2gnet.codebook import Codebook
from l2gnet.mapper import L2GMapper
from l2gnet.models.backbone import Latent, SegmentationUNet
from l2gnet.relation import Cost, Readout
from l2gnet.shapes import Float


class L2GBottleneck(nn.Module):
    """Features to codes, codes to globally related codes, and back to features.

    Args:
        features: C, channels of the features.
        codebook: the quantiser.
        mapper: relates the quantised tokens.
    """

    def __init__(self, features: int, codebook: Codebook, mapper: L2GMapper):
        super().__init__()
        dim = codebook.vectors.shape[1]
        # The normalisation holds the tokens at one scale while the encoder changes, so the codes can follow.
        self.to_tokens = nn.Sequential(nn.Conv2d(features, dim, kernel_size=1), nn.BatchNorm2d(dim))
        self.codebook, self.mapper = codebook, mapper
        self.from_tokens = nn.Conv2d(dim, features, kernel_size=1)

    def forward(self, features: Float[Tensor, "B C h w"]) -> Latent:
        """Quantise, relate, and add what the relation gives to each token."""
        height, width = features.shape[2:]
        tokens = rearrange(self.to_tokens(features), "B d h w -> B (h w) d")
        quantised = self.codebook(tokens)
        mapped = self.mapper(quantised.tokens, quantised.indices)
        related = rearrange(quantised.tokens + mapped.tokens, "B (h w) d -> B d h w", h=height, w=width)
        return Latent(
            features=self.from_tokens(related.to(features.dtype)),
            loss=quantised.loss,
            revived=quantised.revived,
            codes=rearrange(quantised.indices, "B (h w) -> B h w", h=height, w=width),
            distances=rearrange(quantised.distances, "B (h w) -> B h w", h=height, w=width),
            transport=mapped.transport,
        )


def build(
    *,
    channels: int = 1,
    classes: int = 4,
    width: int = 16,
    depth: int = 4,
    deep_supervision: bool = False,
    codes: int = 256,
    code_dim: int = 64,
    references: int = 64,
    heads: int = 1,
    epsilon: float = 0.1,
    cost: Cost = "cosine",
    readout: Readout = "barycentric",
) -> SegmentationUNet:
    """Build L2GNet: the U-Net backbone with a codebook of `codes` x `code_dim` and `references` references."""
    mapper = L2GMapper(code_dim, references, heads=heads, epsilon=epsilon, cost=cost, readout=readout)
    bottleneck = L2GBottleneck(width * 2**depth, Codebook(codes, code_dim), mapper)
    return SegmentationUNet(
        bottleneck, channels=channels, classes=classes, width=width, depth=depth, deep_supervision=deep_supervision
    )


def build_published(*, channels: int = 1, classes: int = 4) -> SegmentationUNet:
    """Build L2GNet at the sizes of published VQ-UNet; those of its own paper were not available: our reading."""
    return build(channels=channels, classes=classes, width=64, depth=4, codes=1024, code_dim=256)
