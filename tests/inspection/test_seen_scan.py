import functools

import numpy as np
import pytest
import torch

from l2gnet.data.grid import Grid
from l2gnet.data.phantoms import make_heart
from l2gnet.data.regions import Regions
from l2gnet.data.resampling import image_on_grid, labels_on_grid
from l2gnet.data.volume import Volume
from l2gnet.errors import VolumeError
from l2gnet.inspection.seen_scan import labels_of_slices, see_scan
from l2gnet.models import build_model
from l2gnet.models.card import ModelCard
from l2gnet.prediction.inference import network_input

SMALL = {"classes": 4, "width": 4, "depth": 2}
CARD = ModelCard("vq_unet", SMALL, ("background", "a", "b", "c"), Grid(4.0, 32))
AFFINE = np.array([[0, 0, -3, 0], [0, -3, 0, 0], [16, 0, 0, 0], [0, 0, 0, 1.0]])


@functools.cache
def model(name="vq_unet"):
    torch.manual_seed(0)
    return build_model(name, **SMALL, **({} if name == "unet" else {"codes": 12, "code_dim": 8})).eval()


def scan():
    heart = make_heart(1, shape=(5, 48, 48), spacing_mm=(16.0, 3.0, 3.0))
    return Volume(heart.image, AFFINE), Volume(heart.label, AFFINE)


def test_slices_and_what_the_model_makes_of_them():
    image, truth = scan()
    seen = see_scan(model(), CARD, image, truth, batch_size=2)
    assert np.array_equal(seen.images, image_on_grid(image, CARD.grid))
    assert np.array_equal(seen.truth, labels_on_grid(truth, CARD.grid, 4))
    trace = model().trace(network_input(seen.images))
    shares = trace.logits.softmax(1)
    assert np.array_equal(seen.labels, shares.argmax(1))
    np.testing.assert_allclose(seen.confidence, shares.amax(1).detach(), rtol=1e-5)
    assert np.array_equal(seen.codes, trace.latent.codes)
    np.testing.assert_allclose(seen.distances, trace.latent.distances.detach(), rtol=1e-5)
    assert np.array_equal(labels_of_slices(model(), seen.images, batch_size=3), seen.labels)


def test_where_it_lies():
    seen = see_scan(model(), CARD, scan()[0])
    assert (seen.placed.spacing_mm, seen.placed.axes, seen.truth, seen.placed.has_mm) == (
        (16.0, 4.0, 4.0),
        "SPL",
        None,
        True,
    )
    middle = seen.placed.affine @ (2, 15.5, 15.5, 1)
    np.testing.assert_allclose(middle, AFFINE @ (2, 23.5, 23.5, 1), atol=1e-9)
    low, high = seen.range
    assert (low, high) == tuple(np.percentile(scan()[0].array, (0.5, 99.5)))


def test_without_codes_and_with_other_channels():
    image, _ = scan()
    seen = see_scan(model("unet"), ModelCard("unet", SMALL, CARD.classes, CARD.grid), image)
    assert (seen.codes, seen.distances) == (None, None)
    with pytest.raises(VolumeError, match="channel"):
        see_scan(model(), CARD, Volume(image.array, AFFINE, more=(image.array,)))


def test_a_pixel_that_is_surely_of_no_region_is_no_doubt():
    regions = Regions(((1, 2, 3), (2, 3), (3,)), (1, 2, 3))
    settings = SMALL | {"classes": 3}
    sure = build_model("unet", **settings)
    with torch.no_grad():
        for parameter in sure.parameters():
            parameter.zero_()
        [each for each in sure.parameters() if each.shape == (3,)][-1].fill_(-5)
    seen = see_scan(sure, ModelCard("unet", settings, CARD.classes, CARD.grid, regions=regions), scan()[0])
    assert not seen.labels.any()
    np.testing.assert_allclose(seen.confidence, 1 / (1 + np.exp(-5)), rtol=1e-5)
