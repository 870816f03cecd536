"""What training sees: slices as they come to the model, augmented or not."""

from dataclasses import dataclass

import numpy as np
import torch

from l2gnet.data.dataset import Case, DataSet
from l2gnet.data.slices import prepare_slices
from l2gnet.data.volume import IGNORED
from l2gnet.prediction.inference import network_input
from l2gnet.shapes import Float32, UInt8
from l2gnet.training.batches import mixed_seed
from l2gnet.training.recipes import build_augmentation
from l2gnet.training.settings import TrainSettings

_CASES = 6


@dataclass(frozen=True)
class Seen:
    """Slices in 0..1 with the labels that they are learnt with; `titles` say which slices they are."""

    images: Float32[np.ndarray, "S C H W"]
    labels: UInt8[np.ndarray, "S H W"]
    titles: tuple[str, ...]


def cases_to_look_at(dataset: DataSet, count: int = _CASES) -> list[Case]:
    """Up to `count` cases to train on, evenly chosen."""
    cases = dataset.training or dataset.cases
    return [cases[place] for place in np.unique(np.linspace(0, len(cases) - 1, count).round().astype(int))]


def look(settings: TrainSettings, dataset: DataSet, count: int = _CASES) -> tuple[Seen, Seen]:
    """Slices of `cases_to_look_at`, the one of each with the most labelled; plain and augmented.

    The second is what the first step of a training would make of these, by the same seed.

    Raises:
        VolumeError: a file is damaged, or a mask does not belong to its image.
    """
    chosen = cases_to_look_at(dataset, count)
    whole = prepare_slices(chosen, dataset.grid(settings), len(dataset.labels))
    titles, rows = [], []
    for number in range(len(chosen)):
        own = np.flatnonzero(whole.case == number)
        best = int(((whole.labels[own] > 0) & (whole.labels[own] != IGNORED)).sum((1, 2)).argmax())
        rows.append(own[best])
        titles.append(f"case {number + 1}, slice {best + 1} of {len(own)}")
    images, labels = network_input(whole.images[rows]), torch.from_numpy(whole.labels[rows])
    with torch.random.fork_rng(devices=[]):  # whoever looks does not change what is drawn next
        torch.manual_seed(mixed_seed(settings.seed, 0))
        moved, moved_labels = build_augmentation(settings, dataset.classes)(images, labels.long())
    plain = Seen(images.numpy(), labels.numpy(), tuple(titles))
    return plain, Seen(moved.numpy(), moved_labels.numpy().astype(np.uint8), tuple(titles))
