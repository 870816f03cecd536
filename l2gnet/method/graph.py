"""The relation of operations that a graph can hold for any batch, for `torch.export` and ONNX; without gradients.

The relation of training asks how many distinct codes an image has, which no fixed graph can know. Here it works on
tokens, with Sinkhorn's own steps in a loop of the graph: more arithmetic, and the same plan within the tolerance.
"""

import torch
from einops import rearrange
from torch import Tensor
from torch._higher_order_ops.while_loop import while_loop

from l2gnet.errors import ConfigError
from l2gnet.method.cost import unit_cost
from l2gnet.method.plans import Setting
from l2gnet.method.transport import TransportPlan
from l2gnet.shapes import Float

_SMALLEST_EPSILON = 0.005  # exp(+-2 * cost / epsilon), cost in [0, 1], lies far inside the numbers of float64
_LONGEST_LOOP = 100  # times the iterations that training allows: these steps are plain ones, without momentum


def require_graph(setting: Setting) -> None:
    """Raise ConfigError where an epsilon is too small for scalings."""
    smallest = min(setting.epsilons)
    if smallest < _SMALLEST_EPSILON:
        rule = f"a model to export must have an epsilon of at least {_SMALLEST_EPSILON}"
        raise ConfigError(f"{rule}, got {smallest}; train one with more entropy")


def relate_in_graph(
    tokens: Float[Tensor, "h B N d"],
    references: Float[Tensor, "ph R d"],
    places: Float[Tensor, "N x"],
    setting: Setting,
    receivers: Float[Tensor, "h B N d"] | None = None,
) -> tuple[Float[Tensor, "h B M dx"], list[TransportPlan], Float[Tensor, "h B R dx"]]:
    """Related tokens, plans and slots, as of `Relate`; a plan has a row for each token, also for those of one code.

    `receivers` may be others than the tokens.

    Raises:
        ConfigError: an epsilon is too small for scalings.
    """
    require_graph(setting)
    tokens, references = tokens.detach(), references.detach()
    h, N, R = len(tokens), tokens.shape[2], references.shape[1]
    both = (tokens, tokens if receivers is None else receivers.detach())
    solved = [_solve(*of, setting) for of in zip(both, references.split(h), setting.epsilons, strict=False)]
    values = torch.cat([tokens, places.expand(*tokens.shape[:2], *places.shape)], dim=-1)
    aligned = (R / N) * (solved[0][0].transpose(-1, -2) @ values)
    related = aligned if setting.readout == "grid" else solved[-1][0] @ aligned
    return related, [plan for _, plan in solved], aligned


def _solve(
    tokens: Float[Tensor, "h B N d"], references: Float[Tensor, "h R d"], epsilon: float, setting: Setting
) -> tuple[Float[Tensor, "h B N R"], TransportPlan]:
    """Each token's way to the references, and the plan.

    Sinkhorn's iteration on scalings (Cuturi 2013, arXiv 1306.0895), in float64, to half the tolerance.
    """
    (heads, B, N, _), R = tokens.shape, references.shape[1]
    cost = unit_cost(tokens, references, setting.cost).double()
    lowest = cost.amin(-1, keepdim=True)
    kernel = ((lowest - cost) / epsilon).exp()
    allowed = setting.tolerance / 2

    def unsolved(iteration: Tensor, scale: Tensor, error: Tensor) -> Tensor:
        return (error > allowed).any() & (iteration < _LONGEST_LOOP * setting.max_iterations)

    def step(iteration: Tensor, scale: Tensor, error: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = N * (kernel @ scale.transpose(-1, -2))
        columns = scale * (rows.reciprocal().transpose(-1, -2) @ kernel)
        error = (columns - 1 / R).abs().sum(-1, keepdim=True)
        # A solved image stays, so that its result does not depend on the others of its batch.
        return iteration + 1, torch.where(error > allowed, scale / (R * columns), scale), error

    scale, error = kernel.new_ones(heads, B, 1, R), kernel.new_ones(heads, B, 1, 1)
    iteration = torch.zeros((), dtype=torch.int64, device=scale.device)
    iteration, scale, error = while_loop(unsolved, step, (iteration, scale, error))
    scaled = kernel * scale
    total = scaled.sum(-1, keepdim=True)
    q = (scaled / total).to(tokens.dtype)
    plan = rearrange(q / N, "h B N R -> (B h) N R")
    error = rearrange(error, "h B 1 1 -> (B h)").to(tokens.dtype)
    source = epsilon * (-torch.log(N * total)) + lowest
    return q, TransportPlan(
        plan=plan,
        source_potential=rearrange(source, "h B N 1 -> (B h) N").to(tokens.dtype),
        target_potential=rearrange(epsilon * scale.log(), "h B 1 R -> (B h) R").to(tokens.dtype),
        cost=(plan * rearrange(cost, "h B N R -> (B h) N R")).sum((1, 2)).to(tokens.dtype),
        marginal_error=error,
        iterations=iteration * torch.ones_like(error, dtype=torch.int64),
        converged=error <= setting.tolerance,
        epsilon=epsilon,
    )
