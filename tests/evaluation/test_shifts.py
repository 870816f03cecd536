from dataclasses import replace

import numpy as np
import pytest

from l2gnet.data.dataset import Case
from l2gnet.data.volume import Volume
from l2gnet.errors import ConfigError
from l2gnet.evaluation.shifts import LEVELS, SHIFTS, shifted, shifted_cases

SPACING_MM = (8.0, 1.0, 2.0)
D, H, W = 4, 60, 40


def case(pixels, name="p1_ED"):
    def load():
        image = Volume(pixels.astype(np.float32), np.diag([*SPACING_MM, 1.0]))
        return image, image.like((pixels > 50).astype(np.uint8))

    return Case(name, "p1", "NOR", "ED", load)


@pytest.fixture
def disc():
    """A bright disc on dark ground, in 0 to 100."""
    y, x = np.mgrid[:H, :W]
    return np.broadcast_to(100.0 * (np.hypot((y - 30) * 1.0, (x - 20) * 2.0) < 20), (D, H, W)).copy()


def pixels(shifted_case):
    return shifted_case.load()[0].array


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_shift_is_repeatable_grows_with_its_level_and_leaves_labels_alone(shift, disc):
    original = case(0.8 * disc + 10)
    image, labels = shifted(original, shift, 2).load()
    assert np.array_equal(labels.array, original.load()[1].array)
    assert np.array_equal(image.affine, original.load()[0].affine)
    assert image.array.dtype == np.float32
    assert np.array_equal(image.array, pixels(shifted(original, shift, 2)))
    changes = [np.abs(pixels(shifted(original, shift, level)) - pixels(original)).mean() for level in LEVELS]
    if shift == "gamma":  # 0 and 1 stay what they are
        original = case(np.broadcast_to(np.linspace(0, 100, W), (D, H, W)))
        changes = [np.abs(pixels(shifted(original, shift, level)) - pixels(original)).mean() for level in LEVELS]
    assert 0 < changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("shift", ["bias field", "noise"])
def test_what_is_random_differs_from_case_to_case(shift, disc):
    one, other = (pixels(shifted(case(disc, name), shift, 1)) for name in ("p1_ED", "p2_ED"))
    assert not np.allclose(one, other)


def test_every_channel_is_shifted_with_a_noise_of_its_own(disc):
    def load():
        image, label = case(disc).load()
        return replace(image, more=(image.array,)), label

    two = shifted(replace(case(disc), load=load), "noise", 1).load()[0]
    assert np.array_equal(two.array, pixels(shifted(case(disc), "noise", 1)))
    (second,) = two.more
    assert not np.allclose(second, two.array)
    assert np.abs(second - two.array).mean() < 10


def test_noise_has_the_stated_size(disc):
    bright = disc == 100
    noise = (pixels(shifted(case(disc), "noise", 2)) - disc)[bright]
    assert noise.std() == pytest.approx(10, rel=0.05)
    dark = pixels(shifted(case(disc), "noise", 2))[~bright]
    assert dark.mean() == pytest.approx(10 * np.sqrt(np.pi / 2), rel=0.05)  # Rayleigh, as in air
    assert dark.min() >= 0


def test_gamma_is_a_power_of_the_range():
    ramp = np.broadcast_to(np.linspace(-50, 150, W), (D, H, W))
    low, high = np.percentile(ramp, (0.5, 99.5))
    expected = ((ramp - low) / (high - low)).clip(0, 1) ** 2 * (high - low) + low
    assert pixels(shifted(case(ramp), "gamma", 2)) == pytest.approx(expected, abs=1e-3)


def test_blur_is_the_same_in_mm_along_both_axes_and_none_between_slices():
    spot = np.zeros((D, H, W))
    spot[1, 28:33, 18:23] = 100
    before, after = spot[1], pixels(shifted(case(spot), "blur", 3))
    assert after[[0, 2, 3]].max() == 0
    for axis, mm in ((0, 1.0), (1, 2.0)):
        place = np.indices(before.shape)[axis] * mm
        spread = [
            np.sqrt(np.average((place - np.average(place, weights=w)) ** 2, weights=w)) for w in (before, after[1])
        ]
        assert np.sqrt(spread[1] ** 2 - spread[0] ** 2) == pytest.approx(3.0, rel=0.02)


def test_a_coarse_scan_loses_fine_stripes_and_keeps_coarse_ones():
    rows = np.arange(H)[None, :, None]
    for period_mm, kept in ((4, 0.1), (40, 0.8)):
        stripes = np.broadcast_to(50 + 50 * np.sin(2 * np.pi * rows / period_mm), (D, H, W))
        coarse = pixels(shifted(case(stripes), "resolution", 3))[:, 10:-10]
        assert (coarse.std() / stripes.std() > kept) == (period_mm == 40)


def test_a_bias_field_is_smooth_and_of_the_stated_strength():
    flat = np.full((D, H, W), 40.0)
    flat[0] = 0  # so that there is a range
    ratios = [[] for _ in LEVELS]
    for name in range(40):
        for level, found in zip(LEVELS, ratios, strict=True):
            field = pixels(shifted(case(flat, str(name)), "bias field", level))[1:] / 40
            found.append(field.max() / field.min())
            assert np.abs(np.diff(np.log(field), axis=1)).max() < 0.2
    assert np.median(ratios[0]) == pytest.approx(1.3, abs=0.2)
    assert np.median(ratios[1]) == pytest.approx(2.0, abs=0.5)
    assert np.median(ratios[2]) == pytest.approx(3.0, abs=1.0)


@pytest.mark.usefixtures("as_a_user")
def test_unknown_shifts_are_refused(disc):
    with pytest.raises(ConfigError, match="shift must be one of bias field, noise"):
        shifted(case(disc), "rain", 1)
    with pytest.raises(ConfigError, match="level one of"):
        shifted(case(disc), "noise", 4)


def test_cases_keep_their_names(disc):
    names = [shift.name for shift in shifted_cases([case(disc, "a"), case(disc, "b")], "blur", 1)]
    assert names == ["a", "b"]
