"""A synthetic short-axis cine MR of the heart, at end-diastole or end-systole."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from l2gnet.data.phantoms.canvas import (
    ENDLESS_MM,
    Canvas,
    PhantomCase,
    blank_canvas,
    ellipsoid,
    random_streams,
    smooth_noise,
)
from l2gnet.errors import ConfigError
from l2gnet.shapes import Float, Float32

HEART_CLASSES = ("background", "right ventricle", "myocardium", "left ventricle")  # the label order of ACDC
RV, MYOCARDIUM, LV = 1, 2, 3

# Mean and texture of the signal in each tissue, as balanced steady-state free precession shows them (arbitrary units).
SIGNAL = {
    "air": (10, 0),
    "lung": (32, 9),
    "blood": (410, 22),
    "myocardium": (110, 9),
    "muscle": (95, 14),
    "fat": (310, 35),
    "liver": (140, 12),
    "bone": (210, 45),
    "gut": (190, 70),
    "trabeculae": (240, 30),
}
PERICARDIUM_MM, RV_WALL_MM = 1.2, 2.2


@dataclass(frozen=True)
class Anatomy:
    """One heart in mm; z runs from base to apex, x to the patient's left; the left ventricle's axis is the origin."""

    base_z: float  # the plane of the mitral valve
    length: float  # from there to the apex
    lv_radius: float  # of the cavity at the base
    wall: float
    wall_shift: float  # how much thinner the lateral wall is than the mean, and the septum thicker
    rv_width: float  # from the septum to the free wall at the base
    rv_height: float  # half of the distance between the two insertions
    rv_base: float  # how far the right ventricle reaches above the mitral plane
    pad: float  # epicardial fat
    turn: float  # of the heart in the picture, radians
    centre_y: float
    centre_x: float
    lean: float  # drift of the axis towards the left, mm for each mm from base to apex

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Anatomy":
        """A random adult at end-diastole, healthy or not: dilated and thick-walled hearts are among them."""
        lv_radius = rng.uniform(19, 30)
        return cls(
            base_z=rng.uniform(-54, -41),
            length=rng.uniform(78, 92),
            lv_radius=lv_radius,
            wall=rng.uniform(7, 11.5),
            wall_shift=rng.uniform(-1, 1.8),
            rv_width=rng.uniform(22, 36),
            rv_height=(lv_radius + 9) * rng.uniform(0.95, 1.15),
            rv_base=rng.uniform(-4, 6),
            pad=rng.uniform(1, 5),
            turn=rng.uniform(-0.35, 0.35),
            centre_y=rng.uniform(-12, 8),
            centre_x=rng.uniform(8, 20),
            lean=rng.uniform(0.0, 0.2),
        )

    def contracted(self, rng: np.random.Generator) -> "Anatomy":
        """The same heart at end-systole: shorter and narrower, the wall thicker because muscle keeps its volume."""
        shorter, narrower = rng.uniform(0.82, 0.9), rng.uniform(0.6, 0.8)
        radius = self.lv_radius * narrower
        ring = ((self.lv_radius + self.wall) ** 2 - self.lv_radius**2) / shorter
        return replace(
            self,
            base_z=self.base_z + (1 - shorter) * self.length,  # the base moves, the apex hardly does
            length=shorter * self.length,
            lv_radius=radius,
            wall=np.sqrt(radius**2 + ring) - radius,
            rv_width=self.rv_width * rng.uniform(0.6, 0.8),
            rv_height=self.rv_height * 0.88,
        )


def make_heart(
    seed: int,
    *,
    shape: tuple[int, int, int] = (10, 128, 128),
    spacing_mm: tuple[float, float, float] = (10.0, 1.5, 1.5),
    phase: Literal["ED", "ES"] = "ED",
) -> PhantomCase:
    """A short-axis heart in arbitrary MR units (0 to about 1000), slices from base to apex, labels as HEART_CLASSES.

    The seed is the patient: end-diastole (ED) and end-systole (ES) of one seed are one heart. Slices beyond the heart
    hold no label. ConfigError for a negative seed, an unknown phase, or a volume the heart does not fit in.
    """
    if phase not in ("ED", "ES"):
        raise ConfigError(f"phase must be 'ED' or 'ES', got {phase!r}")
    body_rng, beat_rng, texture_rng, ed_rng, es_rng = random_streams(seed, 5)
    canvas = blank_canvas(shape, spacing_mm, 140.0, texture_rng)
    anatomy = Anatomy.draw(body_rng)
    body = bend(canvas, body_rng)
    paint_thorax(body, anatomy, body_rng)
    if phase == "ES":
        anatomy = anatomy.contracted(beat_rng)
    heart = heart_frame(body, anatomy)
    paint_great_vessels(heart, anatomy, body_rng)
    paint_ventricles(heart, anatomy, body_rng)
    image = scan(canvas, texture_rng, ed_rng if phase == "ED" else es_rng)
    return PhantomCase(image, canvas.label, spacing_mm, f"heart-{seed:04d}-{phase}")


def fill(canvas: Canvas, depth_mm: Float[np.ndarray, "D H W"], tissue: str, label: int = 0) -> None:
    """Paint a solid with its tissue's signal."""
    mean, texture = SIGNAL[tissue]
    canvas.paint(depth_mm, mean, texture, label)


def bend(canvas: Canvas, rng: np.random.Generator) -> Canvas:
    """The canvas in coordinates that bend a little, so that no ellipse stays one."""
    shifts = [1.9 * smooth_noise(rng, canvas.axes_mm, 26.0) for _ in range(2)]
    return replace(canvas, y=canvas.y + shifts[0], x=canvas.x + shifts[1])


def heart_frame(body: Canvas, anatomy: Anatomy) -> Canvas:
    """The canvas in the heart's own coordinates: the left ventricle's axis is x = y = 0, its septum at negative x."""
    y = body.y - anatomy.centre_y
    x = body.x - anatomy.centre_x - anatomy.lean * body.z
    cos, sin = np.cos(anatomy.turn), np.sin(anatomy.turn)
    return replace(body, y=cos * y - sin * x, x=sin * y + cos * x)


def paint_thorax(body: Canvas, anatomy: Anatomy, rng: np.random.Generator) -> None:
    """Chest wall on the left of the picture, lung, liver and stomach below the diaphragm; aorta and spine behind."""
    fill(body, np.full_like(body.x, 99.0), "air")
    tilt = rng.uniform(-0.2, 0.25)
    across = np.cos(tilt) * body.x + np.sin(tilt) * body.y
    down = np.cos(tilt) * body.y - np.sin(tilt) * body.x
    chest_x = 168 + anatomy.centre_x - anatomy.lv_radius - anatomy.wall - anatomy.rv_width - rng.uniform(22, 38)
    skin = 168 - np.sqrt((across - chest_x - 0.25 * body.z) ** 2 + (0.9 * (down - rng.uniform(0, 40))) ** 2)
    fat_mm, muscle_mm = rng.uniform(7, 20), rng.uniform(8, 13)
    fill(body, skin, "muscle")
    fill(body, np.minimum(skin - 1.5, fat_mm - skin), "fat")
    ribs = np.sin((down + 0.8 * body.z) / rng.uniform(4.5, 5.5) + rng.uniform(0, 6)) * 5
    fill(body, np.minimum(ribs, 3.5 - np.abs(skin - fat_mm - muscle_mm / 2)), "bone")
    lung = skin - fat_mm - muscle_mm
    fill(body, np.minimum(lung, 1.5 - lung), "fat")
    fill(body, lung - 1.5, "lung")
    fill(body, np.minimum(lung - 5, 4 * (body.texture - 2.3)), "blood")

    floor = 40 + anatomy.centre_y - 0.3 * body.z + 0.003 * (body.x + rng.uniform(-10, 30)) ** 2
    abdomen = np.minimum(body.y - floor - rng.uniform(-2, 8), lung - 1.5)
    fill(body, abdomen + 2.5, "muscle")
    fill(body, abdomen, "fat")
    stomach = ellipsoid(body, (30, 80 + anatomy.centre_y, 60), (70, 40, 34))
    fill(body, np.minimum(abdomen - 2, stomach), "muscle")
    fill(body, np.minimum(abdomen - 5, stomach - 3), "gut")
    liver = np.minimum(abdomen - 2, ellipsoid(body, (20, 95 + anatomy.centre_y, -40), (120, 75, 85)))
    fill(body, liver, "liver")
    fill(body, np.minimum(liver - 5, 3.5 * (body.texture - 1.7)), "blood")

    spine_y, spine_x = rng.uniform(88, 100), rng.uniform(-5, 25)
    fill(body, ellipsoid(body, (0, spine_y, spine_x), (ENDLESS_MM, 20, 24)), "bone")
    aorta = ellipsoid(body, (0, spine_y - 16, spine_x + 30), (ENDLESS_MM, 11, 11))
    fill(body, aorta + 5, "fat")
    fill(body, aorta + 1.5, "muscle")
    fill(body, aorta, "blood")


def chambers(heart: Canvas, anatomy: Anatomy) -> tuple[Float[np.ndarray, "D H W"], ...]:
    """Depths in the right ventricle, in the left ventricle with its wall, and in its cavity."""
    a = anatomy
    along = (heart.z - a.base_z) / a.length  # 0 at the base, 1 at the apex

    def bullet(t: Float[np.ndarray, "D H W"], power: float) -> Float[np.ndarray, "D H W"]:
        return np.sqrt(np.clip(1 - np.clip(t, 0, 1) ** power, 0, 1))

    outer = a.lv_radius + a.wall
    radius = np.sqrt(heart.y**2 + heart.x**2)
    epicardium = outer * bullet(along, 2.4) - radius
    in_cavity = bullet(along * a.length / (a.length - 0.8 * a.wall), 2.2)
    cavity = a.lv_radius * in_cavity - np.sqrt(heart.y**2 + (heart.x - a.wall_shift * in_cavity) ** 2)

    shrink = bullet((along + 0.05) / 0.93, 1.6) + 1e-3
    middle = (0, -4, -0.75 * outer * bullet(along, 2.4))
    oval = ellipsoid(
        heart, middle, (ENDLESS_MM, a.rv_height * (0.1 + 0.9 * shrink), (0.25 * outer + a.rv_width) * shrink)
    )
    crescent = np.minimum(np.where(along < 0.88, oval, -99.0), -epicardium)
    return tuple(
        np.where(heart.z >= plane, depth, -99.0)
        for depth, plane in ((crescent, a.base_z - a.rv_base), (epicardium, a.base_z), (cavity, a.base_z))
    )


def paint_great_vessels(heart: Canvas, anatomy: Anatomy, rng: np.random.Generator) -> None:
    """Above the valves: both atria, the aortic root and the outflow tract of the right ventricle, all unlabelled."""
    above = anatomy.base_z + 6 - heart.z
    rooms = [(14, 12, 22, 30), (18, -34, 24, 20), (-8, -14, 14, 14), (-26, -34, 15, 19)]  # centre y, x; semi-axes y, x
    depths = [
        ellipsoid(heart, (0, y + rng.normal(0, 3), x + rng.normal(0, 3)), (ENDLESS_MM, h * rng.uniform(0.9, 1.1), w))
        for y, x, h, w in rooms
    ]
    whole = np.minimum(np.maximum.reduce(depths), above)
    fill(heart, whole + 3 + anatomy.pad, "fat")
    fill(heart, whole + 2.5, "muscle")
    for depth in depths:
        fill(heart, np.minimum(depth + 2.0, above), "muscle")
        fill(heart, np.minimum(depth, above), "blood")


def paint_ventricles(heart: Canvas, anatomy: Anatomy, rng: np.random.Generator) -> None:
    """Pericardial fat, both ventricles with their walls, trabeculae, and the two papillary muscles."""
    rv, epicardium, cavity = chambers(heart, anatomy)
    whole = np.maximum(epicardium, rv + RV_WALL_MM)
    lumpy_fat = whole + anatomy.pad * np.clip(0.6 + 0.6 * smooth_noise(rng, heart.axes_mm, 16.0), 0, 2)
    fill(heart, lumpy_fat + PERICARDIUM_MM, "muscle")
    fill(heart, lumpy_fat, "fat")
    fill(heart, rv + RV_WALL_MM, "myocardium")
    fill(heart, rv, "blood", RV)
    fill(heart, epicardium, "myocardium", MYOCARDIUM)
    fill(heart, cavity, "blood", LV)
    rough = 3 * heart.texture
    fill(heart, np.minimum(rv, rough - 3.6), "trabeculae", RV)
    fill(heart, np.minimum(cavity, rough - 1.5 - cavity), "myocardium", LV)
    side = rng.uniform(-0.3, 0.3)
    for angle in (side - 0.7, side + 1.3):  # anterolateral and posteromedial, seen from below
        reach, thick = 0.62 * anatomy.lv_radius, 0.19 * anatomy.lv_radius + 0.05 * anatomy.wall
        centre = (anatomy.base_z + 0.5 * anatomy.length, reach * np.sin(angle), reach * np.cos(angle))
        papillary = ellipsoid(heart, centre, (0.28 * anatomy.length, thick, 1.2 * thick))
        fill(heart, np.minimum(cavity, papillary + 0.3 * rough), "myocardium", LV)


def scan(
    canvas: Canvas, texture_rng: np.random.Generator, noise_rng: np.random.Generator
) -> Float32[np.ndarray, "D H W"]:
    """The picture as a scanner gives it: point spread, coil shading, gain and Rician noise, in whole numbers."""
    from scipy.ndimage import gaussian_filter  # here, as SciPy takes long to import

    sharp = gaussian_filter(canvas.image, (0.35, 0.5, 0.5))
    fading = texture_rng.uniform(0.001, 0.004) * (canvas.x + canvas.y)  # the coil lies on the chest
    shading = np.exp(0.15 * smooth_noise(texture_rng, canvas.axes_mm, 60.0) - fading)
    sigma = texture_rng.uniform(7, 16)
    real, imaginary = sigma * noise_rng.standard_normal((2, *sharp.shape))
    signal = np.sqrt((sharp * shading + real) ** 2 + imaginary**2)
    return np.round(texture_rng.uniform(0.5, 1.3) * signal).clip(0, 1200).astype(np.float32)
