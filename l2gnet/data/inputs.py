"""The scans that a user names: files, or folders of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from l2gnet.data.volume import Volume, read_frames, volume_error

LABELS_END = "_labels"  # of the names of our own results, which are not scans


@dataclass(frozen=True)
class Input:
    """One scan to segment: the name its results get, and how to read its frames (several for a cine)."""

    name: str
    path: Path
    read: Callable[[], list[Volume]]


def find_inputs(paths: Sequence[str | Path]) -> list[Input]:
    """The scans among files and folders (with the folders below them), in the order named, then by path.

    In a folder, label maps are left out: files whose name ends in `_gt`, `_seg` or `_labels`.

    Raises:
        VolumeError: a path holds no scan, or two scans would get results of one name.
    """
    scans = [scan for path in paths for scan in _scans_at(Path(path))]
    by_name: dict[str, Input] = {}
    for scan in scans:
        other = by_name.setdefault(scan.name, scan)
        if other is not scan:
            rule = f"each scan needs a name of its own, because results are named after it; {other.path} has it too"
            raise volume_error(scan.path, rule, scan.name, "rename one, or segment them into two folders")
    return scans


def _scans_at(path: Path) -> list[Input]:
    if not path.is_dir():
        return [_nifti(path)]
    files = (file for pattern in ("*.nii", "*.nii.gz") for file in path.rglob(pattern))
    scans = [scan for scan in map(_nifti, sorted(files)) if not scan.name.endswith(("_gt", "_seg", LABELS_END))]
    if not scans:
        raise volume_error(path, "a folder must hold scans (.nii or .nii.gz)", "none", "name the one they lie in")
    return scans


def _nifti(path: Path) -> Input:
    name = path.name.removesuffix(".gz").removesuffix(".nii")
    return Input(name, path, lambda: read_frames(path))
