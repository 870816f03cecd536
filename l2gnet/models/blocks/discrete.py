"""What every bottleneck with a codebook does: features to tokens, tokens to codes."""

from einops import rearrange
from torch import Tensor, nn

from l2gnet.method.codebook import Codebook, Quantised
from l2gnet.method.transport import TransportPlan
from l2gnet.models.backbone import Latent
from l2gnet.models.blocks.attention import AttentionMap
from l2gnet.shapes import Float


class DiscreteBottleneck(nn.Module):
    """The way from features to codes; a subclass says what becomes of the codes.

    Args:
        features: C, channels of the features.
        codebook: the quantiser.
    """

    def __init__(self, features: int, codebook: Codebook):
        super().__init__()
        dim = codebook.vectors.shape[1]
        # The normalisation holds the tokens at one scale while the encoder changes, so the codes can follow without
        # a commitment loss.
        self.to_tokens = nn.Sequential(nn.Conv2d(features, dim, kernel_size=1), nn.BatchNorm2d(dim))
        self.codebook = codebook

    def tokens(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B N d"]:
        """A continuous token for each pixel, to be quantised."""
        return rearrange(self.to_tokens(features), "B d h w -> B (h w) d")

    @staticmethod
    def latent(
        features: Float[Tensor, "B C h w"],
        quantised: Quantised,
        *,
        transport: TransportPlan | None = None,
        attention: tuple[AttentionMap, ...] = (),
    ) -> Latent:
        """The result: new features, and what the quantiser says of each of their pixels."""
        height, width = features.shape[2:]
        return Latent(
            features=features,
            loss=quantised.loss,
            revived=quantised.revived,
            codes=rearrange(quantised.indices, "B (h w) -> B h w", h=height, w=width),
            distances=rearrange(quantised.distances, "B (h w) -> B h w", h=height, w=width),
            transport=transport,
            attention=attention,
        )
