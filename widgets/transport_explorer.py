"""The transport plans of an image, to explore: which code goes to which reference, and whom a pixel is related to."""

import io
import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
import traitlets
from l2gnet.widgets.explorer import Explorer, as_float32, as_volume
from l2gnet.widgets.inputs import Input, open_labels, open_scan
from l2gnet.widgets.pictures import draw_convergence, draw_heat, draw_plan
from matplotlib.figure import Figure

from l2gnet.files import atomic_path, write_text
from l2gnet.inspection.code_atlas import count_labels, typical_labels
from l2gnet.inspection.image_transport import ImageTransport, codebook_and_mapper
from l2gnet.inspection.plan_order import Order, plan_order
from l2gnet.models.backbone import SegmentationModel
from l2gnet.prediction.inference import network_input
from l2gnet.shapes import Float, Int64, UInt8

_TOLERANCE = 1e-4
_MOST_ITERATIONS = 1000
_MEASURED = ("epsilon", "cost", "marginal_error", "iterations", "converged", "tolerance")
Side = Literal["sends", "receives"]
RowLabels: TypeAlias = Int64[np.ndarray, " K"] | None  # the label that each row of a plan stands for, if that is known


class TransportExplorer(Explorer):
    """Explore how the codes of an image are transported to references.

    Click a code (a bar at the left of the plan, or one of its pixels), a reference (a bar above it) or a pixel; move
    epsilon. Where codes send by one plan and receive by another, `side` says which is shown; each has an epsilon. Where
    tokens receive, the plan of receiving is shown summed over those of each code, and a pixel receives by its own row.

    Args:
        transport: the problem of an image, or a function that gives that of a slice of `images`.
        images: the image (H, W) or volume (D, H, W) that the bottleneck pixels lie over, as an array, a tensor, a NIfTI
            file or a `Volume`; by default plain grey.
        labels: what each of its pixels is, for the order by label.
        classes: names of the labels, background first.
        spacing_mm: height and width of a pixel, by default as the file or `Volume` knows them.
        index: the slice to begin with, by default the middle one.
        epsilon: weight of the entropy to begin with.
        epsilon_receive: the same for the plan that receives, where that is another one.

    Raises:
        ValueError: the arrays do not belong together.
        VolumeError: a file is not what it should be.
    """

    script = "transport_explorer"
    answers = "transport_answers"
    held = ("_images", "_labels", "_transport_of", "_transport", "_beside", "_plan", "_plans", "_solved")

    epsilon = traitlets.Float(0.1).tag(sync=True)
    exact = traitlets.Bool().tag(sync=True)
    side = traitlets.Enum(get_args(Side), "sends").tag(sync=True)
    order = traitlets.Enum(get_args(Order), "clustering").tag(sync=True)
    # What the browser shows of the slice, of its plan, and of the selection: each is replaced as a whole.
    problem = traitlets.Dict().tag(sync=True)
    solved = traitlets.Dict().tag(sync=True)
    lit = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        transport: ImageTransport | Callable[[int], ImageTransport],
        images: "Input | None" = None,
        *,
        labels: "Input | None" = None,
        classes: Sequence[str] = (),
        spacing_mm: tuple[float, float] | None = None,
        index: int | None = None,
        epsilon: float = 0.1,
        epsilon_receive: float | None = None,
    ):
        self._transport_of = transport if callable(transport) else lambda index: transport
        if images is None:  # one grey pixel for each of the bottleneck's
            rows = self._transport_of(0).rows
            images = np.zeros((1, 1) if rows is None else rows.shape, np.uint8)
        scan, _ = open_scan(as_volume(images), None)
        self._labels = None if labels is None else open_labels("labels", as_volume(labels), scan, images)
        height_mm, width_mm = spacing_mm or scan.spacing_mm[1:]
        self._classes, self._aspect = list(classes), height_mm / width_mm
        self._epsilons = {"sends": epsilon, "receives": epsilon_receive or epsilon}
        self._beside: tuple[Any, Any] = (None, None)  # the plan that is not shown, after what it solves
        super().__init__(scan.array, index, epsilon=epsilon)
        self._take_slice()
        self._when(["epsilon", "exact"], self._solve)
        self._when("side", self._turn)
        self._when("order", self._arrange)
        self._when("selection", self._look)

    @classmethod
    def of_model(
        cls, model: SegmentationModel, images: UInt8[np.ndarray, "D C H W"], *, head: int = 0, **options: Any
    ) -> "TransportExplorer":
        """Explore the plans of a model with a mapper on slices of its grid (`Grid.image`), from its own epsilon on.

        Raises:
            ValueError: the model has no mapper, or not so many heads.
        """
        _, mapper = codebook_and_mapper(model)
        device = mapper.references.device

        @lru_cache(maxsize=64)
        def transport_of(index: int) -> ImageTransport:
            return ImageTransport.of_model(model, network_input(images[index : index + 1]).to(device), head=head)

        epsilons = dict(zip(("epsilon", "epsilon_receive"), mapper.setting.epsilons, strict=False))
        return cls(transport_of, images[:, 0], **epsilons | options)

    @property
    def plan(self) -> Float[np.ndarray, "K R"]:
        """The plan that is shown, with its rows as in `transport.names`."""
        return self._plan

    @property
    def transport(self) -> ImageTransport:
        """The problem of the slice that is shown; its `receiving` is that of the other plan."""
        return self._transport

    def export(self, path: str | Path) -> tuple[Path, Path]:
        """Write what is shown to `path`.npz, and what it is to `path`.json; each is written atomically."""
        arrays, words = self._contents()
        stem = str(path).removesuffix(".npz")
        npz, words_path = (Path(f"{stem}{suffix}") for suffix in (".npz", ".json"))
        with atomic_path(npz) as temporary:
            temporary.write_bytes(arrays)
        write_text(words_path, words)
        return npz, words_path

    def draw(self) -> Figure:
        """The picture of a saved notebook: the lit image, softmax attention, the plan and its convergence."""
        heats = {"heat": self.lit["title"], "attention": "softmax attention"}
        heats = {name: title for name, title in heats.items() if name == "heat" or self.lit[name] is not None}
        figure = Figure(figsize=(10.5, 3.2), layout="constrained")
        *pictures, plan, curve = figure.subplots(1, len(heats) + 2, width_ratios=(*(3 for _ in heats), 4, 3))
        h, w = self.problem["cells"] or (1, 1)
        for panel, (name, title) in zip(pictures, heats.items(), strict=True):
            values = self.lit[name]
            heat = None if values is None else np.frombuffer(values, np.float32).reshape(h, w)
            options = {"top": self.lit["top"], "unit": self.lit["unit"], "aspect": self._aspect}
            draw_heat(panel, self._images[self.index], heat, title=title, **options)
        rows, columns = self.solved["rows"], self.solved["columns"]
        name = f"plan that {self.side}" if self.problem["two"] else "plan"
        draw_plan(plan, self._plan[rows][:, columns], title=f"{name}, ε = {self.epsilon:g}")
        draw_convergence(curve, *np.array(self.solved["curve"]).T, tolerance=_TOLERANCE, title=self._verdict())
        return figure

    def _look(self) -> None:
        if self._go():
            self._take_slice()
        else:
            self._light()

    def page_data(self) -> dict[str, Any]:
        """Of each slice its problem and its plans, solved at the epsilon that each side has now, in every order."""
        return {"slices": [self._solved_slice(index) for index in range(len(self._images))]}

    def _solved_slice(self, index: int) -> dict[str, Any]:
        t = self._transport_of(index)
        labels = self._labels_of(t, index)
        sides, solutions = {}, self._solutions(t)
        kinds = [kind for kind in get_args(Order) if kind != "label" or labels is not None]
        hearing = {"hearing": as_float32(solutions["receives"][0])} if t.tokens_receive else {}
        for side, (_, plan, solved) in solutions.items():
            orders = {kind: _ordered(plan, kind, labels) for kind in kinds}
            sides[side] = {"epsilon": self._epsilons[side], "solved": solved, "orders": orders}
        return {
            "problem": self._problem(t, index, labels),
            "target": as_float32(t.target),
            "tokens": None if t.tokens is None else as_float32(t.normed_tokens),
            "sides": sides,
            **hearing,
        }

    def _take_slice(self) -> None:
        self._transport = t = self._transport_of(self.index)
        self._row_labels = self._labels_of(t, self.index)
        self.problem = self._problem(t, self.index, self._row_labels)
        self._solve()

    def _labels_of(self, t: ImageTransport, index: int) -> RowLabels:
        if self._labels is None or t.rows is None:
            return None
        return typical_labels(count_labels(t.rows[None], self._labels[index][None], len(t.names)))

    def _problem(self, t: ImageTransport, index: int, labels: RowLabels) -> dict[str, Any]:
        """What the browser shows of a slice."""
        return {
            "images": list(self._images.shape),
            "index": index,
            "aspect": self._aspect,
            "cells": None if t.rows is None else list(t.rows.shape),
            "rows": None if t.rows is None else t.rows.astype(np.int32).tobytes(),
            "names": t.names.tolist(),
            "source": as_float32(t.source),
            "tokens": t.tokens is not None,
            "two": t.receiving is not t,
            "labels": None if labels is None else labels.tolist(),
            "classes": self._classes,
        }

    def _turn(self) -> None:
        """Show the other plan, at the epsilon that it was left with."""
        epsilon = self._epsilons[self.side]
        if epsilon == self.epsilon:
            self._solve()
        self.epsilon = epsilon

    def _solve(self) -> None:
        t = self._transport
        own, self._plan, self._solved = self._solution(t, self.side, self.epsilon)
        self._epsilons[self.side] = self.epsilon
        self._plans = {self.side: own}
        if self.problem["two"]:
            side, other = ("sends", t) if self.side == "receives" else ("receives", t.receiving)
            problem = (other, self.exact, self._epsilons[side])
            if problem != self._beside[0]:  # a move of this epsilon leaves the other plan as it is
                self._beside = problem, other.exact if self.exact else other.solve(problem[2]).plan[0].numpy()
            self._plans[side] = self._beside[1]
        self._arrange()
        self._light()

    def _solutions(self, t: ImageTransport) -> dict[Side, tuple[np.ndarray, np.ndarray, dict[str, Any]]]:
        """Each side's `_solution` at the epsilon that it has now; one alone where one plan serves both."""
        sides = (self.side,) if t.receiving is t else get_args(Side)
        return {side: self._solution(t, side, self._epsilons[side]) for side in sides}

    def _solution(
        self, transport: ImageTransport, side: Side, epsilon: float
    ) -> tuple[Float[np.ndarray, "_ R"], Float[np.ndarray, "K R"], dict[str, Any]]:
        """The plan of a side with its own rows and with those of codes, and what the browser shows of it."""
        t = transport.receiving if side == "receives" else transport
        limits: dict[str, Any] = {"tolerance": _TOLERANCE, "max_iterations": _MOST_ITERATIONS}
        found = t.solve(epsilon, **limits)
        own = t.exact if self.exact else found.plan[0].numpy()
        plan = transport.by_code(own) if side == "receives" else own
        error = t.marginal_error(own)
        told = {
            "plan": as_float32(plan),
            "references": plan.shape[1],
            "epsilon": 0.0 if self.exact else epsilon,
            "curve": [[int(n), float(e)] for n, e in zip(*t.convergence(epsilon, **limits), strict=True)],
            "cost": float((own * t.cost).sum()),
            "marginal_error": error,
            "iterations": 0 if self.exact else int(found.iterations[0]),
            "converged": bool(error <= _TOLERANCE),
            "tolerance": _TOLERANCE,
        }
        return own, plan, told

    def _arrange(self) -> None:
        self.solved = self._solved | _ordered(self._plan, cast(Order, self.order), self._row_labels)

    def _light(self) -> None:
        t, plan, own = self._transport, self._plan, self._plans[self.side]
        shown = t.receiving if self.side == "receives" else t
        lit: dict[str, Any] = {"row": -1, "column": -1, "cell": None, "title": "", "text": "", "unit": "", "top": 0.0}
        heat = attention = None
        code, reference = (self.selection.get(key) for key in ("code", "reference"))
        if self.pointed == "voxel":
            if t.rows is not None:
                cell = self._cell(t.rows.shape)
                row, pixel = t.row_of(cell), f"pixel ({cell[0] + 1}, {cell[1] + 1})"  # from 1, as slices on the screen
                sent, taken = (self._plans.get(side, own) for side in get_args(Side))
                heat = t.rows.size * t.relation(sent, t.receiving.row_of(cell), taken)
                attention = None if t.tokens is None else t.rows.size * t.attention(row)
                lit |= {"row": row, "cell": list(cell), "title": f"{pixel} takes from", "unit": "× an even share"}
                lit["text"] = f"{pixel} has code {t.names[row]}; {_names_of(own[shown.row_of(cell)], 'reference')}"
        else:
            lit["row"] = row = self._row_of(code)
            if reference is not None and self.pointed == "reference":
                if not 0 <= reference < plan.shape[1]:
                    raise ValueError(f"reference must lie in 0..{plan.shape[1] - 1}, got {reference}")
                lit["column"] = reference
                heat = None if t.rows is None else t.rows.size * shown.coverage(own, reference)
                word = "is heard by" if self.side == "receives" else "receives from"
                lit |= {"title": f"reference {reference} {word}", "unit": "× an even share"}
                lit["text"] = f"reference {reference}: {_names_of(plan[:, reference], 'code', t.names)}"
            elif row < 0:
                lit["text"] = f"code {code} does not fire in this slice"
            else:
                heat = None if t.rows is None else (t.rows == row).astype(float)
                lit |= {"title": f"code {code} fires at", "unit": "(fires)"}
                lit["text"] = f"code {code}, {t.source[row]:.1%} of the image: {_names_of(plan[row], 'reference')}"
        lights = [values for values in (heat, attention) if values is not None]
        lit["top"] = float(max((values.max() for values in lights), default=0.0))
        for name, values in (("heat", heat), ("attention", attention)):
            lit[name] = None if values is None else as_float32(values)
        self.lit = lit

    def _row_of(self, code: int | None) -> int:
        """The row of a code in this slice's plan, -1 where it has none."""
        found = np.flatnonzero(self._transport.names == code)
        return int(found[0]) if len(found) else -1

    def _verdict(self) -> str:
        if self.exact:
            return "exact: no iterations"
        word = "converged" if self.solved["converged"] else "NOT converged"
        return f"{word}: error {self.solved['marginal_error']:.1e}"

    def _contents(self) -> tuple[bytes, str]:
        """What is exported: an npz file with the arrays, and JSON that says what they are."""
        t, solutions = self._transport, self._solutions(self._transport)
        measured = [{name: solved[name] for name in _MEASURED} for _, _, solved in solutions.values()]
        arrays = {"plan": next(iter(solutions.values()))[0], "cost": t.cost}
        if self.problem["two"]:
            arrays |= {"receiving_plan": solutions["receives"][0], "receiving_cost": t.receiving.cost}
            measured[0]["receiving"] = measured[1]
        arrays |= {"source": t.source, "target": t.target, "codes": t.names}
        arrays |= {"image": self._images[self.index], "convergence": np.array(self.solved["curve"])}
        arrays |= {f"{name}_order": np.array(self.solved[name]) for name in ("rows", "columns")}
        if t.rows is not None:
            arrays["row_of_pixel"] = t.rows
        stream = io.BytesIO()
        np.savez_compressed(stream, allow_pickle=False, **arrays)
        words = {
            "what": "transport plan (codes, references) of one image; plan[k, r] is a share of the image's mass"
            + ("; receiving_plan and receiving_cost have a row for each pixel, in order" if t.tokens_receive else ""),
            "solver": "exact (POT emd)" if self.exact else "entropic (l2gnet.solve_transport)",
            **measured[0],
            "side": self.side if self.problem["two"] else "sends and receives",
            "slice": self.index,
            "order": self.order,
            "selection": self.selection,
            "arrays": {name: list(array.shape) for name, array in arrays.items()},
        }
        return stream.getvalue(), json.dumps(words, indent=2, allow_nan=False) + "\n"

    def _on_export(self) -> None:
        arrays, words = self._contents()
        self.send({"files": ["transport.npz", "transport.json"]}, [arrays, words.encode("utf-8")])


def _ordered(plan: Float[np.ndarray, "K R"], kind: Order, labels: RowLabels) -> dict[str, list[int]]:
    rows, columns = plan_order(plan, kind, labels)
    return {"rows": rows.tolist(), "columns": columns.tolist()}


def _names_of(masses: Float[np.ndarray, " n"], kind: str, names: np.ndarray | None = None) -> str:
    """The three largest shares in words."""
    largest = np.argsort(-masses, kind="stable")[:3]
    shares = masses / max(masses.sum(), 1e-30)
    return f"{kind}s " + ", ".join(f"{i if names is None else names[i]} ({shares[i]:.0%})" for i in largest)
