"""What every bottleneck with a codebook does: features to tokens, tokens to codes."""

from typing import Any

from einops import rearrange
from torch import Tensor, nn

from l2gnet.method.codebook import Codebook, Quantised
from l2gnet.models.blocks.latent import Latent
from l2gnet.shapes import Float


class TokenBottleneck(nn.Module):
    """The way from features to tokens, one for each pixel; a subclass says what becomes of them.

    Args:
        features: C, channels of the features.
        dim: d, dimension of a token.
    """

    def __init__(self, features: int, dim: int):
        super().__init__()
        # The normalisation holds the tokens at one scale while the encoder changes, so the codes can follow without
        # a commitment loss.
        self.to_tokens = nn.Sequential(nn.Conv2d(features, dim, kernel_size=1), nn.BatchNorm2d(dim))

    def tokens(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B N d"]:
        """A continuous token for each pixel."""
        return rearrange(self.to_tokens(features), "B d h w -> B (h w) d")


class DiscreteBottleneck(TokenBottleneck):
    """Tokens are quantised; a subclass says what becomes of the codes.

    Args:
        features: C, channels of the features.
        codebook: the quantiser.
    """

    def __init__(self, features: int, codebook: Codebook):
        super().__init__(features, codebook.vectors.shape[1])
        self.codebook = codebook


def discrete_latent(features: Float[Tensor, "B C h w"], quantised: Quantised, **seen: Any) -> Latent:
    """New features, and what the quantiser says of each of their pixels; `seen` is what else a viewer wants to know."""
    height, width = features.shape[2:]
    return Latent(
        features=features,
        loss=quantised.loss,
        revived=quantised.revived,
        codes=rearrange(quantised.indices, "B (h w) -> B h w", h=height, w=width),
        distances=rearrange(quantised.distances, "B (h w) -> B h w", h=height, w=width),
        **seen,
    )
