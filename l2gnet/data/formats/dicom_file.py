"""One DICOM file, by pydicom (extra `dicom`): what it is, and the images in it with their grey values.

A classic file holds one image. An enhanced one holds a frame for each slice and moment, which is unfolded into the
same: from there on both are one.
"""

import functools
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from l2gnet.data.formats.dicom_pixels import grey_values, stored_values
from l2gnet.errors import VolumeError, volume_error
from l2gnet.shapes import Float32

Dataset = Any  # of pydicom, which is imported by those who need it
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_CLASSIC = [_STORAGE + kind for kind in ("2", "4", "128")]  # SOP classes of CT, MR and PET with a file a slice
ENHANCED = {  # and those with one file for all, which may have been converted from the former
    _STORAGE + kind: classic
    for classic, kinds in zip(_CLASSIC, (("2.1", "2.2"), ("4.1", "4.4"), ("130", "128.1")), strict=True)
    for kind in kinds
}
SCANS = {*_CLASSIC, *ENHANCED}
_DICOM = "1.2.840.10008"  # whose own identifiers all begin so
_PIXELS = 0x7FE00008  # the first tag that may hold pixels
_DEFLATED = "1.2.840.10008.1.2.1.99"  # a transfer syntax


@dataclass(frozen=True, eq=False)
class Image:
    """One image with what its file says of it; `pixels` are rescaled as it says (HU for CT).

    `frame` is its number in an enhanced file, from 1 on; None in a file of its own.
    """

    path: Path
    header: Dataset
    pixels: Float32[np.ndarray, "H W"]
    frame: int | None = None

    @property
    def name(self) -> str:
        """Which image this is, for a message."""
        return self.path.name if self.frame is None else f"frame {self.frame}"

    @functools.cached_property
    def picture(self) -> bytes:
        """A digest of the pixels: two images with the same have the same pixels, to the last bit."""
        return hashlib.sha256(self.pixels.tobytes()).digest()


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do, or as those from before there was a file format: with group 2 or 8."""
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:
        return False
    little = start[:1] in (b"\x02", b"\x08") and start[1:2] == start[3:4] == b"\0"
    big = start[1:2] == b"\x08" and start[:1] == start[2:3] == b"\0"
    return start[128:] == b"DICM" or (len(start) == 132 and (little or big))


def read_header(path: Path, names: list[str]) -> Dataset:
    """What a file says of itself before its pixels: SOPClassUID, and of these attributes those that it has.

    Raises VolumeError where it cannot be read: where it is a scan that was cut before its pixels, or one that pydicom
    would inflate to whatever size.
    """
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.errors import InvalidDicomError
    from pydicom.filereader import read_file_meta_info, read_partial
    from pydicom.tag import Tag

    if not is_dicom(path):
        rule = "a file that has its place among those of a series must be a DICOM image"
        value = "an empty file" if path.is_file() and not path.stat().st_size else "another kind of file, or none"
        raise volume_error(path, rule, value, "copy it again, or take it out of the folder if it is none of them")
    with told(path):
        try:
            about = read_file_meta_info(path)
        except InvalidDicomError:  # without the preamble
            about = FileMetaDataset()
        kind, syntax = (about.get(name) for name in ("MediaStorageSOPClassUID", "TransferSyntaxUID"))
        if syntax == _DEFLATED:
            if kind in SCANS or kind is None:
                rule = "the images of a DICOM file may be compressed, not the file as a whole"
                raise volume_error(path, rule, "a deflated transfer syntax", "convert it, as with dcmconv +te")
            header = Dataset()  # what is no scan is not inflated
            header.SOPClassUID = kind
            return header
        pixels = []

        def at_pixels(tag: int, vr: str | None, length: int) -> bool:
            pixels.extend([tag] if tag >= _PIXELS else [])
            return bool(pixels)

        wanted: list[Any] = [Tag(name) for name in ("SOPClassUID", *names)]
        with path.open("rb") as file:
            header = read_partial(file, at_pixels, force=True, specific_tags=wanted)
        header.SOPClassUID = _kind(header.get("SOPClassUID"), kind)
        if header.SOPClassUID in SCANS and not pixels:
            raise ValueError("no pixels in it")
        return header


def _kind(said: str | None, said_before: str | None) -> str:
    """The SOP class of a file, by its data set and by what stands before that; where it was cut, they are not one."""
    from pydicom.uid import UID

    kind = UID(said or said_before or "")
    if said and said_before and said != said_before and {said, said_before} & SCANS:
        raise ValueError(f"two SOP classes, {said_before} and {said}")
    if kind.name == kind and (kind.startswith(_DICOM) or _DICOM.startswith(kind)):  # of DICOM, and of no kind
        raise ValueError(f"the SOP class {kind or 'of nothing'}: it does not say what it holds")
    return kind


def read_images(path: Path) -> list[Image]:
    """The image in a file, or those in an enhanced one; raises VolumeError where they cannot be read."""
    from pydicom import dcmread

    with told(path):
        kind = read_header(path, []).SOPClassUID
        whole = dcmread(path, force=True)
        _require_transfer_syntax(whole)
        if kind in ENHANCED:
            return _unfolded(path, whole)
        count = int(whole.get("NumberOfFrames") or 1)
        if count != 1:
            raise ValueError(f"{count} images in a file that can say the place of one")
        (stored,) = stored_values(path, whole, 1)
        pixels = grey_values(path, stored, whole)
        del whole.PixelData
        return [Image(path, whole, pixels)]


def _require_transfer_syntax(whole: Dataset) -> None:
    """Without a preamble nothing says how a file is encoded: pydicom has guessed it from the first elements."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    about = getattr(whole, "file_meta", None) or FileMetaDataset()
    if "TransferSyntaxUID" not in about:
        if whole["PixelData"].is_undefined_length:
            raise ValueError("compressed pixels, and nothing says how")
        implicit, little = whole.original_encoding
        plain = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        about.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else plain
        whole.file_meta = about


def _unfolded(path: Path, whole: Dataset) -> list[Image]:
    """The frames of an enhanced file as images of their own, with what the functional groups say of each."""
    from pydicom import Dataset

    if whole.get("ConcatenationUID"):
        raise ValueError("other frames are in other files, of one concatenation")
    stored = stored_values(path, whole, int(whole.get("NumberOfFrames") or 1))
    of_all, of_each = (whole.get(f"{name}FunctionalGroupsSequence") or [] for name in ("Shared", "PerFrame"))
    if len(of_all) != 1 or len(of_each) != len(stored):
        counts = f"{len(of_all)} for all and {len(of_each)} for each of {len(stored)} frames"
        raise ValueError(f"functional groups, which say where each frame lies: {counts}")
    kind = ENHANCED[whole.SOPClassUID]
    del whole.PixelData, whole.NumberOfFrames, whole.SharedFunctionalGroupsSequence
    del whole.PerFrameFunctionalGroupsSequence
    frames = []
    for number, (groups, plane) in enumerate(zip(of_each, stored, strict=True), start=1):
        own = Dataset()  # attributes that are set in `frame` itself would be set in all of them
        own.SOPClassUID, own.InstanceNumber = kind, number
        frame = Dataset()
        frame.update(whole)
        for group in (*of_all[0], *groups):
            if group.VR == "SQ" and group.value and not group.is_private:
                frame.update(group.value[0])
        frame.update(own)
        frames.append(Image(path, frame, grey_values(path, plane, frame), number))
    return frames


@contextmanager
def told(path: Path) -> Iterator[None]:
    """A stranger's file can be wrong in as many ways as pydicom and its decoders know: each becomes a VolumeError."""
    try:
        yield
    except VolumeError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        rule = "DICOM images must be readable and make a volume"
        raise volume_error(path, rule, reason, "export it again") from error
