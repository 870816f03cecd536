"""The scans that a user names: NIfTI files, enhanced DICOM files, or folders of them or of DICOM series."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from l2gnet.ahead import one_ahead
from l2gnet.data.formats.dicom import Series, find_series, is_dicom
from l2gnet.data.volume import Volume, read_channels, read_frames
from l2gnet.errors import VolumeError, volume_error

LABELS_END = "_labels"  # of the names of our own results, which are not scans


@dataclass(frozen=True)
class Input:
    """One scan to segment: the name its results get, and how to read its frames (several for a cine).

    `series` is None for NIfTI.
    """

    name: str
    path: Path
    read: Callable[[], list[Volume]]
    series: Series | None = None


def find_inputs(paths: Sequence[str | Path], channels: Sequence[str] = ("image",)) -> list[Input]:
    """The scans among files and folders (with the folders below them), in the order named, then by path.

    In a folder, label maps are left out: files whose name ends in `_gt`, `_seg` or `_labels`. Where a model takes
    several `channels`, CASE_0000.nii.gz, CASE_0001.nii.gz and so on are one scan, and a 4-D file holds channels,
    otherwise moments in time.

    Raises:
        VolumeError: a path holds no scan, two scans would get results of one name, or a DICOM series is to have
            several channels.
    """
    scans = [scan for path in paths for scan in _scans_at(Path(path))]
    scans = _grouped(scans, channels) if len(channels) > 1 else scans
    by_name: dict[str, Input] = {}
    for scan in scans:
        other = by_name.setdefault(scan.name, scan)
        if other is not scan:
            rule = f"each scan needs a name of its own, because results are named after it; {other.path} has it too"
            raise volume_error(scan.path, rule, scan.name, "rename one, or segment them into two folders")
    return scans


def read_inputs(scans: Sequence[Input]) -> Iterator[tuple[Input, list[Volume] | VolumeError]]:
    """Each scan with its frames or what is wrong with them; the next one is read while a scan is in use."""

    def read(scan: Input) -> list[Volume] | VolumeError:
        try:
            return scan.read()
        except VolumeError as error:
            return error

    return zip(scans, one_ahead(map(read, scans)), strict=True)


def _scans_at(path: Path) -> list[Input]:
    if path.is_file() and is_dicom(path):
        found = find_series([path])
        if [one.path for one in found] != [path]:
            raise volume_error(path, "a DICOM series is named by its folder", "one file", f"name {path.parent}")
        return _series(found)
    if not path.is_dir():
        return [_nifti(path)]
    files = sorted(file for file in path.rglob("*") if file.is_file())
    nifti = [_nifti(file) for file in files if file.name.lower().endswith((".nii", ".nii.gz"))]
    scans = [scan for scan in nifti if not scan.name.endswith(("_gt", "_seg", LABELS_END))]
    dicom = [file for file in files if is_dicom(file)]
    scans += _series(find_series(dicom)) if dicom else []
    if not scans:
        rule = "a folder must hold scans (.nii, .nii.gz, or DICOM of CT, MR or PET)"
        raise volume_error(path, rule, "none", "name the one they lie in")
    return scans


def _nifti(path: Path) -> Input:
    return Input(_name(path), path, lambda: read_frames(path))


def _grouped(scans: Sequence[Input], channels: Sequence[str]) -> list[Input]:
    """The same scans, with the files of all channels as one."""
    files: dict[Path, list[Path]] = {}
    for scan in scans:
        if scan.series is not None:
            rule = f"a scan of several channels, {', '.join(channels)}, must be NIfTI"
            remedy = "convert the series of each to NIfTI files on one grid, NAME_0000.nii.gz, NAME_0001.nii.gz ..."
            raise volume_error(scan.path, rule, "a DICOM series", remedy)
        files.setdefault(scan.path.with_name(re.sub(r"(?<=.)_\d{4}$", "", scan.name)), []).append(scan.path)
    return [Input(case.name, paths[0], partial(_read_case, case, paths, channels)) for case, paths in files.items()]


def _read_case(case: Path, paths: Sequence[Path], channels: Sequence[str]) -> list[Volume]:
    """The one frame of a scan that has a file for each channel, or one 4-D file."""
    paths = sorted(paths)
    found, wanted = [_name(path) for path in paths], [f"{case.name}_{n:04d}" for n in range(len(channels))]
    if found not in ([case.name], wanted):
        rule = f"the channels {', '.join(channels)} must lie in {', '.join(wanted)} (.nii.gz), or in one 4-D file"
        raise volume_error(case, rule, ", ".join(found), "name all of them and no others, or rename them")
    return [read_channels(paths)]


def _name(path: Path) -> str:
    """Of a scan in one file."""
    return path.name.removesuffix(".gz").removesuffix(".nii").removesuffix(".dcm")


def _series(found: Sequence[Series]) -> list[Input]:
    """A series has the name of its folder, with its number where the folder holds several; or that of its one file."""
    beside = Counter(one.path for one in found)
    names = [
        (one.path.resolve().name if one.path.is_dir() else _name(one.path))
        + f"_series{one.number}" * (beside[one.path] > 1)
        for one in found
    ]
    return [Input(name, one.path, one.read_frames, one) for name, one in zip(names, found, strict=True)]
