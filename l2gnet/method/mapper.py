"""The L2G mapper: discrete codes are related globally by transport to trainable references.

Paper: Gorade et al., arXiv 2502.05229 ("relating discrete codes using optimal transport and aligning codes on
a trainable reference", "without an additional weight matrix"). Cost, the two plans, tokens that receive as they
were before quantisation, readouts and scaling are our reading.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NoReturn, get_args

import torch
from einops import rearrange
from torch import Tensor, nn

from l2gnet.method.cost import Cost
from l2gnet.method.graph import relate_in_graph
from l2gnet.method.places import in_own_frame, waves, waves_size
from l2gnet.method.plans import Readout, Setting
from l2gnet.method.relation import Receive, Relate, receive_plainly, relate_plainly
from l2gnet.method.rows import Rows, gather_up, rows_of_codes, rows_of_tokens, spread
from l2gnet.method.transforms import exporting, refuse_trace, refuse_vmap, require_numbers, transformed
from l2gnet.method.transport import TransportPlan, check_solver, make_plan
from l2gnet.shapes import Float, Int64, Integer

Relation = Literal["send-receive", "symmetric"]


@dataclass(frozen=True)
class Mapped:
    """What each token is given by the relation, and the plans of each image and head that related them.

    `transport` is the plan by which tokens send, `receiving` the one by which they receive: the same, where the
    relation is symmetric. A plan has a row for each distinct code of its image, named in `codes`; images with fewer
    have empty rows, named -1. Where receivers were given, `receiving` has a row for each of them. The batch axis runs
    over images first, then heads: B * heads. Plans carry gradients, their potentials and costs are numbers. `slots` is
    what each reference has gathered, a number to look at.
    """

    tokens: Float[Tensor, "B N _"]
    transport: TransportPlan
    receiving: TransportPlan
    codes: Int64[Tensor, "B U"]
    slots: Float[Tensor, "h B R _"]


for _result in (Mapped, TransportPlan):  # else `torch.export` does not know them for results
    torch.export.register_dataclass(_result, serialized_type_name=f"l2gnet.{_result.__name__}")


_WITHOUT_FULLGRAPH = "L2GMapper is left as it is by torch.compile, so call that without fullgraph=True"


def _not_compiled(forward: Callable[..., Mapped]) -> Callable[..., Mapped]:
    """As `torch.compiler.disable`, which imports the compiler: here only where one is at work."""

    @functools.wraps(forward)
    def call(*args: Any, **kwargs: Any) -> Mapped:
        if torch.compiler.is_compiling() and not exporting():
            torch._dynamo.graph_break(msg=_WITHOUT_FULLGRAPH)
            return torch.compiler.disable(forward)(*args, **kwargs)
        return forward(*args, **kwargs)

    return call


class L2GMapper(nn.Module):
    """Relate the tokens of an image through transport plans to trainable references.

    Every token holds the mass 1/N, every reference 1/R. `send-receive` has two sets of references, paired slot by slot,
    and two plans of the same tokens: T sends, S receives. The slots G = R T^T V hold what was sent to them, a convex
    average of codes, and a token i is given sum_r s_ir G_r, with s_i = N S_i: token to token that is N R S T^T, a
    matrix whose rows and columns all add up to one, and which is not symmetric: a token can hear tokens unlike itself.
    `symmetric` has one set of references and one plan, S = T. The only parameters are the references: no query, key or
    value matrix.

    With `positions`, G also says where in the image the matter of a slot lies, and every token is given that as seen
    from itself: how far, in which direction and, by its length, how scattered (see `places.py`). No plan depends on
    them.

    Codes may send and others receive in their place: the tokens as they were before they were quantised, which can tell
    more finely what they are to hear.

    Readout `grid` (symmetric, R = N) gives out G itself as the map.

    Derivatives of any order and of both modes are exact (with the bound that scales the cost held constant); those
    beyond a first gradient are taken of every token by itself, which is slower. `torch.export` and `torch.onnx.export`
    write the layer as a graph (see `graph.py`), where a plan has a row for each token; `torch.compile` leaves it as it
    is (a graph break). `torch.func.vmap` and `torch.jit.trace` are refused.

    Args:
        dim: d, dimension of the codes.
        references: R, number of trainable references (pairs of them for `send-receive`).
        heads: the code dimension is split into this many parts, each with plans of its own.
        relation: `symmetric` or `send-receive`.
        epsilon: weight of the entropy of the plan that sends, in units of the cost, which is scaled to [0, 1].
        epsilon_receive: the same for the plan that receives; for `symmetric` there is no other plan.
        positions: whether tokens hear where the matter of each slot lies.
        cost: `cosine`, squared `euclidean` or (negative) `dot` product.
        readout: `barycentric` or `grid`.
        tolerance: L1 marginal error at which a plan is solved.
        max_iterations: bound on the solver's iterations.

    Raises:
        ValueError: heads do not divide the dimension, a number is out of range, a name is unknown, or the readout does
            not fit.
    """

    def __init__(
        self,
        dim: int,
        references: int,
        *,
        heads: int = 1,
        relation: Relation = "symmetric",
        epsilon: float = 0.02,
        epsilon_receive: float = 0.05,
        positions: bool = False,
        cost: Cost = "cosine",
        readout: Readout = "barycentric",
        tolerance: float = 1e-4,
        max_iterations: int = 1000,
    ):
        super().__init__()
        for name, count in (("dim", dim), ("references", references), ("heads", heads)):
            if count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}")
        for name, choice, choices in (
            ("relation", relation, Relation),
            ("cost", cost, Cost),
            ("readout", readout, Readout),
        ):
            if choice not in get_args(choices):
                raise ValueError(f"{name} must be one of {', '.join(get_args(choices))}, got {choice!r}")
        if dim % heads:
            raise ValueError(f"heads must divide the code dimension {dim}, got {heads}")
        for name, value in (("epsilon", epsilon), ("epsilon_receive", epsilon_receive)):
            check_solver(value, tolerance, max_iterations, name)
        if readout == "grid" and (relation != "symmetric" or positions):
            raise ValueError("readout 'grid' gives out what was sent, so relation must be 'symmetric', no positions")
        both = (heads, references, dim // heads)
        self.references = nn.Parameter(torch.randn(both if relation == "symmetric" else (2, *both)))
        self.relation, self.heads, self.positions = relation, heads, positions
        epsilons = (epsilon,) if relation == "symmetric" else (epsilon, epsilon_receive)
        self.setting = Setting(epsilons, cost, readout, tolerance, max_iterations)

    @property
    def given(self) -> int:
        """How many numbers each token is given."""
        return self.heads * (int(self.references.shape[-1]) + self.positions * waves_size())

    @_not_compiled
    def forward(
        self,
        tokens: Float[Tensor, "B N d"],
        indices: Integer[Tensor, "B N"] | None = None,
        shape: tuple[int, int] | None = None,
        receivers: Float[Tensor, "B N d"] | None = None,
    ) -> Mapped:
        """Relate tokens; in float32 or better, also under autocast.

        With the code indices of quantised tokens, tokens of one code must be equal: the plans are then solved on codes,
        which is much faster and gives the same. Leave them out where anything was done to single tokens in between.
        With positions, `shape` says how many rows and columns the tokens fill, row by row. `receivers` receive in the
        place of the tokens (`send-receive`).
        """
        self._check(tokens, indices)
        if receivers is not None:
            self._check(receivers, indices)
            if self.relation == "symmetric" or receivers.shape != tokens.shape:
                rule = f"receivers must have the shape of the tokens {tuple(tokens.shape)}, and relation 'send-receive'"
                raise ValueError(f"{rule}, got {tuple(receivers.shape)} and {self.relation!r}")
        indices = None if indices is None else indices.long()
        N = tokens.shape[1]
        R = self.references.shape[-2]
        if self.setting.readout == "grid" and R != N:
            raise ValueError(f"readout 'grid' needs as many references as tokens, got R = {R} and N = {N}")
        if self.positions:
            self._grid(shape, N)
        if exporting():  # a graph knows no autocast
            return self._relate(tokens, indices, shape, receivers)
        with torch.autocast(tokens.device.type, enabled=False):
            return self._relate(tokens, indices, shape, receivers)

    def _relate(
        self, tokens: Tensor, indices: Tensor | None, shape: tuple[int, int] | None, receivers: Tensor | None
    ) -> Mapped:
        tokens = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
        split = rearrange(tokens, "B N (h d) -> h B N d", h=self.heads)
        heard_as = None if receivers is None else rearrange(receivers.to(tokens), "B N (h d) -> h B N d", h=self.heads)
        references = self.references.to(tokens.dtype).reshape(-1, *self.references.shape[-2:])
        N = tokens.shape[1]
        places = waves(*shape, like=tokens) if shape is not None and self.positions else tokens.new_empty((N, 0))
        if exporting():
            related, told, slots = relate_in_graph(split, references, places, self.setting, heard_as)
            codes = torch.arange(N, device=tokens.device).expand(tokens.shape[:2]) if indices is None else indices
        else:
            given = (tokens, references) if heard_as is None else (tokens, references, heard_as)
            refuse_vmap("L2GMapper", "give it all tokens as one batch, (B, N, d)", indices, *given)
            if indices is not None and bool((indices < 0).any()):
                raise ValueError(f"indices must be whole numbers from 0 on, one code a token, got {int(indices.min())}")
            rows = rows_of_codes(indices) if indices is not None and len(tokens) else rows_of_tokens(split)
            relate, receive = Relate.apply, Receive.apply
            if transformed(*given):
                relate, receive = relate_plainly, receive_plainly
            if heard_as is None:
                related, plans, slots, *numbers = relate(split, references, places, rows, self.setting)
                stacked = [x.unflatten(0, (-1, self.heads)) for x in (plans, *numbers)]
                told = [self._plan(e, *(x[p] for x in stacked)) for p, e in enumerate(self.setting.epsilons)]
            else:
                (send_by, hear_by), (sends, hears) = references.split(self.heads), self._settings()
                filled, plans, slots, *numbers = relate(split, send_by, places, rows, sends)
                related, ways, *others = receive(heard_as, filled, hear_by, hears)
                told = [self._plan(sends.epsilons[0], plans, *numbers), self._plan(hears.epsilons[0], ways, *others)]
            codes = rows.codes
        if self.positions:
            related = in_own_frame(related, places)
        return Mapped(rearrange(related, "h B N d -> B N (h d)"), told[0], told[-1], codes, slots)

    @torch.no_grad()
    def heard(
        self,
        receiving: TransportPlan,
        slots: Float[Tensor, "h B R _"],
        indices: Int64[Tensor, "B N"] | None = None,
        shape: tuple[int, int] | None = None,
    ) -> Float[Tensor, "B N _"]:
        """What tokens are given that receive by this plan from these slots: those of another image, for example.

        Where receivers were given, the plan has a row for each of them, and `indices` are left out.

        Raises:
            ValueError: with positions, no shape is given, or not that of the tokens.
        """
        plan = rearrange(receiving.plan, "(B h) U R -> h B U R", h=self.heads)
        share = plan / plan.sum(-1, keepdim=True).clamp_min(torch.finfo(plan.dtype).tiny)
        if indices is not None:
            share = spread(share, rows_of_codes(indices).row)
        given = slots if self.setting.readout == "grid" else share @ slots
        if self.positions:
            given = in_own_frame(given, waves(*self._grid(shape, given.shape[2]), like=given))
        return rearrange(given, "h B N d -> B N (h d)")

    @staticmethod
    def _grid(shape: tuple[int, int] | None, N: int) -> tuple[int, int]:
        """The rows and columns that tokens fill, which only positions need."""
        if shape is None or shape[0] * shape[1] != N:
            raise ValueError(f"with positions, shape must be the rows and columns of the {N} tokens, got {shape}")
        return shape

    def _check(self, tokens: Tensor, indices: Tensor | None) -> None:
        """Raise ValueError unless tokens and indices are what `forward` takes."""
        refuse_trace("L2GMapper", "exported by torch.export or torch.onnx.export(dynamo=True)")
        require_numbers(tokens=tokens)
        if tokens.ndim != 3:
            rule = "tokens must have shape (B, N, d); features (B, d, H, W) become tokens by flatten(2).transpose(1, 2)"
            raise ValueError(f"{rule}, got {tuple(tokens.shape)}")
        d = self.heads * self.references.shape[-1]
        if tokens.shape[2] != d or tokens.shape[1] < 1:
            raise ValueError(f"tokens must have shape (B, N, {d}) with N at least 1, got {tuple(tokens.shape)}")
        if indices is not None and indices.shape != tokens.shape[:2]:
            wanted = tuple(tokens.shape[:2])
            raise ValueError(f"indices must have shape (B, N) = {wanted}, got {tuple(indices.shape)}")
        if indices is not None and (indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool):
            raise ValueError(f"indices must be whole numbers from 0 on, one code a token, got {indices.dtype}")

    def __prepare_scriptable__(self) -> NoReturn:
        """What `torch.jit.script` asks of a module first."""
        raise ValueError(
            "L2GMapper must be exported by torch.export or torch.onnx.export(dynamo=True), got torch.jit.script"
        )

    def extra_repr(self) -> str:
        """The settings, for `repr`."""
        R, d = self.references.shape[-2:]
        setting = self.setting
        shown: dict[str, Any] = {"dim": self.heads * d, "references": R, "heads": self.heads, "relation": self.relation}
        shown |= dict(zip(("epsilon", "epsilon_receive"), setting.epsilons, strict=False))
        shown |= {"positions": self.positions, "cost": setting.cost, "readout": setting.readout}
        shown |= {"tolerance": setting.tolerance, "max_iterations": setting.max_iterations}
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())

    def _settings(self) -> tuple[Setting, Setting]:
        """What decides each plan, where the first fills the slots that the second hears."""
        sends, hears = ((epsilon,) for epsilon in self.setting.epsilons)
        return replace(self.setting, epsilons=sends, readout="grid"), replace(self.setting, epsilons=hears)

    def _plan(self, epsilon: float, *of_heads: Tensor) -> TransportPlan:
        """One of the plans, with the heads of an image one after the other."""
        plan, cost, f, g, iterations = (rearrange(x, "h B ... -> (B h) ...") for x in of_heads)
        target = torch.full_like(g, 1 / g.shape[1])
        made = make_plan(plan.detach(), cost, f, g, target, iterations, epsilon, self.setting.tolerance)
        return replace(made, plan=plan)


def sum_of_rows(plan: Float[Tensor, "Bh N R"], rows: Rows) -> Float[Tensor, "Bh U R"]:
    """A mapper's plan that has a row for each token, summed over the tokens of each row."""
    h = len(plan) // max(len(rows.row), 1)
    by_token = rearrange(plan, "(B h) N R -> h B N R", h=h)
    return rearrange(gather_up(by_token, rows.row, rows.counts.shape[1]), "h B U R -> (B h) U R")
