"""The convolutional half of R50+ViT-B/16: three stages of a ResNet-50, groups normalised and weights standardised.

He et al. 2016, arXiv 1512.03385; group normalisation and weight standardisation as in Kolesnikov et al. 2020,
arXiv 1912.11370; sizes and padding as in TransUNet, Chen et al. 2021, arXiv 2102.04306.
"""

import torch
import torch.nn.functional as F
from monai.networks.nets.resnet import ResNetBottleneck
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from l2gnet.shapes import Float

UNITS = (3, 4, 9)  # residual units of each stage
_NORM = ("group", {"num_groups": 32, "eps": 1e-6})


class WeightStandardisation(nn.Module):
    """Each filter of a convolution with mean zero and variance one (Qiao et al. 2019, arXiv 1903.10520)."""

    def forward(self, weight: Float[Tensor, "C _ _ _"]) -> Float[Tensor, "C _ _ _"]:
        """Standardise."""
        variance, mean = torch.var_mean(weight, dim=(1, 2, 3), keepdim=True, unbiased=False)
        return (weight - mean) / torch.sqrt(variance + 1e-5)


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
    first = ResNetBottleneck(channels, planes, 2, stride, downsample=shortcut, norm=_NORM)
    return nn.Sequential(first, *(ResNetBottleneck(wide, planes, 2, norm=_NORM) for _ in range(units - 1)))
