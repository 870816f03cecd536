"""Where the images of a series lie: which share a position, whether one is missing, and the grid they make.

Distances are compared with tolerances and never rounded: headers are off by thousandths, and no limit of rounding may
part what belongs together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from l2gnet.data.formats.dicom_file import Image
from l2gnet.errors import volume_error
from l2gnet.shapes import Float

_TURNED = 0.01  # how far direction cosines may be off
_HERE = 0.1  # pixels between images at one position, at most
_ASIDE = 0.5  # pixels that the slices may be shifted in their own plane
_ALONG = 0.05  # of the distance between slices, that one may lie beside its place
_UNLIKE_SAID = 1.5  # times as far apart as the header says, or as close: then slices may be missing, or too many


@dataclass(frozen=True, eq=False)
class Plane:
    """The orientation that all images of a series share, and the size of their pixels.

    The rows of `turn` are the unit vectors along a row, along a column and along the normal, in LPS.
    """

    turn: Float[np.ndarray, "3 3"]
    row_mm: float
    column_mm: float

    @property
    def pixel_mm(self) -> float:
        """The shorter side of a pixel."""
        return min(self.row_mm, self.column_mm)

    def along(self, image: Image) -> float:
        """Where an image lies along the normal, in mm."""
        return float(self.turn[2] @ _position(image))


def shared_plane(path: Path, number: int, images: Sequence[Image]) -> Plane:
    """The plane of a series; raises VolumeError where its images differ in orientation, size or spacing."""
    cosines = np.array([_numbers(image, "ImageOrientationPatient", 6) for image in images])
    across, down = cosines.mean(axis=0).reshape(2, 3)
    if np.abs(cosines - cosines[0]).max() > _TURNED:
        directions = {" ".join(f"{value:.3f}" for value in each) for each in cosines}
        rule = f"the images of series {number} must lie in parallel planes"
        value = f"{len(directions)} orientations: {'; '.join(sorted(directions)[:3])}"
        raise volume_error(path, rule, value, "split the series, as with dcm2niix, and name the right part")
    lengths = np.linalg.norm(across), np.linalg.norm(down)
    if not (np.allclose(lengths, 1, atol=_TURNED) and abs(across @ down) <= _TURNED):
        rule = "ImageOrientationPatient must hold two unit vectors at a right angle"
        raise volume_error(path, rule, cosines[0].tolist(), "export it again")
    across = across / lengths[0]
    down = down - across * (across @ down)
    down = down / np.linalg.norm(down)
    sizes = sorted({image.pixels.shape for image in images})
    if len(sizes) > 1:
        value = "; ".join(f"{height} x {width}" for height, width in sizes)
        raise volume_error(path, f"the images of series {number} must have one size", value, "split the series")
    spacings_mm = np.array([_numbers(image, "PixelSpacing", 2) for image in images])
    if spacings_mm.min() <= 0 or np.ptp(spacings_mm, axis=0).max() > _TURNED * spacings_mm.min():
        rule = f"the images of series {number} must have one PixelSpacing, above 0"
        value = "; ".join(sorted({f"{row:g} x {column:g} mm" for row, column in spacings_mm})[:3])
        raise volume_error(path, rule, value, "split the series")
    row_mm, column_mm = spacings_mm.mean(axis=0).tolist()
    return Plane(np.stack([across, down, np.cross(across, down)]), row_mm, column_mm)


def at_each_place(plane: Plane, images: Sequence[Image]) -> list[list[Image]]:
    """The images at each position, along the normal; which of one position comes first is not known yet."""
    ordered = sorted(images, key=plane.along)
    places = [[ordered[0]]]
    for before, image in pairwise(ordered):
        if plane.along(image) - plane.along(before) > _HERE * plane.pixel_mm:
            places.append([])
        places[-1].append(image)
    return places


def grid(path: Path, number: int, plane: Plane, images: Sequence[Image]) -> Float[np.ndarray, "4 4"]:
    """The affine from (slice, row, column, 1) to LPS in mm, for the images of one moment along their normal.

    Raises VolumeError where a slice is missing, or the slices are not stacked like the pages of a book.
    """
    corners = np.array([_position(image) for image in images])
    heights_mm = corners @ plane.turn[2]
    several = len(images) > 1
    step_mm = (heights_mm[-1] - heights_mm[0]) / (len(images) - 1) if several else _thickness_mm(images[0])
    _require_regular(path, number, images, heights_mm, step_mm)
    aside_mm = np.ptp(corners @ plane.turn[:2].T, axis=0).max()
    if aside_mm > _ASIDE * plane.pixel_mm:
        rule = f"the slices of series {number} must be stacked along their normal"
        value = f"slices that are shifted by up to {aside_mm:.3g} mm in their own plane, as by a tilted gantry"
        raise volume_error(path, rule, value, "resample it, as dcm2niix does")
    affine = np.eye(4)
    affine[:3, :3] = (plane.turn * [[plane.column_mm], [plane.row_mm], [step_mm]])[[2, 1, 0]].T
    affine[:3, 3] = corners[0]
    return affine


def said_of_spacing(images: Sequence[Image], step_mm: float) -> list[str]:
    """The remark about slices that lie farther apart than their headers say, as where every other one is missing.

    Or closer, as where those of another acquisition lie between them.
    """
    said_mm = abs(float(images[0].header.get("SpacingBetweenSlices") or 0))
    if len(images) < 2 or said_mm == 0 or step_mm / _UNLIKE_SAID <= said_mm <= step_mm * _UNLIKE_SAID:
        return []
    doubt = "are some of them missing?" if said_mm < step_mm else "are some of them of another acquisition?"
    return [f"its slices lie {step_mm:.4g} mm apart, {said_mm:.4g} mm by their headers: {doubt}"]


def _require_regular(
    path: Path, number: int, images: Sequence[Image], heights_mm: Float[np.ndarray, " D"], step_mm: float
) -> None:
    beside_mm = np.abs(heights_mm - heights_mm[0] - step_mm * np.arange(len(images)))
    if beside_mm.max() <= _ALONG * step_mm:
        return
    gaps_mm = np.diff(heights_mm)
    widest = int(gaps_mm.argmax())
    between = f"the widest between {images[widest].name} and {images[widest + 1].name}"
    rule = f"the slices of series {number} must lie at equal distances"
    value = f"gaps of {gaps_mm.min():.4g} to {gaps_mm.max():.4g} mm, {between}"
    raise volume_error(path, rule, value, "copy the missing slices, or split the series")


def _thickness_mm(image: Image) -> float:
    """Of a single slice, as it says."""
    for name in ("SpacingBetweenSlices", "SliceThickness"):
        thickness_mm = abs(float(image.header.get(name) or 0))
        if 0 < thickness_mm < np.inf:
            return thickness_mm
    rule = "a single slice must say how thick it is (SliceThickness)"
    raise volume_error(image.path, rule, image.header.get("SliceThickness"), "export it again")


def _position(image: Image) -> Float[np.ndarray, " 3"]:
    return _numbers(image, "ImagePositionPatient", 3)


def _numbers(image: Image, name: str, count: int) -> Float[np.ndarray, " N"]:
    """An attribute of so many finite numbers."""
    values = np.array([float(value) for value in image.header.get(name) or ()])
    if len(values) != count or not np.isfinite(values).all():
        found = " ".join(map(str, values.tolist())) or "none"
        rule = f"{image.name} must say {name}, {count} finite numbers"
        raise volume_error(image.path, rule, found, "export it again")
    return values
