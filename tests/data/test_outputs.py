import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from l2gnet.data.outputs import confidence_of, labels_of, masks_of, probabilities_of, structures_of
from l2gnet.data.regions import NO_REGIONS, Regions
from l2gnet.data.volume import IGNORED

TUMOUR = Regions(((1, 2, 3), (2, 3), (3,)), (1, 2, 3))
CLASSES = ("background", "whole", "core", "enhancing")


@pytest.mark.parametrize(
    ("found", "label"),
    [((0, 0, 0), 0), ((1, 0, 0), 1), ((1, 1, 0), 2), ((1, 1, 1), 3), ((1, 0, 1), 3), ((0, 1, 0), 2), ((0, 0, 1), 3)],
)
def test_a_later_region_is_painted_over_an_earlier_one(found, label):
    probabilities = 0.1 + 0.8 * torch.tensor(found)[None, :, None, None]
    assert labels_of(probabilities, TUMOUR).item() == label


def test_the_order_of_painting_is_that_of_the_regions_and_not_of_their_numbers():
    kits = Regions(((1, 2, 3), (2, 3), (2,)), (1, 3, 2))  # kidney, mass and tumour, with cysts as 3
    probabilities = torch.tensor([[0.9, 0.9, 0.9], [0.9, 0.9, 0.1], [0.4, 0.9, 0.9]])[..., None, None]
    assert labels_of(probabilities, kits).flatten().tolist() == [2, 3, 2]


def test_a_half_is_not_enough():
    above = torch.nextafter(torch.tensor(0.5), torch.tensor(1.0))
    assert labels_of(torch.full((1, 3, 1, 1), 0.5), TUMOUR).item() == 0
    assert labels_of(above.expand(1, 3, 1, 1), TUMOUR).item() == 3


def test_each_region_is_a_question_of_its_own():
    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    alone = torch.cat([probabilities_of(logits[:, n : n + 1], Regions(((1,),), (1,))) for n in range(3)], dim=1)
    torch.testing.assert_close(probabilities_of(logits, TUMOUR), alone)
    torch.testing.assert_close(alone, 1 / (1 + (-logits).exp()))
    assert structures_of(alone, TUMOUR) is alone


def test_without_regions_the_most_probable_class_is_the_label():
    logits = torch.randn(2, 4, 4, 5, generator=torch.Generator().manual_seed(0))
    shares = probabilities_of(logits, NO_REGIONS)
    assert torch.equal(shares, logits.softmax(1))
    assert torch.equal(labels_of(shares, NO_REGIONS), logits.argmax(1))
    assert torch.equal(structures_of(shares, NO_REGIONS), shares[:, 1:])


def test_confidence_is_the_probability_of_the_label():
    shares = torch.tensor([[0.01, 0.02, 0.04], [0.9, 0.3, 0.01], [0.99, 0.95, 0.9]])[..., None, None]
    torch.testing.assert_close(confidence_of(shares, TUMOUR).flatten(), torch.tensor([0.96, 0.7, 0.9]))
    shares = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.1, 0.4]])[..., None, None]
    assert confidence_of(shares, NO_REGIONS).flatten().tolist() == pytest.approx([0.7, 0.5])


def test_the_masks_of_regions_are_unions_of_labels_and_hold_nothing_unknown():
    labels = torch.tensor([[0, 1, 2, 3, IGNORED]], dtype=torch.uint8)
    of_regions = masks_of(labels, TUMOUR.labels_of(4))[0].int().tolist()
    assert of_regions == [[0, 1, 1, 1, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 0]]
    of_labels = masks_of(labels, NO_REGIONS.labels_of(4))[0].int().tolist()
    assert of_labels == [[0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0]]


@given(st.lists(st.booleans(), min_size=3, max_size=3))
def test_labels_of_nested_regions_give_the_regions_back(found):
    nested = np.logical_and.accumulate(found)
    labels = labels_of(torch.tensor(nested, dtype=torch.float32)[None, :, None, None], TUMOUR)
    assert masks_of(labels, TUMOUR.labels)[0, :, 0, 0].tolist() == nested.tolist()


def test_a_label_is_named_after_all_regions_that_it_lies_in():
    assert TUMOUR.label_names(CLASSES)[:3] == ("background", "1: whole", "2: whole + core")
    assert NO_REGIONS.label_names(CLASSES) == CLASSES
    assert (TUMOUR.outputs(CLASSES), NO_REGIONS.outputs(CLASSES)) == (3, 4)
