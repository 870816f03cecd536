"""A training run to watch while it goes on, in this process or another: it follows the run folder."""

import math
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import traitlets
from l2gnet.widgets.pictures import draw_code_map, draw_outlines
from l2gnet.widgets.viewer import Viewer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from l2gnet.colours import COLOURS
from l2gnet.data.volume import IGNORED
from l2gnet.files import read_json
from l2gnet.inspection.forming import FORMING_FILE, Forming, read_forming
from l2gnet.tables import read_rows

_SECONDS = 1.0  # between two looks at the folder
_PATIENCE_SECONDS = 300.0  # within the first epoch: how long it looks at its validation slices nobody knows yet
_QUIET = "#888888"  # readable on light and dark ground


class TrainingMonitor(Viewer):
    """Curves, time left, codebook health and sample predictions of a run, as its folder tells them.

    The folder need not exist yet: make the monitor, show it, then train. It looks once a second until the run is
    finished or `close()` is called.

    Args:
        run_dir: the folder of the run, as `train` makes it.
    """

    script = "training_monitor"

    progress = traitlets.Dict().tag(sync=True)  # epoch, epochs, state, text
    colours = traitlets.List(list(COLOURS)).tag(sync=True)
    panels = traitlets.List(traitlets.Dict()).tag(sync=True)  # title, top, epochs, lines
    forming = traitlets.Dict().tag(sync=True)  # of the codebook: epochs, variance
    shown_epoch = traitlets.Int(-1).tag(sync=True)  # which of those epochs is shown, by default the newest

    def __init__(self, run_dir: str | Path):
        self.run_dir = Path(run_dir)
        self._read: dict[str, float] = {}  # of a file: when what was read last had been written
        self._rows: list[dict[str, str]] = []
        self._pulses: list[tuple[float, float]] = []  # epochs and loss, within the epoch that is at work
        self._samples: dict[str, np.ndarray] = {}
        self._forming: Forming | None = None
        self._closed = threading.Event()
        super().__init__(progress=_progress([], 0, "waiting", 0.0))
        self.look()
        threading.Thread(target=self._follow, daemon=True).start()

    def look(self) -> None:
        """Take over what is new in the folder."""
        if self._is_new("samples.npz"):
            with np.load(self.run_dir / "samples.npz") as samples:
                self._samples = {name: samples[name] for name in ("image", "truth", "predicted")}
            truth = self._samples["truth"]
            truth[truth == IGNORED] = 0  # no structure, so it has no outline
            for name, array in self._samples.items():
                self.publish(name, array)
        if self._is_new("history.csv"):
            self._rows = read_rows(self.run_dir / "history.csv")
        if self._is_new(FORMING_FILE):  # it is written before the row of its epoch
            self._take_forming()
        if self._is_new("progress.json"):
            pulse = read_json(self.run_dir / "progress.json")
            self._pulses.append((pulse["epochs"], math.nan if pulse["loss"] is None else pulse["loss"]))
        done = int(self._rows[-1]["epoch"]) if self._rows else 0
        self._pulses = [(epochs, loss) for epochs, loss in self._pulses if epochs > done]
        if not self._rows and not self._pulses:
            return
        self.panels = _panels(self._rows, self._pulses)
        config = read_json(self.run_dir / "config.json")
        over = done >= config["epochs"] or self._written("model.safetensors") > 0
        state = "finished" if over else "running"
        if self._pulses and not over:
            self.progress = _within(self._rows, self._pulses[-1], config["epochs"], self._age("progress.json"))
        else:
            self.progress = _progress(self._rows, config["epochs"], state, self._age("history.csv"))

    def _take_forming(self) -> None:
        self._forming = read_forming(self.run_dir)
        if self._forming is not None:
            self.publish("places", self._forming.places.astype(np.float32))
            self.publish("uses", self._forming.uses.astype(np.float32))
            self.forming = {"epochs": self._forming.epochs.tolist(), "variance": self._forming.variance}

    def draw(self) -> Figure:
        """The picture of what the viewer shows now, drawn in Python."""
        figure = Figure((9.5, 2.9 + 2.1 * bool(self._samples)), layout="constrained")
        figure.suptitle(self.progress["text"], fontsize=9, x=0.01, ha="left")
        if not self.panels:
            figure.set_size_inches(9.5, 0.5)
            return figure
        parts = figure.subfigures(2 if self._samples else 1, 1, squeeze=False)[:, 0]
        forming = self._forming
        charts = parts[0].subplots(1, len(self.panels) + (forming is not None), squeeze=False)[0]
        for axes, panel in zip(charts, self.panels, strict=False):
            _draw_chart(axes, panel)
        if forming is not None:
            row = max(self.shown_epoch, -1) if self.shown_epoch < len(forming.epochs) else -1
            colours = [_QUIET] * forming.uses.shape[1]
            title = f"codes at epoch {forming.epochs[row]}"
            draw_code_map(charts[-1], forming.places[row], forming.uses[row], colours, title=title)
        if self._samples:
            pictures = parts[1].subplots(1, len(self._samples["image"]), squeeze=False)[0]
            for axes, image, truth, predicted in zip(pictures, *self._samples.values(), strict=True):
                axes.imshow(image, cmap="gray")
                draw_outlines(axes, truth)
                draw_outlines(axes, predicted, style="dotted")
                axes.set_axis_off()
        return figure

    def close(self) -> None:
        """Stop looking, leave the browser, and free what is held."""
        if "_closed" in self.__dict__:
            self._closed.set()
        super().close()

    def _follow(self) -> None:
        while not self._closed.wait(_SECONDS) and self.progress["state"] != "finished":
            with self._reporting():
                self.look()

    def _age(self, name: str) -> float:
        return time.time() - self._read[name]

    def _written(self, name: str) -> float:
        path = self.run_dir / name
        return path.stat().st_mtime if path.exists() else 0.0

    def _is_new(self, name: str) -> bool:
        written = self._written(name)
        new = written > self._read.get(name, 0.0)
        self._read[name] = written
        return new

    def __repr__(self) -> str:
        return f"TrainingMonitor: {self.progress['text']}"


def _progress(
    rows: Sequence[Mapping[str, str]], epochs: int, state: str, age: float, within: float = 0.0
) -> dict[str, Any]:
    """How far the run is, and in words; `age` is how many seconds ago it was told to be `within` the next epoch."""
    if not rows:
        return {"epoch": 0, "epochs": epochs, "state": state, "text": "waiting for the first epoch"}
    last, done = rows[-1], int(rows[-1]["epoch"])
    words = [f"epoch {done} of {epochs}"]
    # The clock starts anew when a run is resumed, so that only steps forward count.
    clock = [0.0, *(float(row["seconds"]) for row in rows)]
    steps = [after - before for before, after in pairwise(clock) if after > before][-5:]
    pace = sum(steps) / max(len(steps), 1)
    if state == "finished":
        words[0] = f"finished after epoch {done}"
    elif age > 5 * pace + 30:
        state, words = "silent", [*words, _no_news(age)]
    else:
        words.append(f"{_duration(max(pace * (epochs - done - within) - age, 0))} left")
    words.append(f"loss {float(last['loss']):.4f}")
    words.append(f"validation Dice {float(last['val_dice']):.4f}")
    if last.get("codes_used"):
        words.append(f"{float(last['codes_used']):.0f} codes in use, perplexity {float(last['codes_perplexity']):.0f}")
    if last.get("codes_revived"):
        words.append(f"{float(last['codes_revived']):.0f} revived")
    return {"epoch": done, "epochs": epochs, "state": state, "text": "   ·   ".join(words)}


def _within(rows: Sequence[Mapping[str, str]], pulse: tuple[float, float], epochs: int, age: float) -> dict[str, Any]:
    """The same within an epoch, of which so much has passed; `age` is how many seconds ago it was told."""
    at, loss = pulse
    word = f"epoch {min(math.floor(at), epochs - 1) + 1} of {epochs}, {at % 1 or 1:.0%} of it"
    if not rows:
        silent = age > _PATIENCE_SECONDS
        words = f"{word}   ·   {_no_news(age) if silent else f'loss of the last batch {loss:.4f}'}"
        return {"epoch": at, "epochs": epochs, "state": "silent" if silent else "running", "text": words}
    told = _progress(rows, epochs, "running", age, at - int(rows[-1]["epoch"]))
    if told["state"] == "silent":
        return told
    return told | {"epoch": at, "text": told["text"].replace(f"epoch {told['epoch']} of {epochs}", word)}


def _panels(rows: Sequence[Mapping[str, str]], pulses: Sequence[tuple[float, float]]) -> list[dict[str, Any]]:
    """What the charts show; a panel without values is left out."""
    dice = [name for name in (rows[-1] if rows else {}) if name.startswith("val_dice_")]
    names = {name: name.removeprefix("val_dice_").replace("_", " ") for name in dice}
    within = [{"epoch": f"{epochs:.3f}", "loss": str(loss)} for epochs, loss in pulses]
    codes = {"codes_used": "in use", "codes_perplexity": "perplexity", "codes_per_image": "in one image"}
    panels = [
        _panel([*rows, *within], "training loss", None, {"loss": "loss"}, (_QUIET,)),
        _panel(rows, "validation Dice", 1.0, names, COLOURS),
        _panel(rows, "codes", None, codes, (COLOURS[5], COLOURS[6], COLOURS[2])),
    ]
    return [panel for panel in panels if panel["lines"]]


def _panel(
    rows: Sequence[Mapping[str, str]], title: str, top: float | None, names: Mapping[str, str], colours: Sequence[str]
) -> dict[str, Any]:
    lines, highest = [], 0.0
    for position, (column, name) in enumerate(names.items()):
        values = [float(row.get(column) or "nan") for row in rows]
        known = [value for value in values if math.isfinite(value)]
        if known:
            highest = max(highest, *known)
            shown = [value if math.isfinite(value) else None for value in values]  # JSON has no NaN
            lines.append({"name": name, "colour": colours[position % len(colours)], "values": shown})
    epochs = [float(row["epoch"]) for row in rows]
    return {"title": title, "top": top or 1.05 * highest or 1.0, "epochs": epochs, "lines": lines}


def _draw_chart(axes: Axes, panel: Mapping[str, Any]) -> None:
    for line in panel["lines"]:
        values = [math.nan if value is None else value for value in line["values"]]
        axes.plot(panel["epochs"], values, color=line["colour"], label=line["name"], marker=".", markersize=4)
    axes.set(title=panel["title"], xlabel="epoch", ylim=(0, panel["top"]))
    axes.title.set_fontsize(9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(panel["lines"]) > 1:
        axes.legend(frameon=False, fontsize=8)


def _no_news(age: float) -> str:
    return f"no news for {_duration(age)}: has it stopped?"


def _duration(seconds: float) -> str:
    minutes = round(seconds) // 60
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {round(seconds) % 60:02d} s" if minutes else f"{round(seconds)} s"
