import numpy as np
import pytest

from l2gnet.inspection.code_atlas import CodeAtlas, typical_labels
from l2gnet.inspection.code_card import code_card, neighbours_of

VECTORS = np.array([[2.0, 0], [2, 1], [-2, 0], [0, 0]])
CODES = np.array([[[0, 0], [1, 1]], [[0, 2], [2, 2]]])
DISTANCES = np.array([[[0.3, 0.1], [0.5, 0.5]], [[0.2, 0.0], [0.1, 0.2]]], np.float32)
LABELS = np.zeros((2, 4, 4), np.uint8)
LABELS[0, :2] = 1  # all of code 0 in the first slice
IMAGES = np.zeros((2, 4, 4), np.uint8)


@pytest.fixture
def atlas():
    return CodeAtlas(IMAGES, CODES, VECTORS, LABELS)


def card_of(atlas, code, **options):
    return code_card(atlas, DISTANCES, typical_labels(atlas.label_counts), code, **options)


def test_what_is_counted(atlas):
    card = card_of(atlas, 0)
    assert (card.count, card.tokens, card.slices, card.among) == (3, 8, 2, 2)
    assert card.shares == pytest.approx((1 / 3, 2 / 3))
    assert (card.typical, card.purity) == (1, pytest.approx(2 / 3))


def test_examples_by_distance(atlas):
    examples = card_of(atlas, 0, limit=1).examples
    assert examples["nearest"] == ((0, 0, 1),)
    assert examples["middle"] == ((1, 0, 0),)
    assert examples["farthest"] == ((0, 0, 0),)
    assert set(card_of(atlas, 0).examples["random"]) == {(0, 0, 0), (0, 0, 1), (1, 0, 0)}


def test_a_code_that_never_fires_has_no_examples(atlas):
    card = card_of(atlas, 3)
    assert (card.count, card.slices) == (0, 0)
    assert not any(card.examples.values())


def test_neighbours(atlas):
    assert neighbours_of(VECTORS, 0) == [(1, 0.5), (3, 1.0), (2, 2.0)]
    assert card_of(atlas, 0).neighbours == ((1, 0.5), (3, 1.0), (2, 2.0))
    for code in (-1, 4):
        with pytest.raises(ValueError, match=rf"a code must lie in 0\.\.3, the codebook, got {code}"):
            card_of(atlas, code)
