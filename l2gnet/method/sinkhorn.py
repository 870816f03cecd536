"""The iterations of entropic transport: from costs and histograms to the target potential of each image.

Sinkhorn's fixed-point map (Cuturi 2013, arXiv 1306.0895) on scalings or logarithms, by heavy-ball steps (Polyak 1964).
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from l2gnet.shapes import Float, Int64

_CHECK_EVERY = 4  # iterations between two looks at the marginal error, after the first few
# Potentials differ by no more than the cost does. With kernel and scalings centred their products stay within
# exp(+-range / epsilon), far inside the numbers of each type: a cosine at epsilon 0.02 ranges over 50. Beyond its range
# single precision turns to double, whose products are still much cheaper than logarithms; beyond both ranges the solver
# works with logarithms.
_LARGEST_EXPONENT = {torch.float32: 51.0, torch.float64: 400.0}


def find_potential(
    cost: Float[Tensor, "groups K R"],
    source: Float[Tensor, "groups B K"],
    target: Float[Tensor, "groups B R"],
    *,
    tolerance: float,
    max_iterations: int,
    start: Float[Tensor, "groups B R"] | None = None,
) -> tuple[Float[Tensor, "groups B R"], Int64[Tensor, "groups B"]]:
    """Potentials g of B images for each cost, with the iterations each image took; no gradients, no checks of input.

    Costs and potentials are in units of epsilon. A Sinkhorn iteration g <- g + log(target / columns(g)) is a
    fixed-point map whose linear part has its eigenvalues in [0, eta]. From the rate at which an image's error falls eta
    is estimated, and the heavy-ball steps that are best for it are taken (Polyak 1964): sqrt(1 - eta) then plays the
    part of 1 - eta. Far from the solution, where the map is not linear, they may fail: an image whose error has grown
    goes back, and on by Sinkhorn's own steps, which never let it grow. An image that has converged does not move any
    more.
    """
    if target.numel() == 0:  # no image
        return target, target.new_zeros(target.shape[:-1], dtype=torch.int64)
    given, (dtype, columns) = cost.dtype, _way_to_solve(cost)
    cost, source, target = cost.to(dtype), source.to(dtype), target.to(dtype)
    log_columns = columns(cost, source)
    empty = target == 0
    log_target = target.log()
    potential = torch.zeros_like(target) if start is None else _within_reach(start.to(dtype), empty, cost)
    potential = potential.masked_fill(empty, -torch.inf)
    previous = potential
    # Half the tolerance, because the error that is reported is measured on another summation of the plan.
    allowed = 0.5 * tolerance * target.sum(-1, keepdim=True).clamp_min(torch.finfo(target.dtype).tiny)
    moving = torch.ones_like(allowed, dtype=torch.bool)
    iterations = torch.zeros_like(moving, dtype=torch.int64)
    pace = _Pace(potential)
    for iteration in range(max_iterations):
        change = (log_target - log_columns(potential)).masked_fill_(empty, 0.0)
        failed = None
        if iteration < 2 * _CHECK_EVERY or iteration % _CHECK_EVERY == 0:
            # |target - columns| = target |1 - exp(-change)|
            error = (target * torch.expm1(-change)).abs_().sum(-1, keepdim=True)
            error.masked_fill_(change.isposinf().any(-1, keepdim=True), torch.nan)  # so far that columns underflow
            moving = moving & ~(error <= allowed)
            if not bool(moving.any()):
                break
            if iteration == _CHECK_EVERY - 1 or (iteration and iteration % _CHECK_EVERY == 0):
                failed = pace.learn(iteration, error, potential)
        following = torch.addcmul(potential, pace.step, change)
        if iteration >= _CHECK_EVERY:
            following += (pace.momentum * (potential - previous)).masked_fill_(empty, 0.0)
        if failed is not None:  # back, and without the momentum of the steps that failed, which may be NaN
            following = torch.where(failed, pace.best, following)
            potential = torch.where(failed, pace.best, potential)
        previous, potential = potential, torch.where(moving, following, potential)
        iterations += moving
    return potential.to(given), iterations.squeeze(-1)


class _Pace:
    """Step size and momentum of each image, from the rate at which its error falls.

    Heavy-ball steps with the eigenvalues of 1 - P in [gap, 1] are best with step (2 / (1 + s))^2 and momentum
    ((1 - s) / (1 + s))^2, s = sqrt(gap). Where the error falls by x an iteration, the slowest direction obeys
    x^2 - (1 + momentum - step * gap) x + momentum = 0, which is solved for its gap.
    """

    def __init__(self, potential: Tensor):
        one = torch.ones_like(potential[..., :1])
        self.step, self.momentum, self.gap = one, torch.zeros_like(one), one
        self.rest, self.next_rest = torch.zeros_like(one), one  # looks with Sinkhorn's own steps, after a failure
        self.iteration, self.error, self.best = 0, one * torch.inf, potential  # at the last look that was no failure

    def learn(self, iteration: int, error: Tensor, potential: Tensor) -> Tensor:
        """Take in the errors of an iteration; says which images must go back to `best`."""
        grown = ~(error <= self.error) & (self.momentum > 0)  # Sinkhorn's own steps grow it by rounding at most
        failed = grown | error.isnan()
        rate = torch.where(failed, 1.0, error / self.error) ** (1 / (iteration - self.iteration))
        seen = torch.maximum(rate, self.momentum.sqrt() + 1e-6)
        gap = ((1 + self.momentum - seen - self.momentum / seen) / self.step).clamp(1e-4, 1.0)
        self.gap = torch.where(self.momentum > 0, torch.minimum(self.gap, gap), gap)
        self.rest = torch.where(failed, self.next_rest, (self.rest - 1).clamp_min(0))
        self.next_rest = torch.where(failed, (2 * self.next_rest).clamp_max(16), self.next_rest)
        root = torch.where(self.rest > 0, 1.0, self.gap.sqrt())
        self.step, self.momentum = (2 / (1 + root)) ** 2, ((1 - root) / (1 + root)) ** 2
        self.best = torch.where(failed, self.best, potential)
        self.iteration, self.error = iteration, torch.where(failed, self.error, error)
        return failed


def _within_reach(start: Tensor, empty: Tensor, cost: Tensor) -> Tensor:
    """Potentials, the largest at 0, as near to each other as those of a solution: else exponentials could overflow."""
    low, high = cost.aminmax()
    return (start - start.masked_fill(empty, -torch.inf).amax(-1, keepdim=True)).clamp_min(low - high)


def _way_to_solve(cost: Tensor) -> tuple[torch.dtype, Callable[..., Callable[[Tensor], Tensor]]]:
    low, high = cost.aminmax()
    # Elsewhere products of single precision are rounded to fewer digits than a plan needs: TF32 or bfloat16.
    exact = cost.dtype == torch.float64 or torch.get_float32_matmul_precision() == "highest"
    for dtype in (cost.dtype, torch.float64)[not exact :]:
        if float(high - low) <= _LARGEST_EXPONENT[dtype]:
            return dtype, partial(_scaled_columns, middle=(low + high) / 2)
    return cost.dtype, _log_columns


def _scaled_columns(cost: Tensor, source: Tensor, middle: Tensor) -> Callable[[Tensor], Tensor]:
    """Logarithm of the column sums at a potential, by two matrix products with one kernel for all images.

    The kernel is centred at the middle of all costs.
    """
    kernel = (middle - cost).exp_()
    transposed = kernel.transpose(-1, -2).contiguous()  # the other layout makes the product several times slower

    def log_columns(potential: Tensor) -> Tensor:
        # Potentials mean the same with any constant added, and momentum may carry the constant far away.
        low = potential.masked_fill(potential.isneginf(), torch.inf).amin(-1, keepdim=True)
        scaled = (potential - (low + potential.amax(-1, keepdim=True)) / 2).exp()
        return (scaled * torch.bmm(source / torch.bmm(scaled, transposed), kernel)).log_()

    return log_columns


def _log_columns(cost: Tensor, source: Tensor) -> Callable[[Tensor], Tensor]:
    """The same where the kernel would underflow."""
    log_source = source.log().unsqueeze(-1)

    def log_columns(potential: Tensor) -> Tensor:
        log_rows = (potential.unsqueeze(-2) - cost.unsqueeze(1)).log_softmax(dim=-1)
        return (log_source + log_rows).logsumexp(dim=-2)

    return log_columns
