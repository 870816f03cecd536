"""What names of files say: the ending of NIfTI, and the number of a channel as nnU-Net has it, CASE_0000.nii.gz."""

import re
from pathlib import Path

NIFTI = (".nii.gz", ".nii")  # in small letters or in capitals
_ENDING = re.compile(r"(\.nii(\.gz)?)?$", re.IGNORECASE)
_CHANNEL = re.compile(r"(?<=.)_([0-9]{4})$")


def case_name(file: str) -> str:
    """The name of a NIfTI file without folder and ending, which for a label map is that of its case."""
    return _ENDING.sub("", Path(file).name)


def without_channel(name: str) -> str:
    """The name of a case without the number of a channel, if it has one."""
    return _CHANNEL.sub("", name)


def channel_of(name: str) -> int | None:
    """The number of a channel at the end of a name of a case."""
    matched = _CHANNEL.search(name)
    return int(matched[1]) if matched else None


def of_channel(file: str, channel: int) -> str:
    """The name of the file of a channel, with the folder and the ending of the file of its case."""
    return _ENDING.sub(lambda ending: f"_{channel:04d}{ending[0]}", file, count=1)
