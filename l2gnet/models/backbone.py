"""The one backbone of every model: a U-Net built from MONAI's blocks, with a place for a bottleneck.

Ronneberger et al. 2015, arXiv 1505.04597.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from monai.networks.nets.basic_unet import Down, TwoConv, UpCat
from torch import Tensor, nn

from l2gnet.shapes import Float, Int64
from l2gnet.transport import TransportPlan

_NORM = "batch"
_ACTIVATION = ("LeakyReLU", {"negative_slope": 0.1, "inplace": True})


@dataclass(frozen=True)
class Latent:
    """What a bottleneck makes of the deepest features, and what a viewer wants to know of it.

    A bottleneck with a codebook gives `loss` (the quantiser's), `codes` and, while training, `revived` (dead codes
    that this batch replaced); one with a mapper gives `transport`.
    """

    features: Float[Tensor, "B C h w"]
    loss: Float[Tensor, ""] | None = None
    codes: Int64[Tensor, "B h w"] | None = None
    revived: Int64[Tensor, ""] | None = None
    transport: TransportPlan | None = None


@dataclass(frozen=True)
class Trace:
    """A forward pass with its inner results; `side_logits` are those of deep supervision, coarsest first."""

    logits: Float[Tensor, "B L H W"]
    latent: Latent
    side_logits: list[Float[Tensor, "B L _ _"]] = field(default_factory=list)


class Identity(nn.Module):
    """The bottleneck of a plain U-Net: nothing."""

    def forward(self, features: Float[Tensor, "B C h w"]) -> Latent:
        """Return the features as they are."""
        return Latent(features)


class SegmentationUNet(nn.Module):
    """Images (B, C, H, W) to logits (B, L, H, W), by way of `bottleneck` at 1 / 2^depth of the resolution.

    Args:
        bottleneck: maps features (B, width * 2^depth, h, w) to a `Latent` of the same shape.
        channels: C, image channels.
        classes: L, with background.
        width: channels at full resolution; they double at each level.
        depth: number of halvings.
        deep_supervision: give `side_logits` at each coarser decoder level while training.
    """

    def __init__(
        self, bottleneck: nn.Module, *, channels: int, classes: int, width: int, depth: int, deep_supervision: bool
    ):
        super().__init__()
        self.channels, self.depth = channels, depth
        sizes = [width * 2**level for level in range(depth + 1)]
        block: dict[str, Any] = {"act": _ACTIVATION, "norm": _NORM, "bias": False}
        self.stem = TwoConv(2, channels, width, **block)
        self.encoder = nn.ModuleList(Down(2, sizes[i], sizes[i + 1], **block) for i in range(depth))
        self.bottleneck = bottleneck
        self.decoder = nn.ModuleList(
            UpCat(2, sizes[i + 1], sizes[i], sizes[i], **block) for i in reversed(range(depth))
        )
        self.head = nn.Conv2d(width, classes, kernel_size=1)
        side_sizes = sizes[depth - 1 : 0 : -1] if deep_supervision else []
        self.side_heads = nn.ModuleList(nn.Conv2d(size, classes, kernel_size=1) for size in side_sizes)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on CPU and GPU

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B L H W"]:
        """Logits only."""
        return self.trace(images).logits

    def trace(self, images: Float[Tensor, "B C H W"]) -> Trace:
        """Logits with the latent space, and the side logits while training.

        Raises:
            ValueError: the image has other channels than the model, or is too small for its depth.
        """
        smallest = 2**self.depth
        if images.shape[1] != self.channels:
            raise ValueError(f"the model takes {self.channels} image channel(s), got {images.shape[1]}")
        if min(images.shape[2:]) < smallest:
            raise ValueError(
                f"a depth of {self.depth} needs images of at least {smallest} x {smallest} pixels, "
                f"got {images.shape[2]} x {images.shape[3]}; pad the image or choose a smaller depth"
            )
        skips = [self.stem(images.contiguous(memory_format=torch.channels_last))]
        for down in self.encoder:
            skips.append(down(skips[-1]))
        latent = self.bottleneck(skips.pop())
        features, side_logits = latent.features, []
        for level, up in enumerate(self.decoder):
            features = up(features, skips.pop())
            if self.training and level < len(self.side_heads):
                side_logits.append(self.side_heads[level](features))
        return Trace(self.head(features), latent, side_logits)
