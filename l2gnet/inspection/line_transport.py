"""Transport on a line, where the cheapest plan is known in closed form: what the solvers are held to, and taught with.

Places are directions between 0 and 90 degrees, and moving a grain by an angle costs (1 - cos) / 2, as from a code to a
reference. That cost is convex in the angle, so no two grains of a cheapest plan cross.
"""

import math

import numpy as np
import torch

from l2gnet.method.transport import solve_transport
from l2gnet.shapes import Float


def places(n: int) -> Float[np.ndarray, " n"]:
    """The places of n bins, in radians, from 0 to a right angle."""
    return np.linspace(0, math.pi / 2, n)


def pile(n: int, *heaps: tuple[float, float, float]) -> Float[np.ndarray, " n"]:
    """A pile of n bins made of heaps (middle, spread, size), the first two in degrees; its shares add up to one."""
    degrees = np.degrees(places(n))
    heights = sum(size * np.exp(-(((degrees - middle) / spread) ** 2) / 2) for middle, spread, size in heaps)
    return np.asarray(heights / np.sum(heights))


def line_cost(sources: int, targets: int) -> Float[np.ndarray, "K R"]:
    """What it costs to move one unit of mass from each of K places to each of R: (1 - cos) / 2, at most 0.5."""
    return (1 - np.cos(places(sources)[:, None] - places(targets))) / 2


def monotone_plan(source: Float[np.ndarray, " K"], target: Float[np.ndarray, " R"]) -> Float[np.ndarray, "K R"]:
    """The cheapest plan of two piles of the same mass: it keeps the order of the grains.

    A grain with a share s of the sand on its left goes to the place that is to have a share s on its left: quantile to
    quantile. T_kr is the part of [0, 1] in which both cumulated piles say so.
    """
    ends_k, ends_r = np.cumsum(source), np.cumsum(target)
    last = np.minimum(ends_k[:, None], ends_r)
    first = np.maximum((ends_k - source)[:, None], ends_r - target)
    return (last - first).clip(min=0)


def line_plan(
    source: Float[np.ndarray, " K"], target: Float[np.ndarray, " R"], epsilon: float
) -> Float[np.ndarray, "K R"]:
    """The plan between two piles, entropic by `solve_transport`; the cheapest one at epsilon 0.

    Raises:
        ValueError: epsilon or a pile is negative or not finite, or their masses differ.
    """
    if epsilon == 0:
        return monotone_plan(source, target)
    cost = torch.from_numpy(line_cost(len(source), len(target)))
    solved = solve_transport(
        cost, torch.tensor(source)[None], torch.tensor(target), epsilon=epsilon, tolerance=1e-9, max_iterations=20_000
    )
    return solved.plan[0].numpy()
