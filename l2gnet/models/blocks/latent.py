"""What a bottleneck gives: new features, and what a viewer wants to know of how they came about."""

from dataclasses import dataclass

from torch import Tensor

from l2gnet.method.transport import TransportPlan
from l2gnet.models.blocks.attention import AttentionMap
from l2gnet.models.blocks.relations import Related
from l2gnet.shapes import Float, Int64


@dataclass(frozen=True)
class Latent:
    """What a bottleneck makes of the features of its level, and what a viewer wants to know of it.

    A bottleneck with a codebook gives `loss` (the quantiser's), `codes`, `distances` of the tokens from them (as a
    share of the token's length) and, while training, `revived` (dead codes that this batch replaced); one with a
    mapper gives `transport`, the plan that sends, and `receiving`, the one that receives (the same, where the relation
    is symmetric), one with attention a map for each of its layers.
    """

    features: Float[Tensor, "B C h w"]
    loss: Float[Tensor, ""] | None = None
    codes: Int64[Tensor, "B h w"] | None = None
    distances: Float[Tensor, "B h w"] | None = None
    revived: Int64[Tensor, ""] | None = None
    transport: TransportPlan | None = None
    receiving: TransportPlan | None = None
    attention: tuple[AttentionMap | Related, ...] = ()
