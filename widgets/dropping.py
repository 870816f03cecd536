"""Viewers that take a scan which a person drops on them: it comes in parts, the next when the last has been taken."""

import lzma
import re
import shutil
import tempfile
import time
import weakref
import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from l2gnet.widgets.viewer import RefusedError, Viewer

from l2gnet.data.inputs import LABEL_MAPS, OF_LABELS
from l2gnet.data.names import NIFTI, case_name
from l2gnet.errors import VolumeError

_DICOM = re.compile(r"[^.]*|.*\.(dcm|dicom|ima|\d+)")  # scanners name files by numbers, with dots in them, or not
# What a name says to l2gnet/data/inputs.py: a label map, a frame, a channel. It says nothing of a patient.
_TAIL = re.compile(rf"({'|'.join(LABEL_MAPS)}|_frame\d+|_000\d)*$", re.IGNORECASE)
_DAMAGES = (zipfile.BadZipFile, zlib.error, lzma.LZMAError)  # of an archive, and of what is packed in it
_MOST_BYTES = 16 << 30  # that an archive may unpack to
_LONGEST_PAUSE_S = 30.0  # of a page that is sending a scan; after it that page is taken to be gone


class Dropping(Viewer):
    """A viewer on which scans can be dropped: a file, several, a folder or an archive; js/files.js sends them."""

    _drop: "Drop | None" = None

    @abstractmethod
    def dropped(self, folder: Path) -> None:
        """Read what is there, a folder that holds NIfTI or DICOM files; it is gone afterwards."""

    def require_ready(self) -> None:
        """Raise RefusedError where no scan can be taken now: a drop then ends before all of it has come."""

    def close(self) -> None:
        """Leave the browser, and free all memory and files that are held here and there."""
        self._end_drop()
        super().close()

    def _on_drop(
        self,
        name: str,
        start: int,
        size: int,
        parts: Sequence[memoryview],
        number: int = 0,
        count: int = 1,
        of: str = "",
    ) -> None:
        """Take a part of file `number` of `count`, `of` a drop; its page waits for the answer with the next one."""
        answer = {"of": of, "taken": -1}
        if self._drop is not None and self._drop.key != of and not self._drop.abandoned:
            rule = "another scan is on its way here, perhaps from another page; drop this one again when it is here"
            self.send(answer | {"refused": f"{rule}, or in half a minute if that page was closed"})
            return
        try:
            if start == number == 0:
                self.error = ""  # it was said of a scan before
                self.require_ready()
                self._drop = Drop(of, count)
            if self._drop is None or self._drop.key != of:
                raise RefusedError(f"a scan must come from its start on, got file {number} from {start}; drop it again")
            taken = self._drop.take(number, name, start, parts[0], size)
            if taken >= size and number == count - 1:
                self._drop.unpack()
                self.dropped(self._drop.folder)
                self._end_drop()
            self.send(answer | {"taken": taken})
        except Exception as error:
            self.send(answer)
            drop = self._drop
            self._end_drop()
            if not isinstance(error, VolumeError) or drop is None:
                raise
            places = rf"{re.escape(str(drop.folder))}(/[\w./-]+)?"  # which nobody has ever seen
            raise VolumeError(re.sub(places, "what was dropped", str(error))) from error

    def _end_drop(self) -> None:
        """Leave nothing of a patient on the disk: a program that is killed cannot tidy up any more."""
        if self._drop is not None:
            self._drop.close()
            self._drop = None


class Drop:
    """Files that come in parts, in a folder that is gone when it is closed, at the latest with the program.

    Their names become numbers, with what tells that a NIfTI file is a label map, a frame or a channel of a case. Files
    of a folder that are no scan, by their names, are passed over.

    Args:
        key: what tells it from the drops of other pages.
        count: how many there are.
    """

    def __init__(self, key: str, count: int):
        self.key, self.count = key, count
        self._heard = time.monotonic()
        self._places: dict[int, Path] = {}
        self._cases: dict[tuple[PurePosixPath, str], str] = {}  # the number of each, by folder and name
        self.folder = Path(tempfile.mkdtemp(prefix="l2gnet-"))
        self.close = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def take(self, number: int, name: str, start: int, part: memoryview, size: int) -> int:
        """Keep a part of a file, of which a page may tell the folder, too; says how much of it is dealt with.

        Raises:
            VolumeError: the only file is none that a scan could be in, by its name.
            RefusedError: the part does not follow the one before.
        """
        self._heard = time.monotonic()
        ending = _ending(name)
        if ending is None and self.count == 1:
            rule = "a scan that is dropped must be NIfTI (.nii, .nii.gz), DICOM (.dcm), a folder or a .zip of it"
            raise VolumeError(f"{rule}; found another file; drop one of these.")
        if ending is None:
            return size
        if number not in self._places:
            self._places[number] = self._place(f"{number:06d}", PurePosixPath(name), ending)
        with self._places[number].open("ab") as file:
            if file.tell() != start:
                raise RefusedError(f"the parts of a file must follow each other, got one from {start}; drop it again")
            file.write(part)
            return file.tell()

    def _place(self, number: str, path: PurePosixPath, ending: str) -> Path:
        """Where a file is kept: by its number, or for NIfTI by that of its case, the first one's, and its tail."""
        if ending not in NIFTI:
            return self.folder / f"{number}{ending}"
        folder = self.folder / (path.parent.name if path.parent.name in OF_LABELS else "")
        folder.mkdir(exist_ok=True)
        name = case_name(path.name)
        case = path.parent, _TAIL.sub("", name)
        tail = name.removeprefix(case[1]) + ending
        if (folder / f"{self._cases.setdefault(case, number)}{tail}").exists():  # one of a folder that was not told
            self._cases[case] = number
        return folder / f"{self._cases[case]}{tail}"

    @property
    def abandoned(self) -> bool:
        """Whether the page that sent it seems to be gone."""
        return time.monotonic() - self._heard > _LONGEST_PAUSE_S

    def unpack(self) -> None:
        """Put the files of archives in the place of these.

        Raises:
            VolumeError: an archive is damaged, locked or too large, or no file is left.
        """
        for path in sorted(self.folder.glob("*.zip")):
            try:
                self._unpack(path)
            except VolumeError:
                raise
            # A stranger's bytes can be wrong in more ways than zipfile has a name for.
            except (*_DAMAGES, RuntimeError, NotImplementedError, OSError, ValueError, EOFError) as error:
                raise VolumeError(f"an archive must be whole and open to all; got: {error}; pack it again.") from error
            path.unlink()
        if not any(self.folder.iterdir()):
            raise VolumeError("what is dropped must hold NIfTI or DICOM files; found none; drop the folder of a scan.")

    def _unpack(self, path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            size = sum(entry.file_size for entry in entries)
            if size > _MOST_BYTES:
                raise VolumeError(f"an archive must unpack to at most 16 GiB; got {size >> 30} GiB; drop the folder.")
            for number, entry in enumerate(entries):
                ending = _ending(entry.filename)
                if ending is None or ending == ".zip":
                    continue
                place = self._place(f"{path.stem}-{number:06d}", PurePosixPath(path.stem, entry.filename), ending)
                with archive.open(entry) as packed, place.open("wb") as file:
                    shutil.copyfileobj(packed, file)


def _ending(name: str) -> str | None:
    """The ending that a file is kept with, by its name; None for what is no scan."""
    name = PurePosixPath(name).name.lower()
    if name.startswith(".") or name == "dicomdir":
        return None
    found = next((end for end in (".nii.gz", ".nii", ".zip") if name.endswith(end)), None)
    return found or (".dcm" if _DICOM.fullmatch(name) else None)
