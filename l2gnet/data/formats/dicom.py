"""DICOM series among files, by pydicom (extra `dicom`).

What belongs together is decided by what headers say, never by the names or the order of files: `dicom_alike.py` holds
what images of one scan share, `dicom_places.py` where they lie, `dicom_moments.py` which is the earlier. What is not
sure becomes a remark of the volumes, which those who use them pass on as a doubt; what is wrong is refused.

Some things nothing in the files can tell, and then a shorter scan is read without a word: slices are missing at an
end, the rest are numbered from 1 on without a gap, and no header says how many there were; the last moments of a cine
are, likewise, or any of them where numbers start anew in each; or of a cine whose moments differ in their time of day
alone, one image is left at each position, as if slices had been taken one after the other.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from l2gnet.data.beside import DICOM, UNFINISHED, what_it_is
from l2gnet.data.formats.dicom_file import ENHANCED, SCANS, is_dicom, read_header, told
from l2gnet.data.formats.dicom_series import Series
from l2gnet.errors import VolumeError, volume_error


@dataclass
class _Part:
    """What one folder, or one enhanced file, holds of a series."""

    uid: str
    series: Series
    images: set[str] = field(default_factory=set)  # their unique identifiers
    strange: list[str] = field(default_factory=list)  # files beside them which may be of the series

    def add(self, path: Path, image: str) -> None:
        """Take one more file in."""
        self.series = replace(self.series, files=(*self.series.files, path))
        self.images.add(image)


@dataclass(frozen=True)
class _About:
    """What a file says of itself: its SOP class, its series, its own identifier, and whether it is a picture at all."""

    kind: str
    uid: str
    number: int
    image: str
    is_picture: bool


def find_series(files: Iterable[Path]) -> list[Series]:
    """The series among files, by folder and number; what is no scan (reports, our own SEG) is left out.

    Each enhanced file is a scan of its own, also where several are of one series. A damaged file may belong to any
    other series of its folder, so that none of those can be read; so may one that is no DICOM and is named like them.

    Raises:
        VolumeError: pydicom is missing.
    """
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in files:
        folders[path.parent].append(path)
    parts = [part for folder, inside in folders.items() for part in _parts(folder, inside)]
    series = [_with_remarks(part, [other for other in parts if other.uid == part.uid]) for part in parts]
    return sorted(series, key=lambda one: (one.path, one.number))


def _parts(folder: Path, files: Sequence[Path]) -> list[_Part]:
    """The parts of series in one folder, by their unique identifiers."""
    dicom = {path: _about(path) for path in files if is_dicom(path)}
    classic: dict[str, _Part] = {}
    enhanced: list[_Part] = []
    for path, about in dicom.items():
        if about is None or about.kind not in SCANS:
            continue
        if about.kind in ENHANCED:
            enhanced.append(_Part(about.uid, Series(path, about.number, ())))
            enhanced[-1].add(path, about.image)
        else:
            classic.setdefault(about.uid, _Part(about.uid, Series(folder, about.number, ()))).add(path, about.image)
    names = {_pattern(path) for part in classic.values() for path in part.series.files}
    damaged = [path for path, about in dicom.items() if about is None]
    unknown = []
    for path in files if dicom else ():
        named = path.name.lower().endswith(DICOM) and not path.name.startswith(".")  # as by macOS, beside each file
        if path not in dicom and (_pattern(path) in names or named):
            damaged.append(path)
        elif path not in dicom and not what_it_is(path):
            unknown.append(path.name)
    if damaged and not classic:
        classic[""] = _Part("", Series(folder, 0, ()))
    for uid, part in classic.items():
        part.series = replace(part.series, files=(*part.series.files, *damaged))
        pictures = [path.name for path, about in dicom.items() if about and about.is_picture and about.uid == uid]
        part.strange = [*pictures, *unknown]
    return [*(classic[uid] for uid in sorted(classic)), *enhanced]


def _about(path: Path) -> _About | None:
    """What a DICOM file says of itself; None where it cannot be read."""
    _require_pydicom(path)
    try:
        header = read_header(path, ["SeriesInstanceUID", "SeriesNumber", "SOPInstanceUID", "Rows"])
        with told(path):
            kind, is_scan = str(header.SOPClassUID), header.SOPClassUID in SCANS
            uid = str(header.SeriesInstanceUID if is_scan else header.get("SeriesInstanceUID"))
            number = int(header.get("SeriesNumber") or 0) if is_scan else 0
            return _About(kind, uid, number, str(header.get("SOPInstanceUID")), not is_scan and "Rows" in header)
    except VolumeError:
        return None


def _pattern(path: Path) -> str:
    """A name with its digits as one, so that those of the files of one series are mostly the same."""
    name = path.name.removesuffix(path.suffix) if path.suffix.lower() in UNFINISHED else path.name
    return re.sub(r"[0-9]+", "#", name).lower()


def _with_remarks(part: _Part, parts: Sequence[_Part]) -> Series:
    remarks = []
    apart = [other.series.path.name for other in parts if part.uid and other.images != part.images]
    if apart:
        remarks.append(f"its series goes on in {', '.join(apart[:3])}, read as another scan: do they belong together?")
    if part.strange:
        names = ", ".join(part.strange[:3]) + ", ..." * (len(part.strange) > 3)
        remarks.append(f"beside it lies {names}, which is no image of a scan: is it one of its slices?")
    return replace(part.series, remarks=tuple(remarks))


def _require_pydicom(path: Path) -> None:
    try:
        import pydicom  # noqa: F401 (only to see whether it is here)
    except ImportError as error:
        rule = "DICOM needs the extra `dicom`"
        raise volume_error(path, rule, "no pydicom", "pip install 'l2gnet[dicom]'") from error
