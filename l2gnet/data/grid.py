"""The pixel grid that a model sees: what a model card says of it. `resampling.py` goes there and back."""

from dataclasses import dataclass
from typing import Literal

Plane = Literal["axial", "coronal", "sagittal", "acquired"]
PLANES = {"axial": "SPL", "coronal": "PIL", "sagittal": "LIP"}  # world directions of (D, H, W)


@dataclass(frozen=True)
class Grid:
    """Square slices of `size_px` pixels of `spacing_mm`, with intensities mapped to 0..255.

    A `spacing_mm` of 0 fits the whole slice into the square, whatever its pixels measure, as TransUNet does.
    `window` is the intensity range that fills 0..255, in the scan's units (HU for CT); without one it is the
    0.5th to 99.5th percentile of each volume and channel, since MR has no units. The window is for the channels
    `windowed` alone, as that of CT is not for PET beside it; where this is empty, it is for all.
    """

    spacing_mm: float
    size_px: int
    window: tuple[float, float] | None = None
    windowed: tuple[int, ...] = ()

    def window_of(self, channel: int) -> tuple[float, float] | None:
        """The window of a channel, by number; None where its percentiles decide."""
        return self.window if not self.windowed or channel in self.windowed else None
