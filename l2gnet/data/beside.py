"""What lies beside scans and is none: one rule for `predict`, `data check` and training.

What a file is, its content says where it can, else its name. Nothing is passed over that may belong to a scan: a file
that is named as scans are is one, whatever is in it, and is refused by those who read it.
"""

import codecs
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from l2gnet.data.formats.dicom_file import SCANS, is_dicom, read_header
from l2gnet.data.names import NIFTI
from l2gnet.errors import VolumeError

DICOM = (".dcm", ".ima", ".dicom")
_OTHER_SCANS = (".hdr", ".img", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh", ".mnc", ".gipl", ".par", ".rec")
UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".tmp")
_STARTS = {  # the first bytes of files, and what such a file is
    b"\x00\x05\x16\x07": "a resource fork of macOS",
    b"\x00\x00\x00\x01Bud1": "a folder view of macOS",
    b"\xd0\xcf\x11\xe0": "thumbnails, or a document",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"II*\x00": "a picture",
    b"MM\x00*": "a picture",
    b"%PDF": "a report as PDF",
    b"PK\x03\x04": "an archive, into which nobody looked",
    b"7z\xbc\xaf": "an archive, into which nobody looked",
    b"Rar!": "an archive, into which nobody looked",
    b"\x1f\x8b": "an archive, into which nobody looked",
    b"MZ": "a program",
}
_DICOMDIR = "1.2.840.10008.1.3.10"


def is_nifti(path: Path) -> bool:
    """Whether a file is a scan or a label map by its name, and neither DICOM nor a resource fork by its content."""
    return path.name.lower().endswith(NIFTI) and not is_dicom(path) and not what_it_is(path)


def what_it_is(path: Path) -> str:
    """What a file is that holds no scan, in words; empty where it is a scan, or may belong to one."""
    if is_dicom(path):
        return _kind_of_dicom(path)
    name = path.name.lower()
    if name.startswith("."):
        return "a resource fork of macOS" if name.startswith("._") else "a hidden file"
    if name.endswith(NIFTI + DICOM):
        return ""
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError:
        return ""
    if name.endswith(UNFINISHED):
        return "an unfinished download"
    if name.removesuffix(".gz").endswith(_OTHER_SCANS):
        return "of a format of scans that is not read here: convert it to NIfTI"
    known = next((what for magic, what in _STARTS.items() if start.startswith(magic)), "")
    return known or ("a text" if start and _is_text(start) else "")


def passed_over(files: Iterable[Path]) -> list[str]:
    """What to say of files that no scan uses: a line for each kind of them, and why they were passed over."""
    names: dict[str, list[str]] = defaultdict(list)
    for path in sorted(files):
        empty = path.is_file() and path.stat().st_size == 0
        names[what_it_is(path) or ("an empty file" if empty else "a file of no known kind")].append(path.name)
    return [f"passed over: {listed(found)} ({what})" for what, found in sorted(names.items())]


def aside(line: str) -> None:
    """Say it where it is read and disturbs no result."""
    print(line, file=sys.stderr, flush=True)


def listed(names: Sequence[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _kind_of_dicom(path: Path) -> str:
    try:
        from pydicom.uid import UID
    except ImportError:
        return "DICOM, which needs the extra `dicom`"
    try:
        kind = str(read_header(path, []).SOPClassUID)
    except VolumeError:
        return ""
    if kind in SCANS:
        return ""
    return "a directory of DICOM files" if kind == _DICOMDIR else f"DICOM, but no scan: {UID(kind).name}"


def _is_text(start: bytes) -> bool:
    """Whether the first bytes of a file are characters; the last one of them may be cut."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\t\n\r\f\ufeff" for character in text)
