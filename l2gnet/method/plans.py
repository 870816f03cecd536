"""The plans by which tokens send to references or receive from them, solved a row or a token, several at once.

Letters: h heads, p plans (1 or 2) of each head, B images, N tokens, U rows (distinct codes of an image, padded with
rows without mass), R references, d dimension of a head.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from l2gnet.method.cost import Cost, cost_and_factor, unit_cost
from l2gnet.method.rows import Rows, spread
from l2gnet.method.sinkhorn import find_potential
from l2gnet.method.transport import solve_potential
from l2gnet.shapes import Float, Int64

Readout = Literal["barycentric", "grid"]
_SHARED_ROWS = 4  # one kernel for all images pays while it has at most so many times the rows of one image


@dataclass(frozen=True)
class Setting:
    """What decides the relation, beside tokens and references; `epsilons` are those of the plans."""

    epsilons: tuple[float, ...]
    cost: Cost
    readout: Readout
    tolerance: float
    max_iterations: int


# To look at, of each row: costs, source and target potentials, and the iterations of each image.
Numbers = tuple[Float[Tensor, "ph B U R"], Float[Tensor, "ph B U"], Float[Tensor, "ph B R"], Int64[Tensor, "ph B"]]


def plans_of_rows(
    e: Float[Tensor, "h B U d"], references: Float[Tensor, "ph R d"], rows: Rows, setting: Setting
) -> tuple[Float[Tensor, "ph B U R"], Float[Tensor, "ph B U R"], Float[Tensor, "ph B U 1"], Numbers]:
    """Each row's way to the references in each plan, the plans, and the factors of their costs; without gradients."""
    a = rows.counts.to(e.dtype).unsqueeze(-1) / rows.row.shape[1]
    cost, scaled, factor, potential, iterations = _solve(e, references, a, rows, setting)
    scores = potential.unsqueeze(2) - scaled
    q = scores.softmax(-1)
    total = scores.amax(-1, keepdim=True) - q.amax(-1, keepdim=True).log()
    epsilon = by_plan(setting.epsilons, len(e), e)
    source_potential = (epsilon * (a.log() - total)).squeeze(-1)
    return q, a * q, factor, (cost, source_potential, epsilon[..., 0] * potential, iterations)


def plans_of_tokens(
    tokens: Float[Tensor, "ph B N d"], references: Float[Tensor, "ph R d"], rows: Rows, setting: Setting
) -> tuple[Float[Tensor, "ph B N R"], Numbers]:
    """Each token's way to the references in each plan, with all its derivatives."""
    (ph, B, N, _), R = tokens.shape, references.shape[1]
    epsilon = by_plan(setting.epsilons, ph // len(setting.epsilons), tokens)
    cost = unit_cost(tokens, references, setting.cost)
    potential, iterations = solve_potential(
        (cost / epsilon).flatten(0, 1),
        cost.new_full((ph * B, N), 1 / N),
        cost.new_full((ph * B, R), 1 / R),
        epsilon=1.0,
        tolerance=setting.tolerance,
        max_iterations=setting.max_iterations,
    )
    scores = potential.view(ph, B, 1, R) - cost / epsilon
    with torch.no_grad():
        share = (rows.counts / N).to(cost.dtype)
        source_potential = epsilon[..., 0] * (share.log() - spread(scores.logsumexp(-1, True), rows.first)[..., 0])
        target_potential = epsilon[..., 0] * potential.view(ph, B, R)
        numbers = (spread(cost, rows.first), source_potential, target_potential, iterations.view(ph, B))
    return scores.softmax(-1), numbers


def by_plan(epsilons: tuple[float, ...], h: int, like: Tensor) -> Tensor:
    """The epsilon of each plan, (p*h, 1, 1, 1)."""
    return like.new_tensor(epsilons).repeat_interleave(h).view(-1, 1, 1, 1)


def _solve(
    e: Tensor, references: Tensor, a: Tensor, rows: Rows, setting: Setting
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Cost of each row in each plan, as it is and in units of epsilon, its factor, target potentials and iterations.

    Potentials are in units of epsilon, so that plans of several are solved together.
    """
    (h, B, U, d), (ph, R, _), A = e.shape, references.shape, len(rows.example)
    epsilon = by_plan(setting.epsilons, h, e)
    solve = partial(find_potential, tolerance=setting.tolerance, max_iterations=setting.max_iterations)
    full = e.new_full((ph, B, R), 1 / R)
    alike = setting.cost == "cosine" and B > 1 and A <= _SHARED_ROWS * U and not rows.alone
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
