"""What the workbench can open: held-out scans of a model's own data, scans of one's own, and a second model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from l2gnet.data.dataset import Case
from l2gnet.data.inputs import Input
from l2gnet.data.volume import IGNORED, Volume, read_labels, read_volume, require_same_grid
from l2gnet.errors import CheckpointError, volume_error
from l2gnet.inspection.seen_scan import SeenScan, labels_of_slices
from l2gnet.models.card import ModelCard
from l2gnet.models.checkpoint import load_checkpoint
from l2gnet.shapes import UInt8
from l2gnet.training.held_out import held_out_cases

OwnScan: TypeAlias = "str | Path | Volume | tuple[str | Path | Volume, str | Path | Volume]"


@dataclass(frozen=True)
class BenchScan:
    """A scan by the name that it has on the screen, opened with its label map when it is looked at.

    `brought` says that a person brought it; the others are of the data that the model was trained on.
    """

    name: str
    load: Callable[[], tuple[Volume, Volume | None]]
    brought: bool = True


def bench_scans(scans: Sequence["OwnScan | Case | BenchScan"], card: ModelCard, data_dir: str = "") -> list[BenchScan]:
    """The scans to look at: these (a file or `Volume`, or a pair with its label map), or else those held out.

    Raises:
        ConfigError: no scan is named, and the data that the model was trained on needs a folder.
    """
    if not scans:
        return [_of_case(case) for case in held_out_cases(card, data_dir=data_dir)]
    return [_bench_scan(scan, number, card) for number, scan in enumerate(scans)]


def _bench_scan(scan: "OwnScan | Case | BenchScan", number: int, card: ModelCard) -> BenchScan:
    if isinstance(scan, BenchScan):
        return scan
    return _of_case(scan) if isinstance(scan, Case) else own_scan(scan, number, card)


def own_scan(scan: "OwnScan", number: int, card: ModelCard) -> BenchScan:
    """A scan of one's own, by its number: names of files say more about patients than a picture should."""
    image, labels = scan if isinstance(scan, tuple) else (scan, None)

    def load() -> tuple[Volume, Volume | None]:
        volume = image if isinstance(image, Volume) else read_volume(image)
        return volume, _truth(labels, volume, "the scan" if isinstance(image, Volume) else image, card)

    return BenchScan(f"scan {number + 1}", load)


def of_input(scan: Input, number: int, card: ModelCard, labels: Path | None = None) -> BenchScan:
    """A scan that was found in files, with its label map; of a cine the first frame."""

    def load() -> tuple[Volume, Volume | None]:
        volume = scan.read()[0]
        return volume, _truth(labels, volume, scan.path, card)

    return BenchScan(f"scan {number + 1}", load)


def _truth(
    labels: str | Path | Volume | None, volume: Volume, volume_path: str | Path, card: ModelCard
) -> Volume | None:
    """The label map of a scan, which must be on its grid and hold the labels of the model, or pixels left out."""
    if labels is None:
        return None
    truth, path = (labels, "its label map") if isinstance(labels, Volume) else (read_labels(labels), labels)
    require_same_grid(volume, truth, volume_path, path)
    strange = sorted(set(np.unique(truth.array).tolist()) - {*range(len(card.labels)), IGNORED})
    if strange:
        known = ", ".join(f"{number} {name}" for number, name in enumerate(card.labels))
        remedy = "give its structures the numbers of the model, and the others 0"
        raise volume_error(path, f"labels must be those of the model, {known}", ", ".join(map(str, strange)), remedy)
    return truth


def _of_case(case: Case) -> BenchScan:
    return BenchScan(case.name, case.load, brought=False)


def model_names(*checkpoints: str | Path) -> list[str]:
    """The names of models on the screen: those of their files, or of the folders of files that are named alike."""
    stems = [Path(each).stem for each in checkpoints]
    if len(set(stems)) == len(stems):
        return stems
    return [Path(each).parent.name or stem for each, stem in zip(checkpoints, stems, strict=True)]


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
        self.regions = card.regions
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
