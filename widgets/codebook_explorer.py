"""A codebook, to explore: how often its codes fire, where, and what they stand for."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import traitlets
from l2gnet.widgets.explorer import Explorer, as_float32, grey
from l2gnet.widgets.pictures import draw_code_map, draw_heat, draw_patch, draw_usage
from matplotlib.figure import Figure

from l2gnet.colours import label_colour
from l2gnet.data.slices import SliceSet
from l2gnet.inspection.code_atlas import CodeAtlas, map_codes, typical_labels
from l2gnet.inspection.receptive_field import receptive_field_px
from l2gnet.models.backbone import SegmentationModel
from l2gnet.prediction.inference import network_input
from l2gnet.shapes import Int64, UInt8

_EXAMPLES = 8
_FIELD_SLICES = 4  # to measure the receptive field on


class CodebookExplorer(Explorer):
    """Explore what the codes of a codebook stand for.

    Click a code (a bar, a dot of the map, or a pixel that has it): where it fires lights up, some of its patches are
    shown, and on which structures they lie; a click on a patch leads to its slice. Draw a line around dots: all this is
    told of these codes together, the `group`. `scope` says over what is counted: a slice, a volume or the data set.

    Args:
        atlas: slices with their codes.
        classes: names of the labels, background first.
        names: of the volumes; a saved page has numbers in their place.
        spacing_mm: height and width of a pixel.
        receptive_field_px: side of the square that a bottleneck pixel looks at, by default the cell it lies over.
        volume: the volume to begin with.
        index: its slice to begin with, by default the middle one.

    Raises:
        ValueError: there are more names than volumes.
    """

    script = "codebook_explorer"
    answers = "codebook_answers"
    held = ("atlas", "_images")

    volume = traitlets.Int().tag(sync=True)
    scope = traitlets.Enum(("slice", "volume", "data set"), "data set").tag(sync=True)
    group = traitlets.List(traitlets.Int()).tag(sync=True)  # codes that are selected together; a click ends it
    order = traitlets.Enum(("usage", "label", "index"), "usage").tag(sync=True)
    book = traitlets.Dict().tag(sync=True)  # what does not change
    place = traitlets.Dict().tag(sync=True)  # volume and slice, with its codes
    usage = traitlets.Dict().tag(sync=True)  # within the scope
    lit = traitlets.Dict().tag(sync=True)  # of the selected code

    def __init__(
        self,
        atlas: CodeAtlas,
        *,
        classes: Sequence[str] = (),
        names: Sequence[str] = (),
        spacing_mm: tuple[float, float] = (1.0, 1.0),
        receptive_field_px: int | None = None,
        volume: int = 0,
        index: int | None = None,
    ):
        self.atlas = atlas = replace(atlas, images=grey(atlas.images))
        (_, H, W), (_, h, w) = atlas.images.shape, atlas.codes.shape
        case = np.zeros(len(atlas.images), np.int64) if atlas.case is None else atlas.case
        self._volumes = [np.flatnonzero(case == number) for number in np.unique(case)]
        if len(names) > len(self._volumes):
            rule = f"names must be those of the {len(self._volumes)} volumes that the slices are of"
            raise ValueError(f"{rule}; got {len(names)}; leave the others out")
        self._aspect = spacing_mm[0] / spacing_mm[1]
        self._field_px = receptive_field_px or max(H // h, W // w)
        # Room around the field, but no more than there is image.
        self._patch_px = min(max(round(1.4 * self._field_px), 3 * H // h), H, W)
        self._labels = typical_labels(atlas.label_counts)
        labels = atlas.label_counts.shape[1]
        self._classes = [*classes, *map(str, range(len(classes), labels))]
        self._map = places, variance = map_codes(atlas.vectors)
        super().__init__(
            atlas.images[self._volumes[volume]],
            index,
            volume=volume,
            book={
                "map": as_float32(places),
                "variance": variance,
                "labels": self._labels.tolist(),
                "mostly": atlas.label_shares.argmax(1).tolist(),
                "purity": atlas.purity.tolist(),
                "classes": self._classes if labels > 1 else [],
                "volumes": [*names, *(f"volume {n + 1}" for n in range(len(names), len(self._volumes)))],
                "cells": [h, w],
                "aspect": self._aspect,
                "field_px": self._field_px,
                "cell_px": [H / h, W / w],
            },
        )
        self.publish("thumbnails", self._thumbnails())
        self._take_place()
        self._when("volume", self._open_volume)
        self._when("selection", self._look)
        self._when(["scope", "order"], self._count)
        self._when("group", self._light)

    @classmethod
    def of_model(cls, model: SegmentationModel, slices: SliceSet, **options: Any) -> "CodebookExplorer":
        """Explore the codebook of a model on slices of its grid; its receptive field is measured on a few of them.

        Raises:
            ValueError: the model has no codebook.
        """
        atlas = CodeAtlas.of_model(model, slices)
        few = slices.images[:: max(1, len(slices) // _FIELD_SLICES)][:_FIELD_SLICES]
        field_px = receptive_field_px(model, network_input(few).to(next(model.parameters()).device))
        names = [slices.names[number] for number in np.unique(slices.case)]
        measured: dict[str, Any] = {"names": names, "receptive_field_px": field_px}
        return cls(atlas, **measured | options)

    @property
    def code(self) -> int:
        """The code that is selected: by a click on it, or by one on a pixel that has it."""
        if self.pointed == "voxel" or "code" not in self.selection:
            return int(self.atlas.codes[self._slice][self._cell(self.atlas.codes.shape[1:])])
        code = self.selection["code"]
        if not 0 <= code < len(self.atlas.vectors):
            raise ValueError(f"code must lie in 0..{len(self.atlas.vectors) - 1}, the codebook, got {code}")
        return code

    @property
    def _lit_codes(self) -> list[int]:
        """The group, or else the code that is selected."""
        if not all(0 <= code < len(self.atlas.vectors) for code in self.group):
            raise ValueError(f"codes must lie in 0..{len(self.atlas.vectors) - 1}, the codebook, got {self.group}")
        return list(self.group) or [self.code]

    def draw(self) -> Figure:
        """The picture of a saved notebook: usage, map, where the selected code fires, and patches of it."""
        figure = Figure(figsize=(9.5, 4), layout="constrained")
        grid = figure.add_gridspec(2, 3, height_ratios=(3, 1), width_ratios=(4, 3, 3))
        usage, code, counts = self.atlas.usage(self._among), self.code, self.usage["counts"]
        counts = np.frombuffer(counts, np.float32)
        colours = [label_colour(int(label)) for label in self._labels]
        title = f"{usage.used} of {len(counts)} codes used, perplexity {usage.perplexity:.1f}"
        draw_usage(figure.add_subplot(grid[0, 0]), counts, self.usage["order"], colours, chosen=code, title=title)
        places, variance = self._map
        title = f"the codebook ({variance:.0%} of its variance)"
        draw_code_map(figure.add_subplot(grid[0, 1]), places, counts, colours, chosen=code, title=title)
        axes = figure.add_subplot(grid[0, 2])
        heat = np.frombuffer(self.lit["heat"], np.float32).reshape(self.atlas.codes.shape[1:])
        options = {"top": self.lit["top"], "unit": self.lit["unit"], "aspect": self._aspect}
        draw_heat(axes, self._images[self.index], heat, title=self.lit["title"], **options)
        strip = grid[1, :].subgridspec(1, _EXAMPLES)
        for number, place in enumerate(self.atlas.examples(self._lit_codes, _EXAMPLES, self._among)):
            patch = self.atlas.patch(place, self._patch_px)
            draw_patch(figure.add_subplot(strip[number]), patch, self._field_px, aspect=self._aspect)
        return figure

    def page_traits(self) -> dict[str, Any]:
        """The traits as a saved page holds them: it goes to others, and the names of cases are not for them."""
        traits = super().page_traits()
        names = [f"volume {n + 1}" for n in range(len(self._volumes))]
        lit = traits["lit"] | {"places": self._named(names)}
        return traits | {"book": traits["book"] | {"volumes": names}, "lit": lit}

    def page_data(self) -> dict[str, Any]:
        """The slices of each volume with their codes, and of each code the pixels of each label under it."""
        return {
            "volumes": [
                {
                    "images": self.atlas.images[slices].tobytes(),
                    "codes": self.atlas.codes[slices].astype(np.int32).tobytes(),
                    "slices": slices.tolist(),
                }
                for slices in self._volumes
            ],
            "size_px": list(self.atlas.images.shape[1:]),
            "pixels": as_float32(self.atlas.label_counts),
            "patch_px": self._patch_px,
        }

    @property
    def _slice(self) -> int:
        """The slice that is looked at, among all."""
        return int(self._volumes[self.volume][self.index])

    @property
    def _among(self) -> Int64[np.ndarray, " D"] | None:
        """The slices that are counted."""
        if self.scope == "data set":
            return None
        return np.array([self._slice]) if self.scope == "slice" else self._volumes[self.volume]

    def _open_volume(self) -> None:
        images = self.atlas.images[self._volumes[self.volume]]
        self._voxel[0] = min(self._voxel[0], len(images) - 1)
        self._show(images)
        self.selection = {**self.selection, "voxel": list(self._voxel)}
        self._take_place()

    def _thumbnails(self) -> UInt8[np.ndarray, "K side side"]:
        """A patch of each code, from the middle of all that it has; black where it never fires."""
        flat, K = self.atlas.codes.ravel(), len(self.atlas.vectors)
        order = np.argsort(flat, kind="stable")
        first = np.searchsorted(flat[order], np.arange(K + 1))
        thumbnails = np.zeros((K, self._patch_px, self._patch_px), np.uint8)
        for code in np.flatnonzero(np.diff(first)):
            place = np.unravel_index(order[(first[code] + first[code + 1]) // 2], self.atlas.codes.shape)
            thumbnails[code] = self.atlas.patch(np.array(place), self._patch_px)
        return thumbnails

    def _place_of(self, example: Int64[np.ndarray, "3"]) -> tuple[int, list[int]]:
        """The volume, and the voxel there, of a bottleneck pixel (slice, row, column) of all slices."""
        (_, H, W), (_, h, w) = self.atlas.images.shape, self.atlas.codes.shape
        number, row, column = example.tolist()
        volume = next(n for n, slices in enumerate(self._volumes) if number in slices)
        index = int(np.searchsorted(self._volumes[volume], number))
        return volume, [index, (2 * row + 1) * H // (2 * h), (2 * column + 1) * W // (2 * w)]

    def _named(self, volumes: Sequence[str]) -> list[str]:
        """The volume and the slice of each patch that is shown, in words."""
        return [f"{volumes[volume]}, slice {voxel[0] + 1}" for volume, voxel in self._shown]

    def _on_visit(self, example: int) -> None:
        """Go to where an example of what is selected comes from."""
        place = self.atlas.examples(self._lit_codes, _EXAMPLES, self._among)[example]
        code = int(self.atlas.codes[tuple(place)])
        volume, voxel = self._place_of(place)
        with self.hold_sync():
            self.volume = volume
            self.selection = {**self.selection, "voxel": voxel, "code": code, "by": "code"}

    def _look(self) -> None:
        if self.group and self.pointed == "voxel":
            self.group = []  # also by a viewer that is linked
        if self._go():
            self._take_place()
        else:
            self._light()

    def _take_place(self) -> None:
        codes = self.atlas.codes[self._slice].ravel().tolist()
        self.place = {"images": list(self._images.shape), "index": self.index, "codes": codes}
        self._count()

    def _count(self) -> None:
        usage = self.atlas.usage(self._among)
        counts = usage.counts.numpy()
        unused = "dead" if self.scope == "data set" else "not in this " + self.scope
        orders = {
            "index": np.arange(len(counts)),
            "usage": np.argsort(-counts, kind="stable"),
            "label": np.lexsort((-counts, self._labels)),
        }
        self.usage = {
            "counts": as_float32(counts),
            "order": orders[self.order].tolist(),
            "text": f"{len(counts)} codes: {usage.used} used, {len(counts) - usage.used} {unused} · "
            f"perplexity {usage.perplexity:.1f} · {usage.codes_per_image:.1f} codes a slice",
            "top": float(counts.max() / counts.sum()),
        }
        self._light()

    def _light(self) -> None:
        codes, among = self._lit_codes, self._among
        heat = self.atlas.frequency(codes, among)
        places = self.atlas.examples(codes, _EXAMPLES, among)
        patches = [self.atlas.patch(place, self._patch_px) for place in places]
        self._shown = [self._place_of(place) for place in places]
        counts = np.frombuffer(self.usage["counts"], np.float32)
        share = counts[codes].sum() / counts.sum()
        labels = self.atlas.label_counts[codes].sum(0)
        shares = labels / max(labels.sum(), 1)
        several = len(codes) > 1
        named = f"{len(codes)} codes" if several else f"code {codes[0]}"
        words = [f"{named} {'fire' if several else 'fires'} at {share:.1%} of the pixels"]
        if self.book["classes"] and shares.any():
            words.append(f"purity {shares.max():.0%} {self._classes[shares.argmax()]}")
        self.lit = {
            "code": self.code,
            "group": list(self.group),
            "named": named,
            "heat": as_float32(heat),
            "top": float(heat.max()),
            "unit": "(fires)" if self.scope == "slice" else f"of the slices of the {self.scope}",
            "title": f"where {named} {'fire' if several else 'fires'}",
            "patches": np.stack(patches).tobytes() if patches else None,
            "patch_px": self._patch_px,
            "count": len(patches),
            "places": self._named(self.book["volumes"]),
            "shares": shares.tolist(),
            "text": " · ".join(words),
        }
