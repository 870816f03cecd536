"""Pictures whose labels no local model can tell: what decides a class lies farther away than it can see.

Each slice is a picture of its own: small discs on a grey ground. Some are labelled, and how they look and where they
lie says nothing of their class. `make_key` and `make_side` place them first; then a coin is tossed, which decides what
stands `FAR_PX` away or more, and by it the classes. In `make_match` two of four discs, drawn blindly, bear the same
sign. So who sees no farther than `REACH_PX` is right half of the time, even if it knows where in the picture it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from l2gnet.data.phantoms.canvas import Canvas, TaskCase, blank_canvas, chessboard_px, one_slice, random_streams
from l2gnet.shapes import Bool, Float, Float32, Int64

KEY_CLASSES = ("background", "under a ring", "under a cross")
SIDE_CLASSES = ("background", "left of the cross", "right of the cross")
MATCH_CLASSES = ("background", "twin", "single")

SIZE_PX, PIXEL_MM = 96, 2.0  # the grid that models see by default
SHAPE, SPACING_MM = (16, SIZE_PX, SIZE_PX), (10.0, PIXEL_MM, PIXEL_MM)
REACH_PX = 23  # how far a U-Net of depth 2 sees, along each axis
RADIUS_PX = 5  # of a disc; its soft edge takes half a pixel more
FAR_PX = REACH_PX + 2 * RADIUS_PX  # from a disc to what decides its class, between the middles, along one axis
APART_PX = 3 * RADIUS_PX  # between discs that do not decide of each other
MARGIN_PX = 12  # so that shifts and zooms in training seldom push the evidence out of the picture
STEEPEST = 1.5  # rows for each column between a disc and the cross: rotations in training must not change its side
GREY = {"ground": 80.0, "disc": 150.0, "sign": 235.0}

Place = tuple[int, int]
Sign = Literal["plain", "dot", "ring", "cross", "upright", "flat"]
SIGNS: tuple[Sign, ...] = ("dot", "ring", "cross", "upright", "flat")


@dataclass(frozen=True)
class Disc:
    """A disc with row and column of its middle; `label` is its class, and `asks` lists the discs that decide it."""

    place: Place
    sign: Sign
    label: int = 0
    asks: tuple[int, ...] = ()


Draw = Callable[[np.random.Generator, bool], list[Disc]]


def make_key(seed: int, *, flipped: bool = False) -> TaskCase:
    """Three plain discs, all of one class (KEY_CLASSES): which, says the sign on a fourth, far from them.

    `flipped` makes the same pictures with the other sign. ConfigError for a negative seed.
    """
    return _make(f"key-{seed:04d}", draw_key, seed, flipped)


def make_side(seed: int, *, flipped: bool = False) -> TaskCase:
    """Three plain discs left or right, as one sees the picture, of a far disc with a cross (SIDE_CLASSES).

    `flipped` makes the same pictures with the cross at the other side. ConfigError for a negative seed.
    """
    return _make(f"side-{seed:04d}", draw_side, seed, flipped)


def make_match(seed: int, *, flipped: bool = False) -> TaskCase:
    """Four discs far apart, of which two bear the same sign and the others signs of their own (MATCH_CLASSES).

    `flipped` makes the same pictures with another sign on one disc, which changes the class of two others.
    ConfigError for a negative seed.
    """
    return _make(f"match-{seed:04d}", draw_match, seed, flipped)


def draw_key(rng: np.random.Generator, flipped: bool) -> list[Disc]:
    """The discs of a slice of `make_key`; that of the sign comes last."""
    *blobs, key = _places(rng, 4, lambda gaps: gaps[3, :3].min() >= FAR_PX and _none_touch(gaps[:3, :3]))
    toss = int(rng.integers(2)) ^ flipped
    signs: tuple[Sign, Sign] = ("ring", "cross")
    return [*(Disc(blob, "plain", 1 + toss, asks=(3,)) for blob in blobs), Disc(key, signs[toss])]


def draw_side(rng: np.random.Generator, flipped: bool) -> list[Disc]:
    """The discs of a slice of `make_side`; that of the cross comes last."""
    while True:  # until both sides have room, before the coin is tossed
        blobs = _places(rng, 3, _none_touch, inset=int(np.ceil(FAR_PX / STEEPEST)))
        room = _room_beside(blobs)
        if all(room):
            break
    toss = int(rng.integers(2)) ^ flipped
    cross = room[toss][rng.integers(len(room[toss]))]
    return [*(Disc(blob, "plain", 1 + toss, asks=(3,)) for blob in blobs), Disc(cross, "cross")]


def draw_match(rng: np.random.Generator, flipped: bool) -> list[Disc]:
    """The discs of a slice of `make_match`; the last has the sign of one of the others."""
    places = _places(rng, 4, lambda gaps: _none_touch(gaps, FAR_PX))
    signs = [SIGNS[n] for n in rng.permutation(len(SIGNS))[:3]]
    return matched(places, [*signs, signs[(int(rng.integers(3)) + flipped) % 3]])


def matched(places: Sequence[Place], signs: Sequence[Sign]) -> list[Disc]:
    """Discs with signs, labelled by whether another has the same; a single one has to ask all others."""
    discs = []
    for n, (place, sign) in enumerate(zip(places, signs, strict=True)):
        others = tuple(m for m in range(len(signs)) if m != n)
        twins = tuple(m for m in others if signs[m] == sign)
        discs.append(Disc(place, sign, 1 if twins else 2, asks=twins or others))
    return discs


def _places(
    rng: np.random.Generator, count: int, fit: Callable[[Int64[np.ndarray, "n n"]], bool], inset: int = 0
) -> list[Place]:
    """Rows and columns drawn until `fit` accepts the gaps between each two, along the axis where they are wider.

    Columns keep so much more away from the left and the right.
    """
    inner = np.array([MARGIN_PX, MARGIN_PX + inset])
    while True:
        places = rng.integers(inner, SIZE_PX - inner, (count, 2))
        if fit(np.abs(places[:, None] - places).max(-1)):
            return _pairs(places)


def _pairs(places: Int64[np.ndarray, "n 2"]) -> list[Place]:
    return [(row, column) for row, column in places.tolist()]


def _none_touch(gaps: Int64[np.ndarray, "n n"], apart_px: int = APART_PX) -> bool:
    return bool((gaps + apart_px * np.eye(len(gaps), dtype=int) >= apart_px).all())


def _room_beside(blobs: Sequence[Place]) -> tuple[list[Place], list[Place]]:
    """Where the cross may stand so that all discs are to the left of it, and to the right."""
    places = np.argwhere(np.ones((SIZE_PX - 2 * MARGIN_PX,) * 2)) + MARGIN_PX
    down, right = np.moveaxis(places[:, None] - np.array(blobs), -1, 0)
    fit = (np.maximum(np.abs(down), np.abs(right)) >= FAR_PX) & (np.abs(down) <= STEEPEST * np.abs(right))
    return _pairs(places[(fit & (right > 0)).all(1)]), _pairs(places[(fit & (right < 0)).all(1)])


def _make(name: str, draw: Draw, seed: int, flipped: bool) -> TaskCase:
    texture_rng, noise_rng, *slice_rngs = random_streams(seed, 2 + SHAPE[0])
    canvas = blank_canvas(SHAPE, SPACING_MM, 0.0, texture_rng)
    canvas.image[...] = GREY["ground"] + 8 * canvas.texture
    evidence_px = [paint_discs(one_slice(canvas, z), draw(rng, flipped)) for z, rng in enumerate(slice_rngs)]
    image = canvas.image + 6 * noise_rng.standard_normal(SHAPE)
    image = np.round(image).clip(0, 255).astype(np.float32)
    return TaskCase(image, canvas.label, SPACING_MM, name, np.stack(evidence_px))


def paint_discs(picture: Canvas, discs: Sequence[Disc]) -> Float32[np.ndarray, "H W"]:
    """Paint and label the discs of one slice; how far each labelled pixel lies from the disc that it has to ask."""
    grounds = []
    for disc in discs:
        down, right = (
            axis / PIXEL_MM + (SIZE_PX - 1) / 2 - middle
            for axis, middle in zip((picture.y, picture.x), disc.place, strict=True)
        )
        depth = RADIUS_PX - np.hypot(down, right)
        picture.paint(PIXEL_MM * depth, GREY["disc"], label=disc.label)
        picture.paint(PIXEL_MM * sign_depth(disc.sign, down, right), GREY["sign"], label=disc.label)
        grounds.append(depth[0] > 0)
    return _farness(discs, grounds)


def _farness(discs: Sequence[Disc], grounds: Sequence[Bool[np.ndarray, "H W"]]) -> Float32[np.ndarray, "H W"]:
    """Pixels to the disc that each labelled one has to ask; to the farthest, where it has to ask several."""
    away = [chessboard_px(ground) for ground in grounds]
    farness = np.full(SHAPE[1:], np.nan, np.float32)
    for disc, ground in zip(discs, grounds, strict=True):
        if disc.label:
            farness[ground] = np.max([away[other][ground] for other in disc.asks], axis=0)
    return farness


def sign_depth(
    sign: Sign, down: Float[np.ndarray, "D H W"], right: Float[np.ndarray, "D H W"]
) -> Float[np.ndarray, "D H W"]:
    """Depth in a sign, in pixels, at places counted from its middle."""
    off = np.hypot(down, right)
    upright = np.minimum(1 - np.abs(right), 4 - np.abs(down))
    flat = np.minimum(1 - np.abs(down), 4 - np.abs(right))
    return {
        "plain": -1 - off,
        "dot": 2.2 - off,
        "ring": 1 - np.abs(off - 3),
        "cross": np.maximum(upright, flat),
        "upright": upright,
        "flat": flat,
    }[sign]
