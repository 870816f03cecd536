import functools
import re

import numpy as np
import pytest
from scipy import ndimage

from l2gnet.data.phantoms import ABDOMEN_CLASSES, HEART_CLASSES, make_abdomen, make_heart
from l2gnet.data.phantoms import heart as phantom_heart
from l2gnet.data.phantoms.canvas import (
    ENDLESS_MM,
    LATTICE,
    Canvas,
    blank_canvas,
    ellipsoid,
    random_streams,
    smooth_noise,
    tube,
)
from l2gnet.errors import ConfigError

# Thin slices for the shape of a heart, and a field of view that holds any of them; coarse pixels for an abdomen.
HEART_GRID = {"shape": (32, 72, 72), "spacing_mm": (4.0, 2.25, 2.25)}
ABDOMEN_GRID = {"shape": (40, 128, 128), "spacing_mm": (5.0, 3.0, 3.0)}
RV, MYOCARDIUM, LV = (HEART_CLASSES.index(name) for name in ("right ventricle", "myocardium", "left ventricle"))
AORTA, GALLBLADDER, LEFT_KIDNEY, RIGHT_KIDNEY, LIVER, PANCREAS, SPLEEN, STOMACH = range(1, 9)
HEART_SEEDS, ABDOMEN_SEEDS = range(4), range(3)


@functools.cache
def heart(seed, phase="ED"):
    return make_heart(seed, phase=phase, **HEART_GRID)


@functools.cache
def abdomen(seed):
    return make_abdomen(seed, **ABDOMEN_GRID)


def volume_ml(case, label):
    return (case.label == label).sum() * np.prod(case.spacing_mm) / 1000


def middle_mm(case, label):
    """Centre of mass from the middle of the volume, in mm along z, y, x."""
    from_corner = np.array(ndimage.center_of_mass(case.label == label))
    return (from_corner - (np.array(case.label.shape) - 1) / 2) * case.spacing_mm


def core(case, label):
    """Values of a structure away from its edge in the picture, where partial volume mixes tissues."""
    inner = ndimage.binary_erosion(case.label == label, np.ones((1, 3, 3)))
    return case.image[inner]


def connected_share(mask):
    parts, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    return np.bincount(parts.ravel())[1:].max() / mask.sum()


def gap_mm(case, one, other):
    """Smallest distance between voxels of two structures."""
    return ndimage.distance_transform_edt(case.label != one, sampling=case.spacing_mm)[case.label == other].min()


def rim(mask):
    """The pixels that touch a mask from outside within each slice."""
    return ndimage.binary_dilation(mask, ndimage.generate_binary_structure(2, 1)[None]) & ~mask


# Both phantoms


@pytest.mark.parametrize(
    ("make", "grid"),
    [
        (make_heart, {"shape": (5, 66, 70), "spacing_mm": (9.0, 2.5, 2.25)}),
        (make_abdomen, {"shape": (8, 90, 100), "spacing_mm": (25.0, 4.0, 4.5)}),
    ],
)
def test_a_patient_is_a_function_of_the_seed_alone(make, grid):
    first = make(7, **grid)
    state = np.random.get_state()[1].copy()
    other = make(8, **grid)
    again = make(7, **grid)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.label, again.label)
    assert first.name == again.name != other.name
    assert (first.image != other.image).mean() > 0.5
    assert ((first.label > 0) != (other.label > 0)).sum() > 0.05 * (first.label > 0).sum()
    assert np.array_equal(state, np.random.get_state()[1])  # nobody else's random numbers are touched


@pytest.mark.parametrize(
    ("make", "classes", "grid"),
    [
        (make_heart, HEART_CLASSES, {"shape": (9, 61, 75), "spacing_mm": (12.0, 2.5, 2.0)}),
        (make_abdomen, ABDOMEN_CLASSES, {"shape": (25, 81, 99), "spacing_mm": (8.0, 4.0, 4.0)}),
    ],
)
def test_a_case_is_on_the_grid_that_was_asked_for(make, classes, grid):
    case = make(1, **grid)
    assert case.image.shape == case.label.shape == grid["shape"]
    assert case.spacing_mm == grid["spacing_mm"]
    assert (case.image.dtype, case.label.dtype) == (np.float32, np.uint8)
    assert np.isfinite(case.image).all()
    assert np.array_equal(case.image, np.round(case.image))
    assert np.unique(case.label).tolist() == list(range(len(classes)))


def test_the_defaults_are_what_the_signatures_say():
    assert make_heart(3).name == "heart-0003-ED"
    assert make_heart(3).label.shape == (10, 128, 128)
    assert make_heart(3).spacing_mm == (10.0, 1.5, 1.5)
    assert make_heart(3, phase="ES").name == "heart-0003-ES"
    assert abdomen(2).name == "abdomen-0002"


@pytest.mark.parametrize(
    ("make", "coarse", "fine"),
    [
        (
            make_heart,
            {"shape": (7, 61, 61), "spacing_mm": (12.0, 2.4, 2.4)},
            {"shape": (13, 121, 129), "spacing_mm": (6.0, 1.2, 1.2)},
        ),
        (
            make_abdomen,
            {"shape": (11, 75, 75), "spacing_mm": (20.0, 4.2, 4.2)},
            {"shape": (21, 149, 157), "spacing_mm": (10.0, 2.1, 2.1)},
        ),
    ],
)
def test_the_same_point_of_a_patient_has_the_same_label_on_any_grid(make, coarse, fine):
    # Both grids have a voxel in the very middle, and every voxel of the coarse one is a voxel of the fine one.
    one, two = make(3, **coarse), make(3, **fine)
    shared = two.label[::2, ::2, 4:-4:2]
    assert shared.shape == one.label.shape
    assert (shared != one.label).sum() <= 2  # a point may lie on a surface, where rounding decides


def test_the_anatomy_keeps_its_volumes_and_places_at_another_spacing():
    there, here = heart(0), make_heart(0, shape=(28, 140, 100), spacing_mm=(4.5, 1.3, 1.9))
    for label in (RV, MYOCARDIUM, LV):
        assert volume_ml(here, label) == pytest.approx(volume_ml(there, label), rel=0.06)
        assert np.abs(middle_mm(here, label) - middle_mm(there, label)).max() < 2.0
    there, here = abdomen(0), make_abdomen(0, shape=(52, 110, 100), spacing_mm=(4.0, 3.5, 4.0))
    for label in range(1, len(ABDOMEN_CLASSES)):
        assert volume_ml(here, label) == pytest.approx(volume_ml(there, label), rel=0.08)
        assert np.abs(middle_mm(here, label) - middle_mm(there, label)).max() < 3.0


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (make_heart, {"seed": -1}, "seed must be 0 or more, got -1"),
        (make_abdomen, {"seed": -20}, "seed must be 0 or more, got -20"),
        (make_heart, {"phase": "systole"}, "phase must be 'ED' or 'ES', got 'systole'"),
        (make_heart, {"phase": "ed"}, "phase must be 'ED' or 'ES', got 'ed'"),
        (make_heart, {"shape": (10, 128, 64)}, "at least 140 mm must be in view along H and W, got 96 mm from shape"),
        (make_heart, {"shape": (10, 79, 128)}, "got 118.5 mm from shape (10, 79, 128)"),
        (make_abdomen, {"shape": (40, 199, 256)}, "at least 300 mm must be in view along H and W, got 298.5 mm"),
        (make_abdomen, {"spacing_mm": (5.0, 1.5, 1.0)}, "got 256 mm from shape (40, 256, 256) and spacing_mm (5.0, 1"),
        (make_heart, {"shape": (0, 128, 128)}, "shape must be three positive integers (D, H, W), got (0, 128, 128)"),
        (make_heart, {"spacing_mm": (0.0, 1.5, 1.5)}, "must be three positive numbers (D, H, W), got (0.0, 1.5, 1.5)"),
        (make_heart, {"spacing_mm": (-8.0, 1.5, 1.5)}, "spacing_mm must be three positive numbers"),
        (make_abdomen, {"spacing_mm": (float("nan"), 1.5, 1.5)}, "spacing_mm must be three positive numbers"),
        (make_abdomen, {"spacing_mm": (5.0, float("inf"), 1.5)}, "got (5.0, inf, 1.5)"),
    ],
)
def test_bad_settings_are_refused_with_the_rule_and_the_value(make, settings, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        make(**{"seed": 0} | settings)


# The heart


@pytest.mark.parametrize("seed", HEART_SEEDS)
@pytest.mark.parametrize("phase", ["ED", "ES"])
def test_every_part_of_a_heart_is_one_piece_of_a_plausible_size(seed, phase):
    case = heart(seed, phase)
    low_and_high_ml = {
        "ED": {RV: (40, 160), MYOCARDIUM: (60, 190), LV: (45, 190)},
        "ES": {RV: (20, 100), MYOCARDIUM: (60, 190), LV: (12, 100)},
    }
    for label, (low, high) in low_and_high_ml[phase].items():
        assert low < volume_ml(case, label) < high
        assert connected_share(case.label == label) > 0.98


@pytest.mark.parametrize("seed", HEART_SEEDS)
def test_both_phases_are_one_heart(seed):
    ed, es = heart(seed, "ED"), heart(seed, "ES")
    assert 0.35 < 1 - volume_ml(es, LV) / volume_ml(ed, LV) < 0.8  # the ejection fraction
    assert 0.25 < 1 - volume_ml(es, RV) / volume_ml(ed, RV) < 0.7
    assert 0.82 < volume_ml(es, MYOCARDIUM) / volume_ml(ed, MYOCARDIUM) < 1.08  # muscle does not vanish
    assert np.abs(middle_mm(ed, MYOCARDIUM) - middle_mm(es, MYOCARDIUM))[1:].max() < 4
    (ed_base, ed_apex), (es_base, es_apex) = (np.flatnonzero((c.label > 1).any((1, 2)))[[0, -1]] for c in (ed, es))
    assert 4 * (es_base - ed_base) >= 8  # the base comes down by 8 mm or more
    assert abs(4 * (es_apex - ed_apex)) <= 4  # the apex stays


def likeness_far_from_the_heart(one, other):
    """Correlation of two pictures where neither shows the heart, its fat or the atria."""
    far = np.ones(one.label.shape, bool)
    for case in (one, other):
        far &= ndimage.distance_transform_edt(case.label == 0, sampling=case.spacing_mm) > 45
    return np.corrcoef(one.image[far], other.image[far])[0, 1]


def test_what_lies_around_the_heart_does_not_beat():
    assert likeness_far_from_the_heart(heart(2, "ED"), heart(2, "ES")) > 0.97


@pytest.mark.parametrize("seed", HEART_SEEDS)
def test_each_phase_has_its_own_noise(seed):
    ed, es = (heart(seed, phase).image[:, :, -10:] for phase in ("ED", "ES"))  # lung, where both show the same
    assert (ed == es).mean() < 0.2


def test_what_lies_around_the_heart_differs_from_patient_to_patient():
    assert likeness_far_from_the_heart(heart(2), heart(3)) < 0.9


@pytest.mark.parametrize("seed", HEART_SEEDS)
@pytest.mark.parametrize("phase", ["ED", "ES"])
def test_the_left_cavity_is_enclosed_by_muscle_in_every_slice(seed, phase):
    label = heart(seed, phase).label
    cavity = label == LV
    assert (label[rim(cavity)] == MYOCARDIUM).all()
    for slice_ in cavity:
        assert np.array_equal(ndimage.binary_fill_holes(slice_), slice_)  # papillary muscles count as cavity
    # No ring is left open towards the apex: it is closed by muscle alone.
    apex = np.flatnonzero((label == MYOCARDIUM).any((1, 2)))[-1]
    assert not cavity[apex].any()


@pytest.mark.parametrize("seed", HEART_SEEDS)
@pytest.mark.parametrize("phase", ["ED", "ES"])
def test_the_right_ventricle_leans_on_the_septum_from_the_patients_right(seed, phase):
    case = heart(seed, phase)
    rv, lv = middle_mm(case, RV), middle_mm(case, LV)
    assert -60 < rv[2] - lv[2] < -20  # x runs to the patient's left
    assert abs(rv[1] - lv[1]) < 20
    for z in np.flatnonzero((case.label == RV).any((1, 2)) & (case.label == LV).any((1, 2)))[1:-1]:
        touched = case.label[z][rim(case.label[z : z + 1] == RV)[0]]
        assert (touched == MYOCARDIUM).mean() > 0.15


@pytest.mark.parametrize("seed", HEART_SEEDS)
def test_a_heart_narrows_from_the_base_to_the_apex(seed):
    for phase in ("ED", "ES"):
        area = (heart(seed, phase).label == LV).sum((1, 2))
        there = np.flatnonzero(area)
        assert np.array_equal(there, np.arange(there[0], there[-1] + 1))  # no slice is skipped
        thirds = [part.mean() for part in np.array_split(area[there], 3)]
        assert thirds[0] > thirds[1] > thirds[2]


def test_slices_beyond_the_heart_hold_the_patient_and_no_label():
    case = make_heart(0, shape=(24, 60, 60), spacing_mm=(10.0, 3.0, 3.0))
    there = np.flatnonzero(case.label.any((1, 2)))
    assert 7 <= len(there) <= 11
    assert there[0] > 4
    assert there[-1] < 19
    outside = case.image[[*range(5), *range(19, 24)]]
    assert (np.percentile(outside, 90, (1, 2)) > 3 * np.percentile(outside, 10, (1, 2))).all()


@pytest.mark.parametrize("seed", HEART_SEEDS)
@pytest.mark.parametrize("phase", ["ED", "ES"])
def test_blood_is_bright_and_muscle_dark_and_lung_darker(seed, phase):
    case = heart(seed, phase)
    rv, muscle, lv = (np.median(core(case, label)) for label in (RV, MYOCARDIUM, LV))
    assert min(rv, lv) > 2 * muscle
    assert max(rv, lv) < 1.6 * min(rv, lv)  # coil shading alone sets them apart
    assert np.percentile(case.image[case.label == 0], 20) < 0.65 * muscle
    dark = core(case, LV) < (muscle + lv) / 2
    assert 0.01 < dark.mean() < 0.4  # papillary muscles and trabeculae


def test_the_signal_of_a_heart_stays_in_its_range():
    cases = [heart(seed, phase) for seed in HEART_SEEDS for phase in ("ED", "ES")]
    assert all(case.image.min() >= 0 and 200 < case.image.max() <= 1200 for case in cases)
    brightness = [np.median(core(case, LV)) for case in cases]
    assert max(brightness) > 1.3 * min(brightness)  # each scan has its own gain


def scanned(signal, noise_seed):
    """A scan of a uniform volume, with the same scanner every time."""
    canvas = blank_canvas((6, 64, 64), (8.0, 2.0, 2.0), 100.0, np.random.default_rng(0))
    canvas.image[...] = signal
    return phantom_heart.scan(canvas, np.random.default_rng(5), np.random.default_rng(noise_seed))


def test_the_noise_of_a_heart_is_rician():
    dark = scanned(0.0, 1)
    assert dark.min() >= 0
    assert dark.mean() / dark.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.02)  # Rayleigh where no signal
    deviation = dark.mean() / np.sqrt(np.pi / 2)
    bright = (scanned(400.0, 1) - scanned(400.0, 2)) / np.sqrt(2)
    assert deviation == pytest.approx(bright.std(), rel=0.03)  # and normal, as wide, where there is much
    assert abs(np.corrcoef(bright[:, :, :-1].ravel(), bright[:, :, 1:].ravel())[0, 1]) < 0.03  # and white


def test_a_signal_beyond_the_range_is_clipped():
    assert scanned(5000.0, 1).max() == scanned(5000.0, 1).min() == 1200


def test_hearts_differ_as_patients_do():
    sizes = np.array([[volume_ml(heart(seed), label) for label in (RV, MYOCARDIUM, LV)] for seed in HEART_SEEDS])
    assert (sizes.std(0) / sizes.mean(0) > 0.04).all()


# The abdomen

PLAUSIBLE_ML = {
    "aorta": (25, 120),
    "gallbladder": (6, 60),
    "left kidney": (80, 260),
    "right kidney": (80, 260),
    "liver": (900, 2000),
    "pancreas": (30, 130),
    "spleen": (70, 350),
    "stomach": (100, 500),
}


@pytest.mark.parametrize("seed", ABDOMEN_SEEDS)
@pytest.mark.parametrize(("organ", "low_and_high"), PLAUSIBLE_ML.items())
def test_every_organ_is_one_piece_of_a_plausible_size(seed, organ, low_and_high):
    case, label = abdomen(seed), ABDOMEN_CLASSES.index(organ)
    low, high = low_and_high
    assert low < volume_ml(case, label) < high
    assert connected_share(case.label == label) > 0.98


@pytest.mark.parametrize("seed", ABDOMEN_SEEDS)
def test_organs_lie_on_their_side_of_the_patient(seed):
    case = abdomen(seed)
    place = {label: middle_mm(case, label) for label in range(1, len(ABDOMEN_CLASSES))}
    z, y, x = ({label: place[label][axis] for label in place} for axis in range(3))
    # x runs to the patient's left
    assert max(x[LIVER], x[GALLBLADDER], x[RIGHT_KIDNEY]) < -25
    assert min(x[SPLEEN], x[STOMACH], x[LEFT_KIDNEY]) > 25
    assert x[STOMACH] < x[SPLEEN]
    assert 0 < x[AORTA] < 25
    # y runs to the back
    assert y[GALLBLADDER] < y[LIVER] < min(y[LEFT_KIDNEY], y[RIGHT_KIDNEY])
    assert y[STOMACH] < y[SPLEEN]
    assert y[PANCREAS] < y[AORTA] < min(y[LEFT_KIDNEY], y[RIGHT_KIDNEY])
    # z runs to the head
    assert max(z[LEFT_KIDNEY], z[RIGHT_KIDNEY], z[GALLBLADDER]) < min(z[LIVER], z[SPLEEN], z[STOMACH])


def test_the_right_kidney_lies_lower_on_average():
    lower = [middle_mm(abdomen(s), LEFT_KIDNEY)[0] - middle_mm(abdomen(s), RIGHT_KIDNEY)[0] for s in ABDOMEN_SEEDS]
    assert np.mean(lower) > 5


@pytest.mark.parametrize("seed", ABDOMEN_SEEDS)
def test_neighbours_are_near_and_strangers_far(seed):
    case = abdomen(seed)
    assert gap_mm(case, LIVER, GALLBLADDER) < 12
    assert gap_mm(case, LIVER, RIGHT_KIDNEY) < 15
    assert gap_mm(case, SPLEEN, LEFT_KIDNEY) < 25
    assert gap_mm(case, SPLEEN, STOMACH) < 20
    assert gap_mm(case, PANCREAS, SPLEEN) < 35
    assert gap_mm(case, PANCREAS, AORTA) < 30
    assert gap_mm(case, LIVER, SPLEEN) > 15
    assert gap_mm(case, LEFT_KIDNEY, RIGHT_KIDNEY) > 40
    assert gap_mm(case, GALLBLADDER, SPLEEN) > 60


def test_the_aorta_runs_through_every_slice_and_the_spine_behind_it():
    for seed in ABDOMEN_SEEDS:
        case = abdomen(seed)
        aorta = case.label == AORTA
        assert aorta.any((1, 2)).all()
        for z in range(0, len(aorta), 6):
            y, _ = (round(middle) for middle in ndimage.center_of_mass(aorta[z]))
            midline = case.image[z, :, 58:70]  # 36 mm
            assert midline[y : y + 25].max() > 210


def test_organs_take_up_contrast_in_the_order_of_the_portal_venous_phase():
    organs = range(1, len(ABDOMEN_CLASSES))
    hu = np.mean([[np.median(core(abdomen(seed), label)) for label in organs] for seed in ABDOMEN_SEEDS], axis=0)
    by_name = dict(zip(ABDOMEN_CLASSES[1:], hu, strict=True))
    order = ["gallbladder", "pancreas", "liver", "spleen", "left kidney"]
    assert sorted(order, key=by_name.get) == order
    assert by_name["stomach"] < by_name["pancreas"] - 20
    assert by_name["aorta"] > by_name["spleen"] + 10
    assert by_name["gallbladder"] == pytest.approx(10, abs=12)
    assert by_name["liver"] == pytest.approx(108, abs=12)
    assert by_name["left kidney"] == pytest.approx(by_name["right kidney"], abs=10)


@pytest.mark.parametrize("seed", ABDOMEN_SEEDS)
def test_a_patient_is_soft_tissue_in_air_with_bone_and_lung_inside(seed):
    image = abdomen(seed).image
    assert image.min() >= -1024
    assert 350 < image.max() <= 1500
    corners = image[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.mean() == pytest.approx(-1000, abs=15)
    trunk = ndimage.binary_fill_holes(image[20] > -300)
    assert 0.03 < trunk.sum() * 9e-6 < 0.12  # m^2 of one slice
    assert (np.abs(image[20][trunk]) < 250).mean() > 0.85
    lung = [ndimage.binary_fill_holes(image[z] > -300) & (image[z] < -700) for z in (-1, 0)]
    assert lung[0].sum() * 9e-6 > 0.01  # at the top
    assert lung[0].sum() > 4 * lung[1].sum()


def test_gas_lies_in_front_of_fluid_in_a_stomach():
    case = abdomen(2)
    stomach = case.label == STOMACH
    gas = stomach & (case.image < -500)
    assert gas.sum() * np.prod(case.spacing_mm) > 1000
    back_of = [ndimage.center_of_mass(part)[1] for part in (gas, stomach & ~gas)]
    assert back_of[0] < back_of[1] - 2


def test_the_boxes_that_save_time_cut_no_organ(monkeypatch):
    grid = {"shape": (20, 76, 76), "spacing_mm": (10.0, 5.0, 5.0)}
    boxed = make_abdomen(1, **grid)
    monkeypatch.setattr(Canvas, "around", lambda canvas, low_mm, high_mm: canvas)
    assert np.array_equal(make_abdomen(1, **grid).label, boxed.label)


# The canvas


@pytest.fixture
def canvas():
    return blank_canvas((41, 45, 49), (1.0, 1.5, 2.0), 50.0, np.random.default_rng(0))


def distance_mm(canvas, z=0.0, y=0.0, x=0.0):
    return np.sqrt((canvas.z - z) ** 2 + (canvas.y - y) ** 2 + (canvas.x - x) ** 2)


def test_a_canvas_has_its_origin_in_the_middle(canvas):
    assert [float(axis[0]) for axis in canvas.axes_mm] == [-20, -33, -48]
    assert [float(axis[-1]) for axis in canvas.axes_mm] == [20, 33, 48]
    assert (canvas.z[20, 22, 24], canvas.y[20, 22, 24], canvas.x[20, 22, 24]) == (0, 0, 0)
    assert np.ptp(canvas.z[3]) == np.ptp(canvas.y[:, 3]) == np.ptp(canvas.x[:, :, 3]) == 0
    assert (canvas.image == 0).all()
    assert (canvas.label == 0).all()
    assert canvas.edge_mm == 2.0


def test_the_depth_in_a_sphere_is_its_radius_less_the_distance(canvas):
    depth = ellipsoid(canvas, (3.0, -5.0, 7.0), (12.0, 12.0, 12.0))
    assert np.abs(depth - (12 - distance_mm(canvas, 3, -5, 7))).max() < 1e-3


def test_the_depth_in_a_cylinder_does_not_feel_its_endless_axis(canvas):
    depth = ellipsoid(canvas, (0.0, 2.0, 4.0), (ENDLESS_MM, 10.0, 10.0))
    assert np.abs(depth - (10 - np.hypot(canvas.y - 2, canvas.x - 4))).max() < 1e-2


def test_an_ellipsoid_has_its_semi_axes_in_the_order_z_y_x(canvas):
    depth = ellipsoid(canvas, (0.0, 0.0, 0.0), (8.0, 15.0, 30.0))
    inside = (canvas.z / 8) ** 2 + (canvas.y / 15) ** 2 + (canvas.x / 30) ** 2
    clear = np.abs(inside - 1) > 1e-4
    assert np.array_equal(depth[clear] > 0, inside[clear] < 1)
    depth[20, 22, 24] = np.nan  # in the very middle every direction has a depth of its own
    along_z, along_y, along_x = depth[:, 22, 24], depth[20, :, 24], depth[20, 22, :]
    for line, semi, place in (
        (along_z, 8, canvas.axes_mm[0]),
        (along_y, 15, canvas.axes_mm[1]),
        (along_x, 30, canvas.axes_mm[2]),
    ):
        assert np.nanmax(np.abs(line - (semi - np.abs(place)))) < 1e-3


def test_the_depth_in_an_ellipsoid_is_right_to_first_order_at_its_surface():
    canvas = blank_canvas((81, 81, 81), (0.5, 0.5, 0.5), 20.0, np.random.default_rng(0))
    depth = ellipsoid(canvas, (0.0, 0.0, 0.0), (8.0, 12.0, 17.0))
    steepness = np.sqrt(sum(slope**2 for slope in np.gradient(depth, 0.5)))
    assert steepness[np.abs(depth) < 0.3] == pytest.approx(1, abs=0.06)


def test_a_straight_tube_is_a_capsule(canvas):
    depth = tube(canvas, [(-10.0, 4.0, -6.0, 7.0), (0.0, 4.0, -6.0, 7.0), (12.0, 4.0, -6.0, 7.0)], 0)
    to_segment = np.sqrt((canvas.z - np.clip(canvas.z, -10, 12)) ** 2 + (canvas.y - 4) ** 2 + (canvas.x + 6) ** 2)
    assert np.abs(depth - (7 - to_segment)).max() < 1e-9


@pytest.mark.parametrize("along", [0, 1, 2])
def test_a_tube_passes_through_its_knots_with_their_radius(canvas, along):
    knots = [(-15.0, -20.0, -30.0, 4.0), (0.0, 0.0, 0.0, 8.0), (15.0, 20.0, 30.0, 6.0)]
    depth = tube(canvas, knots, along)
    others = [axis for axis in range(3) if axis != along]
    # In the plane across `along` through the middle knot, the tube is a disc of its radius.
    plane = np.take(depth, depth.shape[along] // 2, along)
    places = [np.take((canvas.z, canvas.y, canvas.x)[axis], depth.shape[along] // 2, along) for axis in others]
    off = np.hypot(*places)
    assert np.array_equal(plane[np.abs(off - 8) > 1e-6] > 0, off[np.abs(off - 8) > 1e-6] < 8)
    # Depth counts across the tube's own course, which is oblique, so it is less than the radius.
    assert 0 < plane.max() < 8
    for z, y, x, _ in (knots[0], knots[2]):
        nearest = np.unravel_index(distance_mm(canvas, z, y, x).argmin(), depth.shape)
        assert depth[nearest] > 0


def test_an_oblique_tube_is_as_deep_as_a_slanted_cylinder(canvas):
    depth = tube(canvas, [(-40.0, -40.0, 0.0, 5.0), (40.0, 40.0, 0.0, 5.0)], 0)  # at 45 degrees
    axis = depth[20, 22, 24]
    assert axis == pytest.approx(5 / np.sqrt(2))
    assert depth[20, :, 24] == pytest.approx((5 - np.abs(canvas.y[20, :, 24])) / np.sqrt(2))


def test_smooth_noise_has_mean_0_and_deviation_1_and_bumps_of_its_scale():
    scale = 6.0
    axes = tuple(np.arange(0, LATTICE * scale, 2.0) for _ in range(3))  # one whole period
    fields = [smooth_noise(np.random.default_rng(seed), axes, scale) for seed in range(4)]
    assert np.abs([field.mean() for field in fields]).max() < 0.1
    assert np.mean([field.var() for field in fields]) == pytest.approx(1, abs=0.03)
    for axis in range(3):
        # The B-spline's own correlation at 1 lattice step is 1191/2416, and 0 from 4 on.
        alike = [np.mean([np.mean(field * np.roll(field, step, axis)) for field in fields]) for step in (1, 3, 12)]
        assert alike[1] == pytest.approx(1191 / 2416, abs=0.06)
        assert alike[0] > 0.85
        assert abs(alike[2]) < 0.06
    gradient = np.abs(np.diff(fields[0], axis=0)).max()
    assert gradient < 2.5  # smooth, although the lattice is random


def test_smooth_noise_belongs_to_places_and_not_to_voxels():
    coarse = tuple(np.arange(-30, 31, 4.0) for _ in range(3))
    fine = tuple(np.arange(-34, 35, 2.0) for _ in range(3))
    one, two = (smooth_noise(np.random.default_rng(9), axes, 11.0) for axes in (coarse, fine))
    assert np.abs(two[2:-2:2, 2:-2:2, 2:-2:2] - one).max() < 1e-12
    assert np.abs(smooth_noise(np.random.default_rng(10), coarse, 11.0) - one).max() > 0.5
    distant = (coarse[0] + LATTICE * 11.0, coarse[1], coarse[2])
    assert np.abs(smooth_noise(np.random.default_rng(9), distant, 11.0) - one).max() < 1e-9


def test_smooth_noise_keeps_the_order_of_the_axes():
    axes = (np.arange(3) * 5.0, np.arange(4) * 5.0, np.arange(5) * 5.0)
    field = smooth_noise(np.random.default_rng(0), axes, 5.0)
    assert field.shape == (3, 4, 5)
    moved = smooth_noise(np.random.default_rng(0), (axes[0] + 5.0, axes[1], axes[2]), 5.0)
    assert np.abs(moved[:-1] - field[1:]).max() < 1e-12


def test_streams_are_independent_and_do_not_depend_on_how_many_there_are():
    three, five = random_streams(4, 3), random_streams(4, 5)
    three[0].standard_normal(1000)  # a longer draw from one
    assert [g.random() for g in three[1:]] == [g.random() for g in five[1:3]]
    draws = [g.random() for seed in range(3) for g in random_streams(seed, 5)]
    assert len(set(draws)) == 15


def test_paint_fills_a_solid_with_a_soft_edge_and_a_hard_label():
    canvas = blank_canvas((3, 41, 41), (5.0, 2.0, 2.0), 80.0, np.random.default_rng(0))
    canvas.paint(10 - np.abs(canvas.x), 300.0, label=2)
    row, label = canvas.image[1, 20], canvas.label[1, 20]
    depth = 10 - np.abs(canvas.x[1, 20])
    assert (row[depth >= 1] == 300).all()
    assert (row[depth <= -1] == 0).all()
    assert (row[depth == 0] == 150).all()  # half the pixel: partial volume
    assert np.array_equal(label == 2, depth > 0)
    canvas.paint(6 - np.abs(canvas.x), 100.0)  # no label of its own takes the old one off
    assert (canvas.label[1, 20] == 2)[depth > 0].tolist() == (np.abs(canvas.x[1, 20]) >= 6)[depth > 0].tolist()


def test_paint_adds_the_texture_of_the_canvas():
    canvas = blank_canvas((3, 41, 41), (5.0, 2.0, 2.0), 80.0, np.random.default_rng(0))
    canvas.paint(np.full((3, 41, 41), 50.0), 100.0, 8.0)
    assert canvas.image == pytest.approx(100 + 8 * canvas.texture)
    assert canvas.texture.std() == pytest.approx(1, abs=0.2)


def test_a_box_is_a_view_of_the_canvas_around_it(canvas):
    box = canvas.around((-3.0, -6.0, -10.0), (4.0, 6.0, 10.0))
    assert (box.z.min(), box.z.max()) == (-3, 3)  # the upper end is left out
    assert (box.y.min(), box.x.max()) == (-6, 8)
    assert [axis.tolist() for axis in box.axes_mm] == [np.unique(place).tolist() for place in (box.z, box.y, box.x)]
    box.paint(np.full(box.z.shape, 9.0), 70.0, label=5)
    inside = np.ones(canvas.z.shape, bool)
    for place, low, high in ((canvas.z, -3, 4), (canvas.y, -6, 6), (canvas.x, -10, 10)):
        inside &= (place >= low) & (place < high)
    assert np.array_equal(canvas.label == 5, inside)
    assert (canvas.image[inside] == 70).all()
    assert canvas.image[~inside].sum() == 0
