"""A data set as the rest of the library sees it: classes, and cases for training and for validation."""

import functools
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from l2gnet.data.beside import aside
from l2gnet.data.folders import acdc, decathlon, synapse
from l2gnet.data.folders.scan import Scan, ScanFolder, beside_scans, counted, is_ct, split_patients
from l2gnet.data.folders.synapse import PREPARED
from l2gnet.data.grid import Grid
from l2gnet.data.made import KINDS, Kind, placed
from l2gnet.data.regions import NO_REGIONS, Regions
from l2gnet.data.settings import DataSettings
from l2gnet.data.volume import Volume
from l2gnet.errors import ConfigError, VolumeError, volume_error
from l2gnet.shapes import Float32, Num

_BEYOND_SPLITS = 10**13  # more than a thousand patients of each split_seed that there can be


@dataclass(frozen=True)
class Case:
    """One labelled volume: who, which group and phase, how to load image and labels, and from which files.

    `reading` says what else decides what is loaded: which channels of the files, which of their labels. `evidence_px`,
    where the classes were made to be decided far away, gives the distance of each labelled pixel to what decides its
    class, in pixels of the case along the axis where they are more; NaN where nothing is labelled.
    """

    name: str
    patient: str
    group: str
    phase: str
    load: Callable[[], tuple[Volume, Volume]]
    files: tuple[Path, ...] = ()
    reading: str = ""
    evidence_px: Callable[[], Float32[np.ndarray, "D H W"]] | None = None


@dataclass(frozen=True)
class DataSet:
    """Cases of a data set, split by patient; `window` is the intensity range that a `Grid` shows of them, if fixed.

    `channels` are the names of the image channels of every case, in order. `regions` say of which labels the classes
    after the background are made, where each is not one.
    """

    name: str
    classes: tuple[str, ...]
    training: tuple[Case, ...]
    validation: tuple[Case, ...]
    citation: str
    licence: str
    window: tuple[float, float] | None = None
    channels: tuple[str, ...] = ("image",)
    regions: Regions = NO_REGIONS

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels in a mask, by number; without regions they are the classes."""
        return self.regions.label_names(self.classes)

    @property
    def cases(self) -> tuple[Case, ...]:
        """All cases, by name: the order does not depend on the split."""
        return tuple(sorted((*self.training, *self.validation), key=lambda case: case.name))

    def grid(self, settings: DataSettings) -> Grid:
        """The grid that a model sees; beside CT, other channels are not seen through the window."""
        ct = tuple(number for number, name in enumerate(self.channels) if is_ct(name))
        return Grid(settings.spacing_mm, settings.size_px, self.window, windowed=ct)


def open_dataset(settings: DataSettings) -> DataSet:
    """Find the cases that the settings name, split them by patient, and train on those that `train_on` selects.

    Raises:
        VolumeError: the data folder is not what it should be.
        ConfigError: more patients are held out than there are, a data set has no such channel, or no case to train on.
    """
    dataset = _open(settings)
    if settings.field_shift:  # training moves its slices anew in every epoch
        moved = tuple(with_moved_field(case, settings.field_shift) for case in dataset.validation)
        dataset = replace(dataset, validation=moved)
    if not settings.train_on:
        return dataset
    column, _, value = settings.train_on.partition("=")
    selected = tuple(case for case in dataset.training if getattr(case, column) == value)
    if not selected:
        known = ", ".join(sorted({getattr(case, column) for case in dataset.training}))
        raise ConfigError(f"train_on must select cases, but {settings.train_on!r} has none; {column} is one of {known}")
    return replace(dataset, training=selected)


def open_whole(settings: DataSettings) -> DataSet:
    """The cases of a data folder, or of a phantom, all of them held out: to score a model that was trained on others.

    Raises:
        VolumeError: the data folder is not what it should be, or holds no masks.
        ConfigError: it has no such channel.
    """
    if settings.data.startswith("phantom"):
        made = _open_phantom(settings)
        dataset = replace(made, training=(), validation=made.cases)
    else:
        folder = _find(settings)
        patients = frozenset(scan.patient for scan in folder.scans if scan.label is not None)
        dataset = _dataset(settings, folder, patients)
    moved = tuple(with_moved_field(case, settings.field_shift) for case in dataset.validation)
    return replace(dataset, validation=moved) if settings.field_shift else dataset


def with_moved_field(case: Case, share: float) -> Case:
    """The case as a field of view shows it that lies off the middle by up to `share` of a side, in the plane.

    How far is decided by the case's name. What leaves the picture is lost, and what comes in is as dark as its darkest
    voxel; every voxel stays where it was in the world.
    """
    random = np.random.default_rng(zlib.crc32(case.name.encode()))
    down, right = random.uniform(-share, share, 2)

    def step_in(shape: tuple[int, ...]) -> tuple[int, int]:
        return round(down * shape[1]), round(right * shape[2])

    def load() -> tuple[Volume, Volume]:
        image, labels = case.load()
        step = step_in(image.shape)
        affine = image.affine @ nib.affines.from_matvec(np.eye(3), [0, *step])
        dark = [_moved(channel, step, channel.min()) for channel in image.channels]
        moved = replace(image, array=dark[0], more=tuple(dark[1:]), affine=affine, stored=None)
        return moved, moved.like(_moved(labels.array, step, 0))

    moved = replace(case, load=load, reading=f"{case.reading} moved by {share:g}")
    if (evidence_px := case.evidence_px) is None:
        return moved

    def moved_evidence_px() -> Float32[np.ndarray, "D H W"]:
        away = evidence_px()
        return _moved(away, step_in(away.shape), np.nan)

    return replace(moved, evidence_px=moved_evidence_px)


def _moved(array: Num[np.ndarray, "D H W"], step: tuple[int, int], fill: Any) -> Num[np.ndarray, "D H W"]:
    """What a window shows that was moved by so many rows and columns over the array."""
    out = np.full_like(array, fill)
    (down, right), (_, height, width) = step, array.shape
    seen = array[:, max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]
    top, left = max(-down, 0), max(-right, 0)
    out[:, top : top + seen.shape[1], left : left + seen.shape[2]] = seen
    return out


def _open(settings: DataSettings) -> DataSet:
    if settings.data.startswith("phantom"):
        return _open_phantom(settings)
    folder = _find(settings)
    return _dataset(settings, folder, _held_out(settings, folder))


def _find(settings: DataSettings) -> ScanFolder:
    match settings.data:
        case "acdc":
            folder = acdc.find_scans(settings.data_dir)
        case "synapse":
            folder = synapse.find_scans(settings.data_dir)
        case _:
            folder = decathlon.find_scans(settings.data_dir, settings.channel, settings.fold)
    for line in beside_scans(Path(settings.data_dir), folder.scans):
        aside(line)
    for line in folder.missing:
        aside(f"{settings.data_dir}: {line}")
    if folder.problems:
        others = f" {len(folder.problems) - 1} more such: see `l2gnet data check`." * (len(folder.problems) > 1)
        raise VolumeError(f"{folder.problems[0]}{others}")
    if settings.structures:
        folder = folder.with_structures(settings.structure_names)
    if all(scan.label is None for scan in folder.scans):
        raise volume_error(settings.data_dir, "the folder must hold scans with masks", "none", "copy the masks, too")
    return folder


def _dataset(settings: DataSettings, folder: ScanFolder, validation: frozenset[str]) -> DataSet:
    cases = [_case(scan) for scan in folder.scans if scan.label is not None]
    if settings.window and folder.window == PREPARED:
        rule = "window must be empty for scans that were prepared, whose grey values lie in 0..1"
        raise ConfigError(f"{settings.data_dir}: {rule}, got {settings.window!r}; leave it out")
    return DataSet(
        name=folder.name,
        classes=folder.classes,
        training=tuple(case for case in cases if case.patient not in validation),
        validation=tuple(case for case in cases if case.patient in validation),
        citation=folder.citation,
        licence=folder.licence,
        window=settings.window_range or folder.window,
        channels=folder.channels,
        regions=folder.regions,
    )


def _held_out(settings: DataSettings, folder: ScanFolder) -> frozenset[str]:
    """The patients to validate on: those of the data set's own split, or else as many as the settings say."""
    scans = [scan for scan in folder.scans if scan.label is not None]
    patients, wanted = {scan.patient for scan in scans}, settings.validation_patients
    if folder.test_patients:
        if not folder.test_patients & patients or folder.test_patients >= patients:
            rule = f"{folder.name} with masks must hold patients of its test list ({min(folder.test_patients)} ...)"
            found = ", ".join(sorted(patients)) or "none"
            raise volume_error(settings.data_dir, f"{rule} and others", found, "copy the whole data set")
        for line in counted(folder.test_patients - patients, "test case", "of the data set's own split, but not here"):
            aside(f"{settings.data_dir}: {line}")
        return folder.test_patients & patients
    if wanted >= len(patients):
        rule = f"validation_patients must be below the {len(patients)} patients with masks"
        raise ConfigError(f"{settings.data_dir}: {rule}, got {wanted}")
    return frozenset(split_patients(scans, (len(patients) - wanted, wanted), seed=settings.split_seed)[1])


def _case(scan: Scan) -> Case:
    reading = repr((scan.channels, scan.class_of))
    return Case(scan.name, scan.patient, scan.group, scan.phase, scan.read, scan.files, reading)


def _open_phantom(settings: DataSettings) -> DataSet:
    # Seeds of patients lie so far apart that another split means other patients, beyond the thousandth ones too.
    seeds = [
        patient // 1000 * _BEYOND_SPLITS + 1000 * settings.split_seed + patient % 1000
        for patient in range(settings.patients)
    ]
    kind = KINDS[settings.data]
    cases = [_made_case(kind, seed) for seed in seeds]
    first_training = settings.validation_patients
    return DataSet(
        name=settings.data,
        classes=kind.classes,
        training=tuple(cases[first_training:]),
        validation=tuple(cases[:first_training]),
        citation="synthetic: l2gnet.data.phantoms",
        licence="free: it is made, not measured",
        window=settings.window_range or kind.window,
    )


def _made_case(kind: Kind, seed: int) -> Case:
    patient, phase = f"{kind.stem}{seed:05d}", kind.phases[seed % len(kind.phases)]
    evidence_px = None if kind.evidence_px is None else functools.partial(kind.evidence_px, seed)
    name = f"{patient}_{phase}" if phase else patient
    return Case(name, patient, "phantom", phase, lambda: placed(kind.make(seed)), evidence_px=evidence_px)
