"""Dice of a model at work: voxels counted batch by batch on the model's grid, added up over the slices of a case."""

import torch
from torch import Tensor

from l2gnet.data.outputs import masks_of
from l2gnet.data.regions import NO_REGIONS, Regions
from l2gnet.data.volume import IGNORED
from l2gnet.shapes import Float, Int64, Integer


class Overlap:
    """How many pixels predictions and truth share.

    Args:
        cases: how many cases there are.
        classes: L, with background.
        device: where the labels will be.
        regions: of which labels the classes are made.
    """

    def __init__(self, cases: int, classes: int, device: torch.device | str = "cpu", regions: Regions = NO_REGIONS):
        self.regions = regions
        self._structures = regions.labels_of(classes)
        self._both, self._sizes, self._truth = torch.zeros(3, cases, classes - 1, dtype=torch.int64, device=device)

    def add(
        self, predicted: Int64[Tensor, "B H W"], truth: Integer[Tensor, "B H W"], case: Int64[Tensor, " B"]
    ) -> None:
        """Count the pixels of slices, each of a case, but for those that the truth leaves open."""
        left_out = truth == IGNORED
        known = predicted.masked_fill(left_out, 0)
        a, b = (masks_of(labels, self._structures).flatten(2) for labels in (known, truth))
        self._both.index_add_(0, case, (a & b).sum(2))
        self._sizes.index_add_(0, case, a.sum(2) + b.sum(2))
        self._truth.index_add_(0, case, b.sum(2))

    def dice(self) -> Float[Tensor, "cases structures"]:
        """Dice of each structure in each case; NaN where neither prediction nor truth has it."""
        return 2 * self._both / self._sizes

    def false_negatives(self) -> Float[Tensor, "cases structures"]:
        """The share of each structure that was missed in each case; NaN where the truth has none."""
        return 1 - self._both / self._truth
