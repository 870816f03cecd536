"""U-Net: the backbone with nothing in its bottleneck (Ronneberger et al. 2015, arXiv 1505.04597)."""

from l2gnet.models.backbone import Identity, SegmentationUNet


def build(
    *, channels: int = 1, classes: int = 4, width: int = 16, depth: int = 4, deep_supervision: bool = False
) -> SegmentationUNet:
    """Build a plain U-Net with `width` channels at full resolution and `depth` halvings."""
    return SegmentationUNet(
        lambda _: Identity(),
        channels=channels,
        classes=classes,
        width=width,
        depth=depth,
        deep_supervision=deep_supervision,
    )


def build_published(*, channels: int = 1, classes: int = 4) -> SegmentationUNet:
    """Build a U-Net of the published sizes, 64 to 1024 channels."""
    return build(channels=channels, classes=classes, width=64, depth=4)
