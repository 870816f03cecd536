import numpy as np
import pytest
from hypothesis import example, given
from hypothesis.extra.numpy import arrays
from l2gnet.widgets.inputs import compact, open_scan

from l2gnet.data.volume import Volume


@given(arrays(np.float32, (2, 3, 4), elements={"min_value": -1e6, "max_value": 1e6}))
@example(np.linspace(0, 1, 24, dtype=np.float16).reshape(2, 3, 4))
def test_intensities_come_back_to_within_a_level(array):
    stored, (slope, intercept) = compact(array)
    assert stored.dtype in (np.uint8, np.int16, np.uint16)
    spread = float(array.max()) - float(array.min())
    assert (
        np.abs(stored * slope + intercept - array).max() <= spread / 65535 * 0.51 + 1e-6 * np.abs(array).max() + 1e-30
    )


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.array([-1024.0, 3071.0]), np.int16),
        (np.array([0, 65535]), np.uint16),
        (np.array([True, False]), np.uint8),
        (np.array([0.0, 0.5]), np.uint16),
    ],
)
def test_whole_numbers_stay_as_they_are(array, kind):
    stored, (slope, intercept) = compact(array.reshape(1, 1, 2))
    assert stored.dtype == kind
    assert np.allclose(stored * slope + intercept, array, atol=1e-5)
    assert (slope == 1.0) == (array.dtype.kind in "biu" or (array == array.round()).all())


@pytest.mark.parametrize("kind", [np.asarray, lambda array: Volume(array, np.eye(4))])
def test_a_scan_is_finite(kind):
    array = np.ones((2, 3, 4), np.float32)
    array[1, 2, 3] = np.inf
    with pytest.raises(ValueError, match=r"every voxel must be finite; got values from 1\.0 to inf; replace them"):
        open_scan(kind(array), None)
