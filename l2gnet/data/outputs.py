"""What the outputs of a model mean, with and without regions: the one way from logits to labels, and on to masks."""

from collections.abc import Sequence

import torch
from torch import Tensor

from l2gnet.data.regions import Regions
from l2gnet.shapes import Bool, Float, Int64, Num


def probabilities_of(logits: Float[Tensor, "B L H W"], regions: Regions) -> Float[Tensor, "B L H W"]:
    """The probability of each class, which add up to one; or of each region, by itself."""
    return logits.sigmoid() if regions else logits.softmax(1)


def labels_of(probabilities: Float[Tensor, "B L H W"], regions: Regions) -> Int64[Tensor, "B H W"]:
    """The label of each pixel: its most probable class; or that of the last region that is above a half, as painted."""
    if not regions:
        return probabilities.max(1).indices  # argmax gives the same, and takes five times as long on a CPU
    labels = torch.zeros_like(probabilities[:, 0], dtype=torch.int64)
    for share, number in zip(probabilities.unbind(1), regions.painted, strict=True):
        labels.masked_fill_(share > 0.5, number)
    return labels


def confidence_of(probabilities: Float[Tensor, "B L H W"], regions: Regions) -> Float[Tensor, "B H W"]:
    """The probability of each pixel's label: that of its class; or of the least certain answer, region by region."""
    return torch.maximum(probabilities, 1 - probabilities).amin(1) if regions else probabilities.amax(1)


def structures_of(probabilities: Float[Tensor, "B L H W"], regions: Regions) -> Float[Tensor, "B S H W"]:
    """The probability of each structure: all but the background's, which regions have none of."""
    return probabilities if regions else probabilities[:, 1:]


def masks_of(labels: Num[Tensor, "B *P"], structures: Sequence[Sequence[int]]) -> Bool[Tensor, "B S *P"]:
    """Where each structure is: the pixels of any of its labels (see `Regions.labels_of`), so none that are IGNORED."""
    masks = [torch.stack([labels == number for number in numbers]).any(0) for numbers in structures]
    return torch.stack(masks, dim=1)
