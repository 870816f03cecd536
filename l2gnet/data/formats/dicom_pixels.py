"""What the pixels of a DICOM image mean: stored values, to which the rescale applies, and nothing else.

Byte order, sign and unused bits are pydicom's work. How an image is to be shown (MONOCHROME1, a presentation look-up
table, a window) changes no value. What holds no grey value a pixel and slice is refused: colour, also where its three
channels are equal, since such images were made for the eye and have lost their scale; palettes; mosaics.
"""

from pathlib import Path
from typing import Any

import numpy as np

from l2gnet.data.formats.nifti_voxels import MAX_BYTES
from l2gnet.errors import volume_error
from l2gnet.shapes import Float32, Num

Dataset = Any  # of pydicom, which is imported by those who need it
_GREY = ("MONOCHROME1", "MONOCHROME2")
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_TILES = {"SIEMENS": (0x0019, 0x100A), "UIH": (0x0065, 0x1050)}  # where makers say how many slices a mosaic holds


def stored_values(path: Path, image: Dataset, count: int) -> Num[np.ndarray, "T H W"]:
    """The stored values of each of `count` frames; raises VolumeError for what is no scan of grey values."""
    _require_grey(path, image)
    _require_no_mosaic(path, image, count)
    size = count * int(image.Rows) * int(image.Columns) * 4
    if size > MAX_BYTES:
        raise ValueError(f"{size} bytes, and at most {MAX_BYTES} can be read")
    if image.file_meta.TransferSyntaxUID in _JPEG_LS:
        _require_one_size(image, count)
    return _decoded(path, image).reshape(count, image.Rows, image.Columns)


def grey_values(path: Path, stored: Num[np.ndarray, "H W"], image: Dataset) -> Float32[np.ndarray, "H W"]:
    """Stored values in the unit of the scan, by the modality look-up table or the rescale of their image.

    Raises VolumeError where only one of slope and intercept is known, the slope is 0, or a value is not finite.
    """
    from pydicom.pixels import apply_modality_lut

    slope, intercept = image.get("RescaleSlope"), image.get("RescaleIntercept")
    if (slope is None) != (intercept is None):
        rule = "RescaleSlope and RescaleIntercept must both be there, or neither"
        raise volume_error(path, rule, f"{slope} and {intercept}", "export it again")
    if slope is None:  # as where the elements are there and empty
        values = apply_modality_lut(stored, image) if image.get("ModalityLUTSequence") else stored
    elif slope == 0:
        rule = "RescaleSlope must not be 0, since some readers then give one value and others those that are stored"
        raise volume_error(path, rule, f"{slope} and {intercept}", "export it again")
    else:
        values = apply_modality_lut(stored, image)
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.array(values, np.float32, order="C")
    if not np.isfinite(values).all():
        raise volume_error(path, "every voxel must be finite", f"{slope} and {intercept} to rescale", "export it again")
    return values


def _decoded(path: Path, image: Dataset) -> Num[np.ndarray, "..."]:
    try:
        return image.pixel_array
    except (NotImplementedError, RuntimeError) as error:
        if image.file_meta.TransferSyntaxUID.is_encapsulated:
            rule = "the compression of an image must be known here"
            value = f"{image.file_meta.TransferSyntaxUID.name}: {str(error).partition(chr(10))[0]}"
            raise volume_error(path, rule, value, "decompress it, as with gdcmconv --raw or dcmdjpeg") from error
        raise


def _require_grey(path: Path, image: Dataset) -> None:
    samples, colour = int(image.get("SamplesPerPixel", 1)), str(image.get("PhotometricInterpretation", _GREY[1]))
    if samples != 1 or colour not in _GREY:
        rule = "a scan must have one grey value a pixel"
        remedy = "leave this series out, or export the one that it was made of"
        raise volume_error(path, rule, f"{samples} sample{'s' * (samples > 1)} a pixel, {colour}", remedy)
    if "HighBit" in image and "BitsStored" in image and image.HighBit != image.BitsStored - 1:
        rule = "the highest bit must be the last of those stored, since readers disagree otherwise"
        value = f"HighBit {image.HighBit} with BitsStored {image.BitsStored}"
        raise volume_error(path, rule, value, "export it again")


def _require_no_mosaic(path: Path, image: Dataset, count: int) -> None:
    """Refuse images that say to hold several slices, as tiles; enhanced files of Siemens' say so of former mosaics."""
    maker = str(image.get("Manufacturer", "")).upper()
    tag = next((tag for start, tag in _TILES.items() if maker.startswith(start)), None)
    tiles = image[tag].value if tag and tag in image else 1
    tiles = int.from_bytes(tiles[:2], "little") if isinstance(tiles, bytes) else float(tiles or 1)
    if count == 1 and ("MOSAIC" in (image.get("ImageType") or ()) or tiles > 1):
        rule = "each slice must be an image of its own"
        raise volume_error(path, rule, "a mosaic: all slices in one picture", "convert it to NIfTI, as with dcm2niix")


def _require_one_size(image: Dataset, count: int) -> None:
    """Refuse JPEG-LS of another size than the image's: the decoder would fill as much memory as the former says."""
    from _CharLS import read_header
    from pydicom.encaps import generate_frames

    for frame in generate_frames(image.PixelData, number_of_frames=count):
        about = read_header(frame)
        size = about["height"], about["width"], about["components"]
        if size != (image.Rows, image.Columns, 1):
            raise ValueError(
                f"JPEG-LS of {size} rows, columns and components for {image.Rows} x {image.Columns} pixels"
            )
