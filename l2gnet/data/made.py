"""The kinds of data that are made on the fly, by the name that settings give them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from l2gnet.data import phantoms
from l2gnet.data.folders.scan import ABDOMEN_HU
from l2gnet.data.phantoms import PhantomCase, TaskCase
from l2gnet.data.volume import Volume
from l2gnet.shapes import Float32


@dataclass(frozen=True)
class Kind:
    """Classes of a kind, how a patient is made of a seed, and the range of intensities to show, if fixed.

    `stem` begins the names of its patients; the phases take turns from patient to patient. `evidence_px` is that of a
    `TaskCase`, for the tasks that no local model can solve.
    """

    stem: str
    classes: tuple[str, ...]
    make: Callable[[int], PhantomCase]
    window: tuple[float, float] | None = None
    phases: tuple[str, ...] = ("",)
    evidence_px: Callable[[int], Float32[np.ndarray, "D H W"]] | None = None


def placed(made: PhantomCase) -> tuple[Volume, Volume]:
    """A phantom in the world (RAS), image and labels: its axes point to S, P and L."""
    depth_mm, row_mm, column_mm = made.spacing_mm
    affine = np.array([[0, 0, -column_mm, 0], [0, -row_mm, 0, 0], [depth_mm, 0, 0, 0], [0, 0, 0, 1]], dtype=float)
    volume = Volume(made.image.copy(), affine)
    return volume, volume.like(made.label.copy())


def heart_beat(seed: int) -> list[Volume]:
    """Both ends of a beat of one made heart, as the frames of a cine: full, then empty."""
    return [placed(_at_phase(seed, "ED"))[0], placed(_at_phase(seed, "ES"))[0]]


def _heart(seed: int) -> PhantomCase:
    return _at_phase(seed, "ED" if seed % 2 == 0 else "ES")


def _at_phase(seed: int, phase: Literal["ED", "ES"]) -> PhantomCase:
    heart = phantoms.make_heart(seed, phase=phase)
    # It runs from base to apex, which is downwards.
    return replace(heart, image=heart.image[::-1], label=heart.label[::-1])


def _task(stem: str, classes: tuple[str, ...], make: Callable[[int], TaskCase], window: tuple[float, float]) -> Kind:
    # Without a fixed window, percentiles of the whole volume would carry what lies far away to every pixel.
    return Kind(stem, classes, make, window, evidence_px=lambda seed: make(seed).evidence_px)


KINDS = {
    "phantom": Kind("phantom", phantoms.HEART_CLASSES, _heart, phases=("ED", "ES")),
    "phantom-abdomen": Kind("abdomen", phantoms.ABDOMEN_CLASSES, phantoms.make_abdomen, ABDOMEN_HU),
    "phantom-key": _task("key", phantoms.KEY_CLASSES, phantoms.make_key, (0.0, 255.0)),
    "phantom-side": _task("side", phantoms.SIDE_CLASSES, phantoms.make_side, (0.0, 255.0)),
    "phantom-match": _task("match", phantoms.MATCH_CLASSES, phantoms.make_match, (0.0, 255.0)),
    "phantom-kidneys": _task("kidneys", phantoms.KIDNEY_CLASSES, phantoms.make_kidneys, ABDOMEN_HU),
}
