"""Entropic optimal transport between histograms, with exact implicit gradients.

The plan of image b is T = argmin <T, C> - epsilon * entropy(T) with row sums `source[b]` and column sums
`target[b]` (Cuturi 2013, arXiv 1306.0895). One potential g (R) decides it: given g, the rows are
T_kr = a_k q_kr with q_k = softmax_r((g_r - C_kr) / epsilon), so that row sums are exact by construction,
and g is found such that the columns add up.
"""

import math
import warnings
from dataclasses import dataclass
from html import escape
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from l2gnet.method.sinkhorn import find_potential
from l2gnet.method.transforms import refuse_trace, refuse_vmap, require_numbers
from l2gnet.shapes import Bool, Float, Int64

_MASS_TOLERANCE = 1e-4  # relative; histograms counted in float32 stay far below it, those of half precision do not


class ConvergenceWarning(UserWarning):
    """A transport plan was returned before its marginal error fell below the tolerance."""


@dataclass(frozen=True)
class TransportPlan:
    """A batch of transport plans and how far each can be trusted.

    T_kr = exp((f_k + g_r - C_kr) / epsilon) with the potentials f and g, which are -inf for rows and columns without
    mass: nothing else makes their entries of the plan 0. `cost` is <T, C>, `marginal_error` the L1 distance of the
    plan's column sums from the target as a share of the mass, and `converged` says whether that is within the
    tolerance.
    """

    plan: Float[Tensor, "B K R"]
    source_potential: Float[Tensor, "B K"]
    target_potential: Float[Tensor, "B R"]
    cost: Float[Tensor, " B"]
    marginal_error: Float[Tensor, " B"]
    iterations: Int64[Tensor, " B"]
    converged: Bool[Tensor, " B"]
    epsilon: float

    def _repr_html_(self) -> str:
        plan = self.plan.detach().float().cpu()
        rows = "".join(
            f"<tr><td>{b}</td><td>{self.cost[b].item():.4g}</td><td>{self.marginal_error[b].item():.1e}</td>"
            f"<td>{int(self.iterations[b])}</td><td>{'yes' if self.converged[b] else '<b>no</b>'}</td></tr>"
            for b in range(min(len(plan), 4))
        )
        title = escape(f"TransportPlan {tuple(plan.shape)} (B, K, R), epsilon {self.epsilon:g}")
        return (
            f"<div><b>{title}</b><table><tr><th>image</th><th>cost</th><th>marginal error</th><th>iterations</th>"
            f"<th>converged</th></tr>{rows}</table>{_heatmap_svg(plan[0]) if len(plan) else ''}</div>"
        )


def solve_transport(
    cost: Float[Tensor, "*batch K R"],
    source: Float[Tensor, "B K"],
    target: Float[Tensor, "... R"],
    *,
    epsilon: float,
    tolerance: float = 1e-4,
    max_iterations: int = 1000,
    start: Float[Tensor, "B R"] | None = None,
) -> TransportPlan:
    """Transport each histogram `source[b]` to `target`, at one shared cost (K, R) or a cost per image (B, K, R).

    The plan is differentiable in cost, source and target, any number of times, in reverse and in forward mode:
    derivatives are those of the exact plan (implicit function theorem), whatever the number of iterations, and no
    iteration is kept in memory. Empty rows and columns are allowed and stay empty; their potentials are -inf.
    Input in half precision is solved in float32, and what rounding did to the mass of a target is taken back.

    Args:
        cost: price of moving one unit of mass, finite.
        source: non-negative row sums, one histogram an image.
        target: non-negative column sums, (R) for all images or (B, R); of the same total mass as `source`.
        epsilon: weight of the entropy, in units of the cost, above 0.
        tolerance: L1 marginal error, as a share of the mass, at which an image is solved.
        max_iterations: bound on the iterations; beyond it a `ConvergenceWarning` is given.
        start: target potentials to start from, for example those of an earlier plan.

    Raises:
        ValueError: shapes do not fit, a number is not finite or negative, the masses differ, or `torch.func.vmap`
            or `torch.jit.trace` is at work.
    """
    require_numbers(cost=cost, source=source, target=target)
    refuse_trace("solve_transport", "called outside a trace")
    refuse_vmap("solve_transport", "give it all problems as one batch, (B, K, R)", cost, source, target)
    with torch.autocast(cost.device.type, enabled=False):
        dtype = torch.promote_types(torch.promote_types(cost.dtype, source.dtype), torch.float32)
        rounding = max(_rounding(source), _rounding(target))
        cost, source, target = cost.to(dtype), source.to(dtype), target.to(dtype)
        _check_problem(cost, source, target, epsilon, tolerance, max_iterations, rounding)
        target = target.expand(len(source), -1)
        if start is not None:
            _check_start(start, target)
        # No plan meets masses that rounding set apart, and all iterations would be spent on it. The factor is held
        # constant: it is no part of the problem, and of its derivatives.
        target = target * (source.sum(1, keepdim=True) / target.sum(1, keepdim=True)).detach()
        potential, iterations = solve_potential(
            cost, source, target, epsilon=epsilon, tolerance=tolerance, max_iterations=max_iterations, start=start
        )
        scores = (potential.unsqueeze(1) - cost) / epsilon
        plan = source.unsqueeze(2) * scores.softmax(dim=2)
        filled = source > 0  # log's derivative at 0 is none
        log_source = source.where(filled, 1).log().where(filled, -torch.inf)
        source_potential = epsilon * (log_source - scores.logsumexp(dim=2))
        return make_plan(plan, cost, source_potential, potential, target.detach(), iterations, epsilon, tolerance)


def make_plan(
    plan: Float[Tensor, "B K R"],
    cost: Float[Tensor, "*batch K R"],
    source_potential: Float[Tensor, "B K"],
    target_potential: Float[Tensor, "B R"],
    target: Float[Tensor, "B R"],
    iterations: Int64[Tensor, " B"],
    epsilon: float,
    tolerance: float,
) -> TransportPlan:
    """Measure a plan's marginal error and cost, and warn if an image did not converge."""
    mass = target.sum(1).clamp_min(torch.finfo(plan.dtype).tiny)
    error = (plan.detach().sum(1) - target).abs().sum(1) / mass
    converged = error <= tolerance
    if not bool(converged.all()):
        words = (
            f"transport not converged: marginal error {error.max().item():.1e} after {int(iterations.max())} "
            f"iterations, tolerance {tolerance:.1e}; raise epsilon (now {epsilon:g}) or max_iterations; where "
            f"rounding is the limit, raise tolerance{'' if plan.dtype == torch.float64 else ' or give float64'}"
        )
        if not bool(error.isfinite().all()):
            words = "transport not converged: of numbers that are NaN or infinite; look for them upstream"
        warnings.warn(words, ConvergenceWarning, stacklevel=3)
    return TransportPlan(
        plan=plan,
        source_potential=source_potential,
        target_potential=target_potential,
        cost=(plan * cost).sum(dim=(1, 2)),
        marginal_error=error,
        iterations=iterations,
        converged=converged,
        epsilon=epsilon,
    )


def solve_adjoint(
    rows: Float[Tensor, "*B K R"],
    source: Float[Tensor, "*B K"],
    target: Float[Tensor, "*B R"],
    gradient: Float[Tensor, "*B R"],
) -> Float[Tensor, "*B R"]:
    """Solve (diag(columns) - sum_k a_k q_k q_k^T) x = gradient: the adjoint of the plan's column equations.

    The matrix is singular along constant vectors (they do not change the plan); adding c c^T fixes that direction
    and no other. Factored in float64: R x R is small, and small epsilon makes it ill-conditioned.
    """
    weighted = source.unsqueeze(-1) * rows
    columns, c = weighted.sum(-2).double(), target.double()
    matrix = torch.diag_embed(columns) - (weighted.transpose(-1, -2) @ rows).double()
    matrix += c.unsqueeze(-1) * c.unsqueeze(-2) / c.sum(-1).clamp_min(1e-300)[..., None, None]
    # Empty columns get a row of their own. Where rows and columns fall into blocks, each block has a null direction of
    # its own, in which single precision leaves but noise: the ridge lies above it, and far below all else.
    ridge = 1e-14 if rows.dtype == torch.float64 else 1e-6
    matrix += torch.diag_embed((c == 0).double() + ridge * c.amax(-1, keepdim=True))
    factor, failed = torch.linalg.cholesky_ex(matrix)
    factor = factor.masked_fill((failed != 0)[..., None, None], torch.nan)  # never silently wrong
    return torch.cholesky_solve(gradient.double().unsqueeze(-1), factor).squeeze(-1).to(rows.dtype)


def solve_potential(
    cost: Float[Tensor, "*batch K R"],
    source: Float[Tensor, "B K"],
    target: Float[Tensor, "B R"],
    *,
    epsilon: float,
    tolerance: float,
    max_iterations: int,
    start: Float[Tensor, "B R"] | None = None,
) -> tuple[Float[Tensor, "B R"], Int64[Tensor, " B"]]:
    """The target potential of each image, with all its derivatives, and the iterations it took; no checks of input."""
    potential, iterations = _Potential.apply(cost, source, target, start, epsilon, tolerance, max_iterations)
    return potential, iterations


class _Potential(torch.autograd.Function):
    """(cost, source, target) -> the target potential g, at which the columns add up, and iterations.

    g solves F(g) = sum_k a_k q_k(g) - c = 0, so dg = -F_g^-1 dF by the implicit function theorem, however it was found.
    Both modes are written in plain operations on g itself, so that autograd can go through them again.
    """

    generate_vmap_rule = True  # for `torch.func.jacfwd`, which maps over directions, not over problems

    @staticmethod
    def forward(cost, source, target, start, epsilon, tolerance, max_iterations):
        groups = (len(source), 1) if cost.ndim == 3 else (1, len(source))
        potential, iterations = find_potential(
            cost.view(groups[0], *cost.shape[-2:]) / epsilon,
            source.reshape(*groups, source.shape[1]),
            target.reshape(*groups, target.shape[1]),
            tolerance=tolerance,
            max_iterations=max_iterations,
            start=None if start is None else start.to(target.dtype).reshape(*groups, target.shape[1]) / epsilon,
        )
        return epsilon * potential.flatten(0, 1), iterations.flatten()

    @staticmethod
    def setup_context(ctx, inputs, output):
        cost, source, target, _, ctx.epsilon, *_ = inputs
        potential, iterations = output
        ctx.mark_non_differentiable(iterations)
        ctx.save_for_backward(cost, source, target, potential)
        ctx.save_for_forward(cost, source, target, potential)

    @staticmethod
    def backward(ctx, d_potential, _):
        cost, source, target, potential = ctx.saved_tensors
        q = ((potential.unsqueeze(1) - cost) / ctx.epsilon).softmax(2)
        x = solve_adjoint(q, source, target, d_potential)
        along = q @ x.unsqueeze(2)
        d_cost = source.unsqueeze(2) * q * (x.unsqueeze(1) - along)
        d_target = ctx.epsilon * x.masked_fill(target == 0, 0.0)
        return d_cost.sum_to_size(cost.shape), -ctx.epsilon * along.squeeze(2), d_target, None, None, None, None

    @staticmethod
    def jvp(ctx, d_cost, d_source, d_target, *_):
        # Torch turns forward mode off here, and forward over forward would be wrong: on, but not for what is asked now.
        cost, source, target, potential = (forward_ad.unpack_dual(x).primal for x in ctx.saved_tensors)
        with forward_ad._set_fwd_grad_enabled(True):
            q = ((potential.unsqueeze(1) - cost) / ctx.epsilon).softmax(2)
            falls = torch.zeros_like(target)  # -epsilon dF
            if d_cost is not None:
                falls = falls + (source.unsqueeze(2) * q * (d_cost - (q * d_cost).sum(2, keepdim=True))).sum(1)
            if d_source is not None:
                falls = falls - ctx.epsilon * (d_source.unsqueeze(2) * q).sum(1)
            if d_target is not None:
                falls = falls + ctx.epsilon * d_target.masked_fill(target == 0, 0.0)
            return solve_adjoint(q, source, target, falls), None


def _rounding(histogram: Tensor) -> float:
    """By how much rounding may have changed the mass of a histogram, as a share; 0 in single precision or better."""
    eps = torch.finfo(histogram.dtype).eps if histogram.is_floating_point() else 0.0
    return eps if eps > _MASS_TOLERANCE else 0.0


def check_solver(epsilon: float, tolerance: float, max_iterations: int, name: str = "epsilon") -> None:
    """Raise ValueError unless these numbers can be solved with."""
    for each, number in ((name, epsilon), ("tolerance", tolerance)):
        if not isinstance(number, Real):
            raise ValueError(f"{each} must be a number, got {number!r}")
    if not isinstance(max_iterations, Integral):
        raise ValueError(f"max_iterations must be a whole number, got {max_iterations!r}")
    if not 0 < epsilon < math.inf:
        raise ValueError(f"{name} must be above 0 and finite, got {epsilon}; for exact transport use POT's ot.emd")
    if not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance must be above 0 and finite, got {tolerance}")
    if max_iterations < 0:
        raise ValueError(f"max_iterations must be at least 0, got {max_iterations}")


def _check_start(start: Any, target: Tensor) -> None:
    require_numbers(start=start)
    if start.shape != target.shape:
        raise ValueError(f"start must have shape (B, R) = {tuple(target.shape)}, got {tuple(start.shape)}")
    if not bool(start.where(target > 0, 0).isfinite().all()):
        raise ValueError("start must be finite where the target has mass, got NaN or infinite; leave it out")


def _check_problem(
    cost: Tensor,
    source: Tensor,
    target: Tensor,
    epsilon: float,
    tolerance: float,
    max_iterations: int,
    rounding: float,
) -> None:
    check_solver(epsilon, tolerance, max_iterations)
    if source.ndim != 2:
        raise ValueError(f"source must have shape (B, K), got {tuple(source.shape)}; add a batch axis")
    if target.ndim not in (1, 2):
        raise ValueError(f"target must have shape (R) or (B, R), got {tuple(target.shape)}")
    (B, K), R = source.shape, target.shape[-1]
    if cost.shape not in ((K, R), (B, K, R)):
        raise ValueError(
            f"cost must have shape (K, R) = {(K, R)} or (B, K, R) = {(B, K, R)} to fit source and target, "
            f"got {tuple(cost.shape)}"
        )
    if target.shape not in ((R,), (B, R)):
        raise ValueError(f"target must have shape (R) or (B, R) = {(B, R)}, got {tuple(target.shape)}")
    if K == 0 or R == 0:
        raise ValueError(f"a plan needs at least one row and one column, got K = {K}, R = {R}")
    for name, value in (("cost", cost), ("source", source), ("target", target)):
        if not bool(value.isfinite().all()):
            raise ValueError(f"{name} must be finite, got NaN or infinity; look for it upstream")
    for name, value in (("source", source), ("target", target)):
        if bool((value < 0).any()):
            raise ValueError(f"{name} must not be negative, got {value.min().item():.3g}; it is a histogram")
    mass, wanted = source.sum(1), target.sum(-1).expand(B)
    gap = (mass - wanted).abs()
    if bool((gap > (_MASS_TOLERANCE + rounding) * wanted).any()) or bool((wanted == 0).any()):
        b = int((gap / wanted.clamp_min(1e-30)).argmax())
        raise ValueError(
            f"source and target must hold the same mass, above 0; image {b} has {mass[b].item():.6g} and "
            f"{wanted[b].item():.6g}; divide each histogram by its sum"
        )


def _heatmap_svg(plan: Float[Tensor, "K R"], cells: int = 24) -> str:
    """A small picture of one plan (rows with mass only), black for the largest entry."""
    rows = plan[plan.sum(1) > 0]
    if not len(rows):  # as of numbers that are NaN
        return ""
    small = torch.nn.functional.adaptive_avg_pool2d(rows[None], (min(len(rows), cells), min(plan.shape[1], cells)))[0]
    small = small / small.amax().clamp_min(1e-30)
    squares = "".join(
        f'<rect x="{8 * x}" y="{8 * y}" width="8" height="8" fill-opacity="{small[y, x].item():.2f}"/>'
        for y in range(small.shape[0])
        for x in range(small.shape[1])
        if small[y, x] > 0.005
    )
    height, width = 8 * small.shape[0], 8 * small.shape[1]
    return f'<svg width="{width}" height="{height}" style="background:#fff;border:1px solid #999">{squares}</svg>'
