"""How well two label maps agree, pixel by pixel and slice by slice."""

import numpy as np

from l2gnet.data.volume import IGNORED
from l2gnet.shapes import Bool, Float32, Int, UInt8


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
        if (unknown := _unknown(one, two, classes)).any():
            one, two = one[~unknown], two[~unknown]
        pairs = np.bincount((one.astype(np.uint16) * classes + two).ravel(), minlength=classes**2)
        joint = pairs.reshape(classes, classes)
        total = joint.sum(0) + joint.sum(1)
        np.divide(2 * joint.diagonal(), total, out=dice[d], where=total > 0, casting="same_kind")
    return dice


def agreement(
    truth: UInt8[np.ndarray, "H W"], predicted: UInt8[np.ndarray, "H W"], classes: int
) -> UInt8[np.ndarray, "H W"]:
    """0 where both are background, 1 correct, 2 false positive, 3 false negative, 4 a structure taken for another.

    Also 0 where either is not known.
    """
    inside, claimed = truth > 0, predicted > 0
    nothing = _unknown(truth, predicted, classes) | (~inside & ~claimed)
    return np.select([nothing, truth == predicted, ~inside, ~claimed], [0, 1, 2, 3], 4).astype(np.uint8)


def _unknown(one: UInt8[np.ndarray, "H W"], two: UInt8[np.ndarray, "H W"], classes: int) -> Bool[np.ndarray, "H W"]:
    """Where either is IGNORED, unless that is the number of one of the `classes`."""
    return ((one == IGNORED) | (two == IGNORED)) & (classes <= IGNORED)
