"""Attention U-Net: gates on the skips let through what the coarser level asks for.

Oktay et al. 2018, arXiv 1804.03999. The gate is that of MONAI and of the well-known 2-D implementation: it
compares the skip with the upsampled coarser features, at the skip's own resolution.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from l2gnet.models.backbone import Identity, SegmentationUNet, upsampled_convolution
from l2gnet.shapes import Float


class AttentionGate(nn.Module):
    """Additive attention: sigmoid(psi(relu(W_g g + W_x x))), equation 1 of the paper.

    Args:
        channels: C, of skip and signal alike.
    """

    def __init__(self, channels: int):
        super().__init__()
        inner = max(channels // 2, 1)
        self.W_g = nn.Sequential(nn.Conv2d(channels, inner, kernel_size=1), nn.BatchNorm2d(inner))
        self.W_x = nn.Sequential(nn.Conv2d(channels, inner, kernel_size=1), nn.BatchNorm2d(inner))
        self.psi = nn.Sequential(nn.Conv2d(inner, 1, kernel_size=1), nn.BatchNorm2d(1), nn.Sigmoid())

    def forward(self, g: Float[Tensor, "B C H W"], x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 1 H W"]:
        """How much of each pixel of the skip `x` the signal `g` lets through, 0 to 1."""
        return self.psi(F.relu(self.W_g(g) + self.W_x(x)))


def build(
    *, channels: int = 1, classes: int = 4, width: int = 16, depth: int = 4, deep_supervision: bool = False
) -> SegmentationUNet:
    """Build an Attention U-Net: the backbone with a gate on each skip."""
    return SegmentationUNet(
        lambda _: Identity(),
        channels=channels,
        classes=classes,
        width=width,
        depth=depth,
        deep_supervision=deep_supervision,
        gate=AttentionGate,
    )


def build_published(*, channels: int = 1, classes: int = 4) -> SegmentationUNet:
    """Build the well-known 2-D Attention U-Net: 64 to 1024 channels, upsampled by repetition and a convolution."""
    return SegmentationUNet(
        lambda _: Identity(),
        channels=channels,
        classes=classes,
        width=64,
        depth=4,
        deep_supervision=False,
        gate=AttentionGate,
        upsample=upsampled_convolution,
    )
