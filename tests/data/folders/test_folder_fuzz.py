"""Data folders of strangers: masks rewritten, rounded, moved, renumbered, cut, dropped, and their descriptions changed.

Every case that is read is the known one, whichever way its files were written; every other is named by `data check`,
which never fails in any other way. What no file can tell, as two masks of one grid that were exchanged, is not tried.

There are 60 folders in every run. `L2GNET_FUZZ=50` makes them three thousand, `L2GNET_FUZZ_SEED` others; a failure
says which folder it was, and `made(root, seed, number)` makes that one again.
"""

import json
import os
import re
import shutil
from pathlib import Path
from random import Random

import nibabel as nib
import numpy as np
import SimpleITK

from l2gnet.data.dataset import open_dataset
from l2gnet.data.folders.check import check
from l2gnet.data.folders.repair import repair
from l2gnet.data.settings import DataSettings
from l2gnet.errors import ConfigError, VolumeError

TIMES = int(os.environ.get("L2GNET_FUZZ", "1"))
SEED = int(os.environ.get("L2GNET_FUZZ_SEED", "0"))
FOLDERS = 60 * TIMES
SHAPE = (9, 8, 5)
_TURN = np.array([[np.cos(0.1), -np.sin(0.1), 0], [np.sin(0.1), np.cos(0.1), 0], [0, 0, 1]])
AFFINE = nib.affines.from_matvec(_TURN @ np.diag([-1.5, -1.4, 4.9]), [10, 20, -30])
CASES = ("case1", "case2", "case3")
SAME = (
    "stored otherwise",
    "off by a hair",
    "scaled",
    "rounded",
    "other type",
    "no forms",
    "mirrored",
    "tilted by a hair",
)
WRONG = ("moved", "cropped", "cut", "another number", "halves", "empty", "no forms of its own")
FOLDER = ("drop mask", "drop image", "extra mask", "extra image", "count", "fold", "junk", "renumber", "delist")
NUMBERS = {"plain": (0, 1, 2), "gaps": (0, 7, 850)}


def stored_otherwise(random, array, affine):
    """The same voxels with their axes in another order, some of them backwards."""
    axes, flips = random.sample(range(3), 3), [random.random() < 0.5 for _ in range(3)]
    back = np.zeros((4, 4))
    back[3, 3] = 1
    for new, (old, flip) in enumerate(zip(axes, flips, strict=True)):
        back[old, new] = -1 if flip else 1
        back[old, 3] = array.shape[old] - 1 if flip else 0
    return np.flip(np.transpose(array, axes), [axis for axis in range(3) if flips[axis]]), affine @ back


def save(path: Path, array, affine, *, forms=True, dtype=None):
    image = nib.Nifti1Image(array, affine if forms else None)
    if not forms:
        image.header["pixdim"][1:4] = nib.affines.voxel_sizes(affine)
        image.header["qform_code"] = image.header["sform_code"] = 0
    if dtype is not None:
        image.set_data_dtype(dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.to_filename(path)


def labels_of(image):
    """What the mask says of a voxel is decided by its grey value."""
    return (np.asarray(image).astype(int) // 5) % 3


def write_case(root, name, random, what, numbers):
    """An image whose voxels have a grey value each, and its mask, written in some way."""
    grey = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE) + random.randrange(30)
    mask, affine, other, forms, dtype = np.array(numbers)[labels_of(grey)], AFFINE.copy(), None, [True, True], None
    top = max(numbers)
    match what:
        case "mirrored":
            affine = np.diag([-1.0, 1, 1, 1]) @ affine
        case "no forms":
            forms = [False, False]
        case "no forms of its own":
            forms = [True, False]
        case "off by a hair":
            noise = np.array([[random.uniform(-1, 1) for _ in range(4)] for _ in range(3)])
            other = affine + np.vstack([noise * [5e-5, 5e-5, 1e-4, 5e-4], np.zeros(4)])
        case "tilted by a hair":  # a cube, of which a hair decides how it is shown
            affine = np.diag([1.0, 1.0, 1.2006, 1])[[2, 1, 0, 3]]
            other = np.diag([1.0, 1.0, 1.2004, 1])[[2, 1, 0, 3]]
        case "scaled":
            mask, dtype = mask.astype(float), np.uint8 if top < 256 else np.int16
        case "rounded":
            mask = (mask + np.array([random.uniform(-9e-4, 9e-4) for _ in range(mask.size)]).reshape(SHAPE)).astype(
                "f4"
            )
        case "other type":
            mask = mask.astype(random.choice(("i4", "u2", "f4", "f8", "i2")))
        case "moved":
            other = affine @ nib.affines.from_matvec(np.eye(3), [random.choice((-2, -0.3, 0.7, 1, 2.3)), 0.2, 0])
        case "cropped":
            mask = mask[random.randrange(1, 3) :]
        case "another number":
            mask[tuple(random.randrange(n) for n in SHAPE)] = random.choice((3, 99, 255, 256, -1))
        case "halves":
            mask = mask * 0.5
    other = affine if other is None else other
    if mask.dtype == np.int64:
        mask = mask.astype(np.int16)
    if what == "stored otherwise":
        grey, affine = stored_otherwise(random, grey, affine)
        mask, other = stored_otherwise(random, mask, other)
    save(root / "imagesTr" / f"{name}_0000.nii.gz", grey, affine, forms=forms[0])
    path = root / "labelsTr" / f"{name}.nii.gz"
    save(path, mask, other, forms=forms[1], dtype=dtype)
    if what in ("cut", "empty"):
        data = path.read_bytes()
        path.write_bytes(data[: random.randrange(len(data)) if what == "cut" else 0])


def made(root: Path, seed: int, number: int):
    """Folder `number`: how each case was written, and what was done to the folder."""
    random = Random(f"{seed} {number}")
    shutil.rmtree(root, ignore_errors=True)
    done = random.choice((*FOLDER, *[""] * 6))
    numbers = NUMBERS["gaps" if done == "renumber" else "plain"]
    ways = {name: random.choice(random.choice((SAME, SAME, WRONG))) for name in CASES}
    for name, what in ways.items():
        write_case(root, name, random, what, numbers)
    info = {"channel_names": {"0": "MR"}, "file_ending": ".nii.gz", "numTraining": len(CASES)}
    info["labels"] = dict(zip(("background", "one", "two"), numbers, strict=True))
    name = random.choice(CASES)
    images, masks = root / "imagesTr", root / "labelsTr"
    match done:
        case "drop mask":
            (masks / f"{name}.nii.gz").unlink()
        case "drop image":
            (images / f"{name}_0000.nii.gz").unlink()
        case "extra mask":
            shutil.copy(masks / f"{name}.nii.gz", masks / "ghost.nii.gz")
        case "extra image":
            shutil.copy(images / f"{name}_0000.nii.gz", images / "ghost_0000.nii.gz")
        case "count":
            info["numTraining"] = random.choice((0, 2, 4, "3 or so", None))
        case "fold":
            (root / "splits_final.json").write_text(
                json.dumps([{"train": ["case1", "ghost"], "val": ["case2", "case3"]}])
            )
        case "junk":
            (masks / f"._{name}.nii.gz").write_bytes(b"\x00\x05\x16\x07")
            (images / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
        case "delist":
            files = {n: {"images": [f"imagesTr/{n}_0000.nii.gz"], "label": f"labelsTr/{n}.nii.gz"} for n in CASES}
            del files[name]
            info["dataset"] = files
    (root / "dataset.json").write_text(json.dumps(info))
    return ways, done, name


def known(image, labels) -> bool:
    """Whether each voxel has the label that its grey value decides."""
    return image.array.shape == labels.array.shape and np.array_equal(labels.array, labels_of(image.array))


def try_folder(root: Path, number: int) -> None:
    ways, done, changed = made(root / "old", SEED, number)
    report = check(root / "old")
    text = "\n".join(report.problems)
    named = {name for name in CASES if re.search(rf"\b{name}(_0000)?(\.nii\.gz)?\b", text)}
    wrong = {name for name, what in ways.items() if what in WRONG}
    lacking = {changed} if done in ("drop mask", "drop image", "delist") else set()
    assert wrong - lacking <= named | ({changed} if done == "delist" else set()), text
    assert lacking <= named, text
    assert named <= wrong | lacking, text
    if done in ("extra mask", "extra image", "fold"):
        assert "ghost" in text
    assert ("numTraining" in text) == (done in ("count", "drop mask", "extra mask", "delist")), text
    settings = DataSettings(data="decathlon", data_dir=str(root / "old"), validation_patients=1)
    try:
        cases = open_dataset(settings).cases
    except (VolumeError, ConfigError):
        assert done in ("drop image", "extra mask", "drop mask", "delist")
        cases = ()
    for case in cases:
        try:
            assert known(*case.load())
        except VolumeError:
            assert case.name in wrong
    before = {path: path.read_bytes() for path in (root / "old").rglob("*") if path.is_file()}
    shutil.rmtree(root / "new", ignore_errors=True)
    for one in repair(root / "old", root / "new"):
        if one.shown is not None and one.name in wrong:
            same_as_simpleitk(root, one.name)
    assert {path: path.read_bytes() for path in before} == before


def same_as_simpleitk(root: Path, name: str) -> None:
    image = SimpleITK.ReadImage(str(root / "new" / "imagesTr" / f"{name}_0000.nii.gz"))
    mask = SimpleITK.ReadImage(str(root / "old" / "labelsTr" / f"{name}.nii.gz"))
    expected = SimpleITK.Resample(mask, image, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor)
    repaired = SimpleITK.ReadImage(str(root / "new" / "labelsTr" / f"{name}.nii.gz"))
    assert np.array_equal(SimpleITK.GetArrayFromImage(repaired), SimpleITK.GetArrayFromImage(expected))


def test_a_folder_is_read_as_what_it_is_or_its_faults_are_named(tmp_path):
    for number in range(FOLDERS):
        try:
            try_folder(tmp_path, number)
        except BaseException as error:
            error.add_note(f"this was made(root, {SEED}, {number}): {made(tmp_path / 'again', SEED, number)}")
            raise
