"""Viewers that take a scan which a person drops on them: it comes in parts, the next when the last has been taken."""

import shutil
import tempfile
import weakref
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

from l2gnet.widgets.viewer import Viewer

from l2gnet.errors import VolumeError


class Dropping(Viewer):
    """A viewer on which scans can be dropped; `sendFile` of js/files.js sends them."""

    _drop: "Drop | None" = None

    @abstractmethod
    def dropped(self, path: Path) -> None:
        """Take over a scan that is there."""

    def _on_drop(self, name: str, start: int, size: int, parts: Sequence[memoryview]) -> None:
        """Take a part of a file; the browser waits for the answer with the next one."""
        try:
            if start == 0:
                self._drop = Drop(name, size)
            if self._drop is not None and self._drop.take(start, parts[0]):
                self.dropped(self._drop.path)
            self.send({"taken": start + len(parts[0])})
        except Exception:
            self.send({"taken": -1})
            raise


class Drop:
    """A scan that comes in parts, as a file that is gone when nobody looks at it any more.

    Args:
        name: of the file that was dropped; only its ending is kept.
        size: bytes of it.

    Raises:
        VolumeError: its name is not that of a NIfTI file.
    """

    def __init__(self, name: str, size: int):
        ending = next((end for end in (".nii.gz", ".nii") if name.lower().endswith(end)), None)
        if ending is None:
            rule = "a scan that is dropped must be a NIfTI file, .nii or .nii.gz"
            raise VolumeError(f"{rule}; found another; name DICOM folders on the command line: l2gnet view MODEL SCAN.")
        self.size = size
        folder = tempfile.mkdtemp(prefix="l2gnet-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.path = Path(folder) / f"scan{ending}"

    def take(self, start: int, part: memoryview) -> bool:
        """Keep a part; says whether it was the last one.

        Raises:
            ValueError: it does not follow the one before.
        """
        with self.path.open("ab") as file:
            if file.tell() != start:
                raise ValueError(f"the parts of a file must follow each other, got one from {start}; drop it again")
            file.write(part)
            return file.tell() >= self.size
