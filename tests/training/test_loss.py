import pytest
import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss, DiceLoss

from l2gnet.data.regions import Regions
from l2gnet.data.volume import IGNORED
from l2gnet.training.loss import RegionLoss, SegmentationLoss


def batch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 8, 8, generator=generator, requires_grad=True)
    return logits, torch.randint(4, (3, 1, 8, 8), generator=generator)


@pytest.mark.parametrize("squared", [False, True])
def test_without_unknown_pixels_it_is_monais_to_the_bit(squared):
    logits, labels = batch()
    theirs = DiceCELoss(
        softmax=True, to_onehot_y=True, lambda_dice=0.5, lambda_ce=0.5, squared_pred=squared, batch=squared
    )
    assert torch.equal(SegmentationLoss(batch=squared, squared=squared)(logits, labels), theirs(logits, labels))


@pytest.mark.parametrize("squared", [False, True])
def test_with_unknown_pixels_it_is_that_of_the_others(squared):
    """As nnU-Net defines it: cut the unknown columns out, and the loss is the same."""
    logits, labels = batch()
    unknown = labels.clone()
    unknown[..., 5:] = IGNORED
    loss = SegmentationLoss(batch=squared, squared=squared)
    torch.testing.assert_close(loss(logits, unknown), loss(logits[..., :5], labels[..., :5]))
    torch.testing.assert_close(loss(logits, unknown.float()), loss(logits, unknown))  # as deep supervision gives it
    loss(logits, unknown).backward()
    assert logits.grad[..., :5].abs().min() > 0
    assert not logits.grad[..., 5:].any()


def test_cross_entropy_is_torchs_with_an_ignored_index():
    logits, labels = batch()
    labels[0, 0, :3] = IGNORED
    loss = SegmentationLoss(batch=False, squared=False)
    loss.lambda_dice, loss.lambda_ce = 0.0, 1.0
    torch.testing.assert_close(loss(logits, labels), F.cross_entropy(logits, labels[:, 0], ignore_index=IGNORED))


def test_of_nothing_known_it_is_0_and_teaches_nothing():
    logits, labels = batch()
    loss = SegmentationLoss(batch=False, squared=False)(logits, torch.full_like(labels, IGNORED))
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()


TUMOUR = Regions(((1, 2, 3), (2, 3), (3,)), (1, 2, 3))


def regions_batch():
    logits, labels = batch()
    truth = torch.cat([labels >= 1, labels >= 2, labels >= 3], dim=1).float()  # as they are nested
    return logits[:, 1:], labels, truth


@pytest.mark.parametrize("squared", [False, True])
def test_each_region_is_a_binary_problem_of_monai_and_torch(squared):
    logits, labels, truth = regions_batch()
    dice = DiceLoss(sigmoid=True, squared_pred=squared, batch=squared)(logits, truth)
    expected = 0.5 * dice + 0.5 * torch.nn.BCEWithLogitsLoss()(logits, truth)
    torch.testing.assert_close(RegionLoss(TUMOUR, batch=squared, squared=squared)(logits, labels), expected)


def test_the_loss_of_regions_is_nnunets_by_hand():
    """`DC_and_BCE_loss`, which gives minus Dice where MONAI has one less Dice, with weights of 1 for each."""
    logits, labels, truth = regions_batch()
    p = logits.sigmoid()
    dice = (2 * (p * truth).sum((2, 3)) + 1e-5) / ((p + truth).sum((2, 3)) + 1e-5)
    cross_entropy = -(truth * p.log() + (1 - truth) * (1 - p).log()).mean()
    ours = RegionLoss(TUMOUR, batch=False, squared=False)(logits, labels)
    torch.testing.assert_close(2 * ours - 1, cross_entropy - dice.mean())


@pytest.mark.parametrize("squared", [False, True])
def test_what_nobody_knows_is_in_no_region_and_outside_of_none(squared):
    logits, labels, _ = regions_batch()
    logits.retain_grad()
    unknown = labels.clone()
    unknown[..., 5:] = IGNORED
    loss = RegionLoss(TUMOUR, batch=squared, squared=squared)
    torch.testing.assert_close(loss(logits, unknown), loss(logits[..., :5], labels[..., :5]))
    torch.testing.assert_close(loss(logits, unknown.float()), loss(logits, unknown))  # as deep supervision gives it
    loss(logits, unknown).backward()
    assert logits.grad[..., :5].abs().min() > 0
    assert not logits.grad[..., 5:].any()
    assert RegionLoss(TUMOUR, batch=squared, squared=squared)(logits, torch.full_like(labels, IGNORED)) == 0
