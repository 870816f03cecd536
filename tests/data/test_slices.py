import dataclasses

import numpy as np
import pytest

from l2gnet.data.dataset import Case
from l2gnet.data.grid import Grid
from l2gnet.data.resampling import image_on_grid
from l2gnet.data.slices import cache_key, cached_slices, prepare_slices
from l2gnet.data.volume import Volume

GRID = Grid(1.0, 16)


def make_cases(folder, loads):
    def case(name, depth):
        file = folder / name
        file.write_text(name)

        def load():
            loads.append(name)
            affine = np.diag([5.0, 1.0, 1.0, 1.0])
            array = np.full((depth, 20, 20), 2, dtype=np.uint8)
            return Volume(array.astype(np.float32) * np.arange(20, dtype=np.float32), affine), Volume(array, affine)

        return Case(name, name, "group", "ED", load, (file,))

    return [case("a", 2), case("b", 3), case("c", 1)]


def test_slices_know_their_case(tmp_path):
    slices = prepare_slices(make_cases(tmp_path, []), GRID, 3)
    assert slices.case.tolist() == [0, 0, 1, 1, 1, 2]
    some = slices.select(["c", "b"])
    assert some.names == ("b", "c")
    assert some.case.tolist() == [0, 0, 0, 1]
    assert np.array_equal(some.images, slices.images[2:])


def test_the_cache_is_used_and_equals_what_was_prepared(tmp_path):
    loads: list[str] = []
    cases = make_cases(tmp_path, loads)
    first, path = cached_slices(cases, GRID, 3, tmp_path / "cache")
    again, _ = cached_slices(cases, GRID, 3, tmp_path / "cache")
    assert loads == ["a", "b", "c"]
    assert [file.name for file in (tmp_path / "cache").iterdir()] == [path.name]
    for name in ("images", "labels", "case"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert first.names == again.names


def test_a_stale_cache_is_never_used(tmp_path):
    loads: list[str] = []
    cases = make_cases(tmp_path, loads)
    keys = {cache_key(cases, GRID, 3)}
    keys.add(cache_key(cases, Grid(1.5, 16), 3))
    keys.add(cache_key(cases, GRID, 4))
    keys.add(cache_key(cases[:2], GRID, 3))
    keys.add(cache_key([dataclasses.replace(cases[0], reading="channel 1"), *cases[1:]], GRID, 3))
    cases[1].files[0].write_text("changed")
    keys.add(cache_key(cases, GRID, 3))
    assert len(keys) == 6


def test_channels_survive_the_cache_each_in_its_place(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16)).astype(np.float32)

    def load():
        scan = Volume(noise[0], np.diag([5.0, 1.0, 1.0, 1.0]), more=(noise[1],))
        return scan, scan.like(np.zeros(scan.shape, dtype=np.uint8))

    cases = [Case("a", "a", "group", "ED", load)]
    first, _ = cached_slices(cases, GRID, 2, tmp_path)
    again, _ = cached_slices(cases, GRID, 2, tmp_path)
    assert first.images.shape == (3, 2, 16, 16)
    assert np.array_equal(again.images, first.images)
    for channel, array in enumerate(noise):
        alone = image_on_grid(Volume(array, np.diag([5.0, 1, 1, 1])), GRID)
        assert np.array_equal(first.images[:, channel], alone[:, 0])


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 nonsense"])
def test_a_damaged_cache_is_made_again(tmp_path, damage):
    loads: list[str] = []
    cases = make_cases(tmp_path, loads)
    first, path = cached_slices(cases, GRID, 3, tmp_path)
    path.write_bytes(damage)
    again, _ = cached_slices(cases, GRID, 3, tmp_path)
    assert loads == ["a", "b", "c"] * 2
    assert np.array_equal(first.images, again.images)


def test_any_picture_survives_the_cache(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (3, 16, 16)).astype(np.float32)

    def load():
        scan = Volume(noise, np.diag([5.0, 1.0, 1.0, 1.0]))
        return scan, scan.like(np.zeros(noise.shape, dtype=np.uint8))

    cases = [Case("a", "a", "group", "ED", load)]
    first, _ = cached_slices(cases, GRID, 2, tmp_path)
    again, _ = cached_slices(cases, GRID, 2, tmp_path)
    assert len(np.unique(first.images)) > 200
    assert np.array_equal(again.images, first.images)
    assert again.images.dtype == np.uint8
