"""Entropic optimal transport between histograms, with exact implicit gradients.

The plan of image b is T = argmin <T, C> - epsilon * entropy(T) with row sums `source[b]` and column sums
`target[b]` (Cuturi 2013, arXiv 1306.0895). One potential g (R) decides it: given g, the rows are
T_kr = a_k q_kr with q_k = softmax_r((g_r - C_kr) / epsilon), so that row sums are exact by construction,
and g is found such that the columns add up.
"""

import warnings
from dataclasses import dataclass
from html import escape

import torch
from torch import Tensor

from l2gnet.method.sinkhorn import find_potential
from l2gnet.shapes import Bool, Float, Int64

_MASS_TOLERANCE = 1e-4  # relative; histograms counted in float32 stay far below it


class ConvergenceWarning(UserWarning):
    """A transport plan was returned before its marginal error fell below the tolerance."""


@dataclass(frozen=True)
class TransportPlan:
    """A batch of transport plans and how far each can be trusted.

    T_kr = exp((f_k + g_r - C_kr) / epsilon) with the potentials f and g; `cost` is <T, C>, `marginal_error`
    the L1 distance of the plan's column sums from the target as a share of the mass, and `converged` says whether
    that is within the tolerance.
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

    The plan is differentiable in cost, source and target: gradients are those of the exact plan (implicit
    function theorem), whatever the number of iterations, and no iteration is kept in memory. Empty rows and
    columns are allowed and stay empty. Half-precision input is solved in float32.

    Args:
        cost: price of moving one unit of mass, finite.
        source: non-negative row sums, one histogram an image.
        target: non-negative column sums, (R) for all images or (B, R); of the same total mass as `source`.
        epsilon: weight of the entropy, in units of the cost, above 0.
        tolerance: L1 marginal error, as a share of the mass, at which an image is solved.
        max_iterations: bound on the iterations; beyond it a `ConvergenceWarning` is given.
        start: target potentials to start from, for example those of an earlier plan.

    Raises:
        ValueError: shapes do not fit, a number is not finite or negative, or the masses differ.
    """
    with torch.autocast(cost.device.type, enabled=False):
        dtype = torch.promote_types(torch.promote_types(cost.dtype, source.dtype), torch.float32)
        cost, source, target = cost.to(dtype), source.to(dtype), target.to(dtype)
        _check_problem(cost, source, target, epsilon)
        target = target.expand(len(source), -1)
        by_image = len(source) if cost.ndim == 3 else 1
        potential, iterations = find_potential(
            cost.detach().view(by_image, *cost.shape[-2:]),
            source.detach().view(by_image, -1, source.shape[1]),
            target.detach().reshape(by_image, -1, target.shape[1]),
            epsilon=epsilon,
            tolerance=tolerance,
            max_iterations=max_iterations,
            start=None if start is None else start.to(dtype).view(by_image, -1, target.shape[1]),
        )
        potential = _with_implicit_gradient(potential.flatten(0, 1), cost, source, target, epsilon)
        scores = (potential.unsqueeze(1) - cost) / epsilon
        plan = source.unsqueeze(2) * scores.softmax(dim=2)
        source_potential = epsilon * (source.log() - scores.logsumexp(dim=2))
        return make_plan(
            plan, cost, source_potential, potential, target.detach(), iterations.flatten(), epsilon, tolerance
        )


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
        warnings.warn(
            f"transport not converged: marginal error {error.max().item():.1e} after {int(iterations.max())} "
            f"iterations, tolerance {tolerance:.1e}; raise epsilon (now {epsilon:g}) or max_iterations",
            ConvergenceWarning,
            stacklevel=3,
        )
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
    # Empty columns get a row of their own; the slight ridge is far below what single precision can see.
    ridge = 1e-14 if rows.dtype == torch.float64 else 1e-9
    matrix += torch.diag_embed((c == 0).double() + ridge * c.amax(-1, keepdim=True))
    factor = torch.linalg.cholesky_ex(matrix).L
    return torch.cholesky_solve(gradient.double().unsqueeze(-1), factor).squeeze(-1).to(rows.dtype)


def _with_implicit_gradient(potential: Tensor, cost: Tensor, source: Tensor, target: Tensor, epsilon: float) -> Tensor:
    """The same potential, carrying the gradient of the exact solution.

    g solves F(g) = sum_k a_k q_k(g) - c = 0. One Newton step from the solution, g - J^-1 F(g) with J held
    constant, has the value g and, by the implicit function theorem, the derivative of g.
    """
    if not (torch.is_grad_enabled() and (cost.requires_grad or source.requires_grad or target.requires_grad)):
        return potential
    rows = ((potential.unsqueeze(1) - cost) / epsilon).softmax(dim=2)
    residual = ((source.unsqueeze(2) * rows).sum(1) - target).masked_fill(target == 0, 0.0)
    step = epsilon * _Adjoint.apply(residual, rows.detach(), source.detach(), target.detach())
    return potential - (step - step.detach())


class _Adjoint(torch.autograd.Function):
    """x -> matrix^-1 x; the matrix is symmetric and held constant, so the gradient is the same map."""

    @staticmethod
    def forward(ctx, residual, rows, source, target):
        ctx.save_for_backward(rows, source, target)
        return torch.zeros_like(residual)

    @staticmethod
    def backward(ctx, gradient):
        return solve_adjoint(*ctx.saved_tensors, gradient), None, None, None


def _check_problem(cost: Tensor, source: Tensor, target: Tensor, epsilon: float) -> None:
    if not epsilon > 0:
        raise ValueError(f"epsilon must be above 0, got {epsilon}; for exact transport use POT's ot.emd")
    if source.ndim != 2:
        raise ValueError(f"source must have shape (B, K), got {tuple(source.shape)}; add a batch axis")
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
    if bool((gap > _MASS_TOLERANCE * wanted).any()) or bool((wanted == 0).any()):
        b = int((gap / wanted.clamp_min(1e-30)).argmax())
        raise ValueError(
            f"source and target must hold the same mass, above 0; image {b} has {mass[b].item():.6g} and "
            f"{wanted[b].item():.6g}; divide each histogram by its sum"
        )


def _heatmap_svg(plan: Float[Tensor, "K R"], cells: int = 24) -> str:
    """A small picture of one plan (rows with mass only), black for the largest entry."""
    rows = plan[plan.sum(1) > 0]
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
