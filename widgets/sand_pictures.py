"""Pictures of mass that moves along a line, sharp at any size and readable on light and on dark ground."""

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np
from l2gnet.widgets.crisp import GREY
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from l2gnet.inspection.line_transport import places
from l2gnet.shapes import Float

# The colour of sand by how much of its pile lies to the left of it (widgets/js/sand.js has the same).
ORIGINS = LinearSegmentedColormap.from_list("origins", ["#3b6fd6", "#009e73", "#e69f00", "#d55e00"])
_ANGLES = ("0°", "30°", "60°", "90°")
_LEAST = 5e-4  # of the sand: what carries less is not drawn
_SECONDS = 8  # of the animation
_PANEL, _GAP, _SIDE = 330, 12, 14  # widths, in pixels
_GROUND, _FLOOR, _ROOM = 128, 316, 96  # where the source and the target stand, and how tall a bar may be
_GRAINS = 70
_STYLE = f"""
text{{font:13px system-ui,sans-serif;fill:{GREY}}}
.h,.p,.g{{animation:{_SECONDS}s infinite linear}}
.h{{animation-name:h;transform-origin:0 {_GROUND}px}}
.p{{animation-name:p;transform-origin:0 {_FLOOR}px}}
.g{{opacity:0;animation-name:x,y;animation-timing-function:ease-in-out,ease-in;animation-delay:var(--d)}}
@keyframes h{{0%,6%{{transform:scaleY(1)}}50%,93%{{transform:scaleY(0)}}98%,100%{{transform:scaleY(1)}}}}
@keyframes p{{0%,28%{{transform:scaleY(0)}}72%,93%{{transform:scaleY(1)}}98%,100%{{transform:scaleY(0)}}}}
@keyframes x{{0%{{translate:var(--a) 0}}22%,100%{{translate:var(--b) 0}}}}
@keyframes y{{0%{{opacity:1;transform:translateY({_GROUND}px)}}22%{{opacity:1;transform:translateY(var(--y))}}
22.1%,100%{{opacity:0}}}}
@media (prefers-reduced-motion:reduce){{.h,.p,.g{{animation:none}}}}
"""


def draw_ribbons(axes: Axes, plan: Float[np.ndarray, "K R"]) -> None:
    """Draw a plan on a line: the source above, the target below in the colours of where its sand comes from.

    A ribbon is as wide as what it carries; the thinnest are left out.
    """
    source, target = plan.sum(1), plan.sum(0)
    colours, top = _colours(source), max(source.max(), target.max())
    for k, r, mass, start, end in _ribbons(plan):
        if mass >= _LEAST:
            foot = target[r] / top
            middle = (2 + foot) / 2
            curve = Path([(start, 2), (start, middle), (end, middle), (end, foot)], [1, 4, 4, 4])
            width = max(0.5, 150 * mass / top / len(source))
            axes.add_patch(PathPatch(curve, fill=False, edgecolor=colours[k], alpha=0.5, linewidth=width))
    axes.bar(np.degrees(places(len(source))), source / top, _width(source), bottom=2, color=colours)
    below = np.zeros_like(target)
    for k, row in enumerate(plan):
        axes.bar(np.degrees(places(len(target))), row / top, _width(target), bottom=below, color=colours[k])
        below += row / top
    axes.hlines([0, 2], -3, 93, color=GREY, linewidth=0.8)
    axes.set(xlim=(-3, 93), ylim=(-0.02, 3.02), yticks=[], xticks=[0, 30, 60, 90], xticklabels=_ANGLES)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def draw_balance(
    axes: Axes, plan: Float[np.ndarray, "K R"], source: Float[np.ndarray, " K"], target: Float[np.ndarray, " R"]
) -> None:
    """Draw a plan as a matrix, with its row sums at the left and its column sums above, beside what they should be."""
    axes.imshow(plan, cmap="viridis", aspect="auto", vmin=0, interpolation="none")
    axes.set(xticks=[], yticks=[])
    top, left = axes.inset_axes((0, 1.03, 1, 0.22)), axes.inset_axes((-0.25, 0, 0.22, 1))
    top.stairs(plan.sum(0), fill=True, color="#56B4E9")
    top.stairs(target, color="#D55E00")
    left.stairs(plan.sum(1), fill=True, color="#56B4E9", orientation="horizontal")
    left.stairs(source, color="#D55E00", orientation="horizontal")
    top.set(xlim=(0, len(target)), ylim=(0, 1.1 * max(plan.sum(0).max(), target.max())))
    left.set(xlim=(1.1 * max(plan.sum(1).max(), source.max()), 0), ylim=(len(source), 0))
    for panel in (axes, top, left):
        panel.spines[:].set_visible(False)
    for panel in (top, left):
        panel.set(xticks=[], yticks=[])


def draw_quantiles(axes: Axes, source: Float[np.ndarray, " K"], target: Float[np.ndarray, " R"]) -> None:
    """Draw how much of each pile lies to the left of each place, and join the places with the same share."""
    for share in np.linspace(0.05, 0.95, 10):
        ends = [np.degrees(places(len(pile)))[np.searchsorted(pile.cumsum(), share)] for pile in (source, target)]
        axes.annotate("", (ends[1], share), (ends[0], share), arrowprops={"arrowstyle": "->", "color": ORIGINS(share)})
    for pile, name, style in ((source, "source", "-"), (target, "target", "--")):
        axes.plot(np.degrees(places(len(pile))), pile.cumsum(), style, color=GREY, label=name, drawstyle="steps-post")
    axes.set(xticks=[0, 30, 60, 90], xticklabels=_ANGLES, ylabel="share of the sand to the left")
    axes.legend(loc="lower right")


def pouring(
    plans: Sequence[Float[np.ndarray, "K R"]],
    titles: Sequence[str],
    source: Float[np.ndarray, " K"],
    target: Float[np.ndarray, " R"],
) -> str:
    """An SVG in which the sand of each plan moves, side by side; where nothing may move it shows the plans at rest.

    What a plan leaves of the source is grey, as is what it leaves empty of the target.
    """
    panels = "".join(
        f'<g transform="translate({i * (_PANEL + _GAP)})">{_panel(plan, title, source, target)}</g>'
        for i, (plan, title) in enumerate(zip(plans, titles, strict=True))
    )
    width, height = len(plans) * (_PANEL + _GAP) - _GAP, _FLOOR + 20
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f"<style>{_STYLE}</style>{panels}</svg>"
    )


def _panel(
    plan: Float[np.ndarray, "K R"],
    title: str,
    source: Float[np.ndarray, " K"],
    target: Float[np.ndarray, " R"],
) -> str:
    K, R = plan.shape
    colours, top = _colours(source), max(source.max(), target.max())
    tall = _ROOM / top
    ribbons, filled, below = [], [], np.zeros(R)
    coarse, given, taken = _coarse(plan), plan.sum(1), plan.sum(0)
    for k, r in np.argwhere(coarse > 1e-3).tolist():
        x, to, y = _x(2 * k + 0.5, K), _x(2 * r + 0.5, R), _FLOOR - tall * taken[2 * r : 2 * r + 2].mean()
        middle, width = (_GROUND + y) / 2, max(0.5, coarse[k, r] / top * _bar_width(max(K, R)))
        ribbons.append(
            f'<path d="M{x:.0f} {_GROUND}C{x:.0f} {middle:.0f} {to:.0f} {middle:.0f} {to:.0f} {y:.0f}" '
            f'stroke="{colours[2 * k]}" stroke-width="{width:.1f}"/>'
        )
    for k in range(0, K, 2):  # two bins have one colour: thinner bands nobody can tell apart
        part = plan[k : k + 2].sum(0) * tall
        filled.append(f'<path d="{_bars(part, _FLOOR - below)}" fill="{colours[k]}"/>')
        below += part
    ground, floor = np.full(K, float(_GROUND)), np.full(R, float(_FLOOR))
    each = (
        f'<path d="{_bars(bar * tall, ground)}" fill="{colour}"/>'
        for bar, colour in zip(np.diag(source), colours, strict=True)
    )
    heap, left, empty = "".join(each), _bars((source - given) * tall, ground), _bars(target * tall, floor)
    grains = _flights(plan, colours, tall, round(_GRAINS * plan.sum() / source.sum()))
    angles = (f'<text x="{_x(a, 91)}" y="{_FLOOR + 15}" text-anchor="middle">{a}°</text>' for a in (0, 30, 60, 90))
    return (
        f'<text x="{_PANEL / 2}" y="14" text-anchor="middle">{escape(title)}</text>'
        f'<g fill="none" opacity=".3">{"".join(ribbons)}</g>'
        f'<g opacity=".25">{heap}<path d="{empty}" fill="{GREY}"/></g>'
        f'<g class="h">{heap}</g><path d="{left}" fill="{GREY}"/><g class="p">{"".join(filled)}</g>'
        f'<path d="M4 {_GROUND}H{_PANEL - 4}M4 {_FLOOR}H{_PANEL - 4}" stroke="{GREY}"/>' + "".join((*grains, *angles))
    )


def _flights(plan: Float[np.ndarray, "K R"], colours: Sequence[str], tall: float, count: int) -> Iterator[str]:
    """Grains, as many on each way as its share of the plan; they leave in an order that looks like none."""
    K, R = plan.shape
    ways = np.searchsorted(plan.cumsum(), (np.arange(count) + 0.5) / count * plan.sum())
    for i, (k, r) in enumerate(divmod(way, R) for way in ways.tolist()):
        passed = i * 0.6180339887 % 1
        end, delay = _FLOOR - tall * plan.sum(0)[r] * passed, _SECONDS * (0.06 + 0.44 * passed)
        yield (
            f'<circle class="g" r="2.5" fill="{colours[k]}" '
            f'style="--a:{_x(k, K):.0f}px;--b:{_x(r, R):.0f}px;--y:{end:.0f}px;--d:{delay:.2f}s"/>'
        )


def _ribbons(plan: Float[np.ndarray, "K R"]) -> Iterator[tuple[int, int, float, float, float]]:
    """From, to, mass and both ends in degrees of each entry; ribbons of one bin lie side by side."""
    source, target = plan.sum(1), plan.sum(0)
    top = max(source.max(), target.max())
    given = (plan.cumsum(1) - plan / 2 - source[:, None] / 2) / top
    taken = (plan.cumsum(0) - plan / 2 - target / 2) / top
    for k, r in np.argwhere(plan > 0).tolist():
        start = _degrees(k, source) + given[k, r] * _width(source)
        yield k, r, float(plan[k, r]), float(start), float(_degrees(r, target) + taken[k, r] * _width(target))


def _coarse(plan: Float[np.ndarray, "K R"]) -> Float[np.ndarray, "k r"]:
    """Two bins as one, along both sides."""
    padded = np.pad(plan, [(0, n % 2) for n in plan.shape])
    return padded.reshape(len(padded) // 2, 2, -1, 2).sum((1, 3))


def _bars(heights: Float[np.ndarray, " n"], base: Float[np.ndarray, " n"]) -> str:
    """The outlines of bars that stand on a line, or each on one of its own; those too low to be seen are left out."""
    n = len(heights)
    width = _bar_width(n)
    return "".join(
        f"M{_x(i, n) - width / 2:.1f} {foot:.1f}v{-height:.1f}h{width:.1f}v{height:.1f}z"
        for i, (height, foot) in enumerate(zip(heights, base, strict=True))
        if height > 0.1
    )


def _bar_width(n: int) -> float:
    return 0.8 * (_PANEL - 2 * _SIDE) / (n - 1)


def _x(bin: float, n: int) -> float:
    return _SIDE + bin / (n - 1) * (_PANEL - 2 * _SIDE)


def _degrees(bin: int, pile: Float[np.ndarray, " n"]) -> float:
    return 90 * bin / (len(pile) - 1)


def _width(pile: Float[np.ndarray, " n"]) -> float:
    return 0.8 * 90 / (len(pile) - 1)


def _colours(source: Float[np.ndarray, " K"]) -> list[str]:
    return [to_hex(ORIGINS(quantile)) for quantile in (source.cumsum() - source / 2) / source.sum()]
