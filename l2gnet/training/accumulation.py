"""A batch in parts that pass one after the other, for a device whose memory does not hold it whole.

Their gradients add up to those of a step on the whole batch, and so do loss and totals; but what a layer takes of its
batch, it takes of a part: batch norm its mean and variance, a codebook its start and its tokens.
"""

from torch import nn

from l2gnet.errors import ConfigError
from l2gnet.models.backbone import SegmentationModel
from l2gnet.training.settings import TrainSettings


def next_parts(settings: TrainSettings, batch_size: int, parts: int, cause: Exception) -> int:
    """Twice as many parts as those for which there was too little memory.

    Raises:
        ConfigError: the settings do not want parts; or one would be a single slice, too little for batch norm.
    """
    smaller = settings.processes == 1 and batch_size >= 4 * parts
    if settings.accumulate and smaller:
        return 2 * parts
    so_far = f" in {parts} parts" if parts > 1 else ""
    remedy = "halve batch_size first" + ", or set accumulate" * smaller
    remedy = "lower size_px or width" if settings.accumulate else remedy
    raise ConfigError(
        f"the device has too little memory for batch_size {settings.batch_size}{so_far}, size_px {settings.size_px} "
        f"and width {settings.width} at precision {settings.precision}; {remedy}, "
        f"then try precision bf16-mixed ({str(cause).partition('.')[0]})"
    ) from cause


def remember_as_long(model: SegmentationModel, parts: int) -> None:
    """Let moving averages reach back as many batches as they did, though they now move with every part."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.momentum is not None:
            module.momentum = 1 - (1 - module.momentum) ** (1 / parts)
    if model.codebook:
        model.codebook.learn_from_parts(parts)
