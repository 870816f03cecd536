"""What every model is, and the one backbone of all: a U-Net with a place for a bottleneck.

Ronneberger et al. 2015, arXiv 1505.04597.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from l2gnet.method.codebook import Codebook
from l2gnet.method.mapper import L2GMapper
from l2gnet.models.blocks.convolution import Convolution, Down, TwoConvolutions
from l2gnet.models.blocks.latent import Latent
from l2gnet.models.levels import level_of
from l2gnet.shapes import Float


@dataclass(frozen=True)
class Trace:
    """A forward pass with its inner results.

    `side_logits` are those of deep supervision, `gates` how much of each skip was let through (0 to 1), where the
    model has gates on its skips; both coarsest first.
    """

    logits: Float[Tensor, "B L H W"]
    latent: Latent
    side_logits: list[Float[Tensor, "B L _ _"]] = field(default_factory=list)
    gates: list[Float[Tensor, "B 1 _ _"]] = field(default_factory=list)


class Identity(nn.Module):
    """The bottleneck of a plain U-Net: nothing."""

    def forward(self, features: Float[Tensor, "B C h w"]) -> Latent:
        """Return the features as they are."""
        return Latent(features)


class SegmentationModel(nn.Module):
    """Images (B, C, H, W) to logits (B, L, H, W), with a `Trace` of how: what every model is.

    A model sets `bottleneck`, which gives a `Latent`, and defines `_trace`.

    Args:
        channels: C, image channels.
        smallest_px: sides of the smallest image that the model takes.
    """

    bottleneck: nn.Module

    def __init__(self, channels: int, smallest_px: int):
        super().__init__()
        self.channels, self.smallest_px = channels, smallest_px

    @property
    def codebook(self) -> Codebook | None:
        """The codebook, where the model has one."""
        return getattr(self.bottleneck, "codebook", None)

    @property
    def mapper(self) -> L2GMapper | None:
        """What relates the codes by transport, where the model has it."""
        mapper = getattr(self.bottleneck, "mapper", None)
        return mapper if isinstance(mapper, L2GMapper) else None

    @property
    def tokens_receive(self) -> bool:
        """Whether codes are sent and tokens receive: then the plan that receives has a row for each token."""
        return getattr(self.bottleneck, "tokens_receive", False)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B L H W"]:
        """Logits only."""
        return self.trace(images).logits

    def trace(self, images: Float[Tensor, "B C H W"]) -> Trace:
        """Logits with the latent space, and the side logits while training.

        Raises:
            ValueError: the images are no batch, have other channels than the model, or are too small for it.
        """
        self.check_images(images)
        return self._trace(images)

    def check_images(self, images: Float[Tensor, "B C H W"]) -> None:
        """Raise ValueError unless the model takes images of this shape."""
        if images.ndim != 4:
            raise ValueError(f"images must have shape (B, C, H, W), got {tuple(images.shape)}; give a batch of slices")
        if images.shape[1] != self.channels:
            raise ValueError(f"the model takes {self.channels} image channel(s), got {images.shape[1]}")
        if min(images.shape[2:]) < self.smallest_px:
            raise ValueError(
                f"the model needs images of at least {self.smallest_px} x {self.smallest_px} pixels, "
                f"got {images.shape[2]} x {images.shape[3]}; pad the image"
            )

    def _trace(self, images: Float[Tensor, "B C H W"]) -> Trace:
        raise NotImplementedError


def deconvolution(coarse: int, fine: int) -> nn.Module:
    """Double the resolution by a transposed convolution of two by two pixels."""
    return nn.ConvTranspose2d(coarse, fine, kernel_size=2, stride=2)


def upsampled_convolution(coarse: int, fine: int) -> nn.Module:
    """Double the resolution by repeating pixels, then convolve three by three of them."""
    return nn.Sequential(nn.Upsample(scale_factor=2), Convolution(coarse, fine))


class Up(nn.Module):
    """Double the resolution, join the skip to it, and convolve twice.

    Args:
        coarse: channels of the features.
        fine: channels of the skip and of the result.
        upsample: doubles the resolution of the features, and gives them `fine` channels.
        gate: maps upsampled features and skip, both (B, fine, H, W), to the share of the skip to let through.
    """

    def __init__(self, coarse: int, fine: int, *, upsample: nn.Module, gate: nn.Module | None):
        super().__init__()
        self.upsample = upsample
        self.convs = TwoConvolutions(2 * fine, fine)
        self.gate = gate

    def forward(
        self, features: Float[Tensor, "B _ _ _"], skip: Float[Tensor, "B C H W"]
    ) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B 1 H W"] | None]:
        """The finer features, and what the gate let through of the skip."""
        raised = self.upsample(features)
        rows, columns = (skip.shape[i] - raised.shape[i] for i in (2, 3))
        if rows or columns:  # halving an odd size has lost the last one
            raised = F.pad(raised, [0, columns, 0, rows], mode="replicate")
        let_through = None if self.gate is None else self.gate(raised, skip)
        if let_through is not None:
            skip = skip * let_through
        return self.convs(torch.cat([skip, raised], dim=1)), let_through


class SegmentationUNet(SegmentationModel):
    """A U-Net with a bottleneck at one of its levels.

    Args:
        bottleneck: makes, for so many channels, a module that maps features (B, C, h, w) to a `Latent` of that shape.
        channels: C, image channels.
        classes: L, with background.
        width: channels at full resolution; they double at each level.
        depth: number of halvings.
        deep_supervision: give `side_logits` at each coarser decoder level while training.
        tokens_at: the bottleneck lies at 1 / `tokens_at` of the resolution; its features go on into the skip there and
            downward. For 0 it is the deepest level.
        gate: makes, for skips of so many channels, a module that maps upsampled features and skip to a factor
            (B, 1, h, w) for the skip; none leaves the skips as they are.
        upsample: makes, for so many channels before and after, the module that doubles the resolution.
    """

    def __init__(
        self,
        bottleneck: Callable[[int], nn.Module],
        *,
        channels: int,
        classes: int,
        width: int,
        depth: int,
        deep_supervision: bool,
        tokens_at: int = 0,
        gate: Callable[[int], nn.Module] | None = None,
        upsample: Callable[[int, int], nn.Module] = deconvolution,
    ):
        super().__init__(channels, smallest_px=2**depth)
        self.level = level_of(tokens_at, depth)
        made = bottleneck(width * 2**self.level)  # before the rest, as a seed has it
        sizes = [width * 2**level for level in range(depth + 1)]
        self.stem = TwoConvolutions(channels, width)
        self.encoder = nn.ModuleList(Down(*pair) for pair in pairwise(sizes))
        self.bottleneck = made
        self.decoder = nn.ModuleList(
            Up(coarse, fine, upsample=upsample(coarse, fine), gate=gate(fine) if gate else None)
            for fine, coarse in reversed(list(pairwise(sizes)))
        )
        self.head = nn.Conv2d(width, classes, kernel_size=1)
        side_sizes = sizes[depth - 1 : 0 : -1] if deep_supervision else []
        self.side_heads = nn.ModuleList(nn.Conv2d(size, classes, kernel_size=1) for size in side_sizes)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on CPU and GPU

    def _trace(self, images: Float[Tensor, "B C H W"]) -> Trace:
        levels = self.encoded(images)
        latent = self.bottleneck(levels.pop())
        return self.decoded(self.deepened(levels, latent.features), latent)

    def encoded(self, images: Float[Tensor, "B C H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """The features of each level, finest first, down to those that the bottleneck takes."""
        levels = [self.stem(images.contiguous(memory_format=torch.channels_last))]
        for down in self.encoder[: self.level]:
            levels.append(down(levels[-1]))
        return levels

    def deepened(
        self, levels: list[Float[Tensor, "B _ _ _"]], features: Float[Tensor, "B _ _ _"]
    ) -> list[Float[Tensor, "B _ _ _"]]:
        """The levels above the bottleneck, to which those below are added, from what it gives on."""
        levels.append(features)
        for down in self.encoder[self.level :]:
            levels.append(down(levels[-1]))
        return levels

    def decoded(self, levels: list[Float[Tensor, "B _ _ _"]], latent: Latent) -> Trace:
        """From the features of all levels to logits; it empties the list, to hold none longer than needed."""
        features, side_logits, gates = levels.pop(), [], []
        for level, up in enumerate(self.decoder):
            features, let_through = up(features, levels.pop())
            if let_through is not None:
                gates.append(let_through)
            if self.training and level < len(self.side_heads):
                side_logits.append(self.side_heads[level](features))
        return Trace(self.head(features), latent, side_logits, gates)
