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


def draw_ribbons(axes: Axes, plan: Float[np.ndarray, "K R"], *, least: float = 5e-4) -> None:
    """Draw a plan on a line: the source above, the target below in the colours of where its sand comes from.

    A ribbon is as wide as what it carries; those with less than `least` of the sand are left out.
    """
    source, target = plan.sum(1), plan.sum(0)
    colours, top = _colours(source), max(source.max(), target.max())
    for k, r, mass, start, end in _ribbons(plan):
        if mass >= least:
            foot = target[r] / top
            middle = (2 + foot) / 2
            curve = Path([(start, 2), (start, middle), (end, middle), (end, foot)], [1, 4, 4, 4])
            width = max(0.5, 150 * mass / top / len(source))
            axes.add_patch(PathPatch(curve, fill=False, edgecolor=colours[k], alpha=0.5, linewidth=width))
    for k, share in enumerate(source):
        axes.bar(_degrees(k, source), share / top, _width(source), bottom=2, color=colours[k])
    below = np.zeros_like(target)
    for k, row in enumerate(plan):
        axes.bar(np.degrees(places(len(target))), row / top, _width(target), bottom=below, color=colours[k])
        below += row / top
    axes.hlines([0, 2], -3, 93, color=GREY, linewidth=0.8)
    axes.set(
        xlim=(-3, 93), ylim=(-0.02, 3.02), yticks=[], xticks=[0, 30, 60, 90], xticklabels=["0°", "30°", "60°", "90°"]
    )
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def pouring(plans: Sequence[Float[np.ndarray, "K R"]], titles: Sequence[str]) -> str:
    """An SVG in which the sand of each plan moves, side by side; where nothing may move it shows the plans at rest."""
    panels = "".join(
        f'<g transform="translate({i * (_PANEL + _GAP)})">{_panel(plan, title)}</g>'
        for i, (plan, title) in enumerate(zip(plans, titles, strict=True))
    )
    width, height = len(plans) * (_PANEL + _GAP) - _GAP, _FLOOR + 20
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f"<style>{_STYLE}</style>{panels}</svg>"
    )


def _panel(plan: Float[np.ndarray, "K R"], title: str) -> str:
    source, target = plan.sum(1), plan.sum(0)
    K, R = plan.shape
    colours, top = _colours(source), max(source.max(), target.max())
    scale = 0.8 * (_PANEL - 2 * _SIDE) / (max(K, R) - 1) / top  # pixels of a ribbon's width a share
    ribbons, heap, filled = [], [], []
    for k, r, mass, _, _ in _ribbons(_coarse(plan)):
        if mass > 1e-3:
            x, to, y = _x(2 * k + 0.5, K), _x(2 * r + 0.5, R), _FLOOR - _ROOM * target[2 * r : 2 * r + 2].mean() / top
            middle = (_GROUND + y) / 2
            ribbons.append(
                f'<path d="M{x:.0f} {_GROUND}C{x:.0f} {middle:.0f} {to:.0f} {middle:.0f} {to:.0f} {y:.0f}" '
                f'stroke="{colours[2 * k]}" stroke-width="{max(0.5, mass * scale):.1f}"/>'
            )
    for k, share in enumerate(source):
        heap.append(_bar(_x(k, K), _GROUND, _ROOM * share / top, K, colours[k]))
    below = np.zeros(R)
    for k in range(0, K, 2):  # two bins have one colour: thinner bands nobody can tell apart
        part = plan[k : k + 2].sum(0) * _ROOM / top
        bars = "".join(_outline(_x(r, R), _FLOOR - below[r], part[r], R) for r in range(R) if part[r] > 0.1)
        filled.append(f'<path d="{bars}" fill="{colours[k]}"/>')
        below += part
    return (
        f'<text x="{_PANEL / 2}" y="14" text-anchor="middle">{escape(title)}</text>'
        f'<g fill="none" opacity=".3">{"".join(ribbons)}</g>'
        f'<g opacity=".25">{"".join(heap)}</g><g class="h">{"".join(heap)}</g><g class="p">{"".join(filled)}</g>'
        f'<path d="M4 {_GROUND}H{_PANEL - 4}M4 {_FLOOR}H{_PANEL - 4}" stroke="{GREY}"/>{"".join(_flights(plan, top))}'
        + "".join(f'<text x="{_x(a, 91)}" y="{_FLOOR + 15}" text-anchor="middle">{a}°</text>' for a in (0, 30, 60, 90))
    )


def _flights(plan: Float[np.ndarray, "K R"], top: float) -> Iterator[str]:
    """Grains, as many on each way as its share of the plan; they leave in an order that looks like none."""
    R, colours = plan.shape[1], _colours(plan.sum(1))
    ways = np.searchsorted(plan.cumsum(), (np.arange(_GRAINS) + 0.5) / _GRAINS * plan.sum())
    for i, (k, r) in enumerate(divmod(way, R) for way in ways.tolist()):
        passed = i * 0.6180339887 % 1
        end = _FLOOR - _ROOM * plan.sum(0)[r] / top * passed
        delay = _SECONDS * (0.06 + 0.44 * passed)
        yield (
            f'<circle class="g" r="2.5" fill="{colours[k]}" '
            f'style="--a:{_x(k, len(plan)):.0f}px;--b:{_x(r, R):.0f}px;--y:{end:.0f}px;--d:{delay:.2f}s"/>'
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


def _bar(x: float, base: float, height: float, n: int, colour: str) -> str:
    return f'<path d="{_outline(x, base, height, n)}" fill="{colour}"/>' if height > 0.1 else ""


def _outline(x: float, base: float, height: float, n: int) -> str:
    width = 0.8 * (_PANEL - 2 * _SIDE) / (n - 1)
    return f"M{x - width / 2:.1f} {base:.1f}v{-height:.1f}h{width:.1f}v{height:.1f}z"


def _x(bin: float, n: int) -> float:
    return _SIDE + bin / (n - 1) * (_PANEL - 2 * _SIDE)


def _degrees(bin: int, pile: Float[np.ndarray, " n"]) -> float:
    return 90 * bin / (len(pile) - 1)


def _width(pile: Float[np.ndarray, " n"]) -> float:
    return 0.8 * 90 / (len(pile) - 1)


def _colours(source: Float[np.ndarray, " K"]) -> list[str]:
    return [to_hex(ORIGINS(quantile)) for quantile in (source.cumsum() - source / 2) / source.sum()]
