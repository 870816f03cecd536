"""Left and right: which classes have a side, and whether an image lies in the world as what was found in it says."""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from l2gnet.data.regions import NO_REGIONS, Regions
from l2gnet.data.volume import Volume

_SIDE = {word: side for side in ("left", "right") for word in (side, side[0], f"{side[0]}t")}
_TWIN = {"l": "r", "r": "l"}
_CHAMBERS = {f"{side[0]}{part[0]}": (side, part) for side in ("left", "right") for part in ("ventricle", "atrium")}
_ONE_SIDED = ({"liver", "gallbladder", "gall bladder"}, {"spleen"})  # on the right, on the left
_LEAST_ML = 0.5  # of a structure that is seen well enough to say where it lies
_LEAST_MM = 10.0  # that two lie the wrong way round; the ventricles of 100 hearts lie 12 to 54 mm the right way


def sided(classes: Sequence[str]) -> list[str]:
    """The classes that are named after their side: seen in a mirror, each would be another one."""
    return [name for name, (side, _) in _sides(classes).items() if side]


def wrong_sides(labels: Volume, classes: Sequence[str], regions: Regions = NO_REGIONS) -> list[str]:
    """Structures that lie the wrong way round in the world, in words: liver and spleen, or a pair named by its sides.

    Either the header mirrors the image, or the two were exchanged; a body whose organs are mirrored is rare. Nothing is
    said of a volume of unknown voxel size, nor of structures too small or too near each other to be sure.
    """
    pairs = _pairs(classes)
    if not (pairs and labels.has_mm):
        return []
    found = dict(zip(classes[1:], regions.labels_of(len(classes)), strict=True))
    places_mm = _to_the_right_mm(labels, {name: found[name] for pair in pairs for name in pair})
    question = "does its header mirror it, or were the two exchanged?"
    return [
        f"{right} lies {places_mm[left] - places_mm[right]:.0f} mm to the left of {left}: {question}"
        for right, left in pairs
        if places_mm[left] - places_mm[right] > _LEAST_MM
    ]


def _pairs(classes: Sequence[str]) -> list[tuple[str, str]]:
    """Classes of which the first must lie to the right of the second."""
    sides = _sides(classes)
    named = [(a, b) for a in sides for b in sides if sides[a] == ("right", sides[b][1]) and sides[b][0] == "left"]
    rights, lefts = ([name for name in classes[1:] if " ".join(_words(name)) in some] for some in _ONE_SIDED)
    return named + [(right, left) for right in rights for left in lefts]


def _sides(classes: Sequence[str]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """The side of each class, and what else its name says; of a pair as rkid and lkid the first or last letter says it.

    That letter says nothing by itself: it takes both of them.
    """
    sides = {name: _side_of(name) for name in classes[1:]}
    silent = {name: _words(name) for name, (side, _) in sides.items() if not side}
    for name, words in silent.items():
        for place, word in enumerate(words):
            for pattern in (r"^[lr](?=.)", r"(?<=.)[lr]$"):
                if not (letter := re.search(pattern, word)):
                    continue
                twin, rest = (re.sub(pattern, letter_of, word) for letter_of in (_TWIN[letter[0]], ""))
                if [*words[:place], twin, *words[place + 1 :]] in silent.values():
                    sides[name] = _SIDE[letter[0]], (*words[:place], rest, *words[place + 1 :])
    return sides


def _words(name: str) -> list[str]:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[^A-Za-z0-9]+", " ", name).lower().split()


def _side_of(name: str) -> tuple[str, tuple[str, ...]]:
    """The side that a name says, if it says one, and what else it says."""
    words = [word for whole in _words(name) for word in _CHAMBERS.get(whole, (whole,))]
    found = {_SIDE[word] for word in words if word in _SIDE}
    return found.pop() if len(found) == 1 else "", tuple(word for word in words if word not in _SIDE)


def _to_the_right_mm(labels: Volume, numbers: Mapping[str, tuple[int, ...]]) -> dict[str, float]:
    """Where the middle voxel of each structure lies from left to right; NaN where there is too little of it."""
    from scipy import ndimage  # here, as SciPy takes long to import

    voxel_ml = abs(float(np.linalg.det(labels.affine[:3, :3]))) / 1000
    places_mm = dict.fromkeys(numbers, math.nan)
    for name, own in numbers.items():
        mask = np.isin(labels.array, own)
        for box in ndimage.find_objects(mask.view(np.uint8)):
            part = mask[box]
            found = np.flatnonzero(part)
            if len(found) * voxel_ml >= _LEAST_ML:
                some = np.unravel_index(found[:: max(1, len(found) // 10_000)], part.shape)
                places = np.stack(some, axis=1) + [side.start for side in box]
                places_mm[name] = float(np.median(places @ labels.affine[0, :3]) + labels.affine[0, 3])
    return places_mm
