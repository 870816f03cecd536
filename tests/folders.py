"""Phantom abdomens in the formats of the data sets: what those who prepared the real ones would have written."""

import copy
import functools
import json
import warnings
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
from highdicom.legacy import LegacyConvertedEnhancedMRImage
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from l2gnet.data.folders.synapse import BTCV, CLASSES
from l2gnet.data.phantoms import make_abdomen

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


def dicom_slices(phases, affine, *, number=1, order=None, **changes):
    """An MR series as scanners make it: an image a slice and phase, in any order, placed by position and orientation.

    `phases` holds images (columns, rows, slices) of one volume each, `affine` leads from their indices to RAS.
    """
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing_mm = np.linalg.norm(lps[:3, :3], axis=0)
    across, down, _ = (lps[:3, :3] / spacing_mm).T
    study = {name: generate_uid(entropy_srcs=[name, str(number)]) for name in ("series", "frame")}
    places = [(k, t) for t in range(len(phases)) for k in range(phases[0].shape[2])]
    images = []
    for index in order if order is not None else range(len(places)):
        k, t = places[index]
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = MRImageStorage
        image.SOPInstanceUID = generate_uid(entropy_srcs=["image", str(number), str(index)])
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.StudyInstanceUID = generate_uid(entropy_srcs=["study"])
        image.SeriesInstanceUID, image.FrameOfReferenceUID = study["series"], study["frame"]
        image.PatientName, image.PatientID, image.Modality = "Doe^Jane", "4711", "MR"
        image.PatientBirthDate = image.PatientSex = image.StudyID = image.AccessionNumber = ""
        image.StudyDate, image.StudyTime, image.ReferringPhysicianName = "20260101", "120000", ""
        image.PositionReferenceIndicator = image.Manufacturer = ""
        image.SeriesNumber, image.InstanceNumber, image.ImageType = number, index + 1, ["ORIGINAL", "PRIMARY"]
        image.TriggerTime, image.SliceThickness = 50.0 * t, float(spacing_mm[2])
        image.ImageOrientationPatient = [f"{value:.10f}"[:16] for value in (*across, *down)]
        image.ImagePositionPatient = [f"{value:.10f}"[:16] for value in (lps @ (0, 0, k, 1))[:3]]
        image.PixelSpacing = [float(spacing_mm[1]), float(spacing_mm[0])]
        image.Columns, image.Rows = phases[0].shape[:2]
        image.SamplesPerPixel, image.PhotometricInterpretation, image.PixelRepresentation = 1, "MONOCHROME2", 1
        image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
        image.PixelData = phases[t][:, :, k].T.astype("<i2").tobytes()
        for name, value in changes.items():
            setattr(image, name, value)
        images.append(image)
    return images


def write_dicom(folder: Path, phases, affine, *, start=1, **options):
    """A classic series, of one file a slice and phase; the options are those of `dicom_slices`."""
    for number, image in enumerate(dicom_slices(phases, affine, **options), start=start):
        save_dicom(folder / f"IM{number:04d}", image)


def enhanced(phases, affine, **options):
    """The same as one Enhanced MR image, of a frame a slice and phase: what differs lies in functional groups."""
    frames = dicom_slices(phases, affine, **options)
    whole = copy.deepcopy(frames[0])
    whole.file_meta.MediaStorageSOPClassUID = whole.SOPClassUID = EnhancedMRImageStorage
    for name in ("TriggerTime", "SliceThickness", "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing"):
        del whole[name]
    whole.NumberOfFrames = len(frames)
    whole.PixelData = b"".join(frame.PixelData for frame in frames)
    of_all = {
        "PlaneOrientationSequence": {"ImageOrientationPatient": frames[0].ImageOrientationPatient},
        "PixelMeasuresSequence": {name: frames[0][name].value for name in ("PixelSpacing", "SliceThickness")},
        "MRImageFrameTypeSequence": {"FrameType": ["ORIGINAL", "PRIMARY", "CARDIAC", "NONE"]},
        "MREchoSequence": {"EffectiveEchoTime": 1.5},
    }
    whole.SharedFunctionalGroupsSequence = [_groups(of_all)]
    whole.PerFrameFunctionalGroupsSequence = [
        _groups(
            {
                "PlanePositionSequence": {"ImagePositionPatient": frame.ImagePositionPatient},
                "CardiacSynchronizationSequence": {"NominalCardiacTriggerDelayTime": float(frame.TriggerTime)},
                "FrameContentSequence": {"StackID": "1"},
                "PixelValueTransformationSequence": {"RescaleSlope": 1, "RescaleIntercept": 0, "RescaleType": "US"},
            }
        )
        for frame in frames
    ]
    for groups in whole.PerFrameFunctionalGroupsSequence:  # scanners add their own, with another truth in them
        block = groups.private_block(0x2005, "SCANNER", create=True)
        block.add_new(1, "LO", "words")
        block.add_new(2, "SQ", [_groups({})])
        block[2].value[0].RescaleSlope = 7
    return whole


def _groups(values):
    """An item of a functional groups sequence: the attributes of each group, by its name."""
    groups = Dataset()
    for group, attributes in values.items():
        item = Dataset()
        for name, value in attributes.items():
            setattr(item, name, value)
        setattr(groups, group, [item])
    return groups


def legacy_converted(phases, affine, **options):
    """The same as highdicom makes one enhanced image of a classic series."""
    slices = dicom_slices(phases, affine, **options)
    with warnings.catch_warnings(action="ignore"):  # about what the phantom does not know, as its contrast
        return LegacyConvertedEnhancedMRImage(
            slices, generate_uid(), slices[0].SeriesNumber, generate_uid(), instance_number=1
        )


def save_dicom(path: Path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path, enforce_file_format=True)
