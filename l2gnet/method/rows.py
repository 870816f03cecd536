"""Rows of a plan: tokens with one code have one row, and what is computed a row is spread over its tokens.

Letters: h heads, B images, N tokens, U rows (distinct codes of an image, padded with rows without mass), A codes that
any image of the batch uses, d dimension of a head.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from l2gnet.shapes import Float, Int64


@dataclass(frozen=True)
class Rows:
    """Which tokens share a row of the plan: `codes` of the rows (-1 in padding), how many tokens have each, and whose.

    `row` is the row of each token, `first` one token of each row. Among the codes active in the batch, `place` is a
    row's own and `example` one row of each. `alone` says that every token is a row, in order.
    """

    codes: Int64[Tensor, "B U"]
    counts: Int64[Tensor, "B U"]
    row: Int64[Tensor, "B N"]
    first: Int64[Tensor, "B U"]
    place: Int64[Tensor, "B U"]
    example: Int64[Tensor, " A"]
    alone: bool


def rows_of_codes(indices: Int64[Tensor, "B N"]) -> Rows:
    """One row for each distinct code of an image."""
    (B, N), K = indices.shape, int(indices.max()) + 1
    images = torch.arange(B, device=indices.device).unsqueeze(1)
    histogram = (indices + K * images).flatten().bincount(minlength=B * K).view(B, K)
    present = histogram > 0
    active = present.any(0)
    position = present.cumsum(1) - 1  # of a code in its image
    U = int(position[:, -1].max()) + 1
    image, code = present.nonzero(as_tuple=True)
    flat = image * U + position[image, code]
    codes, counts, place = indices.new_full((B * U,), -1), indices.new_zeros(B * U), indices.new_zeros(B * U)
    codes[flat], counts[flat], place[flat] = code, histogram[image, code], (active.cumsum(0) - 1)[code]
    row = position.gather(1, indices)
    first = torch.zeros_like(codes).view(B, U).scatter_(1, row, torch.arange(N, device=row.device).expand(B, N))
    example = indices.new_zeros(int(active.sum())).scatter_(0, place[flat], flat)
    return Rows(codes.view(B, U), counts.view(B, U), row, first, place.view(B, U), example, alone=False)


def rows_of_tokens(tokens: Float[Tensor, "h B N d"]) -> Rows:
    """One row for each token, for tokens without codes."""
    _, B, N, _ = tokens.shape
    row = torch.arange(N, device=tokens.device).expand(B, N)
    place = torch.arange(B * N, device=tokens.device).view(B, N)
    return Rows(row, torch.ones_like(row), row, row, place, place.flatten(), alone=True)


def spread(values: Tensor, row: Tensor) -> Tensor:
    """From rows (h, B, U, x) to the tokens that have them (h, B, N, x)."""
    h, _, U, x = values.shape
    return F.embedding(_flat(row, h, U), values.reshape(-1, x))


def gather_up(values: Tensor, row: Tensor, U: int) -> Tensor:
    """From tokens (h, B, N, x) to the sums over those of each row (h, B, U, x)."""
    h, B, _, x = values.shape
    flat = torch.ops.aten.embedding_dense_backward(
        values.reshape(-1, x), _flat(row, h, U).flatten(), h * B * U, -1, False
    )
    return flat.view(h, B, U, x)


def _flat(row: Tensor, h: int, U: int) -> Tensor:
    B = len(row)
    return row + U * torch.arange(h * B, device=row.device).view(h, B, 1)
