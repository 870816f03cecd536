"""VQ-UNet: discrete codes in the bottleneck, and nothing that relates them.

Santhirasekaram et al., MICCAI 2022, arXiv 2207.01919.
"""

from einops import rearrange
from torch import Tensor, nn

from l2gnet.method.codebook import Codebook
from l2gnet.models.backbone import SegmentationUNet
from l2gnet.models.blocks.convolution import ResidualBlock
from l2gnet.models.blocks.discrete import DiscreteBottleneck, discrete_latent
from l2gnet.models.blocks.latent import Latent
from l2gnet.shapes import Float


class VQBottleneck(DiscreteBottleneck):
    """1x1 convolution, quantiser, 1x1 convolution, residual block.

    Args:
        features: C, channels of the features.
        codebook: the quantiser.
    """

    def __init__(self, features: int, codebook: Codebook):
        super().__init__(features, codebook)
        self.from_tokens = nn.Sequential(
            nn.Conv2d(codebook.vectors.shape[1], features, kernel_size=1),
            ResidualBlock(features),
        )

    def forward(self, features: Float[Tensor, "B C h w"]) -> Latent:
        """Replace every pixel by its nearest code."""
        quantised = self.codebook(self.tokens(features))
        discrete = rearrange(quantised.tokens, "B (h w) d -> B d h w", h=features.shape[2])
        return discrete_latent(self.from_tokens(discrete.to(features.dtype)), quantised)


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
    """Build a VQ-UNet: the backbone with a codebook of `codes` x `code_dim` in its bottleneck."""
    return SegmentationUNet(
        lambda features: VQBottleneck(features, Codebook(codes, code_dim, commitment=commitment)),
        channels=channels,
        classes=classes,
        width=width,
        depth=depth,
        deep_supervision=deep_supervision,
        tokens_at=tokens_at,
    )


def build_published(*, channels: int = 1, classes: int = 4) -> SegmentationUNet:
    """Build a VQ-UNet of the published sizes: 64 to 1024 channels, 1024 codes of dimension 256."""
    return build(channels=channels, classes=classes, width=64, depth=4, codes=1024, code_dim=256, commitment=0.25)
