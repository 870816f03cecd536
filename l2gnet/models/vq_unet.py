"""VQ-UNet: discrete codes in the bottleneck, and nothing that relates them.

Santhirasekaram et al., MICCAI 2022, arXiv 2207.01919.
"""

from einops import rearrange
from monai.networks.blocks import UnetResBlock
from torch import Tensor, nn

from l2gnet.codebook import Codebook
from l2gnet.models.backbone import ACTIVATION, NORM, Latent, SegmentationUNet
from l2gnet.shapes import Float


class VQBottleneck(nn.Module):
    """1x1 convolution, quantiser, 1x1 convolution, residual block.

    Args:
        features: C, channels of the features.
        codebook: the quantiser.
    """

    def __init__(self, features: int, codebook: Codebook):
        super().__init__()
        dim = codebook.vectors.shape[1]
        # Normalised as in L2GNet, for which the codes are not to have an easier life.
        self.to_tokens = nn.Sequential(nn.Conv2d(features, dim, kernel_size=1), nn.BatchNorm2d(dim))
        self.codebook = codebook
        self.from_tokens = nn.Sequential(
            nn.Conv2d(dim, features, kernel_size=1),
            UnetResBlock(2, features, features, kernel_size=3, stride=1, norm_name=NORM, act_name=ACTIVATION),
        )

    def forward(self, features: Float[Tensor, "B C h w"]) -> Latent:
        """Replace every pixel by its nearest code."""
        height, width = features.shape[2:]
        quantised = self.codebook(rearrange(self.to_tokens(features), "B d h w -> B (h w) d"))
        discrete = rearrange(quantised.tokens, "B (h w) d -> B d h w", h=height, w=width)
        return Latent(
            features=self.from_tokens(discrete.to(features.dtype)),
            loss=quantised.loss,
            revived=quantised.revived,
            codes=rearrange(quantised.indices, "B (h w) -> B h w", h=height, w=width),
            distances=rearrange(quantised.distances, "B (h w) -> B h w", h=height, w=width),
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
) -> SegmentationUNet:
    """Build a VQ-UNet: the backbone with a codebook of `codes` x `code_dim` in its bottleneck."""
    bottleneck = VQBottleneck(width * 2**depth, Codebook(codes, code_dim))
    return SegmentationUNet(
        bottleneck, channels=channels, classes=classes, width=width, depth=depth, deep_supervision=deep_supervision
    )


def build_published(*, channels: int = 1, classes: int = 4) -> SegmentationUNet:
    """Build a VQ-UNet of the published sizes: 64 to 1024 channels, 1024 codes of dimension 256."""
    return build(channels=channels, classes=classes, width=64, depth=4, codes=1024, code_dim=256)
