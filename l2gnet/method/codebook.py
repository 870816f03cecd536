"""The discrete latent space: a vector quantiser, and how much of its codebook is in use.

Vector quantisation with an exponential moving average codebook (van den Oord et al. 2017, arXiv 1711.00937),
k-means start and revival of dead codes, by the library vector-quantize-pytorch.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from vector_quantize_pytorch import VectorQuantize
from vector_quantize_pytorch.vector_quantize_pytorch import batched_sample_vectors

from l2gnet.shapes import Float, Int64
from l2gnet.whole_batch import gathered


@dataclass(frozen=True)
class Quantised:
    """Tokens replaced by their nearest codes; gradients pass straight through to the tokens.

    `loss` is the commitment loss, `revived` the number of dead codes that this batch replaced: both 0 in evaluation.
    `distances` are those of tokens from their codes, as a share of the token's length.
    """

    tokens: Float[Tensor, "B N d"]
    indices: Int64[Tensor, "B N"]
    loss: Float[Tensor, ""]
    revived: Int64[Tensor, ""]
    distances: Float[Tensor, "B N"]


class Codebook(nn.Module):
    """A codebook of `codes` vectors (K, d) and the nearest-code quantiser over it.

    Args:
        codes: K, the number of codes.
        dim: d, their dimension.
        commitment: weight of the commitment loss, which draws tokens to their codes. It is not needed where tokens
            are normalised, and it teaches an encoder with skips around it to say the same of every image.
        decay: of the moving averages that the codes follow.
        revive_below: a code whose moving average of uses a batch falls below this is dead, and is
            replaced by a token of the batch.
    """

    def __init__(self, codes: int, dim: int, *, commitment: float = 0.0, decay: float = 0.9, revive_below: float = 0.1):
        super().__init__()
        self.quantiser = VectorQuantize(
            dim=dim,
            codebook_size=codes,
            decay=decay,
            commitment_weight=commitment,
            kmeans_init=True,
            threshold_ema_dead_code=revive_below,
            rotation_trick=False,
        )
        # Until k-means has seen a training batch the codes are random, so that an untrained model runs too.
        self.quantiser.codebook = torch.randn(codes, dim)

    @property
    def vectors(self) -> Float[Tensor, "K d"]:
        """The codes."""
        return self.quantiser.codebook

    def learn_from_whole_batches(self) -> None:
        """Learn from the tokens of all processes of a training, as one process would from all of them.

        The library can do so only if processes exist when it is made, and then draws other tokens than one process.
        """
        book = self.quantiser._codebook
        draw, replace = batched_sample_vectors, book.replace
        book.all_reduce_fn = book.kmeans_all_reduce_fn = distributed.all_reduce
        book.sample_fn = lambda tokens, count: draw(gathered(tokens[0])[None], count)
        book.replace = lambda tokens, **masks: replace(gathered(tokens[0])[None], **masks)

    def learn_from_parts(self, parts: int) -> None:
        """Learn from parts of a batch, one after the other, at the pace at which it would from the whole.

        Else codes that are used in every few batches would count as dead.
        """
        book = self.quantiser._codebook
        book.decay **= 1 / parts
        book.threshold_ema_dead_code /= parts
        book.reset_cluster_size /= parts

    def forward(self, tokens: Float[Tensor, "B N d"]) -> Quantised:
        """Quantise in float32; while training, the codes move towards their tokens."""
        with torch.autocast(tokens.device.type, enabled=False):
            tokens = tokens.float()
            if self.training:
                quantised, indices, loss = self.quantiser(tokens)
                book = self.quantiser._codebook
                revived = (book.cluster_size == book.reset_cluster_size).sum()  # only revived codes have just that
                return Quantised(quantised, indices, loss.squeeze(), revived, _distances(tokens, quantised))
            # The library would run its k-means start on evaluation data, hence this plain look-up.
            indices = torch.cdist(tokens, self.vectors).argmin(dim=2)
            quantised = tokens + (self.vectors[indices] - tokens).detach()
            distances = _distances(tokens, quantised)
            return Quantised(quantised, indices, tokens.new_zeros(()), indices.new_zeros(()), distances)


def _distances(tokens: Float[Tensor, "B N d"], codes: Float[Tensor, "B N d"]) -> Float[Tensor, "B N"]:
    tokens, codes = tokens.detach(), codes.detach()
    return (tokens - codes).norm(dim=2) / tokens.norm(dim=2).clamp_min(1e-12)


@dataclass(frozen=True)
class CodebookUsage:
    """How often each code is used over a set of images."""

    counts: Int64[Tensor, " K"]
    codes_per_image: float

    @property
    def used(self) -> int:
        """Number of codes used at least once."""
        return int((self.counts > 0).sum())

    @property
    def perplexity(self) -> float:
        """Exponential of the entropy of code use: K when all are used alike, 1 when one takes all."""
        share = self.counts / self.counts.sum().clamp_min(1)
        return float(torch.special.entr(share.double()).sum().exp())


def codebook_usage(indices: Iterable[Int64[Tensor, "_ ..."]], codes: int) -> CodebookUsage:
    """Count the use of `codes` codes over batches (B, ...) of code indices, for example those of a whole data set."""
    counts = torch.zeros(codes, dtype=torch.int64)
    images, distinct = 0, 0
    for batch in indices:
        for image in batch.flatten(1).cpu():
            histogram = image.bincount(minlength=codes)
            counts += histogram
            distinct += int((histogram > 0).sum())
            images += 1
    return CodebookUsage(counts, distinct / max(images, 1))
