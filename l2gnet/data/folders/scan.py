"""What every data folder comes down to: scans with label maps, as files, and what is wrong with them."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from l2gnet.checks import nearest
from l2gnet.data.beside import is_nifti, listed, passed_over
from l2gnet.data.regions import NO_REGIONS, Regions
from l2gnet.data.volume import (
    IGNORED,
    Volume,
    placed_like,
    read_channels,
    read_labels,
    read_volume,
    require_same_grid,
)
from l2gnet.errors import ConfigError, VolumeError, volume_error
from l2gnet.files import walk_links

_DESCRIPTIONS = {"dataset.json", "splits_final.json", "Info.cfg"}  # read with the scans that they describe
UNNAMED = -1  # the class of a number that no mask of a data set may hold
LARGEST = 65535  # of the numbers in a mask
ABDOMEN_HU = (-125.0, 275.0)  # the window of soft tissue that TransUNet and its successors use, arXiv 2102.04306


@dataclass(frozen=True)
class Scan:
    """One scan and its label map, as files; `label` is None where there is none.

    `group` (of diagnosis) and `phase` (of the heart beat) are empty where a data set has no such thing. `channels`
    are those to read from an image that holds `of_channels`, in order; where each has a file of its own, `more` are the
    files of those after the first. `class_of` gives the class of each value in the label file, where that is not the
    value itself: `UNNAMED` for those that must not be there, `IGNORED` for those that are neither learnt nor scored.
    With `regions` it gives labels, of which the classes are made.
    """

    name: str
    patient: str
    image: Path
    label: Path | None
    classes: tuple[str, ...]
    group: str = ""
    phase: str = ""
    channels: tuple[int, ...] = ()
    class_of: tuple[int, ...] = ()
    more: tuple[Path, ...] = ()
    regions: Regions = NO_REGIONS
    of_channels: int = 0

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels in a map, by number."""
        return self.regions.label_names(self.classes)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of the image and, where there is one, the label map's."""
        images = (self.image, *self.more)
        return images if self.label is None else (*images, self.label)

    def read_image(self) -> Volume:
        """The scan; raises VolumeError where a file is missing or damaged, or channels lie on different grids."""
        if self.more or len(self.channels) > 1:
            return read_channels((self.image, *self.more), self.channels, self.of_channels)
        return read_volume(self.image, channel=self.channels[0] if self.channels else None, of=self.of_channels)

    def read_labels(self) -> Volume:
        """The label map, of values 0 to L-1 and IGNORED.

        Raises VolumeError where it is missing, damaged or of other values.
        """
        if self.label is None:
            rule = f"{self.name} must have a mask to be trained on or scored"
            raise volume_error(self.image, rule, "none", "leave this scan out, or copy its mask")
        class_of = np.array(self.class_of or range(len(self.labels)), np.int16)
        labels = read_labels(self.label, largest=255 if len(class_of) <= 256 else LARGEST)
        classes = class_of[labels.array.clip(max=len(class_of) - 1)]
        unknown = np.unique(labels.array[(labels.array >= len(class_of)) | (classes == UNNAMED)]).tolist()
        if unknown:
            named = [str(number) for number in np.flatnonzero(class_of != UNNAMED)]
            gaps = len(named) < len(class_of)
            rule = f"labels must be {listed(named, most=20)}" if gaps else f"labels must lie in 0..{len(class_of) - 1}"
            raise volume_error(self.label, rule, unknown, "use this data set's own mask, or name its labels")
        return labels.like(classes.astype(np.uint8))

    @property
    def renumbered(self) -> str:
        """What became of each number in the label file, in words; empty where none was changed."""
        names = {IGNORED: "left out of learning and scores"} | {c: f"{c} {name}" for c, name in enumerate(self.labels)}
        return ", ".join(f"{n} -> {names[c]}" for n, c in enumerate(self.class_of) if c != UNNAMED)

    def read(self) -> tuple[Volume, Volume]:
        """The scan and its label map; raises VolumeError also where the two do not lie on one grid."""
        image, labels = self.read_image(), self.read_labels()
        return image, self.matched(image, labels)

    def matched(self, image: Volume, labels: Volume) -> Volume:
        """The label map on the grid of the scan; raises VolumeError where it lies on another."""
        labels = placed_like(labels, image)
        require_same_grid(image, labels, self.image, self.label or self.image)
        return labels


@dataclass(frozen=True)
class ScanFolder:
    """What a data folder holds, before any voxel is read; each of `problems` keeps a scan out of `scans`.

    `window` is the intensity range to look at, where grey values have a unit, as in CT. `test_patients` are those
    that the data set's own split holds out; empty where it has none. `licence` says what the data may be used for.
    `channels` are the names of the image channels that each scan has, in order. `missing` says what the folder lacks
    that none of `scans` needs, as the mask of an image: training goes on without it, and says so.
    """

    name: str
    classes: tuple[str, ...]
    scans: tuple[Scan, ...]
    problems: tuple[VolumeError, ...]
    citation: str
    window: tuple[float, float] | None = None
    test_patients: frozenset[str] = frozenset()
    licence: str = "as the owner of the data grants"
    channels: tuple[str, ...] = ("image",)
    missing: tuple[str, ...] = ()
    regions: Regions = NO_REGIONS

    def with_structures(self, names: Sequence[str]) -> "ScanFolder":
        """The same scans with these structures alone, in the folder's order; what else is labelled is background.

        Raises:
            ConfigError: the folder has no such structure, or regions.
        """
        if self.regions:
            rule = "structures must be empty for a folder of regions, whose labels belong to several of them"
            raise ConfigError(f"{rule}, got {', '.join(names)}; leave the others out of labels in dataset.json")
        for name in names:
            if name not in self.classes[1:]:
                rule = "structures must be some of those in the folder"
                raise ConfigError(f"{rule}, got {name!r}{nearest(name, self.classes[1:])}")
        kept = (self.classes[0], *(name for name in self.classes[1:] if name in names))
        new = {old: kept.index(name) if name in kept else 0 for old, name in enumerate(self.classes)}
        new |= {special: special for special in (UNNAMED, IGNORED)}
        scans = (
            replace(scan, classes=kept, class_of=tuple(new[old] for old in scan.class_of or range(len(self.classes))))
            for scan in self.scans
        )
        return replace(self, classes=kept, scans=tuple(scans))


def beside_scans(root: Path, scans: Sequence[Scan]) -> list[str]:
    """What lies in a data folder and is none of its scans, as `passed_over` says it; images without a use are not."""
    used = {file for scan in scans for file in scan.files}
    files = [file for file in files_inside(root) if file not in used]
    return passed_over(file for file in files if file.name not in _DESCRIPTIONS and not is_nifti(file))


def files_inside(root: Path) -> Iterator[Path]:
    """The files of a data folder under each of their names, whatever links they go by, but for links out of it."""
    for here, folders, names in walk_links(root):
        folders[:] = [name for name in folders if lies_inside(root, here / name)]
        files = (here / name for name in names if lies_inside(root, here / name))
        yield from filter(os.path.isfile, files)  # which passes over a folder that may not be read


def counted(names: Iterable[str], noun: str, what: str) -> list[str]:
    """A line that counts and names what is missing or too much; none where nothing is."""
    found = sorted(set(names))
    return [f"{len(found)} {noun}{'s' * (len(found) > 1)} {what}: {listed(found, most=20)}"] if found else []


def without_masks(scans: Sequence[Scan]) -> list[str]:
    """Which scans have no mask, where others have: a folder of none is one to segment."""
    bare = [scan.name for scan in scans if scan.label is None]
    return counted(bare, "scan", "without a mask, neither trained on nor scored") if len(bare) < len(scans) else []


def is_ct(channel: str) -> bool:
    """Whether the name of a channel says that its grey values are HU."""
    return channel.casefold() == "ct"


def lies_inside(root: Path, path: Path) -> bool:
    """Whether a file lies below a folder, whatever links and `..` it goes by."""
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, ValueError, RuntimeError):  # a null byte, a name too long, links in a circle
        return False


def require_inside(root: Path, *paths: Path) -> None:
    """Raise VolumeError unless all files lie below the data folder that a user named."""
    for path in paths:
        if not lies_inside(root, path):
            rule = "files must lie inside the data folder, not be reached by .. or a link out of it"
            raise volume_error(path, rule, repr(str(path))[:200], "copy them into it")


def split_patients(scans: Sequence[Scan], counts: Sequence[int] = (80, 20), seed: int = 0) -> tuple[list[str], ...]:
    """Deal all patients into lists of the given sizes, each with the groups in proportion, fixed by `seed`.

    For ACDC (80, 20) makes training and validation of the official 100; (70, 10, 20) the lists of many papers'
    comparisons (of those proportions: not the patients of any one paper). Raises ConfigError unless the counts are
    positive and sum to the number of patients.
    """
    group_of = {scan.patient: scan.group for scan in sorted(scans, key=lambda scan: scan.name)}
    if min(counts, default=0) < 1 or sum(counts) != len(group_of):
        raise ConfigError(
            f"Split counts must be positive and sum to the number of patients, {len(group_of)}; found {tuple(counts)}; "
            "change the counts or the data folder."
        )
    shuffled = np.random.default_rng(seed).permutation(list(group_of)).tolist()
    place: dict[str, float] = {}  # within the patient's group, from 0 to 1: sorting by it interleaves the groups
    for group in set(group_of.values()):
        members = [patient for patient in shuffled if group_of[patient] == group]
        place |= {patient: (rank + 0.5) / len(members) for rank, patient in enumerate(members)}
    interleaved = iter(sorted(shuffled, key=lambda patient: place[patient]))
    return tuple(sorted(next(interleaved) for _ in range(count)) for count in counts)
