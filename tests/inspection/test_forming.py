import numpy as np
import pytest

from l2gnet.inspection.code_atlas import map_codes
from l2gnet.inspection.forming import FORMING_FILE, read_forming


def write(folder, vectors, uses, epochs):
    np.savez(folder / FORMING_FILE, epochs=np.array(epochs), vectors=vectors.astype(np.float16), uses=uses)


def test_all_epochs_lie_on_the_map_of_the_last(tmp_path):
    random = np.random.default_rng(0)
    last = random.integers(-8, 8, (12, 5)) / 4  # what half precision can hold
    vectors = np.stack([last + 1, last])  # first, all codes were shifted by the same
    uses = random.integers(0, 9, (2, 12))
    write(tmp_path, vectors, uses, [1, 4])
    forming = read_forming(tmp_path)
    places, variance = map_codes(last)
    np.testing.assert_allclose(forming.places[1], places, atol=1e-12)
    moved = forming.places[0] - forming.places[1]
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0], moved.shape), atol=1e-12)  # one projection for both
    assert np.abs(moved[0]).max() > 0.1
    assert forming.variance == pytest.approx(variance)
    assert (forming.epochs.tolist(), forming.uses.tolist()) == ([1, 4], uses.tolist())


def test_a_run_without_a_codebook_has_nothing_to_tell(tmp_path):
    assert read_forming(tmp_path) is None


def test_a_codebook_of_one_dimension_has_a_map(tmp_path):
    write(tmp_path, np.arange(6.0).reshape(2, 3, 1), np.ones((2, 3), int), [1, 2])
    assert (read_forming(tmp_path).places[..., 1] == 0).all()
