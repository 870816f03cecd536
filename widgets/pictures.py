"""Static pictures for saved notebooks: slices with outlines, training curves, scores of patients."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import cycle, product
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
from l2gnet.widgets.crisp import GREY
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from l2gnet.colours import COLOURS, label_colour
from l2gnet.data.folders.repair import nearest_on
from l2gnet.data.volume import IGNORED, Volume
from l2gnet.files import atomic_path
from l2gnet.inspection.forming import Forming
from l2gnet.shapes import Bool, Float, Num, UInt8

# Heat over an image: nothing at 0, then orange to yellow.
HEAT = LinearSegmentedColormap.from_list(
    "heat", [(0.9, 0.39, 0, 0), (0.93, 0.47, 0, 0.55), (0.97, 0.66, 0.08, 0.75), (1, 0.89, 0.35, 0.88)]
)


def draw_slice(
    axes: Axes,
    image: Num[np.ndarray, "H W"],
    labels: UInt8[np.ndarray, "H W"],
    *,
    spacing_mm: tuple[float, float],
    title: str = "",
    around: Bool[np.ndarray, "H W"] | None = None,
) -> None:
    """Draw one slice in grey, with the outline of each structure in its colour; pixels keep their mm shape.

    With a mask `around`, the view is a square that shows it with 25 mm on each side.
    """
    low, high = np.percentile(image, (0.5, 99.5))
    aspect = spacing_mm[0] / spacing_mm[1]
    axes.imshow(image, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="none")
    if around is not None and around.any():
        _zoom(axes, around, spacing_mm)
    draw_outlines(axes, labels)
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def draw_bench(
    image: Num[np.ndarray, "H W"],
    maps: Mapping[str, UInt8[np.ndarray, "H W"]],
    plans: Sequence[Float[np.ndarray, "K R"]] | None,
    *,
    spacing_mm: tuple[float, float],
    title: str,
    receivers: str = "codes",
) -> Figure:
    """Draw a slice with each label map over it, and beside it the plan that sends and the one that receives."""
    count = len(maps) + len(plans or ())
    figure = Figure(figsize=(3.1 * count, 3.3), layout="constrained")
    panels = list(np.atleast_1d(figure.subplots(1, count)))
    for (name, labels), axes in zip(maps.items(), panels, strict=False):
        draw_slice(axes, image, np.where(labels == IGNORED, 0, labels), spacing_mm=spacing_mm, title=name)
    for way, plan, axes in zip(("codes send", f"{receivers} receive"), plans or (), panels[len(maps) :], strict=False):
        draw_plan(axes, plan, title=f"{way}: {plan.shape[0]} codes, {plan.shape[1]} references")
    figure.suptitle(title, fontsize=10)
    return figure


def draw_outlines(
    axes: Axes, labels: UInt8[np.ndarray, "H W"], *, style: str = "solid", colour: str | None = None
) -> None:
    """Draw the outline of each structure, in its colour or a given one; a second map is told apart by its style."""
    axes.autoscale(False)  # the picture ends where it did
    rows, columns = (np.arange(-1, size + 1) for size in labels.shape)
    for label in range(1, int(labels.max()) + 1):
        if (labels == label).any():
            inside = np.pad(labels == label, 1)  # also at the border, and where there is but one row
            colours = colour or label_colour(label)
            axes.contour(columns, rows, inside, levels=[0.5], colors=colours, linewidths=1.4, linestyles=style)


def _zoom(axes: Axes, mask: Bool[np.ndarray, "H W"], spacing_mm: tuple[float, float]) -> None:
    places_mm = np.argwhere(mask) * spacing_mm
    low, high = places_mm.min(0), places_mm.max(0)
    half_mm = (high - low).max() / 2 + 25
    row, column = (low + high) / 2
    axes.set_ylim((row + half_mm) / spacing_mm[0], (row - half_mm) / spacing_mm[0])
    axes.set_xlim((column - half_mm) / spacing_mm[1], (column + half_mm) / spacing_mm[1])


def save_repair(path: Path, image: Volume, before: Volume, after: Volume, *, title: str) -> None:
    """Write a PNG of a mask that was brought onto the grid of its image: as it was at the left, on its own grid."""
    numbers = np.unique([*np.unique(before.array), *np.unique(after.array)])
    d = int((after.array > 0).sum((1, 2)).argmax())
    middle = np.argwhere(after.array[d] > 0).mean(axis=0) if after.array[d].any() else np.array(after.shape[1:]) / 2
    before = before.turned(image.axes)
    there = np.linalg.inv(before.affine) @ image.affine @ (d, *middle, 1)
    own = _slice_of(before, int(np.clip(round(there[0]), 0, before.shape[0] - 1)))
    figure, panels = plt.subplots(1, 2, figsize=(9, 4.8), layout="constrained")
    for axes, seen, mask, what in (
        (panels[0], nearest_on(image, own), own, "the mask as it was"),
        (panels[1], _slice_of(image, d), _slice_of(after, d), "on the grid of the image"),
    ):
        labels = np.searchsorted(numbers, mask.array[0]).clip(max=255).astype(np.uint8)
        draw_slice(axes, seen.array[0], labels, spacing_mm=mask.spacing_mm[1:], title=what)
    figure.suptitle(title, fontsize=9)
    save_figure(path, figure, dpi=110)


def save_figure(path: Path, figure: Figure, *, dpi: int, format: str = "png") -> None:
    """Write a figure, atomically, in a folder that is made where it lacks, and forget it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=format, dpi=dpi)
    plt.close(figure)


def _slice_of(volume: Volume, d: int) -> Volume:
    """One slice, where it lies."""
    affine = volume.affine @ nib.affines.from_matvec(np.eye(3), [d, 0, 0])
    return replace(volume, array=volume.array[d : d + 1], affine=affine, stored=None, more=())


def draw_legend(figure: Figure, classes: Sequence[str]) -> None:
    """Name the colours of the structures below the figure."""
    handles = [
        plt.Line2D([], [], color=COLOURS[i % len(COLOURS)], lw=2.5, label=name) for i, name in enumerate(classes[1:])
    ]
    figure.legend(handles=handles, loc="outside lower center", ncol=min(len(handles), 6), frameon=False, fontsize=9)


def plot_history(rows: Sequence[Mapping[str, str]], classes: Sequence[str]) -> Figure:
    """Loss, validation Dice a structure and, for a model with codes, the codes in use: each over epochs.

    The lines of the second ten structures are dashed, those of the third dotted.
    """
    epochs = [int(row["epoch"]) for row in rows]
    with_codes = bool(rows[-1].get("codes_used"))
    figure, panels = plt.subplots(
        1, 3 if with_codes else 2, figsize=(11 if with_codes else 7.5, 3), layout="constrained"
    )
    panels[0].plot(epochs, [float(row["loss"]) for row in rows], color=GREY)
    panels[0].set(title="training loss", xlabel="epoch", ylim=(0, None))
    for (style, colour), name in zip(cycle(product(("-", "--", ":"), COLOURS)), classes[1:], strict=False):
        dice = [float(row[f"val_dice_{name.replace(' ', '_')}"]) for row in rows]
        panels[1].plot(epochs, dice, style, color=colour, label=name)
    panels[1].set(title="validation Dice (model's grid)", xlabel="epoch", ylim=(0, 1))
    columns = math.ceil(len(classes[1:]) / len(COLOURS))
    panels[1].legend(frameon=False, fontsize=9, loc="lower right", ncols=columns)
    if with_codes:
        panels[2].plot(epochs, [float(row["codes_used"]) for row in rows], color=COLOURS[5], label="used in the epoch")
        panels[2].plot(epochs, [float(row["codes_perplexity"]) for row in rows], color=COLOURS[6], label="perplexity")
        panels[2].plot(epochs, [float(row["codes_per_image"]) for row in rows], color=COLOURS[2], label="in one image")
        panels[2].set(title="codes", xlabel="epoch", ylim=(0, None))
        panels[2].legend(frameon=False, fontsize=9)
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.xaxis.get_major_locator().set_params(integer=True)
    return figure


def plot_dice(dice: Mapping[str, Sequence[float]]) -> Figure:
    """Dice of every case, a column of dots a structure, with the mean as a bar."""
    figure, axes = plt.subplots(figsize=(5.5, 3), layout="constrained")
    for column, values in enumerate(dice.values()):
        known = np.array([value for value in values if np.isfinite(value)])
        if not len(known):
            continue
        spread = np.linspace(-0.2, 0.2, len(known)) if len(known) > 1 else np.zeros(len(known))
        axes.scatter(column + spread, np.sort(known), s=14, color=COLOURS[column % len(COLOURS)], alpha=0.8)
        axes.hlines(known.mean(), column - 0.3, column + 0.3, color=GREY)
        axes.annotate(f"{known.mean():.3f}", (column + 0.32, known.mean()), va="center", fontsize=9)
    axes.set_xticks(range(len(dice)), dice)
    axes.set(ylabel="Dice", xlim=(-0.5, len(dice) - 0.3), title="each dot is one volume, on its original grid")
    axes.title.set_fontsize(9)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_plan(axes: Axes, plan: Float[np.ndarray, "K R"], *, title: str = "", row: str = "code") -> None:
    """Draw a transport plan as a heatmap, with its row sums at the left and its column sums on top.

    A `row` is that of a code or of a token.
    """
    axes.imshow(plan, cmap="viridis", aspect="auto", vmin=0, interpolation="none")
    axes.set(xlabel="reference", xticks=[], yticks=[])
    axes.text(-0.2, 0.5, row, transform=axes.transAxes, rotation=90, ha="right", va="center")
    axes.set_title(title, fontsize=9, y=1.2)
    top, left = axes.inset_axes((0, 1.02, 1, 0.16), sharex=axes), axes.inset_axes((-0.18, 0, 0.16, 1), sharey=axes)
    rows, columns = (np.arange(n + 1) - 0.5 for n in plan.shape)
    top.stairs(plan.sum(0), columns, fill=True, color=COLOURS[5])
    left.stairs(-plan.sum(1), rows, fill=True, color=COLOURS[6], orientation="horizontal")
    for panel in (top, left):
        panel.set_axis_off()


def draw_heat(
    axes: Axes,
    image: Num[np.ndarray, "H W"],
    heat: Float[np.ndarray, "h w"] | None,
    *,
    top: float | None = None,
    unit: str = "",
    aspect: float = 1.0,
    title: str = "",
) -> None:
    """Draw a value for each bottleneck pixel over the image, transparent at 0, with a colour bar up to `top`."""
    H, W = image.shape
    axes.imshow(image, cmap="gray", aspect=aspect, extent=(0, W, H, 0))
    if heat is not None:
        over = axes.imshow(heat, cmap=HEAT, aspect=aspect, extent=(0, W, H, 0), vmin=0, vmax=top or heat.max() or 1)
        bar = axes.figure.colorbar(over, cax=axes.inset_axes((0, -0.06, 1, 0.04)), orientation="horizontal")
        bar.ax.set_facecolor("#555555")  # the bar begins where the heat does: with nothing, over grey
        bar.locator = MaxNLocator(4)
        bar.set_label(unit, fontsize=9)
        bar.ax.tick_params(labelsize=9)
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def draw_convergence(
    axes: Axes,
    iterations: Num[np.ndarray, " steps"],
    errors: Float[np.ndarray, " steps"],
    *,
    tolerance: float,
    title: str = "",
) -> None:
    """Draw the marginal error by iteration, red where it stays above the tolerance."""
    colour = "#2e7d32" if errors[-1] <= tolerance else "#d32f2f"
    axes.semilogy(iterations, errors.clip(1e-17), color=colour)
    axes.semilogy(iterations[-1], errors[-1].clip(1e-17), "o", color=colour, markersize=4)
    axes.axhline(tolerance, color=GREY, linestyle="--", linewidth=1)
    axes.set(xlabel="iteration", ylim=(tolerance / 10, 2))
    axes.minorticks_off()
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_title(title, fontsize=9, color=colour)
    axes.spines[["top", "right"]].set_visible(False)


def draw_usage(
    axes: Axes,
    counts: Num[np.ndarray, " K"],
    order: Sequence[int],
    colours: Sequence[str],
    *,
    chosen: int | None = None,
    title: str = "",
) -> None:
    """Draw how often each code fires, in per cent of all pixels, in the given order; an arrow names the chosen code."""
    shares = 100 * counts[list(order)] / max(counts.sum(), 1)
    axes.bar(range(len(shares)), shares, width=0.9, color=[colours[code] for code in order])
    if chosen is not None:
        place = list(order).index(chosen)
        arrow = {"arrowstyle": "-|>", "color": GREY}
        axes.annotate(
            f"code {chosen}", (place, shares[place]), (0, 22), textcoords="offset points", ha="center", arrowprops=arrow
        )
    axes.set(xlabel="code", ylabel="% of pixels", xticks=[], ylim=(0, 1.3 * max(shares.max(), 1e-9)))
    axes.set_title(title, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def draw_code_map(
    axes: Axes,
    places: Float[np.ndarray, "K 2"],
    counts: Num[np.ndarray, " K"],
    colours: Sequence[str],
    *,
    chosen: int | None = None,
    title: str = "",
) -> None:
    """Draw a map of the codebook: a dot a code, larger the more it fires, hollow where it never does."""
    used = counts > 0
    sizes = 6 + 200 * counts / max(counts.max(), 1)
    x, y = places.T
    axes.scatter(x[~used], y[~used], s=14, facecolors="none", edgecolors=GREY, linewidths=0.8)
    axes.scatter(x[used], y[used], s=sizes[used], c=np.array(colours)[used], alpha=0.75, linewidths=0)
    if chosen is not None:
        size = sizes[chosen] + 40
        axes.scatter(x[chosen], y[chosen], s=size, facecolors="none", edgecolors=GREY, linewidths=1.4)
    axes.set(xlabel="first principal component", ylabel="second", xticks=[], yticks=[])
    axes.set_title(title, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def plot_forming(forming: Forming, count: int = 3) -> Figure:
    """Draw how a codebook formed: its map at up to `count` epochs, evenly chosen, all on the axes of the last."""
    chosen = np.unique(np.linspace(0, len(forming.epochs) - 1, count).round().astype(int))
    figure, panels = plt.subplots(1, len(chosen), figsize=(9.5, 2.1), dpi=200, layout="constrained", squeeze=False)
    colours = [COLOURS[1]] * forming.uses.shape[1]
    low, high = forming.places.min((0, 1)), forming.places.max((0, 1))
    margin = 0.08 * (high - low).max() + 1e-9
    for axes, row in zip(panels[0], chosen, strict=True):
        uses = forming.uses[row]
        title = f"epoch {forming.epochs[row]}: {(uses > 0).sum()} of {len(uses)} codes in use"
        draw_code_map(axes, forming.places[row], uses, colours, title=title)
        for dots in axes.collections:
            dots.set_rasterized(True)  # hundreds of discs would fill a saved notebook
        axes.set(xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin))
        axes.set(xlabel="", ylabel="")
    return figure


def draw_patch(axes: Axes, patch: Num[np.ndarray, "side side"], field_px: int, *, aspect: float = 1.0) -> None:
    """Draw the surroundings of a bottleneck pixel, and the box of its receptive field."""
    axes.imshow(patch, cmap="gray", aspect=aspect)
    corner = (len(patch) - field_px) / 2 - 0.5
    axes.add_patch(plt.Rectangle((corner, corner), field_px, field_px, fill=False, color=COLOURS[0], linewidth=1.5))
    axes.set_axis_off()
