"""A model that is asked about slices of scans, again and again, under changes; by several threads, one at a time."""

import threading
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from l2gnet.widgets.bench_scans import BenchScan
from l2gnet.widgets.bench_task import LongTask, Progress, end

from l2gnet.data.slices import SliceSet
from l2gnet.data.volume import Volume
from l2gnet.errors import ConfigError
from l2gnet.inspection.interventions import (
    Intervened,
    Intervener,
    Interventions,
    SliceScores,
    intervene_slices,
    mean_skips,
)
from l2gnet.inspection.seen_scan import SeenScan, see_scan
from l2gnet.method.transport import ConvergenceWarning
from l2gnet.models.backbone import SegmentationModel
from l2gnet.models.card import ModelCard
from l2gnet.prediction.inference import network_input
from l2gnet.prediction.segmenter import Segmenter

_BATCH = 16  # slices that pass the network at once
_PATIENT = 4  # the same in a long task, during which one looks at other slices


class AskedModel:
    """A model and scans, with what it needs beside a slice: the means of skips, and a slice of another scan.

    Args:
        model: of this project.
        card: its card.
        scans: those that can be looked at; the list may grow.
        checkpoint: where the model comes from.
    """

    def __init__(self, model: SegmentationModel, card: ModelCard, scans: list[BenchScan], checkpoint: str | Path):
        self.model, self.card, self.scans, self.checkpoint = model, card, scans, checkpoint
        self.busy = threading.Lock()
        self.seen: dict[int, SeenScan] = {}
        self.brought: dict[int, Volume] = {}  # scans that were read, and are still to be doubted
        self._doubts: dict[int, list[str] | None] = {}
        self._telling = threading.Lock()
        self._seeking: list[LongTask] = []  # for doubts
        self._intervener = Intervener(model, regions=card.regions)
        self._of = (-1, -1)  # the scan that the means are of, and its slice that the other one lies beside

    def look(self, number: int) -> SeenScan:
        """A scan as the model sees it when it is left alone.

        Raises:
            ConfigError: there is no such scan.
        """
        if number >= len(self.scans):
            raise ConfigError(f"scan must lie in 0..{len(self.scans) - 1}, got {number}")
        if number in self.seen:
            return self.seen[number]
        with self.busy:
            return self._look(number)

    def tell_doubts(self, current: Callable[[], int], tell: Callable[[list[str] | None], object]) -> None:
        """Tell why to look before one uses what is found in a scan that was brought, in the words of `l2gnet predict`.

        It is the current scan. `tell` hears None until that is known: a thread finds out, and tells of what is current
        then.
        """
        with self._telling:  # or None could be told after what was found out meanwhile
            number = current()
            if number in self.brought:
                self._doubts[number] = None
                scan = self.brought.pop(number)

                def seek(progress: Progress) -> dict[str, Any]:
                    self._doubts[number] = self._find_doubts(scan, progress)
                    self.tell_doubts(current, tell)
                    return {}

                self._seeking.append(LongTask(threading.Lock(), lambda told: None, nullcontext))
                self._seeking[-1].start(seek, len(scan.array))
            tell(self._doubts.get(number, []))

    def _find_doubts(self, scan: Volume, progress: Progress) -> list[str]:
        try:
            # By a model of its own: it takes the whole scan, and this one is looked at meanwhile.
            segmenter = Segmenter(self.checkpoint)
            return segmenter.predict([scan], "it", on_slices=lambda done: progress(done, len(scan.array))).doubts
        except InterruptedError:
            raise
        except Exception as error:  # which a thread can tell in no other way
            return [f"whether it is unusual could not be found out: {error}"]

    def close(self) -> None:
        """End the search for doubts, and forget all scans."""
        end(self._seeking)
        self.seen.clear()
        self.brought.clear()
        self.scans.clear()

    def intervened(self, number: int, index: int, changes: Interventions) -> Intervened:
        """What it makes of a slice when it is changed."""
        seen = self.look(number)
        with self.busy, warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the screen says it beside the plans
            images = network_input(seen.images[index : index + 1]).to(next(self.model.parameters()).device)
            return self._ready(number, index, changes).run(images, changes)

    def scored(self, number: int, index: int, changes: Interventions, progress: Progress) -> SliceScores:
        """What that costs on all slices of a scan, of which one is looked at; whoever calls holds `busy`."""
        seen = self._look(number)
        truth = seen.labels if seen.truth is None else seen.truth
        slices = SliceSet(seen.images, truth, np.zeros(len(truth), np.int64), (self.scans[number].name,))
        ready = self._ready(number, index, changes)
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

    def _look(self, number: int) -> SeenScan:
        if number not in self.seen:
            scan, truth = self.scans[number].load()
            self.seen[number] = see_scan(self.model, self.card, scan, truth)
            if self.scans[number].brought:
                self.brought[number] = scan
        return self.seen[number]

    def _ready(self, number: int, index: int, changes: Interventions) -> Intervener:
        """The model with all that these changes need."""
        scan, beside = self._of
        if scan != number:
            self._intervener = Intervener(self.model, regions=self.card.regions)
            scan, beside = number, -1
        asked = self._intervener
        images = self._look(number).images
        if changes.skips and not asked.skip_means:
            asked.skip_means = mean_skips(self.model, network_input(images).split(_BATCH))
        if changes.relation == "other" and beside != index:
            beside = index
            another = (number + 1) % len(self.scans)
            other = self._look(another).images
            # At the same height of the next scan; without one half of this one away.
            height = index / max(len(images) - 1, 1) * (len(other) - 1)
            place = round(height) if another != number else (index + len(other) // 2) % len(other)
            heard = network_input(other[[place]])
            asked = Intervener(self.model, other=heard, skip_means=asked.skip_means, regions=self.card.regions)
        self._intervener, self._of = asked, (scan, beside)
        return asked
