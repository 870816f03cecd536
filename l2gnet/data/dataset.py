"""A data set as the rest of the library sees it: classes, and cases for training and for validation."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from l2gnet.data import acdc, phantom
from l2gnet.data.volume import Volume
from l2gnet.errors import ConfigError
from l2gnet.settings import TrainSettings


@dataclass(frozen=True)
class Case:
    """One labelled volume: who, which group and phase, how to load image and labels, and from which files."""

    name: str
    patient: str
    group: str
    phase: str
    load: Callable[[], tuple[Volume, Volume]]
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class DataSet:
    """Cases of a data set, split by patient."""

    name: str
    classes: tuple[str, ...]
    training: tuple[Case, ...]
    validation: tuple[Case, ...]
    citation: str

    @property
    def cases(self) -> tuple[Case, ...]:
        """All cases, by name: the order does not depend on the split."""
        return tuple(sorted((*self.training, *self.validation), key=lambda case: case.name))


def open_dataset(settings: TrainSettings) -> DataSet:
    """Find the cases that the settings name and split them by patient.

    Raises:
        VolumeError: the data folder is not what it should be.
        ConfigError: more patients are held out than there are.
    """
    if settings.data == "acdc":
        return _open_acdc(settings)
    return _open_phantom(settings)


def _open_acdc(settings: TrainSettings) -> DataSet:
    frames = [frame for frame in acdc.find_frames(settings.data_dir) if frame.label is not None]
    patients = len({frame.patient for frame in frames})
    held_out = settings.validation_patients
    if held_out >= patients:
        raise ConfigError(
            f"{settings.data_dir}: validation_patients must be below the {patients} patients with masks, got {held_out}"
        )
    _, validation = acdc.split_patients(frames, (patients - held_out, held_out), seed=settings.seed)
    cases = [Case(frame.name, frame.patient, frame.group, frame.phase, frame.read, frame.files) for frame in frames]
    return DataSet(
        name="acdc",
        classes=acdc.CLASSES,
        training=tuple(case for case in cases if case.patient not in validation),
        validation=tuple(case for case in cases if case.patient in validation),
        citation=acdc.CITATION,
    )


def _open_phantom(settings: TrainSettings) -> DataSet:
    # Seeds of patients lie far apart from run to run, so that another seed means other hearts.
    cases = [_phantom_case(1000 * settings.seed + patient) for patient in range(settings.patients)]
    first_training = settings.validation_patients
    return DataSet(
        name="phantom",
        classes=phantom.HEART_CLASSES,
        training=tuple(cases[first_training:]),
        validation=tuple(cases[:first_training]),
        citation="synthetic: l2gnet.data.phantom",
    )


def _phantom_case(seed: int) -> Case:
    phase: Literal["ED", "ES"] = "ED" if seed % 2 == 0 else "ES"

    def load() -> tuple[Volume, Volume]:
        heart = phantom.make_heart(seed, phase=phase)
        depth_mm, row_mm, column_mm = heart.spacing_mm
        # Array axes point to S, P, L; the world is RAS.
        affine = np.array([[0, 0, -column_mm, 0], [0, -row_mm, 0, 0], [depth_mm, 0, 0, 0], [0, 0, 0, 1]], dtype=float)
        image = Volume(heart.image[::-1].copy(), affine)  # the phantom runs from base to apex, which is downwards
        return image, image.like(heart.label[::-1].copy())

    return Case(f"phantom{seed:05d}_{phase}", f"phantom{seed:05d}", "phantom", phase, load)
