"""Which of several images at one position is the earlier: what headers say of time, and when they do not say it.

The order never comes from file names. Where no time tells, the numbers of the images do (InstanceNumber), and the
result is doubted; where they do not either, the series is refused.
"""

import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np

from l2gnet.data.formats.dicom_alike import require_alike_at_a_place, said_of_copies
from l2gnet.data.formats.dicom_file import Dataset, Image
from l2gnet.errors import volume_error
from l2gnet.shapes import Float

_COUNTS = ("TemporalPositionIdentifier", "TemporalPositionIndex")  # the same for all images of a moment
_IN_THE_BEAT = ("TriggerTime", "NominalCardiacTriggerDelayTime", "NominalPercentageOfCardiacPhase")
_NUMBERS = (*_COUNTS, "TemporalPositionTimeOffset", *_IN_THE_BEAT, "FrameReferenceTime")
_STEP = {"TemporalPositionTimeOffset": 1e-3, "acquisition time": 1e-3, "content time": 1e-3}  # s; what is less is noise
_LEAST_STEP = 0.1  # of the others: ms, percent or a count
_ACQUISITION = ("FrameAcquisitionDateTime", "AcquisitionDateTime", "FrameReferenceDateTime")
_DECLARED = {  # how many there were, by headers
    "moments": ("NumberOfTemporalPositions", "CardiacNumberOfImages"),
    "slices": ("NumberOfSlices",),
    "images": ("ImagesInAcquisition",),
}
_UNEVEN = 1.7  # times the usual step: then a moment may be missing
_ONE_MOMENT_MS = 100.0  # of the beat, that the slices of a volume may be apart without a word


def without_copies(places: Sequence[Sequence[Image]]) -> tuple[list[list[Image]], list[str]]:
    """The images at each position, each once: the same pixels at the same time are one image under two identifiers.

    But for images of one grey value, which may be alike in every moment, where there is one for each.
    """
    once = [_once(place) for place in places]
    moments = max(map(len, once))
    kept, again = [], []
    for place, images in zip(places, once, strict=True):
        blank = len(images) < moments == len(place) and not any(np.ptp(image.pixels) for image in place)
        kept.append(list(place) if blank else images)
        again += [image for image in place if image not in kept[-1]]
    return kept, [said_of_copies(again)] if again else []


def _once(place: Sequence[Image]) -> list[Image]:
    first = {(image.picture, _times(image)): image for image in reversed(place)}
    return [image for image in place if first[image.picture, _times(image)] is image]


def in_time(path: Path, number: int, places: Sequence[Sequence[Image]]) -> tuple[list[list[Image]], list[str]]:
    """The images of each moment, in time, each along the normal; and what is to be said of their order.

    Raises VolumeError where positions have different numbers of images, or nothing says which is the earlier.
    """
    counts = sorted({len(place) for place in places})
    if len(counts) > 1:
        rule = f"series {number} must have as many images at one position as at any other"
        raise volume_error(path, rule, counts, "copy the missing files, and each file once")
    for place in places:
        require_alike_at_a_place(path, number, place)
    if counts == [1]:
        moment = [image for (image,) in places]
        return [moment], _said_of_one_moment(moment)
    clocks = {name: times for name in _clock_names() if (times := _clock(name, places)) is not None}
    if not clocks:
        rule = f"something in series {number} must say which of {counts[0]} images at one position is the earlier"
        value = "no TriggerTime, acquisition or content time that differs, and no InstanceNumber either"
        raise volume_error(path, rule, value, "export it again with its times, or convert it to NIfTI")
    name, times = next(iter(clocks.items()))
    order = times.argsort(axis=1)
    moments = [[place[row[t]] for place, row in zip(places, order, strict=True)] for t in range(counts[0])]
    if name in _COUNTS and any(len(_counts(moment, name)) > 1 for moment in moments):
        rule = f"the images of one moment of series {number} must have one {name}"
        raise volume_error(path, rule, "several", "copy the missing files")
    return moments, [*_said_of_clocks(name, clocks), *_said_of_steps(name, np.sort(times, axis=1))]


def without_repeats(moments: Sequence[list[Image]]) -> tuple[list[list[Image]], list[str]]:
    """The moments, but for those that are another to the last bit: no scanner measures the same noise twice."""
    first = {tuple(image.picture for image in moment): moment for moment in reversed(moments)}
    once = [first[tuple(image.picture for image in moment)] is moment for moment in moments]
    kept = [moment for moment, is_first in zip(moments, once, strict=True) if is_first]
    again = [image for moment, is_first in zip(moments, once, strict=True) if not is_first for image in moment]
    return kept, [said_of_copies(again)] if again else []


def said_of_counts(moments: Sequence[list[Image]]) -> list[str]:
    """The remarks about images of which headers speak, and which are not here."""
    remarks = []
    here = {"moments": len(moments), "slices": len(moments[0]), "images": len(moments) * len(moments[0])}
    for what, names in _DECLARED.items():
        said = [int(float(image.header.get(name) or 0)) for moment in moments for image in moment for name in names]
        if max(said) > here[what]:
            remarks.append(f"its headers speak of {max(said)} {what}, of which {here[what]} are here")
    return remarks


def said_of_numbers(images: Sequence[Image]) -> list[str]:
    """The remark about numbers that no image has, as where files are missing; enhanced files number their frames."""
    found = {int(value) for image in images if (value := image.header.get("InstanceNumber")) is not None}
    if not found or images[0].frame is not None:
        return []
    missing = sorted({*range(min(found), max(found))} - found) if max(found) - min(found) < 10**6 else []
    if missing:
        numbers = ", ".join(map(str, missing[:5])) + ", ..." * (len(missing) > 5)
        return [f"no image of it has number {numbers} of {min(found)} to {max(found)}: are files missing?"]
    if min(found) > 1:
        return [f"its images are numbered from {min(found)} on: are the first ones missing?"]
    return []


def _clock_names() -> tuple[str, ...]:
    """What may tell the order of two images, the most trusted first."""
    return (*_NUMBERS, "acquisition time", "content time", "InstanceNumber")


def _value(image: Image, name: str) -> float | None:
    """What one clock says of an image, in its own unit; None where it is silent."""
    header = image.header
    if name == "acquisition time":
        whole = next((str(header[each].value) for each in _ACQUISITION if header.get(each)), None)
        return _seconds(whole[:8], whole[8:]) if whole else _of_day(header, "Acquisition")
    if name == "content time":
        return _of_day(header, "Content")
    value = header.get(name)
    return None if value in (None, "") else float(value)


def _of_day(header: Dataset, what: str) -> float | None:
    day, time = str(header.get(f"{what}Date") or ""), str(header.get(f"{what}Time") or "")
    return _seconds(day, time) if time else None


def _seconds(day: str, time: str) -> float | None:
    """A date (YYYYMMDD, or nothing) and a time (HHMMSS.FFFFFF, or less of it) in seconds."""
    matched = re.match(r"(\d\d):?(\d\d)?:?(\d\d(?:\.\d+)?)?", time)
    try:
        days = date(int(day[:4]), int(day[4:6]), int(day[6:8])).toordinal() if day else 0
    except ValueError:
        return None
    if matched is None:
        return None
    hours, minutes, seconds = (float(part or 0) for part in matched.groups())
    return 86400.0 * days + 3600 * hours + 60 * minutes + seconds


def _times(image: Image) -> tuple[float | None, ...]:
    return tuple(_value(image, name) for name in _clock_names() if name != "InstanceNumber")


def _clock(name: str, places: Sequence[Sequence[Image]]) -> Float[np.ndarray, "D T"] | None:
    """What a clock says of all images; None unless it tells those at each position apart."""
    values = [[_value(image, name) for image in place] for place in places]
    if any(value is None for row in values for value in row):
        return None
    times = np.array(values, dtype=float)
    if not np.isfinite(times).all() or np.diff(np.sort(times, axis=1)).min() < _STEP.get(name, _LEAST_STEP):
        return None
    across_midnight = name in ("acquisition time", "content time") and times.max() < 86400 and np.ptp(times) > 43200
    return None if across_midnight else times  # without a date, nobody knows which day was the first


def _said_of_clocks(name: str, clocks: dict[str, Float[np.ndarray, "D T"]]) -> list[str]:
    """The remark where the order is not sure: it comes from numbers alone, or another clock has another one."""
    if name == "InstanceNumber":
        return ["its frames are ordered by the numbers of its images alone (InstanceNumber): is the order right?"]
    trusted = {"content time": ("InstanceNumber",)}.get(name, (*_NUMBERS, "acquisition time"))
    order = clocks[name].argsort(axis=1)
    others = [other for other in trusted if other in clocks and (clocks[other].argsort(axis=1) != order).any()]
    return [f"its frames are ordered by {name}, but {other} has another order" for other in others]


def _said_of_steps(name: str, times: Float[np.ndarray, "D T"]) -> list[str]:
    """The remark where moments at one position are not those at the others, or one is missing."""
    steps = np.diff(times, axis=1)
    usual, of_place, of_moment = np.median(steps), np.median(steps, axis=1, keepdims=True), np.median(steps, axis=0)
    places = np.unique(times, return_counts=True)[1]
    apart = np.ptp(times, axis=0).max() > usual / 10  # else all slices of a moment are of one time
    uneven = apart and ((steps > _UNEVEN * of_moment) | (steps < of_moment / _UNEVEN)).any()
    if name in _COUNTS:  # one after the other
        uneven = (steps != 1).any()
    elif name in _IN_THE_BEAT:  # even from the first on, at every position
        uneven = uneven or (steps > _UNEVEN * of_place).any() or np.ptp(times[:, 0]) > usual / 2
    elif name.endswith("time"):  # by the clock on the wall: shared by all slices, or by none
        uneven = uneven or bool((places > 1).any() and (places < len(times)).any())
    if not uneven:
        return []
    return [f"its {times.shape[1]} frames may be mixed: by {name}, a moment is missing at some of its slices or at all"]


def _said_of_one_moment(moment: Sequence[Image]) -> list[str]:
    counts = next((found for name in _COUNTS if len(found := _counts(moment, name)) > 1), [])
    times = [value for image in moment if (value := _value(image, "TriggerTime")) is not None]
    apart_ms = max(times, default=0) - min(times, default=0)
    if counts:
        return [f"its slices are of different moments, by their headers ({', '.join(counts[:5])})"]
    if apart_ms > _ONE_MOMENT_MS:
        return [f"its slices show moments of the heart beat that lie up to {apart_ms:.0f} ms apart"]
    return []


def _counts(moment: Sequence[Image], name: str) -> list[str]:
    return sorted({str(image.header.get(name)) for image in moment})
