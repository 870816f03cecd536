"""A scan in, an answer in words: for people who want labels and volumes, and no notebook."""

import io
import tempfile
import threading
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import traitlets
from l2gnet.widgets.bench_task import LongTask, Progress
from l2gnet.widgets.dropping import Dropping
from l2gnet.widgets.inputs import compact
from l2gnet.widgets.pictures import draw_bench
from l2gnet.widgets.planes import planes_of
from l2gnet.widgets.windows import presets
from matplotlib.figure import Figure

from l2gnet.colours import label_colour
from l2gnet.data.inputs import find_inputs
from l2gnet.data.made import heart_beat
from l2gnet.data.volume import Volume
from l2gnet.errors import VolumeError
from l2gnet.prediction.segmenter import Prediction, Segmenter, write_prediction

_LOW_CONFIDENCE = 0.8  # below it a slice is named


class ScanDesk(Dropping):
    """Give it a scan, and it says what it finds: labels to look at and to take away, volumes, function, doubts.

    Args:
        model: a checkpoint, a run folder, or the name of a model that comes along.
        examples: scans to try, by the names on their buttons: each makes the frames of one.

    Raises:
        CheckpointError: the model cannot be read.
    """

    script = "scan_desk"

    about = traitlets.Dict().tag(sync=True)  # model, structures, examples
    scan = traitlets.Dict().tag(sync=True)  # name and geometry of the scan that is shown
    answer = traitlets.Dict().tag(sync=True)  # what was found, in words
    task = traitlets.Dict().tag(sync=True)
    frame = traitlets.Int(0, min=0).tag(sync=True)
    window = traitlets.List(traitlets.Float(), minlen=2, maxlen=2, default_value=[0.0, 1.0]).tag(sync=True)

    def __init__(self, model: str | Path, examples: dict[str, Callable[[], Sequence[Volume]]] | None = None):
        self.segmenter = Segmenter(model)
        card = self.segmenter.card
        self._examples = dict(examples or {})
        self._frames: list[Volume] = []
        self._count, self._name = 0, ""  # of scans so far, and of the one that is shown
        self.prediction: Prediction | None = None
        self._task = LongTask(threading.Lock(), lambda told: self.set_trait("task", told), self._reporting)
        labels = enumerate(card.labels)
        super().__init__(
            about={
                "model": Path(model).stem,
                "examples": list(self._examples),
                "structures": [{"label": n, "name": name, "colour": label_colour(n)} for n, name in labels if n],
            }
        )
        self.observe(lambda change: self._show_frame(), "frame")

    def segment(self, frames: Sequence[Volume], name: str = "") -> None:
        """Show a scan (the frames of a cine, or one), and segment it in a thread of its own.

        Its name on the screen is by default its number: names of files say more about patients than a picture should.

        Raises:
            RefusedError: the one before is not done yet.
        """
        self._task.require_free()
        self._frames, self.prediction = list(frames), None
        self._count += 1
        self._name = name or f"scan {self._count}"
        first = self._seen(self._frames[0])
        with self.hold_sync():
            self.answer, self.error = {}, ""
            self.frame = 0
            self.window = list(next(iter(presets(first.array).values())))
            self.selection = {"voxel": [n // 2 for n in first.shape]}
            self._show_frame()
        self._task.start(self._segment, self.segmenter.slice_count(self._frames))

    def close(self) -> None:
        """Leave the browser, and free all memory and files that are held here and there."""
        if self.comm is not None:
            self._task.stop()
            self._frames, self.prediction = [], None
        super().close()

    def draw(self) -> Figure:
        """The picture of a saved notebook: the middle slice, with what was found in it."""
        if not self._frames:
            return Figure(figsize=(4, 0.3))  # a scan has yet to come
        frame = self._seen(self._frames[self._moment])
        d = self.selection["voxel"][0]
        found = np.zeros(frame.shape[1:], np.uint8)
        if self.prediction is not None:
            found = self._seen(self.prediction.labels[self._moment]).array[d].astype(np.uint8)
        title = "; ".join(line["text"] for line in self.answer.get("lines", [])) or "no answer yet"
        return draw_bench(frame.array[d], {f"slice {d + 1}": found}, None, spacing_mm=frame.spacing_mm[1:], title=title)

    @property
    def _moment(self) -> int:
        """The moment that is shown: `frame` may still be one of a longer scan before."""
        return min(self.frame, len(self._frames) - 1)

    def _seen(self, volume: Volume) -> Volume:
        """In the plane of the model, whose slices the answer names; what is taken away lies on the scan's own grid."""
        return volume.in_plane(self.segmenter.card.plane)

    def _show_frame(self) -> None:
        if not self._frames:
            return
        frame = self._seen(self._frames[self._moment])
        stored, scale = compact(frame.array)
        self.publish("volume", stored)
        self._show_labels()
        self.scan = {
            "name": self._name,
            "shape": list(frame.shape),
            "spacing_mm": list(frame.spacing_mm) if frame.has_mm else [1.0, 1.0, 1.0],
            "planes": [plane.to_browser() for plane in planes_of(frame.axes if frame.has_mm else None)],
            "scale": list(scale),
            "frames": len(self._frames),
            "presets": presets(self._seen(self._frames[0]).array),  # one contrast for the whole beat
        }

    def _show_labels(self) -> None:
        """Offer what was found in the frame that is shown; nothing is, until there is an answer."""
        labels = np.zeros(self._seen(self._frames[self._moment]).shape, np.uint8)
        if self.prediction is not None:
            labels = self._seen(self.prediction.labels[self._moment]).array.astype(np.uint8)
        self.publish("labels", labels)

    def _segment(self, progress: Progress) -> dict[str, Any]:
        done, total = 0, self.task["total"]

        def tell(count: int) -> None:
            nonlocal done
            done += count
            progress(done, total)

        self.prediction = prediction = self.segmenter.predict(self._frames, "scan", on_slices=tell)
        with self.hold_sync():
            self._show_labels()  # the scan itself is there already
            self.answer = {"lines": told(prediction), "doubts": prediction.doubts}
            found = self._seen(prediction.labels[self._moment]).array
            largest = int(found.astype(bool).sum((1, 2)).argmax())
            self.selection = {"voxel": [largest, *self.selection["voxel"][1:]]}
        return {}

    def page_traits(self) -> dict[str, Any]:
        """The traits as a saved page holds them, in which nothing goes on."""
        traits = super().page_traits()
        return traits | {"task": {"stopped": True} if traits["task"].get("running") else traits["task"]}

    def _on_stop(self) -> None:
        self._task.stop()

    def _on_example(self, name: str) -> None:
        self.segment(self._examples[name](), name)

    def require_ready(self) -> None:
        """Raise RefusedError while a scan is looked at."""
        self._task.require_free()

    def dropped(self, folder: Path) -> None:
        """Segment a scan that was dropped, read as on the command line.

        Raises:
            VolumeError: it cannot be read, or there are several.
        """
        scans = find_inputs([folder], self.segmenter.card.channels, say=lambda line: None)
        if len(scans) > 1:
            rule = "one scan at a time can be segmented here"
            raise VolumeError(f"{rule}; found {len(scans)}; drop one of them, or all on the workbench.")
        self.segment(scans[0].read())

    def _on_take(self) -> None:
        """Send labels and report as they are written for a scan on the command line, in one archive."""
        if self.prediction is None:
            raise ValueError("there are no labels yet: open a scan, and wait for its answer")
        with tempfile.TemporaryDirectory() as folder:
            write_prediction(folder, self.prediction)
            stream = io.BytesIO()
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
                for file in sorted(Path(folder).iterdir()):
                    archive.write(file, file.name)
        self.send({"file": "l2gnet-result.zip"}, [stream.getvalue()])


def told(prediction: Prediction) -> list[dict[str, str]]:
    """What a person wants to know first: function or volumes, and the slices that the model is unsure of."""
    lines = []
    function = prediction.function
    if function is not None:
        for name, side in (("left ventricle", function.left), ("right ventricle", function.right)):
            lines.append({"what": f"{name}: ejection fraction", "text": f"{side.ejection_fraction:.0f} %"})
            lines.append({"what": "full, and after the beat", "text": f"{side.ed_ml:.0f} ml, {side.es_ml:.0f} ml"})
        taken = f"{function.ed_frame} and {function.es_frame}"
        lines.append({"what": "moments taken as full, and after the beat", "text": taken})
        lines.append({"what": "mass of the left ventricle's muscle", "text": f"{function.mass_g:.0f} g"})
    else:
        for name, ml in prediction.volumes_ml[0].items():
            lines.append({"what": name, "text": f"{ml:.1f} ml" if ml < 100 else f"{ml:.0f} ml"})
    worst = prediction.confidence.min(0)
    unsure = [f"{d + 1}" for d in np.flatnonzero(worst < _LOW_CONFIDENCE)]
    sure = f"{prediction.confidence.mean():.2f} of 1" + (f", low in slice {', '.join(unsure[:6])}" if unsure else "")
    lines.append({"what": "confidence", "text": sure})
    return lines


def example_hearts() -> dict[str, Callable[[], Sequence[Volume]]]:
    """Made hearts, each with both ends of a beat."""
    return {f"heart {n}": partial(heart_beat, 2026 + n) for n in (1, 2, 3)}
