"""A synthetic axial CT of the upper abdomen in the portal venous phase, with the eight organs of the Synapse set."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from l2gnet.data.folders.synapse import CLASSES as ABDOMEN_CLASSES
from l2gnet.data.phantoms.canvas import (
    ENDLESS_MM,
    Canvas,
    Knots,
    PhantomCase,
    blank_canvas,
    ellipsoid,
    random_streams,
    smooth_noise,
    tube,
)
from l2gnet.shapes import Float, Float32

# Tissue: HU, its deviation between patients, and the deviation of its texture within one.
TISSUES = {
    "aorta": (165, 15, 3),
    "gallbladder": (10, 5, 3),
    "left kidney": (175, 15, 9),
    "right kidney": (175, 15, 9),
    "medulla": (135, 10, 9),
    "liver": (108, 9, 5),
    "pancreas": (92, 9, 16),
    "spleen": (120, 9, 5),
    "stomach": (38, 14, 18),
    "gut wall": (80, 8, 12),
    "gut content": (30, 10, 22),
    "stool": (-60, 40, 140),
    "gas": (-880, 0, 15),
    "vein": (145, 12, 4),
    "heart": (112, 10, 9),
    "muscle": (58, 5, 9),
    "fat": (-105, 4, 7),
    "skin": (10, 5, 5),
    "lung": (-840, 25, 45),
    "marrow": (170, 35, 30),
    "cortex": (420, 60, 50),
    "disc": (85, 8, 6),
    "cord": (35, 4, 4),
    "air": (-1000, 0, 0),
}

# Courses of vessels and gut: z, y, x and radius in mm from the middle of the body; z to the head, x to the left.
AORTA = [(-130, 14, 5), (-60, 14, 6), (0, 15, 9), (60, 19, 15), (130, 22, 19)]
GREAT_VESSELS: list[Knots] = [
    [(-130, 18, -16, 9), (-30, 16, -19, 11), (30, 10, -22, 12), (75, -4, -25, 13), (130, -8, -22, 13)],  # vena cava
    [(-130, -42, -6, 4), (-40, -32, -5, 6), (4, -18, -3, 7), (22, -16, -20, 7), (37, -15, -42, 7)],  # portal vein
    [(-130, -40, 7, 2.5), (-34, -20, 8, 4), (2, 6, 9, 4)],  # superior mesenteric artery
]
LIVER_VEINS: list[Knots] = [
    [(58, 20, -100, 2.5), (64, 5, -60, 4), (72, 0, -26, 6)],
    [(60, -55, -58, 2.5), (66, -30, -42, 4), (72, -2, -26, 6)],
    [(66, -4, -24, 6), (62, -30, -4, 4), (54, -48, 20, 2.5)],
    [(48, 14, -105, 2), (40, -4, -75, 4), (36, -14, -42, 6)],
    [(28, -30, -95, 2), (34, -18, -66, 4), (36, -14, -42, 6)],
    [(36, -14, -42, 6), (42, -36, -18, 4.5), (46, -52, 22, 2.5)],
]
DUODENUM: list[tuple[Knots, int]] = [
    ([(-58, -2, -38, 11), (-24, -12, -44, 12), (-10, -36, -36, 12)], 0),
    ([(-58, -2, -38, 11), (-60, -6, 0, 9), (-52, -16, 34, 10)], 2),
]


@dataclass(frozen=True)
class Patient:
    """A canvas with one patient's fill values: HU by tissue, and what else differs apart from the bending of space."""

    canvas: Canvas
    hu: dict[str, float]
    fat_mm: float

    def around(self, low_mm: Sequence[float], high_mm: Sequence[float]) -> "Patient":
        """The box between two corners (z, y, x), wide enough for any patient's build and bending."""
        low, high = 1.1 * np.array(low_mm) - 14, 1.1 * np.array(high_mm) + 14
        return replace(self, canvas=self.canvas.around(low.tolist(), high.tolist()))

    def tube(self, knots_mm: Knots, along: int) -> tuple["Patient", Float[np.ndarray, "d h w"]]:
        """A tube as `phantom_canvas.tube` has it: the box that holds it, and the depth there."""
        knots = np.array(knots_mm)
        centres, radius = knots[:, :3], knots[:, 3].max()
        part = self.around((centres.min(0) - radius).tolist(), (centres.max(0) + radius).tolist())
        return part, tube(part.canvas, knots_mm, along)

    def fill(self, depth_mm: Float[np.ndarray, "D H W"], tissue: str, organ: str = "") -> None:
        """Fill a solid with a tissue; it is labelled as `organ`, or as the organ of the tissue's name, if any."""
        name = organ or tissue
        label = ABDOMEN_CLASSES.index(name) if name in ABDOMEN_CLASSES else 0
        self.canvas.paint(depth_mm, self.hu[tissue], TISSUES[tissue][2], label)


def make_abdomen(
    seed: int,
    *,
    shape: tuple[int, int, int] = (40, 256, 256),
    spacing_mm: tuple[float, float, float] = (5.0, 1.5, 1.5),
) -> PhantomCase:
    """An axial CT in HU, slices from feet to head about the level of the kidneys, labels as ABDOMEN_CLASSES.

    All eight organs are there when the slices cover about 200 mm. ConfigError for a negative seed or for a field of
    view the organs do not fit in; the trunk needs some 400 mm to be whole.
    """
    body_rng, texture_rng, gut_rng, scan_rng = random_streams(seed, 4)
    canvas = blank_canvas(shape, spacing_mm, 300.0, texture_rng)
    patient = Patient(build(canvas, body_rng), draw_hu(body_rng), body_rng.uniform(6, 24))
    paint_body(patient, body_rng)
    paint_chest(patient, body_rng)
    paint_spine(patient, body_rng)
    paint_gut(patient, gut_rng)
    paint_liver(patient, body_rng)
    paint_spleen(patient, body_rng)
    paint_kidneys(patient, body_rng)
    paint_stomach(patient, body_rng)
    paint_pancreas(patient, body_rng)
    paint_vessels(patient, body_rng)
    return PhantomCase(scan(canvas.image, scan_rng), canvas.label, spacing_mm, f"abdomen-{seed:04d}")


def draw_hu(rng: np.random.Generator) -> dict[str, float]:
    """How one patient's tissues enhance; both kidneys alike."""
    hu = {t: mean + spread * float(np.clip(rng.standard_normal(), -2, 2)) for t, (mean, spread, _) in TISSUES.items()}
    return hu | {"left kidney": hu["right kidney"]}


def build(canvas: Canvas, rng: np.random.Generator) -> Canvas:
    """The canvas in the coordinates of a standard body: sizes, a slight turn on the table, and smooth bending."""
    turn, size = rng.uniform(-0.05, 0.05), rng.uniform(0.93, 1.06, 3)
    bend = [4.0 * smooth_noise(rng, canvas.axes_mm, 46.0) for _ in range(3)]
    y = np.cos(turn) * canvas.y - np.sin(turn) * canvas.x
    x = np.sin(turn) * canvas.y + np.cos(turn) * canvas.x
    return replace(canvas, z=canvas.z / size[0] + bend[0], y=(y + bend[1]) / size[1], x=(x + bend[2]) / size[2])


def cavity(canvas: Canvas) -> Float[np.ndarray, "D H W"]:
    """Depth below the inner face of the trunk wall: a rounded box, about 260 mm by 170 mm."""
    u, v = (canvas.x / 130) ** 2, (canvas.y / 85) ** 2
    return 85 * (1 - np.sqrt(np.sqrt(u * u + v * v + 1.2 * u * v)))


def below_diaphragm(canvas: Canvas) -> Float[np.ndarray, "D H W"]:
    """Depth below the two domes of the diaphragm and its middle; the right one stands higher."""
    domes = [((-20, -8, -64), (110, 100, 92)), ((-20, -30, 0), (92, 85, 90)), ((-20, -2, 66), (96, 100, 90))]
    return np.maximum.reduce([ellipsoid(canvas, centre, semi) for centre, semi in domes])


def paint_body(patient: Patient, rng: np.random.Generator) -> None:
    """Skin, fat, the muscles of the wall and the ribs in it, and the fat of the peritoneal cavity."""
    canvas, fat_mm = patient.canvas, patient.fat_mm
    canvas.image[...] = patient.hu["air"]
    inner = cavity(canvas)
    skin = inner + 11 + fat_mm * (1 - 0.25 * canvas.y / 85)
    patient.fill(skin, "skin")
    patient.fill(skin - 2, "fat")
    patient.fill(inner + 11, "muscle")
    patient.fill(np.minimum(0.7 - np.abs(inner + 5 + canvas.texture), np.abs(canvas.x) - 75), "fat")
    arc = 0.5 + 0.5 * canvas.y / np.sqrt(0.5 * canvas.x**2 + canvas.y**2 + 1)  # 0 in front, 1 at the back
    run = (canvas.z - 100 * arc + rng.uniform(0, 28)) % 28 - 14
    rib = np.minimum(np.minimum(6 - np.abs(run), 3.5 - np.abs(inner + 5)), canvas.z + 35 - 110 * (1 - arc) ** 1.5)
    patient.fill(rib, "cortex")
    patient.fill(rib - 1.8, "marrow")
    patient.fill(inner, "fat")


def paint_chest(patient: Patient, rng: np.random.Generator) -> None:
    """The lung bases with their vessels, and the heart on the diaphragm."""
    top = patient.around((20, -100, -150), (ENDLESS_MM, 100, 150))
    canvas = top.canvas
    above = np.minimum(cavity(canvas) - 2, -below_diaphragm(canvas))
    top.fill(above, "lung")
    top.fill(np.minimum(above - 3, 2.5 * (canvas.texture - 2)), "vein")
    heart = np.minimum(ellipsoid(canvas, (112, -36, 26), (44, 44, 64)), above - 1)
    top.fill(heart + 4, "fat")
    top.fill(heart, "heart")
    top.fill(heart - 11, "vein")


def paint_spine(patient: Patient, rng: np.random.Generator) -> None:
    """Vertebrae with discs, canal and processes, and the muscles along them."""
    back = patient.around((-ENDLESS_MM, 10, -90), (ENDLESS_MM, 110, 90))
    canvas = back.canvas
    psoas = np.clip(10 - 0.13 * canvas.z, 2, 22)
    for side in (-1, 1):
        back.fill(ellipsoid(canvas, (0, 79, side * 34), (ENDLESS_MM, 19, 31)), "muscle")
        back.fill(ellipsoid(canvas, (-60, 44, side * (24 + psoas)), (75, psoas + 2, psoas)), "muscle")
        back.fill(ellipsoid(canvas, (-60, 68, side * 60), (60, 8, 18)), "muscle")
    height = np.abs((canvas.z + rng.uniform(0, 34)) % 34 - 17)  # from the middle of a vertebra, its disc beyond 13 mm
    arch = ellipsoid(canvas, (0, 71, 0), (ENDLESS_MM, 15, 17))
    spinous = ellipsoid(canvas, (0, 88, 0), (ENDLESS_MM, 16, 3.5))
    transverse = ellipsoid(canvas, (0, 66, 0), (ENDLESS_MM, 5, 42))
    processes = np.maximum(arch, np.minimum(np.maximum(spinous, transverse), 8 - height))
    body = ellipsoid(canvas, (0, 46, 0), (ENDLESS_MM, 17, 23))
    for bone in (processes, body):
        back.fill(bone, "cortex")
        back.fill(bone - 2, "marrow")
    back.fill(np.minimum(body, height - 13), "disc")
    back.fill(ellipsoid(canvas, (0, 71, 0), (ENDLESS_MM, 8.5, 11)), "cord")


def paint_gut(patient: Patient, rng: np.random.Generator) -> None:
    """Loops of small bowel, the colon around them and the duodenum: soft tissue, fluid, stool and gas, unlabelled."""
    middle = patient.around((-200, -78, -95), (30, 25, 95))
    canvas = middle.canvas
    room = np.maximum(ellipsoid(canvas, (-80, -28, 0), (75, 46, 88)), ellipsoid(canvas, (-20, -22, 62), (45, 40, 36)))
    loops = smooth_noise(rng, canvas.axes_mm, 15.0)
    bowel = np.minimum(13 * (np.abs(loops) - 0.3), room)
    middle.fill(np.minimum(room, 3 * (canvas.texture - 1.6)), "vein")
    middle.fill(bowel, "gut wall")
    middle.fill(bowel - 2.5, "gut content")
    middle.fill(np.minimum(bowel - 3, np.minimum(12 * (loops - 1.1), -canvas.y - 30)), "gas")

    right, left, front = rng.normal((-95, 104, -58), (3, 3, 4))
    ascending: Knots = [(-130, 12, right, 22), (-60, 8, right - 3, 21), (-28, 0, right + 6, 19)]
    descending: Knots = [(-130, 18, left, 15), (-20, 26, left + 4, 14), (22, 10, left - 2, 16)]
    sagging: Knots = [(-30, -10, right + 8, 20), (-48, front, -45, 17), (-55, front, 20, 17), (-10, -38, left - 14, 16)]
    for knots, along in ((ascending, 0), (descending, 0), ([*sagging, (20, 0, left, 15)], 2)):
        part, colon = patient.tube(knots, along)
        wall = colon + 1.2 * part.canvas.texture
        part.fill(wall, "gut wall")
        part.fill(wall - 3, "stool")
        part.fill(np.minimum(wall - 3.5, 5 * (part.canvas.texture - 0.5 - 0.05 * (part.canvas.y + 40))), "gas")
    for knots, along in DUODENUM:
        part, wall = patient.tube(knots, along)
        part.fill(wall, "gut wall")
        part.fill(wall - 3, "gut content")


def paint_liver(patient: Patient, rng: np.random.Generator) -> None:
    """Both lobes under the right dome with their veins, sometimes a cyst, and the gallbladder below."""
    right = patient.around((-75, -95, -145), (115, 90, 85))
    canvas = right.canvas
    lobes = np.maximum(
        ellipsoid(canvas, (25 + rng.normal(0, 5), -4, -75), (88 + rng.normal(0, 4), 84, 68)),
        ellipsoid(canvas, (44, -50, -5 + rng.normal(0, 8)), (34, 36, 70)),
    )
    hollow = ellipsoid(canvas, (-60, -18, 12), (66, 82, 72))
    bounds = np.minimum(cavity(canvas) - 2.5, below_diaphragm(canvas) - 2)
    behind = ellipsoid(canvas, (-25, 66, -56), (64, 54, 44))  # where the right kidney lies
    liver = np.minimum.reduce([lobes, -hollow, -behind, bounds])
    right.fill(liver, "liver")
    right.fill(np.minimum(liver + 2, ellipsoid(canvas, (22, -64, -10), (26, 20, 2.5))), "fat")  # the falciform ligament
    for knots in LIVER_VEINS:
        part, vein = patient.tube(knots, 2)
        part.fill(np.where(part.canvas.label > 0, vein, -9.0), "vein", "liver")
    for _ in range(rng.integers(0, 3)):
        cyst = ellipsoid(canvas, tuple(rng.uniform((0, -50, -110), (60, 40, -50))), (rng.uniform(4, 12),) * 3)
        right.fill(np.minimum(cyst, liver - 2), "gut content", "liver")
    place = (-18 + rng.normal(0, 4), -48 + rng.normal(0, 3), -44 + rng.normal(0, 4))
    bladder = ellipsoid(canvas, place, tuple(rng.uniform((20, 11, 11), (30, 17, 17))))
    right.fill(bladder + 1.5, "gut wall")
    right.fill(bladder, "gallbladder")


def paint_spleen(patient: Patient, rng: np.random.Generator) -> None:
    """The spleen under the left ribs, hollowed where the stomach lies."""
    part = patient.around((-25, -30, 50), (110, 95, 140))
    size = rng.uniform(0.9, 1.2)
    whole = ellipsoid(part.canvas, (40, 34, 96), (50 * size, 48 * size, 34 * size))
    hollow = ellipsoid(part.canvas, (48, -6, 58), (80, 50, 36))
    bounds = np.minimum(cavity(part.canvas) - 2.5, below_diaphragm(part.canvas) - 2)
    part.fill(np.minimum.reduce([whole, -hollow, bounds]), "spleen")


def paint_kidneys(patient: Patient, rng: np.random.Generator) -> None:
    """Both kidneys in their fat, upper poles towards the spine, cortex around medulla, sinus and vessels medially."""
    for organ, side, level in (("right kidney", -1, -22.0), ("left kidney", 1, -8.0)):
        part = patient.around((level - 75, 0, min(side * 10, side * 110)), (level + 75, 80, max(side * 10, side * 110)))
        canvas = part.canvas
        z = level + rng.normal(0, 5)
        x = side * (64 + rng.normal(0, 2) - 0.2 * (canvas.z - z))
        kidney = ellipsoid(canvas, (z, 40 + 0.1 * (canvas.z - z), x), tuple(rng.uniform((50, 23, 26), (60, 28, 31))))
        part.fill(kidney + 3, "fat")
        sinus = ellipsoid(canvas, (z, 34, x - side * 17), (24, 8, 17))
        kidney = np.minimum(kidney, -sinus)
        part.fill(kidney, organ)
        part.fill(np.minimum(kidney - 6, 4 * (canvas.texture + 0.2)), "medulla", organ)
        part.fill(np.minimum(sinus, 3.5 - np.abs(canvas.y - 33) + canvas.texture), "vein")


def paint_stomach(patient: Patient, rng: np.random.Generator) -> None:
    """Fundus, body and antrum with their wall, fluid, and gas above its level (the patient lies on the back)."""
    part = patient.around((-40, -85, -40), (105, 50, 105))
    canvas = part.canvas
    full = rng.uniform(0.85, 1.2)
    body = [(-10, -58, 36, 19 * full), (18, -50, 54, 24 * full), (42, -24, 62, 28 * full), (62, 4, 60, 30 * full)]
    antrum = [(-14, -52, -22, 10), (-18, -58, 0, 14 * full), (-10, -58, 36, 19 * full)]
    bounds = np.minimum(cavity(canvas), below_diaphragm(canvas)) - 3
    stomach = np.minimum(np.maximum(tube(canvas, body, 0), tube(canvas, antrum, 2)), bounds)
    part.fill(stomach + 3, "fat")
    part.fill(stomach, "gut wall", "stomach")
    lumen = stomach - 4 + 0.8 * canvas.texture
    part.fill(lumen, "stomach")
    part.fill(np.minimum(lumen - 0.5, rng.uniform(-85, -45) - canvas.y), "gas", "stomach")


def paint_pancreas(patient: Patient, rng: np.random.Generator) -> None:
    """The lobulated pancreas from the duodenum to the hilum of the spleen, and the splenic vein behind it."""
    high = rng.normal(0, 4)
    thick = rng.uniform(1.0, 1.3)
    knots = [
        (-20, -14, -26, 13 * thick),
        (-10 + high, -24, -8, 11 * thick),
        (2 + high, -32, 8, 8.5 * thick),
        (12 + high, -26, 30, 10 * thick),
        (22 + high, -6, 54, 10 * thick),
        (30 + high, 10, 74, 8 * thick),
    ]
    part = patient.around((-60, -55, -50), (55, 30, 95))
    canvas = part.canvas
    head = ellipsoid(canvas, (-30, -12, -22), (22 * thick, 13 * thick, 13 * thick))
    pancreas = np.maximum(tube(canvas, knots, 2), head) + 1.2 * canvas.texture
    part.fill(pancreas + 2, "fat")
    part.fill(pancreas, "pancreas")
    splenic = [(z - 1, y + 0.9 * r, x, 4) for z, y, x, r in knots[2:]]
    part.fill(tube(canvas, splenic, 2), "vein")


def paint_vessels(patient: Patient, rng: np.random.Generator) -> None:
    """The aorta in front of the spine, and as distractors of the same brightness its branches and the great veins."""
    wide = rng.uniform(0.85, 1.2)
    for knots in GREAT_VESSELS:
        part, vessel = patient.tube(knots, 0)
        part.fill(vessel, "vein")
    part, aorta = patient.tube([(z, y, x, wide * (9 + 0.02 * z)) for z, y, x in AORTA], 0)
    part.fill(aorta, "aorta")


def scan(image: Float[np.ndarray, "D H W"], rng: np.random.Generator) -> Float32[np.ndarray, "D H W"]:
    """The picture as a scanner gives it: point spread and noise with a grain, in whole HU."""
    from scipy.ndimage import gaussian_filter  # here, as SciPy takes long to import

    sharp = gaussian_filter(image, (0.3, 0.6, 0.6))
    grain = gaussian_filter(rng.standard_normal(image.shape), (0, 0.6, 0.6))  # of deviation 0.5
    return np.round(sharp + rng.uniform(9, 16) * 2.0 * grain).clip(-1024, 1500).astype(np.float32)
