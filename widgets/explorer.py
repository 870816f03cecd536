"""What both explorers share: slices to look at, and what the user points at in them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from l2gnet.widgets.inputs import Input
from l2gnet.widgets.viewer import Viewer

from l2gnet.shapes import Num, UInt8

_POINTED = ("reference", "code", "voxel")


class Explorer(Viewer):
    """Slices (D, H, W) with bottleneck pixels over them.

    Of `selection` it reads and sets `voxel`, `code` and `reference`, and `by`: which of them was clicked last. Without
    `by` it is the first of `reference`, `code` and `voxel` that is there.
    """

    def __init__(self, images: Num[np.ndarray, "D H W"], index: int | None, **traits: Any):
        super().__init__(**traits)
        self._voxel = [len(images) // 2, images.shape[1] // 2, images.shape[2] // 2]
        self._show(images)
        self.index = self._voxel[0] if index is None else index

    @property
    def index(self) -> int:
        """The slice that is looked at."""
        return self._voxel[0]

    @index.setter
    def index(self, index: int) -> None:
        self.selection = {**self.selection, "voxel": [int(index), *self._voxel[1:]]}
        self._go()

    @property
    def pointed(self) -> str:
        """What was clicked last."""
        by = self.selection.get("by")
        return next((name for name in (by, *_POINTED) if name in self.selection), "voxel")

    def _show(self, images: Num[np.ndarray, "D H W"]) -> None:
        """Offer slices to the browser."""
        self._images = images
        self.publish("images", grey(images))

    def _go(self) -> bool:
        """Follow the selection's voxel; says whether that leads to another slice.

        Raises:
            ValueError: there is no such voxel here.
        """
        voxel, before = self.selection.get("voxel", self._voxel), self._voxel[0]
        if not all(0 <= n < size for n, size in zip(voxel, self._images.shape, strict=True)):
            raise ValueError(
                f"voxel must lie in the volume {self._images.shape}, got {voxel}; link viewers of one grid"
            )
        self._voxel = list(voxel)
        return voxel[0] != before

    def _cell(self, cells: Sequence[int]) -> tuple[int, int]:
        """The bottleneck pixel, of h x w, that the voxel lies in."""
        (_, H, W), (h, w) = self._images.shape, cells
        return self._voxel[1] * h // H, self._voxel[2] * w // W

    def _when(self, names: str | list[str], handler: Callable[[], None]) -> None:
        """Call `handler` when traits change; what it changes reaches the browser in one message.

        What it refuses leaves what was before.
        """

        def observer(change: dict[str, Any]) -> None:
            with self.hold_sync():
                try:
                    handler()
                except Exception:
                    self.unobserve(observer, names)  # or it would hear of the way back, without end if that fails
                    self.set_trait(change["name"], change["old"])
                    self.observe(observer, names)
                    handler()
                    raise

        self.observe(observer, names)


def as_volume(images: Any) -> Input:
    """An array or tensor with the axes (H, W) as a volume of one slice; all else as it is."""
    return images[None] if getattr(images, "ndim", 3) == 2 else images


def grey(images: Num[np.ndarray, "D H W"]) -> UInt8[np.ndarray, "D H W"]:
    """Intensities as greys; those of a model's grid are left as they are."""
    if images.dtype == np.uint8:
        return images
    low, high = np.percentile(images, (0.5, 99.5))
    return ((images - low) / max(high - low, 1e-12) * 255).clip(0, 255).astype(np.uint8)


def as_float32(values: np.ndarray) -> bytes:
    """Numbers as the browser reads them."""
    return values.astype(np.float32).tobytes()
