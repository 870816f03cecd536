"""Phantom abdomens in the formats of the data sets: what those who prepared the real ones would have written."""

import functools
import json
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np

from l2gnet.data.phantom import make_abdomen
from l2gnet.data.synapse import BTCV, CLASSES

SPACING_MM = (10.0, 8.0, 7.0)  # D, H, W
CASES = (2, 5, 6, 7)  # 0002 is on Synapse's test list, the others are not
BTCV_OF = np.array([0, *(BTCV.index(organ) for organ in CLASSES[1:])], np.uint8)


@functools.cache
def abdomen(number):
    """Image in HU and labels of TransUNet's order, both (D, H, W), of a small coarse phantom."""
    case = make_abdomen(number, shape=(20, 52, 60), spacing_mm=SPACING_MM)
    return case.image, case.label


def save(path: Path, array):
    """Write (D, H, W), running to S, P and L, as scanners do: stored as (W, H, D), to R, A and S by the affine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = np.asarray(array)[:, ::-1, ::-1].transpose(2, 1, 0)
    nib.Nifti1Image(stored, np.diag([*SPACING_MM[::-1], 1.0])).to_filename(path)


def write_raw_synapse(root: Path, folders=("img", "label"), cases=CASES, suffix=".nii.gz"):
    """As the challenge gives it: img0002.nii.gz in HU and label0002.nii.gz of thirteen organs."""
    for number in cases:
        image, label = abdomen(number)
        labels = BTCV_OF[label]
        labels[0, 0, :2] = 5, 13  # esophagus and left adrenal gland, which TransUNet leaves out
        save(root / folders[0] / f"img{number:04d}{suffix}", image.astype(np.int16))
        save(root / folders[1] / f"label{number:04d}{suffix}", labels)


def write_prepared_synapse(root: Path, cases=CASES):
    """As TransUNet's authors give it: slices to train on as npz, volumes to test on as HDF5, clipped and scaled."""
    (root / "train_npz").mkdir(parents=True)
    (root / "test_vol_h5").mkdir()
    for number in cases:
        image, label = abdomen(number)
        scaled = ((np.clip(image, -125, 275) + 125) / 400).astype(np.float32)
        if number == 2:
            with h5py.File(root / "test_vol_h5" / f"case{number:04d}.npy.h5", "w") as file:
                file["image"], file["label"] = scaled, label.astype(np.float32)
        else:
            for d in range(len(image)):
                path = root / "train_npz" / f"case{number:04d}_slice{d:03d}.npz"
                np.savez(path, image=scaled[d], label=label[d].astype(np.float32))


def write_decathlon(root: Path, cases=CASES):
    """As the Medical Segmentation Decathlon gives it, with the eight organs."""
    for number in cases:
        image, label = abdomen(number)
        save(root / "imagesTr" / f"organs_{number:02d}.nii.gz", image.astype(np.float32))
        save(root / "labelsTr" / f"organs_{number:02d}.nii.gz", label)
    names = [f"organs_{number:02d}.nii.gz" for number in cases]
    description = {
        "name": "Organs",
        "reference": "phantom",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {str(number): name for number, name in enumerate(CLASSES)},
        "numTraining": len(cases),
        "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names],
        "test": [],
    }
    (root / "dataset.json").write_text(json.dumps(description))


def write_nnunet(root: Path, cases=CASES):
    """As nnU-Net 2 wants it, with two channels, as of two sequences of MR."""
    for number in cases:
        image, label = abdomen(number)
        for channel, weight in enumerate((1.0, -0.5)):
            save(root / "imagesTr" / f"organs_{number:03d}_{channel:04d}.nii.gz", (weight * image).astype(np.int16))
        save(root / "labelsTr" / f"organs_{number:03d}.nii.gz", label)
    description = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {name: number for number, name in enumerate(CLASSES)},
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(description))
