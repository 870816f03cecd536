"""A scan and its label maps, slice by slice and moment by moment, drawn in the browser."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Literal

import numpy as np
import traitlets
from l2gnet.widgets.agreement import agreement, slice_areas, slice_dice, slice_moments
from l2gnet.widgets.inputs import Frames, Input, compact, open_codes, open_frames, open_label_frames
from l2gnet.widgets.pictures import draw_outlines
from l2gnet.widgets.planes import Plane, planes_of
from l2gnet.widgets.viewer import Viewer
from l2gnet.widgets.windows import presets
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from l2gnet.colours import AGREEMENT, COLOURS
from l2gnet.data.volume import IGNORED
from l2gnet.shapes import Float, Float32, Num, UInt8

_HATCHES = (r"\\\\", "////", "xxxx")  # added, missed and confused
_EDGES = ((0.5, 1), (0.5, 0), (0, 0.5), (1, 0.5))  # top, bottom, left and right of a picture
_LINES = ("solid", "dashed", "dotted", "dashdot")


class SliceViewer(Viewer):
    """A volume, or the frames of a cine, with any number of label maps; every map is compared with the first.

    What it shows follows its attributes: `index` (the slice along D), `frame` (the moment of a cine), `window` (lowest
    and highest intensity), `three_planes`, `side_by_side` (a picture a map), `overlay` ("outline" or "fill"),
    `opacity`, `mode` ("labels", or "errors" against the first map), `visible` (labels), `shown` (names of maps), `tool`
    (what a drag does: "window", "crosshair", "pan" or "ruler"), `ruler` (two places [d, h, w], or none) and `looks`
    (by name of the plane: its `zoom`, and the `centre` in shares of its height and width). The screen counts slices,
    voxels and moments from 1, Python from 0. Pictures and saved pages are of the moment that is shown.

    Args:
        volume: intensities (D, H, W), or (T, D, H, W) of a cine: an array, a tensor, a NIfTI file, or a `Volume`;
            several volumes are the frames of a cine. One contrast is for all of them.
        labels: label maps on the same grid by name, of the same kinds: one for all frames, or one a frame.
        spacing_mm: of an array, along (D, H, W); files know their own.
        orientation: where D, H and W of an array lead, for example "SPL"; files know their own.
        classes: names of the labels, from 0 (background) on. Where they are told, 255 means that a label is not known.
        codes: the code of every token, (D, h, w), or (T, D, h, w) of a cine: a token covers H/h x W/w pixels.

    Raises:
        ValueError: an array has the wrong shape or values.
        VolumeError: a file is not what it should be.
    """

    script = "slice_viewer"
    answers = "slice_answers"
    held = ("scan", "frames", "maps")

    about = traitlets.Dict().tag(sync=True)  # what never changes: geometry, names, colours, presets
    frame = traitlets.Int(0).tag(sync=True)
    window = traitlets.List(traitlets.Float(), minlen=2, maxlen=2).tag(sync=True)
    three_planes = traitlets.Bool().tag(sync=True)
    side_by_side = traitlets.Bool().tag(sync=True)
    overlay = traitlets.Enum(("outline", "fill"), "outline").tag(sync=True)
    mode = traitlets.Enum(("labels", "errors"), "labels").tag(sync=True)
    opacity = traitlets.Float(0.4, min=0, max=1).tag(sync=True)
    visible = traitlets.List(traitlets.Int()).tag(sync=True)
    shown = traitlets.List(traitlets.Unicode()).tag(sync=True)
    tool = traitlets.Enum(("window", "crosshair", "pan", "ruler"), "window").tag(sync=True)
    ruler = traitlets.List(traitlets.List(traitlets.Float(), minlen=3, maxlen=3), maxlen=2).tag(sync=True)
    looks = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        volume: Frames,
        labels: "Mapping[str, Input | Sequence[Input]] | None" = None,
        *,
        spacing_mm: Sequence[float] | None = None,
        orientation: str | None = None,
        classes: Sequence[str] = (),
        codes: Any = None,
    ):
        labels = {} if labels is None else labels
        if not isinstance(labels, Mapping):
            kind = type(labels).__name__
            raise ValueError(f"labels must be a dict of label maps by name; got {kind}; give {{'truth': labels}}")
        self.frames, self.scan, placed = open_frames(volume, spacing_mm)
        of: Input = volume[0] if isinstance(volume, list | tuple) else volume
        T, D, H, W = self.frames.shape
        placed = placed and self.scan.has_mm
        self.planes = planes_of(self.scan.axes if placed else orientation)
        self.maps = {name: open_label_frames(name, each, self.scan, of, T) for name, each in labels.items()}
        areas = {name: slice_areas(array, IGNORED + 1) for name, array in self.maps.items()}
        present = [label for label in range(1, IGNORED + 1) if any(area[:, label].any() for area in areas.values())]
        if IGNORED in present and 0 < len(classes) <= IGNORED:
            present.remove(IGNORED)
        self.classes = [*classes, *map(str, range(len(classes), 1 + max(present, default=0)))]
        self._areas = next(iter(areas.values()), np.zeros((D, 1)))[:, : len(self.classes)]
        self._dice = {name: self._compared(array) for name, array in list(self.maps.items())[1:]}
        stored, scale = compact(self.frames)
        self.presets = presets(self.frames)
        super().__init__(
            window=list(next(iter(self.presets.values()))),
            visible=present,
            shown=list(self.maps),
            about={
                "shape": self.scan.shape,
                "frames": T,
                "spacing_mm": self.scan.spacing_mm,
                "affine": self.scan.affine.tolist() if placed else None,
                "unit": "mm" if self.scan.has_mm else "voxels",
                "planes": [plane.to_browser() for plane in self.planes],
                "scale": scale,
                "presets": self.presets,
                "maps": list(self.maps),
                "structures": [{"label": n, "name": self.classes[n], "colour": _colour(n)} for n in present],
                "agreement": AGREEMENT,
                "hatched": len(present) > len(COLOURS),  # more than are unlike the colours of errors
            },
        )
        self.selection = {"voxel": [n // 2 for n in self.scan.shape]}
        if present:
            self.jump("largest")
        self.publish("volume", stored.reshape(-1, H, W), rows=D)
        for name, array in self.maps.items():
            self.publish(f"labels of {name}", array, rows=D, packed=True)
        if self.maps:
            self.publish("areas", self._areas)
        for name, dice in self._dice.items():
            self.publish(f"dice of {name}", dice)
        if codes is not None:
            self.publish("codes", open_codes(codes, self.scan, T), rows=D)

    @property
    def reference(self) -> UInt8[np.ndarray, "rows H W"]:
        """The first label map: the others are compared with it."""
        return next(iter(self.maps.values()))

    @traitlets.validate("frame")
    def _in_time(self, proposal: Any) -> int:
        frame = proposal["value"]
        if not 0 <= frame < len(self.frames):
            raise traitlets.TraitError(f"frame must be a moment in 0..{len(self.frames) - 1}; got {frame}")
        return frame

    @traitlets.validate("shown")
    def _there(self, proposal: Any) -> list[str]:
        known = self.about["maps"]
        if unknown := [name for name in proposal["value"] if name not in known]:
            rule = f"shown must hold names of the label maps, {', '.join(known) or 'here none'}"
            raise traitlets.TraitError(f"{rule}; got {unknown[0]!r}")
        return [name for name in known if name in proposal["value"]]  # the browser has but this order

    @traitlets.validate("visible")
    def _named(self, proposal: Any) -> list[int]:
        if unknown := [label for label in proposal["value"] if not 0 <= label < len(self.classes)]:
            rule = f"visible must hold labels in 0..{len(self.classes) - 1}"
            raise traitlets.TraitError(f"{rule}; got {unknown[0]}")
        return proposal["value"]

    def _now(self, rows: Num[np.ndarray, "rows *more"]) -> Num[np.ndarray, "D *more"]:
        """The rows of the moment that is shown, of an array that has D for each frame, or for all of them."""
        D = self.scan.shape[0]
        return rows if len(rows) == D else rows[self.frame * D : (self.frame + 1) * D]

    def _compared(self, array: UInt8[np.ndarray, "rows H W"]) -> Float32[np.ndarray, "compared L"]:
        """The Dice of another map on every slice, at every moment at which one of the two is another."""
        rows = max(len(self.reference), len(array))
        reference, other = (np.tile(each, (rows // len(each), 1, 1)) for each in (self.reference, array))
        return slice_dice(reference, other, len(self.classes))

    @property
    def _voxel(self) -> list[int]:
        """The voxel that is pointed at, by default the middle one; for one that a larger scan has, the nearest."""
        voxel = self.selection.get("voxel", [n // 2 for n in self.scan.shape])
        return [min(max(n, 0), size - 1) for n, size in zip(voxel, self.scan.shape, strict=True)]

    @property
    def index(self) -> int:
        """The slice that is looked at, along D."""
        return self._voxel[0]

    @index.setter
    def index(self, index: int) -> None:
        D = self.scan.shape[0]
        if not 0 <= index < D:
            raise ValueError(f"index must be a slice in 0..{D - 1}; got {index}")
        self.selection = {**self.selection, "voxel": [int(index), *self._voxel[1:]]}

    @property
    def ruler_mm(self) -> float | None:
        """The length of the ruler, if there is one, and if the scan has mm."""
        return self._ruler_length() if self.ruler and self.scan.has_mm else None

    def _ruler_length(self) -> float:
        return math.dist(*np.multiply(self.ruler, self.scan.spacing_mm))

    def jump(self, to: Literal["largest", "worst"]) -> None:
        """Go to the slice where the visible structures are largest, or where their mean Dice is lowest.

        The first map tells the size; the first other map that is shown is the one that does worst.

        Raises:
            ValueError: nothing is there to go to.
        """
        compared = [name for name in self.shown if name in self._dice]
        if not self.visible or (to == "worst" and not compared):
            raise ValueError(f"jump to the {to} slice needs a visible structure, and for worst a second map; show one")
        if to == "largest":
            rank = self._now(self._areas)[:, self.visible].sum(1).astype(float)
        else:
            dice = self._now(self._dice[compared[0]])[:, self.visible]
            rank = -np.where(np.isnan(dice).all(1), np.inf, np.nansum(dice, 1) / np.isfinite(dice).sum(1).clip(1))
        d = int(rank.argmax())
        places = np.argwhere(np.isin(self._now(self.reference)[d], self.visible))
        h, w = places.mean(0).round().astype(int).tolist() if len(places) else self._voxel[1:]
        self.selection = {**self.selection, "voxel": [d, h, w]}

    def draw(self) -> Figure:
        """The picture of what the viewer shows now, drawn in Python."""
        groups = [[name] for name in self.shown] if self.side_by_side and self.shown else [self.shown]
        rows = [[(self.planes[0], group) for group in groups]]
        if self.three_planes:
            rows = [[(plane, group) for plane in self.planes] for group in groups]
        lengths_mm = np.multiply(self.scan.spacing_mm, self.scan.shape)
        widths_mm = [lengths_mm[plane.across] for plane, _ in rows[0]]
        height_mm = max(lengths_mm[plane.down] for plane, _ in rows[0])
        inches = min(9.5 / sum(widths_mm), 4.2 / height_mm)  # a millimetre
        key = AGREEMENT if self.mode == "errors" else {self.classes[n]: _colour(n) for n in self.visible}
        key = key if self.shown else {}
        width = max(inches * sum(widths_mm), 4.0)
        columns = 4 if width > 6 else 2  # inches that four names need
        height = len(rows) * (inches * height_mm + 0.3) + 0.3 + 0.24 * math.ceil(len(key) / columns)
        figure = Figure((width, height), layout="constrained")
        grid = figure.subplots(len(rows), len(widths_mm), squeeze=False, width_ratios=widths_mm)
        for axes, (plane, names) in zip(grid.ravel(), chain.from_iterable(rows), strict=True):
            self._draw_pane(axes, plane, names)
        if key:
            handles = [Patch(facecolor=colour, edgecolor="#8c8c8c", label=name) for name, colour in key.items()]
            figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
        return figure

    def _draw_pane(self, axes: Axes, plane: Plane, names: Sequence[str]) -> None:
        index, spacing_mm = self._voxel[plane.axis], self.scan.spacing_mm
        aspect = spacing_mm[plane.down] / spacing_mm[plane.across]
        low, high = self.window
        axes.imshow(plane.slice(self.frames[self.frame], index), cmap="gray", vmin=low, vmax=high, aspect=aspect)
        compared = [name for name in names if name in self._dice]
        if self.mode == "errors" and compared:
            unknown = () if len(self.classes) > IGNORED else (IGNORED,)
            maps = (self.reference, self.maps[compared[0]])
            truth, predicted = (self._visible(each, plane, *unknown) for each in maps)
            self._draw_errors(axes, agreement(truth, predicted, len(self.classes)), aspect)
            draw_outlines(axes, self._visible(self.reference, plane), colour="white")  # the verdicts need the colours
        else:
            for position, name in enumerate(names):
                labels = self._visible(self.maps[name], plane)
                if self.overlay == "fill" and position == 0:
                    axes.imshow(_shades(map(_colour, range(1, 256)), self.opacity)[labels], aspect=aspect)
                else:
                    draw_outlines(axes, labels, style=_LINES[list(self.maps).index(name) % len(_LINES)])
        self._draw_ruler(axes, plane)
        self._zoom(axes, plane)
        what = ", ".join(names) if self.side_by_side else plane.name
        moment = f", moment {self.frame + 1} of {len(self.frames)}" if len(self.frames) > 1 else ""
        axes.set_title(f"{what}, {index + 1} of {self.scan.shape[plane.axis]}{moment}", fontsize=9)
        rim = [withStroke(linewidth=2, foreground="black")]
        for letter, place, shift in zip(plane.letters, _EDGES, ((0, -8), (0, 8), (8, 0), (-8, 0)), strict=True):
            note = axes.annotate(letter, place, shift, xycoords="axes fraction", textcoords="offset points")
            note.set(color="white", fontsize=9, ha="center", va="center", path_effects=rim)
        axes.set_axis_off()

    def _draw_errors(self, axes: Axes, verdicts: UInt8[np.ndarray, "rows columns"], aspect: float) -> None:
        """Errors in full colour, and what is right faintly, as the browser draws them."""
        hatched = self.about["hatched"]
        right, *wrong = AGREEMENT.values()
        shades = [(0, 0, 0, 0), to_rgba(right, 0.35 * self.opacity)]
        shades += [to_rgba(colour, 0.0 if hatched else (1 + self.opacity) / 2) for colour in wrong]
        axes.imshow(np.array(shades)[verdicts], aspect=aspect)
        for verdict, (colour, hatch) in enumerate(zip(wrong, _HATCHES, strict=True), 2):
            if hatched and (verdicts == verdict).any():
                drawn = axes.contourf(verdicts == verdict, levels=[0.5, 1.5], colors="none", hatches=[hatch])
                drawn.set_edgecolor(colour)

    def _draw_ruler(self, axes: Axes, plane: Plane) -> None:
        ends = np.array(self.ruler).reshape(-1, 3)
        if not len(ends) or (ends[:, plane.axis] != self._voxel[plane.axis]).any():
            return
        (y0, x0), (y1, x1) = (self._placed(end, plane) for end in self.ruler)
        rim = [withStroke(linewidth=3, foreground="black")]
        axes.plot([x0, x1], [y0, y1], "o-", color="white", linewidth=1.2, markersize=3, path_effects=rim)
        length = f"{self._ruler_length():.1f} {self.about['unit']}"
        note = axes.annotate(length, (x1, y1), (5, -9), textcoords="offset points")
        note.set(color="white", fontsize=9, path_effects=rim)

    def _zoom(self, axes: Axes, plane: Plane) -> None:
        """Show what the browser shows of a plane that is zoomed."""
        look = self.looks.get(plane.name, {"zoom": 1})
        if look["zoom"] > 1:
            rows, columns = (self.scan.shape[axis] for axis in (plane.down, plane.across))
            (down, across), half = look["centre"], 0.5 / look["zoom"]
            axes.set_ylim((down + half) * rows - 0.5, (down - half) * rows - 0.5)
            axes.set_xlim((across - half) * columns - 0.5, (across + half) * columns - 0.5)

    def _placed(self, place: Sequence[float], plane: Plane) -> tuple[float, float]:
        """Where a place [d, h, w] lies in the picture of a plane: row and column."""
        last_row, last_column = (self.scan.shape[axis] - 1 for axis in (plane.down, plane.across))
        row, column = place[plane.down], place[plane.across]
        return last_row - row if plane.flip_down else row, last_column - column if plane.flip_across else column

    def _visible(
        self, labels: UInt8[np.ndarray, "all H W"], plane: Plane, *more: int
    ) -> UInt8[np.ndarray, "rows columns"]:
        """The visible labels of a slice, and these; 0 elsewhere."""
        shown = plane.slice(self._now(labels), self._voxel[plane.axis])
        return np.where(np.isin(shown, [*self.visible, *more]), shown, 0).astype(np.uint8)

    def page_data(self) -> dict[str, Any]:
        """Of each slice and label: pixels of the first map, sums of their rows and columns, and the Dice of others."""
        dice = {
            name: [[None if math.isnan(value) else value for value in row] for row in self._now(values).tolist()]
            for name, values in self._dice.items()
        }
        moments = slice_moments(self._now(self.reference), len(self.classes)) if self.maps else []
        return {"moments": moments, "dice": dice}

    def page_arrays(self) -> dict[str, np.ndarray]:
        """The published arrays at the moment that is shown."""
        return {name: self._now(array) for name, array in super().page_arrays().items()}

    def _on_jump(self, to: Literal["largest", "worst"]) -> None:
        self.jump(to)

    def __repr__(self) -> str:
        D, H, W = self.about["shape"]
        frames = f"{self.about['frames']} x " if self.about["frames"] > 1 else ""
        return f"SliceViewer({frames}{D} x {H} x {W}, {', '.join(self.about['maps']) or 'no labels'})"


def _colour(label: int) -> str:
    return COLOURS[(label - 1) % len(COLOURS)]


def _shades(colours: Iterable[str], opacity: float) -> Float[np.ndarray, "L 4"]:
    """The RGBA of every label; what is 0 can be seen through."""
    return np.array([(0, 0, 0, 0), *(to_rgba(colour, opacity) for colour in colours)])
