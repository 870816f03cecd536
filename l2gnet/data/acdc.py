"""ACDC, the Automated Cardiac Diagnosis Challenge: short-axis cine MR with expert masks at two phases of the beat.

Bernard et al., IEEE TMI 37(11), 2018, doi 10.1109/TMI.2018.2837502. The data's terms: cite it, non-commercial research.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from l2gnet.data.volume import Volume, read_labels, read_volume, require_same_grid, volume_error
from l2gnet.errors import ConfigError, VolumeError

CLASSES = ("background", "right ventricle", "myocardium", "left ventricle")
GROUPS = ("NOR", "MINF", "DCM", "HCM", "RV")
CITATION = (
    "O. Bernard, A. Lalande, C. Zotti, F. Cervenansky, et al. Deep Learning Techniques for Automatic MRI Cardiac "
    "Multi-structures Segmentation and Diagnosis: Is the Problem Solved? IEEE Transactions on Medical Imaging 37(11), "
    "2514-2525, 2018. doi:10.1109/TMI.2018.2837502"
)
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Frame:
    """One phase of one patient: end-diastole (ED) or end-systole (ES); `label` is None where there is no mask."""

    patient: str
    phase: Literal["ED", "ES"]
    group: str
    image: Path
    label: Path | None

    @property
    def name(self) -> str:
        """Patient and phase, as in "patient001_ED"."""
        return f"{self.patient}_{self.phase}"

    @property
    def files(self) -> tuple[Path, ...]:
        """The image's file and, where there is one, the mask's."""
        return (self.image,) if self.label is None else (self.image, self.label)

    def read(self) -> tuple[Volume, Volume]:
        """Return the image and its mask; raises VolumeError where one is missing or damaged or the two do not fit."""
        if self.label is None:
            rule = f"{self.name} must have a mask to be trained on or scored"
            raise volume_error(self.image, rule, "none", "leave this frame out, or copy its _gt file")
        image, mask = read_volume(self.image), _read_mask(self.label)
        require_same_grid(image, mask, self.image, self.label)
        return image, mask


@dataclass(frozen=True)
class Report:
    """What `check` found: every problem and note in words, and counts over the frames that could be read."""

    problems: list[str]
    notes: list[str]
    patients: int
    frames: int
    slices: int
    groups: dict[str, int]
    spacing_mm: tuple[tuple[float, float], ...]  # smallest and largest along D, H, W; empty when nothing was readable

    def __str__(self) -> str:
        groups = ", ".join(f"{name} {count}" for name, count in self.groups.items())
        spacing = " x ".join(f"{low:.3g}-{high:.3g}" for low, high in self.spacing_mm)
        lines = [f"{self.patients} patients ({groups}), {self.frames} frames, {self.slices} slices"]
        lines += [f"spacing {spacing} mm (D x H x W)"] if spacing else []
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"problem: {problem}" for problem in self.problems]
        return "\n".join([*lines, f"{len(self.problems) or 'no'} problem{'s' * (len(self.problems) != 1)}"])


def find_frames(data_dir: str | Path) -> list[Frame]:
    """List the ED and ES frames of every patient, by name; `data_dir` holds patientNNN folders, or `training/` does.

    Raises VolumeError for the first patient whose Info.cfg or frame is missing or malformed; `check` lists all.
    """
    frames, problems = _scan(Path(data_dir))
    if problems:
        raise problems[0]
    return frames


def check(data_dir: str | Path) -> Report:
    """Read every image and mask and report all that is wrong; raises VolumeError only if there is no patient."""
    frames, errors = _scan(Path(data_dir))
    problems = [str(error) for error in errors]
    notes: list[str] = []
    spacings_mm: list[tuple[float, float, float]] = []
    slices = 0

    def attempt(step: Callable[..., _Result], *arguments: object) -> _Result | None:
        try:
            return step(*arguments)
        except VolumeError as error:
            problems.append(str(error))
            return None

    for frame in frames:
        image = attempt(read_volume, frame.image)
        mask = attempt(_read_mask, frame.label) if frame.label else None
        if image:
            spacings_mm.append(image.spacing_mm)
            slices += image.shape[0]
        if image and mask:
            attempt(require_same_grid, image, mask, frame.image, frame.label)
        if mask:
            absent = [name for label, name in enumerate(CLASSES) if not (mask.array == label).any()]
            notes += [f"{frame.name}: no {name} in the mask" for name in absent]
        if frame.label is None:
            notes.append(f"{frame.name}: no mask; it can be segmented, but neither trained on nor scored")

    group_of = {frame.patient: frame.group for frame in frames}
    counts = Counter(group_of.values())
    return Report(
        problems=problems,
        notes=notes,
        patients=len(group_of),
        frames=len(spacings_mm),
        slices=slices,
        groups={group: counts[group] for group in GROUPS},
        spacing_mm=tuple((min(axis), max(axis)) for axis in zip(*spacings_mm, strict=True)),
    )


def split_patients(frames: Sequence[Frame], counts: Sequence[int] = (80, 20), seed: int = 0) -> tuple[list[str], ...]:
    """Deal all patients into lists of the given sizes, each with the diagnosis groups in proportion, fixed by `seed`.

    (80, 20) makes training and validation of the official 100; (70, 10, 20) the lists of many papers' comparisons
    (of those proportions: not the patients of any one paper). Raises ConfigError unless the counts are positive and
    sum to the number of patients.
    """
    group_of = {frame.patient: frame.group for frame in sorted(frames, key=lambda frame: frame.name)}
    if min(counts, default=0) < 1 or sum(counts) != len(group_of):
        raise ConfigError(
            f"Split counts must be positive and sum to the number of patients, {len(group_of)}; found {tuple(counts)}; "
            "change the counts or the data folder."
        )
    shuffled = np.random.default_rng(seed).permutation(list(group_of)).tolist()
    place: dict[str, float] = {}  # within the patient's group, from 0 to 1: sorting by it interleaves the groups
    for group in GROUPS:
        members = [patient for patient in shuffled if group_of[patient] == group]
        place |= {patient: (rank + 0.5) / len(members) for rank, patient in enumerate(members)}
    interleaved = iter(sorted(shuffled, key=lambda patient: place[patient]))
    return tuple(sorted(next(interleaved) for _ in range(count)) for count in counts)


def _scan(data_dir: Path) -> tuple[list[Frame], list[VolumeError]]:
    """Return all frames found, sorted by name, and all errors; raises VolumeError if there is no patient folder."""
    if not data_dir.is_dir():
        raise volume_error(data_dir, "the ACDC data must be a folder", "none", "check the path")
    folders = _patient_folders(data_dir) or _patient_folders(data_dir / "training")
    if not folders:
        raise volume_error(data_dir, "the folder must hold patientNNN folders", "none", "name the folder they lie in")
    frames: list[Frame] = []
    errors: list[VolumeError] = []
    for folder in folders:
        try:
            info = _read_info(folder / "Info.cfg")
        except VolumeError as error:
            errors.append(error)
            continue
        for phase in ("ED", "ES"):
            try:
                frames.append(_frame(folder, info, phase))
            except VolumeError as error:
                errors.append(error)
    return frames, errors


def _patient_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if re.fullmatch("patient[0-9]{3}", path.name) and path.is_dir())


def _read_info(path: Path) -> dict[str, str]:
    """Read the `key: value` lines of an Info.cfg and check the group."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise volume_error(path, "a patient needs a readable Info.cfg", error, "copy the patient again") from error
    info = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if info.get("Group") not in GROUPS:
        raise volume_error(path, f"Group must be one of {', '.join(GROUPS)}", info.get("Group"), "correct that line")
    return info


def _frame(folder: Path, info: dict[str, str], phase: Literal["ED", "ES"]) -> Frame:
    number = info.get(phase)
    if not (number and re.fullmatch("[0-9]{1,3}", number)):
        rule = f"{phase} must be the number of a frame"
        raise volume_error(folder / "Info.cfg", rule, number, "correct that line")
    stem = f"{folder.name}_frame{int(number):02d}"
    image = _nifti(folder, stem)
    if image is None:
        rule = f"the {phase} frame that Info.cfg names must exist"
        raise volume_error(folder / f"{stem}.nii.gz", rule, "none", "copy the patient again")
    return Frame(folder.name, phase, info["Group"], image, _nifti(folder, f"{stem}_gt"))


def _nifti(folder: Path, stem: str) -> Path | None:
    return next((path for suffix in (".nii.gz", ".nii") if (path := folder / (stem + suffix)).is_file()), None)


def _read_mask(path: Path) -> Volume:
    mask = read_labels(path)
    unknown = np.unique(mask.array[mask.array >= len(CLASSES)]).tolist()
    if unknown:
        rule = f"labels must lie in 0..{len(CLASSES) - 1}"
        raise volume_error(path, rule, unknown, "use an ACDC mask, or name the data set it belongs to")
    return mask
