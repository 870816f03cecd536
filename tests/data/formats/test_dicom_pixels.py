"""What a pixel means: the values are those of pydicom and of SimpleITK, two readers that share no code."""

import io
import shutil
import subprocess
from pathlib import Path

import folders
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK
from highdicom.frame import encode_frame
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from l2gnet.data.inputs import find_inputs
from l2gnet.data.volume import in_stored_order
from l2gnet.errors import VolumeError

AFFINE = np.diag([-1.5, -1.5, 8.0, 1.0])
PLAIN = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
COMPRESSED = (RLELossless, JPEGLSLossless, JPEG2000Lossless)
FILES = Path(pydicom.__file__).parent / "data" / "test_files"


def stored(dtype, bits, shape=(24, 20, 4)):
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if np.dtype(dtype).kind == "i" else (0, 2**bits)
    noise = np.random.default_rng(0).integers(low, high, shape).astype(dtype)
    return noise.repeat(2, axis=0)[: shape[0]]  # less noisy, so that compression is one


def changes(array, bits, **others):
    size = 8 * array.itemsize
    return {
        "PixelRepresentation": int(array.dtype.kind == "i"),
        "BitsAllocated": size,
        "BitsStored": bits,
        "HighBit": bits - 1,
        **others,
    }


def slices(array, bits, syntax, **others):
    """A series with these stored values, in a transfer syntax."""
    images = folders.dicom_slices([array], AFFINE, **changes(array, bits, **others))
    for k, image in enumerate(images):
        plane = np.ascontiguousarray(array[:, :, k].T)
        image.file_meta.TransferSyntaxUID = syntax
        if syntax in PLAIN:
            order = ">" if syntax == ExplicitVRBigEndian else "<"
            image.PixelData = plane.astype(plane.dtype.newbyteorder(order)).tobytes()
        else:
            image.PixelData = encapsulate([compressed(plane, bits, syntax)])
        image["PixelData"].VR = "OW" if syntax in PLAIN and array.itemsize > 1 else "OB"
    return images


def compressed(plane, bits, syntax):
    if syntax == JPEG2000Lossless:  # which highdicom would not write by Pillow
        stream = io.BytesIO()
        Image.fromarray(plane).save(stream, "JPEG2000", no_jp2=True)
        return stream.getvalue()
    signed = int(plane.dtype.kind == "i")
    return bytes(encode_frame(plane, syntax, 8 * plane.itemsize, bits, "MONOCHROME2", signed))


def write(folder, images):
    folder.mkdir(parents=True)
    for k, image in enumerate(images):
        image.save_as(folder / f"{len(images) - k}.dcm", enforce_file_format=True)
    return folder


def ours(folder, frame=0):
    """The product's values as (slice, row, column), slices upwards."""
    (scan,) = find_inputs([folder])
    volume = scan.read()[frame]
    return in_stored_order(volume.array, volume.stored).T


def in_height(folder):
    return sorted(folder.iterdir(), key=lambda path: dcmread(path).ImagePositionPatient[2])


def by_pydicom(folder):
    return np.stack([apply_modality_lut(image.pixel_array, image) for image in map(dcmread, in_height(folder))])


def by_simple_itk(folder):
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage([str(path) for path in in_height(folder)]))


@pytest.mark.parametrize("syntax", PLAIN + COMPRESSED, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize(("dtype", "bits"), [("u1", 8), ("u2", 12), ("u2", 16), ("i2", 12), ("i2", 16)])
def test_values_are_those_of_pydicom_and_simple_itk(tmp_path, syntax, dtype, bits):
    if syntax in COMPRESSED and (dtype, bits) in [("i2", 12), ("i2", 16)] and syntax != RLELossless:
        pytest.skip("no writer of signed pixels for this syntax here; files of pydicom's cover them")
    array = stored(dtype, bits)
    folder = write(tmp_path / "series", slices(array, bits, syntax, RescaleSlope="2", RescaleIntercept="-1024"))
    assert np.array_equal(ours(folder), 2.0 * array.T.astype(np.float32) - 1024)
    assert np.array_equal(ours(folder), by_pydicom(folder))
    plain = write(tmp_path / "plain", slices(array, bits, syntax))  # of MR, GDCM does not apply a rescale
    assert np.array_equal(ours(plain), by_simple_itk(plain))


@pytest.mark.parametrize("syntax", [*PLAIN, RLELossless], ids=lambda syntax: syntax.name)
@pytest.mark.parametrize(("dtype", "bits"), [("u1", 8), ("u2", 12), ("i2", 16)])
def test_an_enhanced_file_has_the_values_of_pydicom_in_any_byte_order(tmp_path, syntax, dtype, bits):
    array = stored(dtype, bits, (9, 7, 5))  # frames of an odd number of bytes
    whole = folders.enhanced([array], AFFINE, **changes(array, bits))
    whole.file_meta.TransferSyntaxUID = syntax
    frames = np.ascontiguousarray(array.T)
    if syntax in PLAIN:
        order = ">" if syntax == ExplicitVRBigEndian else "<"
        data = frames.astype(frames.dtype.newbyteorder(order)).tobytes()
        whole.PixelData = data + bytes(len(data) % 2)
    else:
        whole.PixelData = encapsulate([compressed(frame, bits, syntax) for frame in frames])
    whole["PixelData"].VR = "OW" if syntax in PLAIN and array.itemsize > 1 else "OB"
    (tmp_path / "enhanced").mkdir()
    whole.save_as(tmp_path / "enhanced" / "scan.dcm", enforce_file_format=True)
    assert np.array_equal(ours(tmp_path / "enhanced"), frames.astype(np.float32))
    assert np.array_equal(ours(tmp_path / "enhanced"), dcmread(tmp_path / "enhanced" / "scan.dcm").pixel_array)


def of_ct(images, **others):
    for image in images:
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = CTImageStorage
        image.Modality = "CT"
        for name, value in others.items():
            setattr(image, name, value)
    return images


@pytest.mark.parametrize(
    "shown",
    [
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PresentationLUTShape": "INVERSE"},
        {"PresentationLUTShape": "IDENTITY", "PhotometricInterpretation": "MONOCHROME1"},
        {"WindowCenter": "40", "WindowWidth": "400", "VOILUTFunction": "SIGMOID"},
        {"PixelPaddingValue": 0, "SmallestImagePixelValue": 0},
    ],
)
def test_how_an_image_is_shown_changes_no_value(tmp_path, shown):
    array = stored("i2", 16)
    images = of_ct(slices(array, 16, ExplicitVRLittleEndian, RescaleSlope="1", RescaleIntercept="-1024"), **shown)
    folder = write(tmp_path / "ct", images)
    assert np.array_equal(ours(folder), array.T.astype(np.float32) - 1024)
    assert np.array_equal(ours(folder), by_pydicom(folder))
    if "MONOCHROME1" not in shown.values():  # which GDCM turns round, and dcm2niix does not (below)
        assert np.array_equal(ours(folder), by_simple_itk(folder))


@pytest.mark.parametrize(
    ("kind", "remarks"),
    [("HU", ()), ("US", ()), ("", ()), ("MGML", ("its headers say that its grey values are MGML: are they HU?",))],
)
def test_ct_of_another_unit_is_doubted(tmp_path, kind, remarks):
    rescale = {"RescaleSlope": "1", "RescaleIntercept": "0", "RescaleType": kind}
    folder = write(tmp_path / "ct", of_ct(slices(stored("i2", 16), 16, ExplicitVRLittleEndian, **rescale)))
    assert find_inputs([folder])[0].read()[0].remarks == remarks


def test_each_slice_has_its_own_rescale(tmp_path):
    array = stored("u2", 16)
    images = of_ct(slices(array, 16, ExplicitVRLittleEndian), Modality="PT")
    for k, image in enumerate(images):
        image.RescaleSlope, image.RescaleIntercept = f"{0.5 + k}", "0"
    folder = write(tmp_path / "pet", images)
    assert np.array_equal(ours(folder), array.T * np.arange(0.5, 4).astype(np.float32)[:, None, None])
    assert np.array_equal(ours(folder), by_pydicom(folder).astype(np.float32))


def test_a_slope_of_nothing_is_refused_and_one_that_some_slices_lack_is_doubted(tmp_path):
    array = stored("<u2", 12)
    for name, none in (("nothing", {"RescaleSlope": 0}), ("some", {"RescaleSlope": None, "RescaleIntercept": None})):
        images = folders.dicom_slices([array], AFFINE, **changes(array, 12, RescaleSlope=2, RescaleIntercept=-9))
        for field, value in none.items():
            setattr(images[2], field, value)
        for k, image in enumerate(images):
            folders.save_dicom(tmp_path / name / f"{k}.dcm", image)
    with pytest.raises(VolumeError, match=r"2\.dcm: RescaleSlope must not be 0"):
        find_inputs([tmp_path / "nothing"])[0].read()
    ((volume,),) = (scan.read() for scan in find_inputs([tmp_path / "some"]))
    assert volume.remarks == ("1 of its 4 images do not say how to rescale them (2.dcm), and others do",)


def test_bits_above_those_stored_are_no_part_of_a_value(tmp_path):
    array = stored("u2", 12)
    images = slices(array | np.uint16(0xA000), 12, ExplicitVRLittleEndian)  # as overlays once were
    folder = write(tmp_path / "series", images)
    assert np.array_equal(ours(folder), array.T)
    assert np.array_equal(ours(folder), by_pydicom(folder))


def test_a_modality_table_is_looked_up_as_pydicom_does(tmp_path):
    array = stored("u2", 8)
    images = slices(array, 8, ExplicitVRLittleEndian)
    for image in images:
        table = pydicom.Dataset()
        table.LUTDescriptor, table.ModalityLUTType = [256, 0, 16], "US"
        table.add_new("LUTData", "US", [3 * value + 7 for value in range(256)])
        image.ModalityLUTSequence = [table]
    folder = write(tmp_path / "series", images)
    assert np.array_equal(ours(folder), 3.0 * array.T + 7)
    assert np.array_equal(ours(folder), by_pydicom(folder))


@pytest.mark.parametrize(
    "name",
    [
        "693_J2KI.dcm",
        "CT_small.dcm",
        "J2K_pixelrep_mismatch.dcm",
        "MR_small.dcm",
        "MR_small_RLE.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_expb.dcm",
        "MR_small_implicit.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_padded.dcm",
        "examples_overlay.dcm",
    ],
)
@pytest.mark.filterwarnings("ignore")  # of pydicom, about padding and a codestream that contradicts its header
def test_real_images_have_one_value_for_three_readers(tmp_path, name):
    (tmp_path / "scan").mkdir()
    shutil.copy(FILES / name, tmp_path / "scan")
    assert np.array_equal(ours(tmp_path / "scan"), by_pydicom(tmp_path / "scan").astype(np.float32))
    assert np.array_equal(ours(tmp_path / "scan"), by_simple_itk(tmp_path / "scan").astype(np.float32))


def test_a_file_from_before_there_was_a_file_format_is_read(tmp_path):
    array = stored("i2", 16)
    folder = write(tmp_path / "series", slices(array, 16, ImplicitVRLittleEndian))
    for path in folder.iterdir():
        image = dcmread(path)
        del image.file_meta
        image.preamble = None
        image.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=False)
        assert path.read_bytes()[128:132] != b"DICM"
    assert np.array_equal(ours(folder), array.T)


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed")
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless], ids=lambda s: s.name)
def test_values_and_places_are_those_of_dcm2niix(tmp_path, syntax):
    array = stored("i2", 16) // 2
    shown = {"PhotometricInterpretation": "MONOCHROME1"}
    images = of_ct(slices(array, 16, syntax, RescaleSlope="1", RescaleIntercept="-1024"), **shown)
    folder = write(tmp_path / "ct", images)
    subprocess.run(["dcm2niix", "-f", "out", "-o", tmp_path, folder], check=True, capture_output=True)
    expected = nib.as_closest_canonical(nib.load(tmp_path / "out.nii"))
    (scan,) = find_inputs([folder])
    (volume,) = scan.read()
    found = nib.as_closest_canonical(nib.Nifti1Image(volume.array, volume.affine))
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-4)
    assert np.array_equal(found.get_fdata(), expected.get_fdata())


def refused(folder, message):
    (scan,) = find_inputs([folder])
    with pytest.raises(VolumeError, match=message):
        scan.read()


@pytest.mark.filterwarnings("ignore")  # of pydicom, about a slope that is no number
def test_what_is_no_grey_picture_of_one_slice_is_refused_in_words(tmp_path):
    array = stored("u1", 8)

    def of(name, **others):
        return write(tmp_path / name, [*slices(array, 8, ExplicitVRLittleEndian, **others)])

    rgb = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    refused(
        of("colour", **rgb), r"must have one grey value a pixel; found 3 samples a pixel, RGB; leave this series out"
    )
    palette = {"PhotometricInterpretation": "PALETTE COLOR"}
    refused(of("palette", **palette), "one grey value a pixel; found 1 sample a pixel, PALETTE COLOR")
    mosaic = {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]}
    refused(of("mosaic", **mosaic), "each slice must be an image of its own; found a mosaic.*dcm2niix")
    refused(of("high", HighBit=7, BitsStored=6), "HighBit 7 with BitsStored 6")
    refused(of("frames", NumberOfFrames=2), "2 images in a file that can say the place of one")
    refused(of("slope", RescaleSlope="2"), "RescaleSlope and RescaleIntercept must both be there, or neither; found 2")
    refused(of("nan", RescaleSlope="nan", RescaleIntercept="0"), "every voxel must be finite")


def test_a_mosaic_is_known_by_what_its_maker_says_of_it(tmp_path):
    images = slices(stored("u1", 8), 8, ExplicitVRLittleEndian, Manufacturer="SIEMENS")
    for image in images:
        image.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", 36)
    refused(write(tmp_path / "series", images), "a mosaic: all slices in one picture")


def test_an_unknown_compression_is_refused_with_what_to_do(tmp_path):
    images = slices(stored("u2", 16), 16, RLELossless)
    for image in images:
        image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.70"  # JPEG Lossless
    refused(
        write(tmp_path / "series", images), "compression of an image must be known here; found JPEG Lossless.*dcmdjpeg"
    )
