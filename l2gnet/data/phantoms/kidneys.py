"""A synthetic axial CT of a small child whose kidneys look alike: only the liver, far away, tells left from right.

Each slice is a body of its own, cropped at random, and mirrored at random as scans are whose orientation was lost: the
right kidney is the one on the liver's side. All but liver and stomach is painted before a coin is tossed about the
side, and these two lie farther away from the kidneys than a U-Net of depth 2 sees.
"""

from dataclasses import replace

import numpy as np

from l2gnet.data.phantoms.abdomen import TISSUES
from l2gnet.data.phantoms.canvas import (
    ENDLESS_MM,
    Canvas,
    TaskCase,
    blank_canvas,
    chessboard_px,
    ellipsoid,
    one_slice,
    random_streams,
    smooth_noise,
)
from l2gnet.data.phantoms.tasks import SHAPE, SPACING_MM
from l2gnet.shapes import Bool, Float

KIDNEY_CLASSES = ("background", "left kidney", "right kidney")
FRONT_MM = -28.0  # liver and stomach lie in front of this, and the kidneys 51 mm behind or more


def make_kidneys(seed: int, *, flipped: bool = False) -> TaskCase:
    """Slices in HU, labels as KIDNEY_CLASSES.

    `flipped` makes the same slices with liver and stomach changed over, and so the kidneys' classes. ConfigError for a
    negative seed.
    """
    texture_rng, noise_rng, *slice_rngs = random_streams(seed, 2 + SHAPE[0])
    canvas = blank_canvas(SHAPE, SPACING_MM, 0.0, texture_rng)
    evidence_px = np.full(SHAPE, np.nan, np.float32)
    for z, rng in enumerate(slice_rngs):
        shift = rng.uniform((-25, -40), (25, 40))
        picture = one_slice(canvas, z)
        body = replace(picture, y=picture.y - shift[0], x=picture.x - shift[1])
        cavity = _paint_body(body, rng)
        sides = _paint_kidneys(body, rng)
        toss = int(rng.integers(2)) ^ flipped
        telling = _paint_front(body, cavity, rng, liver_side=(-1, 1)[toss])
        for side, kidney in enumerate(sides):
            body.label[kidney] = 2 if side == toss else 1
        evidence_px[z] = np.where(body.label[0] > 0, chessboard_px(telling[0]), np.nan)
    image = np.round(canvas.image + 8 * noise_rng.standard_normal(SHAPE)).astype(np.float32)
    return TaskCase(image, canvas.label, SPACING_MM, f"kidneys-{seed:04d}", evidence_px)


def _fill(body: Canvas, depth_mm: Float[np.ndarray, "D H W"], tissue: str) -> None:
    mean, _, texture = TISSUES[tissue]
    body.paint(depth_mm, mean, texture)


def _oval(body: Canvas, y: float, x: float, half_y: float, half_x: float) -> Float[np.ndarray, "D H W"]:
    return ellipsoid(body, (0, y, x), (ENDLESS_MM, half_y, half_x))


def _paint_body(body: Canvas, rng: np.random.Generator) -> Float[np.ndarray, "D H W"]:
    """The trunk with spine, psoas muscles, great vessels and gut; returns the depth in its cavity."""
    trunk = _oval(body, 0, 0, rng.uniform(68, 72), rng.uniform(76, 82))
    body.image[...] = TISSUES["air"][0]
    for depth, tissue in ((trunk, "skin"), (trunk - 2, "fat"), (trunk - 5, "muscle"), (trunk - 9, "fat")):
        _fill(body, depth, tissue)
    for side in (-1, 1):
        _fill(body, _oval(body, 44, 17 * side, 9, 7), "muscle")
    bone = _oval(body, 44, 0, 11, 13)
    for depth, tissue in ((bone, "cortex"), (bone - 2, "marrow"), (_oval(body, 27, 0, 4, 5), "aorta")):
        _fill(body, depth, tissue)
    loops = smooth_noise(rng, body.axes_mm, 12.0)
    gut = np.minimum(9 * (np.abs(loops) - 0.3), _oval(body, -4, 0, 22, 58))
    _fill(body, gut, "gut wall")
    _fill(body, gut - 2.5, "gut content")
    return trunk - 10


def _paint_kidneys(body: Canvas, rng: np.random.Generator) -> list[Bool[np.ndarray, "D H W"]]:
    """Both kidneys, each of its own size and place, their sinus in the middle; where they are, the smaller x first."""
    found = []
    for side in (-1, 1):
        y, x, half_y, half_x = rng.uniform((36, 34, 10.5, 11), (39, 38, 13, 14))
        whole = _oval(body, y, side * x, half_y, half_x)
        sinus = _oval(body, y - 3, side * x, 4, 3.5)
        kidney = np.minimum(whole, -sinus)
        _fill(body, whole + 3, "fat")
        _fill(body, kidney, "left kidney")
        _fill(body, np.minimum(kidney - 4, 4 * body.texture), "medulla")
        found.append(kidney > 0)
    return found


def _paint_front(
    body: Canvas, cavity: Float[np.ndarray, "D H W"], rng: np.random.Generator, *, liver_side: int
) -> Bool[np.ndarray, "D H W"]:
    """Liver and stomach in front, each on its side; returns where they are."""
    bounds = np.minimum(cavity, FRONT_MM - body.y)
    liver = np.minimum(_oval(body, -46, liver_side * 34, 20, rng.uniform(30, 36)), bounds)
    stomach = np.minimum(_oval(body, -46, -liver_side * 36, 17, rng.uniform(20, 28)), bounds)
    level = rng.uniform(-52, -42) - body.y
    for depth, tissue in (
        (liver, "liver"),
        (stomach, "gut wall"),
        (stomach - 3, "stomach"),
        (np.minimum(stomach - 3, level), "gas"),
    ):
        _fill(body, depth, tissue)
    return np.maximum(liver, stomach) > 0
