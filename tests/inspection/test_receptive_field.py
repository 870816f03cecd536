import pytest
import torch

from l2gnet.inspection.receptive_field import receptive_field_px
from l2gnet.models import build_model


def field(side, share=1.0):
    torch.manual_seed(0)
    model = build_model("unet", width=4, depth=1)
    return receptive_field_px(model, torch.rand(2, 1, side, side), share=share)


def test_all_of_the_gradient_lies_in_the_theoretical_field():
    # Two 3x3 convolutions, a halving, and two more at a step of 2: 5 + 1 + 8 pixels.
    assert field(32) == 14


def test_most_of_it_lies_in_a_smaller_square():
    sides = [field(32, share) for share in (0.5, 0.8, 0.95, 1.0)]
    assert sides == sorted(sides)
    assert 2 <= sides[0] < sides[-1]


def test_a_model_in_training_stays_so():
    model = build_model("unet", width=4, depth=1).train()
    receptive_field_px(model, torch.rand(1, 1, 32, 32))
    assert model.training


def test_the_share_is_a_share():
    with pytest.raises(ValueError, match=r"share must lie in 0\.\.1, got 1.5"):
        field(32, 1.5)
