import pytest

from l2gnet.prediction.cardiac import cardiac_function, function_by_patient


def heart(left, right, muscle):
    return {"left ventricle": left, "right ventricle": right, "myocardium": muscle}


BEAT = {1: heart(140.0, 150.0, 100.0), 2: heart(150.0, 160.0, 110.0), 3: heart(60.0, 80.0, 115.0)}


def test_volumes_fraction_and_mass_of_a_beat():
    function = cardiac_function(BEAT)
    assert (function.ed_frame, function.es_frame) == (2, 3)
    assert (function.left.ed_ml, function.left.es_ml, function.left.stroke_ml) == (150, 60, 90)
    assert function.left.ejection_fraction == pytest.approx(60)
    assert function.right.ejection_fraction == pytest.approx(50)
    assert function.mass_g == pytest.approx(110 * 1.05)
    assert "150 / 60 ml (ED / ES), ejection fraction 60 %, mass 116 g" in str(function)
    assert function.as_dict()["right_ventricle"]["stroke_ml"] == 80
    words = function.in_words()
    assert words["left ventricle: ejection fraction (%)"] == pytest.approx(60)
    assert words["right ventricle: stroke volume (ml)"] == 80
    assert not any("_" in name for name in words)


def test_the_left_ventricle_decides_the_frames_of_both():
    function = cardiac_function({1: heart(150.0, 100.0, 90.0), 9: heart(60.0, 120.0, 90.0)})
    assert (function.ed_frame, function.es_frame) == (1, 9)
    assert (function.right.ed_ml, function.right.es_ml) == (100, 120)


@pytest.mark.parametrize(
    "volumes_ml",
    [
        {1: heart(150.0, 100.0, 90.0)},
        {1: {"liver": 1500.0}, 2: {"liver": 1400.0}},
        {1: heart(0.0, 9.0, 9.0), 2: heart(0.0, 9.0, 9.0)},
    ],
    ids=["one frame", "no heart", "no blood"],
)
def test_without_a_beat_there_is_no_function(volumes_ml):
    assert cardiac_function(volumes_ml) is None


@pytest.mark.parametrize("channel", ["", "_0000"])
def test_frames_in_files_of_their_own_belong_to_a_patient(channel):
    volumes = {f"patient007_frame{frame:02d}{channel}": [volumes_ml] for frame, volumes_ml in BEAT.items()}
    volumes |= {"patient008_frame01": [BEAT[1]], "patient009_4d": list(BEAT.values())}
    functions = function_by_patient(volumes, dict.fromkeys(volumes, ()), ["patient008_frame02"])
    assert functions == {"patient007": cardiac_function(BEAT)}


def test_the_function_of_a_patient_has_the_doubts_of_all_frames_and_names_those_that_failed():
    volumes = {f"p_frame{frame:02d}": [volumes_ml] for frame, volumes_ml in BEAT.items()}
    doubts = dict.fromkeys(volumes, ()) | {"p_frame03": ["it is blank"]}
    function = function_by_patient(volumes, doubts, ["p_frame12", "other_frame04", "p"])["p"]
    assert function.doubts == ("it is blank (in frame 3)", "frame 12 could not be segmented")
    assert cardiac_function(BEAT).doubts == ()


@pytest.mark.parametrize("least_ml", [0.0, 7.0])
def test_a_ventricle_that_is_missing_at_an_end_of_the_beat_is_doubted(least_ml):
    beat = BEAT | {7: heart(least_ml, 90.0, 110.0)}
    missed = f"left ventricle measures {least_ml} ml in frame 7, taken for end-systole: was it missed there?"
    assert cardiac_function(beat).doubts == (missed,)
    assert cardiac_function(BEAT | {7: heart(8.0, 90.0, 110.0)}).doubts == ()
    right = cardiac_function({1: heart(150.0, 0.0, 90.0), 9: heart(60.0, 120.0, 90.0)})
    assert right.doubts == ("right ventricle measures 0.0 ml in frame 1, taken for end-diastole: was it missed there?",)
