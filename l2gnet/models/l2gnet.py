"""L2GNet: discrete codes in the bottleneck, related globally by optimal transport (arXiv 2502.05229).

The published text gives the idea; sizes, the two plans, tokens that receive as they were before quantisation, readout
and the order of the small layers are our reading.
What it is to be compared with stands at the same place: no relation, the image's mean, self-attention, and tokens that
are not quantised.
"""

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from l2gnet.checks import require
from l2gnet.method.codebook import Codebook
from l2gnet.method.cost import Cost
from l2gnet.method.mapper import L2GMapper, Mapped
from l2gnet.method.places import waves, waves_size
from l2gnet.method.plans import Readout
from l2gnet.models.backbone import SegmentationUNet
from l2gnet.models.blocks.discrete import TokenBottleneck, discrete_latent
from l2gnet.models.blocks.latent import Latent
from l2gnet.models.blocks.relations import MeanRelation, SelfAttention
from l2gnet.models.settings import Positions, Receivers, Relation
from l2gnet.shapes import Float

Mapper = L2GMapper | SelfAttention | MeanRelation


class L2GBottleneck(TokenBottleneck):
    """Features to codes, what each token hears of all codes beside its own, and back to features.

    What a token is given by the relation stands beside it, in channels of its own, so that the convolution which
    follows can tell sender from receiver. Only the symmetric mapper adds it to the token, as version 0.1 did.

    Args:
        features: C, channels of the features.
        dim: d, dimension of a token.
        codebook: the quantiser; without one tokens stay as they are.
        mapper: relates the tokens; without one they stay alone.
        placed: whether each token also says where in the picture it lies.
        receivers: what receives from the references that codes are sent to: the codes, or the tokens as they were
            before they were quantised.
    """

    def __init__(
        self,
        features: int,
        dim: int,
        codebook: Codebook | None,
        mapper: Mapper | None,
        *,
        placed: bool = False,
        receivers: Receivers = "tokens",
    ):
        super().__init__(features, dim)
        self.codebook, self.mapper, self.placed = codebook, mapper, placed
        two_plans = isinstance(mapper, L2GMapper) and mapper.relation == "send-receive"
        self.tokens_receive = two_plans and codebook is not None and receivers == "tokens"
        self.added = isinstance(mapper, L2GMapper) and mapper.relation == "symmetric"
        beside = mapper.given if mapper is not None and not self.added else 0
        self.from_tokens = nn.Conv2d(dim + beside + placed * waves_size(), features, kernel_size=1)

    def forward(self, features: Float[Tensor, "B C h w"]) -> Latent:
        """Quantise, relate, and set beside each token what the relation gives it."""
        shape = (features.shape[2], features.shape[3])
        tokens = unquantised = self.tokens(features)
        quantised = None if self.codebook is None else self.codebook(tokens)
        if quantised is not None:
            tokens = quantised.tokens
        parts = [tokens]
        related = None
        if self.mapper is not None:
            indices = None if quantised is None else quantised.indices
            receivers = (unquantised,) if self.tokens_receive else ()
            related = self.mapper(tokens, indices, shape, *receivers)
            parts = [tokens + related.tokens] if self.added else [tokens, related.tokens]
        if self.placed:
            parts.append(waves(*shape, like=tokens).expand(tokens.shape[0], -1, -1))  # len() would fix the batch
        whole = rearrange(torch.cat(parts, dim=2), "B (h w) d -> B d h w", h=shape[0])
        plans: dict[str, Any] = {}
        if isinstance(related, Mapped):
            plans = {"transport": related.transport, "receiving": related.receiving}
        seen = () if related is None or plans or related.queries is None else (related,)
        changed = self.from_tokens(whole.to(features.dtype))
        if quantised is None:
            return Latent(changed, attention=seen, **plans)
        return discrete_latent(changed, quantised, attention=seen, **plans)


def build(
    *,
    channels: int = 1,
    classes: int = 4,
    width: int = 16,
    depth: int = 4,
    deep_supervision: bool = False,
    tokens_at: int = 0,
    codes: int = 256,
    code_dim: int = 64,
    commitment: float = 0.0,
    relation: Relation = "send-receive",
    positions: Positions = "none",
    receivers: Receivers = "tokens",
    references: int = 16,
    heads: int = 4,
    epsilon: float = 0.02,
    epsilon_receive: float = 0.05,
    cost: Cost = "cosine",
    readout: Readout = "barycentric",
) -> SegmentationUNet:
    """Build L2GNet: the U-Net backbone with a codebook of `codes` x `code_dim` and `references` (pairs of) references.

    Raises:
        ConfigError: positions do not fit the relation, or tokens are to lie where the network has no level.
    """
    require(
        positions != "relative" or relation in ("send-receive", "attention"),
        "positions",
        f"none or absolute for relation {relation!r}",
        positions,
    )
    mapper: Mapper | None = None
    match relation:
        case "send-receive" | "symmetric":
            mapper = L2GMapper(
                code_dim,
                references,
                heads=heads,
                relation=relation,
                epsilon=epsilon,
                epsilon_receive=epsilon_receive,
                positions=positions == "relative",
                cost=cost,
                readout=readout,
            )
        case "attention":
            mapper = SelfAttention(code_dim, heads, positions=positions == "relative")
        case "mean":
            mapper = MeanRelation(code_dim)
    codebook = Codebook(codes, code_dim, commitment=commitment) if codes else None
    return SegmentationUNet(
        lambda features: L2GBottleneck(
            features, code_dim, codebook, mapper, placed=positions == "absolute", receivers=receivers
        ),
        channels=channels,
        classes=classes,
        width=width,
        depth=depth,
        deep_supervision=deep_supervision,
        tokens_at=tokens_at,
    )


def build_published(
    *,
    channels: int = 1,
    classes: int = 4,
    relation: Relation = "send-receive",
    receivers: Receivers = "tokens",
    references: int = 64,
    heads: int = 4,
) -> SegmentationUNet:
    """Build L2GNet at the sizes of published VQ-UNet; those of its own paper were not available: our reading."""
    return build(
        channels=channels,
        classes=classes,
        width=64,
        depth=4,
        codes=1024,
        code_dim=256,
        relation=relation,
        receivers=receivers,
        references=references,
        heads=heads,
    )
