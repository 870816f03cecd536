"""The convolutions that every backbone is built of: each with its normalisation and activation, in ones and twos.

They compute what MONAI's blocks of the same purpose do, and start from the same weights.
"""

from collections.abc import Callable

from torch import Tensor, nn

from l2gnet.shapes import Float


def leaky() -> nn.Module:
    """The activation of the shared backbone."""
    return nn.LeakyReLU(0.1, inplace=True)


class Convolution(nn.Sequential):
    """Three by three pixels convolved, normalised over the batch, activated.

    Args:
        channels: of the features.
        wide: channels of the result.
        activation: makes the activation.
    """

    def __init__(self, channels: int, wide: int, activation: Callable[[], nn.Module] = leaky):
        super().__init__()
        self.conv = nn.Conv2d(channels, wide, kernel_size=3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(wide)
        self.activation = activation()


class TwoConvolutions(nn.Sequential):
    """One convolution after the other; arguments as of one."""

    def __init__(self, channels: int, wide: int, activation: Callable[[], nn.Module] = leaky):
        super().__init__(Convolution(channels, wide, activation), Convolution(wide, wide, activation))


class Down(nn.Sequential):
    """Half the resolution, by the largest of two by two pixels, and two convolutions; arguments as of one."""

    def __init__(self, channels: int, wide: int):
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.convs = TwoConvolutions(channels, wide)


class ResidualBlock(nn.Module):
    """Two convolutions, to whose result the features are added before the last activation.

    Args:
        channels: C, of features and result.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.activation = leaky()

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Refine the features."""
        refined = self.activation(self.norm1(self.conv1(features)))
        return self.activation(self.norm2(self.conv2(refined)) + features)
