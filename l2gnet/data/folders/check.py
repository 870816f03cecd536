"""Read a whole data folder and say, in words, all that is wrong with it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from l2gnet.data.folders import acdc, decathlon, synapse
from l2gnet.data.folders.scan import ScanFolder, beside_scans, counted
from l2gnet.data.sides import wrong_sides
from l2gnet.errors import VolumeError, volume_error

Kind = Literal["decathlon", "acdc", "synapse"]
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Report:
    """What `check` found: every problem and note in words, and counts over the scans that could be read."""

    kind: str
    classes: tuple[str, ...]
    problems: list[str]
    notes: list[str]
    patients: int
    volumes: int
    slices: int
    groups: dict[str, int]
    spacing_mm: tuple[tuple[float, float], ...]  # smallest and largest along D, H, W; empty when nothing was readable

    def __str__(self) -> str:
        groups = ", ".join(f"{name} {count}" for name, count in self.groups.items())
        spacing = " x ".join(f"{low:.3g}-{high:.3g}" for low, high in self.spacing_mm)
        patients = f"{self.patients} patients" + (f" ({groups})" if groups else "")
        lines = [f"{self.kind}: {patients}, {self.volumes} volumes, {self.slices} slices"]
        lines += [f"classes: {', '.join(self.classes)}"]
        lines += [f"spacing {spacing} mm (D x H x W)"] if spacing else []
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"problem: {problem}" for problem in self.problems]
        return "\n".join([*lines, f"{len(self.problems) or 'no'} problem{'s' * (len(self.problems) != 1)}"])


def check(data_dir: str | Path) -> Report:
    """Find out which kind of data set a folder holds, read all its scans and label maps, and report what is wrong.

    Raises VolumeError if the folder holds no data set of a known kind, or one whose description cannot be read.
    """
    data_dir = Path(data_dir)
    folder = find_whole(data_dir)
    several = f"channels {', '.join(folder.channels)}; a model takes all together, or those that `channel` names"
    notes = [several] if len(folder.channels) > 1 else []
    absent = folder.test_patients - {scan.patient for scan in folder.scans}
    notes += counted(absent, "test case", "of TransUNet's split, but not here")
    return _report(kind_of(data_dir), data_dir, folder, notes)


def find_whole(data_dir: Path) -> ScanFolder:
    """The scans of a data folder of any kind, with all their channels; raises VolumeError as `check` does."""
    return _FIND[kind_of(data_dir)](data_dir)


_IS: dict[Kind, Callable[[Path], bool]] = {
    "decathlon": decathlon.is_task,
    "acdc": acdc.is_acdc,
    "synapse": synapse.is_synapse,
}
_FIND: dict[Kind, Callable[[Path], ScanFolder]] = {
    "decathlon": decathlon.find_scans,
    "acdc": acdc.find_scans,
    "synapse": synapse.find_scans,
}


def kind_of(data_dir: Path) -> Kind:
    """Which kind of data set a folder holds; raises VolumeError as `check` does."""
    if not data_dir.is_dir():
        raise volume_error(data_dir, "the data must be a folder", "none", "check the path")
    for kind, is_one in _IS.items():
        if is_one(data_dir):
            return kind
    rule = (
        "the folder must hold a dataset.json beside imagesTr and labelsTr (decathlon), patientNNN folders (acdc), "
        "or imgNNNN and labelNNNN.nii.gz, or train_npz and test_vol_h5 (synapse)"
    )
    names = sorted(path.name for path in data_dir.iterdir())
    raise volume_error(data_dir, rule, ", ".join(names[:5]) or "nothing", "name the folder in which these lie")


def _report(kind: str, data_dir: Path, folder: ScanFolder, notes: list[str]) -> Report:
    problems = [*map(str, folder.problems), *(f"{data_dir}: {line}" for line in folder.missing)]
    volumes: dict[str, int] = {}  # slices of each volume that could be read
    spacings_mm: list[tuple[float, float, float]] = []

    def attempt(step: Callable[..., _Result], *arguments: object) -> _Result | None:
        try:
            return step(*arguments)
        except VolumeError as error:
            problems.append(str(error))
            return None

    first = folder.scans[:1]
    notes += [f"numbers in the masks became classes: {scan.renumbered}" for scan in first if scan.class_of]
    notes += [f"regions: its labels are {', '.join(scan.labels[1:])}" for scan in first if scan.regions]
    for scan in folder.scans:
        image = attempt(scan.read_image)
        labels = attempt(scan.read_labels) if scan.label else None
        if image:
            if image.has_mm:
                spacings_mm.append(image.spacing_mm)
            else:
                notes.append(
                    "prepared by others, without voxel size: distances are scored in voxels, volumes not at all"
                )
            volumes[scan.name] = image.shape[0]
            notes += [f"{scan.name}: {remark}" for remark in image.remarks]
        if image and labels:
            attempt(scan.matched, image, labels)
        if labels:
            sides = wrong_sides(labels, scan.classes, scan.regions)
            notes += [f"{scan.name}: {remark}" for remark in (*labels.remarks, *sides)]
            structures = scan.regions.labels_of(len(scan.classes))
            present = [(labels.array == 0).any(), *(np.isin(labels.array, own).any() for own in structures)]
            absent = [name for name, found in zip(scan.classes, present, strict=True) if not found]
            notes += [f"{scan.name}: no {name} in the mask" for name in absent]
        elif scan.label is None:
            notes.append(f"{scan.name}: no mask; it can be segmented, but neither trained on nor scored")

    notes += beside_scans(data_dir, folder.scans)
    group_of = {scan.patient: scan.group for scan in folder.scans}
    return Report(
        kind=kind if folder.name == kind else f"{kind} ({folder.name})",
        classes=folder.classes,
        problems=list(dict.fromkeys(problems)),
        notes=list(dict.fromkeys(notes)),
        patients=len(group_of),
        volumes=len(volumes),
        slices=sum(volumes.values()),
        groups={group: count for group, count in sorted(Counter(group_of.values()).items()) if group},
        spacing_mm=tuple((min(axis), max(axis)) for axis in zip(*spacings_mm, strict=True)),
    )
