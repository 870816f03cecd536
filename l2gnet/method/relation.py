"""Tokens related to each other through references: autograd functions, with their exact backward passes.

Tokens send to references by one plan and receive from them by another, or by the same one. Tokens with one code have
one row of a plan, so everything is computed a code, not a token, but for one thing: each token has its own incoming
gradient, and a place of its own. That costs two products of tokens by references a plan, and the result is exactly the
gradient of a layer that knows nothing of codes (as the straight-through estimator wants it). That layer itself,
`relate_plainly`, is slower and has derivatives of every kind. Where others receive than send, the relation is two
functions: `Relate` fills the slots and `Receive` reads them out.

Letters: h heads, p plans (1 or 2) of each head, B images, N tokens, U rows (distinct codes of an image, padded with
rows without mass), R references, d dimension of a head, x numbers that say where a token lies, M tokens given out (N,
or R for readout `grid`).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from l2gnet.method.cost import Cost, directions, off_lengthwise, through_normalisation
from l2gnet.method.plans import Setting, by_plan, plans_of_rows, plans_of_tokens
from l2gnet.method.rows import Rows, gather_up, rows_of_tokens, spread
from l2gnet.method.transport import solve_adjoint
from l2gnet.shapes import Float, Int64

_DENSE = 0.55  # rows a token, beyond which going from tokens to rows and back costs more than it saves

# Related tokens, plans, slots, and numbers to look at, as of `Numbers`.
Relations = tuple[
    Float[Tensor, "h B M dx"],
    Float[Tensor, "ph B U R"],
    Float[Tensor, "h B R dx"],
    Float[Tensor, "ph B U R"],
    Float[Tensor, "ph B U"],
    Float[Tensor, "ph B R"],
    Int64[Tensor, "ph B"],
]
Received = tuple[
    Float[Tensor, "h B N dx"],
    Float[Tensor, "h B N R"],
    Float[Tensor, "h B N R"],
    Float[Tensor, "h B N"],
    Float[Tensor, "h B R"],
    Int64[Tensor, "h B"],
]


class Relate(torch.autograd.Function):
    """(tokens, references, places) -> (related tokens, plans, slots, costs, source and target potentials, iterations).

    The first plan of a head sends, the last one receives: G = R T^T [E, places] is what each reference gathers, and a
    token i is given sum_r s_ir G_r, s its way to the references. Related tokens and plans carry gradients; what comes
    after them are numbers for looking at. Plans lie along the first axis: all heads of the first, then of the second.
    """

    @staticmethod
    def forward(
        ctx: Any,
        tokens: Float[Tensor, "h B N d"],
        references: Float[Tensor, "ph R d"],
        places: Float[Tensor, "N x"],
        rows: Rows,
        setting: Setting,
    ) -> Relations:
        """Solve the plans of each head and image, send the tokens to the references, and read them out."""
        (h, B, N, _), R = tokens.shape, references.shape[1]
        e = tokens if rows.alone else spread(tokens, rows.first)
        q, plan, factor, numbers = plans_of_rows(e, references, rows, setting)
        middle = _middle(places, rows, B, h)
        aligned = R * (plan[:h].transpose(-1, -2) @ torch.cat([e, middle], dim=-1))
        shown = (plan, aligned.detach().clone(), *numbers)
        ctx.mark_non_differentiable(*shown[1:])
        ctx.dense = e.shape[2] > _DENSE * N
        if ctx.dense:  # from here on each token has a row of its own
            if not rows.alone:
                e, q, factor = tokens, spread(q, rows.row), spread(factor, rows.row)
            middle = places.expand(h, B, *places.shape)
        related = aligned
        if setting.readout == "barycentric":
            related = q[-h:] @ aligned if ctx.dense else spread(q[-h:] @ aligned, rows.row)
        ctx.save_for_backward(tokens, e, references, places, middle, q, aligned, factor)
        ctx.rows, ctx.setting = rows, setting
        ctx.set_materialize_grads(False)
        return related, *shown

    @staticmethod
    def backward(ctx: Any, d_related: Tensor | None, d_plan: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        """Gradients of tokens and references."""
        tokens, e, references, places, middle, q, aligned, factor = ctx.saved_tensors
        setting: Setting = ctx.setting
        if torch.is_grad_enabled():  # they are to be differentiated again
            plainly = partial(relate_plainly, places=places, rows=ctx.rows, setting=setting)
            return *_plain_gradients(plainly, (tokens, references), d_related, d_plan), None, None, None
        row, counts = ctx.rows.row, ctx.rows.counts
        (h, B, U, d), R, N = e.shape, references.shape[1], row.shape[1]
        n = q.new_ones(1, 1, 1) if ctx.dense else counts.to(q.dtype).unsqueeze(-1)
        z = directions(references, setting.cost)
        slope = factor / by_plan(setting.epsilons, h, e)  # of a row's scores in its products with the references
        by_token = None if d_related is None or setting.readout == "grid" else d_related
        with torch.autocast(q.device.type, enabled=False):
            # Slopes of the loss in q: `alike` for each token of a row, `own` for each token by itself, and `whole`,
            # summed over the row's tokens.
            d_aligned = torch.zeros_like(aligned) if d_related is None else d_related
            if by_token is not None:
                by_row = by_token if ctx.dense else gather_up(by_token, row, U)
                d_aligned = q[-h:].transpose(-1, -2) @ by_row
            d_aligned = (R / N) * d_aligned
            of_values, of_places = d_aligned[..., :d], d_aligned[..., d:]
            alike = torch.zeros_like(q)
            if d_plan is not None:
                alike += (spread(d_plan, row) if ctx.dense else d_plan) / N
            _add_products(alike[:h], e, of_values)
            whole = alike if ctx.dense else n * alike
            if places.shape[1]:
                whole[:h] += n * (middle @ of_places.transpose(-1, -2))
            if by_token is not None:
                _add_products(whole[-h:], by_row, aligned)
            # The potentials follow the cost, such that the columns stay full (implicit function theorem).
            full = q.new_full((len(q), B, R), 1 / R)
            share = (n / N).squeeze(-1).expand(len(q), B, U)
            follows = solve_adjoint(q, share, full, _centred(q, whole).sum(-2)).unsqueeze(-2) / N
            whole = whole.sub_(follows) if ctx.dense else whole - n * follows

            pull = _centred(q, whole).mul_(slope)  # minus the slope of the loss in <token, reference>
            d_references = _pulled_references(pull, e, references, z, setting.cost)
            if not ctx.dense:
                pull = _centred(q, alike.sub_(follows)).mul_(slope)
            d_tokens = _pulled(pull, z, h)
            sent = q[:h] @ of_values
            if not ctx.dense:
                d_tokens, sent = spread(d_tokens, row), spread(sent, row)
                for first, own in _own_slopes(by_token, aligned, places, of_places, h, len(q)).items():
                    plan = slice(first, first + h)
                    own = _centred(spread(q[plan], row), own).mul_(spread(slope[plan], row))
                    d_tokens += _pulled(own, z[plan], h)
            if setting.cost == "cosine":
                d_tokens = off_lengthwise(d_tokens, tokens)
            return d_tokens.add_(sent), d_references, None, None, None


class Receive(torch.autograd.Function):
    """(tokens, slots, references) -> (related tokens, plan, costs, source and target potentials, iterations).

    The second half of the relation, for tokens that receive of slots which others have filled; the first half is
    `Relate` with readout `grid`. Each token has a row of the plan.
    """

    @staticmethod
    def forward(
        ctx: Any,
        tokens: Float[Tensor, "h B N d"],
        slots: Float[Tensor, "h B R dx"],
        references: Float[Tensor, "h R d"],
        setting: Setting,
    ) -> Received:
        """Solve the plan of each head and image, and read the slots out by it."""
        q, plan, factor, numbers = plans_of_rows(tokens, references, rows_of_tokens(tokens), setting)
        ctx.mark_non_differentiable(*numbers)
        ctx.save_for_backward(tokens, slots, references, q, factor)
        ctx.setting = setting
        ctx.set_materialize_grads(False)
        return q @ slots, plan, *numbers

    @staticmethod
    def backward(ctx: Any, d_related: Tensor | None, d_plan: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        """Gradients of tokens, slots and references."""
        tokens, slots, references, q, factor = ctx.saved_tensors
        setting: Setting = ctx.setting
        if torch.is_grad_enabled():  # they are to be differentiated again
            plainly = partial(receive_plainly, setting=setting)
            return *_plain_gradients(plainly, (tokens, slots, references), d_related, d_plan), None
        (h, B, N, _), R = tokens.shape, references.shape[1]
        z = directions(references, setting.cost)
        with torch.autocast(q.device.type, enabled=False):
            slope = torch.zeros_like(q)  # of the loss in q
            if d_plan is not None:
                slope += d_plan / N
            d_slots = torch.zeros_like(slots)
            if d_related is not None:
                _add_products(slope, d_related, slots)
                d_slots = q.mT @ d_related
            share, full = q.new_full((h, B, N), 1 / N), q.new_full((h, B, R), 1 / R)
            slope -= solve_adjoint(q, share, full, _centred(q, slope).sum(-2)).unsqueeze(-2) / N
            pull = _centred(q, slope).mul_(factor / by_plan(setting.epsilons, h, q))
            d_tokens = _pulled(pull, z, h)
            if setting.cost == "cosine":
                d_tokens = off_lengthwise(d_tokens, tokens)
            return d_tokens, d_slots, _pulled_references(pull, tokens, references, z, setting.cost), None


def relate_plainly(
    tokens: Float[Tensor, "h B N d"],
    references: Float[Tensor, "ph R d"],
    places: Float[Tensor, "N x"],
    rows: Rows,
    setting: Setting,
) -> Relations:
    """What `Relate` gives, in plain operations on every token by itself."""
    (h, B, N, _), (ph, R, _) = tokens.shape, references.shape
    q, numbers = plans_of_tokens(tokens.repeat(ph // h, 1, 1, 1), references, rows, setting)
    aligned = (R / N) * (q[:h].transpose(-1, -2) @ torch.cat([tokens, places.expand(h, B, *places.shape)], dim=-1))
    related = aligned if setting.readout == "grid" else q[-h:] @ aligned
    return related, gather_up(q, rows.row, rows.counts.shape[1]) / N, aligned.detach(), *numbers


def receive_plainly(
    tokens: Float[Tensor, "h B N d"],
    slots: Float[Tensor, "h B R dx"],
    references: Float[Tensor, "h R d"],
    setting: Setting,
) -> Received:
    """What `Receive` gives, in plain operations."""
    q, numbers = plans_of_tokens(tokens, references, rows_of_tokens(tokens), setting)
    return q @ slots, q / tokens.shape[2], *numbers


def _plain_gradients(
    plainly: Callable[..., tuple[Tensor, ...]], inputs: tuple[Tensor, ...], *slopes: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Gradients of the inputs that carry gradients themselves, of the first outputs, whose slopes these are."""
    wanted = [x for x in inputs if x.requires_grad]
    with torch.autocast(inputs[0].device.type, enabled=False):
        told = [(x, d) for x, d in zip(plainly(*inputs), slopes, strict=False) if d is not None]
        if not told:  # nothing that is asked for depends on them
            return (None,) * len(inputs)
        outputs, told_slopes = zip(*told, strict=True)
        found = iter(torch.autograd.grad(outputs, wanted, told_slopes, create_graph=True, allow_unused=True))
    return tuple(next(found) if x.requires_grad else None for x in inputs)


def _middle(places: Tensor, rows: Rows, B: int, h: int) -> Tensor:
    """The mean place of the tokens of each row, (h, B, U, x); 0 for rows without any."""
    if places.shape[1] == 0:
        return places.new_zeros(h, B, rows.counts.shape[1], 0)
    total = gather_up(places.expand(1, B, *places.shape), rows.row, rows.counts.shape[1])
    return (total / rows.counts.clamp_min(1).unsqueeze(-1)).expand(h, -1, -1, -1)


def _own_slopes(
    by_token: Tensor | None, aligned: Tensor, places: Tensor, of_places: Tensor, h: int, ph: int
) -> dict[int, Tensor]:
    """The slopes (h, B, N, R) that each token has by itself, by the first head of their plan."""
    owns = {}
    if by_token is not None:
        owns[ph - h] = by_token @ aligned.transpose(-1, -2)
    if places.shape[1]:
        by_place = places @ of_places.transpose(-1, -2)
        owns[0] = owns[0] + by_place if 0 in owns else by_place
    return owns


def _add_products(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right^T, (h, B, U, R), without a second array of that size; total must be contiguous."""
    total.view(-1, *total.shape[2:]).baddbmm_(left.flatten(0, 1), right.mT.flatten(0, 1))


def _pulled(pull: Tensor, z: Tensor, h: int) -> Tensor:
    """Where the references of all plans pull, (h, B, U, d)."""
    first, *others = zip(pull.split(h), z.split(h), strict=True)
    total = first[0].flatten(1, 2) @ first[1]
    for one, of in others:
        total.baddbmm_(one.flatten(1, 2), of)
    return total.unflatten(1, pull.shape[1:3])


def _pulled_references(pull: Tensor, e: Tensor, references: Tensor, z: Tensor, cost: Cost) -> Tensor:
    """Where the rows of each plan pull its references, (ph, R, d)."""
    pulled = torch.cat([one.flatten(1, 2).mT @ e.flatten(1, 2) for one in pull.split(len(e))])
    if cost == "euclidean":
        pulled -= pull.sum((1, 2)).unsqueeze(-1) * references
    return through_normalisation(pulled, z, references) if cost == "cosine" else pulled


def _centred(q: Tensor, slope: Tensor) -> Tensor:
    """The gradient of a softmax q: q times its slope less the mean, weighted by q."""
    return torch.ops.aten._softmax_backward_data(slope, q, -1, q.dtype)
