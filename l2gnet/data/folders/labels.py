"""The labels of a dataset.json: a class each, or regions of several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from l2gnet.data.folders.scan import LARGEST, UNNAMED
from l2gnet.data.regions import NO_REGIONS, Regions
from l2gnet.data.volume import IGNORED
from l2gnet.errors import volume_error

_IGNORE = "ignore"  # nnU-Net's name for what nobody drew


@dataclass(frozen=True)
class Labels:
    """The names of the classes, background first, and the label (see `Scan.class_of`) of each number in a file.

    Numbers may have gaps, labels have none; `class_of` is empty where they are the same.
    """

    classes: tuple[str, ...]
    class_of: tuple[int, ...]
    regions: Regions = NO_REGIONS


def read_labels_of(path: Path, info: Mapping[str, Any]) -> Labels:
    """What a dataset.json says of labels; raises VolumeError where it cannot be used."""
    labels = info.get("labels")
    if not isinstance(labels, dict) or not labels:
        _refuse(path, labels)
    by_number = all(key.isdecimal() for key in labels)
    several = any(isinstance(value, list) and len(value) > 1 for value in labels.values())
    named: list[tuple[str, tuple[int, ...]]] = []
    for key, value in labels.items():
        name, given = (value, key) if by_number else (key, value)
        numbers = tuple(sorted(set(map(_number, given if isinstance(given, list) else [given]))))
        taken = not several and numbers in [others for _, others in named]
        if not isinstance(name, str) or not name.strip() or not numbers or numbers[0] < 0 or taken:
            _refuse(path, f"{key!r}: {value!r}")
        named.append((name.strip(), numbers))
    found = dict(named)
    if len(found) < len(named):
        _refuse(path, f"the names {[name for name, _ in named]}, one of them twice")
    ignored = found.pop(_IGNORE) if not by_number and found.get(_IGNORE, (0,)) != (0,) else ()
    if several:
        return _regions(path, found, ignored, info.get("regions_class_order"))
    kept = sorted(number for (number,) in found.values())
    class_of = _numbered(path, kept, ignored)
    return Labels(tuple(sorted(found, key=found.__getitem__)), class_of)


def _number(value: object) -> int:
    """A number, which may be written as text; -1 for what is none."""
    if isinstance(value, str) and value.isdecimal() and len(value) <= 5:
        return int(value)
    return value if type(value) is int else -1


def _numbered(path: Path, kept: Sequence[int], ignored: Sequence[int]) -> tuple[int, ...]:
    """The label of each number in a file, without gaps; nothing where that is the same."""
    if not 2 <= len(kept) <= IGNORED or kept[0] != 0 or max(*kept, *ignored) > LARGEST:
        _refuse(path, f"the numbers {kept}")
    class_of = [UNNAMED] * (max(*kept, *ignored) + 1)
    for label, number in enumerate(kept):
        class_of[number] = label
    for number in ignored:
        class_of[number] = IGNORED
    return () if class_of == list(range(len(kept))) else tuple(class_of)


def _refuse(path: Path, found: object) -> NoReturn:
    rule = 'labels must name a class for each number from 0, as {"background": 0, "liver": 1}'
    raise volume_error(path, rule, str(found)[:200], "correct labels, and renumber the label files if need be")


def _regions(path: Path, found: dict[str, tuple[int, ...]], ignored: Sequence[int], order: object) -> Labels:
    """nnU-Net's regions, in the order of the file, which is that of `regions_class_order`."""
    regions = {name: numbers for name, numbers in found.items() if numbers != (0,)}
    background = [name for name in found if name not in regions]
    if len(background) != 1:
        _refuse(path, f"{len(background)} names for the number 0")
    for name, numbers in regions.items():
        if 0 in numbers or set(numbers) & set(ignored):
            rule = "a region must hold neither the background nor what is ignored"
            raise volume_error(path, rule, f"{name!r}: {list(numbers)}"[:200], "correct labels")
    painted = tuple(map(_number, order)) if isinstance(order, list) else ()
    groups = list(regions.values())
    own = [
        number in numbers and not any(number in later for later in groups[place:])
        for place, (number, numbers) in enumerate(zip(painted, groups, strict=False), start=1)
    ]
    if not len(painted) == len(own) == len(regions) or not all(own):
        rule = "regions_class_order must give each region, in the order of labels, one of its own labels, not a later's"
        found_order = f"{order!r} for {', '.join(f'{name} {list(numbers)}' for name, numbers in regions.items())}"
        remedy = "name for each region the label of a pixel that lies in it, and in no region after it"
        raise volume_error(path, rule, found_order, remedy)
    kept = sorted({0, *(number for numbers in regions.values() for number in numbers)})
    labels = tuple(tuple(map(kept.index, numbers)) for numbers in regions.values())
    class_of = _numbered(path, kept, ignored)
    return Labels((background[0], *regions), class_of, Regions(labels, tuple(map(kept.index, painted))))
