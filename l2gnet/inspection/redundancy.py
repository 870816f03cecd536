"""How redundant a relation between tokens is: the fault that the L2GNet paper finds with self-attention.

Attention maps and the relation that a transport plan makes are both matrices (N, N) with rows that add up to one, so
that they can be measured alike. What is measured is our choice.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from l2gnet.inspection.changed_parts import evaluating
from l2gnet.method.rows import rows_of_codes, spread
from l2gnet.models.backbone import SegmentationModel
from l2gnet.shapes import Float, Int64


@dataclass(frozen=True)
class Redundancy:
    """Means over the matrices of a relation.

    `entropy` of a row as a share of log N: 0 looks at one token, 1 at all alike. `similarity` is the mean cosine
    between the rows of two tokens: at 1 all tokens take up the same. `starved` and `flooded` are the smallest and
    largest column sum, what a token gives to all the others together: both 1 where the matrix is doubly stochastic.
    """

    entropy: float
    similarity: float
    starved: float
    flooded: float


def redundancy(relation: Float[Tensor, "B N N"]) -> Redundancy:
    """Measure matrices whose rows add up to one.

    Raises:
        ValueError: there are fewer than two tokens.
    """
    N = relation.shape[1]
    if N < 2:
        raise ValueError(f"a relation needs two tokens or more, got {N}")
    relation = relation.double()
    entropy = torch.special.entr(relation).sum(2) / torch.tensor(N).double().log()
    direction = torch.nn.functional.normalize(relation, dim=2).sum(1)
    pairs = direction.square().sum(1) - N  # the cosines of all ordered pairs, without those of a row with itself
    columns = relation.sum(1)
    return Redundancy(
        entropy=float(entropy.mean()),
        similarity=float((pairs / (N * (N - 1))).mean()),
        starved=float(columns.amin(1).mean()),
        flooded=float(columns.amax(1).mean()),
    )


@torch.no_grad()
def relations(model: SegmentationModel, images: Float[Tensor, "B C H W"]) -> dict[str, Float[Tensor, "_ N N"]]:
    """The relations between bottleneck tokens that a model makes: "plan", or "layer 1", "layer 2" and so on.

    Heads are matrices of their own. A model that relates no tokens has none.
    """
    with evaluating(model):
        latent = model.trace(images).latent
    found = {f"layer {number}": layer.matrix().flatten(0, 1) for number, layer in enumerate(latent.attention, start=1)}
    if latent.transport is not None and latent.receiving is not None:
        sent = _of_tokens(latent.transport.plan, latent.codes)
        received = _of_tokens(latent.receiving.plan, None if model.tokens_receive else latent.codes)
        found["plan"] = sent.shape[1] * sent.shape[2] * received @ sent.transpose(1, 2)
    return found


def _of_tokens(plan: Float[Tensor, "Bh U R"], codes: Int64[Tensor, "B h w"] | None) -> Float[Tensor, "Bh N R"]:
    """A plan with a row for each token; where there are codes, its rows are theirs."""
    if codes is None:
        return plan
    rows = rows_of_codes(codes.flatten(1))
    by_head = plan.unflatten(0, (len(codes), -1)).transpose(0, 1)
    share = by_head / rows.counts.clamp_min(1).unsqueeze(2)
    return spread(share, rows.row).transpose(0, 1).flatten(0, 1)
