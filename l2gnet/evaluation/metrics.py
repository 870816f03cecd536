"""Scores of a segmented volume, structure by structure in mm, and their honest summary over cases."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from l2gnet.data.regions import NO_REGIONS, Regions
from l2gnet.data.volume import IGNORED
from l2gnet.errors import ConfigError, VolumeError
from l2gnet.shapes import Bool, Float, Integer

Convention = Literal["strict", "transunet"]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class StructureScore:
    """How well one structure of one case was segmented; nan marks a number that is not defined for this case."""

    structure: str  # its name
    dice: float  # overlap: twice what both have over the sum of what each has; 1 is perfect, 0 none
    hd95_mm: float  # the larger of the two directed 95th percentiles of the distances between the surfaces
    assd_mm: float  # mean of the distances of both directions together
    nsd: float  # share of these distances that is at most the tolerance, 2 mm
    false_negative_rate: float  # share of the true voxels that were missed
    missed: bool  # in the truth, not in the prediction
    false_positive: bool  # in the prediction, not in the truth
    truth_ml: float  # volume in the truth
    predicted_ml: float  # volume in the prediction
    hd95_voxels: float = math.nan  # stands in for all in mm where the voxel size is unknown or the convention says so


_NUMBERS = ("dice", "hd95_mm", "hd95_voxels", "assd_mm", "nsd", "false_negative_rate", "truth_ml", "predicted_ml")


def score_case(
    prediction: Integer[np.ndarray, "D H W"],
    truth: Integer[np.ndarray, "D H W"],
    classes: Sequence[str],
    spacing_mm: tuple[float, float, float] | None,
    *,
    nsd_tolerance_mm: float = 2.0,
    convention: Convention = "strict",
    regions: Regions = NO_REGIONS,
    found: Sequence[Sequence[int]] = (),
) -> list[StructureScore]:
    """Score every structure of a case, in the order of `classes`, whose first entry is the background.

    `regions` say of which labels the structures are made, where each is not one; a pixel with any of them is of the
    structure. `found` gives the labels of each in the prediction, where they are others than in the truth.

    Distances run between surface voxels, those with a face neighbour outside the structure (beyond the image is
    outside; of a volume of one slice those on its outlines). HD95 is the larger of the two directed 95th percentiles;
    ASSD averages both directions' distances together; NSD is the share of them within the tolerance. These are the
    definitions of MONAI (`compute_hausdorff_distance`, `compute_average_surface_distance(symmetric=True)`,
    `compute_surface_dice`).
    A structure missed, or predicted where there is none, has Dice 0, NSD 0 and infinite distances; in neither
    volume, all four are nan. The false-negative rate is nan when the truth has no such structure.

    `convention="transunet"` gives the Dice and HD95 of `calculate_metric_percase` in the code of Chen et al. 2021,
    arXiv 2102.04306: HD95 is MedPy's, the 95th percentile of both directions pooled, in voxels (`hd95_voxels`); a
    missed structure has Dice 0 and HD95 0, a false one Dice 1 and HD95 0, one in neither volume Dice 0 and HD95 0.
    That code knows no distance in mm: HD95 and ASSD in mm and NSD are nan.

    Where the truth is IGNORED, whatever was predicted counts as background, as if nothing were there.

    `spacing_mm` follows the array axes D, H, W; None says that it is unknown. Then HD95 is in voxels too, with the
    edge cases of the convention, and everything in mm or ml is nan. Raises `VolumeError` for volumes that differ in
    shape, hold anything but labels of `classes` or have no valid spacing, `ConfigError` for a wrong setting.
    """
    _check_settings(classes, nsd_tolerance_mm, convention)
    label_count = len(regions.label_names(classes))
    if prediction.shape == truth.shape and (ignored := truth == IGNORED).any() and label_count <= IGNORED:
        prediction, truth = (np.where(ignored, 0, labels) for labels in (prediction, truth))
    _check_volumes(prediction, truth, IGNORED if found else label_count, label_count, spacing_mm)
    labels = regions.labels_of(len(classes))
    voxel_ml = math.nan if spacing_mm is None else math.prod(spacing_mm) / 1000
    step = None if convention == "transunet" else spacing_mm
    flat = len(truth) == 1 and convention == "strict"
    predicted_boxes = _boxes(prediction, found or labels)
    truth_boxes = _boxes(truth, labels)

    scores = []
    for structure, own, true, predicted_box, truth_box in zip(
        classes[1:], found or labels, labels, predicted_boxes, truth_boxes, strict=True
    ):
        predicted_mask = np.isin(prediction[predicted_box], own)
        truth_mask = np.isin(truth[truth_box], true)
        predicted_voxels = int(np.count_nonzero(predicted_mask))
        true_voxels = int(np.count_nonzero(truth_mask))
        hits = int(np.count_nonzero(truth_mask & np.isin(prediction[truth_box], own)))
        missed = true_voxels > 0 and predicted_voxels == 0
        false_positive = true_voxels == 0 and predicted_voxels > 0

        if true_voxels and predicted_voxels:
            dice = 2 * hits / (predicted_voxels + true_voxels)
            predicted_surface = _surface_points(predicted_mask, predicted_box, step or (1.0, 1.0, 1.0), flat)
            true_surface = _surface_points(truth_mask, truth_box, step or (1.0, 1.0, 1.0), flat)
            hd95, assd, nsd = _surface_scores(predicted_surface, true_surface, nsd_tolerance_mm, convention)
        else:
            wrong = missed or false_positive
            dice, hd95, assd, nsd = (0.0, math.inf, math.inf, 0.0) if wrong else (math.nan,) * 4
            if convention == "transunet":
                dice, hd95 = float(false_positive), 0.0

        scores.append(
            StructureScore(
                structure=structure,
                dice=dice,
                hd95_mm=hd95 if step else math.nan,
                assd_mm=assd if step else math.nan,
                nsd=nsd if step else math.nan,
                false_negative_rate=1 - hits / true_voxels if true_voxels else math.nan,
                missed=missed,
                false_positive=false_positive,
                truth_ml=true_voxels * voxel_ml,
                predicted_ml=predicted_voxels * voxel_ml,
                hd95_voxels=math.nan if step else hd95,
            )
        )
    return scores


def summarise(scores: Mapping[str, Sequence[StructureScore]]) -> dict[str, Any]:
    """Summarise the scores of many cases, keyed by case name, as a dict that strict JSON can hold.

    `structures` has one entry for each structure and `overall` pools every structure of every case. Each number
    (`dice`, `hd95_mm`, ...) has its `mean`, population `std`, `median`, `count` and `infinite`. Cases where it is nan
    are not counted. The mean and std are those of the finite cases, so read them beside `infinite`, how many of
    `count` are not; the median is over all that count. None stands where nothing counted, or where infinity did.
    `missed`, `false_positive` and `absent` (in neither volume) count structures. Raises `ConfigError` for no cases.
    """
    if not scores:
        raise ConfigError("summarise needs the scores of at least one case, got none; score a case first")
    by_structure: dict[str, list[StructureScore]] = {}
    for case in scores.values():
        for score in case:
            by_structure.setdefault(score.structure, []).append(score)
    return {
        "cases": len(scores),
        "structures": {structure: _summary(group) for structure, group in by_structure.items()},
        "overall": _summary([score for group in by_structure.values() for score in group]),
    }


def _summary(scores: Sequence[StructureScore]) -> dict[str, Any]:
    summary: dict[str, Any] = {name: _statistics([getattr(score, name) for score in scores]) for name in _NUMBERS}
    summary["missed"] = sum(score.missed for score in scores)
    summary["false_positive"] = sum(score.false_positive for score in scores)
    summary["absent"] = sum(math.isnan(score.false_negative_rate) and not score.false_positive for score in scores)
    return summary


def _statistics(values: Sequence[float]) -> dict[str, float | int | None]:
    counted = np.array([value for value in values if not math.isnan(value)])
    finite = counted[np.isfinite(counted)]
    median = float(np.median(counted)) if counted.size else math.nan
    return {
        "mean": float(finite.mean()) if finite.size else None,
        "std": float(finite.std()) if finite.size else None,
        "median": median if math.isfinite(median) else None,
        "count": counted.size,
        "infinite": counted.size - finite.size,
    }


def _boxes(labels: Integer[np.ndarray, "D H W"], structures: Sequence[Sequence[int]]) -> list[Box]:
    """The bounding box of each structure, an empty one where it is absent."""
    from scipy import ndimage  # here and below, as SciPy takes long to import

    most = max((number for numbers in structures for number in numbers), default=0)
    boxes = [None, *ndimage.find_objects(labels, max_label=most)]
    return [_around([box for number in numbers if (box := boxes[number])]) for numbers in structures]


def _around(boxes: Sequence[Box]) -> Box:
    """The smallest box that holds all of these."""
    d, h, w = (
        slice(min((side.start for side in sides), default=0), max((side.stop for side in sides), default=0))
        for sides in ([box[axis] for box in boxes] for axis in range(3))
    )
    return d, h, w


def _surface_points(
    mask: Bool[np.ndarray, "d h w"], box: Box, step: tuple[float, float, float], flat: bool
) -> Float[np.ndarray, "surface 3"]:
    """Coordinates of the surface voxels of a structure cut out of its volume at `box`; its outline where it is flat."""
    from scipy import ndimage

    faces = ndimage.generate_binary_structure(2, 1)[np.newaxis] if flat else None  # None: all six
    surface = mask & ~ndimage.binary_erosion(mask, faces)  # beyond the crop is outside the structure anyway
    return (np.argwhere(surface) + [side.start for side in box]) * step


def _surface_scores(
    predicted_surface: Float[np.ndarray, "predicted 3"],
    true_surface: Float[np.ndarray, "true 3"],
    tolerance: float,
    convention: Convention,
) -> tuple[float, float, float]:
    """HD95, ASSD and NSD of two surfaces, in the unit of their coordinates."""
    from scipy.spatial import cKDTree

    to_truth = cKDTree(true_surface).query(predicted_surface)[0]
    to_prediction = cKDTree(predicted_surface).query(true_surface)[0]
    both = np.concatenate([to_truth, to_prediction])
    if convention == "transunet":
        hd95 = np.percentile(both, 95)
    else:
        hd95 = max(np.percentile(to_truth, 95), np.percentile(to_prediction, 95))
    # Float32, as in MONAI: a distance equal to the tolerance must not fail by the last bit of a float64.
    within = both.astype(np.float32) <= np.float32(tolerance)
    return float(hd95), float(both.mean()), float(within.mean())


def _check_settings(classes: Sequence[str], nsd_tolerance_mm: float, convention: str) -> None:
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ConfigError(
            f"classes must be distinct names, the background and at least one structure, got {list(classes)}; "
            "name each label of the volumes once"
        )
    if not (math.isfinite(nsd_tolerance_mm) and nsd_tolerance_mm >= 0):
        raise ConfigError(f"nsd_tolerance_mm must be finite and not negative, got {nsd_tolerance_mm}; 2.0 is usual")
    if convention not in get_args(Convention):
        raise ConfigError(f"convention must be one of {list(get_args(Convention))}, got {convention!r}; choose one")


def _check_volumes(
    prediction: np.ndarray,
    truth: np.ndarray,
    predicted_count: int,
    true_count: int,
    spacing_mm: tuple[float, float, float] | None,
) -> None:
    if prediction.shape != truth.shape or truth.ndim != 3 or truth.size == 0:
        raise VolumeError(
            f"prediction and truth must share one shape (D, H, W), got {prediction.shape} and {truth.shape}; "
            "bring the prediction back to the grid of the truth"
        )
    for name, labels, count in (("prediction", prediction, predicted_count), ("truth", truth, true_count)):
        if not np.issubdtype(labels.dtype, np.integer):
            raise VolumeError(f"{name} must hold integer labels, got {labels.dtype}; round and cast it first")
        lowest, highest = int(labels.min()), int(labels.max())
        if lowest < 0 or highest >= count:
            raise VolumeError(
                f"{name} must hold labels 0 to {count - 1}, those of its classes, got {lowest} to {highest}; "
                "map its labels to the classes or name the missing classes"
            )
    if spacing_mm is not None and (
        len(spacing_mm) != 3 or not all(math.isfinite(side) and side > 0 for side in spacing_mm)
    ):
        raise VolumeError(
            f"spacing_mm must be three finite, positive sizes in mm, got {spacing_mm}; read it from the image header"
        )
