"""ACDC, the Automated Cardiac Diagnosis Challenge: short-axis cine MR with expert masks at two phases of the beat.

Bernard et al., IEEE TMI 37(11), 2018, doi 10.1109/TMI.2018.2837502. The data's terms: cite it, non-commercial research.
"""

import re
from pathlib import Path
from typing import Literal

from l2gnet.data.beside import is_nifti
from l2gnet.data.folders.scan import Scan, ScanFolder, counted, require_inside, without_masks
from l2gnet.data.names import NIFTI
from l2gnet.errors import VolumeError, volume_error

CLASSES = ("background", "right ventricle", "myocardium", "left ventricle")
GROUPS = ("NOR", "MINF", "DCM", "HCM", "RV")
LICENCE = "non-commercial research only, with citation"
CITATION = (
    "O. Bernard, A. Lalande, C. Zotti, F. Cervenansky, et al. Deep Learning Techniques for Automatic MRI Cardiac "
    "Multi-structures Segmentation and Diagnosis: Is the Problem Solved? IEEE Transactions on Medical Imaging 37(11), "
    "2514-2525, 2018. doi:10.1109/TMI.2018.2837502"
)


def is_acdc(data_dir: Path) -> bool:
    """Whether a folder holds patientNNN folders, or its `training/` does."""
    return bool(_patient_folders(data_dir) or _patient_folders(data_dir / "training"))


def find_scans(data_dir: str | Path) -> ScanFolder:
    """The ED and ES frames of every patient, by name, as in "patient001_ED"; `label` is None without a mask.

    `data_dir` holds patientNNN folders, or its `training/` does; raises VolumeError if there is none.
    """
    data_dir = Path(data_dir)
    if not data_dir.is_dir():
        raise volume_error(data_dir, "the ACDC data must be a folder", "none", "check the path")
    folders = _patient_folders(data_dir) or _patient_folders(data_dir / "training")
    if not folders:
        raise volume_error(data_dir, "the folder must hold patientNNN folders", "none", "name the folder they lie in")
    frames: list[Scan] = []
    errors: list[VolumeError] = []
    alone: list[str] = []  # masks of other moments than those that Info.cfg names
    for folder in folders:
        try:
            require_inside(data_dir, folder / "Info.cfg")
            info = _read_info(folder / "Info.cfg")
        except VolumeError as error:
            errors.append(error)
            continue
        alone += _masks_alone(folder) - {_stem(folder, info, phase) for phase in ("ED", "ES")}
        for phase in ("ED", "ES"):
            try:
                frame = _frame(folder, info, phase)
                require_inside(data_dir, *frame.files)
                frames.append(frame)
            except VolumeError as error:
                errors.append(error)
    missing = (*without_masks(frames), *counted(alone, "mask", "without an image"))
    return ScanFolder("acdc", CLASSES, tuple(frames), tuple(errors), CITATION, licence=LICENCE, missing=missing)


def _patient_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if re.fullmatch("patient[0-9]{3}", path.name) and path.is_dir())


def _masks_alone(folder: Path) -> set[str]:
    masks = {path.name.partition("_gt.nii")[0] for path in folder.glob("*_gt.nii*") if is_nifti(path)}
    return {stem for stem in masks if _nifti(folder, stem) is None}


def _stem(folder: Path, info: dict[str, str], phase: str) -> str:
    """The name of a frame, without its ending; empty where Info.cfg has no number for it."""
    number = info.get(phase) or ""
    return f"{folder.name}_frame{int(number):02d}" if re.fullmatch("[0-9]{1,3}", number) else ""


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


def _frame(folder: Path, info: dict[str, str], phase: Literal["ED", "ES"]) -> Scan:
    stem = _stem(folder, info, phase)
    if not stem:
        rule = f"{phase} must be the number of a frame"
        raise volume_error(folder / "Info.cfg", rule, info.get(phase), "correct that line")
    if phase == "ES" and stem == _stem(folder, info, "ED"):
        value = f"{info['ED']} for both"
        raise volume_error(folder / "Info.cfg", "ED and ES must be two frames", value, "correct the wrong line")
    image = _nifti(folder, stem)
    if image is None:
        rule = f"the {phase} frame that Info.cfg names must exist"
        raise volume_error(folder / f"{stem}.nii.gz", rule, "none", "copy the patient again")
    name, mask = f"{folder.name}_{phase}", _nifti(folder, f"{stem}_gt")
    return Scan(name, folder.name, image, mask, CLASSES, group=info["Group"], phase=phase)


def _nifti(folder: Path, stem: str) -> Path | None:
    return next((path for suffix in NIFTI if (path := folder / (stem + suffix)).is_file()), None)
