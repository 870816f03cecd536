"""The L2G mapper: discrete codes are related globally by transport to trainable references.

Paper: Gorade et al., arXiv 2502.05229 ("relating discrete codes using optimal transport and aligning codes on
a trainable reference", "without an additional weight matrix"). Cost, readouts and scaling are our reading.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from l2gnet.shapes import Float, Int64
from l2gnet.transport import TransportPlan, solve_transport

Cost = Literal["cosine", "euclidean", "dot"]
Readout = Literal["barycentric", "grid"]


@dataclass(frozen=True)
class Mapped:
    """Globally related tokens, and the token-to-reference plan of each image and head that related them.

    The plan's batch axis runs over images first, then heads: B * heads.
    """

    tokens: Float[Tensor, "B N d"]
    transport: TransportPlan


class L2GMapper(nn.Module):
    """Relate the tokens of an image through a transport plan to trainable references.

    Every token holds the mass 1/N, every reference receives 1/R. The aligned codes G = R T^T E give each
    reference a convex average of codes. Readout `barycentric` returns to every token N T G: token to token
    that is N R T T^T, a matrix whose rows and columns all add up to one. Readout `grid` needs R = N and
    reads G itself as the map. The only parameters are the references: no query, key or value matrix.

    Args:
        dim: d, dimension of the codes.
        references: R, number of trainable references.
        heads: the code dimension is split into this many parts, each with a plan of its own.
        epsilon: weight of the entropy, in units of the cost, which is scaled to [0, 1].
        cost: `cosine`, squared `euclidean` or (negative) `dot` product.
        readout: `barycentric` or `grid`.
    """

    def __init__(
        self,
        dim: int,
        references: int,
        *,
        heads: int = 1,
        epsilon: float = 0.1,
        cost: Cost = "cosine",
        readout: Readout = "barycentric",
    ):
        super().__init__()
        if dim % heads:
            raise ValueError(f"heads must divide the code dimension {dim}, got {heads}")
        self.references = nn.Parameter(torch.randn(heads, references, dim // heads))
        self.epsilon, self.cost, self.readout = epsilon, cost, readout

    def forward(self, tokens: Float[Tensor, "B N d"]) -> Mapped:
        """Relate tokens (B, N, d); in float32, also under autocast."""
        B, N, _ = tokens.shape
        heads, R, _ = self.references.shape
        if self.readout == "grid" and R != N:
            raise ValueError(f"readout 'grid' needs as many references as tokens, got R = {R} and N = {N}")
        with torch.autocast(tokens.device.type, enabled=False):
            split = rearrange(tokens.float(), "B N (h d) -> B h N d", h=heads)
            cost = rearrange(unit_cost(split, self.references, self.cost), "B h N R -> (B h) N R")
            transport = solve_transport(
                cost, cost.new_full((B * heads, N), 1 / N), cost.new_full((R,), 1 / R), epsilon=self.epsilon
            )
            plan = rearrange(transport.plan, "(B h) N R -> B h N R", h=heads)
            aligned = R * plan.transpose(2, 3) @ split
            related = N * plan @ aligned if self.readout == "barycentric" else aligned
            return Mapped(rearrange(related, "B h N d -> B N (h d)"), transport)


def unit_cost(
    tokens: Float[Tensor, "B h N d"], references: Float[Tensor, "h R d"], kind: Cost
) -> Float[Tensor, "B h N R"]:
    """Cost of moving tokens to references, scaled to [0, 1] so that one epsilon means the same for every run.

    Cosine is bounded by itself, as (1 - cos) / 2. The squared Euclidean distance and the dot product are
    divided by a bound on their range that the longest token of each image and the longest reference give;
    the bound is held constant in the gradient.
    """
    if kind == "cosine":
        return (1 - F.normalize(tokens, dim=-1) @ F.normalize(references, dim=-1).transpose(-1, -2)) / 2
    longest_token = tokens.detach().norm(dim=-1).amax(dim=-1)[..., None, None]
    longest_reference = references.detach().norm(dim=-1).amax(dim=-1)[:, None, None]
    product = tokens @ references.transpose(-1, -2)
    tiny = torch.finfo(tokens.dtype).tiny
    if kind == "dot":
        return (1 - product / (longest_token * longest_reference).clamp_min(tiny)) / 2
    squares = tokens.square().sum(-1, keepdim=True) + references.square().sum(-1)[:, None]
    return (squares - 2 * product).clamp_min(0) / (longest_token + longest_reference).square().clamp_min(tiny)


def plan_on_codes(plan: Float[Tensor, "B N R"], indices: Int64[Tensor, "B N"], codes: int) -> Float[Tensor, "B K R"]:
    """The same plan on codes: rows of tokens with one code are equal, and add up to the code's row (K, R)."""
    on_codes = plan.new_zeros(len(plan), codes, plan.shape[2])
    return on_codes.scatter_add(1, indices.unsqueeze(2).expand_as(plan), plan)
