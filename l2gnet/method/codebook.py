"""The discrete latent space: a vector quantiser, and how much of its codebook is in use.

The codes follow the mean of their tokens by moving averages (van den Oord et al. 2017, arXiv 1711.00937, appendix A.1),
start by k-means on the first batch, and are revived when they die. The tests hold all that to vector-quantize-pytorch.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

from l2gnet.shapes import Bool, Float, Int64, Num
from l2gnet.whole_batch import gathered

_KMEANS_STEPS = 10
_SMOOTHING = 1e-5  # of a token for each code, so that none is divided by zero
_HARDLY_ANY = 100 * _SMOOTHING  # tokens a batch


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

    Until k-means has seen a training batch the codes are random, so that an untrained model runs too.

    Args:
        codes: K, the number of codes.
        dim: d, their dimension.
        commitment: weight of the commitment loss, which draws tokens to their codes. It is not needed where tokens
            are normalised, and it teaches an encoder with skips around it to say the same of every image.
        decay: of the moving averages that the codes follow.
        revive_below: a code whose moving average of uses a batch falls below this is dead, and is
            replaced by a token of the batch.

    Raises:
        ValueError: there is no code, or a number is out of range; or, in training, it was cast to half precision.
    """

    vectors: Float[Tensor, "K d"]
    uses: Float[Tensor, " K"]  # tokens of a batch that take each code, a moving average
    sums: Float[Tensor, "K d"]  # of those tokens, a moving average too
    started: Bool[Tensor, ""]

    def __init__(self, codes: int, dim: int, *, commitment: float = 0.0, decay: float = 0.9, revive_below: float = 0.1):
        super().__init__()
        if codes < 1 or dim < 1:
            raise ValueError(f"a codebook needs codes and a dimension of at least 1, got {codes} and {dim}")
        if not 0 <= commitment < math.inf:
            raise ValueError(f"commitment must be at least 0 and finite, got {commitment}")
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must be from 0 to 1, got {decay}")
        if not 0 <= revive_below < math.inf:
            raise ValueError(f"revive_below must be at least 0 and finite, got {revive_below}")
        self.commitment, self.decay, self.revive_below = commitment, decay, revive_below
        self.whole_batches = False
        self.register_buffer("vectors", torch.randn(codes, dim))
        self.register_buffer("uses", torch.ones(codes))
        self.register_buffer("sums", torch.zeros(codes, dim))
        self.register_buffer("started", torch.tensor(False))

    def learn_from_whole_batches(self) -> None:
        """Learn from the tokens of all processes of a training, as one process would from all of them."""
        self.whole_batches = True

    def learn_from_parts(self, parts: int) -> None:
        """Learn from parts of a batch, one after the other, at the pace at which it would from the whole.

        Else codes that are used in every few batches would count as dead.
        """
        self.decay **= 1 / parts
        self.revive_below /= parts

    def forward(self, tokens: Float[Tensor, "B N d"]) -> Quantised:
        """Quantise in float32; while training, the codes move towards their tokens."""
        with torch.autocast(tokens.device.type, enabled=False):
            tokens = tokens.float()
            seen = tokens.detach().flatten(0, 1)
            if self.training and self.sums.dtype.itemsize < 4:  # in which moving averages stand still
                rule = "a codebook must learn in float32 or float64"
                raise ValueError(f"{rule}, got {self.sums.dtype}; train under autocast, and cast the trained model")
            if self.training and not self.started:
                self._start(seen.to(self.sums.dtype))
            vectors = self.vectors.float()  # of a model that was cast, too
            nearest = nearest_codes(seen, vectors)
            codes = vectors.index_select(0, nearest).view_as(tokens)
            loss, revived = tokens.new_zeros(()), nearest.new_zeros(())
            if self.training:
                revived = self._learn(seen.to(self.sums.dtype), nearest)
                if self.commitment and len(seen):
                    loss = self.commitment * F.mse_loss(tokens, codes)
            straight_through = codes + (tokens - tokens.detach())  # the codes, with the gradient of the tokens
            distances = (tokens.detach() - codes).norm(dim=2) / tokens.detach().norm(dim=2).clamp_min(1e-12)
            straight_through = straight_through.to(self.vectors.dtype)
            return Quantised(straight_through, nearest.view(tokens.shape[:2]), loss, revived, distances)

    @torch.no_grad()
    def _start(self, tokens: Float[Tensor, "N d"]) -> None:
        """Let k-means find the codes, from tokens drawn at random; the next batch has to where there is no token."""
        everything = self._of_all(tokens)
        if not len(everything):
            return
        means = _drawn(everything, len(self.vectors))
        for _ in range(_KMEANS_STEPS):
            uses, sums = self._totals(tokens, nearest_codes(tokens, means))
            means = torch.where(uses[:, None] > 0, sums / uses[:, None].clamp_min(1), means)
        self.vectors.copy_(means)
        self.uses.copy_(uses)
        self.sums.copy_(uses[:, None] * means)
        self._follow()
        self.started.fill_(True)

    @torch.no_grad()
    def _learn(self, tokens: Float[Tensor, "N d"], nearest: Int64[Tensor, " N"]) -> Int64[Tensor, ""]:
        """Move the averages and the codes with them, revive the dead; returns how many those were."""
        uses, sums = self._totals(tokens, nearest)
        self.uses.lerp_(uses, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        self._follow()
        dead = (self.uses < self.revive_below).nonzero().flatten()
        if len(dead):
            tokens = self._of_all(tokens)
            if len(dead) > len(tokens):  # no token twice: the other codes wait for later batches
                dead = _drawn(dead, len(tokens)).sort().values
            self.vectors[dead] = alive = _drawn(tokens, len(dead))
            self.uses[dead] = self.revive_below
            self.sums[dead] = self.revive_below * alive
        return nearest.new_tensor(len(dead))

    def _follow(self) -> None:
        """Put each code at the mean of its tokens, smoothed as Laplace did; one that has had none stays where it is.

        At the origin, where the smoothing would draw it, it is nearer to tokens of one length than most codes are, and
        has no direction.
        """
        total = self.uses.sum()
        smoothed = (self.uses + _SMOOTHING) / (total + len(self.uses) * _SMOOTHING) * total
        used = (self.uses > _HARDLY_ANY)[:, None]
        self.vectors.copy_(torch.where(used, self.sums / smoothed[:, None], self.vectors))

    def _totals(
        self, tokens: Float[Tensor, "N d"], nearest: Int64[Tensor, " N"]
    ) -> tuple[Float[Tensor, " K"], Float[Tensor, "K d"]]:
        """The number and the sum of the tokens that take each code."""
        sums = torch.zeros_like(self.sums).index_add_(0, nearest, tokens)
        uses = nearest.bincount(minlength=len(sums)).to(sums.dtype)
        if self.whole_batches:
            distributed.all_reduce(uses)
            distributed.all_reduce(sums)
        return uses, sums

    def _of_all(self, tokens: Float[Tensor, "N d"]) -> Float[Tensor, "_ d"]:
        return gathered(tokens) if self.whole_batches else tokens


def nearest_codes(tokens: Float[Tensor, "N d"], codes: Float[Tensor, "K d"]) -> Int64[Tensor, " N"]:
    """The code at the least distance from each token; the first of equals."""
    # |t - c|² less |t|², which is the same for all codes
    return torch.addmm(codes.square().sum(1), tokens, codes.T, alpha=-2).min(1).indices


def _drawn(rows: Num[Tensor, "_ ..."], count: int) -> Num[Tensor, "{count} ..."]:
    """So many rows at random, each once if there are enough."""
    if len(rows) >= count:
        return rows[torch.randperm(len(rows), device=rows.device)[:count]]
    return rows[torch.randint(len(rows), (count,), device=rows.device)]


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
