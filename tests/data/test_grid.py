from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_volume import ORDERS, rotation, save, stored_as
from test_volume import grid as affine_of

from l2gnet.data.grid import Grid
from l2gnet.data.resampling import image_on_grid, labels_on_grid, labels_on_scan
from l2gnet.data.volume import Volume, read_labels, read_volume
from l2gnet.errors import VolumeError


def volume(array, spacing_mm):
    return Volume(array, np.diag([*spacing_mm, 1.0]))


def disc(size=(3, 80, 90), spacing_mm=(8.0, 1.25, 1.25), radius_mm=25.0):
    _, H, W = size
    y, x = np.mgrid[:H, :W]
    middle = ((y - (H - 1) / 2) * spacing_mm[1]) ** 2 + ((x - (W - 1) / 2) * spacing_mm[2]) ** 2
    return volume(np.repeat((middle < radius_mm**2)[None], size[0], 0).astype(np.uint8), spacing_mm)


@settings(max_examples=40, deadline=None)
@given(height=st.integers(60, 100), width=st.integers(60, 100), size_px=st.integers(40, 110))
def test_same_spacing_there_and_back_is_exact_inside_the_crop(height, width, size_px):
    labels = np.random.default_rng(0).integers(0, 3, (2, height, width)).astype(np.uint8)
    scan, grid = volume(labels, (5.0, 1.0, 1.0)), Grid(1.0, size_px)
    on_grid = labels_on_grid(scan, grid, 3)
    scores = torch.nn.functional.one_hot(torch.from_numpy(on_grid).long(), 3).movedim(3, 1).float()
    back = labels_on_scan(scores, grid, scan)
    inside = back != 0
    assert np.array_equal(back[inside], labels[inside])
    assert inside.sum() >= 0.6 * (labels != 0).sum() * min(1, size_px / height) * min(1, size_px / width)


@pytest.mark.parametrize("spacing_mm", [0.8, 1.25, 2.0])
def test_a_disc_survives_resampling(spacing_mm):
    scan, grid = disc(), Grid(spacing_mm, 96)
    on_grid = labels_on_grid(scan, grid, 2)
    area_mm2 = on_grid[0].sum() * spacing_mm**2
    assert area_mm2 == pytest.approx(np.pi * 25**2, rel=0.03)
    scores = torch.nn.functional.one_hot(torch.from_numpy(on_grid).long(), 2).movedim(3, 1).float()
    back = labels_on_scan(scores, grid, scan)
    dice = 2 * (back & scan.array).sum() / (back.sum() + scan.array.sum())
    assert dice > 0.97


def test_image_and_labels_land_on_the_same_pixels():
    scan, grid = disc(), Grid(1.7, 64)
    image, labels = (
        image_on_grid(scan.like(scan.array.astype(np.float32) * 300), grid)[:, 0],
        labels_on_grid(scan, grid, 2),
    )
    assert ((image > 127) == (labels == 1)).mean() > 0.999


def test_anisotropic_pixels_become_square():
    labels = disc((2, 100, 50), (8.0, 1.0, 2.0)).array
    on_grid = labels_on_grid(volume(labels, (8.0, 1.0, 2.0)), Grid(1.0, 96), 2)[0]
    assert on_grid.any(1).sum() == pytest.approx(on_grid.any(0).sum(), abs=2)


def test_a_window_is_the_same_for_every_scan():
    scan = volume(np.array([[[-1000.0, -125.0], [75.0, 275.0]]], dtype=np.float32), (1.0, 1.0, 1.0))
    image = image_on_grid(scan, Grid(0.0, 2, window=(-125.0, 275.0)))
    assert image[0, 0].tolist() == [[0, 0], [128, 255]]


def test_every_channel_has_its_own_range_and_the_window_is_for_those_it_is_meant_for():
    rng = np.random.default_rng(0)
    ct, pet = (rng.normal(mean, spread, (4, 30, 30)).astype(np.float32) for mean, spread in ((0, 300), (5, 2)))
    scan = replace(volume(ct, (3.0, 1.0, 1.0)), more=(pet,))

    def alone(array, **grid):
        return image_on_grid(volume(array, (3.0, 1.0, 1.0)), Grid(1.0, 24, **grid))[:, 0]

    window = (-125.0, 275.0)
    by_percentiles = image_on_grid(scan, Grid(1.0, 24))
    assert by_percentiles.shape == (4, 2, 24, 24)
    assert np.array_equal(by_percentiles[:, 0], alone(ct))
    assert np.array_equal(by_percentiles[:, 1], alone(pet))
    of_ct = image_on_grid(scan, Grid(1.0, 24, window, windowed=(0,)))
    assert np.array_equal(of_ct[:, 0], alone(ct, window=window))
    assert np.array_equal(of_ct[:, 1], alone(pet))
    of_both = image_on_grid(scan, Grid(1.0, 24, window))
    assert np.array_equal(of_both[:, 1], alone(pet, window=window))


def test_a_constant_scan_is_not_divided_by_zero():
    scan = volume(np.full((1, 4, 4), 7.0, dtype=np.float32), (1.0, 1.0, 1.0))
    assert (image_on_grid(scan, Grid(1.0, 4)) == 0).all()


@pytest.mark.parametrize(("size", "size_px"), [((64, 64), 28), ((40, 64), 32), ((20, 30), 48)])
def test_a_spacing_of_zero_fits_the_whole_slice(size, size_px):
    scan, grid = disc((2, *size), (8.0, 0.9, 1.1), radius_mm=15.0), Grid(0.0, size_px)
    on_grid = labels_on_grid(scan, grid, 2)
    assert on_grid.shape == (2, size_px, size_px)
    assert on_grid.mean() == pytest.approx(scan.array.mean(), rel=0.08)  # the same share of the slice
    scores = torch.nn.functional.one_hot(torch.from_numpy(on_grid).long(), 2).movedim(3, 1).float()
    back = labels_on_scan(scores, grid, scan)
    assert back.shape == scan.shape
    assert 2 * (back & scan.array).sum() / (back.sum() + scan.array.sum()) > 0.93


def test_a_slice_does_not_depend_on_how_many_there_are():
    rng = np.random.default_rng(0)
    scan = volume(rng.normal(0, 100, (21, 30, 20)).astype(np.float32), (3.0, 1.1, 0.9))
    labels = scan.like(rng.integers(0, 4, scan.shape).astype(np.uint8))
    grid = Grid(1.5, 24, window=(-200.0, 200.0))
    for d in (0, 8, 20):
        image, label = (part.array[d : d + 1] for part in (scan, labels))
        assert np.array_equal(image_on_grid(scan, grid)[d], image_on_grid(volume(image, scan.spacing_mm), grid)[0])
        assert np.array_equal(
            labels_on_grid(labels, grid, 4)[d], labels_on_grid(volume(label, scan.spacing_mm), grid, 4)[0]
        )


def test_one_slice_of_any_stored_order_reaches_the_grid(tmp_path):
    image = np.random.default_rng(0).integers(0, 400, (40, 30, 1)).astype(np.int16)
    affine, mask = affine_of(rotation(10, 5, -8), (1.5, 1.5, 8)), (image > 200).astype(np.uint8)
    found = []
    for order in ORDERS:
        scan = read_volume(save(tmp_path / "a.nii", *stored_as(image, affine, *order)))
        labels = read_labels(save(tmp_path / "a_gt.nii", *stored_as(mask, affine, *order)))
        found.append((image_on_grid(scan, Grid(1.5, 32)), labels_on_grid(labels, Grid(1.5, 32), 2)))
    for one in found:
        assert np.array_equal(one[0], found[0][0])
        assert np.array_equal(one[1], found[0][1])
    assert 0.4 < found[0][1].mean() < 0.6


def test_voxels_of_a_metre_are_refused_before_they_fill_the_memory():
    scan = volume(np.zeros((2, 64, 64), np.float32), (8.0, 1000.0, 1.0))
    with pytest.raises(
        VolumeError, match=r"4096 pixels of 1.5 mm a side.*found 6.4e\+04 x 64 mm; repair the voxel size"
    ):
        image_on_grid(scan, Grid(1.5, 32))


def test_a_header_in_metres_makes_no_slices_of_one_pixel():
    scan = volume(np.zeros((5, 256, 200), np.float32), (0.008, 0.0014, 0.0014))
    with pytest.raises(VolumeError, match=r"4 to 4096 pixels of 1.5 mm a side.*found 0.3584 x 0.28 mm; repair the"):
        image_on_grid(scan, Grid(1.5, 96))


@pytest.mark.parametrize("count", [4, 118])
def test_many_labels_take_no_more_memory_than_few(monkeypatch, count):
    labels = volume(np.random.default_rng(0).integers(0, count, (17, 30, 20)).astype(np.uint8), (3.0, 1.1, 0.9))
    one_hot, made = torch.nn.functional.one_hot, []

    def counting(index, classes):
        made.append(one_hot(index, classes))
        return made[-1]

    monkeypatch.setattr(torch.nn.functional, "one_hot", counting)
    on_grid = labels_on_grid(labels, Grid(1.5, 24), count)
    assert max(share.numel() for share in made) <= 128 * 30 * 20
    alone = [labels_on_grid(volume(each[None], (3.0, 1.1, 0.9)), Grid(1.5, 24), count) for each in labels.array]
    assert np.array_equal(on_grid, np.concatenate(alone))


def test_grey_values_may_be_small():
    """As those of a diffusion map in m²/s."""
    array = np.random.default_rng(0).random((2, 24, 24), np.float32)
    large, small = (image_on_grid(volume(array * np.float32(unit), (1, 1, 1)), Grid(0, 24)) for unit in (1, 1e-9))
    assert np.ptp(large) == 255
    assert abs(large.astype(int) - small).max() <= 1
