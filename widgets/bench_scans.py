"""What the workbench can open: held-out scans of a model's own data, scans of one's own, and a second model."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from l2gnet.data.dataset import Case
from l2gnet.data.inputs import Input
from l2gnet.data.volume import Volume, read_labels, read_volume, require_same_grid
from l2gnet.errors import CheckpointError, VolumeError
from l2gnet.inspection.seen_scan import SeenScan, labels_of_slices
from l2gnet.models.card import ModelCard
from l2gnet.models.checkpoint import load_checkpoint
from l2gnet.shapes import UInt8
from l2gnet.training.held_out import held_out_cases

OwnScan: TypeAlias = "str | Path | Volume | tuple[str | Path | Volume, str | Path | Volume]"


@dataclass(frozen=True)
class BenchScan:
    """A scan by the name that it has on the screen, opened with its label map when it is looked at."""

    name: str
    load: Callable[[], tuple[Volume, Volume | None]]


def bench_scans(scans: Sequence["OwnScan | Case | BenchScan"], card: ModelCard, data_dir: str = "") -> list[BenchScan]:
    """The scans to look at: these (a file or `Volume`, or a pair with its label map), or else those held out.

    Raises:
        ConfigError: no scan is named, and the data that the model was trained on needs a folder.
    """
    if not scans:
        return [_of_case(case) for case in held_out_cases(card, data_dir=data_dir)]
    return [_bench_scan(scan, number) for number, scan in enumerate(scans)]


def _bench_scan(scan: "OwnScan | Case | BenchScan", number: int) -> BenchScan:
    if isinstance(scan, BenchScan):
        return scan
    return _of_case(scan) if isinstance(scan, Case) else own_scan(scan, number)


def own_scan(scan: "OwnScan", number: int) -> BenchScan:
    """A scan of one's own, by its number: names of files say more about patients than a picture should."""
    image, labels = scan if isinstance(scan, tuple) else (scan, None)

    def load() -> tuple[Volume, Volume | None]:
        volume = image if isinstance(image, Volume) else read_volume(image)
        if labels is None:
            return volume, None
        truth = labels if isinstance(labels, Volume) else read_labels(labels)
        require_same_grid(volume, truth, _place(image, "the scan"), _place(labels, "its label map"))
        return volume, truth

    return BenchScan(f"scan {number + 1}", load)


def of_input(scan: Input, number: int, labels: Path | None = None) -> BenchScan:
    """A scan that was found in files, with its label map; of a cine the first frame."""

    def load() -> tuple[Volume, Volume | None]:
        volume = scan.read()[0]
        if labels is None:
            return volume, None
        truth = read_labels(labels)
        require_same_grid(volume, truth, scan.path, labels)
        return volume, truth

    return BenchScan(f"scan {number + 1}", load)


def _of_case(case: Case) -> BenchScan:
    return BenchScan(case.name, case.load)


def _place(given: "str | Path | Volume", otherwise: str) -> str | Path:
    return otherwise if isinstance(given, Volume) else given


class Drop:
    """A scan that comes in parts.

    Args:
        name: of the file that was dropped; only its ending is kept.
        size: bytes of it.

    Raises:
        VolumeError: its name is not that of a NIfTI file.
    """

    def __init__(self, name: str, size: int):
        ending = next((end for end in (".nii.gz", ".nii") if name.lower().endswith(end)), None)
        if ending is None:
            rule = "a scan that is dropped must be a NIfTI file, .nii or .nii.gz"
            raise VolumeError(f"{rule}; found another; name DICOM folders on the command line: l2gnet view MODEL SCAN.")
        self.size, self._ending, self._here = size, ending, bytearray()

    def take(self, start: int, part: memoryview) -> Volume | None:
        """Keep a part; with the last one, read the scan.

        Raises:
            ValueError: the part does not follow the one before.
            VolumeError: the scan cannot be read.
        """
        if len(self._here) != start:
            raise ValueError(f"the parts of a file must follow each other, got one from {start}; drop it again")
        self._here += part
        if len(self._here) < self.size:
            return None
        with tempfile.TemporaryDirectory(prefix="l2gnet-") as folder:
            path = Path(folder) / f"scan{self._ending}"
            path.write_bytes(self._here)
            return read_volume(path)


class Other:
    """A second model, whose labels are looked at beside those of the first.

    Args:
        checkpoint: as the workbench takes them.
        beside: the card of the first model.

    Raises:
        CheckpointError: the model cannot be read, or it sees or finds something else.
    """

    def __init__(self, checkpoint: str | Path, beside: ModelCard):
        self.model, card = load_checkpoint(checkpoint)
        self.name, self.regions = Path(checkpoint).stem, card.regions
        ours, others = ((c.classes, c.regions, c.channels, c.grid, c.plane) for c in (beside, card))
        if ours != others:
            rule = "two models side by side must share classes, channels, grid and plane"
            raise CheckpointError(f"{checkpoint}: {rule}, got {others} beside {ours}; name models of one task")
        self._labels: dict[int, np.ndarray] = {}

    def labels_of(self, seen: SeenScan) -> UInt8[np.ndarray, "D H W"]:
        """What it finds in the slices that the first model saw."""
        if id(seen) not in self._labels:
            self._labels = {id(seen): labels_of_slices(self.model, seen.images, self.regions)}
        return self._labels[id(seen)]
