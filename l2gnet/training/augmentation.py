"""Augmentation of a whole batch, on the device that holds it, by kornia."""

import kornia.augmentation as K
import kornia.geometry.transform as G
import torch
from torch import nn

from l2gnet.shapes import Float32, Int64


class Augmentation(nn.Module):
    """Random rotation, shift, scale, gamma, brightness, contrast, blur and noise; mirrors if asked.

    Rotations up to 30 degrees, shifts to 10 % of the picture (or to `field_shift`, if that is more), scales from 0.8
    to 1.25: the spread between scanners and patients, not more. Images lie in 0..1. All channels of an image move
    together, and the intensities of each change by themselves, as from one sequence of a scanner to another.
    """

    def __init__(self, *, flips: bool, field_shift: float = 0.0):
        super().__init__()
        mirrors = [K.RandomHorizontalFlip(p=0.5), K.RandomVerticalFlip(p=0.5)] if flips else []
        shift = max(0.1, field_shift)
        self.geometry = K.AugmentationSequential(
            *mirrors,
            K.RandomAffine(degrees=30.0, translate=(shift, shift), scale=(0.8, 1.25), p=0.8),
            data_keys=["input", "mask"],
        )
        self.intensity = nn.Sequential(
            K.RandomGamma((0.7, 1.5), p=0.3),
            K.RandomBrightness((0.8, 1.2), clip_output=False, p=0.3),
            K.RandomContrast((0.75, 1.25), clip_output=False, p=0.3),
            K.RandomGaussianBlur((3, 3), (0.3, 1.0), p=0.1),
            K.RandomGaussianNoise(std=0.03, p=0.3),
        )

    @torch.no_grad()
    def forward(
        self, images: Float32[torch.Tensor, "B C H W"], labels: Int64[torch.Tensor, "B H W"]
    ) -> tuple[Float32[torch.Tensor, "B C H W"], Int64[torch.Tensor, "B H W"]]:
        """Augment images and labels alike; labels keep whole class numbers."""
        images, masks = self.geometry(images, labels[:, None].float())
        channels = self.intensity(images.flatten(0, 1)[:, None])
        return channels.reshape(images.shape), masks[:, 0].round().long()


class TurnOrMirror(nn.Module):
    """What TransUNet's recipe does to square slices: half of them are turned by 0 to 3 quarters and mirrored up-down
    or left-right, a quarter rotated by -20 to 19 whole degrees with the nearest pixel, the rest left alone.

    `RandomGenerator` in the code of Chen et al. 2021, arXiv 2102.04306; there before the slice is resized, here after.
    """

    @torch.no_grad()
    def forward(
        self, images: Float32[torch.Tensor, "B C H W"], labels: Int64[torch.Tensor, "B H W"]
    ) -> tuple[Float32[torch.Tensor, "B C H W"], Int64[torch.Tensor, "B H W"]]:
        """Augment images and labels alike; what a rotation brings in is black background."""
        both = torch.cat([images, labels[:, None].to(images)], dim=1)
        both = torch.stack([self._changed(slice_) for slice_ in both])
        return both[:, :-1], both[:, -1].long()

    def _changed(self, slice_: Float32[torch.Tensor, "C H W"]) -> Float32[torch.Tensor, "C H W"]:
        choice = torch.rand(()).item()
        if choice < 0.5:
            quarters, axis = int(torch.randint(4, ())), int(torch.randint(1, 3, ()))
            return slice_.rot90(quarters, (1, 2)).flip(axis)
        if choice < 0.75:
            degrees = torch.randint(-20, 20, (1,)).to(slice_)
            return G.rotate(slice_[None], degrees, mode="nearest")[0]
        return slice_
