"""What all phantoms draw with: a canvas in millimetres, smooth random fields and solids with soft edges.

A solid is given by its depth: the distance in mm to its surface, positive inside. The union of two solids is the
maximum of their depths, their common part the minimum, and `-depth` is the outside.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from l2gnet.errors import ConfigError
from l2gnet.shapes import Bool, Float, Float32, UInt8

Triple = Sequence[float | np.ndarray]  # z, y, x; an array where it varies in space
Knots = Sequence[tuple[float, float, float, float]]  # z, y, x and radius of a tube, all in mm
ENDLESS_MM = 9e3  # the semi-axis of a solid that runs through the whole volume
LATTICE = 24  # nodes along an axis before a random field repeats: the size of the volume does not change the patient


@dataclass(frozen=True)
class PhantomCase:
    """One synthetic patient: image, labels on the same grid, and the voxel spacing in mm; all in the order D, H, W."""

    image: Float32[np.ndarray, "D H W"]
    label: UInt8[np.ndarray, "D H W"]
    spacing_mm: tuple[float, float, float]
    name: str


@dataclass(frozen=True)
class TaskCase(PhantomCase):
    """A made case whose classes are decided far away: `evidence_px` says how far, at each labelled pixel, else NaN.

    It counts pixels of this case along the axis where they are more, as receptive fields are squares.
    """

    evidence_px: Float32[np.ndarray, "D H W"]


@dataclass(frozen=True)
class Canvas:
    """A volume being painted; `z`, `y` and `x` say where in the body each voxel lies, in mm from the origin.

    All is float64 and rounded once at the end: the last bits, in which processors differ, do not show.
    """

    axes_mm: tuple[np.ndarray, ...]
    z: Float[np.ndarray, "D H W"]
    y: Float[np.ndarray, "D H W"]
    x: Float[np.ndarray, "D H W"]
    texture: Float[np.ndarray, "D H W"]
    image: Float[np.ndarray, "D H W"]
    label: UInt8[np.ndarray, "D H W"]
    edge_mm: float

    def around(self, low_mm: Sequence[float], high_mm: Sequence[float]) -> "Canvas":
        """The box between two corners, as a view: what is painted on it is painted on the whole."""
        ends = zip(self.axes_mm, low_mm, high_mm, strict=True)
        box = tuple(slice(*np.searchsorted(axis, (low, high))) for axis, low, high in ends)
        fields = {name: getattr(self, name)[box] for name in ("z", "y", "x", "texture", "image", "label")}
        return replace(self, axes_mm=tuple(axis[part] for axis, part in zip(self.axes_mm, box, strict=True)), **fields)

    def paint(self, depth_mm: Float[np.ndarray, "D H W"], value: float, texture: float = 0.0, label: int = 0) -> None:
        """Fill a solid with a value, textured, and a label; its edge is a pixel wide, as partial volume makes it."""
        change = value + texture * self.texture - self.image
        change *= np.clip(depth_mm / self.edge_mm + 0.5, 0, 1)
        self.image[...] += change
        self.label[depth_mm > 0] = label


def blank_canvas(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], needs_mm: float, rng: np.random.Generator
) -> Canvas:
    """An empty canvas with a fine random texture, the origin in its middle; ConfigError where the view is too small."""
    if len(shape) != 3 or min(shape) < 1:
        raise ConfigError(f"shape must be three positive integers (D, H, W), got {shape}")
    if not (len(spacing_mm) == 3 and np.isfinite(spacing_mm).all() and min(spacing_mm) > 0):
        raise ConfigError(f"spacing_mm must be three positive numbers (D, H, W), got {spacing_mm}")
    view_mm = min(shape[1] * spacing_mm[1], shape[2] * spacing_mm[2])
    if view_mm < needs_mm:
        raise ConfigError(
            f"at least {needs_mm:g} mm must be in view along H and W, got {view_mm:g} mm from shape {shape} and "
            f"spacing_mm {spacing_mm}; raise the spacing or the shape"
        )
    axes_mm = tuple((np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing_mm, strict=True))
    z, y, x = np.meshgrid(*axes_mm, indexing="ij")
    texture = smooth_noise(rng, axes_mm, scale_mm=5.0)
    return Canvas(axes_mm, z, y, x, texture, np.zeros(shape), np.zeros(shape, np.uint8), max(spacing_mm[1:]))


def one_slice(canvas: Canvas, number: int) -> Canvas:
    """A slice of the canvas, as a view: what is painted on it is painted on the whole."""
    z_mm, thin_mm = canvas.axes_mm[0][number], 1e-3
    return canvas.around((z_mm - thin_mm, -np.inf, -np.inf), (z_mm + thin_mm, np.inf, np.inf))


def chessboard_px(there: Bool[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W"]:
    """Pixels from each pixel to the nearest of those marked, along the axis where they are more."""
    from scipy.ndimage import distance_transform_cdt  # here, as SciPy takes long to import

    return distance_transform_cdt(~there, "chessboard").astype(np.float32)


def random_streams(seed: int, count: int) -> list[np.random.Generator]:
    """Independent generators of one seed, so that a longer draw from one leaves the others as they are."""
    if seed < 0:
        raise ConfigError(f"seed must be 0 or more, got {seed}")
    return np.random.default_rng(seed).spawn(count)


def smooth_noise(
    rng: np.random.Generator, axes_mm: tuple[np.ndarray, ...], scale_mm: float
) -> Float[np.ndarray, "D H W"]:
    """A random field of mean 0 and deviation 1 whose bumps are about `scale_mm` wide: cubic B-splines on a lattice."""
    field = rng.standard_normal((LATTICE,) * 3)
    for axis_mm in axes_mm:
        nodes = (axis_mm[:, None] / scale_mm - np.arange(LATTICE) + LATTICE / 2) % LATTICE - LATTICE / 2
        u = np.abs(nodes)
        weights = (np.clip(2 - u, 0, None) ** 3 - 4 * np.clip(1 - u, 0, None) ** 3) / 6
        field = np.tensordot(field, weights, axes=(0, 1))  # the axis done goes last: after three the order is D, H, W
    return field / (151 / 315) ** 1.5  # 151/315 is the integral of the squared B-spline


def ellipsoid(canvas: Canvas, centre_mm: Triple, semi_mm: Triple) -> Float[np.ndarray, "D H W"]:
    """Depth in an ellipsoid with semi-axes along z, y and x; right to first order at the surface."""
    square, steep = np.zeros(()), np.zeros(())
    for place, centre, semi in zip((canvas.z, canvas.y, canvas.x), centre_mm, semi_mm, strict=True):
        part = ((place - centre) / semi + 1e-6) ** 2  # never 0, or the centre would divide 0 by 0
        square, steep = square + part, steep + part / semi**2
    return (np.sqrt(square) - square) / np.sqrt(steep)


def tube(canvas: Canvas, knots_mm: Knots, along: int) -> Float[np.ndarray, "D H W"]:
    """Depth in a tube with round ends through knots, which rise along the axis `along` (0 z, 1 y, 2 x)."""
    from scipy.interpolate import PchipInterpolator  # here, as SciPy takes long to import

    knots = np.array(knots_mm)
    others = [axis for axis in range(3) if axis != along]
    course = PchipInterpolator(knots[:, along], knots[:, [*others, 3]])
    place = (canvas.z, canvas.y, canvas.x)
    run = np.clip(place[along], knots[0, along], knots[-1, along])
    there, slope = course(run), course(run, 1)
    beyond, off_0, off_1 = place[along] - run, *(place[axis] - there[..., i] for i, axis in enumerate(others))
    distance = np.sqrt(beyond**2 + off_0**2 + off_1**2)
    return (there[..., 2] - distance) / np.sqrt(1 + slope[..., 0] ** 2 + slope[..., 1] ** 2)
