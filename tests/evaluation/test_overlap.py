import numpy as np
import torch

from l2gnet.data.regions import Regions
from l2gnet.data.volume import IGNORED
from l2gnet.evaluation.metrics import score_case
from l2gnet.evaluation.overlap import Overlap


def test_dice_of_slices_added_up_is_that_of_the_volume():
    generator = torch.Generator().manual_seed(0)
    truth, predicted = torch.randint(0, 3, (2, 6, 5, 7), generator=generator)
    case = torch.tensor([0, 1, 0, 1, 0, 1])  # slices come in any order
    overlap = Overlap(2, 3)
    for rows in ([0, 1, 2, 3], [4, 5]):
        overlap.add(predicted[rows], truth[rows].byte(), case[rows])
    for number in (0, 1):
        volumes = (labels[case == number].numpy().astype(np.uint8) for labels in (predicted, truth))
        scores = score_case(*volumes, ("background", "a", "b"), (1.0, 1.0, 1.0))
        np.testing.assert_allclose(overlap.dice()[number], [score.dice for score in scores], rtol=1e-6)


def test_what_neither_has_is_no_number():
    overlap = Overlap(1, 3)
    overlap.add(torch.ones(1, 2, 2).long(), torch.ones(1, 2, 2).long(), torch.tensor([0]))
    assert overlap.dice()[0, 0] == 1
    assert overlap.dice()[0, 1].isnan()


def test_what_was_missed_is_a_share_of_the_truth():
    truth = torch.tensor([[[1, 1, 1, 1], [2, 2, 0, 0]]])
    overlap = Overlap(1, 4)
    overlap.add(torch.tensor([[[1, 0, 0, 2], [2, 2, 1, 0]]]), truth.byte(), torch.tensor([0]))
    missed = overlap.false_negatives()[0]
    assert missed[:2].tolist() == [0.75, 0.0]
    assert missed[2].isnan()


def test_pixels_that_the_truth_leaves_open_count_in_nothing():
    truth = torch.tensor([[[1, 1, IGNORED, IGNORED, 0, 2]]])
    predicted = torch.tensor([[[1, 0, 1, 2, 2, 2]]])
    overlap = Overlap(1, 3)
    overlap.add(predicted, truth.to(torch.uint8), torch.tensor([0]))
    without = Overlap(1, 3)
    without.add(predicted[..., [0, 1, 4, 5]], truth[..., [0, 1, 4, 5]], torch.tensor([0]))
    torch.testing.assert_close(overlap.dice(), torch.tensor([[2 / 3, 2 / 3]]))
    assert torch.equal(overlap.dice(), without.dice())
    assert overlap.false_negatives().tolist() == [[0.5, 0]]


def test_regions_are_counted_by_their_unions():
    regions = Regions(((1, 2, 3), (2, 3), (3,)), (1, 2, 3))
    truth = torch.tensor([[[0, 1, 1, 1, 2, 2, 3, 3, IGNORED]]])
    predicted = torch.tensor([[[1, 1, 1, 2, 2, 3, 3, 0, 3]]])
    overlap = Overlap(1, 4, regions=regions)
    overlap.add(predicted, truth.to(torch.uint8), torch.tensor([0]))
    torch.testing.assert_close(overlap.dice(), torch.tensor([[12 / 14, 6 / 8, 2 / 4]]))
    torch.testing.assert_close(overlap.false_negatives(), torch.tensor([[1 / 7, 1 / 4, 1 / 2]]))
