"""A model that is asked about slices of one scan, again and again, under changes; by several threads, one at a time."""

import threading
from collections.abc import Callable

import numpy as np
from l2gnet.widgets.bench_scans import BenchScan
from l2gnet.widgets.bench_task import Progress

from l2gnet.data.slices import SliceSet
from l2gnet.inspection.interventions import (
    Intervened,
    Intervener,
    Interventions,
    SliceScores,
    intervene_slices,
    mean_skips,
)
from l2gnet.inspection.seen_scan import SeenScan, see_scan
from l2gnet.models.backbone import SegmentationModel
from l2gnet.models.card import ModelCard
from l2gnet.prediction.inference import network_input

_BATCH = 16  # slices that pass the network at once
_PATIENT = 4  # the same in a long task, during which one looks at other slices


class AskedModel:
    """A model, with what it needs beside a slice: the means of skips, and a slice of another scan.

    Args:
        model: of this project.
        card: its card.
        another: a scan whose references are heard by relation `other`; asked for when that is.
    """

    def __init__(self, model: SegmentationModel, card: ModelCard, another: Callable[[], BenchScan]):
        self.model, self.card, self._another = model, card, another
        self.busy = threading.Lock()
        self._intervener = Intervener(model, regions=card.regions)
        self._of: tuple[int, int] = (0, -1)  # the scan that the means are of, and the slice that the other lies beside

    def look(self, scan: BenchScan) -> SeenScan:
        """A scan as the model sees it when it is left alone."""
        volume, truth = scan.load()
        with self.busy:
            return see_scan(self.model, self.card, volume, truth)

    def intervened(self, seen: SeenScan, index: int, changes: Interventions) -> Intervened:
        """What it makes of a slice when it is changed."""
        with self.busy:
            images = network_input(seen.images[index : index + 1]).to(next(self.model.parameters()).device)
            return self._ready(seen, index, changes).run(images, changes)

    def scored(self, seen: SeenScan, index: int, changes: Interventions, progress: Progress) -> SliceScores:
        """What that costs on all slices of a scan, of which one is looked at; whoever calls holds `busy`."""
        truth = seen.labels if seen.truth is None else seen.truth
        slices = SliceSet(seen.images, truth, np.zeros(len(truth), np.int64), ("scan",))
        ready = self._ready(seen, index, changes)
        return intervene_slices(
            self.model,
            slices,
            changes,
            batch_size=_PATIENT,
            progress=progress,
            other=ready.other,
            skip_means=ready.skip_means,
            regions=self.card.regions,
        )

    def _ready(self, seen: SeenScan, index: int, changes: Interventions) -> Intervener:
        """The model with all that these changes need."""
        scan, beside = self._of
        if scan != id(seen):
            self._intervener = Intervener(self.model, regions=self.card.regions)
            scan, beside = id(seen), -1
        asked = self._intervener
        if changes.skips and not asked.skip_means:
            asked.skip_means = mean_skips(self.model, network_input(seen.images).split(_BATCH))
        if changes.relation == "other" and beside != index:
            beside = index
            other = see_scan(self.model, self.card, self._another().load()[0]).images
            # At the same height; of this scan itself, where there is no other, half of it away.
            own = other.shape == seen.images.shape and bool((other == seen.images).all())
            place = index + len(other) // 2 if own else round(index / max(len(seen.images) - 1, 1) * (len(other) - 1))
            heard = network_input(other[[place % len(other)]])
            asked = Intervener(self.model, other=heard, skip_means=asked.skip_means, regions=self.card.regions)
        self._intervener, self._of = asked, (scan, beside)
        return asked
