import gc
import weakref

import numpy as np
import pytest
import torch
from l2gnet.widgets import CodebookExplorer, SliceViewer
from l2gnet.widgets.viewer import parts_of

from l2gnet.data.slices import SliceSet
from l2gnet.inspection.code_atlas import CodeAtlas
from l2gnet.models import build_model

K = 6


def atlas():
    random = np.random.default_rng(0)
    return CodeAtlas(
        images=random.integers(0, 256, (5, 8, 8)).astype(np.uint8),
        codes=random.integers(0, K - 1, (5, 4, 4)),  # code 5 never fires
        vectors=random.normal(size=(K, 3)),
        labels=random.integers(0, 3, (5, 8, 8)).astype(np.uint8),
        case=np.array([0, 0, 0, 1, 1]),
    )


@pytest.fixture
def explorer(front_end):
    explorer = CodebookExplorer(atlas(), classes=("background", "a", "b"), receptive_field_px=4)
    yield explorer
    explorer.close()


def floats(data, *shape):
    return np.frombuffer(data, np.float32).reshape(shape)


@pytest.mark.parametrize(("scope", "among"), [("slice", [1]), ("volume", [0, 1, 2]), ("data set", [0, 1, 2, 3, 4])])
def test_usage_is_counted_within_the_scope(front_end, explorer, scope, among):
    front_end.change(explorer, scope=scope)
    counts = np.bincount(atlas().codes[among].ravel(), minlength=K)
    assert floats(explorer.usage["counts"], K).tolist() == counts.tolist()
    share = counts / counts.sum()
    perplexity = np.exp(-(share[share > 0] * np.log(share[share > 0])).sum())
    assert f"perplexity {perplexity:.1f}" in explorer.usage["text"]
    assert f"6 codes: {(counts > 0).sum()} used, {(counts == 0).sum()} " in explorer.usage["text"]
    front_end.change(explorer, selection={"code": 2})
    np.testing.assert_allclose(floats(explorer.lit["heat"], 4, 4), (atlas().codes[among] == 2).mean(0))


def test_orders(front_end, explorer):
    counts = floats(explorer.usage["counts"], K)
    assert (np.diff(counts[explorer.usage["order"]]) <= 0).all()
    front_end.change(explorer, order="label")
    labels = np.array(explorer.book["labels"])[explorer.usage["order"]]
    assert (np.diff(labels) >= 0).all()
    front_end.change(explorer, order="index")
    assert explorer.usage["order"] == list(range(K))


def test_a_click_on_a_code_shows_patches_and_purity(front_end, explorer):
    front_end.change(explorer, selection={"code": 2, "by": "code"})
    a = atlas()
    places = a.examples(2, 8)
    side = explorer.lit["patch_px"]
    patches = np.frombuffer(explorer.lit["patches"], np.uint8).reshape(-1, side, side)
    assert len(patches) == explorer.lit["count"] == 8
    assert np.array_equal(patches[3], a.patch(places[3], side))
    assert explorer.lit["shares"] == pytest.approx(a.label_shares[2].tolist())
    label = ("background", "a", "b")[a.label_shares[2].argmax()]
    assert f"purity {a.purity[2]:.0%} {label}" in explorer.lit["text"]


def test_a_dead_code_has_no_patches(front_end, explorer):
    front_end.change(explorer, selection={"code": 5})
    assert (explorer.lit["patches"], explorer.lit["count"], explorer.lit["top"]) == (None, 0, 0)
    assert explorer.error == ""
    front_end.change(explorer, selection={"code": 6})
    assert explorer.error.startswith("ValueError: code must lie in 0..5, the codebook, got 6")


def test_volumes_and_slices(front_end, explorer):
    assert (explorer.index, explorer.place["images"]) == (1, [3, 8, 8])
    front_end.change(explorer, selection={"voxel": [2, 7, 0]})
    assert explorer.place["codes"] == atlas().codes[2].ravel().tolist()
    assert explorer.code == atlas().codes[2, 3, 0]
    front_end.change(explorer, volume=1)  # it has only two slices
    assert (explorer.index, explorer.place["images"]) == (1, [2, 8, 8])
    assert explorer.arrays["images"]["shape"] == [2, 8, 8]
    assert explorer.place["codes"] == atlas().codes[4].ravel().tolist()
    assert explorer.book["volumes"] == ["volume 1", "volume 2"]


def test_it_shares_the_selection_of_a_slice_viewer(front_end, explorer):
    a = atlas()
    slices = SliceViewer(a.images[:3], codes=a.codes[:3])
    slices.link(explorer)
    front_end.change(slices, selection={"voxel": [0, 2, 5], "code": int(a.codes[0, 1, 2]), "by": "voxel"})
    assert (explorer.index, explorer.lit["code"]) == (0, a.codes[0, 1, 2])
    front_end.change(explorer, selection=explorer.selection | {"code": 3, "by": "code"})
    assert (slices.selection["code"], slices.index, explorer.lit["code"]) == (3, 0, 3)
    slices.close()


def test_each_name_is_that_of_a_volume():
    with pytest.raises(ValueError, match="names must be those of the 2 volumes that the slices are of; got 3; leave"):
        CodebookExplorer(atlas(), names=("one", "two", "three"))


def test_of_a_model(front_end):
    torch.manual_seed(0)
    model = build_model("vq_unet", channels=2, width=4, depth=2, codes=12, code_dim=8)
    images = np.random.default_rng(0).integers(0, 256, (4, 2, 16, 16)).astype(np.uint8)
    slices = SliceSet(images, np.zeros_like(images[:, 0]), np.array([1, 1, 3, 3]), ("none", "one", "empty", "two"))
    explorer = CodebookExplorer.of_model(model, slices)
    with torch.inference_mode():
        codes = model.eval().trace(torch.from_numpy(images).float() / 255).latent.codes
    assert np.array_equal(explorer.atlas.codes, codes)
    assert np.array_equal(explorer.atlas.images, images[:, 0])  # the first channel is looked at
    assert explorer.book["volumes"] == ["one", "two"]
    assert 4 <= explorer.book["field_px"] <= 32
    assert explorer.lit["places"][0] == "one, slice 1"
    (part,) = parts_of([explorer])  # it goes to others
    assert part.traits["book"]["volumes"] == ["volume 1", "volume 2"]
    places = [place.replace("one", "volume 1").replace("two", "volume 2") for place in explorer.lit["places"]]
    assert part.traits["lit"]["places"] == places
    held = weakref.ref(explorer.atlas.images)
    explorer.close()
    gc.collect()
    assert held() is None  # although `explorer` is still here
    with pytest.raises(ValueError, match="no codebook"):
        CodebookExplorer.of_model(build_model("unet", width=4, depth=2), slices)


def test_the_static_picture(explorer):
    explorer.selection = {"code": 2}
    axes = explorer.draw().axes
    assert axes[0].get_title().startswith("5 of 6 codes used, perplexity ")
    assert axes[2].get_title() == "where code 2 fires"
    assert [len(each.patches) for each in axes[3:] if each.get_images() and each.patches] == [1] * 8
    assert explorer.snapshot().startswith(b"\x89PNG")


def test_a_patch_leads_to_its_volume_and_slice(front_end, explorer):
    front_end.change(explorer, selection={"code": 2, "by": "code"})
    for example, (number, row, column) in enumerate(atlas().examples(2, 8).tolist()):
        volume, index = (0, number) if number < 3 else (1, number - 3)
        assert explorer.lit["places"][example] == f"volume {volume + 1}, slice {index + 1}"
        front_end.event(explorer, "visit", example=example)
        assert (explorer.volume, explorer.index, explorer.code, explorer.error) == (volume, index, 2, "")
        assert explorer.atlas.codes[number][explorer._cell((4, 4))] == 2  # the pixel that is looked at has the code
        assert explorer._cell((4, 4)) == (row, column)
        assert explorer.place["codes"] == atlas().codes[number].ravel().tolist()


def test_every_code_that_fires_has_a_thumbnail(front_end, explorer):
    assert explorer.arrays["thumbnails"]["shape"] == [K, explorer._patch_px, explorer._patch_px]
    a = explorer.atlas
    for code, thumbnail in enumerate(explorer._thumbnails()):
        patches = [a.patch(place, explorer._patch_px) for place in np.argwhere(a.codes == code)]
        assert any(np.array_equal(thumbnail, patch) for patch in patches) == (code != 5)
        assert thumbnail.any() == (code != 5)


def test_codes_that_are_selected_together_are_told_of_together(front_end, explorer):
    a = atlas()
    front_end.change(explorer, group=[1, 4], selection={"code": 4, "by": "code"})
    inside = np.isin(a.codes, [1, 4])
    np.testing.assert_allclose(floats(explorer.lit["heat"], 4, 4), inside.mean(0))
    counts = a.label_counts[[1, 4]].sum(0)
    assert explorer.lit["shares"] == pytest.approx((counts / counts.sum()).tolist())
    label = ("background", "a", "b")[counts.argmax()]
    share = np.float32(inside.sum()) / np.float32(inside.size)
    words = f"2 codes fire at {share:.1%} of the pixels · purity {counts.max() / counts.sum():.0%} {label}"
    assert explorer.lit["text"] == words
    assert (explorer.lit["code"], explorer.lit["group"], explorer.lit["count"]) == (4, [1, 4], 8)
    front_end.event(explorer, "visit", example=5)
    number, row, column = a.examples([1, 4], 8)[5]
    assert (explorer.code, explorer.group) == (a.codes[number, row, column], [1, 4])
    front_end.change(explorer, selection={"voxel": [0, 3, 3], "by": "voxel"})  # as a linked viewer does
    assert (explorer.group, explorer.lit["group"]) == ([], [])
    assert explorer.lit["text"].startswith(f"code {explorer.code} fires")
    front_end.change(explorer, group=[1, 6])
    assert explorer.error.startswith("ValueError: codes must lie in 0..5, the codebook, got [1, 6]")
