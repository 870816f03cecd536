import numpy as np
from l2gnet.widgets.agreement import agreement, slice_areas, slice_dice


def test_dice_and_areas_of_each_slice():
    rng = np.random.default_rng(0)
    one, two = rng.integers(0, 4, (2, 5, 6, 7)).astype(np.uint8)
    two[3] = one[3]
    one[4] = two[4] = 1
    dice = slice_dice(one, two, 4)
    for d in range(5):
        for label in range(4):
            a, b = one[d] == label, two[d] == label
            expected = 2 * (a & b).sum() / (a.sum() + b.sum()) if (a | b).any() else np.nan
            np.testing.assert_allclose(dice[d, label], expected, rtol=1e-6)
            assert slice_areas(one, 4)[d, label] == a.sum()


def test_256_labels_do_not_overflow():
    labels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    assert (slice_dice(labels, labels, 256) == 1).all()


def test_agreement_of_pixels():
    truth, predicted = np.array([[0, 1, 0, 1, 1]], np.uint8), np.array([[0, 1, 2, 0, 2]], np.uint8)
    assert agreement(truth, predicted, 3).tolist() == [[0, 1, 2, 3, 4]]


def test_where_nothing_is_known_maps_neither_agree_nor_differ():
    truth, predicted = np.array([[255, 255, 255]], np.uint8), np.array([[0, 1, 255]], np.uint8)
    assert agreement(truth, predicted, 2).tolist() == [[0, 0, 0]]
    assert agreement(predicted, truth, 2).tolist() == [[0, 0, 0]]
    assert agreement(truth, predicted, 256).tolist() == [[3, 4, 1]]  # the number of a class


def test_what_is_not_known_counts_for_no_class():
    truth, predicted = np.array([[[1, 1, 255, 255]]], np.uint8), np.array([[[1, 0, 1, 2]]], np.uint8)
    np.testing.assert_allclose(slice_dice(truth, predicted, 3), [[0, 2 / 3, np.nan]])
    np.testing.assert_allclose(slice_dice(predicted, truth, 3), [[0, 2 / 3, np.nan]])
    assert slice_dice(truth, truth, 256)[0, 255] == 1  # the number of a class
