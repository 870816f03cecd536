"""Training recipes: loss, optimiser, schedule and augmentation that belong together; the same for every model.

`onecycle` is this project's. `transunet` is that of Chen et al. 2021, arXiv 2102.04306, as its code has it
(`trainer.py`, `utils.py` and `dataset_synapse.py` of Beckschen/TransUNet), so that results can be set beside the many
tables that use it: batches of 24 slices of 224 x 224, learning rate 0.01, weight decay 0.0001, 150 epochs, the weights
of the last one. Here too nothing is selected on the patients that are scored.
"""

from collections.abc import Iterable, Sequence

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn

from l2gnet.data.regions import NO_REGIONS, Regions
from l2gnet.data.sides import sided
from l2gnet.training.augmentation import Augmentation, TurnOrMirror
from l2gnet.training.loss import RegionLoss, SegmentationLoss
from l2gnet.training.settings import TrainSettings


def build_loss(settings: TrainSettings, regions: Regions = NO_REGIONS) -> SegmentationLoss | RegionLoss:
    """Of each slice, or for `transunet` of the whole batch at once, with squares in the denominator of Dice."""
    theirs = settings.recipe == "transunet"
    if regions:
        return RegionLoss(regions, batch=theirs, squared=theirs)
    return SegmentationLoss(batch=theirs, squared=theirs)


def build_augmentation(settings: TrainSettings, classes: Sequence[str]) -> nn.Module:
    """What is done to images (B,C,H,W) and labels (B,H,W) of a training step; see `about_mirrors`."""
    if settings.recipe == "transunet":
        return TurnOrMirror()
    return Augmentation(flips=settings.flips and not sided(classes), field_shift=settings.field_shift)


def about_mirrors(settings: TrainSettings, classes: Sequence[str]) -> str:
    """What to say where mirrors would show a class as another, as a left kidney as a right one; else nothing.

    `flips` then mirrors nothing; the recipe `transunet` stays that of its paper.
    """
    names = " and ".join(sided(classes))
    if not names or not (settings.flips or settings.recipe == "transunet"):
        return ""
    if settings.recipe == "transunet":
        return f"the recipe transunet mirrors slices, as its paper does, though {names} have a side"
    return f"flips mirrors no slice here, since {names} have a side, and in a mirror would be another"


def build_optimiser(
    settings: TrainSettings, parameters: Iterable[nn.Parameter], steps: int
) -> OptimizerLRSchedulerConfig:
    """AdamW with a one-cycle schedule over all steps; or SGD with momentum 0.9, its rate falling as (1 - t)^0.9."""
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.recipe == "transunet":
        optimizer = torch.optim.SGD(parameters, rate, momentum=0.9, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=steps, power=0.9)
    else:
        optimizer = torch.optim.AdamW(parameters, rate, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
