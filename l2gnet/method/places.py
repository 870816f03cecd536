"""Where a token lies, as fixed waves along both axes, and how to see the places of others from one's own.

Values that are turned by the sender's position and turned back by the receiver's say how far, and in which direction,
what was sent lies: RoPER (labml.ai, 2022) and GTA (Miyato et al., ICLR 2024, arXiv 2310.10375), there within attention.
No parameter, and the same wherever the patient lies in the picture.
"""

import math

import torch
from torch import Tensor

from l2gnet.shapes import Float

WAVELENGTHS = (64.0, 32.0, 16.0)  # in tokens, on grids of up to 32 on a side: none is half a turn of the longest


def waves_size() -> int:
    """How many numbers say where a token lies: cosine and sine of each wave along each axis."""
    return 4 * len(WAVELENGTHS)


def waves(height: int, width: int, *, like: Tensor) -> Float[Tensor, "N x"]:
    """Cosines, then sines, of the waves at each token of a grid, row by row.

    On larger grids waves are longer, by powers of two, so that left and right are never confused.
    """
    rows, columns = (torch.arange(size, dtype=torch.float64) for size in (height, width))
    both = torch.cartesian_prod(rows, columns).reshape(-1, 2)
    stretch = max(1.0, (1 << (2 * max(height, width) - 1).bit_length()) / WAVELENGTHS[0])
    frequencies = 2 * math.pi / (stretch * torch.tensor(WAVELENGTHS, dtype=torch.float64))
    turns = (both.unsqueeze(2) * frequencies).flatten(1)
    return torch.cat([turns.cos(), turns.sin()], dim=1).to(like)


def in_own_frame(values: Float[Tensor, "*B N dx"], places: Float[Tensor, "N x"]) -> Float[Tensor, "*B N dx"]:
    """The same values, the last x of which say where something lies, as seen from each token.

    A wave e^(i f p_j) of a sender j becomes e^(i f (p_j - p_i)) for the token i, and means of such waves likewise.
    """
    size = places.shape[1]
    content, there = values[..., :-size], values[..., -size:]
    (here_cos, here_sin), (cos, sin) = places.chunk(2, dim=-1), there.chunk(2, dim=-1)
    return torch.cat([content, cos * here_cos + sin * here_sin, sin * here_cos - cos * here_sin], dim=-1)
