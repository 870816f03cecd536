"""The three planes of a volume, each turned as radiologists look at it, with the letters at its edges."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from l2gnet.shapes import Num

_OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "S": "I", "I": "S"}
_NAMES = {"S": "axial", "I": "axial", "A": "coronal", "P": "coronal", "L": "sagittal", "R": "sagittal"}


@dataclass(frozen=True)
class Plane:
    """How slices across one `axis` of (D, H, W) are shown.

    `down` and `across` are the axes that run down and across the picture, from their far end where flipped;
    `letters` stand at its top, bottom, left and right: L R A P S I, or nothing where the orientation is not known.
    """

    name: str
    axis: int
    down: int
    across: int
    flip_down: bool
    flip_across: bool
    letters: tuple[str, str, str, str]

    def slice(self, array: Num[np.ndarray, "D H W"], index: int) -> Num[np.ndarray, "rows columns"]:
        """The slice at `index` as it is shown."""
        picture = array.take(index, self.axis)
        picture = picture if self.down < self.across else picture.T
        return picture[:: -1 if self.flip_down else 1, :: -1 if self.flip_across else 1]

    def to_browser(self) -> dict[str, Any]:
        """The same as a dictionary of plain values."""
        return asdict(self)


def planes_of(orientation: str | None) -> tuple[Plane, Plane, Plane]:
    """The planes across D, H and W of a volume whose indices grow towards `orientation`, for example "SPL".

    Superior (else anterior) is on top, and right (else anterior) at the left, as if the patient faced us. Without an
    orientation the planes are turned as for "SPL", and say nothing about sides.

    Raises:
        ValueError: the orientation does not name three different axes.
    """
    codes = (orientation or "SPL").upper()
    if sorted(_NAMES.get(code, "") for code in codes) != ["axial", "coronal", "sagittal"]:
        raise ValueError(
            f"orientation must name where D, H and W lead, with one letter each of L/R, A/P and S/I; "
            f"got {orientation!r}; the library's own volumes are 'SPL', 'PIL' or 'LIP'"
        )
    planes = []
    for axis in range(3):
        # The vertical axis of a picture is superior-inferior if it can be, else anterior-posterior.
        down, across = sorted({0, 1, 2} - {axis}, key=lambda a: "axial coronal sagittal".index(_NAMES[codes[a]]))
        flip_down, flip_across = codes[down] in "SA", codes[across] in "RA"
        bottom = _OPPOSITE[codes[down]] if flip_down else codes[down]
        right = _OPPOSITE[codes[across]] if flip_across else codes[across]
        letters = (_OPPOSITE[bottom], bottom, _OPPOSITE[right], right)
        known = orientation is not None
        name = _NAMES[codes[axis]] if known else ("slices", "rows", "columns")[axis]
        planes.append(Plane(name, axis, down, across, flip_down, flip_across, letters if known else ("", "", "", "")))
    first, second, third = planes
    return first, second, third
