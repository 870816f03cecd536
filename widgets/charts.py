"""Charts of a comparison between runs: scores, differences, costs, and matrices of domains."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle, product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from l2gnet.widgets.crisp import GREY
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from l2gnet.colours import COLOURS
from l2gnet.evaluation.comparison import METRICS, patient_means, spread_of_seeds
from l2gnet.evaluation.cost import Cost
from l2gnet.inspection.evidence import Reach
from l2gnet.inspection.verdict import ANSWERS, LEAST, Audit, BlockAudit

_ON_ANY_GROUND = (*COLOURS[:4], COLOURS[6])  # an answer each; yellow is lost on white
_STYLES = ("o-", "s-", "^-", "v-", "D--")  # hollow, and broken at last: lines that coincide stay visible


def plot_scores(frame: pd.DataFrame, metric: str, by: str = "model") -> Figure:
    """A panel a structure: each patient a grey dot, each seed's mean a coloured one, their mean a line.

    Patients stand in one order in all columns of a panel, the hardest for all models together first. A patient at an
    infinite distance is in no mean of that model, and is counted at the top of its column.
    """
    values, structures = list(dict.fromkeys(frame[by])), list(dict.fromkeys(frame["structure"]))
    figure, panels = plt.subplots(
        1,
        len(structures),
        figsize=(max(8, 1.2 + 2.9 * len(structures)), 3),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    for panel, structure in zip(panels[0], structures, strict=True):
        part = frame[frame["structure"] == structure]
        patients, runs = patient_means(part, metric, by), patient_means(part, metric, "run")
        ease = patients.mean(axis=1) * (1 if METRICS[metric].better == "higher" else -1)
        patients = patients.iloc[ease.argsort()]
        places = np.linspace(-0.28, 0.28, len(patients))
        for column, value in enumerate(values):
            colour = COLOURS[column % len(COLOURS)]
            found = np.isfinite(patients[value])
            panel.scatter(column + places[found], patients[value][found], s=9, color=GREY, alpha=0.6, lw=0)
            if missed := (~found).sum():
                panel.annotate(f"{missed} ∞", (column, 1), xycoords=("data", "axes fraction"), va="top", ha="center")
            own = part[part[by] == value].sort_values("seed")["run"].unique()
            means = runs.loc[found.index[found], own].mean()
            panel.hlines(means.mean(), column - 0.34, column + 0.34, color=colour, lw=2)
            beside = column + 0.4 * ((np.arange(len(means)) + 0.5) / len(means) - 0.5)
            panel.scatter(beside, means, s=34, color=colour, edgecolor="white", zorder=3)
        panel.set_xticks(range(len(values)), values, rotation=30 if len(values) > 3 else 0)
        panel.set_title(structure, fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylabel(METRICS[metric].label)
    return figure


def plot_differences(table: pd.DataFrame, reference: str) -> Figure:
    """A panel a metric: the difference of `reference` to each other model with its 95 % interval.

    A dot where it is significant after correction and beyond the spread over seeds, else a tick; blue where `reference`
    is better by the sum of ranks (the sign of the effect), orange where it is worse, grey where it is neither, and on a
    grey band of two standard errors by the seeds alone. An interval that ends in infinity is drawn to the edge.
    """
    metrics = {metric.label: metric for metric in METRICS.values()}
    shown = list(dict.fromkeys(table["metric"]))
    figure, panels = plt.subplots(
        1, len(shown), figsize=(10, 1.4 + 0.36 * table["against"].nunique()), layout="constrained", squeeze=False
    )
    for panel, name in zip(panels[0], shown, strict=True):
        part = table[table["metric"] == name]
        by_luck = part["seed_error"].map(spread_of_seeds)
        finite = np.abs([*part["difference"], *part["low"], *part["high"], *by_luck])
        reach = 1.3 * finite[np.isfinite(finite)].max(initial=0) or 1.0
        for row, (line, luck) in enumerate(zip(part.itertuples(), by_luck, strict=True)):
            if np.isfinite(luck):  # of one seed nothing is known
                panel.barh(row, 2 * luck, left=-luck, height=0.7, color=GREY, alpha=0.25, lw=0)
            significant = line.verdict.startswith(f"{reference} ")
            colour = {1: COLOURS[5], 0: GREY, -1: COLOURS[6]}[np.sign(line.effect)]
            low, middle, high = np.clip([line.low, line.difference, line.high], -0.9 * reach, 0.9 * reach)
            if np.isinf(line.difference):
                panel.annotate("∞", (middle, row), xytext=(0, 5), textcoords="offset points", ha="center")
            panel.hlines(row, low, high, color=colour, lw=1.8)
            size, marker = (42, "o") if significant else (90, "|")
            panel.scatter(middle, row, s=size, marker=marker, color=colour, zorder=3)
        panel.axvline(0, color=GREY, lw=0.8)
        panel.set(xlim=(-reach, reach), ylim=(len(part) - 0.5, -0.5), title=name)
        panel.set_yticks(range(len(part)), part["against"] if panel is panels[0][0] else [""] * len(part))
        panel.xaxis.set_major_locator(MaxNLocator(4, symmetric=True))
        panel.tick_params(axis="y", length=0)
        panel.set_xlabel(f"{reference} better {'→' if metrics[name].better == 'higher' else '←'}", fontsize=9)
        panel.title.set_fontsize(10)
        panel.spines[["top", "right", "left"]].set_visible(False)
    return figure


def plot_costs(costs: Mapping[str, Cost], dice: Mapping[str, Sequence[float]]) -> Figure:
    """Mean Dice over latency, a disc a model, whose area is its number of parameters, with the range of its seeds.

    The second ten are squares.
    """
    figure, axes = plt.subplots(figsize=(8, 3.4), layout="constrained")
    largest, handles = max(cost.parameters for cost in costs.values()), []
    for (marker, colour), (name, cost) in zip(cycle(product("os", COLOURS)), costs.items(), strict=False):
        axes.vlines(cost.latency_ms, min(dice[name]), max(dice[name]), color=colour, lw=2)
        area = 900 * cost.parameters / largest
        middle, order = np.mean(dice[name]), 4 - area / 900
        axes.scatter(cost.latency_ms, middle, s=area, color=colour, marker=marker, lw=0, zorder=order)
        label = f"{name}, {cost.parameters / 1e6:.2f} M parameters"
        handles.append(Line2D([], [], ls="", marker=marker, ms=9, color=colour, mew=0, label=label))
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    axes.margins(0.3)
    axes.set_xlim(0, 1.2 * max(cost.latency_ms for cost in costs.values()))
    axes.set(xlabel="one slice (ms); area: parameters", ylabel="mean Dice")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_matrices(matrices: Mapping[str, pd.DataFrame], *, across: str, down: str, label: str) -> Figure:
    """Matrices with the same rows and columns, three side by side, each number in its cell, on one colour scale."""
    columns, rows = (max(m.shape[axis] for m in matrices.values()) for axis in (1, 0))
    side_by_side = min(len(matrices), 3)
    lines = math.ceil(len(matrices) / side_by_side)
    figure, panels = plt.subplots(
        lines,
        side_by_side,
        figsize=(max(8, 1.4 + side_by_side * (0.8 + 0.72 * columns)), 0.4 + lines * (0.9 + 0.42 * rows)),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    for unused in panels.flat[len(matrices) :]:
        unused.remove()
    every = np.concatenate([matrix.to_numpy().ravel() for matrix in matrices.values()])
    finite = every[np.isfinite(every)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0, 1)
    for panel, (title, matrix) in zip(panels.flat[: len(matrices)], matrices.items(), strict=True):
        picture = panel.imshow(matrix, cmap="cividis", vmin=low, vmax=high, aspect="auto")
        for (row, column), value in np.ndenumerate(matrix.to_numpy()):
            dark = value < (low + high) / 2
            text = "–" if np.isnan(value) else "∞" if np.isinf(value) else f"{value:.3f}"
            panel.text(column, row, text, ha="center", va="center", color="w" if dark else "k", fontsize=9)
        panel.set_xticks(range(matrix.shape[1]), matrix.columns, fontsize=9, rotation=30 if columns > 4 else 0)
        panel.set_yticks(range(matrix.shape[0]), matrix.index, fontsize=9)
        panel.set(title=title, xlabel=across)
        panel.title.set_fontsize(10)
    for line in panels:
        line[0].set_ylabel(down)
    figure.colorbar(picture, ax=figure.axes, label=label, shrink=0.9)
    return figure


def plot_audit(audit: Audit) -> Figure:
    """A panel a block: the Dice lost by each change of its answer, with 95 % intervals over patients.

    On a made task a second line of panels shows the pixels found, by the distance to what decides their class.
    """
    blocks, lines = audit.blocks, 1 + (audit.reach is not None)
    answers = [name for name in ANSWERS if any(name in block.changes for block in blocks)]
    figure, panels = plt.subplots(
        lines,
        len(blocks),
        figsize=(max(8, 2.6 + 3.2 * len(blocks)), 1.1 + 0.3 * len(answers) + 2.6 * (lines - 1)),
        layout="constrained",
        sharey="row",
        squeeze=False,
        height_ratios=[0.8 + 0.3 * len(answers), 2.4][:lines],
    )
    colours = {name: _ON_ANY_GROUND[ANSWERS.index(name)] for name in answers}
    for panel, block in zip(panels[0], blocks, strict=True):
        _draw_losses(panel, block, colours)
    if audit.reach is not None:
        for panel, block in zip(panels[1], blocks, strict=True):
            _draw_reach(panel, audit.reach, block, colours)
        panels[1][0].set_ylabel("share of labelled\npixels found")
        named: dict[str, Artist] = {}
        for panel in panels[1]:
            handles, labels = panel.get_legend_handles_labels()
            named |= dict(zip(labels, handles, strict=True))
        figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _draw_losses(panel: Axes, block: BlockAudit, colours: Mapping[str, str]) -> None:
    """A line an answer: the points of Dice that it loses; what is below half a point lies on grey."""
    answers = list(colours)
    panel.axvspan(-100 * LEAST, 100 * LEAST, color=GREY, alpha=0.25, lw=0)
    panel.axvline(0, color=GREY, lw=0.8)
    for name, change in block.changes.items():
        loss = change.dice
        panel.hlines(answers.index(name), 100 * loss.low, 100 * loss.high, color=colours[name], lw=1.8)
        panel.scatter(100 * loss.mean, answers.index(name), s=36, color=colours[name], zorder=3)
    panel.set_yticks(range(len(answers)), answers)
    panel.set(ylim=(len(answers) - 0.5, -0.5), xlabel="points of Dice lost")
    panel.set_title(f"{block.name}: {block.verdict}", fontsize=10)
    panel.tick_params(axis="y", length=0)
    panel.spines[["top", "right", "left"]].set_visible(False)


def _draw_reach(panel: Axes, plain: Reach, block: BlockAudit, colours: Mapping[str, str]) -> None:
    """A line an answer: the share of pixels found, over the distance to what decides them."""
    changed = {name: change.reach for name, change in block.changes.items() if change.reach is not None}
    for name, reach in {"as it is": plain, **changed}.items():
        middles = (reach.edges_px[1:] + reach.edges_px[:-1]) / 2
        colour, style, wide = (GREY, "o-", 3) if reach is plain else (colours[name], _STYLES[ANSWERS.index(name)], 1.5)
        panel.plot(middles, reach.found, style, color=colour, ms=6, mfc="none", lw=wide, label=name)
    panel.set(ylim=(0, 1.03), xlabel="pixels to what decides the class")
    panel.spines[["top", "right"]].set_visible(False)
