"""How well two label maps agree, pixel by pixel and slice by slice."""

import numpy as np

from l2gnet.data.volume import IGNORED
from l2gnet.shapes import Float32, Int, UInt8


def slice_areas(labels: UInt8[np.ndarray, "D H W"], classes: int) -> Int[np.ndarray, "D L"]:
    """Pixels of each class on each slice, for labels below `classes`."""
    return np.stack([np.bincount(picture.ravel(), minlength=classes) for picture in labels]).astype(np.int32)


def slice_moments(labels: UInt8[np.ndarray, "D H W"], classes: int) -> list[list[list[int]]]:
    """Of each slice and class: pixels, and the sums of their rows and of their columns; their mean is its middle."""
    places = np.indices(labels.shape[1:])
    weights = (np.ones_like(places[0]), *places)
    return [
        [[int(weight[picture == label].sum()) for weight in weights] for label in range(classes)] for picture in labels
    ]


def slice_dice(
    reference: UInt8[np.ndarray, "D H W"], other: UInt8[np.ndarray, "D H W"], classes: int
) -> Float32[np.ndarray, "D L"]:
    """Dice of each class on each slice (background too), where both are known; NaN where both maps lack the class."""
    dice = np.full((len(reference), classes), np.nan, np.float32)
    for d, (one, two) in enumerate(zip(reference, other, strict=True)):
        if classes <= IGNORED and (unknown := (one == IGNORED) | (two == IGNORED)).any():
            one, two = one[~unknown], two[~unknown]
        pairs = np.bincount((one.astype(np.uint16) * classes + two).ravel(), minlength=classes**2)
        joint = pairs.reshape(classes, classes)
        total = joint.sum(0) + joint.sum(1)
        np.divide(2 * joint.diagonal(), total, out=dice[d], where=total > 0, casting="same_kind")
    return dice


def agreement(truth: UInt8[np.ndarray, "H W"], predicted: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """0 where both are background, 1 correct, 2 false positive, 3 false negative, 4 a structure taken for another.

    Also 0 where the truth is IGNORED.
    """
    inside, claimed = truth > 0, predicted > 0
    nothing = (truth == IGNORED) | (~inside & ~claimed)
    return np.select([nothing, truth == predicted, ~inside, ~claimed], [0, 1, 2, 3], 4).astype(np.uint8)
