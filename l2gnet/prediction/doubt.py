"""What a model takes for normal, and what in a new scan is not: the numbers behind a warning.

A codebook gives two measures of how well a scan is known, without any density model beside the network: how far its
features lie from their codes, and how unusual the codes are that it uses. Their limits, and that of the model's own
confidence, are what none of the volumes crosses that training held out, nor one in a hundred more like them. What
neither sees is that a picture is blurred: smooth pictures use usual codes, and the model is sure of them. Its grain
tells.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from l2gnet.data.beside import listed
from l2gnet.data.dataset import Case
from l2gnet.data.grid import Grid
from l2gnet.data.regions import NO_REGIONS, Regions
from l2gnet.data.resampling import cells_on_scan
from l2gnet.data.sides import wrong_sides
from l2gnet.data.volume import Volume
from l2gnet.models.backbone import SegmentationModel
from l2gnet.prediction.familiar import Familiar, Look, Range, code_surprise
from l2gnet.prediction.inference import Segmented, on_best_device, segment
from l2gnet.shapes import Bool, Int64

# What was measured of a frame stands behind these words; other numbers are in names, as of channels and structures.
_MEASURED = re.compile(r"\b(at|by|from|is|lies?|measure|to) -?[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?")
_SPACING_FACTOR = 1.5  # voxels may be so many times smaller or larger than any seen
_GRAIN_MARGIN = 0.25  # of the range of grain that was seen, which a scan may lie outside of it


@dataclass(frozen=True)
class Strangeness:
    """How a scan lies against what its models take for normal.

    `distance`, `surprise` and `unused` (the share of codes of its pixels that were not in use among the familiar
    volumes) are means over the models with a codebook, None without any. `reasons` says in words what is not normal.
    """

    distance: float | None
    surprise: float | None
    unused: float | None
    reasons: tuple[str, ...]


def look_at(scan: Volume, seen: Segmented, patient: str, model: SegmentationModel) -> Look:
    """A volume as its model has segmented it."""
    codes, distances = seen.codes[0], seen.distances[0]
    counts, distance = np.zeros(0, np.int64), 0.0
    if model.codebook is not None and codes is not None and distances is not None:
        counts, distance = _histogram(codes, len(model.codebook.vectors)), float(distances.mean())
    return Look(
        patient=patient,
        code_counts=counts,
        distance=distance,
        confidence=float(seen.confidence.mean()),
        grain=seen.grain,
        spacing_mm=scan.spacing_mm,
        darkest=grey_range(scan)[0],
        axes=scan.axes,
    )


def learn_familiar(
    model: SegmentationModel, cases: Sequence[Case], grid: Grid, regions: Regions = NO_REGIONS
) -> Familiar:
    """Segment the volumes that training held out, and note what is normal."""
    looks = []
    with on_best_device(model):
        for case in cases:
            scan, _ = case.load()
            looks.append(look_at(scan, segment([model], scan, grid, regions=regions), case.patient, model))
    return Familiar.of_looks(looks)


def find_strange(
    scan: Volume,
    seen: Segmented,
    known: Sequence[Familiar | None],
    classes: Sequence[str] = (),
    regions: Regions = NO_REGIONS,
    grid: Grid | None = None,
) -> Strangeness:
    """Set a scan, as each of the models has seen it, beside what that model takes for normal.

    What is measured of a model and its limit are means over them; a range is that of all volumes that any has held out.
    Where the `classes` of the labels are named, and `regions`, they tell whether left and right are as the scan's
    header says; and with the `grid` of the models, what reaches the edge of what they see.
    """
    familiars = [familiar for familiar in known if familiar is not None]
    measures = [
        (
            float(distances.mean()),
            code_surprise(_histogram(codes, len(familiar.code_counts)), np.array(familiar.code_counts)),
            float((np.array(familiar.code_counts)[codes] == 0).mean()),
            familiar.distance,
            familiar.surprise,
        )
        for codes, distances, familiar in zip(seen.codes, seen.distances, known, strict=True)
        if familiar is not None and codes is not None and distances is not None
    ]
    reasons = [*scan.remarks, *_odd(scan), *wrong_sides(seen.labels, classes, regions)]
    reasons += [] if grid is None else _cut_off(seen.labels, classes, regions, grid)
    if silent := len(known) - len(familiars):
        whose = "the model's card" if len(known) == 1 else f"the card of {silent} of the {len(known)} models"
        reasons.append(f"{whose} does not say what is normal")
    if familiars:
        sure = [own for own, familiar in zip(seen.alone, known, strict=True) if familiar is not None]
        reasons += _unlike(scan, seen.grain, float(np.mean(sure)), familiars)
    if not measures:
        return Strangeness(None, None, None, tuple(reasons))
    distance, surprise, unused, farthest, most = np.mean(measures, axis=0).tolist()
    if distance > farthest:
        found, limit = _told_apart(distance, farthest, digits=3)
        reasons.append(f"its features lie {found} from their codes, up to {limit} is normal")
    if surprise > most:
        found, limit = _told_apart(surprise, most, digits=2)
        reasons.append(f"its codes are unusual by {found} nats, up to {limit} is normal")
    return Strangeness(distance, surprise, unused, tuple(reasons))


def said_of_frames(reasons: Mapping[int, Sequence[str]]) -> list[str]:
    """The reasons to doubt the frames of a scan, by frame number: each once, with the numbers of its first frame."""
    found: dict[tuple[str, int], dict[int, str]] = {}
    for frame, of_frame in sorted(reasons.items()):
        alike: Counter[str] = Counter()
        for reason in of_frame:
            words = _MEASURED.sub(r"\1", reason)
            alike[words] += 1  # a frame may have two that differ by what was measured
            found.setdefault((words, alike[words]), {})[frame] = reason
    lines = []
    for (first, reason), *others in (list(frames.items()) for frames in found.values()):
        likewise = f", likewise in {listed([str(frame) for frame, _ in others])}" if others else ""
        lines.append(f"{reason} (in frame {first}{likewise})" if len(reasons) > 1 else reason)
    return lines


def flagged(doubts: Sequence[str]) -> str:
    """The end of a line about a result that is doubtful; empty where it is not."""
    return "; DOUBTFUL: " * bool(doubts) + ", ".join(doubts)


def grey_range(scan: Volume) -> Range:
    """The 0.5th and 99.5th percentile of the grey values, from about a hundred thousand voxels."""
    size, slice_size = scan.array.size, scan.array[0].size
    step = max(1, size // 100_000)
    while math.gcd(step, slice_size) > 1:  # else all might be of one column
        step += 1
    some = scan.array.ravel()[::step]
    low, high = np.percentile(some, (0.5, 99.5))
    return float(low), float(high)


def _odd(scan: Volume) -> list[str]:
    """What is strange about a scan for any model."""
    reasons = []
    if 1 in scan.shape:  # in any plane: it may have been turned into that of the model
        reasons.append("it is one slice: its volumes are those of the slice alone")
    for number, channel in enumerate(scan.channels):
        if channel.min() == channel.max():
            what = f"its channel {number}" if scan.more else "it"
            reasons.append(f"{what} is blank: all of its voxels have one grey value")
    return reasons


def _cut_off(labels: Volume, classes: Sequence[str], regions: Regions, grid: Grid) -> list[str]:
    """Which structures reach the edge of the square that a model sees, where the scan goes on beyond it."""
    looked = cells_on_scan(np.zeros((1, 1, 1), np.int64), grid, labels)[0] == 0
    if not looked.any():  # pixels so large that the middle of none is seen
        return []
    within = [_within(looked.any(axis)) for axis in (1, 0)]
    edge = looked.copy()
    edge[within[0], within[1]] = False
    there = np.unique(labels.array[:, edge]).tolist()
    structures = zip(classes[1:], regions.labels_of(len(classes)), strict=True)
    names = [name for name, numbers in structures if set(numbers) & set(there)]
    if not names:
        return []
    side_mm = grid.size_px * grid.spacing_mm
    return [f"{', '.join(names)}: cut off at the edge of the {side_mm:g} mm around the middle that the model sees"]


def _within(looked: Bool[np.ndarray, " size"]) -> slice:
    """Those of the rows that were looked at which are not the last two beside rows that were not."""
    first, last = np.flatnonzero(looked)[[0, -1]].tolist()
    return slice(first + 2 * (first > 0), last + 1 - 2 * (last < len(looked) - 1))


def _unlike(scan: Volume, grain: float, confidence: float, familiars: Sequence[Familiar]) -> list[str]:
    """What is strange about a scan without looking at its codes."""
    reasons = []
    smoothest, roughest = _of_all([familiar.grain for familiar in familiars])
    margin = _GRAIN_MARGIN * (roughest - smoothest)
    if grain < smoothest - margin:
        reasons.append(f"its grain is {grain:.2f}, {smoothest:.2f} at least held out: is it blurred, or coarse?")
    if grain > roughest + margin:
        reasons.append(f"its grain is {grain:.2f}, {roughest:.2f} at most held out: is it noisy?")
    least = float(np.mean([familiar.confidence for familiar in familiars]))
    if confidence < least:
        found, limit = _told_apart(confidence, least, digits=3)
        reasons.append(f"the model is sure by {found} only, from {limit} on is normal")
    usual = sorted({axes for familiar in familiars for axes in familiar.axes})
    if scan.axes not in usual:
        known = " or ".join(usual)
        reasons.append(f"its D, H and W run to {scan.axes}, to {known} held out: was it cut in another plane?")
    if scan.has_mm:
        spacings = map(_of_all, zip(*(familiar.spacing_mm for familiar in familiars), strict=True))
        for name, mm, (low, high) in zip(("D", "H", "W"), scan.spacing_mm, spacings, strict=True):
            if not low / _SPACING_FACTOR <= mm <= high * _SPACING_FACTOR:
                reasons.append(f"its voxels measure {mm:.3g} mm along {name}, {low:.3g} to {high:.3g} mm held out")
    low, high = grey_range(scan)
    darkest, lightest = _of_all([familiar.darkest for familiar in familiars])
    if not darkest - (high - low) / 4 <= low <= lightest + (high - low) / 4:
        begins = f"{darkest:.4g} to {lightest:.4g}"
        reasons.append(f"its grey values begin at {low:.4g}, at {begins} held out: is it another modality or unit?")
    return reasons


def _of_all(ranges: Sequence[Range]) -> Range:
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _told_apart(found: float, limit: float, digits: int) -> tuple[str, str]:
    """Two different numbers, with more digits where else they would read the same."""
    while f"{found:.{digits}f}" == f"{limit:.{digits}f}":
        digits += 1
    return f"{found:.{digits}f}", f"{limit:.{digits}f}"


def _histogram(codes: Int64[np.ndarray, "D h w"], size: int) -> Int64[np.ndarray, " K"]:
    return np.bincount(codes.ravel(), minlength=size)
