"""What could tell who a patient or a user is, in files that are passed on: found, and taken out of what a job writes.

Nothing here proves that a file is anonymous: a face can be seen in a head scan, and a name that nobody listed is not
known to be one.
"""

import codecs
import gzip
import io
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2gnet.checks import nearest_path, require_path
from l2gnet.errors import ConfigError
from l2gnet.files import walk_links

SECRET = "(secret)"  # ends the help of a parameter whose value must not be kept
_END = r"[^/\\\s\"'<>`:;,)\]]+"
# No part of a longer word or path, but it may follow a colour of the terminal, a line break in JSON, or file://.
_START = r"(?:(?<![\w.~/-])|(?<=\x1b\[\dm)|(?<=\x1b\[\d\dm)|(?<=\\[nt])|(?<=file://))"
_HOME = rf"{_START}(?:(?:/[\w.-]+){{0,3}}?/(?:home|Users)/{_END}|/root)(?![\w.-])|\b[A-Za-z]:\\+Users\\+{_END}"
_DATA_PATH = re.compile(
    rf"{_START}/(?:data|gpfs|lustre|media|mnt|net|nfs|scratch|srv|storage|Volumes|work)/{_END}|\b[A-Z]:\\+{_END}"
)
_E_MAIL = re.compile(r"(?<![\w.@-])[\w.+-]+@(?:[\w-]+\.)+[A-Za-z]{2,}\b")
_PRINTABLE = re.compile(rb"[ -~]{6,}")
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f-\x9f]")  # what no text has in Latin-1
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"\x28\xb5\x2f\xfd", b"Rar!")
_FREE_TEXT = ("descrip", "aux_file", "intent_name", "data_type", "db_name")
_HEADER_BYTES = 2**20  # an extension that is longer is reported by its beginning
_SHORTEST = 8  # characters of a secret that is looked for in running text


@dataclass(frozen=True)
class Finding:
    """Something that may identify a person: in which file, where in it, what kind, and the words themselves."""

    file: Path
    where: str
    kind: str
    words: str

    def __str__(self) -> str:
        return f"{self.file}, {self.where}: {self.kind} {self.words!r}"


def home_path() -> re.Pattern[str]:
    """What home folders look like in text, and that of whoever runs this, wherever it lies."""
    own = os.path.expanduser("~")  # noqa: PTH111 (Path.home raises where nobody knows)
    own_too = rf"|{_START}{re.escape(own)}(?![\w.-])" if re.match("/[^/]", own) else ""
    return re.compile(_HOME + own_too)


def find_identifiers(path: str | Path, names: Sequence[str] = ()) -> list[Finding]:
    """Look for paths of home and data folders, e-mail addresses and names in a file, or in all files below a folder.

    Of NIfTI images all free text of the header is reported, extensions and the name that gzip keeps too; of an archive
    that is not numpy's, that nobody looked into it. `names` are those of patients; "Jane Doe" is also found as
    "doe_jane" and "DOE^JANE".

    Raises:
        ConfigError: there is no such file or folder.
    """
    path = Path(path)
    require_path(path)
    below = [folder / name for folder, _, inside in walk_links(path) for name in inside]
    files = [path] if path.is_file() else sorted(file for file in below if file.is_file())
    patterns = {"a home path": home_path(), "a data path": _DATA_PATH, "an e-mail address": _E_MAIL}
    if names:
        patterns["a name"] = _any_of(names)
    return [finding for file in files for finding in _in_file(file, file.relative_to(path.parent), patterns)]


def read_names(path: str | Path) -> list[str]:
    """The names in a text file, one a line.

    Raises:
        ConfigError: the file cannot be read, or has no name.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: a list of names must be a text file, got: {error}{nearest_path(path)}") from error
    names = [line.strip() for line in lines if re.search(r"\w", line)]
    if not names:
        raise ConfigError(f"{path}: a list of names must have a name a line, found none")
    return names


def scrubbed(value: Any, secrets: Mapping[str, Any]) -> Any:
    """A copy of texts, lists and dictionaries with `~` for home paths and `[name]` for the value of each secret."""
    if isinstance(value, str):
        for name, secret in secrets.items():
            for spelling in _spellings(secret):
                value = re.sub(rf"(?<!\w){re.escape(spelling)}(?!\w)", f"[{name}]", value)
        return home_path().sub("~", value)
    if isinstance(value, Mapping):
        return {name: scrubbed(item, secrets) for name, item in value.items()}
    return [scrubbed(item, secrets) for item in value] if isinstance(value, list) else value


def without(values: Mapping[str, Any], secrets: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with `[name]` for the value of each that is secret."""
    return {name: f"[{name}]" if name in secrets else value for name, value in values.items()}


def _spellings(secret: Any) -> list[str]:
    """A secret as it may stand in running text, where it is long enough to be told from ordinary words."""
    if isinstance(secret, list):
        return [spelling for item in secret for spelling in _spellings(item)]
    if not isinstance(secret, str) or not secret:
        return []
    paths = [str(Path(secret).resolve()), str(Path(secret).absolute())]  # a traceback has a path in full
    return sorted({spelling for spelling in (*paths, secret) if len(spelling) >= _SHORTEST}, key=len, reverse=True)


def _any_of(names: Sequence[str]) -> re.Pattern[str]:
    """Each name with its words in this order or the other, whatever lies between them."""
    orders = []
    for name in names:
        words = [re.escape(word) for word in re.findall(r"\w+", name)]
        orders += [r"[\W_]{1,3}".join(order) for order in (words, words[::-1]) if words]
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(orders)})(?![^\W_])", re.IGNORECASE)


def _in_file(file: Path, name: Path, patterns: Mapping[str, re.Pattern[str]]) -> Iterator[Finding]:
    for kind, match in _matches(str(name), patterns):
        yield Finding(file, "its name", kind, match)
    try:
        content = file.read_bytes()
    except OSError as error:
        yield Finding(file, "content", "a file that cannot be read", error.strerror or "")
        return
    if file.name.lower().endswith((".nii", ".nii.gz")):
        yield from _in_image(file, content)
    elif file.suffix == ".npz":
        yield from _in_arrays(file, content, patterns)
    elif _is_archive(content):
        yield Finding(file, "content", "an archive, into which nobody looked", file.suffix)
    if file.suffix == ".safetensors":  # weights follow, whose noise now and then looks like a path
        content = content[8 : 8 + int.from_bytes(content[:8], "little")]
    if content[128:132] == b"DICM":
        yield Finding(file, "header", "a DICOM file, which names its patient", "DICM")
    word, lines = _text(content)
    if word == "text":  # in the noise of a binary file nearly anything looks like an address
        patterns = {kind: pattern for kind, pattern in patterns.items() if kind != "an e-mail address"}
    for number, line in enumerate(lines, start=1):
        for kind, match in _matches(line, patterns):
            yield Finding(file, f"{word} {number}", kind, match)


def _text(content: bytes) -> tuple[str, list[str]]:
    """The lines of a text, or what may be texts in a binary file; and which of both."""
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    with suppress(UnicodeDecodeError):
        return "line", content.decode("utf-16" if wide else "utf-8").splitlines()
    if _BINARY.search(content):
        return "text", [text.decode("ascii") for text in _PRINTABLE.findall(content)]
    return "line", content.decode("latin-1").splitlines()


def _matches(text: str, patterns: Mapping[str, re.Pattern[str]]) -> Iterator[tuple[str, str]]:
    for kind, pattern in patterns.items():
        for match in pattern.finditer(text):
            yield kind, match[0]


def _is_archive(content: bytes) -> bool:
    """Whether these bytes are packed, so that no text can be read in them; a checkpoint is a zip file that is not."""
    if not content.startswith(b"PK\x03\x04"):
        return content.startswith(_PACKED)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist())
    except Exception:  # however it is damaged
        return True


def _in_arrays(file: Path, content: bytes, patterns: Mapping[str, re.Pattern[str]]) -> Iterator[Finding]:
    """The words in a numpy archive, whose bytes are `content`."""
    import numpy as np  # on demand, as nibabel below

    try:
        with np.load(io.BytesIO(content)) as arrays:
            texts = [array for array in map(np.asarray, arrays.values()) if array.dtype.kind in "SU"]
            words = [str(word) for text in texts for word in text.flat]
    except Exception as error:  # however it is damaged
        yield Finding(file, "content", "arrays that cannot be read", str(error))
        return
    for word in words:
        for kind, match in _matches(word, patterns):
            yield Finding(file, "an array", kind, match)


def _in_image(file: Path, content: bytes) -> Iterator[Finding]:
    """The free text of a NIfTI file, whose bytes are `content`."""
    import nibabel as nib  # on demand: a job scrubs words, and reads no image

    if content[:2] == b"\x1f\x8b" and content[3:4] and content[3] & 0b11000:
        kept = content[10:].split(b"\0", 1)[0][:80].decode("latin-1")
        yield Finding(file, "gzip header", "a file name or comment", kept)
    try:
        with gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb") as stream:
            start = stream.read(_HEADER_BYTES)
    except (OSError, EOFError, zlib.error):
        start = b""
    kind = next((kind for kind in (nib.Nifti1Header, nib.Nifti2Header) if kind.may_contain_header(start)), None)
    if kind is None:
        yield Finding(file, "header", "an image that cannot be read", "")
        return
    size = kind.sizeof_hdr
    header = kind(start[:size], check=False)
    for field in _FREE_TEXT:
        if field in header.keys():  # noqa: SIM118 (not a dict)
            words = header[field].tobytes().rstrip(b"\0 ").decode("latin-1")
            if words:
                yield Finding(file, field, "free text", words)
    offset = float(header["vox_offset"])
    extension = start[size + 4 : int(offset) if size + 4 < offset < _HEADER_BYTES else size + 4]
    if any(extension):
        found = " ".join(text.decode("ascii") for text in _PRINTABLE.findall(extension))
        yield Finding(file, "between header and voxels", "an extension", found[:80])
