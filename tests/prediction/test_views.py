import kornia.geometry.transform as G
import pytest
import torch

from l2gnet.data.grid import Grid
from l2gnet.errors import CheckpointError
from l2gnet.models.card import ModelCard
from l2gnet.prediction.views import View, trained_views

MIRRORS = {View(mirrored=(2,)), View(mirrored=(3,))}


def card(*, classes=("background", "a"), **settings):
    return ModelCard("unet", {}, classes, Grid(1.0, 32), {"settings": settings})


def test_a_mirror_shows_the_other_side_and_leads_back_exactly():
    images = torch.rand(2, 1, 5, 6)
    seen = View(mirrored=(3,)).see(images)
    assert torch.equal(seen[:, :, :, 0], images[:, :, :, 5])
    assert torch.equal(View(mirrored=(3,)).back(seen), images)
    assert torch.equal(View(mirrored=(2,)).see(images)[:, :, 0], images[:, :, 4])


def test_a_turn_leads_back_to_the_place_it_came_from():
    y, x = torch.meshgrid(torch.linspace(-1, 1, 41), torch.linspace(-1, 1, 41), indexing="ij")
    spot = torch.exp(-20 * ((y + 0.4) ** 2 + (x - 0.3) ** 2))[None, None]
    view = View(degrees=10.0)
    assert (view.see(spot) - spot).abs().max() > 0.3
    torch.testing.assert_close(view.back(view.see(spot)), spot, atol=0.05, rtol=0)
    assert view.back(torch.ones_like(spot))[0, 0, 0, 0] == 0  # a corner that the view does not reach


@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (1, 1, 17, 40)])
@pytest.mark.parametrize("degrees", [10.0, -10.0, 33.0])
def test_a_turn_is_kornias(shape, degrees):
    images = torch.rand(shape)
    kornias = G.rotate(images, torch.full((shape[0],), degrees))
    torch.testing.assert_close(View(degrees=degrees).see(images), kornias, rtol=0, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):  # places are not rounded
        torch.testing.assert_close(View(degrees=degrees).see(images), kornias, rtol=0, atol=1e-5)


def test_only_what_training_showed_is_looked_at():
    assert set(trained_views(card(recipe="onecycle", flips=False))) == {View(degrees=10.0), View(degrees=-10.0)}
    assert set(trained_views(card(recipe="onecycle", flips=True))) > MIRRORS
    assert set(trained_views(card(recipe="transunet", flips=False))) > MIRRORS
    with pytest.raises(CheckpointError, match="needs a card that says how the model was trained"):
        trained_views(ModelCard("unet", {}, ("background", "a"), Grid(1.0, 32)))


@pytest.mark.parametrize("trained", [{"recipe": "onecycle", "flips": True}, {"recipe": "transunet"}])
def test_no_mirror_shows_a_class_that_has_a_side(trained):
    views = trained_views(card(classes=("background", "liver", "left kidney"), **trained))
    assert set(views) == {View(degrees=10.0), View(degrees=-10.0)}
