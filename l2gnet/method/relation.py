"""Tokens related to each other through transport to references: one autograd function, with its exact backward pass.

Tokens with one code have one row of the plan, so everything is computed a code, not a token, but for one thing:
each token has its own incoming gradient. It costs two products of tokens by references, and the result is exactly the
gradient of a layer that knows nothing of codes (as the straight-through estimator wants it).

Letters: h heads, B images, N tokens, U rows (distinct codes of an image, padded with rows without mass), A codes that
any image of the batch uses, R references, d dimension of a head, M tokens given out (N, or R for readout `grid`).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from l2gnet.method.sinkhorn import find_potential
from l2gnet.method.transport import solve_adjoint
from l2gnet.shapes import Float, Int64

Cost = Literal["cosine", "euclidean", "dot"]
Readout = Literal["barycentric", "grid"]
_SHARED_ROWS = 4  # one kernel for all images pays while it has at most so many times the rows of one image
_DENSE = 0.55  # rows a token, beyond which going from tokens to rows and back costs more than it saves


@dataclass(frozen=True)
class Setting:
    """What decides the relation, beside tokens and references."""

    epsilon: float
    cost: Cost
    readout: Readout
    tolerance: float
    max_iterations: int


@dataclass(frozen=True)
class Rows:
    """Which tokens share a row of the plan: `codes` of the rows (-1 in padding), how many tokens have each, and whose.

    `row` is the row of each token, `first` one token of each row. Among the codes active in the batch, `place` is a
    row's own and `example` one row of each.
    """

    codes: Int64[Tensor, "B U"]
    counts: Int64[Tensor, "B U"]
    row: Int64[Tensor, "B N"]
    first: Int64[Tensor, "B U"]
    place: Int64[Tensor, "B U"]
    example: Int64[Tensor, " A"]


def rows_of_codes(indices: Int64[Tensor, "B N"]) -> Rows:
    """One row for each distinct code of an image."""
    (B, N), K = indices.shape, int(indices.max()) + 1
    images = torch.arange(B, device=indices.device).unsqueeze(1)
    histogram = (indices + K * images).flatten().bincount(minlength=B * K).view(B, K)
    present = histogram > 0
    active = present.any(0)
    position = present.cumsum(1) - 1  # of a code in its image
    U = int(position[:, -1].max()) + 1
    image, code = present.nonzero(as_tuple=True)
    flat = image * U + position[image, code]
    codes, counts, place = indices.new_full((B * U,), -1), indices.new_zeros(B * U), indices.new_zeros(B * U)
    codes[flat], counts[flat], place[flat] = code, histogram[image, code], (active.cumsum(0) - 1)[code]
    row = position.gather(1, indices)
    first = torch.zeros_like(codes).view(B, U).scatter_(1, row, torch.arange(N, device=row.device).expand(B, N))
    example = indices.new_zeros(int(active.sum())).scatter_(0, place[flat], flat)
    return Rows(codes.view(B, U), counts.view(B, U), row, first, place.view(B, U), example)


def rows_of_tokens(tokens: Float[Tensor, "h B N d"]) -> Rows:
    """One row for each token, for tokens without codes."""
    _, B, N, _ = tokens.shape
    row = torch.arange(N, device=tokens.device).expand(B, N)
    place = torch.arange(B * N, device=tokens.device).view(B, N)
    return Rows(row, torch.ones_like(row), row, row, place, place.flatten())


def unit_cost(
    tokens: Float[Tensor, "h *B U d"], references: Float[Tensor, "h R d"], kind: Cost
) -> Float[Tensor, "h *B U R"]:
    """Cost of moving tokens to references, scaled to [0, 1] so that one epsilon means the same for every run.

    Cosine is bounded by itself, as (1 - cos) / 2. The squared Euclidean distance and the dot product are
    divided by a bound on their range that the longest token of each image and the longest reference give;
    the bound is held constant in the gradient.
    """
    return _cost_and_factor(tokens, references, kind)[0]


def _cost_and_factor(tokens: Tensor, references: Tensor, kind: Cost) -> tuple[Tensor, Tensor]:
    """The cost, and the factor in front of its product <token, reference>."""
    z = _directions(references, kind).view(len(references), *[1] * (tokens.ndim - 3), *references.shape[1:])
    norm = tokens.norm(dim=-1, keepdim=True)
    length = norm.detach()
    longest = references.detach().norm(dim=-1).amax(dim=1).view(-1, *[1] * (tokens.ndim - 1))
    tiny = torch.finfo(tokens.dtype).tiny
    product = tokens @ z.transpose(-1, -2)
    if kind == "cosine":
        factor = 0.5 / length.clamp_min(1e-12)
        return 0.5 - 0.5 * product / norm.clamp_min(1e-12), factor
    if kind == "dot":
        factor = 0.5 / (length.amax(dim=-2, keepdim=True) * longest).clamp_min(tiny)
        return 0.5 - factor * product, factor.expand(length.shape)
    factor = 2 / (length.amax(dim=-2, keepdim=True) + longest).square().clamp_min(tiny)
    squares = tokens.square().sum(-1, keepdim=True) + z.square().sum(-1).unsqueeze(-2)
    return factor * (squares / 2 - product).clamp_min(0), factor.expand(length.shape)


def _directions(vectors: Tensor, kind: Cost) -> Tensor:
    return F.normalize(vectors, dim=-1) if kind == "cosine" else vectors


class Relate(torch.autograd.Function):
    """(tokens, references) -> (related tokens, plan, its cost matrix, source and target potential, iterations).

    Related tokens and plan carry gradients; what comes after them are numbers for looking at.
    """

    @staticmethod
    def forward(
        ctx: Any, tokens: Float[Tensor, "h B N d"], references: Float[Tensor, "h R d"], rows: Rows, setting: Setting
    ) -> tuple[
        Float[Tensor, "h B M d"],
        Float[Tensor, "h B U R"],
        Float[Tensor, "h B U R"],
        Float[Tensor, "h B U"],
        Float[Tensor, "h B R"],
        Int64[Tensor, "h B"],
    ]:
        """Solve the transport of each head and image, send the tokens to the references, and read them out."""
        N, R = tokens.shape[2], references.shape[1]
        e = _spread(tokens, rows.first)
        a = rows.counts.to(e.dtype).unsqueeze(-1) / N
        cost, factor, potential, iterations = _solve(e, references, a, rows, setting)
        scores = (potential.unsqueeze(2) - cost) / setting.epsilon
        total = scores.logsumexp(-1, keepdim=True)
        q = (scores - total).exp()  # a row's way to the references
        plan = a * q
        aligned = R * (plan.transpose(-1, -2) @ e)  # G: what each reference receives, an average of codes
        source_potential = setting.epsilon * (a.log() - total).squeeze(-1)
        ctx.mark_non_differentiable(cost, source_potential, potential, iterations)
        shown = (plan, cost, source_potential, potential, iterations)
        ctx.dense = q.shape[2] > _DENSE * N
        if ctx.dense:  # from here on each token has a row of its own
            e, q, cost, factor = tokens, *(_spread(x, rows.row) for x in (q, cost, factor))
        related = aligned
        if setting.readout == "barycentric":
            related = q @ aligned if ctx.dense else _spread(q @ aligned, rows.row)
        ctx.save_for_backward(e, references, q, aligned, cost, factor, rows.row, rows.counts)
        ctx.setting = setting
        ctx.set_materialize_grads(False)
        return related, *shown

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_related: Tensor | None, d_plan: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        """Gradients of tokens and references."""
        e, references, q, aligned, cost, factor, row, counts = ctx.saved_tensors
        setting: Setting = ctx.setting
        (h, B, U, _), R, N = e.shape, references.shape[1], row.shape[1]
        n = q.new_ones(B, U, 1) if ctx.dense else counts.to(q.dtype).unsqueeze(-1)
        z = _directions(references, setting.cost)
        slope = factor / setting.epsilon  # of a row's scores in its products with the references
        by_token = None if d_related is None or setting.readout == "grid" else d_related
        with torch.autocast(q.device.type, enabled=False):
            # Slopes of the loss in q: `alike` for each token of a row, and `whole`, summed over the row's tokens.
            if by_token is not None:
                by_row = by_token if ctx.dense else _gather_up(by_token, row, U)
                d_aligned = q.transpose(-1, -2) @ by_row
            else:
                d_aligned = torch.zeros_like(aligned) if d_related is None else d_related
            d_aligned = (R / N) * d_aligned
            alike = e @ d_aligned.transpose(-1, -2)
            if d_plan is not None:
                alike += (_spread(d_plan, row) if ctx.dense else d_plan) / N
            whole = n * alike
            if by_token is not None:
                whole += by_row @ aligned.transpose(-1, -2)
                del by_row
            # The potential follows the cost, such that the columns stay full (implicit function theorem).
            full = q.new_full((h, B, R), 1 / R)
            multiplier = solve_adjoint(q, (n / N).squeeze(-1).expand(h, B, U), full, _centred(q, whole).sum(-2))
            whole -= multiplier.unsqueeze(-2) * (n / N)

            pull = _centred(q, whole) * slope  # minus the slope of the loss in <token, reference>
            d_references = (pull.transpose(-1, -2) @ e).sum(1)
            if setting.cost == "euclidean":
                d_references -= pull.sum((1, 2)).unsqueeze(-1) * references
            if setting.cost == "cosine":
                d_references = _through_normalisation(d_references, z, references)

            if not ctx.dense:
                alike -= multiplier.unsqueeze(-2) / N
                pull = _centred(q, alike) * slope
            both = e.new_empty(1 if ctx.dense else 2, *e.shape)  # what a row's tokens share, and its code
            to_references = torch.cat([d_aligned, z.unsqueeze(1).expand_as(d_aligned)], dim=-2)
            each = torch.matmul(torch.cat([q, pull], dim=-1), to_references, out=both[0])
            along = _along(pull, cost, factor) if setting.cost == "cosine" else None
            if ctx.dense or by_token is None:
                if along is not None:
                    each.addcmul_(e, along, value=-1)
                return each if ctx.dense else _spread(each, row), d_references, None, None
            pull = _centred(_spread(q, row), by_token @ aligned.transpose(-1, -2)).mul_(_spread(slope, row))
            if along is None:
                d_tokens = _spread(each, row)
            else:
                both[1] = e
                own = _along(pull, _spread(cost, row), _spread(factor, row))
                d_tokens = _spread_less(both, _spread(along, row) + own, row)
            d_tokens.flatten(1, 2).baddbmm_(pull.flatten(1, 2), z)
        return d_tokens, d_references, None, None


def _solve(
    e: Tensor, references: Tensor, a: Tensor, rows: Rows, setting: Setting
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cost of each row, its factor, target potentials and iterations."""
    (h, B, U, d), R, A = e.shape, references.shape[1], len(rows.example)
    solve = partial(
        find_potential,
        epsilon=setting.epsilon,
        tolerance=setting.tolerance,
        max_iterations=setting.max_iterations,
    )
    full = e.new_full((h, B, R), 1 / R)
    if setting.cost == "cosine" and B > 1 and A <= _SHARED_ROWS * U:
        examples = e.view(h, B * U, d)[:, rows.example]
        shared, factor = _cost_and_factor(examples, references, setting.cost)
        source = a.new_zeros(B, A).scatter_add_(1, rows.place, a.squeeze(-1))
        return shared[:, rows.place], factor[:, rows.place], *solve(shared, source.expand(h, B, A), full)
    cost, factor = _cost_and_factor(e, references, setting.cost)
    source = a.view(B, 1, U).repeat(h, 1, 1)
    potential, iterations = solve(cost.view(h * B, U, R), source, full.view(h * B, 1, R))
    return cost, factor, potential.view(h, B, R), iterations.view(h, B)


def _along(pull: Tensor, cost: Tensor, factor: Tensor) -> Tensor:
    """How much of a token has to be taken off its gradient, because its length does not change its cosines.

    That is <pull, cosines> over the token's length. A pull adds up to zero, and the cosines are 1 - 2 cost.
    """
    return -4 * factor * torch.linalg.vecdot(pull, cost).unsqueeze(-1)


def _spread_less(table: Tensor, along: Tensor, row: Tensor) -> Tensor:
    """table[0] - along * table[1] in one pass over the tokens: the tables are of rows, `along` is each token's own."""
    _, h, B, U, d = table.shape
    flat, along = _flat(row, h, U).flatten(), along.flatten()
    pairs = torch.stack([flat, flat + h * B * U], dim=1)
    weights = torch.stack([torch.ones_like(along), -along], dim=1)
    return F.embedding_bag(pairs, table.view(-1, d), per_sample_weights=weights, mode="sum").view(h, B, -1, d)


def _centred(q: Tensor, slope: Tensor) -> Tensor:
    """The gradient of a softmax q: q times its slope less the mean, weighted by q."""
    return torch.ops.aten._softmax_backward_data(slope, q, -1, q.dtype)


def _through_normalisation(gradient: Tensor, direction: Tensor, vector: Tensor) -> Tensor:
    """From the gradient of a vector of unit length to that of the vector."""
    along = (gradient * direction).sum(-1, keepdim=True) * direction
    return (gradient - along) / vector.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def _flat(row: Tensor, h: int, U: int) -> Tensor:
    B = len(row)
    return row + U * torch.arange(h * B, device=row.device).view(h, B, 1)


def _spread(values: Tensor, row: Tensor) -> Tensor:
    """From rows (h, B, U, x) to the tokens that have them (h, B, N, x)."""
    h, _, U, x = values.shape
    return F.embedding(_flat(row, h, U), values.reshape(-1, x))


def _gather_up(values: Tensor, row: Tensor, U: int) -> Tensor:
    """From tokens (h, B, N, x) to the sums over those of each row (h, B, U, x)."""
    h, B, _, x = values.shape
    flat = torch.ops.aten.embedding_dense_backward(
        values.reshape(-1, x), _flat(row, h, U).flatten(), h * B * U, -1, False
    )
    return flat.view(h, B, U, x)
