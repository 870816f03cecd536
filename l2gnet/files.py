"""Writing files so that nothing is lost: a temporary name in the same folder, flushed, then moved."""

import fcntl
import functools
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from l2gnet.errors import BusyError, ConfigError

_TEMPORARY = ".writing-"
_LONGEST_S = 24 * 60 * 60  # that writing a file takes


def walk_links(top: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As `os.walk`, and behind links to folders too (rglob enters none) unless they lead back up."""
    for name, folders, files in os.walk(top, followlinks=True):
        here = Path(name)
        above = {each.resolve() for each in (here, *here.parents)}
        folders[:] = [each for each in folders if (here / each).resolve() not in above]
        yield here, folders, files


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and move it into place, else remove it.

    The temporary name keeps the ending of `path`, as .nii.gz, because writers choose their format by it. What a writer
    that was killed left in the folder is removed after a day.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_remains(path.parent)
    ending = "".join(path.suffixes[-2:]) if path.suffix.lower() == ".gz" else path.suffix
    handle, name = tempfile.mkstemp(prefix=_TEMPORARY, suffix=ending, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes private files; these are ordinary results
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def sole_writer(lock: Path) -> Iterator[None]:
    """Hold the lock of a folder; the system lets go of it when the process ends, however it ends.

    What a writer that was killed left half-written is removed.

    Raises:
        BusyError: another process holds it.
        ConfigError: its disk has no locks, as some that are reached over a network.
    """
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                f"{lock.parent} must have one writer, but a job is running there; wait until it ends"
            ) from None
        except OSError as error:
            rule = "a folder of results must lie where files can be locked"
            raise ConfigError(f"{lock.parent}: {rule}, got: {error.strerror}; name one on another disk") from error
        for remains in lock.parent.glob(f"{_TEMPORARY}*"):
            remains.unlink()
        yield


@functools.cache
def _remove_remains(folder: Path) -> None:
    """Remove what was left half-written, a day ago or earlier; once a process, as folders of results are large."""
    for remains in folder.glob(f"{_TEMPORARY}*"):
        with suppress(OSError):  # another writer does the same, or it is another user's
            if time.time() - remains.stat().st_mtime > _LONGEST_S:
                remains.unlink()


def content_hash(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal; a file that has not changed meanwhile is read once a process."""
    state = path.stat()
    return _hash(path, state.st_size, state.st_mtime_ns)


@functools.cache
def _hash(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` to `path` atomically, as indented JSON that refuses NaN and infinity."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """The value of a JSON file that `write_json` wrote."""
    return json.loads(Path(path).read_text(encoding="utf-8"))
