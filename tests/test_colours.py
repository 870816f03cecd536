import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from l2gnet.colours import AGREEMENT, COLOURS

# Machado, Oliveira and Fernandes (2009), full severity: what remains of linear red, green and blue.
EYES = {
    "all colours": np.eye(3),
    "no red cones": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "no green cones": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9690]],
    "no blue cones": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9309, 0.1476], [0.0047, 0.6914, 0.3039]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def seen(colour, eyes):
    """CIELAB of "#rrggbb", as such eyes see it."""
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = TO_XYZ @ np.clip(np.array(EYES[eyes]) @ linear, 0, 1) / TO_XYZ.sum(1)
    x, y, z = (np.cbrt(part) if part > 0.008856 else 7.787 * part + 16 / 116 for part in (x, y, z))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(one, two, eyes):
    return np.linalg.norm(seen(one, eyes) - seen(two, eyes))


@pytest.mark.parametrize("eyes", EYES)
def test_errors_are_told_from_structures_and_from_each_other(eyes):
    assert len(set(COLOURS)) >= 10
    for name, colour in AGREEMENT.items():
        assert min(distance(colour, other, eyes) for other in COLOURS) > 20, name
    wrong = [colour for name, colour in AGREEMENT.items() if name != "right"]  # which is told by being faint
    assert min(distance(one, two, eyes) for one, two in combinations(wrong, 2)) > 40


@pytest.mark.parametrize("eyes", EYES)
def test_structures_are_told_from_each_other(eyes):
    assert min(distance(one, two, eyes) for one, two in combinations(COLOURS, 2)) > 15


def test_the_browser_has_the_same_colours():
    script = Path(__file__).parents[1] / "widgets" / "js" / "drawing.js"
    listed = re.search(r"LABELS = (.+?);", script.read_text(), re.DOTALL)
    assert tuple(re.findall(r'"(#\w{6})"', listed[1])[1:]) == COLOURS
