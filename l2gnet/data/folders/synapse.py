"""Synapse: thirty abdominal CT with expert masks, from the challenge Beyond the Cranial Vault (BTCV), MICCAI 2015.

Landman et al., Multi-Atlas Labeling Beyond the Cranial Vault, doi 10.7303/syn3193805. Eight of its thirteen organs
and the split into 18 scans for training and 12 for testing are those of Chen et al. 2021 (TransUNet), arXiv 2102.04306.
"""

import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from l2gnet.data.folders.scan import ABDOMEN_HU, Scan, ScanFolder, require_inside, without_masks
from l2gnet.data.formats.arrays import read_h5, read_npz
from l2gnet.data.formats.nifti_voxels import MAX_BYTES
from l2gnet.data.volume import Volume, exact_labels
from l2gnet.errors import VolumeError, volume_error
from l2gnet.shapes import Num

CLASSES = (
    "background",
    "aorta",
    "gallbladder",
    "left kidney",
    "right kidney",
    "liver",
    "pancreas",
    "spleen",
    "stomach",
)  # TransUNet's order
BTCV = (
    "background",
    "spleen",
    "right kidney",
    "left kidney",
    "gallbladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior vena cava",
    "portal and splenic vein",
    "pancreas",
    "right adrenal gland",
    "left adrenal gland",
)  # the challenge's order: what the raw label maps hold
CLASS_OF_BTCV = tuple(CLASSES.index(organ) if organ in CLASSES else 0 for organ in BTCV)
TEST_CASES = frozenset(f"case{number:04d}" for number in (1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38))
PREPARED = (0.0, 1.0)  # what grey values of the prepared form lie in
LICENCE = "the terms of the BTCV challenge at synapse.org, after registration"
CITATION = (
    "B. Landman, Z. Xu, J. E. Igelsias, M. Styner, T. R. Langerak, A. Klein. Multi-Atlas Labeling Beyond the Cranial "
    "Vault - Workshop and Challenge. MICCAI 2015. doi:10.7303/syn3193805"
)


@dataclass(frozen=True)
class PreparedScan(Scan):
    """A scan as TransUNet's authors prepared it: an HDF5 volume, or an npz file for each of `slices`.

    Grey values are HU -125 to 275 mapped to 0..1, labels are those of CLASSES. Voxel size and orientation were lost:
    the volume is in voxels, and its axes are those of the arrays.
    """

    slices: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The volume's file, or those of all its slices."""
        return self.slices or (self.image,)

    def read_image(self) -> Volume:
        """The scan, of values 0 to 1; raises VolumeError where a file is damaged or holds others."""
        array = self._read("image").astype(np.float32)
        low, high = float(array.min()), float(array.max())
        if not (low >= -0.001 and high <= 1.001):  # so that nan is refused too
            remedy = "use the raw scans, or clip to -125..275 HU and scale"
            raise volume_error(self.image, "a prepared image must lie in 0..1", f"{low:.4g} to {high:.4g}", remedy)
        return _in_voxels(array)

    def read_labels(self) -> Volume:
        """The label map, of values 0 to L-1; raises VolumeError where a file is damaged or holds others than 0 to 8."""
        labels = exact_labels(self.image, self._read("label"))
        if labels.max() >= len(CLASSES):
            rule = f"labels must lie in 0..{len(CLASSES) - 1}"
            raise volume_error(
                self.image, rule, int(labels.max()), "prepare TransUNet's eight organs, or use the raw scans"
            )
        return _in_voxels(np.array(self.class_of or range(len(CLASSES)), np.uint8)[labels])

    def _read(self, name: str) -> Num[np.ndarray, "D H W"]:
        if not self.slices:
            return read_h5(self.image, name, dimensions=3)
        slices = []
        for path in self.slices:
            slices.append(read_npz(path, name, dimensions=2))
            if slices[-1].shape != slices[0].shape:
                rule = f"all slices of {self.name} must have one shape, {slices[0].shape}"
                raise volume_error(path, rule, slices[-1].shape, "copy the data set again")
            if 4 * slices[0].size * len(self.slices) > MAX_BYTES:
                rule = f"a volume may take {MAX_BYTES // 2**30} GiB as float32"
                raise volume_error(path, rule, f"{len(self.slices)} slices of {slices[0].shape}", "crop them first")
        return np.stack(slices)


def is_synapse(data_dir: Path) -> bool:
    """Whether a folder holds the raw or the prepared form."""
    return _raw_folders(data_dir) is not None or _prepared_folder(data_dir) is not None


def find_scans(data_dir: str | Path) -> ScanFolder:
    """The cases of a folder, by name, as in "case0001"; `label` is None without a mask.

    The raw form has img0001.nii.gz and label0001.nii.gz, side by side or in `img/` and `label/`, as in
    RawData/Training; the prepared one `train_npz/case0005_slice000.npz` and `test_vol_h5/case0001.npy.h5`, each with
    the arrays `image` and `label`. Raises VolumeError if the folder holds neither.
    """
    root = Path(data_dir)
    raw, prepared = _raw_folders(root), _prepared_folder(root)
    if raw is not None:
        scans, problems, window = *_raw_scans(*raw), ABDOMEN_HU
    elif prepared is not None:
        scans, problems, window = *_prepared_scans(prepared), PREPARED
    else:
        rule = "the folder must hold imgNNNN.nii.gz and labelNNNN.nii.gz, or train_npz and test_vol_h5"
        raise volume_error(root, rule, "none" if root.is_dir() else "no folder", "name the folder they lie in")
    for scan in list(scans):
        try:
            require_inside(root, *scan.files)
        except VolumeError as error:
            scans.remove(scan)
            problems.append(error)
    scans.sort(key=lambda scan: scan.name)
    return ScanFolder(
        name="synapse",
        classes=CLASSES,
        scans=tuple(scans),
        problems=tuple(problems),
        citation=CITATION,
        window=window,
        test_patients=TEST_CASES,
        licence=LICENCE,
        missing=tuple(without_masks(scans)),
    )


def _raw_folders(root: Path) -> tuple[Path, Path] | None:
    """Where images and label maps lie."""
    for folder in (root, root / "Training", root / "RawData" / "Training"):
        for images, labels in ((folder, folder), (folder / "img", folder / "label")):
            if any(images.glob("img[0-9][0-9][0-9][0-9].nii*")):
                return images, labels
    return None


def _prepared_folder(root: Path) -> Path | None:
    places = (root, root / "Synapse")
    return next((place for place in places if (place / "train_npz").is_dir() or (place / "test_vol_h5").is_dir()), None)


def _raw_scans(images: Path, labels: Path) -> tuple[list[Scan], list[VolumeError]]:
    scans: list[Scan] = []
    problems: list[VolumeError] = []
    image_of, label_of = (_numbered(folder, stem) for folder, stem in ((images, "img"), (labels, "label")))
    for number, label in label_of.items():
        if number not in image_of:
            problems.append(volume_error(label, f"a label map needs its image img{number}.nii.gz", "none", "copy it"))
    for number, image in image_of.items():
        name = f"case{number}"
        scans.append(Scan(name, name, image, label_of.get(number), CLASSES, class_of=CLASS_OF_BTCV))
    return scans, problems


def _numbered(folder: Path, stem: str) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    matches = [(re.fullmatch(rf"{stem}(\d{{4}})\.nii(\.gz)?", path.name), path) for path in sorted(folder.iterdir())]
    return {match[1]: path for match, path in matches if match}


def _prepared_scans(folder: Path) -> tuple[list[Scan], list[VolumeError]]:
    scans: dict[str, Scan] = {}
    problems: list[VolumeError] = []
    slices = [(re.fullmatch(r"(case\d{4})_slice(\d{3,})\.npz", path.name), path) for path in folder.glob("train_npz/*")]
    found = sorted((match[1], int(match[2]), path) for match, path in slices if match)
    for name, group in groupby(found, key=lambda entry: entry[0]):
        _, numbers, paths = zip(*group, strict=True)
        missing = sorted({*range(numbers[-1])} - {*numbers})
        if missing:
            rule = f"the slices of {name} must be numbered from 0 without a gap"
            problems.append(volume_error(paths[0], rule, f"no slice {missing[0]:03d}", "copy the data set again"))
            continue
        scans[name] = PreparedScan(name, name, paths[0], paths[0], CLASSES, slices=paths)
    for path in sorted(folder.glob("test_vol_h5/case[0-9][0-9][0-9][0-9].npy.h5")):
        name = path.name[:8]
        if name in scans:
            rule = f"{name} must be in train_npz or in test_vol_h5"
            problems.append(volume_error(path, rule, "both", "remove one"))
            continue
        scans[name] = PreparedScan(name, name, path, path, CLASSES)
    if not scans and not problems:
        raise volume_error(folder, "train_npz and test_vol_h5 must hold cases", "none", "copy the data set again")
    return list(scans.values()), problems


def _in_voxels(array: Num[np.ndarray, "D H W"]) -> Volume:
    """A volume of unknown voxel size; its axes are shown as S, P and L, whatever they were."""
    affine = np.array([[0, 0, -1, 0], [0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=float)
    return Volume(array, affine, has_mm=False)
