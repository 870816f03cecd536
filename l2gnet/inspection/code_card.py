"""What is known of one code: how often it fires, where, on what, its neighbours, and examples near to it and far."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from l2gnet.inspection.code_atlas import CodeAtlas
from l2gnet.shapes import Float, Int64

_NEIGHBOURS = 5
Place = tuple[int, int, int]


@dataclass(frozen=True)
class CodeCard:
    """One code of a codebook, among the tokens of some slices.

    Args:
        code: its number.
        count: tokens that have it, out of `tokens`.
        slices: slices that it fires in, out of `among`.
        shares: of the pixels under it, the share of each label.
        typical: the label that lies under it most above its share of all pixels.
        purity: the largest of `shares`.
        neighbours: the codes nearest to it in the codebook, with their distance as a share of its own length.
        examples: by name, places (slice, row, column) of tokens: `nearest` to the code, `middle`, `farthest`, and
            `random` ones.
    """

    code: int
    count: int
    tokens: int
    slices: int
    among: int
    shares: tuple[float, ...]
    typical: int
    purity: float
    neighbours: tuple[tuple[int, float], ...]
    examples: dict[str, tuple[Place, ...]]


def code_card(
    atlas: CodeAtlas, distances: Float[np.ndarray, "S h w"], typical: Int64[np.ndarray, " K"], code: int, limit: int = 4
) -> CodeCard:
    """The card of a code; `distances` of the tokens from their codes sort at most `limit` examples of each kind.

    Raises:
        ValueError: there is no such code.
    """
    K = len(atlas.vectors)
    if not 0 <= code < K:
        raise ValueError(f"a code must lie in 0..{K - 1}, the codebook, got {code}")
    places = np.argwhere(atlas.codes == code)
    shares = atlas.label_shares[code]
    return CodeCard(
        code=code,
        count=len(places),
        tokens=atlas.codes.size,
        slices=len(np.unique(places[:, 0])),
        among=len(atlas.codes),
        shares=tuple(shares.tolist()),
        typical=int(typical[code]),
        purity=float(shares.max()),
        neighbours=tuple(neighbours_of(atlas.vectors, code)[:_NEIGHBOURS]),
        examples=_examples(places, distances[tuple(places.T)], limit, seed=code),
    )


def neighbours_of(vectors: Float[np.ndarray, "K d"], code: int) -> list[tuple[int, float]]:
    """The other codes from the nearest on, with their Euclidean distance as a share of the code's length."""
    lengths = np.linalg.norm(vectors - vectors[code], axis=1) / max(float(np.linalg.norm(vectors[code])), 1e-12)
    order = np.argsort(lengths, kind="stable")
    return [(int(other), float(lengths[other])) for other in order if other != code]


def _examples(
    places: Int64[np.ndarray, "n 3"], distances: Float[np.ndarray, " n"], limit: int, seed: int
) -> dict[str, tuple[Place, ...]]:
    """Tokens from the nearest to the farthest; a kind has fewer where there are not enough."""
    order = np.argsort(distances, kind="stable")
    count = min(limit, len(order))
    start = (len(order) - count) // 2
    random = np.random.default_rng(seed).permutation(len(order))[:count]
    chosen: dict[str, Sequence[int] | np.ndarray] = {
        "nearest": order[:count],
        "middle": order[start : start + count],
        "farthest": order[len(order) - count :],
        "random": random,
    }
    return {name: tuple((int(s), int(r), int(c)) for s, r, c in places[rows]) for name, rows in chosen.items()}
