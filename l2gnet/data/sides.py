"""Left and right: which classes have a side, and whether an image lies in the world as what was found in it says."""

import math
import re
from collections.abc import Sequence

import numpy as np

from l2gnet.data.volume import Volume

_SIDE = {word: side for side in ("left", "right") for word in (side, side[0], f"{side[0]}t")}
_CHAMBERS = {f"{side[0]}{part[0]}": (side, part) for side in ("left", "right") for part in ("ventricle", "atrium")}
_ONE_SIDED = ({"liver", "gallbladder", "gall bladder"}, {"spleen"})  # on the right, on the left
_LEAST_ML = 0.5  # of a structure that is seen well enough to say where it lies
_LEAST_MM = 10.0  # that two lie the wrong way round; the ventricles of 100 hearts lie 12 to 54 mm the right way


def sided(classes: Sequence[str]) -> list[str]:
    """The classes that are named after their side: seen in a mirror, each would be another one."""
    return [name for name in classes[1:] if _side_of(name)[0]]


def wrong_sides(labels: Volume, classes: Sequence[str]) -> list[str]:
    """Structures that lie the wrong way round in the world, in words: liver and spleen, or a pair named by its sides.

    Either the header mirrors the image, or the two were exchanged; a body whose organs are mirrored is rare. Nothing is
    said of a volume of unknown voxel size, nor of structures too small or too near each other to be sure.
    """
    if not labels.has_mm:
        return []
    lines = []
    for right, left in _pairs(classes):
        right_mm, left_mm = (_to_the_right_mm(labels, classes.index(name)) for name in (right, left))
        if (wrong_mm := left_mm - right_mm) > _LEAST_MM:
            question = "does its header mirror it, or were the two exchanged?"
            lines.append(f"{right} lies {wrong_mm:.0f} mm to the left of {left}: {question}")
    return lines


def _pairs(classes: Sequence[str]) -> list[tuple[str, str]]:
    """Classes of which the first must lie to the right of the second."""
    sides = {name: _side_of(name) for name in classes[1:]}
    named = [(a, b) for a in sides for b in sides if sides[a] == ("right", sides[b][1]) and sides[b][0] == "left"]
    rights, lefts = ([name for name in classes[1:] if " ".join(_words(name)) in some] for some in _ONE_SIDED)
    return named + [(right, left) for right in rights for left in lefts]


def _words(name: str) -> list[str]:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[^A-Za-z0-9]+", " ", name).lower().split()


def _side_of(name: str) -> tuple[str, tuple[str, ...]]:
    """The side that a name says, if it says one, and what else it says."""
    words = [word for whole in _words(name) for word in _CHAMBERS.get(whole, (whole,))]
    found = {_SIDE[word] for word in words if word in _SIDE}
    return found.pop() if len(found) == 1 else "", tuple(word for word in words if word not in _SIDE)


def _to_the_right_mm(labels: Volume, label: int) -> float:
    """Where the middle voxel of a structure lies from left to right; NaN where there is too little of it."""
    found = np.flatnonzero(labels.array == label)
    if len(found) * abs(float(np.linalg.det(labels.affine[:3, :3]))) / 1000 < _LEAST_ML:
        return math.nan
    some = np.unravel_index(found[:: max(1, len(found) // 10_000)], labels.shape)
    return float(np.median(labels.affine[0, :3] @ np.stack(some)) + labels.affine[0, 3])
