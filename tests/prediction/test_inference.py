import numpy as np
import pytest
import torch

from l2gnet.data.grid import Grid
from l2gnet.data.regions import Regions
from l2gnet.data.resampling import image_on_grid
from l2gnet.data.volume import Volume
from l2gnet.models import build_model
from l2gnet.models.backbone import Trace
from l2gnet.models.blocks.latent import Latent
from l2gnet.prediction.inference import codes_of_slices, network_input, predict_volume, segment, slice_confidence
from l2gnet.prediction.views import View

GRID = Grid(2.0, 32)


def scan(shape=(3, 50, 70), spacing_mm=(8.0, 1.5, 1.0)):
    array = np.random.default_rng(0).normal(100, 20, shape).astype(np.float32)
    return Volume(array, np.diag([*spacing_mm, 1.0]))


def brightness_model():
    """Stands for a trained model: bright pixels are label 1."""
    model = build_model("unet", classes=2, width=4, depth=2)
    model.trace = lambda images: Trace(100 * torch.cat([0.5 - images, images - 0.5], dim=1), Latent(images))
    return model


def test_labels_lie_on_the_scans_own_grid():
    volume = scan()
    predicted = predict_volume(build_model("unet", width=4, depth=2), volume, GRID)
    assert predicted.array.shape == volume.array.shape
    assert predicted.array.dtype == np.uint8
    assert np.array_equal(predicted.affine, volume.affine)


def test_what_is_bright_is_found_where_it_is():
    volume = scan()
    volume.array[:] = 0
    volume.array[1, 20:32, 24:48] = 500
    predicted = predict_volume(brightness_model(), volume, GRID).array == 1
    truth = volume.array > 0
    assert 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum()) > 0.9
    assert not predicted[[0, 2]].any()


def test_batches_do_not_change_the_result_and_the_model_is_left_in_evaluation():
    model = build_model("l2gnet", width=4, depth=2, codes=8, code_dim=8, references=4).train()
    one = predict_volume(model, scan(), GRID, batch_size=1)
    assert not model.training
    assert np.array_equal(one.array, predict_volume(model, scan(), GRID, batch_size=3).array)


def test_every_bottleneck_pixel_has_a_code():
    model = build_model("l2gnet", width=4, depth=2, codes=8, code_dim=8, references=4)
    codes = codes_of_slices(model, image_on_grid(scan(), GRID), batch_size=2)
    assert codes.shape == (3, 8, 8)
    assert 0 <= codes.min() <= codes.max() < 8


def test_a_model_without_a_codebook_has_no_codes():
    with pytest.raises(ValueError, match="this model has no codebook"):
        codes_of_slices(build_model("unet", width=4, depth=2), image_on_grid(scan(), GRID))


def test_the_input_runs_from_0_to_1():
    images = network_input(np.array([[[[0, 51], [102, 255]]]], dtype=np.uint8))
    assert images.shape == (1, 1, 2, 2)
    torch.testing.assert_close(images.flatten(), torch.tensor([0.0, 0.2, 0.4, 1.0]))


def test_views_have_their_say_where_they_reach():
    """A model that looks at single pixels sees the same in every mirror, and nearly so when turned."""
    volume, model = scan(), brightness_model()
    model.forward = lambda images: model.trace(images).logits
    plain = segment([model], volume, GRID)
    mirrored = segment([model], volume, GRID, views=[[View(mirrored=(2,)), View(mirrored=(3,))]])
    assert np.array_equal(mirrored.labels.array, plain.labels.array)
    np.testing.assert_allclose(mirrored.confidence, plain.confidence, atol=1e-5)
    volume.array[:] = 0
    volume.array[:, 20:32, 24:48] = 500
    turned = segment([model], volume, GRID, views=[[View(degrees=10.0), View(degrees=-10.0)]]).labels.array == 1
    truth = volume.array > 0
    assert 2 * (turned & truth).sum() / (turned.sum() + truth.sum()) > 0.9
    plain = segment([model], volume, GRID)
    model.forward = lambda images: -2 * model.trace(images).logits  # a view that contradicts is heard
    against = segment([model], volume, GRID, views=[[View(mirrored=(2,)), View(mirrored=(3,))]])
    assert not np.array_equal(against.labels.array, plain.labels.array)
    assert np.array_equal(against.confidence, plain.confidence)  # it is that of the slices themselves


TWO = Regions(((1, 2), (2,)), (1, 2))


def bright_regions():
    """A model of two regions of single pixels: above 0.3, and above 0.6."""
    model = brightness_model()
    model.forward = lambda images: torch.cat([40 * (images - 0.3), 40 * (images - 0.6)], dim=1)
    model.trace = lambda images: Trace(model.forward(images), Latent(images))
    return model


def test_regions_are_found_each_by_itself_and_outside_of_the_grid_is_none():
    volume, probabilities = scan(), []
    volume.array[:] = 0
    volume.array[:, 10:40, 10:60], volume.array[:, 20:30, 20:40] = 500, 1000
    small = Grid(spacing_mm=GRID.spacing_mm, size_px=16)
    found = segment([bright_regions()], volume, small, regions=TWO, on_scores=probabilities.append)
    shares = torch.cat(probabilities).movedim(1, 0).numpy()
    assert shares.shape == (2, *volume.shape)
    by_hand = np.zeros(volume.shape, np.uint8)
    for share, number in zip(shares, (1, 2), strict=True):
        by_hand[share > 0.5] = number
    assert np.array_equal(found.labels.array, by_hand)
    assert set(np.unique(by_hand)) == {0, 1, 2}
    assert not by_hand[:, 0].any()  # which the grid does not reach
    assert (found.confidence > 0.8).all()


def test_views_of_regions_are_averaged_where_they_reach():
    volume, model = scan(), bright_regions()
    plain, turned = [], []
    segment([model], volume, GRID, regions=TWO, on_scores=plain.append)
    segment(
        [model], volume, GRID, regions=TWO, views=[[View(mirrored=(2,)), View(mirrored=(3,))]], on_scores=turned.append
    )
    torch.testing.assert_close(torch.cat(turned), torch.cat(plain))
    segment([model], volume, GRID, regions=TWO, views=[[View(degrees=10.0)]], on_scores=turned.append)
    assert torch.cat(turned).max() <= 1


def test_the_confidence_of_regions_is_that_of_each():
    shares = torch.tensor([[[[0.9, 0.9, 0.2, 0.1]], [[0.8, 0.1, 0.1, 0.1]]]])
    whole = 2 * 1.8 / (2.1 + 2)
    core = 2 * 0.8 / (1.1 + 1)
    assert slice_confidence(shares, TWO).item() == pytest.approx((whole + core) / 2)
    nothing = torch.tensor([[[[0.4, 0.2]], [[0.1, 0.3]]]])
    assert slice_confidence(nothing, TWO).item() == pytest.approx(0.6)
