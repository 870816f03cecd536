"""Labelled slices in memory, prepared once from volumes and kept in a compact cache."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from l2gnet.data.dataset import Case, DataSet
from l2gnet.data.grid import Grid, Plane
from l2gnet.data.resampling import image_on_grid, labels_on_grid
from l2gnet.data.settings import DataSettings
from l2gnet.files import atomic_path, content_hash
from l2gnet.shapes import Int64, UInt8

_ARRAYS = ("differences", "labels", "case", "names")
_FORMAT = 3  # counts up when the same settings would prepare other pixels


@dataclass(frozen=True)
class SliceSet:
    """Slices of many cases, stacked: slice s belongs to case `names[case[s]]`, and has C channels."""

    images: UInt8[np.ndarray, "S C H W"]
    labels: UInt8[np.ndarray, "S H W"]
    case: Int64[np.ndarray, " S"]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def select(self, names: Iterable[str]) -> "SliceSet":
        """The slices of the named cases, in the order of this set."""
        wanted = set(names)
        kept = tuple(name for name in self.names if name in wanted)
        new_index = {self.names.index(name): position for position, name in enumerate(kept)}
        rows = np.isin(self.case, list(new_index))
        case = np.array([new_index[old] for old in self.case[rows]], dtype=np.int64)
        return SliceSet(self.images[rows], self.labels[rows], case, kept)


def load_slices(settings: DataSettings, dataset: DataSet, grid: Grid) -> SliceSet:
    """All slices of the data set on the model's grid; those of real data are kept in the cache folder."""
    if settings.data.startswith("phantom"):
        return prepare_slices(dataset.cases, grid, len(dataset.labels))
    return cached_slices(dataset.cases, grid, len(dataset.labels), settings.cache_dir)[0]


def prepare_slices(cases: Sequence[Case], grid: Grid, count: int, plane: Plane = "acquired") -> SliceSet:
    """Load every case, with masks of `count` labels, and put its slices in this plane on the grid."""
    images, labels, owner = [], [], []
    for position, case in enumerate(tqdm(cases, desc="prepare", unit="volume", leave=False)):
        image, label = (each.in_plane(plane) for each in case.load())
        images.append(image_on_grid(image, grid))
        labels.append(labels_on_grid(label, grid, count))
        owner += [position] * len(images[-1])
    return SliceSet(
        np.concatenate(images),
        np.concatenate(labels),
        np.array(owner, dtype=np.int64),
        tuple(case.name for case in cases),
    )


def cached_slices(cases: Sequence[Case], grid: Grid, count: int, cache_dir: str | Path) -> tuple[SliceSet, Path]:
    """Prepared slices from the cache if it holds exactly these, else prepare and store them.

    The cache's name is a hash of the grid and of the content of every source file, so that a stale cache is
    never used. Returns the slices and the cache file.
    """
    path = Path(cache_dir) / f"slices-{cache_key(cases, grid, count)}.npz"
    if path.exists():
        stored = _read(path)
        if stored is not None:
            return stored, path
    slices = prepare_slices(cases, grid, count)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            differences=_differences(slices.images),
            labels=slices.labels,
            case=slices.case,
            names=np.array(slices.names),
        )
    return slices, path


def cache_key(cases: Sequence[Case], grid: Grid, count: int) -> str:
    """A hash of everything that the prepared slices depend on."""
    digest = hashlib.sha256(json.dumps([_FORMAT, asdict(grid), count]).encode())
    for case in cases:
        digest.update(f"{case.name} {case.reading}".encode())
        for path in case.files:
            digest.update(bytes.fromhex(content_hash(path)))
    return digest.hexdigest()[:16]


def _read(path: Path) -> SliceSet | None:
    """The cached slices, or None when the file is damaged and must be made again."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            slices, labels, case, names = (np.asarray(stored[name]) for name in _ARRAYS)
    except Exception:  # there is no end to what can be wrong with a file, and one remedy
        return None
    pixels = slices.dtype == labels.dtype == np.uint8 and slices.ndim == 4
    shapes_fit = pixels and (len(slices), *slices.shape[2:]) == labels.shape
    if not (shapes_fit and case.dtype == np.int64 and case.shape == slices.shape[:1] and names.ndim == 1):
        return None
    if not np.isin(case, np.arange(len(names))).all():
        return None
    return SliceSet(_restored(slices), labels, case, tuple(str(name) for name in names))


def _differences(images: UInt8[np.ndarray, "S C H W"]) -> UInt8[np.ndarray, "S C H W"]:
    """Each pixel less its neighbours at the left and above, modulo 256: exact, and a quarter smaller compressed."""
    zero = np.uint8(0)
    return np.diff(np.diff(images, axis=3, prepend=zero), axis=2, prepend=zero)


def _restored(differences: UInt8[np.ndarray, "S C H W"]) -> UInt8[np.ndarray, "S C H W"]:
    return differences.cumsum(axis=2, dtype=np.uint8).cumsum(axis=3, dtype=np.uint8)
