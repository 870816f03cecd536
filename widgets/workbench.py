"""The workbench: a scan, what a model finds in it, its codes and plans, and what becomes of it when one interferes."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import traitlets
from l2gnet.widgets.bench_facts import (
    model_facts,
    most_to_see,
    plan_facts,
    plan_orders,
    scan_facts,
    scan_scores,
    slice_scores,
)
from l2gnet.widgets.bench_model import AskedModel
from l2gnet.widgets.bench_scans import BenchScan, Other, OwnScan, bench_scans, model_names, of_input, own_scan
from l2gnet.widgets.bench_state import BenchState
from l2gnet.widgets.bench_task import LongTask, Progress
from l2gnet.widgets.dropping import Dropping
from l2gnet.widgets.pictures import draw_bench
from matplotlib.figure import Figure

from l2gnet.data.dataset import Case
from l2gnet.data.inputs import find_inputs
from l2gnet.data.outputs import confidence_of
from l2gnet.inspection.code_atlas import CodeAtlas, typical_labels
from l2gnet.inspection.code_card import code_card
from l2gnet.inspection.code_names import CodeNames
from l2gnet.inspection.interventions import Intervened, Interventions
from l2gnet.inspection.plan_order import Order
from l2gnet.inspection.seen_scan import SeenScan
from l2gnet.models.checkpoint import load_checkpoint
from l2gnet.prediction.familiar import Familiar
from l2gnet.shapes import Int64

_OF_HEAD = ("source", "target", "errors")  # what is told of the plans of one head alone, beside their order


class Workbench(Dropping, BenchState):
    """A model and scans on one screen: slice, plans, a card of what is selected, and interventions.

    What it shows is its `state`, a dictionary of plain values that can be kept as JSON and given back: `scan` (a
    number), `plane` (0 across the slices), `selection` (what is pointed at), `overlay`, `opacity`, `outline`, `window`
    (lowest and highest intensity), `head`, `order` and `plan_view` of the plans, and `interventions`, as
    `Interventions.to_json` writes them.

    Args:
        model: a checkpoint, a run folder, or the name of a model that comes along.
        scans: files or volumes to look at, or pairs of one with its label map; by default the scans that the model's
            training held out.
        state: what to begin with; what it does not name has its default.
        other: a second model, of the same classes and grid, whose labels are shown beside those of the first.
        data_dir: the folder of the data that the model was trained on, where no scans are given and it needs one.

    Raises:
        CheckpointError: a model cannot be read, or the other one sees or finds something else.
        ConfigError: its data set needs a folder, or a state has an unknown name or a value that is none.
        ValueError: there is no scan to look at.
    """

    script = "workbench"
    answers = "bench_answers"
    held = ("_atlas", "other")

    # What the browser shows of model and scan, of the slice, of what is selected, and of a long task.
    about = traitlets.Dict().tag(sync=True)
    now = traitlets.Dict().tag(sync=True)
    card = traitlets.Dict().tag(sync=True)
    doubts: Any = traitlets.List(allow_none=True).tag(sync=True)  # of a scan that was brought; None: not known yet
    task = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        model: str | Path = "phantom-heart",
        scans: "Sequence[OwnScan | Case | BenchScan]" = (),
        *,
        other: str | Path = "",
        state: Mapping[str, Any] | None = None,
        data_dir: str = "",
    ):
        self.model, self.model_card = load_checkpoint(model)
        self._name, self._other_name = model_names(model, other)
        self.other = Other(other, self.model_card) if other else None
        self.scans = bench_scans(scans, self.model_card, data_dir)
        if not self.scans:
            raise ValueError("a workbench needs a scan to look at, got none and a model that names no data; give scans")
        self._names = CodeNames(model)
        self._familiar = Familiar.of(self.model_card)
        self._asked = AskedModel(self.model, self.model_card, self.scans, model)
        self._task = LongTask(self._asked.busy, lambda told: self.set_trait("task", told), self._reporting)
        self._shown: tuple[Any, ...] = ()  # what `now` was made for
        self._worked: dict[str, Any] = {}  # to go back to where something cannot be shown
        self._atlas: CodeAtlas | None = None
        self._typical: Int64[np.ndarray, " K"] | None = None
        super().__init__(interventions=Interventions().to_json())
        self.state = {} if state is None else dict(state)
        self._open()
        self.observe(lambda change: self._open(), "scan")
        self.observe(lambda change: self._end_stop(), ["scan", "interventions"])
        self.observe(lambda change: self._move(), ["selection", "interventions", "head", "order"])

    @property
    def seen(self) -> SeenScan:
        """The scan that is shown, as the model sees it when it is left alone."""
        return self._asked.look(self.scan)

    @property
    def index(self) -> int:
        """The slice that is looked at, along D."""
        return int(self.selection["voxel"][0])

    def intervened(self, index: int, changes: Interventions | None = None) -> Intervened:
        """What the model makes of a slice of this scan under changes, by default the interventions."""
        changes = Interventions.from_json(self.interventions) if changes is None else changes
        return self._asked.intervened(self.scan, index, changes)

    def add(self, scan: "OwnScan") -> None:
        """Offer one more scan, and show it.

        Raises:
            VolumeError: it cannot be read, or not be brought onto the grid of the model.
        """
        self._offer(own_scan(scan, len(self.scans), self.model_card))

    def _offer(self, scan: BenchScan) -> None:
        number = len(self.scans)
        self.scans.append(scan)
        try:
            seen = self._asked.look(number)
        except Exception:
            self.scans.pop()
            raise
        with self.hold_trait_notifications():
            self.scan, self.selection = number, {**self.selection, "voxel": most_to_see(seen)}

    def dropped(self, folder: Path) -> None:
        """Offer the scans that were dropped, read as on the command line, and show the last; of a cine its first frame.

        Raises:
            VolumeError: one cannot be read, or not be brought onto the grid of the model.
        """
        for scan in find_inputs([folder], self.model_card.channels, say=lambda line: None):
            self._offer(of_input(scan, len(self.scans), self.model_card))

    def close(self) -> None:
        """Leave the browser, and free all memory and files that are held here and there."""
        if self.comm is not None:
            self._task.stop()
            self._asked.close()
        super().close()

    def draw(self) -> Figure:
        """The picture of a saved notebook: the slice with what is found in it, and the two plans."""
        seen, index = self.seen, self.index
        plans = None
        if "sending" in self.now:
            size = (len(self.now["names"]), self.about["references"])
            both = [np.frombuffer(self.now[name], np.float32).reshape(-1, *size) for name in ("sending", "receiving")]
            rows, columns = self.now["order"]
            plans = [each[self.head][rows][:, columns] for each in both]
        found = np.frombuffer(self.now["labels"], np.uint8).reshape(seen.images.shape[2:])
        maps = {"found": found} | ({} if seen.truth is None else {"truth": seen.truth[index]})
        words = f"{self._name}, scan {self.scan + 1}, slice {index + 1} of {len(seen.images)}"  # it goes to others
        return draw_bench(
            seen.images[index, 0],
            maps,
            plans,
            spacing_mm=seen.placed.spacing_mm[1:],
            title=words,
            receivers="codes" if self.now.get("hearing") is None else "tokens",
        )

    @traitlets.validate("head")
    def _in_model(self, proposal: Any) -> int:
        heads = 1 if self.model.mapper is None else self.model.mapper.heads
        if proposal["value"] >= heads:
            raise traitlets.TraitError(f"head must lie in 0..{heads - 1}, as the model has, got {proposal['value']}")
        return proposal["value"]

    def _open(self) -> None:
        """Show another scan; one that cannot be opened leaves the one before it on the screen."""
        try:
            seen = self.seen
        except Exception:
            self.scan = self.about.get("scan", 0)
            raise
        voxel = self.selection.get("voxel")
        if voxel is None or not all(0 <= n < size for n, size in zip(voxel, seen.labels.shape, strict=True)):
            voxel = most_to_see(seen)
        self.publish("images", seen.images[:, 0])
        self.publish("found", seen.labels)
        self.publish("confidence", (seen.confidence * 255).round().astype(np.uint8))
        if seen.truth is not None:
            self.publish("truth", seen.truth)
        if self.other is not None:
            with self._asked.busy:
                self.publish("other", self.other.labels_of(seen))
        if seen.codes is not None:
            self.publish("codes", seen.codes.astype(np.int32))
        self._atlas, self._typical = None, None
        if seen.codes is not None and self.model.codebook is not None:  # counted once for all cards of this scan
            vectors = self.model.codebook.vectors.detach().cpu().numpy()
            labels = seen.labels if seen.truth is None else seen.truth
            self._atlas = CodeAtlas(seen.images[:, 0], seen.codes, vectors, labels)
            self._typical = typical_labels(self._atlas.label_counts)
        before = self.about.get("range")
        with self.hold_sync():
            self.about = {
                "scan": self.scan,
                "model": self._name,
                "other": self._other_name,
                "scans": [scan.name for scan in self.scans],
                "names": self._names.all,
                **model_facts(self.model, self.model_card),
                **scan_facts(seen, self._typical),
            }
            if self.window in ([0.0, 1.0], before):  # not one that was set by hand
                self.window = list(seen.range)
            # Also what one goes back to: the selection of the scan before may lie outside this one.
            self._worked["selection"] = self.selection = {**self.selection, "voxel": voxel}
            self._look()
        self._asked.tell_doubts(lambda: self.scan, lambda doubts: self.set_trait("doubts", doubts))

    def _end_stop(self) -> None:
        """Say that a task was stopped no longer than what it was stopped for is looked at."""
        if self.task.get("stopped"):
            self.task = {}

    def _move(self) -> None:
        """Show what changed; what comes together with another scan waits until that is opened."""
        if self.scan == self.about["scan"]:
            self._look()

    def _look(self) -> None:
        """Show the slice that is selected, under the interventions, and the card of what is selected in it.

        What cannot be shown leaves what was before it.
        """
        started = time.perf_counter()
        try:
            voxel, shape = self.selection.get("voxel"), self.seen.labels.shape
            if voxel is None or not all(0 <= n < size for n, size in zip(voxel, shape, strict=True)):
                raise ValueError(f"voxel must lie in the volume {shape}, got {voxel}")
            key = (self.scan, self.index, repr(self.interventions), self.head, self.order)
            new = {} if key == self._shown else self._slice(self.index)
            card = self._selected()
        except Exception:
            with self.hold_sync():
                for name, value in self._worked.items():
                    setattr(self, name, value)
            raise
        self._shown, self._worked = key, {name: getattr(self, name) for name in ("selection", "interventions")}
        with self.hold_sync():
            if new:
                self.now = new | {"ms": round(1000 * (time.perf_counter() - started))}
            self.card = card

    def _slice(self, index: int) -> dict[str, Any]:
        return self._told(index, self.intervened(index), self.intervened(index, Interventions()))

    def _told(self, index: int, result: Intervened, plain: Intervened) -> dict[str, Any]:
        labels = result.labels[0].cpu().numpy().astype(np.uint8)
        confidence = confidence_of(result.probabilities, self.model_card.regions)[0]
        other = None if self.other is None else self.other.labels_of(self.seen)[index]
        told: dict[str, Any] = {
            "index": index,
            "scan": self.scan,
            "of": self.interventions,
            "labels": labels.tobytes(),
            "confidence": (confidence * 255).round().byte().cpu().numpy().tobytes(),
            "changed": int(result.changed.sum()),
            "scores": slice_scores(self.seen, index, labels, self.model_card.labels, other),
        }
        return told | plan_facts(result, plain, self.head, cast(Order, self.order), self._typical)

    def _selected(self) -> dict[str, Any]:
        """What is known of the selected code; a reference and a pixel are read in the browser."""
        kind, code = self.selection.get("by", "voxel"), self.selection.get("code")
        atlas = self._atlas
        if kind != "code" or code is None or atlas is None:
            return {"kind": kind}
        return self._card_of(atlas, int(code))

    def _card_of(self, atlas: CodeAtlas, code: int) -> dict[str, Any]:
        assert self.seen.distances is not None  # they come with codes
        assert self._typical is not None
        found = asdict(code_card(atlas, self.seen.distances, self._typical, code))
        if self._familiar is not None and self._familiar.code_counts:
            counts = self._familiar.code_counts
            found["held_out"] = [counts[code], sum(counts), self._familiar.volumes]
        return {"kind": "code", "name": self._names.all.get(str(code), ""), **found}

    def page_traits(self) -> dict[str, Any]:
        """The traits as a saved page holds them: it goes to others, and the names of cases are not for them."""
        traits = super().page_traits()
        names = [f"scan {number + 1}" for number in range(len(self.scans))]
        if traits["doubts"] is None:
            traits["doubts"] = ["whether the model knows scans like this one was not known when this page was saved"]
        return traits | {"about": traits["about"] | {"scans": names}}

    def page_arrays(self) -> dict[str, np.ndarray]:
        """The published arrays of this scan: where it has no label map, that of a scan before stays published."""
        arrays = super().page_arrays()
        return {name: array for name, array in arrays.items() if name != "truth" or self.about["truth"]}

    def page_data(self) -> dict[str, Any]:
        """Every slice and code of this scan, as the screen would show it: what clicks in a saved page need."""
        slices, atlas, heads = [], self._atlas, range(self.about["heads"])
        for index in range(len(self.seen.images)):
            result, plain = self.intervened(index), self.intervened(index, Interventions())
            orders = plan_orders(result, plain, self._typical)
            facts = [plan_facts(result, plain, head, "usage", None) for head in heads]
            of_heads = [{name: each[name] for name in _OF_HEAD if name in each} for each in facts]
            slices.append(self._told(index, result, plain) | {"ms": 0, "orders": orders, "heads": of_heads})
        codes = [] if atlas is None else range(len(atlas.vectors))  # the nearest of one that fires may fire nowhere
        cards = {} if atlas is None else {str(code): self._card_of(atlas, code) for code in codes}
        return {"slices": slices, "cards": cards}

    def _on_name(self, code: int, name: str) -> None:
        self._names.set(code, name)
        self.about = self.about | {"names": self._names.all}
        self.card = self._selected()

    def _on_export(self) -> None:
        """Send this scan as one page that needs no Python."""
        with tempfile.TemporaryDirectory() as folder:
            page = self.save(Path(folder) / "workbench.html")
            self.send({"file": page.name}, [page.read_bytes()])

    def _on_whole(self) -> None:
        """Score the interventions on the whole scan, in a thread of its own."""
        scan, index, changes = self.scan, self.index, dict(self.interventions)
        about = {"of": [scan, changes], "truth": self.seen.truth is not None}

        def score(progress: Progress) -> dict[str, Any]:
            scores = self._asked.scored(scan, index, Interventions.from_json(changes), progress)
            return about | scan_scores(scores, self.model_card.classes)

        with self._reporting():
            self._task.start(score, len(self.seen.images))

    def _on_stop(self) -> None:
        self._task.stop()
