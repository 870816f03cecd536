"""Series of strangers: shuffled, copied, dropped, renamed, moved, cut and perturbed by a thousandth.

What is read is the known volume, or is refused, or is doubted; never another volume without a word. The exceptions
are those that the docstring of `dicom.py` names, where nothing in the files can tell: `untold` finds them.

There are 200 cases in every run. `L2GNET_FUZZ=50` makes them ten thousand, `L2GNET_FUZZ_SEED` others; a failure says
which case it was, and `files_of(seed, number)` makes that one again.
"""

import functools
import os
import shutil
from pathlib import Path
from random import Random

import folders
import nibabel as nib
import numpy as np
import pytest
from highdicom.frame import encode_frame
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.uid import ExplicitVRBigEndian, RLELossless, generate_uid

from l2gnet.data.inputs import find_inputs
from l2gnet.data.volume import displayed
from l2gnet.errors import VolumeError

TIMES = int(os.environ.get("L2GNET_FUZZ", "1"))
SEED = int(os.environ.get("L2GNET_FUZZ_SEED", "0"))
CASES = 200 * TIMES
SLICES, MOMENTS = 6, 3
AFFINE = np.array([[-4.0, 0, 0, 10], [0, -4.5, 1.5, -20], [0, 1.2, 7.8, 30], [0, 0, 0, 1]])
AFFINE[:3, 2] *= 8 / np.linalg.norm(AFFINE[:3, 2])
AFFINE[:3, 1] = 4.5 * np.cross(AFFINE[:3, 2], AFFINE[:3, 0]) / np.linalg.norm(np.cross(AFFINE[:3, 2], AFFINE[:3, 0]))
PHASES = np.random.default_rng(0).integers(0, 500, (MOMENTS, 9, 8, SLICES)).astype(np.int16)
NAMES = (
    "{n}",
    "IM{n:04d}",
    "{n}.dcm",
    "1.2.{n}.3",
    "._IM{n}",
    ".{n}",
    "x{n}.nii.gz",
    "slice {n}.bak",
    "é{n}",
    "{n}.IMA",
)

ENDS = ("known", "refused", "doubted", "untold")
OPERATIONS = ("copy", "renew", "drop", "drop many", "rename", "move", "cut", "empty", "perturb", "junk")


def single():
    return folders.dicom_slices(PHASES[:1], AFFINE)


def cine():
    return folders.dicom_slices(PHASES, AFFINE)


def by_the_clock():
    """A cine whose numbers start anew in each phase, and whose times of day alone tell the phases apart."""
    images = folders.dicom_slices(PHASES, AFFINE)
    for index, image in enumerate(images):
        del image.TriggerTime
        image.InstanceNumber = index % SLICES + 1
        image.AcquisitionTime = image.ContentTime = f"12000{index // SLICES}"
    return images


def compressed():
    images = folders.dicom_slices(PHASES[1:2], AFFINE)
    for k, image in enumerate(images):
        image.file_meta.TransferSyntaxUID = RLELossless
        plane = np.ascontiguousarray(PHASES[1, :, :, k].T)
        image.PixelData = encapsulate([bytes(encode_frame(plane, RLELossless, 16, 16, "MONOCHROME2", 1))])
        image["PixelData"].VR = "OB"
    return images


def big_endian():
    images = folders.dicom_slices(PHASES[2:], AFFINE)
    for k, image in enumerate(images):
        image.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        image.PixelData = PHASES[2, :, :, k].T.astype(">i2").tobytes()
        image["PixelData"].VR = "OW"
    return images


def enhanced():
    return [folders.enhanced(PHASES, AFFINE)]


KINDS = {
    single: PHASES[:1],
    cine: PHASES,
    by_the_clock: PHASES,
    compressed: PHASES[1:2],
    big_endian: PHASES[2:],
    enhanced: PHASES,
}


def saved(image) -> bytes:
    stream = DicomBytesIO()
    image.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@functools.cache
def pristine(kind):
    """The files of a series as bytes, and its volumes."""
    expected = [displayed(phase.astype(np.float32), AFFINE, _header()) for phase in KINDS[kind]]
    return [saved(image) for image in kind()], expected


def _header():
    header = nib.Nifti1Header()
    header.set_sform(AFFINE, code="scanner")
    header["pixdim"][1:4] = nib.affines.voxel_sizes(AFFINE)
    return header


def perturbed(random, data: bytes) -> bytes:
    """The same image, with what its header says of places and times off by a thousandth at most."""
    image = dcmread(DicomBytesIO(data))
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "TriggerTime"):
        if image.get(name) is not None:
            values = np.atleast_1d(np.array(image[name].value, float))
            noisy = [f"{value + random.uniform(-1e-3, 1e-3):.9f}"[:16] for value in values]
            setattr(image, name, noisy if len(noisy) > 1 else noisy[0])
    return saved(image)


def renewed(random, data: bytes) -> bytes:
    """The same image as a second export makes it, under a new identifier."""
    image = dcmread(DicomBytesIO(data))
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid(
        entropy_srcs=[str(random.random())]
    )
    return saved(image)


def files_of(seed: int, number: int):
    """The kind of case `number`, its files by name, those of them that are no longer whole, and what was done."""
    random = Random(f"{seed} {number}")
    kind = random.choice(list(KINDS))
    contents = list(pristine(kind)[0])
    names = [f"IM{n:04d}" for n in range(1, len(contents) + 1)]
    if random.random() < 0.7:
        pattern = random.choice(NAMES[:4])
        names = [pattern.format(n=n) for n in random.sample(range(100), len(contents))]
    files = dict(zip(names, contents, strict=True))
    broken: set[str] = set()
    junk: set[str] = set()
    done = []
    for _ in range(random.choice((0, 1, 1, 1, 2, 2, 3, 5))):
        what = random.choice(OPERATIONS)
        done.append(what)
        if not files:
            break
        name = random.choice(list(files))
        new = _new_name(random, files)
        match what:
            case "copy" | "rename" | "move":
                new = f"below/{name.rpartition('/')[2]}" if what == "move" else new
                content = files[name] if what == "copy" else files.pop(name)
                files[new] = content
                broken |= {new} if name in broken else set()
                junk |= {new} if name in junk else set()
            case "renew" if not broken | junk:
                files[new] = renewed(random, files[name])
            case "drop":
                del files[name]
            case "drop many":
                for gone in random.sample(list(files), random.randrange(len(files) + 1)):
                    del files[gone]
            case "cut" | "empty":
                files[name] = files[name][: random.randrange(len(files[name]) + 1) if what == "cut" else 0]
                broken.add(name)
            case "perturb" if not broken | junk and kind is not enhanced:
                files = {each: perturbed(random, data) for each, data in files.items()}
            case "junk":
                files[new] = random.choice((b"a note", bytes(200), b"\x89PNG\r\n", b"<html>"))
                junk.add(new)
    return kind, files, (broken - junk) & {*files}, done


def _new_name(random, files) -> str:
    while (name := random.choice(NAMES).format(n=random.randrange(10**4))) in files:
        pass
    return name


def known(frames, expected) -> bool:
    """Whether these are the volumes, pixel by pixel, and lie where they lie within a tenth of a millimetre."""
    return len(frames) == len(expected) and all(
        np.array_equal(one.array, other.array) and np.allclose(one.affine, other.affine, atol=0.1)
        for one, other in zip(frames, expected, strict=True)
    )


def untold(kind, frames, expected) -> bool:
    """Whether frames are part of the known volumes in one of the ways that nothing in the files can tell."""
    whole = np.stack([volume.array for volume in expected])
    part = np.stack([frame.array for frame in frames])
    moments = [list(range(len(part)))]  # the last ones are missing
    if kind is by_the_clock:  # whose numbers start anew: so may any be
        moments = [[t for t in range(MOMENTS) if mask & 1 << t] for mask in range(1, 1 << MOMENTS)]
    depth = len(part[0])  # the last slices are missing, which have the highest numbers
    if depth < SLICES and (kind is enhanced or (kind is cine and len(part) > 1)):  # which would have left gaps
        return False
    if any(len(t) == len(part) and np.array_equal(part, whole[t, :depth]) for t in moments):
        return True
    # One image a position, of whatever moments: slices that were taken one after the other look just so.
    mixed = [(part[0, d] == whole[:, d]).all((1, 2)).any() for d in range(depth)]
    return kind is by_the_clock and len(part) == 1 and all(mixed)


def write(folder: Path, files) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def outcome(folder, seed, number) -> str:
    """How a case ended; raises AssertionError where another volume was read without a word."""
    kind, files, broken, done = files_of(seed, number)
    write(folder / "series", files)
    expected = pristine(kind)[1]
    ends = set()
    try:
        scans = find_inputs([folder], say=lambda line: None)
    except VolumeError:
        return "refused"
    for scan in scans:
        try:
            frames = scan.read()
        except VolumeError:
            ends.add("refused")
            continue
        if known(frames, expected):
            ends.add("known")
        elif frames[0].remarks:
            ends.add("doubted")
        else:
            beside = {(folder / "series" / name).parent for name in broken}  # what is broken there was never left out
            assert scan.path not in beside, f"a file was left out in silence, after {done}"
            assert untold(kind, frames, expected), f"another volume in silence, after {done}"
            ends.add("untold")
    return " ".join(sorted(ends))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of pydicom, about files that end too soon
def test_a_series_is_the_known_volume_or_refused_or_doubted(tmp_path):
    ends: dict[str, int] = {}
    for number in range(CASES):
        try:
            end = outcome(tmp_path, SEED, number)
        except BaseException as error:
            error.add_note(f"this was files_of({SEED}, {number})")
            raise
        ends[end] = ends.get(end, 0) + 1
    print(ends)
    share = {word: sum(count for end, count in ends.items() if word in end) / CASES for word in ENDS}
    assert share["known"] > 0.2
    assert share["refused"] > 0.2
    assert share["doubted"] > 0.05
    assert share["untold"] < 0.05


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_series_that_is_changed_is_a_good_one(tmp_path, kind):
    files, expected = pristine(kind)
    write(tmp_path / "series", {f"{n}.dcm": content for n, content in enumerate(files)})
    (scan,) = find_inputs([tmp_path])
    frames = scan.read()
    assert known(frames, expected)
    assert frames[0].remarks == ()
