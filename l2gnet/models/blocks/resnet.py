"""The convolutional half of R50+ViT-B/16: three stages of a ResNet-50, groups normalised and weights standardised.

He et al. 2016, arXiv 1512.03385; group normalisation and weight standardisation as in Kolesnikov et al. 2020,
arXiv 1912.11370; sizes and padding as in TransUNet, Chen et al. 2021, arXiv 2102.04306.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from l2gnet.shapes import Float

UNITS = (3, 4, 9)  # residual units of each stage


class WeightStandardisation(nn.Module):
    """Each filter of a convolution with mean zero and variance one (Qiao et al. 2019, arXiv 1903.10520)."""

    def forward(self, weight: Float[Tensor, "C _ _ _"]) -> Float[Tensor, "C _ _ _"]:
        """Standardise."""
        variance, mean = torch.var_mean(weight, dim=(1, 2, 3), keepdim=True, unbiased=False)
        return (weight - mean) / torch.sqrt(variance + 1e-5)


class ResidualUnit(nn.Module):
    """Three convolutions, the middle one of fewer channels, around which a shortcut leads.

    Args:
        channels: of the features.
        planes: channels of the middle; the result has four times as many.
        stride: of the middle, by which the resolution falls.
        shortcut: maps the features to the shape of the result; none where they have it.
    """

    def __init__(self, channels: int, planes: int, stride: int = 1, shortcut: nn.Module | None = None):
        super().__init__()
        wide = 4 * planes
        self.conv1, self.norm1 = nn.Conv2d(channels, planes, 1, bias=False), nn.GroupNorm(32, planes, eps=1e-6)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(32, planes, eps=1e-6)
        self.conv3, self.norm3 = nn.Conv2d(planes, wide, 1, bias=False), nn.GroupNorm(32, wide, eps=1e-6)
        self.shortcut = shortcut

    def forward(self, features: Float[Tensor, "B _ _ _"]) -> Float[Tensor, "B _ _ _"]:
        """Refine the features."""
        refined = F.relu(self.norm1(self.conv1(features)), inplace=True)
        refined = F.relu(self.norm2(self.conv2(refined)), inplace=True)
        around = features if self.shortcut is None else self.shortcut(features)
        return F.relu(self.norm3(self.conv3(refined)) + around, inplace=True)


class ResNetEncoder(nn.Module):
    """Images (B, C, H, W), sides multiples of 16, to 1024 channels at 1/16 and the skips of the way there.

    Args:
        channels: C, image channels.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        self.norm = nn.GroupNorm(32, 64, eps=1e-6)
        sizes = [(64, 64, 1), (256, 128, 2), (512, 256, 2)]  # channels, planes, stride
        self.stages = nn.ModuleList(_stage(*size, units) for size, units in zip(sizes, UNITS, strict=True))
        for layer in list(self.modules()):
            if isinstance(layer, nn.Conv2d):
                register_parametrization(layer, "weight", WeightStandardisation())

    def forward(
        self, images: Float[Tensor, "B C H W"]
    ) -> tuple[Float[Tensor, "B 1024 h w"], list[Float[Tensor, "B _ _ _"]]]:
        """The deepest features, and skips of 512, 256 and 64 channels at 1/8, 1/4 and 1/2."""
        half = F.relu(self.norm(self.conv(images)))
        quarter = self.stages[0](F.max_pool2d(half, kernel_size=3, stride=2))
        eighth = self.stages[1](quarter)
        # The pool is not padded, and loses the last row and column: the skip gets them back as zeros.
        return self.stages[2](eighth), [eighth, F.pad(quarter, [0, 1, 0, 1]), half]


def _stage(channels: int, planes: int, stride: int, units: int) -> nn.Sequential:
    wide = 4 * planes
    # A group for each channel in the shortcut is what TransUNet does; elsewhere the groups are 32.
    shortcut = nn.Sequential(nn.Conv2d(channels, wide, 1, stride=stride, bias=False), nn.GroupNorm(wide, wide))
    first = ResidualUnit(channels, planes, stride, shortcut)
    return nn.Sequential(first, *(ResidualUnit(wide, planes) for _ in range(units - 1)))
