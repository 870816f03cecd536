import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import entropy

from l2gnet.data.dataset import Case
from l2gnet.data.grid import Grid
from l2gnet.data.volume import Volume
from l2gnet.errors import CheckpointError
from l2gnet.models import build_model
from l2gnet.models.card import ModelCard
from l2gnet.prediction.doubt import find_strange, grey_range, learn_familiar, said_of_frames
from l2gnet.prediction.familiar import Familiar, Look, code_surprise
from l2gnet.prediction.inference import Segmented, segment

GRID = Grid(2.0, 32)
AFFINE = np.array([[0, 0, -2.0, 0], [0, -2.0, 0, 0], [8.0, 0, 0, 0], [0, 0, 0, 1]])


def scan(seed, spacing=1.0):
    array = np.random.default_rng(seed).gamma(2, 50, (4, 40, 40)).astype(np.float32)
    return Volume(array, AFFINE @ np.diag([spacing, spacing, spacing, 1]))


def cases(count=6):
    return [Case(f"c{i}", f"p{i // 2}", "", "", lambda i=i: (scan(i), scan(i))) for i in range(count)]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model("l2gnet", classes=3, width=4, depth=2, codes=8, code_dim=8, references=4)


@pytest.fixture(scope="module")
def familiar(model):
    return learn_familiar(model, cases(), GRID)


def see(model, volume):
    return segment([model], volume, GRID)


def test_the_limits_are_just_beyond_the_volumes_held_out(model, familiar):
    seen = [see(model, case.load()[0]) for case in cases()]
    assert familiar.volumes == 6
    distances = np.array([volume.distances[0].mean() for volume in seen])
    assert distances.max() <= familiar.distance <= distances.mean() + 4 * distances.std(ddof=1)
    confidences = np.array([volume.confidence.mean() for volume in seen])
    assert confidences.mean() - 4 * confidences.std(ddof=1) <= familiar.confidence <= confidences.min()
    assert sum(familiar.code_counts) == sum(volume.codes[0].size for volume in seen)
    assert familiar.spacing_mm == ((8, 8), (2, 2), (2, 2))
    assert familiar.axes == ("SPL",)
    for case, volume in zip(cases(), seen, strict=True):
        assert find_strange(case.load()[0], volume, [familiar]).reasons == ()


def test_a_patient_does_not_make_its_own_codes_familiar(model):
    """Two volumes of one patient: neither has ever been seen, so both surprise by all of their codes."""
    alone = learn_familiar(model, cases(2), GRID)
    histogram = np.bincount(see(model, scan(0)).codes[0].ravel(), minlength=8)
    assert alone.surprise >= code_surprise(histogram, np.zeros(8, np.int64)) - 1e-9


def test_surprise_is_the_divergence_from_the_usual_codes():
    usual = np.array([60, 30, 10, 0])
    assert code_surprise(np.array([6, 3, 1, 0]), usual) == pytest.approx(0, abs=0.01)
    expected = entropy([0.5, 0, 0, 0.5], (usual + 0.5) / 102)
    assert code_surprise(np.array([5, 0, 0, 5]), usual) == pytest.approx(expected)


def strange(familiar, volume, *, distances=None, confidence=1.0, grain=None):
    shape = (len(volume.array), 8, 8)
    codes = np.broadcast_to(np.repeat(np.arange(8), familiar.code_counts)[:64].reshape(8, 8), shape)
    return find_strange(
        volume,
        Segmented(
            volume,
            np.full(shape[0], confidence),
            familiar.grain[0] if grain is None else grain,
            (codes,),
            (np.full(shape, distances or 0.0),),
            (confidence,),
        ),
        [familiar],
    )


def test_what_reaches_the_edge_of_what_a_model_sees_is_said():
    """The scan goes on beyond the 32 mm that are seen, to the left alone."""
    array = np.zeros((2, 16, 30), np.uint8)
    labels = Volume(array, np.diag([8.0, 2.0, 2.0, 1.0]))
    seen = Segmented(labels, np.ones(2), 1.0, (None,), (None,), (1.0,))

    def told():
        return find_strange(labels, seen, [None], ("background", "liver", "spleen"), grid=Grid(2.0, 16)).reasons

    array[:, 4:8, 12:16], array[:, 0:4, 12:16] = 1, 2  # in the middle, and at the end of the scan itself
    assert not any("cut off" in reason for reason in told())
    array[:, 4:8, 7:9] = 1
    assert "liver: cut off at the edge of the 32 mm around the middle that the model sees" in told()


def test_what_a_model_sees_may_hold_the_middle_of_no_pixel():
    few = Volume(np.ones((2, 2, 2), np.uint8), np.diag([8.0, 1000.0, 1000.0, 1.0]))
    seen = Segmented(few, np.ones(2), 1.0, (None,), (None,), (1.0,))
    reasons = find_strange(few, seen, [None], ("background", "liver"), grid=Grid(1.5, 96)).reasons
    assert not any("cut off" in reason for reason in reasons)


@pytest.mark.parametrize("slices", [390, 391, 392])
def test_grey_values_are_those_of_the_whole_scan(slices):
    """However many slices: voxels that lie a whole row apart would all be of one column."""
    array = np.zeros((slices, 64, 64), np.float32)
    array[:, 16:48, 16:48] = 100
    assert grey_range(Volume(array, np.eye(4))) == (0, 100)
    array = np.zeros((100, 32, 64 * slices // 100), np.float32)
    array[:, :, 8:] = 100
    assert grey_range(Volume(array, np.eye(4))) == (0, 100)


def test_each_thing_that_is_not_normal_is_said(familiar):
    assert "features lie 9.000 from their codes" in strange(familiar, scan(0), distances=9.0).reasons[0]
    unsure = strange(familiar, scan(0), confidence=0.1)
    assert any("the model is sure by 0.100 only" in reason for reason in unsure.reasons)
    wide = strange(familiar, scan(0, spacing=3.0))
    assert any("its voxels measure 24 mm along D, 8 to 8 mm held out" in reason for reason in wide.reasons)
    hounsfield = scan(0).like(scan(0).array * 10 - 1000)
    assert any("grey values begin at -9" in reason for reason in strange(familiar, hounsfield).reasons)
    assert any(
        "grain is 0.10" in reason and "blurred" in reason for reason in strange(familiar, scan(0), grain=0.1).reasons
    )
    assert any(
        "grain is 2.00" in reason and "noisy" in reason for reason in strange(familiar, scan(0), grain=2.0).reasons
    )
    single = Volume(scan(0).array[:1], AFFINE)
    assert any("it is one slice" in reason for reason in strange(familiar, single).reasons)


def test_what_is_beyond_a_limit_does_not_read_as_if_it_were_the_limit(familiar):
    known = replace(familiar, distance=0.3741, confidence=0.8844)
    near = strange(known, scan(0), distances=0.3744, confidence=0.88397).reasons
    assert near[0] == "the model is sure by 0.8840 only, from 0.8844 on is normal"
    assert near[1] == "its features lie 0.3744 from their codes, up to 0.3741 is normal"
    far = strange(known, scan(0), distances=0.4, confidence=0.8).reasons
    assert far[1] == "its features lie 0.400 from their codes, up to 0.374 is normal"
    assert said_of_frames({1: near, 2: far}) == [f"{reason} (in frame 1, likewise in 2)" for reason in near]


def test_a_blurred_and_a_noisy_scan_are_told_from_those_held_out(model):
    def smooth(seed, mm):
        return scan(0).like(gaussian_filter(scan(seed).array, (0, mm, mm)))

    held_out = [Case(f"c{i}", f"p{i}", "", "", lambda i=i: (smooth(i, 2.0), smooth(i, 2.0))) for i in range(6)]
    known = learn_familiar(model, held_out, GRID)
    told = {mm: find_strange(smooth(3, mm), see(model, smooth(3, mm)), [known]).reasons for mm in (0.5, 2.0, 5.0)}
    about_grain = {mm: [reason for reason in reasons if "grain" in reason] for mm, reasons in told.items()}
    assert "noisy" in about_grain[0.5][0]
    assert about_grain[2.0] == []
    assert "blurred" in about_grain[5.0][0]


def test_grain_is_that_of_slopes_and_of_noise(model):
    slope = np.broadcast_to(np.arange(40, dtype=np.float32), (4, 40, 40))
    assert see(model, scan(0).like(slope.copy())).grain == pytest.approx(0.5, abs=0.02)
    noise = np.random.default_rng(0).normal(size=(4, 40, 40)).astype(np.float32)
    assert segment([model], scan(0).like(noise), Grid(2.0, 20)).grain == pytest.approx(1, abs=0.1)


def test_codes_that_nobody_used_are_counted(model, familiar):
    seen = see(model, scan(0))
    counts = list(familiar.code_counts)
    code = int(np.bincount(seen.codes[0].ravel()).argmax())
    counts[code] = 0
    told = find_strange(scan(0), seen, [replace(familiar, code_counts=tuple(counts))])
    assert told.unused == pytest.approx((seen.codes[0] == code).mean())
    assert any("its codes are unusual by" in reason for reason in told.reasons)


def test_a_model_without_a_codebook_still_knows_its_confidence():
    plain = build_model("unet", classes=3, width=4, depth=2)
    familiar = learn_familiar(plain, cases(2), GRID)
    assert familiar.code_counts == ()
    told = find_strange(scan(0), segment([plain], scan(0), GRID), [replace(familiar, confidence=1.1)])
    assert (told.distance, told.surprise, told.unused) == (None, None, None)
    assert "the model is sure by" in told.reasons[0]


def test_an_ensemble_is_judged_by_all_of_its_models_in_whatever_order(model, familiar):
    """Three models, of which one has held out coarser volumes in another plane, and one a limit that is not reached."""
    torch.manual_seed(1)
    models = [model, build_model("unet", classes=3, width=4, depth=2), model]
    seen = segment(models, scan(0), GRID)
    assert seen.alone == pytest.approx([segment([each], scan(0), GRID).confidence.mean() for each in models])
    sure = np.mean(seen.alone)
    axes, spacing_mm = ("RPS",), ((80, 80), (20, 20), (20, 20))
    known = [replace(familiar, confidence=sure - 0.2 + n * 0.1, grain=(0, 9)) for n in range(3)]
    known[1] = replace(known[1], axes=axes, spacing_mm=spacing_mm, darkest=(-9e9, 9e9))
    assert sure < known[2].confidence + 0.01
    for order in itertools.permutations(range(3)):
        ranked = [known[n] for n in order]
        assert find_strange(scan(0), seen, ranked).reasons == ()
        lifted = [replace(each, confidence=each.confidence + 0.11) for each in ranked]
        assert len(find_strange(scan(0), seen, lifted).reasons) == 1


def test_a_model_of_an_ensemble_that_does_not_say_what_is_normal_is_told(model, familiar):
    seen = segment([model, model], scan(0, spacing=9.0), GRID)
    for known in ([familiar, None], [None, familiar]):
        reasons = find_strange(scan(0, spacing=9.0), seen, known).reasons
        assert "the card of 1 of the 2 models does not say what is normal" in reasons
        assert any("its voxels measure" in reason for reason in reasons)


def looks(distances, confidences=None):
    confidences = [0.9] * len(distances) if confidences is None else confidences
    return [
        Look(f"p{n}", np.ones(4, np.int64), distance, confidence, 1.0, (8.0, 2.0, 2.0), 0.0, "RPS")
        for n, (distance, confidence) in enumerate(zip(distances, confidences, strict=True))
    ]


@pytest.mark.parametrize("volumes", [5, 8, 40])
def test_one_in_a_hundred_like_those_held_out_is_beyond_the_limits(volumes):
    random, beyond = np.random.default_rng(0), []
    for _ in range(400):
        distances, confidences = random.normal(3.0, 0.2, volumes), random.normal(0.9, 0.02, volumes)
        known = Familiar.of_looks(looks(distances.tolist(), confidences.tolist()))
        assert known.distance >= distances.max()
        assert known.confidence <= confidences.min()
        beyond += [(random.normal(3.0, 0.2, 100) > known.distance).mean()]
        beyond += [(random.normal(0.9, 0.02, 100) < known.confidence).mean()]
    assert np.mean(beyond) == pytest.approx(0.01, abs=0.003)


def test_limits_are_the_extremes_where_those_lie_farther_and_of_one_volume_itself():
    far = [1.0] * 60 + [9.0]
    assert Familiar.of_looks(looks(far)).distance == 9.0
    alone = Familiar.of_looks(looks([2.0], [0.8]))
    assert (alone.distance, alone.confidence) == (2.0, 0.8)
    assert Familiar.of_looks(looks([2.0, 3.0])).distance == pytest.approx(2.5 + 4 * 0.5**0.5 * 1.5**0.5)


def test_what_is_familiar_comes_back_from_the_card(familiar):
    card = ModelCard("l2gnet", {}, ("background", "a", "b"), GRID, {"familiar": familiar.as_dict()})
    assert Familiar.of(card) == familiar
    assert Familiar.of(replace(card, training={})) is None
    older = {name: value for name, value in familiar.as_dict().items() if name != "grain"}
    assert Familiar.of(replace(card, training={"familiar": older})).grain == (0, np.inf)
    with pytest.raises(CheckpointError, match="limits are damaged"):
        Familiar.of(replace(card, training={"familiar": {"distance": "far"}}))
    for wrong in ({"confidence": np.nan}, {"grain": (0, np.inf)}, {"volumes": np.inf}, {"code_counts": [-1]}):
        with pytest.raises(CheckpointError, match="limits are damaged"):  # else every scan would be familiar
            Familiar.of(replace(card, training={"familiar": familiar.as_dict() | wrong}))


def test_a_scan_whose_header_mirrors_it_is_doubted(model, familiar):
    seen = see(model, scan(0))
    labels = np.zeros_like(seen.labels.array)
    labels[:, 10:30, 2:10], labels[:, 10:30, 30:38] = 1, 2
    names = ("background", "right kidney", "left kidney")
    told = {}
    for way in (1.0, -1.0):
        there = Volume(labels, np.diag([way, 1, 1, 1]) @ seen.labels.affine)
        told[way] = find_strange(scan(0), replace(seen, labels=there), [familiar], names).reasons
    question = "does its header mirror it, or were the two exchanged?"
    assert told[1.0] == ()
    assert told[-1.0] == (f"right kidney lies 56 mm to the left of left kidney: {question}",)


def test_each_reason_is_said_once_with_the_frames_that_it_holds_for():
    grain = "its grain is {}, 0.62 at most held out: is it noisy?"
    frames = {
        1: [grain.format(0.93), "its channel 0 is blank", "its channel 1 is blank"],
        2: [],
        9: [grain.format(-1.2e-05)],
        12: ["it is one slice"],
    }
    assert said_of_frames(frames) == [
        f"{grain.format(0.93)} (in frame 1, likewise in 9)",
        "its channel 0 is blank (in frame 1)",
        "its channel 1 is blank (in frame 1)",
        "it is one slice (in frame 12)",
    ]
    assert said_of_frames({1: frames[1]}) == frames[1]
    ribs = [f"rib {number}: cut off at the edge" for number in (3, 7)]
    assert said_of_frames({1: ribs[:1], 2: ribs[1:]}) == [f"{ribs[0]} (in frame 1)", f"{ribs[1]} (in frame 2)"]
    mirrored = "right lung lies {} mm to the left of left lung"
    assert said_of_frames({1: [mirrored.format(56)], 2: [mirrored.format(7)]}) == [
        f"{mirrored.format(56)} (in frame 1, likewise in 2)"
    ]
    assert said_of_frames({}) == []
