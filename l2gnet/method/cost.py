"""The cost of moving tokens to references, on one scale for every run, and the way back through it.

Letters: h heads, B images, U rows, R references, d dimension of a head.
"""

from typing import Literal

import torch
from torch import Tensor

from l2gnet.shapes import Float

Cost = Literal["cosine", "euclidean", "dot"]
_NO_LENGTH = 1e-12  # of a vector that has no direction


def unit_cost(
    tokens: Float[Tensor, "h *B U d"], references: Float[Tensor, "h R d"], kind: Cost
) -> Float[Tensor, "h *B U R"]:
    """Cost of moving tokens to references, scaled to [0, 1] so that one epsilon means the same for every run.

    Cosine is bounded by itself, as (1 - cos) / 2. The squared Euclidean distance and the dot product are
    divided by a bound on their range that the longest token of each image and the longest reference give;
    the bound is held constant in the gradient.
    """
    return cost_and_factor(tokens, references, kind)[0]


def cost_and_factor(tokens: Tensor, references: Tensor, kind: Cost) -> tuple[Tensor, Tensor]:
    """The cost, and the factor in front of its product <token, reference>."""
    z = directions(references, kind).view(len(references), *[1] * (tokens.ndim - 3), *references.shape[1:])
    length = tokens.detach().norm(dim=-1, keepdim=True)
    if kind == "cosine":
        return 0.5 - _unit(tokens, length) @ (0.5 * z).transpose(-1, -2), _inverse(length, _NO_LENGTH, 0.5)
    longest = references.detach().norm(dim=-1).amax(dim=1).view(-1, *[1] * (tokens.ndim - 1))
    tiny = torch.finfo(tokens.dtype).tiny
    product = tokens @ z.transpose(-1, -2)
    if kind == "dot":
        factor = _inverse(length.amax(dim=-2, keepdim=True) * longest, tiny, 0.5)
        return 0.5 - factor * product, factor.expand(length.shape)
    factor = _inverse((length.amax(dim=-2, keepdim=True) + longest).square(), tiny, 2)
    squares = tokens.square().sum(-1, keepdim=True) + z.square().sum(-1).unsqueeze(-2)
    return factor * (squares / 2 - product).clamp_min(0), factor.expand(length.shape)


def _inverse(length: Tensor, least: float, over: float) -> Tensor:
    """`over` by a length; 0 where there is none, or its gradient would be beyond all measure."""
    return torch.where(length > least, over / length.clamp_min(least), 0)


def directions(vectors: Tensor, kind: Cost) -> Tensor:
    """Vectors as the cost looks at them: of unit length for the cosine."""
    return _unit(vectors, vectors.detach().norm(dim=-1, keepdim=True)) if kind == "cosine" else vectors


def _unit(vectors: Tensor, length: Tensor) -> Tensor:
    """Vectors by their lengths; 0, with all derivatives, where there is no direction."""
    there = ~(length <= _NO_LENGTH)  # NaN stays NaN
    safe = vectors.where(there, 1)  # for the length of 0 has no derivatives
    return safe / safe.norm(dim=-1, keepdim=True).where(there, torch.inf)


def off_lengthwise(pull: Float[Tensor, "h B N d"], tokens: Float[Tensor, "h B N d"]) -> Float[Tensor, "h B N d"]:
    """Pulls on tokens without what would only change their lengths, which their cosines do not know."""
    share = torch.linalg.vecdot(pull, tokens) / tokens.square().sum(-1).clamp_min(torch.finfo(tokens.dtype).tiny)
    return pull.addcmul(tokens, share.unsqueeze(-1), value=-1)


def through_normalisation(gradient: Tensor, direction: Tensor, vector: Tensor) -> Tensor:
    """From the gradient of a vector of unit length to that of the vector."""
    along = (gradient * direction).sum(-1, keepdim=True) * direction
    return (gradient - along) * _inverse(vector.norm(dim=-1, keepdim=True), _NO_LENGTH, 1)
