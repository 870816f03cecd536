"""The labels of a dataset.json, above all nnU-Net's regions; `test_decathlon.py` has the folders around them."""

from pathlib import Path

import pytest

from l2gnet.data.folders.labels import read_labels_of
from l2gnet.data.folders.scan import UNNAMED
from l2gnet.data.regions import NO_REGIONS, Regions
from l2gnet.data.volume import IGNORED
from l2gnet.errors import VolumeError

BRATS = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]}


def read(labels, *order):
    found = read_labels_of(Path("dataset.json"), {"labels": labels, "regions_class_order": list(order)})
    return found.classes, found.class_of, found.regions


def test_regions_are_classes_made_of_labels():
    classes, class_of, regions = read(BRATS, 1, 2, 3)
    assert classes == ("background", "whole tumor", "tumor core", "enhancing tumor")
    assert class_of == ()
    assert regions == Regions(((1, 2, 3), (2, 3), (3,)), (1, 2, 3))


def test_a_region_of_one_label_may_be_a_number_and_any_may_come_first():
    classes, _, regions = read({"tumor": 2, "background": [0], "kidney": [3, 1, 1]}, 2, 1)
    assert classes == ("background", "tumor", "kidney")
    assert regions == Regions(((2,), (1, 3)), (2, 1))


def test_numbers_with_gaps_become_labels_without_any_and_ignored_ones_are_none():
    labels = {"background": 0, "whole": [1, 2, 4], "core": [1, 4], "ignore": 6}
    _, class_of, regions = read(labels, 2, 4)
    assert class_of == (0, 1, 2, UNNAMED, 3, UNNAMED, IGNORED)
    assert regions == Regions(((1, 2, 3), (1, 3)), (2, 3))


def test_lists_of_one_label_each_are_classes_as_in_nnunet():
    classes, class_of, regions = read({"background": [0], "b": [2], "a": [1], "ignore": [3]})
    assert (classes, class_of) == (("background", "a", "b"), (0, 1, 2, IGNORED))
    assert regions is NO_REGIONS


@pytest.mark.parametrize(
    ("labels", "order", "message"),
    [
        (BRATS, None, r"regions_class_order must give each region.*found None for whole tumor \[1, 2, 3\], tumor core"),
        (BRATS, [1, 2], r"found \[1, 2\] for whole tumor"),
        (BRATS, [1, 2, 3, 3], "regions_class_order"),
        (BRATS, [3, 2, 1], "one of its own labels.*; name for each region the label of a pixel that lies in it"),
        (BRATS, [1, 2, "x"], "regions_class_order"),
        (BRATS, [3, 3, 3], r"found \[3, 3, 3\] for .*, and in no region after it"),
        (BRATS, [3, 2, 3], "regions_class_order"),
        ({"background": 0, "tumor": 2, "kidney": [1, 2]}, [2, 1], "one of its own labels, not a later's; found"),
        (BRATS | {"necrosis": [2, 9]}, [1, 2, 3, 4], "regions_class_order"),
        (BRATS | {"air": [0, 1]}, [1, 2, 3, 1], r"neither the background nor what is ignored; found 'air': \[0, 1\]"),
        (BRATS | {"ignore": 3}, [1, 2, 3], r"nor what is ignored; found 'whole tumor': \[1, 2, 3\]"),
        ({"whole": [1, 2], "core": [2]}, [1, 2], "0 names for the number 0"),
        (BRATS | {"nothing": []}, [1, 2, 3, 1], r"found 'nothing': \[\]"),
        (BRATS | {"half": [1.5, 2]}, [1, 2, 3, 2], r"found 'half': \[1.5, 2\]"),
        (BRATS | {"below": [-2, 2]}, [1, 2, 3, 2], r"found 'below': \[-2, 2\]"),
        (BRATS | {"true": [True, 2]}, [1, 2, 3, 2], r"found 'true': \[True, 2\]"),
        ({"many": list(range(1, 256))} | BRATS, [4, 1, 2, 3], "found the numbers"),
        ({"large": [1, 65536]} | BRATS, [65536, 1, 2, 3], "found the numbers"),
    ],
)
def test_regions_that_mean_nothing_are_refused(labels, order, message):
    with pytest.raises(VolumeError, match=rf"dataset\.json: .*{message}"):
        read_labels_of(Path("dataset.json"), {"labels": labels, "regions_class_order": order})
