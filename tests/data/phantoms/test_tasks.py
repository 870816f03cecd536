"""The tasks of `tasks.py` and `kidneys.py`: no local model can solve them, with or without coordinates, and a rule can.

Both are shown without training: pictures in which a class is another one and everything near is the same, bit for bit.
"""

import functools
import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import ndimage

from l2gnet.data.phantoms import kidneys, make_key, make_kidneys, make_match, make_side, tasks
from l2gnet.data.phantoms.canvas import one_slice
from l2gnet.data.phantoms.tasks import FAR_PX, MARGIN_PX, REACH_PX, SHAPE, SIGNS, Disc, matched
from l2gnet.errors import ConfigError
from l2gnet.inspection.receptive_field import receptive_field_px
from l2gnet.models import build_model

MAKERS = {"key": make_key, "side": make_side, "match": make_match, "kidneys": make_kidneys}
TOSSED = ["key", "side", "kidneys"]


@functools.cache
def case(name, seed=0, flipped=False):
    return MAKERS[name](seed, flipped=flipped)


def empty_canvas():
    return tasks.blank_canvas(SHAPE, tasks.SPACING_MM, 0.0, np.random.default_rng(0))


# What is made


@pytest.mark.parametrize("name", MAKERS)
def test_a_case_is_a_function_of_its_seed_alone(name):
    one, again, other = case(name), MAKERS[name](0), case(name, 1)
    assert np.array_equal(one.image, again.image)
    assert np.array_equal(one.label, again.label)
    assert np.array_equal(one.evidence_px, again.evidence_px, equal_nan=True)
    assert one.name == f"{name}-0000" != other.name
    assert (one.image != other.image).mean() > 0.5
    assert one.image.shape == one.label.shape == one.evidence_px.shape == SHAPE
    assert (one.image.dtype, one.label.dtype) == (np.float32, np.uint8)
    assert np.array_equal(one.image, np.round(one.image))
    assert np.array_equal(np.isnan(one.evidence_px), one.label == 0)


@pytest.mark.parametrize("name", MAKERS)
def test_slices_are_independent_and_each_class_is_as_frequent(name):
    cases = [case(name, seed) for seed in range(3)]
    assert len({made.label[z].tobytes() for made in cases for z in range(SHAPE[0])}) == 3 * SHAPE[0]
    labels = np.stack([made.label for made in cases])
    share = (labels == 1).sum() / (labels > 0).sum()
    assert share == pytest.approx(0.5, abs=0.0 if name == "match" else 0.25)


@pytest.mark.parametrize("name", MAKERS)
def test_a_negative_seed_is_refused(name):
    with pytest.raises(ConfigError, match="seed must be 0 or more, got -3"):
        MAKERS[name](-3)


# No local model can solve it


def test_a_unet_of_depth_2_sees_no_farther_than_said():
    torch.manual_seed(0)
    model = build_model("unet", width=4, depth=2, classes=3).eval()
    images = torch.rand(24, 1, 96, 96, requires_grad=True)  # many: a maximum lets only one pixel of four through
    logits = model(images)
    reach = 0
    for row, column in itertools.product(range(44, 48), repeat=2):  # each place within a token
        (gradient,) = torch.autograd.grad(logits[:, :, row, column].square().sum(), images, retain_graph=True)
        places = torch.nonzero(gradient.abs().sum((0, 1))) - torch.tensor([row, column])
        reach = max(reach, int(places.abs().max()))
    assert reach == REACH_PX
    assert receptive_field_px(model, torch.rand(4, 1, 96, 96), share=1.0) / 2 < REACH_PX  # the tokens see less


def seen_from(places):
    """The pixels that lie within reach of the places."""
    return ndimage.maximum_filter(places, size=(1, 2 * REACH_PX + 1, 2 * REACH_PX + 1))


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("seed", range(3))
def test_where_the_class_is_flipped_nothing_within_reach_is_changed(name, seed):
    one, two = case(name, seed), case(name, seed, True)
    assert np.array_equal(one.label > 0, two.label > 0)
    flipped = one.label != two.label
    changed = one.image != two.image
    assert changed.any((1, 2)).all()
    assert not (seen_from(flipped) & changed).any()
    if name in TOSSED:
        assert np.array_equal(flipped, one.label > 0)  # every labelled pixel of every slice
    else:
        assert [ndimage.label(slice_)[1] for slice_ in flipped] == [2] * SHAPE[0]  # two of the four discs


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(
    ("model", "settings", "told"),
    [
        ("unet", {}, False),
        ("l2gnet", {"relation": "none", "positions": "absolute"}, False),
        ("l2gnet", {"relation": "mean"}, True),
    ],
)
def test_only_who_sees_all_is_told_with_or_without_coordinates(name, model, settings, told):
    torch.manual_seed(0)
    small = {"code_dim": 8, "codes": 0, "heads": 2, "references": 4} if model == "l2gnet" else {}
    network = build_model(model, classes=3, width=4, depth=2, **small, **settings).double().eval()
    one, two = case(name), case(name, 0, True)
    with torch.no_grad():
        answers = [network(torch.from_numpy(made.image[:4, None]).double() / 255).movedim(1, -1) for made in (one, two)]
    one_answer, other = (each[torch.from_numpy(one.label != two.label)[:4]] for each in answers)
    assert torch.equal(one_answer, other) != told


def test_the_coin_is_fair_and_tossed_after_the_discs_lie():
    for draw in (tasks.draw_key, tasks.draw_side):
        slices = [draw(np.random.default_rng(seed), False) for seed in range(100)]
        tosses = [discs[0].label for discs in slices]
        assert 35 < tosses.count(1) < 65
        for seed, discs in enumerate(slices):
            assert {disc.label for disc in discs[:3]} == {discs[0].label}
            other = draw(np.random.default_rng(seed), True)
            assert [(d.place, d.sign, 3 - d.label) for d in discs[:3]] == [
                (d.place, d.sign, d.label) for d in other[:3]
            ]


def test_neither_sign_nor_place_says_whether_a_disc_of_match_has_a_twin():
    # Which two of the four bear the same sign, and which signs there are: all the slices there can be at four places.
    places = [(20, 20), (20, 70), (70, 20), (70, 70)]
    pairs = list(itertools.combinations(range(4), 2))
    count = Counter()
    for pair in pairs:
        for pair_sign, *own in itertools.permutations(SIGNS, 3):
            rest = iter(own)
            discs = matched(places, [pair_sign if n in pair else next(rest) for n in range(4)])
            count.update((disc.place, disc.sign, disc.label) for disc in discs)
    assert len(count) == 4 * len(SIGNS) * 2
    assert len(set(count.values())) == 1
    # They are drawn with equal chances, as the places of the discs are drawn blindly one after the other.
    slices = [tasks.draw_match(np.random.default_rng(seed), False) for seed in range(300)]
    left = [disc for discs in slices for disc in discs if disc.place[1] < 48]
    for sign in SIGNS:
        twins = [disc.label == 1 for disc in left if disc.sign == sign]
        assert np.mean(twins) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(len(twins)))


def test_every_disc_of_match_can_be_flipped_from_beyond_its_reach():
    discs = tasks.draw_match(np.random.default_rng(1), False)
    places, signs = [disc.place for disc in discs], [disc.sign for disc in discs]
    for n in range(4):
        others = [m for m in range(4) if m != n]
        other_signs = list(signs)
        if discs[n].label == 1:  # its twin takes the sign of a third
            twin, third, _ = sorted(others, key=lambda m: signs[m] != signs[n])
            other_signs[twin] = signs[third]
        else:  # one of the twins takes its sign
            other_signs[next(m for m in others if discs[m].label == 1)] = signs[n]
        assert matched(places, other_signs)[n].label == 3 - discs[n].label
        assert sorted(Counter(other_signs).values()) == [1, 1, 2]  # a slice as any other
    gaps = np.abs(np.array(places)[:, None] - np.array(places)).max(-1)
    assert (gaps[~np.eye(4, dtype=bool)] >= FAR_PX).all()


def test_the_picture_of_a_body_is_cropped_so_that_a_kidney_may_lie_anywhere_across():
    columns = {1: [], 2: []}
    for seed in range(3):
        made = case("kidneys", seed)
        for label, found in columns.items():
            found += [ndimage.center_of_mass(slice_ == label)[1] for slice_ in made.label]
    for found in columns.values():
        assert min(found) < 30
        assert max(found) > 66
    assert abs(np.mean(columns[1]) - np.mean(columns[2])) < 12


@pytest.mark.parametrize("seed", range(3))
def test_kidneys_look_alike(seed):
    made = case("kidneys", seed)
    left, right = (made.image[ndimage.binary_erosion(made.label == k, np.ones((1, 3, 3)))] for k in (1, 2))
    assert np.mean(left) == pytest.approx(np.mean(right), abs=6)
    assert np.std(left) == pytest.approx(np.std(right), rel=0.25)
    sizes = [(made.label == k).sum() for k in (1, 2)]
    assert min(sizes) > 0.8 * max(sizes)
    assert all(ndimage.label(slice_ > 0)[1] == 2 for slice_ in made.label)  # both are in every picture, in one piece


# A rule that looks far solves it


@functools.cache
def without_noise(sign):
    """A disc with its sign, 11 by 11 pixels."""
    blank = empty_canvas()
    blank.image[...] = tasks.GREY["ground"]
    tasks.paint_discs(one_slice(blank, 0), [Disc((40, 50), sign)])
    return blank.image[0, 35:46, 45:56]


def nearest_sign(picture, row, column):
    """Which sign a disc bears: the one whose picture without noise is most like it."""
    around = picture[row - 5 : row + 6, column - 5 : column + 6]
    return min(("plain", *SIGNS), key=lambda sign: ((without_noise(sign) - around) ** 2).sum())


def found_discs(picture):
    """Rows, columns and signs of the discs of a picture, from its pixels alone."""
    bright = ndimage.uniform_filter(picture, 3) > 120
    parts, count = ndimage.label(bright)
    middles = np.round(ndimage.center_of_mass(bright, parts, range(1, count + 1))).astype(int)
    return [(row, column, nearest_sign(picture, row, column)) for row, column in middles.tolist()]


def key_rule(picture):
    discs = found_discs(picture)
    sign = next(sign for *_, sign in discs if sign != "plain")
    return {(r, c): {"ring": 1, "cross": 2}[sign] for r, c, own in discs if own == "plain"}


def side_rule(picture):
    discs = found_discs(picture)
    cross = next(column for _, column, sign in discs if sign == "cross")
    return {(r, c): 1 if c < cross else 2 for r, c, own in discs if own == "plain"}


def match_rule(picture):
    discs = found_discs(picture)
    times = Counter(sign for *_, sign in discs)
    return {(r, c): 1 if times[sign] == 2 else 2 for r, c, sign in discs}


@pytest.mark.parametrize(("name", "rule"), [("key", key_rule), ("side", side_rule), ("match", match_rule)])
def test_a_rule_that_sees_the_whole_picture_is_always_right(name, rule):
    for picture, label in itertools.islice(zip(case(name).image, case(name).label, strict=True), 8):
        classes = rule(picture)
        assert len(classes) == ndimage.label(label)[1]
        assert all(label[place] == value for place, value in classes.items())


def test_the_side_of_the_liver_tells_the_kidneys_apart():
    for seed in range(2):
        made = case("kidneys", seed)
        for picture, label in zip(made.image, made.label, strict=True):
            rows, columns = np.nonzero(label)
            middle = round((columns.min() + columns.max()) / 2)
            front = picture[max(0, rows.min() - 45) : rows.min() - 27].clip(-125, 275)
            liver_left = front[:, max(0, middle - 25) : middle].mean() > front[:, middle : middle + 25].mean()
            right_kidney = np.nonzero(label == 2)[1].mean()
            assert (right_kidney < middle) == liver_left


# How far the evidence is


@pytest.mark.parametrize("name", MAKERS)
def test_the_evidence_lies_beyond_reach(name):
    assert np.nanmin(case(name).evidence_px) > REACH_PX


def test_the_distance_is_counted_to_the_disc_that_decides():
    canvas = empty_canvas()
    far = tasks.paint_discs(one_slice(canvas, 2), [Disc((30, 20), "plain", 1, asks=(1,)), Disc((40, 70), "ring")])
    # Discs reach 4 pixels to each side of their middles.
    assert (far[30, 20], far[30, 24], far[30, 16]) == (46, 42, 50)
    assert np.array_equal(np.isnan(far), canvas.label[2] == 0)
    assert (canvas.label[2] > 0).sum() == 69
    assert not canvas.label[[1, 3]].any()


def test_a_twin_asks_its_twin_and_a_single_one_the_farthest():
    places = [(20, 20), (20, 60), (80, 20), (75, 75)]
    discs = matched(places, ["dot", "ring", "dot", "flat"])
    assert [(disc.label, disc.asks) for disc in discs] == [(1, (2,)), (2, (0, 2, 3)), (1, (0,)), (2, (0, 1, 2))]
    canvas = empty_canvas()
    far = tasks.paint_discs(one_slice(canvas, 0), discs)
    assert [far[place] for place in places] == [56, 56, 56, 52]


@pytest.mark.parametrize("seed", range(2))
def test_the_cross_is_to_one_side_of_all_and_stays_there_under_rotation(seed):
    for slice_seed in range(40):
        *blobs, cross = tasks.draw_side(np.random.default_rng([seed, slice_seed]), False)
        assert cross.sign == "cross"
        for blob in blobs:
            down, right = np.subtract(cross.place, blob.place)
            assert max(abs(down), abs(right)) >= FAR_PX
            assert (right > 0) == (blob.label == 1)
            for turn in np.radians([-30, 30]):
                assert (np.cos(turn) * right - np.sin(turn) * down > 0) == (right > 0)
        for disc in (*blobs, cross):
            assert min(disc.place) >= MARGIN_PX
            assert max(disc.place) < SHAPE[1] - MARGIN_PX


def test_liver_and_stomach_change_sides_and_nothing_else_moves():
    one, two = case("kidneys"), case("kidneys", 0, True)
    for z in range(SHAPE[0]):
        rows = np.nonzero((one.image[z] != two.image[z]).any(1))[0]
        kidney_rows = np.nonzero(one.label[z].any(1))[0]
        assert rows.max() < kidney_rows.min() - REACH_PX
    assert kidneys.FRONT_MM < 0
