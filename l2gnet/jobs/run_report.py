"""A training run, or several side by side, as one page to send: scores, curves, and cases that still scroll.

The page holds all it shows, and needs neither Python nor a network.
"""

import functools
import io
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from nbconvert.filters import markdown2html_mistune

from l2gnet.data.dataset import DataSet
from l2gnet.data.slices import prepare_slices
from l2gnet.errors import ConfigError
from l2gnet.evaluation.comparison import FinishedRun, patient_gains, read_runs
from l2gnet.evaluation.paired import bootstrap_interval
from l2gnet.files import read_json, write_text
from l2gnet.jobs.library import brought
from l2gnet.jobs.parameters import read_parameters
from l2gnet.models.card import NOT_CLINICAL, ModelCard, count_parameters, read_card
from l2gnet.prediction.familiar import Familiar
from l2gnet.prediction.model_card import card_text
from l2gnet.prediction.segmenter import Prediction, Segmenter
from l2gnet.tables import read_rows
from l2gnet.training.run_folder import TrainedRun, open_run
from l2gnet.training.settings import OF_A_START, TrainSettings, whole_settings
from l2gnet.widgets import CodebookExplorer, SliceViewer
from l2gnet.widgets.page import page, shown
from l2gnet.widgets.pictures import plot_history
from l2gnet.widgets.viewer import Viewer, parts_of

_RESAMPLES = 2000
_OF_DOUBTS = (
    "Doubts are what a model says of a scan that is unlike those it knows. It knows these very cases, from which the "
    "limits of its measures were learnt: none crosses them, and one that comes near is the strangest of them."
)


def write_run_report(run_dirs: Sequence[Path], out: Path, *, data_dir: str = "", author: str = "") -> Path:
    """Write the page of one run, or that compares several.

    Without `data_dir` the cases of real scans are left out; phantoms are made anew.

    Raises:
        ConfigError: a folder holds no finished run with a model, or `data_dir` is not what it was trained on.
        CheckpointError: a model is damaged.
    """
    runs = read_runs(*run_dirs)
    cards = [read_card(run.folder) for run in runs]
    viewers: list[Viewer] = []
    try:
        if len(runs) == 1:
            title, body = _one(runs[0], cards[0], data_dir, viewers)
        else:
            title, body = _several(runs, cards)
        byline = f"<p>By {escape(author)}.</p>\n" if author else ""
        note = f'<p class="page-note">{escape(NOT_CLINICAL)}</p>'
        text = page(title, f"<h1>{escape(title)}</h1>\n{byline}{note}\n{body}", parts_of(viewers) if viewers else [])
    finally:
        for viewer in viewers:
            viewer.close()
    write_text(out, text)
    return out


def _one(run: FinishedRun, card: ModelCard, data_dir: str, viewers: list[Viewer]) -> tuple[str, str]:
    settings = _settings(run)
    told, chart = card.training, _chart(run, card)
    data, held_out = settings["data"], told.get("held_out_volumes", "?")
    facts = {
        "trained": str(_record(run).get("started", "")).partition("T")[0],
        "data": f"{data}, {told.get('training_volumes', '?')} volumes to train on, {held_out} held out",
        "licence of the data": told.get("licence", ""),
        "please cite": told.get("citation", ""),
        "code": told.get("code", ""),
    }
    sections = [
        _table([{"": name, " ": str(fact)} for name, fact in facts.items() if fact]),
        "<h2>Scores on held-out volumes</h2>",
        _table(_scores([run])),
        "<p>Means over patients, with 95 % intervals by a bootstrap over patients.</p>",
        *(["<h2>Learning curves</h2>", chart] if chart else []),
        *_cases(run, data_dir, viewers),
        "<h2>Settings that differ from the defaults</h2>",
        _table(_changes(settings)) if _changes(settings) else "<p>None.</p>",
        "<h2>Run it again</h2>",
        f"<pre>{escape(_command(settings))}</pre>",
        "<details><summary>Model card</summary>",
        _of_markdown(card_text(card, count_parameters(run.folder))),
        "</details>",
    ]
    return f"{card.model} on {data}", "\n".join(sections)


def _several(runs: Sequence[FinishedRun], cards: Sequence[ModelCard]) -> tuple[str, str]:
    names = _names(runs)
    settings = [_settings(run) for run in runs]
    different = [name for name in settings[0] if len({str(each.get(name)) for each in settings}) > 1]
    rows = [
        {"setting": name}
        | {run: str(each.get(name)) for run, each in zip(names, settings, strict=True)}
        | {"what it is": _meanings().get(name, "")}
        for name in different
    ]
    gains = []
    for name, run in zip(names[1:], runs[1:], strict=True):
        words, patients = _gain(run, runs[0])
        gains.append({"run": name, f"Dice against {names[0]}": words, "patients": str(patients)})
    drawn = {name: _chart(run, card) for name, run, card in zip(names, runs, cards, strict=True)}
    curves = [f"<h3>{escape(name)}</h3>\n{chart}" for name, chart in drawn.items() if chart]
    sections = [
        "<h2>Scores on held-out volumes</h2>",
        _table(_scores(runs)),
        "<p>Mean Dice over patients, with 95 % intervals by a bootstrap over patients.</p>",
        "<h2>Patient by patient</h2>",
        _table(gains),
        "<h2>What differs</h2>",
        _table(rows) if rows else "<p>No setting: the same was run again.</p>",
        *(["<h2>Learning curves</h2>", *curves] if curves else []),
    ]
    data = dict.fromkeys(str(each["data"]) for each in settings)
    return f"{', '.join(names)} on {', '.join(data)}", "\n".join(sections)


def _gain(run: FinishedRun, first: FinishedRun) -> tuple[str, int]:
    """How far a run's Dice lies above that of the first in patients of both, and in how many."""
    try:
        gain = patient_gains([run], [first], "dice")
    except ConfigError:  # a sweep may go over folds, or data sets
        return "not compared: no patient was held out of both", 0
    low, high = bootstrap_interval(gain, np.mean, _RESAMPLES)
    return f"{gain.mean():+.4f} ({low:+.4f} to {high:+.4f})", len(gain)


def _names(runs: Sequence[FinishedRun]) -> list[str]:
    """A name for each run: that of its folder, with as many above it as it needs to be the only one."""
    for depth in range(1, 10):
        names = ["/".join(run.folder.resolve().parts[-depth:]) for run in runs]
        if len(set(names)) == len(names):
            break
    return names


def _scores(runs: Sequence[FinishedRun]) -> list[dict[str, str]]:
    """A row a structure and one for all: of one run Dice, distances and misses, of several the Dice of each."""
    structures = dict.fromkeys(name for run in runs for name in run.scores["structure"])
    rows = []
    for name in [*structures, "all structures"]:
        row = {"structure": name}
        for title, run in zip(_names(runs), runs, strict=True):
            scores = run.scores if name == "all structures" else run.scores[run.scores["structure"] == name]
            dice = scores.dropna(subset=["dice"]).groupby("patient")["dice"].mean().to_numpy(dtype=np.float64)
            row["Dice" if len(runs) == 1 else title] = _interval(dice)
            if len(runs) == 1:
                row |= _distances(scores)
        rows.append(row)
    return rows


def _interval(values: np.ndarray) -> str:
    if len(values) == 0:
        return "-"
    low, high = bootstrap_interval(values, np.mean, _RESAMPLES)
    return f"{values.mean():.4f} ({low:.4f} to {high:.4f})"


def _distances(scores: pd.DataFrame) -> dict[str, str]:
    words = {"volumes": str(len(scores))}
    for column, unit in (("hd95_mm", "mm"), ("hd95_voxels", "voxels")):
        if column in scores and scores[column].notna().any():
            median = scores[column].median()
            words[f"HD95, median ({unit})"] = f"{median:.2f}" if np.isfinite(median) else "infinite"
    if "missed" in scores:
        words["missed"] = str(int(scores["missed"].sum()))
    return words


def _chart(run: FinishedRun, card: ModelCard) -> str:
    """Its learning curves, if it kept them."""
    if not (run.folder / "history.csv").exists():
        return ""
    stream = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "l2gnet"}):
        figure = plot_history(read_rows(run.folder / "history.csv"), card.classes)
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
        mpl.pyplot.close(figure)
    svg = stream.getvalue()
    return f'<figure class="page-chart">{svg[svg.index("<svg") :]}</figure>'


def _cases(run: FinishedRun, data_dir: str, viewers: list[Viewer]) -> list[str]:
    """The best, middle and worst case as viewers, and the codebook on them."""
    if not (data_dir or _made(_settings(run))):
        return ["<h2>Cases</h2>", "<p>The scans lie elsewhere; <code>--data-dir</code> adds three of them.</p>"]
    trained = open_run(run.folder, data_dir=data_dir)
    chosen = _best_middle_worst(run, trained.dataset)
    if not chosen:  # a card of an older version does not say whom it was trained on
        rule = "a report shows cases that were held out and scored"
        raise ConfigError(f"{data_dir or run.folder}: {rule}, got none of scores.csv; name the folder as it was then")
    segmenter = Segmenter(run.folder / "model.safetensors")
    sections = ["<h2>Best, middle and worst case</h2>", f"<p>{escape(_OF_DOUBTS)}</p>"]
    for word, (number, dice) in chosen.items():
        case = trained.dataset.validation[number]
        image, truth = case.load()
        prediction = segmenter.predict([image], f"case {number + 1}")
        maps = {"truth": truth, "predicted": prediction.labels[0]}
        viewers.append(SliceViewer(image, maps, classes=trained.dataset.labels))
        title = f"The {word}: case {number + 1} of {len(trained.dataset.validation)}, mean Dice {dice:.4f}"
        doubts = escape(_doubts(prediction, segmenter.familiar[0]))
        viewer = shown(len(viewers) - 1)
        sections.append(f'<section class="page-case"><h3>{title}</h3><p>{doubts}</p>{viewer}</section>')
    return [*sections, *_codebook(trained, [number for number, _ in chosen.values()], list(chosen), viewers)]


def _doubts(prediction: Prediction, familiar: Familiar | None) -> str:
    """What the model doubts about a case, and the measures of it beside their limits."""
    (strange,) = prediction.strange
    words = f"Doubts: {'; '.join(prediction.doubts) or 'none'}."
    if familiar is None:
        return words
    words += f" Confidence {prediction.confidence.mean():.3f}, at least {familiar.confidence:.3f}"
    if strange.distance is not None and strange.surprise is not None:
        words += f"; distance of its features from their codes {strange.distance:.3f}, at most {familiar.distance:.3f}"
        words += f"; surprise of its codes {strange.surprise:.2f} nats, at most {familiar.surprise:.2f}"
    return words + "."


def _best_middle_worst(run: FinishedRun, dataset: DataSet) -> dict[str, tuple[int, float]]:
    """Of each word the case's number and its mean Dice; fewer where there are fewer cases."""
    means = run.scores.groupby("case")["dice"].mean().dropna().sort_values(ascending=False)
    place = {case.name: number for number, case in enumerate(dataset.validation)}
    ranked = [(place[name], float(dice)) for name, dice in means.items() if name in place]
    places = {len(ranked) // 2: "middle", len(ranked) - 1: "worst", 0: "best"}  # the best, of one alone
    return {places[at]: ranked[at] for at in sorted(places) if ranked}


def _codebook(trained: TrainedRun, numbers: Sequence[int], words: Sequence[str], viewers: list[Viewer]) -> list[str]:
    if trained.model.codebook is None:
        return []
    dataset = trained.dataset
    slices = prepare_slices([dataset.validation[number] for number in numbers], trained.grid, len(dataset.labels))
    viewers.append(CodebookExplorer.of_model(trained.model, slices, classes=dataset.labels, names=words))
    return ["<h2>The codebook on these cases</h2>", shown(len(viewers) - 1)]


def _settings(run: FinishedRun) -> dict[str, Any]:
    """All settings of a run but those of its start."""
    return {name: value for name, value in whole_settings(run.settings).items() if name not in OF_A_START}


def _changes(settings: Mapping[str, Any]) -> list[dict[str, str]]:
    defaults, meanings = asdict(TrainSettings()), _meanings()
    return [
        {"setting": name, "here": str(value), "default": str(defaults[name]), "what it is": meanings.get(name, "")}
        for name, value in settings.items()
        if name in defaults and value != defaults[name]
    ]


@functools.cache
def _meanings() -> dict[str, str]:
    """What each setting is, in the words of the notebook that trains."""
    notebook = next(path for path in brought() if path.name == "01_train.ipynb")
    return {name: setting.help.removesuffix(" (secret)") for name, setting in read_parameters(notebook).items()}


def _command(settings: Mapping[str, Any]) -> str:
    """The command that trains the same; paths of real data and weights are for whoever has them to name."""
    words = ["l2gnet train"]
    settings = {**settings, "pretrained": "PATH" if settings["pretrained"] else ""}
    for change in _changes(settings):
        flag, value = change["setting"].replace("_", "-"), settings[change["setting"]]
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words.append(f"--{flag} {shlex.quote(change['here'])}")
    if not _made(settings):
        words.append("--data-dir PATH")
    return " \\\n  ".join(words)


def _made(settings: Mapping[str, Any]) -> bool:
    """Whether the data are phantoms, which lie in no folder."""
    return str(settings["data"]).startswith("phantom")


def _of_markdown(text: str) -> str:
    """HTML, its headings below those of the page, without links to them."""
    html = markdown2html_mistune(re.sub("^#", "###", text, flags=re.MULTILINE))
    return re.sub('<a class="anchor-link".*?</a>', "", html)


def _record(run: FinishedRun) -> dict[str, Any]:
    record = run.folder / "run.json"
    return read_json(record) if record.exists() else {}


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0]) if any(map(str.strip, rows[0])) else ""
    lines = ["".join(f"<td>{escape(value)}</td>" for value in row.values()) for row in rows]
    return "<table>\n" + "\n".join(f"<tr>{line}</tr>" for line in ([head] if head else []) + lines) + "\n</table>"
