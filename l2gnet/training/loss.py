"""The loss of a segmentation, which looks away from pixels whose label nobody knows."""

import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss, DiceLoss

from l2gnet.data.outputs import masks_of
from l2gnet.data.regions import Regions
from l2gnet.data.volume import IGNORED
from l2gnet.shapes import Bool, Float, Num
from l2gnet.whole_batch import gathered


class SegmentationLoss(DiceCELoss):
    """0.5 cross-entropy + 0.5 Dice of all classes, background included, of logits (B,L,H,W) and labels (B,1,H,W).

    Dice is of each slice, or of the whole `batch` at once; `squared` has squares in its denominator. Pixels labelled
    IGNORED count in neither, as nnU-Net defines it (`DC_and_CE_loss` with an `ignore_label`): cross-entropy is the mean
    over the others, of all processes and of the slices that pass together, and Dice is that of probabilities and labels
    set to 0 there.
    """

    def __init__(self, *, batch: bool, squared: bool):
        super().__init__(
            softmax=True, to_onehot_y=True, lambda_dice=0.5, lambda_ce=0.5, squared_pred=squared, batch=batch
        )
        self.dice_of_shares = DiceLoss(squared_pred=squared, batch=batch)

    def forward(
        self, input: Float[torch.Tensor, "B L H W"], target: Num[torch.Tensor, "B 1 H W"]
    ) -> Float[torch.Tensor, ""]:
        """The loss of a batch, 0 where no label of it is known."""
        known = target != IGNORED
        count = _mean_count(known)
        if count == known.numel():
            return super().forward(input, target)
        labels = target.masked_fill(~known, 0)[:, 0].long()
        truth = F.one_hot(labels, input.shape[1]).movedim(3, 1).to(input)
        dice = self.dice_of_shares(input.softmax(1) * known, truth * known)
        each = F.cross_entropy(input, labels, reduction="none") * known[:, 0]
        return self.lambda_dice * dice + self.lambda_ce * each.sum() / count.clamp_min(1)


class RegionLoss(torch.nn.Module):
    """0.5 binary cross-entropy + 0.5 Dice of each region by itself, of logits (B,L,H,W) and labels (B,1,H,W).

    As nnU-Net's `DC_and_BCE_loss`: no softmax, no background. Dice is as in `SegmentationLoss`. Pixels labelled IGNORED
    count in neither. Cross-entropy is the mean over pixels and regions even then, where nnU-Net adds up the regions:
    one pixel that nobody knows shall not weigh the loss anew.
    """

    def __init__(self, regions: Regions, *, batch: bool, squared: bool):
        super().__init__()
        self.regions = regions
        self.dice = DiceLoss(squared_pred=squared, batch=batch)

    def forward(
        self, input: Float[torch.Tensor, "B L H W"], target: Num[torch.Tensor, "B 1 H W"]
    ) -> Float[torch.Tensor, ""]:
        """The loss of a batch, 0 where no label of it is known."""
        known = target != IGNORED
        truth = masks_of(target[:, 0], self.regions.labels).to(input)
        dice = self.dice(input.sigmoid() * known, truth)
        each = F.binary_cross_entropy_with_logits(input, truth, reduction="none") * known
        return 0.5 * dice + 0.5 * each.sum() / (_mean_count(known) * input.shape[1]).clamp_min(1)


def _mean_count(known: Bool[torch.Tensor, "B 1 H W"]) -> Float[torch.Tensor, ""]:
    """How many pixels are known, in the mean over the processes that share a batch: a share with few weighs less."""
    return gathered(known.sum()).float().mean()
