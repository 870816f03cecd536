"""Test-time augmentation: ways to look at a slice that training showed too, each with its way back."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from l2gnet.data.sides import sided
from l2gnet.errors import CheckpointError
from l2gnet.models.card import ModelCard
from l2gnet.shapes import Float

_TURN_DEGREES = 10.0  # well within the 20 to 30 that every recipe trains with


@dataclass(frozen=True)
class View:
    """A slice mirrored along some of its axes (2 is H, 3 is W), or turned about its middle."""

    mirrored: tuple[int, ...] = ()
    degrees: float = 0.0

    def see(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """The images as this view shows them; what a turn brings in is 0."""
        return _turned(images.flip(self.mirrored), self.degrees)

    def back(self, scores: Float[Tensor, "B L H W"]) -> Float[Tensor, "B L H W"]:
        """What was found in the view, at its place in the image; where the view does not reach it is 0."""
        return _turned(scores, -self.degrees).flip(self.mirrored)


def trained_views(card: ModelCard) -> tuple[View, ...]:
    """The views that a model can be asked for beside the slice itself: two turns, and mirrors if it was trained so.

    Where a class has a side there are no mirrors, in which it would be another one, however the model was trained.

    Raises:
        CheckpointError: the card does not say how the model was trained.
    """
    settings = card.training.get("settings")
    if settings is None:
        raise CheckpointError("test-time augmentation needs a card that says how the model was trained; leave it out")
    turns = (View(degrees=_TURN_DEGREES), View(degrees=-_TURN_DEGREES))
    with_mirrors = settings.get("flips") or settings.get("recipe") == "transunet"
    return (*turns, View(mirrored=(2,)), View(mirrored=(3,))) if with_mirrors and not sided(card.classes) else turns


def _turned(images: Float[Tensor, "B C H W"], degrees: float) -> Float[Tensor, "B C H W"]:
    """Counter-clockwise about the middle; a pixel that comes from between others is interpolated."""
    if not degrees:
        return images
    middle_y, middle_x = ((side - 1) / 2 for side in images.shape[2:])
    y, x = (torch.arange(side, dtype=images.dtype, device=images.device) for side in images.shape[2:])
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    y, x = y[:, None] - middle_y, x - middle_x
    places = torch.stack([(cosine * x - sine * y) / middle_x, (sine * x + cosine * y) / middle_y], dim=2)
    return F.grid_sample(images, places.expand(len(images), -1, -1, -1), align_corners=True)
