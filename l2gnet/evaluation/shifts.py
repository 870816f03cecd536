"""Scanner-like shifts: the same case as another scanner might have seen it, to test what a model stands.

Each shift has three levels. The first lies within or a little beyond what training's augmentation covers, where it
covers such a shift at all (a bias field and coarser pixels it never makes); the others lie beyond.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import RandBiasField
from scipy.ndimage import gaussian_filter

from l2gnet.data.dataset import Case
from l2gnet.data.volume import Volume
from l2gnet.errors import ConfigError
from l2gnet.shapes import Float32, Num

Shift = Literal["bias field", "noise", "gamma", "blur", "resolution"]
SHIFTS: tuple[Shift, ...] = get_args(Shift)
LEVELS = (1, 2, 3)


def shifted(case: Case, shift: Shift, level: int) -> Case:
    """The case with its image shifted when it is loaded; its labels stay, and so does its name.

    bias field: the coil's shading: between its darkest and its brightest place about a factor of 1.3, 2 and 3.
    noise: Rician, with a standard deviation of 5, 10 and 15 % of the intensity range.
    gamma: intensities in 0 to 1 to the power of 1.5, 2 and 3 (darker).
    blur: Gaussian in the plane, with a standard deviation of 1, 2 and 3 mm.
    resolution: acquired with pixels of 3, 4 and 6 mm, and interpolated to its own.

    What is random in it is decided by the case's name: every model is shown the same. Each channel has its own.

    Raises:
        ConfigError: there is no such shift or level.
    """
    if shift not in SHIFTS or level not in LEVELS:
        rule = f"shift must be one of {', '.join(SHIFTS)} and level one of {LEVELS}"
        raise ConfigError(f"{rule}, got {shift!r} and {level!r}; choose from these")

    def load() -> tuple[Volume, Volume]:
        image, label = case.load()
        seed = zlib.crc32(f"{case.name} {shift}".encode())
        array, *more = (
            _shifted(channel, shift, level, image.spacing_mm, seed + number)
            for number, channel in enumerate(image.channels)
        )
        return replace(image, array=array, more=tuple(more)), label

    return replace(case, load=load, files=(), reading=f"{case.reading} {shift} {level}")


def shifted_cases(cases: Sequence[Case], shift: Shift, level: int) -> tuple[Case, ...]:
    """All of these cases with the same kind of shift."""
    return tuple(shifted(case, shift, level) for case in cases)


Pixels = Float32[np.ndarray, "D H W"]
Spacing = tuple[float, float, float]


def _shifted(
    channel: Num[np.ndarray, "D H W"], shift: Shift, level: int, spacing_mm: Spacing, seed: int
) -> Float32[np.ndarray, "D H W"]:
    low, high = (float(bound) for bound in np.percentile(channel, (0.5, 99.5)))
    scale = max(high - low, 1e-6)
    pixels = _APPLY[shift](((channel.astype(np.float32) - low) / scale).clip(0, 1), level - 1, spacing_mm, seed)
    return (pixels * scale + low).astype(np.float32)


def _bias_field(pixels: Pixels, level: int, spacing_mm: Spacing, seed: int) -> Pixels:
    strength = (0.06, 0.16, 0.25)[level]
    field = RandBiasField(degree=2, coeff_range=(-strength, strength), prob=1.0)
    field.set_random_state(seed)
    return np.asarray(field(torch.from_numpy(pixels)[None])[0], dtype=np.float32)


def _noise(pixels: Pixels, level: int, spacing_mm: Spacing, seed: int) -> Pixels:
    real, imaginary = np.random.default_rng(seed).normal(0, (0.05, 0.1, 0.15)[level], (2, *pixels.shape))
    return np.hypot(pixels + real, imaginary).astype(np.float32)


def _gamma(pixels: Pixels, level: int, spacing_mm: Spacing, seed: int) -> Pixels:
    return pixels ** np.float32((1.5, 2.0, 3.0)[level])


def _blur(pixels: Pixels, level: int, spacing_mm: Spacing, seed: int) -> Pixels:
    sigma_mm = (1.0, 2.0, 3.0)[level]
    return gaussian_filter(pixels, (0, sigma_mm / spacing_mm[1], sigma_mm / spacing_mm[2]))


def _resolution(pixels: Pixels, level: int, spacing_mm: Spacing, seed: int) -> Pixels:
    pixel_mm = (3.0, 4.0, 6.0)[level]
    _, height, width = pixels.shape
    size = [max(1, round(side * mm / pixel_mm)) for side, mm in zip((height, width), spacing_mm[1:], strict=True)]
    coarse = F.interpolate(torch.from_numpy(pixels)[:, None], size, mode="bilinear", antialias=True)
    return F.interpolate(coarse, (height, width), mode="bilinear")[:, 0].numpy()


_APPLY: dict[Shift, Callable[[Pixels, int, Spacing, int], Pixels]] = {
    "bias field": _bias_field,
    "noise": _noise,
    "gamma": _gamma,
    "blur": _blur,
    "resolution": _resolution,
}
