import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2gnet.data.volume import IGNORED
from l2gnet.inspection.code_atlas import CodeAtlas, count_labels, map_codes, typical_labels


def atlas(seed=0, S=6, K=7, side=12, cells=4):
    random = np.random.default_rng(seed)
    return CodeAtlas(
        images=random.integers(0, 256, (S, side, side)).astype(np.uint8),
        codes=random.integers(0, K - 1, (S, cells, cells)),  # the last code never fires
        vectors=random.normal(size=(K, 5)),
        labels=random.integers(0, 3, (S, side, side)).astype(np.uint8),
        case=np.arange(S) // 2,
    )


def test_use_is_counted_for_an_image_a_volume_and_everything():
    a = atlas()
    volume = a.slices_of(3)
    assert volume.tolist() == [2, 3]
    for among, size in ((volume[1:], 16), (volume, 32), (None, 96)):
        counts = a.usage(among).counts
        assert counts.sum() == size
        assert (
            counts.tolist()
            == np.bincount(a.codes[slice(None) if among is None else among].ravel(), minlength=7).tolist()
        )
    assert a.usage().counts[6] == 0


def test_frequency_is_the_share_of_slices_and_adds_up_to_one_over_codes():
    a, volume = atlas(), np.array([2, 3])
    assert np.allclose(sum(a.frequency(code, volume) for code in range(7)), 1)
    assert a.frequency(int(a.codes[3, 1, 2]), np.array([3]))[1, 2] == 1


def test_labels_are_counted_under_the_cell_of_each_bottleneck_pixel():
    a = atlas()
    expected = np.zeros((7, 3), dtype=int)
    for s in range(6):
        for y in range(12):
            for x in range(12):
                expected[a.codes[s, y // 3, x // 3], a.labels[s, y, x]] += 1
    assert np.array_equal(a.label_counts, expected)
    assert np.allclose(a.label_shares[:6].sum(1), 1)
    assert a.label_shares[6].tolist() == [0, 0, 0]
    assert np.allclose(a.purity[:6], (expected / expected.sum(1, keepdims=True).clip(1)).max(1)[:6])


def test_a_code_that_follows_a_structure_is_pure():
    labels = np.zeros((1, 8, 8), dtype=np.uint8)
    labels[0, :4, :4] = 1
    codes = np.array([[[1, 0], [0, 0]]])
    a = CodeAtlas(labels.astype(float), codes, np.eye(3), labels)
    assert a.purity.tolist() == [1, 1, 0]
    assert a.label_shares[:, 1].tolist() == [0, 1, 0]


def test_the_typical_label_is_the_one_most_above_its_share():
    counts = np.array([[90, 10, 0], [800, 5, 0], [60, 0, 40], [0, 0, 0]])
    assert typical_labels(counts).tolist() == [1, 0, 2, 0]
    assert typical_labels(counts[:, :1]).tolist() == [0, 0, 0, 0]


def test_examples_are_places_where_the_code_fires_spread_over_all_of_them():
    a = atlas()
    places = a.examples(2, 5)
    assert len(places) == 5
    assert all(a.codes[tuple(place)] == 2 for place in places)
    every = np.argwhere(a.codes == 2)
    assert places[0].tolist() == every[0].tolist()
    assert places[-1].tolist() == every[-1].tolist()
    assert set(a.examples(2, 99, np.array([3]))[:, 0].tolist()) <= {3}
    assert a.examples(6, 5).shape == (0, 3)


def test_a_patch_is_centred_on_its_bottleneck_pixel():
    a = atlas()
    assert np.array_equal(a.patch(np.array([1, 1, 2]), 3), a.images[1, 3:6, 6:9])
    corner = a.patch(np.array([1, 0, 0]), 5)
    assert np.array_equal(corner[1:, 1:], a.images[1, :4, :4])
    assert not corner[0].any()


@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 6))
def test_the_map_of_the_codes_is_their_principal_components(seed, K, d):
    vectors = np.random.default_rng(seed).normal(size=(K, d))
    places, share = map_codes(vectors)
    variances = np.linalg.eigvalsh(np.atleast_2d(np.cov(vectors.T, bias=True)))[::-1] if K > 1 else np.zeros(1)
    assert np.allclose(np.square(places).mean(0)[: min(2, d)], variances[:2])
    assert share == pytest.approx(min(1, variances[:2].sum() / max(variances.sum(), 1e-300)))
    assert (places.max(0) >= -places.min(0) - 1e-9).all()  # the sign is decided


def test_arrays_that_do_not_belong_together_are_refused(as_a_user):
    a = atlas()
    with pytest.raises(ValueError, match=r"indices must lie in 0\.\.4, the codebook's rows, got 0\.\.5"):
        CodeAtlas(a.images, a.codes, a.vectors[:5])
    with pytest.raises(ValueError, match="each slice needs codes, got 5 slices and 6"):
        CodeAtlas(a.images[:5], a.codes, a.vectors)
    with pytest.raises(ValueError, match=r"labels must have the images' shape \(6, 12, 12\), got \(6, 4, 4\)"):
        CodeAtlas(a.images, a.codes, a.vectors, a.labels[:, :4, :4])
    with pytest.raises(ValueError, match=r"case must name a volume for each of 6 slices, got \(2,\)"):
        CodeAtlas(a.images, a.codes, a.vectors, case=np.arange(2))
    with pytest.raises(ValueError, match="at least one slice"):
        CodeAtlas(a.images[:0], a.codes[:0], a.vectors)


def test_pixels_whose_label_nobody_knows_stand_for_nothing():
    codes = np.array([[[0, 1]]])
    labels = np.array([[[1, IGNORED, 2, 2]]], np.uint8)
    assert count_labels(codes, labels, 2).tolist() == [[0, 1, 0], [0, 0, 2]]
