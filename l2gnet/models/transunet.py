"""TransUNet: a vision transformer over the bottleneck's tokens (Chen et al. 2021, arXiv 2102.04306)."""

from itertools import zip_longest

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from l2gnet.models.backbone import SegmentationModel, SegmentationUNet, Trace
from l2gnet.models.blocks.attention import heads_for
from l2gnet.models.blocks.convolution import Convolution, TwoConvolutions
from l2gnet.models.blocks.resnet import ResNetEncoder
from l2gnet.models.blocks.transformer import TransformerBottleneck
from l2gnet.shapes import Float

_STRIDE = 16  # of the published encoder


def build(
    *,
    channels: int = 1,
    classes: int = 4,
    width: int = 16,
    depth: int = 4,
    deep_supervision: bool = False,
    tokens_at: int = 0,
    size_px: int = 224,
    layers: int = 4,
) -> SegmentationUNet:
    """Build a TransUNet on the shared backbone, with positions for images of `size_px`; others interpolate them."""
    side = max(size_px // (tokens_at or 2**depth), 1)
    return SegmentationUNet(
        lambda features: TransformerBottleneck(features, heads=heads_for(features), layers=layers, side=side),
        channels=channels,
        classes=classes,
        width=width,
        depth=depth,
        deep_supervision=deep_supervision,
        tokens_at=tokens_at,
    )


def build_published(*, channels: int = 1, classes: int = 4, size_px: int = 224) -> "TransUNet":
    """Build the TransUNet of the paper, R50-ViT-B/16 with a cascaded upsampler, with positions for `size_px`."""
    return TransUNet(channels=channels, classes=classes, size_px=size_px)


class TransUNet(SegmentationModel):
    """The published model: ResNet-50 stages, 12 transformer layers over 768 channels, a cascade of upsamplings.

    Images of one channel are repeated to the three that ImageNet's weights want; sides that are no multiple of 16
    are padded to one, and the logits cropped.

    Args:
        channels: C, image channels.
        classes: L, with background.
        size_px: height and width that positions are learnt for; for other sizes they are interpolated.
    """

    bottleneck: TransformerBottleneck

    def __init__(self, *, channels: int, classes: int, size_px: int):
        super().__init__(channels, smallest_px=2 * _STRIDE)
        self.encoder = ResNetEncoder(3 if channels == 1 else channels)
        self.embedding = nn.Conv2d(1024, 768, kernel_size=1)
        self.bottleneck = TransformerBottleneck(768, heads=12, layers=12, side=-(-size_px // _STRIDE))
        self.neck = Convolution(768, 512, nn.ReLU)
        sizes = [(512 + 512, 256), (256 + 256, 128), (128 + 64, 64), (64, 16)]  # with the skip, and after
        self.decoder = nn.ModuleList(TwoConvolutions(*size, nn.ReLU) for size in sizes)
        self.head = nn.Conv2d(16, classes, kernel_size=3, padding=1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _trace(self, images: Float[Tensor, "B C H W"]) -> Trace:
        height, width = images.shape[2:]
        if self.channels == 1:
            images = images.expand(-1, 3, -1, -1)
        padded = F.pad(images, [0, -width % _STRIDE, 0, -height % _STRIDE], mode="replicate")
        deepest, skips = self.encoder(padded.contiguous(memory_format=torch.channels_last))
        latent = self.bottleneck(self.embedding(deepest))
        features = self.neck(latent.features)
        for convs, skip in zip_longest(self.decoder, skips):
            features = F.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=True)
            features = convs(features if skip is None else torch.cat([features, skip], dim=1))
        return Trace(self.head(features)[:, :, :height, :width], latent)
