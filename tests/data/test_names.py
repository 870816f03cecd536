import pytest

from l2gnet.data.names import case_name, channel_of, of_channel, without_channel


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".NII", ".Nii.GZ"])
def test_an_ending_may_be_in_capitals_and_is_kept(ending):
    assert case_name(f"imagesTr/a.b{ending}") == "a.b"
    assert of_channel(f"imagesTr/a.b{ending}", 12) == f"imagesTr/a.b_0012{ending}"


@pytest.mark.parametrize(
    ("name", "case", "channel"), [("a_0012", "a", 12), ("a_012", "a_012", None), ("_0001", "_0001", None)]
)
def test_the_number_of_a_channel_has_four_digits_behind_a_name(name, case, channel):
    assert (without_channel(name), channel_of(name)) == (case, channel)


def test_digits_of_other_scripts_are_none():
    assert channel_of("a_\u0660\u0660\u0660\u0661") is None
