import itertools
import json
import math

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from scipy import ndimage
from scipy.spatial.distance import cdist

from l2gnet.data.regions import Regions
from l2gnet.data.volume import IGNORED
from l2gnet.errors import ConfigError, VolumeError
from l2gnet.evaluation.metrics import score_case, summarise

SPACING_MM = (3.0, 0.5, 0.75)
SHAPE = (14, 16, 18)
CLASSES = ("background", "organ")
VOXEL_ML = 3.0 * 0.5 * 0.75 / 1000
EMPTY = np.zeros(SHAPE, np.uint8)
INF, NAN = math.inf, math.nan


def box(start, size, shape=SHAPE):
    volume = np.zeros(shape, np.uint8)
    volume[tuple(slice(a, a + b) for a, b in zip(start, size, strict=True))] = 1
    return volume


def score_one(prediction, truth, spacing_mm=SPACING_MM, **settings):
    (score,) = score_case(prediction, truth, CLASSES, spacing_mm, **settings)
    return score


def distances_mm(start, other, spacing_mm):
    """Surface distances by brute force, from the definition: a voxel with one of its six neighbours outside."""

    def surface_mm(volume):
        padded = np.pad(volume.astype(bool), 1)
        neighbours = [np.roll(padded, step, axis) for axis in range(3) for step in (-1, 1)]
        return (np.argwhere(padded & ~np.logical_and.reduce(neighbours)) - 1) * np.array(spacing_mm)

    between = cdist(surface_mm(start), surface_mm(other))
    return between.min(1), between.min(0)


@st.composite
def volumes(draw):
    """Two blobs, smooth or speckled, that may touch the border; neither is empty."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.tuples(*[st.integers(2, 10)] * 3))
    sigma = draw(st.sampled_from([0.0, 1.0, 2.0]))
    share = draw(st.floats(0.02, 0.9))
    noise = [ndimage.gaussian_filter(rng.standard_normal(shape), sigma) for _ in range(2)]
    return [(field >= np.quantile(field, 1 - share)).astype(np.uint8) for field in noise]


spacings = st.tuples(*[st.floats(0.2, 6.0)] * 3)


@pytest.mark.parametrize(("axis", "shift"), [*itertools.product(range(3), (1, 2, 3))])
def test_a_shifted_plate_has_known_scores(axis, shift):
    # One voxel thin across the shift: every voxel is surface, and its nearest partner is the shifted one.
    size = [4, 5, 6]
    size[axis] = 1
    start = [3, 3, 3]
    truth = box(start, size)
    start[axis] += shift
    distance_mm = shift * SPACING_MM[axis]

    score = score_one(box(start, size), truth, nsd_tolerance_mm=distance_mm)
    assert score.hd95_mm == pytest.approx(distance_mm, rel=1e-12)
    assert score.assd_mm == pytest.approx(distance_mm, rel=1e-12)
    assert (score.dice, score.nsd, score.false_negative_rate) == (0, 1, 1)
    assert not score.missed  # wrong everywhere, but predicted
    assert not score.false_positive
    assert score.truth_ml == score.predicted_ml == pytest.approx(math.prod(size) * VOXEL_ML)
    assert score_one(box(start, size), truth, nsd_tolerance_mm=0.99 * distance_mm).nsd == 0


@pytest.mark.parametrize(("axis", "shift"), [*itertools.product(range(3), (1, 2))])
def test_a_shifted_box_has_known_overlap_and_mean_distance(axis, shift):
    size = [4, 4, 4]
    start = [3, 3, 3]
    truth = box(start, size)
    start[axis] += shift
    score = score_one(box(start, size), truth, spacing_mm=(1.0, 1.0, 1.0), nsd_tolerance_mm=0.5)
    assert score.dice == pytest.approx((4 - shift) / 4)
    assert score.false_negative_rate == pytest.approx(shift / 4)
    # 56 surface voxels. Shifted by k, the far 4x4 face lies k away and each of the k-1 rings of 12 behind it one less;
    # at the other end the 2x2 core of the plate k inside the other box lies 1 or 2 voxels from its surface.
    expected = {1: (16 * 1 + 4 * 1) / 56, 2: (16 * 2 + 12 * 1 + 4 * 1) / 56}[shift]
    assert score.assd_mm == pytest.approx(expected, rel=1e-12)
    assert score.hd95_mm == pytest.approx(shift)
    assert score.nsd == pytest.approx({1: 36 / 56, 2: 24 / 56}[shift])


def test_single_voxels_are_their_distance_apart():
    score = score_one(box((2, 3, 4), (1, 1, 1)), box((5, 7, 8), (1, 1, 1)))
    expected = math.hypot(3 * 3.0, 4 * 0.5, 4 * 0.75)
    assert score.hd95_mm == pytest.approx(expected)
    assert score.assd_mm == pytest.approx(expected)
    assert score.nsd == 0
    assert score_one(box((2, 3, 4), (1, 1, 1)), box((5, 7, 8), (1, 1, 1)), nsd_tolerance_mm=expected).nsd == 1


def test_nested_cubes_have_known_scores():
    # A 3x3x3 cube (26 surface voxels) in the middle of a 7x7x7 one (218), with voxels of 2 mm.
    inner, outer = box((5, 5, 5), (3, 3, 3)), box((3, 3, 3), (7, 7, 7))
    score = score_one(inner, outer, spacing_mm=(2.0, 2.0, 2.0), nsd_tolerance_mm=4.0)
    offsets = [max(abs(i) - 1, 0) for i in range(-3, 4)]  # from the inner cube, along one axis
    outward = [
        2 * math.hypot(offsets[i], offsets[j], offsets[k])
        for i, j, k in itertools.product(range(7), repeat=3)
        if {0, 6} & {i, j, k}
    ]
    assert len(outward) == 218
    assert score.dice == pytest.approx(2 * 27 / (27 + 343))
    assert score.false_negative_rate == pytest.approx(1 - 27 / 343)
    assert score.hd95_mm == pytest.approx(np.percentile(outward, 95))  # the larger direction, not both pooled
    assert score.assd_mm == pytest.approx((26 * 4 + sum(outward)) / (26 + 218))
    assert score.nsd == pytest.approx((26 + 6 * 9) / (26 + 218))  # only the faces' 3x3 middles are 4 mm away
    assert score.predicted_ml == pytest.approx(27 * 8 / 1000)
    assert score.truth_ml == pytest.approx(343 * 8 / 1000)


def test_a_perfect_prediction_is_perfect_in_both_conventions():
    truth = box((0, 0, 0), (4, 4, 4))  # touches the border of the volume
    score = score_one(truth, truth.copy(), nsd_tolerance_mm=0.0)
    assert (score.dice, score.hd95_mm, score.assd_mm, score.nsd, score.false_negative_rate) == (1, 0, 0, 1, 0)
    for convention in ("strict", "transunet"):
        score = score_one(truth, truth.copy(), spacing_mm=None, convention=convention)
        assert (score.dice, score.hd95_voxels, score.false_negative_rate) == (1, 0, 0)


@pytest.mark.parametrize(
    ("prediction", "truth", "convention", "spacing_mm", "expected"),
    [  # dice, hd95_mm, assd_mm, nsd, hd95_voxels, false-negative rate, missed, false positive
        (0, 1, "strict", SPACING_MM, (0, INF, INF, 0, NAN, 1, True, False)),
        (1, 0, "strict", SPACING_MM, (0, INF, INF, 0, NAN, NAN, False, True)),
        (0, 0, "strict", SPACING_MM, (NAN, NAN, NAN, NAN, NAN, NAN, False, False)),
        (0, 1, "strict", None, (0, NAN, NAN, NAN, INF, 1, True, False)),
        (1, 0, "strict", None, (0, NAN, NAN, NAN, INF, NAN, False, True)),
        (0, 0, "strict", None, (NAN, NAN, NAN, NAN, NAN, NAN, False, False)),
        (0, 1, "transunet", SPACING_MM, (0, NAN, NAN, NAN, 0, 1, True, False)),
        (1, 0, "transunet", SPACING_MM, (1, NAN, NAN, NAN, 0, NAN, False, True)),
        (0, 0, "transunet", SPACING_MM, (0, NAN, NAN, NAN, 0, NAN, False, False)),
        (0, 1, "transunet", None, (0, NAN, NAN, NAN, 0, 1, True, False)),
        (1, 0, "transunet", None, (1, NAN, NAN, NAN, 0, NAN, False, True)),
        (0, 0, "transunet", None, (0, NAN, NAN, NAN, 0, NAN, False, False)),
    ],
)
def test_missed_false_and_absent_structures(prediction, truth, convention, spacing_mm, expected):
    organ = box((2, 2, 2), (3, 3, 3))
    score = score_one(organ * np.uint8(prediction), organ * np.uint8(truth), spacing_mm, convention=convention)
    found = (score.dice, score.hd95_mm, score.assd_mm, score.nsd, score.hd95_voxels, score.false_negative_rate)
    assert [*found, score.missed, score.false_positive] == pytest.approx(list(expected), nan_ok=True)
    voxel_ml = NAN if spacing_mm is None else VOXEL_ML
    assert score.truth_ml == pytest.approx(truth * 27 * voxel_ml, nan_ok=True)
    assert score.predicted_ml == pytest.approx(prediction * 27 * voxel_ml, nan_ok=True)


def medpy_percase(prediction, truth):
    """`calculate_metric_percase` of TransUNet's utils.py, from its definition: MedPy's dc and hd95 of two masks."""
    if prediction.sum() > 0 and truth.sum() > 0:
        there, back = distances_mm(prediction, truth, (1.0, 1.0, 1.0))
        dice = 2 * np.sum(prediction & truth, dtype=float) / (prediction.sum() + truth.sum())
        return dice, np.percentile(np.hstack([there, back]), 95)
    return (1, 0) if prediction.sum() > 0 else (0, 0)


@settings(max_examples=60, deadline=None)
@given(volumes(), st.booleans(), st.booleans())
def test_the_transunet_convention_is_that_of_its_code(pair, predicted, there):
    prediction, truth = pair[0] * np.uint8(predicted), pair[1] * np.uint8(there)
    score = score_one(prediction, truth, convention="transunet")
    assert (score.dice, score.hd95_voxels) == pytest.approx(medpy_percase(prediction, truth))


def test_structures_are_scored_apart_and_in_the_order_of_the_classes():
    truth = EMPTY.astype(np.int16)
    truth[2:6, 2:6, 2:6], truth[8:12, 8:12, 8:12] = 1, 3
    prediction = truth.copy()
    prediction[2:6, 2:6, 2:4] = 3  # half of the first organ taken for the third
    first, second, third = score_case(prediction, truth, ("background", "a", "b", "c"), SPACING_MM)
    assert [first.structure, second.structure, third.structure] == ["a", "b", "c"]
    assert (first.dice, first.false_negative_rate) == (pytest.approx(2 * 32 / 96), 0.5)
    assert math.isnan(second.dice)
    assert (third.dice, third.false_negative_rate) == (pytest.approx(2 * 64 / (64 + 96)), 0)
    assert third.hd95_mm > 10


@pytest.mark.parametrize("dtype", ["u1", "i2", ">i2", "i8", "u8"])
def test_every_integer_type_scores_alike(dtype):
    truth, prediction = box((2, 2, 2), (5, 5, 5)), box((3, 3, 3), (5, 5, 5))
    assert score_one(prediction.astype(dtype), np.asfortranarray(truth.astype(dtype))) == score_one(prediction, truth)


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # MONAI 1.6 warns of its own call
@settings(max_examples=60, deadline=None)
@given(volumes(), spacings, st.floats(0.0, 8.0))
def test_agrees_with_monai(pair, spacing_mm, tolerance_mm):
    score = score_one(*pair, spacing_mm=spacing_mm, nsd_tolerance_mm=tolerance_mm)
    masks = [torch.from_numpy(volume)[None, None] for volume in pair]
    given_to_all = {"include_background": True, "spacing": spacing_mm}
    hd95 = compute_hausdorff_distance(*masks, percentile=95, **given_to_all).item()
    assd = compute_average_surface_distance(*masks, symmetric=True, **given_to_all).item()
    nsd = compute_surface_dice(*masks, class_thresholds=[tolerance_mm], **given_to_all).item()
    # torch.quantile rounds the rank to float32, which shifts its place between two neighbouring distances.
    largest = compute_hausdorff_distance(*masks, **given_to_all).item()
    assert score.hd95_mm == pytest.approx(hd95, rel=1e-6, abs=pair[0].size * 2**-23 * largest)
    assert score.assd_mm == pytest.approx(assd, rel=1e-6)
    assert score.nsd == pytest.approx(nsd, rel=1e-6)


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # as above
def test_a_volume_of_one_slice_is_scored_by_its_outlines():
    """Discs of 30 px that lie 4 px apart, as MONAI scores pictures."""
    rows, columns = np.mgrid[:128, :128]
    pair = [(np.hypot(rows - 64, columns - middle) < 30).astype(np.uint8) for middle in (60, 64)]
    masks = [torch.from_numpy(picture)[None, None] for picture in pair]
    given_to_all = {"include_background": True, "spacing": (1.0, 1.0)}
    hd95 = compute_hausdorff_distance(*masks, percentile=95, **given_to_all).item()
    nsd = compute_surface_dice(*masks, class_thresholds=[2.0], **given_to_all).item()
    flat = [picture[None] for picture in pair]
    score = score_one(*flat, spacing_mm=(8.0, 1.0, 1.0))
    assert (score.hd95_mm, score.nsd) == pytest.approx((hd95, nsd), rel=1e-6)
    assert (hd95, nsd < 0.5) == (4, True)
    # Their code erodes in three dimensions, so every voxel is of the surface.
    assert score_one(*flat, convention="transunet").hd95_voxels == pytest.approx(medpy_percase(*flat)[1])


@settings(max_examples=60, deadline=None)
@given(volumes(), spacings, st.floats(0.0, 8.0))
def test_agrees_with_brute_force_in_both_conventions(pair, spacing_mm, tolerance):
    overlap = 2 * np.sum(pair[0] & pair[1], dtype=float) / np.sum(pair, dtype=float)
    score = score_one(*pair, spacing_mm=spacing_mm, nsd_tolerance_mm=tolerance)
    there, back = distances_mm(*pair, spacing_mm)
    both = np.hstack([there, back])
    assert score.dice == pytest.approx(overlap)
    assert score.hd95_mm == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-9)
    assert score.assd_mm == pytest.approx(both.mean(), rel=1e-9)
    near = np.abs(both - tolerance) < 1e-5  # rounding may put these on either side
    assert abs(score.nsd - np.mean(both <= tolerance)) <= near.mean() + 1e-12

    there, back = distances_mm(*pair, (1.0, 1.0, 1.0))
    larger, pooled = max(np.percentile(there, 95), np.percentile(back, 95)), np.percentile(np.hstack([there, back]), 95)
    for convention, expected in (("strict", larger), ("transunet", pooled)):
        score = score_one(*pair, spacing_mm=None, convention=convention)
        assert (score.dice, score.hd95_voxels) == pytest.approx((overlap, expected), rel=1e-9)


def test_the_conventions_differ_where_the_definitions_do():
    # Ten far voxels of a hundred and ten: above the 95th percentile of one direction, below that of both pooled.
    truth = box((1, 2, 2), (1, 10, 10))
    prediction = truth.copy()
    prediction[12, 2, 2:12] = 1
    assert score_one(prediction, truth).hd95_mm == pytest.approx(11 * 3.0)
    assert score_one(prediction, truth, spacing_mm=None).hd95_voxels == pytest.approx(11)
    assert score_one(prediction, truth, convention="transunet").hd95_voxels == 0


@settings(max_examples=30, deadline=None)
@given(volumes(), spacings)
def test_exchanging_prediction_and_truth_changes_only_what_has_a_direction(pair, spacing_mm):
    score, swapped = score_one(*pair, spacing_mm=spacing_mm), score_one(*pair[::-1], spacing_mm=spacing_mm)
    assert (score.dice, score.hd95_mm, score.nsd) == (swapped.dice, swapped.hd95_mm, swapped.nsd)
    assert score.assd_mm == pytest.approx(swapped.assd_mm, rel=1e-12)  # the sum runs in another order
    assert (score.truth_ml, score.predicted_ml) == (swapped.predicted_ml, swapped.truth_ml)


@settings(max_examples=30, deadline=None)
@given(volumes(), spacings, st.sampled_from([0.5, 2.0, 4.0]))
def test_distances_scale_with_the_spacing(pair, spacing_mm, factor):
    score = score_one(*pair, spacing_mm=spacing_mm, nsd_tolerance_mm=1.0)
    scaled = score_one(*pair, spacing_mm=tuple(factor * side for side in spacing_mm), nsd_tolerance_mm=factor)
    assert scaled.hd95_mm == pytest.approx(factor * score.hd95_mm)
    assert scaled.assd_mm == pytest.approx(factor * score.assd_mm)
    assert scaled.truth_ml == pytest.approx(factor**3 * score.truth_ml)
    assert (scaled.dice, scaled.nsd) == (score.dice, score.nsd)


@pytest.mark.parametrize(
    ("convention", "spacing_mm"), [("transunet", SPACING_MM), ("transunet", None), ("strict", None)]
)
def test_distances_are_in_voxels_where_mm_are_not_wanted_or_not_known(convention, spacing_mm):
    truth, prediction = box((2, 2, 2), (1, 5, 5)), box((4, 2, 2), (1, 5, 5))
    score = score_one(prediction, truth, spacing_mm, convention=convention)
    assert score.hd95_voxels == 2
    assert all(math.isnan(number) for number in (score.hd95_mm, score.assd_mm, score.nsd))
    assert score.truth_ml == pytest.approx(25 * VOXEL_ML if spacing_mm else NAN, nan_ok=True)


def test_hd95_between_two_voxels_takes_the_rank_between_neighbours():
    # Twenty predicted voxels on a line, the truth its first: distances 0, 1, ... 19 there and 0 back. The 95th
    # percentile of 20 numbers lies at rank 0.95 * 19 = 18.05, that of all 21 at rank 0.95 * 20 = 19 of 0, 0, 1, ... 19.
    truth, prediction = np.zeros((2, 1, 1, 24), np.uint8)
    truth[0, 0, 2], prediction[0, 0, 2:22] = 1, 1
    assert score_one(prediction, truth, spacing_mm=(1.0, 1.0, 0.5)).hd95_mm == pytest.approx(18.05 * 0.5)
    assert score_one(prediction, truth, spacing_mm=None).hd95_voxels == pytest.approx(18.05)
    assert score_one(prediction, truth, convention="transunet").hd95_voxels == pytest.approx(18)


def summary_of(*pairs):
    scores = {}
    for case, (prediction, truth) in enumerate(pairs):
        scores[f"case{case}"] = score_case(prediction, truth, CLASSES, SPACING_MM)
    summary = summarise(scores)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    return summary


def test_a_summary_counts_a_missed_structure_and_not_an_absent_one():
    truth = box((2, 2, 2), (1, 5, 5))
    near, far = (box((2 + k, 2, 2), (1, 5, 5)) for k in (1, 3))
    summary = summary_of((truth, truth), (near, truth), (far, truth), (EMPTY, truth), (EMPTY, EMPTY), (truth, EMPTY))
    organ = summary["structures"]["organ"]
    assert summary["cases"] == 6
    assert (organ["missed"], organ["false_positive"], organ["absent"]) == (1, 1, 1)
    assert organ["dice"] == {"mean": 0.2, "std": pytest.approx(0.4), "median": 0, "count": 5, "infinite": 0}
    for name in ("hd95_mm", "assd_mm"):  # 0, 3, 9, infinite, infinite, and one not counted
        assert organ[name] == {
            "mean": pytest.approx(4),
            "std": pytest.approx(math.sqrt(14)),
            "median": pytest.approx(9),
            "count": 5,
            "infinite": 2,
        }
    assert organ["false_negative_rate"]["count"] == 4
    assert organ["false_negative_rate"]["mean"] == 0.75
    assert organ["truth_ml"]["count"] == 6
    assert summary["overall"] == organ


def test_an_absent_structure_is_counted_also_where_no_volume_is_known():
    truth = box((2, 2, 2), (1, 5, 5))
    pairs = [(EMPTY, EMPTY), (EMPTY, truth), (truth, EMPTY), (truth, truth)]
    for convention in ("strict", "transunet"):
        scores = {str(case): score_case(*pair, CLASSES, None, convention=convention) for case, pair in enumerate(pairs)}
        organ = summarise(scores)["structures"]["organ"]
        assert (organ["missed"], organ["false_positive"], organ["absent"]) == (1, 1, 1)
        assert organ["truth_ml"]["count"] == organ["hd95_mm"]["count"] == 0
    assert organ["dice"]["mean"] == 0.5  # TransUNet's: the absent 0, the missed 0, the false 1, the perfect 1
    assert organ["hd95_voxels"] == {"mean": 0, "std": 0, "median": 0, "count": 4, "infinite": 0}


def test_a_summary_is_none_where_infinity_or_nothing_counted():
    organ = box((2, 2, 2), (3, 3, 3))
    missed = summary_of((EMPTY, organ), (EMPTY, organ))["structures"]["organ"]
    assert missed["hd95_mm"] == {"mean": None, "std": None, "median": None, "count": 2, "infinite": 2}
    half = summary_of((EMPTY, organ), (organ, organ))["structures"]["organ"]
    assert half["hd95_mm"] == {"mean": 0, "std": 0, "median": None, "count": 2, "infinite": 1}
    absent = summary_of((EMPTY, EMPTY))["structures"]["organ"]
    assert absent["dice"] == {"mean": None, "std": None, "median": None, "count": 0, "infinite": 0}
    assert absent["absent"] == 1


def test_the_overall_summary_pools_every_structure_of_every_case():
    truth = EMPTY.copy()
    truth[2:5, 2:5, 2:5], truth[8:11, 8:11, 8:11] = 1, 2
    without = np.where(truth == 2, np.uint8(0), truth)
    classes = ("background", "kept", "lost")
    summary = summarise(
        {
            "a": score_case(without, truth, classes, SPACING_MM),
            "b": score_case(truth, truth, classes, SPACING_MM),
            "c": score_case(without, without, classes, SPACING_MM),
        }
    )
    assert list(summary["structures"]) == ["kept", "lost"]
    assert summary["structures"]["lost"]["dice"]["mean"] == 0.5
    assert summary["overall"]["dice"]["mean"] == pytest.approx(4 / 5)
    assert summary["overall"]["dice"]["count"] == 5
    assert (summary["overall"]["missed"], summary["overall"]["absent"]) == (1, 1)


@pytest.fixture
def as_a_user():
    """The tests' shape checks off, so that the library's own errors are seen."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"prediction": EMPTY[1:]}, VolumeError, r"\(13, 16, 18\) and \(14, 16, 18\)"),
        ({"prediction": EMPTY[0], "truth": EMPTY[0]}, VolumeError, r"one shape \(D, H, W\)"),
        ({"prediction": EMPTY[:0], "truth": EMPTY[:0]}, VolumeError, r"\(0, 16, 18\)"),
        ({"prediction": EMPTY.astype(np.float32)}, VolumeError, "prediction must hold integer labels, got float32"),
        ({"truth": EMPTY + np.uint8(2)}, VolumeError, "truth must hold labels 0 to 1.*got 2 to 2"),
        ({"prediction": EMPTY.astype(np.int8) - np.int8(1)}, VolumeError, "prediction must hold.*got -1 to -1"),
        ({"spacing_mm": (1.0, 1.0)}, VolumeError, r"got \(1.0, 1.0\)"),
        ({"spacing_mm": (1.0, 0.0, 1.0)}, VolumeError, "positive sizes in mm"),
        ({"spacing_mm": (1.0, math.nan, 1.0)}, VolumeError, "finite"),
        ({"classes": ("background",)}, ConfigError, "at least one structure"),
        ({"classes": ("background", "organ", "organ")}, ConfigError, "distinct names"),
        ({"nsd_tolerance_mm": -1.0}, ConfigError, "not negative, got -1.0"),
        ({"nsd_tolerance_mm": math.inf}, ConfigError, "must be finite"),
        ({"convention": "voxels"}, ConfigError, "'strict', 'transunet'.*got 'voxels'"),
    ],
)
def test_bad_input_is_refused_with_the_rule_and_the_value(changes, error, message):
    good = {"prediction": EMPTY, "truth": EMPTY, "classes": CLASSES, "spacing_mm": SPACING_MM}
    with pytest.raises(error, match=message):
        score_case(**good | changes)


def test_no_cases_are_refused():
    with pytest.raises(ConfigError, match="at least one case"):
        summarise({})


@pytest.mark.parametrize("convention", ["strict", "transunet"])
def test_what_the_truth_leaves_open_is_not_scored(convention):
    truth, predicted = box((2, 2, 2), (6, 6, 6)), box((2, 2, 2), (6, 6, 12))
    known = score_one(box((2, 2, 2), (6, 6, 7)), truth, convention=convention)
    truth[:, :, 9:] = IGNORED
    assert score_one(predicted, truth, convention=convention) == known
    # nnU-Net counts true and false voxels in the same way, with `ignore_mask` of compute_metrics
    use = truth != IGNORED
    hits, false = ((predicted[use] == 1) & (truth[use] == want) for want in (1, 0))
    assert known.dice == 2 * hits.sum() / (2 * hits.sum() + false.sum())


TUMOUR = Regions(((1, 2, 3), (2, 3), (3,)), (1, 2, 3))
TUMOUR_CLASSES = ("background", "whole", "core", "enhancing")


def test_a_region_is_right_where_prediction_and_truth_have_any_of_its_labels():
    truth = np.array([[[0, 1, 1, 1, 2, 2, 3, 3]]], np.uint8)
    predicted = np.array([[[1, 1, 1, 2, 2, 3, 3, 0]]], np.uint8)
    whole, core, enhancing = score_case(predicted, truth, TUMOUR_CLASSES, SPACING_MM, regions=TUMOUR)
    assert whole.dice == pytest.approx(2 * 6 / (7 + 7))
    assert core.dice == pytest.approx(2 * 3 / (4 + 4))
    assert enhancing.dice == pytest.approx(2 * 1 / (2 + 2))
    assert core.false_negative_rate == pytest.approx(1 / 4)
    assert [score.truth_ml / VOXEL_ML for score in (whole, core, enhancing)] == pytest.approx([7, 4, 2])
    assert [score.structure for score in (whole, core, enhancing)] == list(TUMOUR_CLASSES[1:])


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_a_region_is_scored_as_its_mask_alone(seed):
    """With labels in other numbers in the prediction, some of which the masks do not know, and some unknown voxels."""
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(0, 4, (2, 5, 6, 7)).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.1] = IGNORED
    found = ((1, 2, 3), (1, 3), (5,))
    predicted[predicted == 0] = 5
    scores = score_case(predicted, truth, TUMOUR_CLASSES, SPACING_MM, regions=TUMOUR, found=found)
    for score, own, true in zip(scores, found, TUMOUR.labels, strict=True):
        mask = np.where(truth == IGNORED, IGNORED, np.isin(truth, true)).astype(np.uint8)
        alone = score_one(np.isin(predicted, own).astype(np.uint8), mask)
        for name in ("dice", "hd95_mm", "assd_mm", "nsd", "false_negative_rate", "truth_ml", "predicted_ml"):
            assert getattr(score, name) == pytest.approx(getattr(alone, name), nan_ok=True)


def test_a_structure_that_a_model_does_not_know_is_missed():
    truth = np.array([[[1, 2, 3]]], np.uint8)
    scores = score_case(truth, truth, TUMOUR_CLASSES, SPACING_MM, found=((1,), (), (3,)))
    assert [score.missed for score in scores] == [False, True, False]
