"""How far a model looks, told on made data that knows how far away what decides a pixel's class lies."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from l2gnet.data.dataset import Case
from l2gnet.data.grid import Grid
from l2gnet.data.resampling import distances_on_grid
from l2gnet.data.volume import IGNORED
from l2gnet.errors import ConfigError
from l2gnet.shapes import Float, Float32, Int64, Integer

_BINS = 4


@dataclass(frozen=True)
class Reach:
    """The share of labelled pixels whose class was found, by how many pixels away what decides it lies.

    Bins lie between `edges_px` and hold about as many pixels each.
    """

    edges_px: Float[np.ndarray, " edges"]
    found: Float[np.ndarray, " bins"]

    def row(self) -> dict[str, str]:
        """A column a bin, for a table."""
        bounds = zip(self.edges_px[:-1], self.edges_px[1:], self.found, strict=True)
        return {f"{low:.3g} to {high:.3g} px": f"{100 * share:.0f} %" for low, high, share in bounds}


class Distances:
    """How far away the evidence of each labelled pixel lies, in bins.

    Args:
        away_px: the distances, NaN where a pixel has no class to find (see `evidence_on_grid`).
        truth: the labels of the same slices.

    Raises:
        ConfigError: no labelled pixel has a distance.
    """

    def __init__(self, away_px: Float32[np.ndarray, "S H W"], truth: Integer[np.ndarray, "S H W"]):
        self.truth = truth
        asked = np.isfinite(away_px) & (truth > 0) & (truth != IGNORED)
        if not asked.any():
            raise ConfigError("evidence_px must say of a labelled pixel how far away its evidence lies, got none")
        edges = np.unique(np.quantile(away_px[asked], np.linspace(0, 1, _BINS + 1)))
        filled = np.histogram(away_px[asked], edges)[0] > 0  # quantiles may lie between two distances, with none within
        edges = np.append(edges[:-1][filled], edges[-1])
        self.edges_px = edges if len(edges) > 1 else edges.repeat(2)
        inner = self.edges_px[1:-1]
        self.bins = np.where(asked, np.searchsorted(inner, away_px, side="right"), -1)


class ReachCount:
    """Counts labelled pixels, and those found, at each distance to their evidence."""

    def __init__(self, distances: Distances):
        self.distances = distances
        self.all, self.right = np.zeros((2, len(distances.edges_px) - 1), dtype=np.int64)

    def add(self, predicted: Int64[np.ndarray, "B H W"], rows: Int64[np.ndarray, " B"]) -> None:
        """Count the labels predicted for these slices."""
        bins, right = self.distances.bins[rows], predicted == self.distances.truth[rows]
        self.all += np.bincount(bins[bins >= 0], minlength=len(self.all))
        self.right += np.bincount(bins[(bins >= 0) & right], minlength=len(self.all))

    def reach(self) -> Reach:
        """What was found of all that was counted."""
        return Reach(self.distances.edges_px, self.right / np.maximum(self.all, 1))


def evidence_on_grid(cases: Sequence[Case], grid: Grid) -> Float32[np.ndarray, "S H W"] | None:
    """How many pixels of a model's grid away the evidence lies, of all slices of cases; None where it is not known."""
    away = []
    for case in cases:
        if case.evidence_px is None:
            return None
        scan, _ = case.load()
        away.append(distances_on_grid(scan.like(case.evidence_px()), grid))
    return np.concatenate(away)
