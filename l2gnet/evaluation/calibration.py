"""Whether probabilities can be taken at their word: of what a model calls 80 % sure, is 80 % right?

Over all voxels of all cases together, on the original grid of each scan.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from l2gnet.data.regions import NO_REGIONS, Regions
from l2gnet.data.volume import IGNORED
from l2gnet.models.card import ModelCard
from l2gnet.shapes import Float, Int64, UInt8

BINS = 15  # of equal width, as in Guo et al. 2017


class Calibration:
    """Counts over voxels, and the numbers that follow from them.

    The expected calibration error is that of Guo et al. 2017 (arXiv 1706.04599): voxels go by the probability of the
    most probable class, their confidence, into 15 bins of equal width; the error is the mean over the bins, by their
    share of the voxels, of `|share that is right - mean confidence|`. The Brier score (Brier 1950) is the mean over
    voxels of the sum over classes of (p - y)^2, from 0 to 2. Since most voxels are background of which any model is
    sure, both are also told of the voxels where truth or prediction have a structure.

    A region is a question of its own, yes or no: with regions, voxels are counted once for each, as of two classes.

    Args:
        classes: those of the masks, background first.
        regions: of which labels of the masks the classes are made.
        card: what the model segments, if it is something else; what the masks do not know counts as background.
    """

    def __init__(self, classes: Sequence[str], regions: Regions = NO_REGIONS, card: ModelCard | None = None):
        segmented, self._theirs = (card.classes, card.regions) if card else (classes, regions)
        self._number = [classes.index(name) if name in classes else 0 for name in segmented]
        self._classes, self._masks = len(classes), regions
        self._voxels, self._right = (np.zeros((2, BINS), np.int64) for _ in range(2))  # first where nothing is
        self._confidence = np.zeros((2, BINS))
        self._squares = np.zeros(2)

    def add(self, probabilities: Float[np.ndarray, "B M H W"], truth: UInt8[np.ndarray, "B H W"]) -> None:
        """Count some slices; a probability for each class or region of the model, a label for each of the masks."""
        numbers = self._number[1:] if self._theirs else self._number
        shares = np.zeros((self._classes, *truth.shape), np.float32)
        for number, share in zip(numbers, probabilities.swapaxes(0, 1), strict=True):
            shares[number] += share
        known = truth != IGNORED
        shares, truth = shares[:, known], truth[known]
        if not (self._theirs or self._masks):
            self._count(shares, truth)
            return
        for share, labels in zip(shares[1:], self._masks.labels_of(self._classes), strict=True):
            self._count(np.stack([1 - share, share]), np.isin(truth, labels).astype(np.uint8))

    def _count(self, shares: Float[np.ndarray, "L voxels"], truth: UInt8[np.ndarray, " voxels"]) -> None:
        labels, confidence = shares.argmax(0), shares.max(0).astype(np.float64)
        right = labels == truth
        where = ((labels > 0) | (truth > 0)).astype(np.int64)
        bins = where * BINS + (np.ceil(confidence * BINS).astype(np.int64) - 1).clip(0, BINS - 1)
        self._voxels += _binned(bins)
        self._right += _binned(bins, right)
        self._confidence += _binned(bins, confidence)
        of_truth = np.take_along_axis(shares, truth[None].astype(np.int64), 0)[0]
        squares = np.square(shares, dtype=np.float64).sum(0) - 2 * of_truth + 1
        self._squares += np.bincount(where, squares, minlength=2)

    def of_case(self, truth: UInt8[np.ndarray, "D H W"]) -> Callable[[Tensor], None]:
        """What counts the slices of a case, as they come from `segment`, one after the other."""
        slices = iter(truth)

        def count(scores: Float[Tensor, "B M H W"]) -> None:
            self.add(scores.cpu().numpy(), np.stack([next(slices) for _ in scores]))

        return count

    def as_dict(self) -> dict[str, Any]:
        """For JSON: both numbers over all voxels, and over those of structures; None where there are none."""
        return {"all_voxels": self._numbers(slice(None)), "structures": self._numbers(slice(1, None))}

    def table(self) -> list[dict[str, Any]]:
        """The reliability of each bin: where confidence and the share that is right are one, a model is calibrated."""
        rows = []
        for among, part in (("all voxels", slice(None)), ("structures", slice(1, None))):
            voxels, right, confidence = (x[part].sum(0) for x in (self._voxels, self._right, self._confidence))
            for index in np.flatnonzero(voxels).tolist():
                rows.append(
                    {
                        "voxels_of": among,
                        "from": round(index / BINS, 4),
                        "to": round((index + 1) / BINS, 4),
                        "voxels": int(voxels[index]),
                        "confidence": float(confidence[index] / voxels[index]),
                        "right": float(right[index] / voxels[index]),
                    }
                )
        return rows

    def __str__(self) -> str:
        """One line."""
        told = [
            f"{part['expected_calibration_error']:.4f} and {part['brier']:.4f} {where}"
            for where, part in zip(
                ("over all voxels", "over those of structures"), self.as_dict().values(), strict=True
            )
            if part["voxels"]
        ]
        return f"expected calibration error and Brier score: {', '.join(told)}"

    def _numbers(self, part: slice) -> dict[str, float | int | None]:
        voxels, right, confidence = (x[part].sum(0) for x in (self._voxels, self._right, self._confidence))
        count = int(voxels.sum())
        return {
            "expected_calibration_error": float(np.abs(right - confidence).sum() / count) if count else None,
            "brier": float(self._squares[part].sum() / count) if count else None,
            "voxels": count,
        }


def _binned(bins: Int64[np.ndarray, " voxels"], weights: np.ndarray | None = None) -> np.ndarray:
    found = np.bincount(bins, weights, minlength=2 * BINS)
    return found.reshape(2, BINS).astype(np.int64 if weights is None or weights.dtype == bool else np.float64)
