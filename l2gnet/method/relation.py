"""Tokens related to each other through references: one autograd function, with its exact backward pass.

Tokens send to references by one plan and receive from them by another, or by the same one. Tokens with one code have
one row of a plan, so everything is computed a code, not a token, but for one thing: each token has its own incoming
gradient, and a place of its own. That costs two products of tokens by references a plan, and the result is exactly the
gradient of a layer that knows nothing of codes (as the straight-through estimator wants it). That layer itself,
`relate_plainly`, is slower and has derivatives of every kind.

Letters: h heads, p plans (1 or 2) of each head, B images, N tokens, U rows (distinct codes of an image, padded with
rows without mass), R references, d dimension of a head, x numbers that say where a token lies, M tokens given out (N,
or R for readout `grid`).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from l2gnet.method.cost import Cost, cost_and_factor, directions, off_lengthwise, through_normalisation, unit_cost
from l2gnet.method.rows import Rows, gather_up, spread
from l2gnet.method.sinkhorn import find_potential
from l2gnet.method.transport import solve_adjoint, solve_potential
from l2gnet.shapes import Float, Int64

Readout = Literal["barycentric", "grid"]
_SHARED_ROWS = 4  # one kernel for all images pays while it has at most so many times the rows of one image
_DENSE = 0.55  # rows a token, beyond which going from tokens to rows and back costs more than it saves


@dataclass(frozen=True)
class Setting:
    """What decides the relation, beside tokens and references; `epsilons` are those of the plans."""

    epsilons: tuple[float, ...]
    cost: Cost
    readout: Readout
    tolerance: float
    max_iterations: int


Relations = tuple[
    Float[Tensor, "h B M dx"],
    Float[Tensor, "ph B U R"],
    Float[Tensor, "h B R dx"],
    Float[Tensor, "ph B U R"],
    Float[Tensor, "ph B U"],
    Float[Tensor, "ph B R"],
    Int64[Tensor, "ph B"],
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
        a = rows.counts.to(e.dtype).unsqueeze(-1) / N
        epsilon = _by_plan(setting.epsilons, h, e)
        cost, scaled, factor, potential, iterations = _solve(e, references, a, rows, setting)
        scores = potential.unsqueeze(2) - scaled
        q = scores.softmax(-1)  # a row's way to the references
        total = scores.amax(-1, keepdim=True) - q.amax(-1, keepdim=True).log()
        plan = a * q
        middle = _middle(places, rows, B, h)
        aligned = R * (plan[:h].transpose(-1, -2) @ torch.cat([e, middle], dim=-1))
        source_potential = (epsilon * (a.log() - total)).squeeze(-1)
        shown = (plan, aligned.detach().clone(), cost, source_potential, epsilon[..., 0] * potential, iterations)
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
            return _plain_gradients(tokens, references, places, ctx.rows, setting, d_related, d_plan)
        row, counts = ctx.rows.row, ctx.rows.counts
        (h, B, U, d), R, N = e.shape, references.shape[1], row.shape[1]
        n = q.new_ones(1, 1, 1) if ctx.dense else counts.to(q.dtype).unsqueeze(-1)
        z = directions(references, setting.cost)
        slope = factor / _by_plan(setting.epsilons, h, e)  # of a row's scores in its products with the references
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
            d_references = torch.cat([one.flatten(1, 2).mT @ e.flatten(1, 2) for one in pull.split(h)])
            if setting.cost == "euclidean":
                d_references -= pull.sum((1, 2)).unsqueeze(-1) * references
            if setting.cost == "cosine":
                d_references = through_normalisation(d_references, z, references)

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


def relate_plainly(
    tokens: Float[Tensor, "h B N d"],
    references: Float[Tensor, "ph R d"],
    places: Float[Tensor, "N x"],
    rows: Rows,
    setting: Setting,
    receivers: Float[Tensor, "h B N d"] | None = None,
) -> Relations:
    """What `Relate` gives, in plain operations on every token by itself; `receivers` may be others than the tokens."""
    (h, B, N, _), (ph, R, _) = tokens.shape, references.shape
    epsilon = _by_plan(setting.epsilons, h, tokens)
    both = tokens.repeat(ph // h, 1, 1, 1) if receivers is None else torch.cat([tokens, receivers])
    cost = unit_cost(both, references, setting.cost)
    potential, iterations = solve_potential(
        (cost / epsilon).flatten(0, 1),
        cost.new_full((ph * B, N), 1 / N),
        cost.new_full((ph * B, R), 1 / R),
        epsilon=1.0,
        tolerance=setting.tolerance,
        max_iterations=setting.max_iterations,
    )
    potential = epsilon[..., 0] * potential.view(ph, B, R)
    scores = (potential.unsqueeze(2) - cost) / epsilon
    q = scores.softmax(-1)
    aligned = (R / N) * (q[:h].transpose(-1, -2) @ torch.cat([tokens, places.expand(h, B, *places.shape)], dim=-1))
    related = aligned if setting.readout == "grid" else q[-h:] @ aligned
    plan = gather_up(q, rows.row, rows.counts.shape[1]) / N
    share = (rows.counts / N).to(cost.dtype)
    source_potential = epsilon[..., 0] * share.log() - spread(epsilon * scores.logsumexp(-1, True), rows.first)[..., 0]
    slots, cost, f, g = (x.detach() for x in (aligned, spread(cost, rows.first), source_potential, potential))
    return related, plan, slots, cost, f, g, iterations.view(ph, B)


def _plain_gradients(
    tokens: Tensor,
    references: Tensor,
    places: Tensor,
    rows: Rows,
    setting: Setting,
    d_related: Tensor | None,
    d_plan: Tensor | None,
) -> tuple[Tensor | None, ...]:
    """Gradients of tokens and references that carry gradients themselves."""
    wanted = [x for x in (tokens, references) if x.requires_grad]
    with torch.autocast(tokens.device.type, enabled=False):
        made = relate_plainly(tokens, references, places, rows, setting)[:2]
        told = [(x, d) for x, d in zip(made, (d_related, d_plan), strict=True) if d is not None]
        outputs, slopes = zip(*told, strict=True)
        found = iter(torch.autograd.grad(outputs, wanted, slopes, create_graph=True))
    return *(next(found) if x.requires_grad else None for x in (tokens, references)), None, None, None


def _solve(
    e: Tensor, references: Tensor, a: Tensor, rows: Rows, setting: Setting
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Cost of each row in each plan, as it is and in units of epsilon, its factor, target potentials and iterations.

    Potentials are in units of epsilon, so that plans of several are solved together.
    """
    (h, B, U, d), (ph, R, _), A = e.shape, references.shape, len(rows.example)
    epsilon = _by_plan(setting.epsilons, h, e)
    solve = partial(find_potential, tolerance=setting.tolerance, max_iterations=setting.max_iterations)
    full = e.new_full((ph, B, R), 1 / R)
    alike = setting.cost == "cosine" and B > 1 and A <= _SHARED_ROWS * U
    if alike and bool(e.isfinite().all()):  # one image's NaN would be every image's
        examples = e.reshape(h, B * U, d)[:, rows.example].repeat(ph // h, 1, 1)
        shared, factor = cost_and_factor(examples, references, setting.cost)
        source = a.new_zeros(B, A).scatter_add_(1, rows.place, a.squeeze(-1))
        potential, iterations = solve(shared / epsilon[..., 0], source.expand(ph, B, A), full)
        cost = shared[:, rows.place]
        return cost, cost / epsilon, factor[:, rows.place], potential, iterations
    cost, factor = cost_and_factor(e.repeat(ph // h, 1, 1, 1), references, setting.cost)
    scaled = cost / epsilon
    source = a.view(B, 1, U).repeat(ph, 1, 1)
    potential, iterations = solve(scaled.view(ph * B, U, R), source, full.view(ph * B, 1, R))
    return cost, scaled, factor, potential.view(ph, B, R), iterations.view(ph, B)


def _by_plan(epsilons: tuple[float, ...], h: int, like: Tensor) -> Tensor:
    """The epsilon of each plan, (p*h, 1, 1, 1)."""
    return like.new_tensor(epsilons).repeat_interleave(h).view(-1, 1, 1, 1)


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
    """total += left @ right^T, (h, B, U, R), without a second array of that size."""
    total.flatten(0, 1).baddbmm_(left.flatten(0, 1), right.mT.flatten(0, 1))


def _pulled(pull: Tensor, z: Tensor, h: int) -> Tensor:
    """Where the references of all plans pull, (h, B, U, d)."""
    first, *others = zip(pull.split(h), z.split(h), strict=True)
    total = first[0].flatten(1, 2) @ first[1]
    for one, of in others:
        total.baddbmm_(one.flatten(1, 2), of)
    return total.unflatten(1, pull.shape[1:3])


def _centred(q: Tensor, slope: Tensor) -> Tensor:
    """The gradient of a softmax q: q times its slope less the mean, weighted by q."""
    return torch.ops.aten._softmax_backward_data(slope, q, -1, q.dtype)
