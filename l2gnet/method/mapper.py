"""The L2G mapper: discrete codes are related globally by transport to trainable references.

Paper: Gorade et al., arXiv 2502.05229 ("relating discrete codes using optimal transport and aligning codes on
a trainable reference", "without an additional weight matrix"). Cost, readouts and scaling are our reading.
"""

from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Tensor, nn

from l2gnet.method.relation import Cost, Readout, Relate, Setting, rows_of_codes, rows_of_tokens
from l2gnet.method.transport import TransportPlan, make_plan
from l2gnet.shapes import Float, Int64


@dataclass(frozen=True)
class Mapped:
    """Globally related tokens, and the plan of each image and head that related them.

    The plan has a row for each distinct code of its image, named in `codes`; images with fewer have empty rows, named
    -1. Its batch axis runs over images first, then heads: B * heads. `transport.plan` carries gradients, its
    potentials and cost are numbers.
    """

    tokens: Float[Tensor, "B N d"]
    transport: TransportPlan
    codes: Int64[Tensor, "B U"]


class L2GMapper(nn.Module):
    """Relate the tokens of an image through a transport plan to trainable references.

    Every token holds the mass 1/N, every reference receives 1/R. The aligned codes G = R T^T E give each
    reference a convex average of codes. Readout `barycentric` returns to every token N T G: token to token
    that is N R T T^T, a matrix whose rows and columns all add up to one. Readout `grid` needs R = N and
    reads G itself as the map. The only parameters are the references: no query, key or value matrix.

    Under `torch.compile` the layer is left as it is (a graph break); `torch.func.vmap` is not supported, and says so.

    Args:
        dim: d, dimension of the codes.
        references: R, number of trainable references.
        heads: the code dimension is split into this many parts, each with a plan of its own.
        epsilon: weight of the entropy, in units of the cost, which is scaled to [0, 1].
        cost: `cosine`, squared `euclidean` or (negative) `dot` product.
        readout: `barycentric` or `grid`.
        tolerance: L1 marginal error at which a plan is solved.
        max_iterations: bound on the solver's iterations.
    """

    def __init__(
        self,
        dim: int,
        references: int,
        *,
        heads: int = 1,
        epsilon: float = 0.02,
        cost: Cost = "cosine",
        readout: Readout = "barycentric",
        tolerance: float = 1e-4,
        max_iterations: int = 1000,
    ):
        super().__init__()
        if dim % heads:
            raise ValueError(f"heads must divide the code dimension {dim}, got {heads}")
        if not epsilon > 0:
            raise ValueError(f"epsilon must be above 0, got {epsilon}")
        self.references = nn.Parameter(torch.randn(heads, references, dim // heads))
        self.setting = Setting(epsilon, cost, readout, tolerance, max_iterations)

    @torch.compiler.disable
    def forward(self, tokens: Float[Tensor, "B N d"], indices: Int64[Tensor, "B N"] | None = None) -> Mapped:
        """Relate tokens; in float32 or better, also under autocast.

        With the code indices of quantised tokens, tokens of one code must be equal: the plan is then solved on codes,
        which is much faster and gives the same. Leave them out where anything was done to single tokens in between.
        """
        _, N, _ = tokens.shape
        heads, R, _ = self.references.shape
        if self.setting.readout == "grid" and R != N:
            raise ValueError(f"readout 'grid' needs as many references as tokens, got R = {R} and N = {N}")
        with torch.autocast(tokens.device.type, enabled=False):
            tokens = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
            split = rearrange(tokens, "B N (h d) -> h B N d", h=heads)
            rows = rows_of_tokens(split) if indices is None else rows_of_codes(indices)
            references = self.references.to(tokens.dtype)
            related, plan, cost, f, g, iterations = Relate.apply(split, references, rows, self.setting)
            plan, cost, f, g, iterations = (
                rearrange(x, "h B ... -> (B h) ...") for x in (plan, cost, f, g, iterations)
            )
            epsilon, tolerance = self.setting.epsilon, self.setting.tolerance
            transport = make_plan(plan.detach(), cost, f, g, torch.full_like(g, 1 / R), iterations, epsilon, tolerance)
            return Mapped(rearrange(related, "h B N d -> B N (h d)"), replace(transport, plan=plan), rows.codes)


def plan_on_codes(plan: Float[Tensor, "B U R"], codes: Int64[Tensor, "B U"], size: int) -> Float[Tensor, "B K R"]:
    """A mapper's plan with a row for each of the `size` codes of the codebook, empty for codes that are not used."""
    on_codes = plan.new_zeros(len(plan), size, plan.shape[2])
    return on_codes.scatter_add(1, codes.clamp_min(0).unsqueeze(2).expand_as(plan), plan)
