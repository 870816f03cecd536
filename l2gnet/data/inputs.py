"""The scans that a user names: NIfTI files, enhanced DICOM files, or folders of them or of DICOM series.

What cannot be read is an input, too, and says so when it is read: one bad scan ends no batch.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from l2gnet.ahead import one_ahead
from l2gnet.checks import exists, nearest_path
from l2gnet.data.beside import aside, is_nifti, listed, passed_over, what_it_is
from l2gnet.data.formats.dicom import find_series
from l2gnet.data.formats.dicom_file import is_dicom
from l2gnet.data.formats.dicom_series import Series
from l2gnet.data.names import case_name, channel_of, of_channel, without_channel
from l2gnet.data.volume import Volume, read_channels, read_frames
from l2gnet.errors import VolumeError, volume_error

LABELS_END = "_labels"  # of the names of our own results, which are not scans
# A moment of a beat in a file of its own, as ACDC names it and nnU-Net does.
_FRAME = re.compile(r"(?P<patient>.+)_frame(?P<frame>[0-9]+)(_0000)?")
LABEL_MAPS = ("_gt", "_seg", LABELS_END, "_probabilities", "_codes", "_sent_to", "_received_from")
OF_LABELS = ("labelsTr", "labelsTs")  # folders of the Decathlon's and nnU-Net's label maps
_UNNAMED = "image"  # the channel of data in which files are not numbered by channels


@dataclass(frozen=True)
class Input:
    """One scan to segment: the name its results get, and how to read its frames (several for a cine).

    `series` is None for NIfTI.
    """

    name: str
    path: Path
    read: Callable[[], list[Volume]]
    series: Series | None = None


def find_inputs(
    paths: Sequence[str | Path], channels: Sequence[str] = (_UNNAMED,), *, say: Callable[[str], object] = aside
) -> list[Input]:
    """The scans among files and folders (with those below them, linked ones too), in the order named, then by path.

    In a folder, label maps are left out: files whose name ends in `_gt`, `_seg` or as our own results do, and those
    below it in `labelsTr` or `labelsTs`. Where a model takes several `channels`, CASE_0000.nii.gz, CASE_0001.nii.gz and
    so on are one scan, and a 4-D file holds channels, otherwise moments in time. Scans of one name in several folders
    below one that is named, as SER0 of each patient, get the names of those folders too; so do NAME_frame01 and other
    frames of one name. `say` hears which files of a folder were passed over, and why.

    Raises:
        VolumeError: no path holds a scan, two scans would get results of one name, two are one frame of a patient, or
            frames of one name, which would be taken for those of one patient, lie in several folders; or a model of
            one channel that has a name is given CASE_0000.nii.gz and other channels of that case.
    """
    scans: list[Input] = []
    empty: list[Input] = []
    for path in map(Path, paths):
        try:
            found, unread = _scans_at(path, say)
            scans += found
            empty += unread
        except VolumeError as error:
            empty.append(_failing(_name(path), path, error))
    if empty and not scans:
        empty[0].read()
    if len(channels) > 1:
        scans = _grouped(scans, channels)
    elif channels[0] != _UNNAMED:
        _require_one_channel(scans, channels[0])
    scans = _told_apart(scans, [Path(path) for path in paths])
    _require_own_names(scans)
    return [*scans, *empty]


def read_inputs(scans: Sequence[Input]) -> Iterator[tuple[Input, list[Volume] | Exception]]:
    """Each scan with its frames or what is wrong with them; the next one is read while a scan is in use."""

    def read(scan: Input) -> list[Volume] | Exception:
        try:
            return scan.read()
        except Exception as error:  # of one scan, which must not take the others with it
            return error

    return zip(scans, one_ahead(map(read, scans)), strict=True)


def _scans_at(path: Path, say: Callable[[str], object]) -> tuple[list[Input], list[Input]]:
    """The scans of a file or folder, and the folders below it that may not be read."""
    if not exists(path):
        raise volume_error(path, "a scan must be a file or a folder", "none", f"check the path{nearest_path(path)}")
    if path.is_file() and is_dicom(path):
        found = find_series([path])
        if [one.path for one in found] != [path]:
            what = what_it_is(path)
            rule = "a DICOM file must be a scan" if what else "a DICOM series is named by its folder"
            raise volume_error(path, rule, what or "one file", "name another" if what else f"name {path.parent}")
        return _series(found), []
    if not path.is_dir():
        return [_nifti(path)], []
    files, unread = _files_below(path)
    nifti = [_nifti(file) for file in files if is_nifti(file)]
    scans: list[Input] = []
    maps: defaultdict[str, list[str]] = defaultdict(list)
    for scan in nifti:
        if known_by := _label_map(scan, path):
            maps[known_by].append(scan.path.name)
        else:
            scans.append(scan)
    used = {scan.path for scan in nifti}
    series = find_series([file for file in files if file not in used])
    used.update(file for one in series for file in one.files)
    lines = passed_over(file for file in files if file not in used)
    lines += [f"passed over: {listed(names)} (label maps, by their {known_by})" for known_by, names in maps.items()]
    scans += _series(series)
    if not scans and not unread:
        rule = "a folder must hold scans (.nii, .nii.gz, or DICOM of CT, MR or PET)"
        instead = "; ".join(line.removeprefix("passed over: ") for line in lines) or "none"
        raise volume_error(path, rule, instead, "name the one they lie in")
    for line in lines:
        say(line)
    return scans, unread


def _label_map(file: Input, folder: Path) -> str:
    """What tells that a file below a folder is a label map; nothing for a scan."""
    if file.path.parent != folder and file.path.parent.name in OF_LABELS:
        return "folder"
    return "names" if _patient(file.name).lower().endswith(LABEL_MAPS) else ""


def _files_below(folder: Path) -> tuple[list[Path], list[Input]]:
    """The files below a folder, by path, also links to nothing, and the folders that may not be read.

    Links to folders are followed, after all else, so that each folder is seen once and by its own path if it has one.
    """
    files: list[Path] = []
    failing: list[Input] = []

    def unread(path: Path, error: OSError) -> None:
        refused = volume_error(path, "a folder of scans must be readable", error.strerror, "ask its owner for access")
        failing.append(_failing(path.name, path, refused))

    seen = set(folder.resolve().parents)  # to which no link leads back
    tops = [folder]
    for top in tops:  # which grow by the links on the way
        for path, folders, names in os.walk(top, onerror=lambda error: unread(Path(error.filename), error)):
            here = Path(path)
            if here.resolve() in seen:
                folders.clear()
                continue
            seen.add(here.resolve())
            try:
                files += [file for name in names if (file := here / name).is_file() or not file.exists()]
                tops += [link for name in sorted(folders) if (link := here / name).is_symlink()]
            except OSError as error:  # of a folder whose names alone may be read
                folders.clear()
                unread(here, error)
    return sorted(files), failing


def patient_and_frame(name: str) -> tuple[str, int] | None:
    """Of a scan that is one frame of a patient's, named `PATIENT_frameNN` as in ACDC, or so with nnU-Net's `_0000`."""
    matched = _FRAME.fullmatch(name)
    return (matched["patient"], int(matched["frame"])) if matched else None


def _patient(name: str) -> str:
    """Whose scan it is, by its name."""
    of = patient_and_frame(name)
    return of[0] if of else name


def _told_apart(scans: Sequence[Input], roots: Sequence[Path]) -> list[Input]:
    """Scans whose names, but for a frame's number, occur in several folders, with the names of those below a root."""
    folders: defaultdict[str, set[Path]] = defaultdict(set)
    for scan in scans:
        folders[_patient(scan.name)].add(scan.path.parent)

    def named(scan: Input) -> Input:
        apart = len(folders[_patient(scan.name)]) > 1
        root = next((root for root in roots if apart and scan.path.is_relative_to(root)), scan.path)
        return replace(scan, name="_".join([*scan.path.relative_to(root).parent.parts, scan.name]))

    return list(map(named, scans))


def _require_own_names(scans: Sequence[Input]) -> None:
    """Raise VolumeError for two scans of one name or frame, and for frames of one name in two folders: whose are they?

    A frame may be written in several ways, as `anna_frame01`, `anna_frame1` and `anna_frame01_0000`.
    """
    of_name: dict[str, Input] = {}
    of_frame: dict[tuple[str, int], Input] = {}
    of_patient: dict[str, Input] = {}
    for scan in scans:
        patient, of = _patient(scan.name), patient_and_frame(scan.name)
        if (other := of_name.setdefault(scan.name, scan)) is not scan:
            raise _alike("scan", scan.name, scan, other)
        if of and (other := of_frame.setdefault(of, scan)) is not scan:
            raise _alike("frame of a patient", f"frame {of[1]} of {patient}", scan, other)
        if patient != scan.name and (other := of_patient.setdefault(patient, scan)).path.parent != scan.path.parent:
            raise _alike("patient", patient, scan, other)


def _alike(whose: str, name: str, scan: Input, other: Input) -> VolumeError:
    rule = f"each {whose} needs a name of its own, because results are named after it; {other.path} has it too"
    return volume_error(scan.path, rule, name, "rename one, or segment them into two folders")


def _failing(name: str, path: Path, error: VolumeError) -> Input:
    """A scan that could not be found, whose turn comes with the others'."""

    def read() -> list[Volume]:
        raise error

    return Input(name, path, read)


def _nifti(path: Path) -> Input:
    return Input(_name(path), path, lambda: read_frames(path))


def _grouped(scans: Sequence[Input], channels: Sequence[str]) -> list[Input]:
    """The same scans, with the files of all channels as one."""
    series = []
    for scan in (scan for scan in scans if scan.series is not None):
        rule = f"a scan of several channels, {', '.join(channels)}, must be NIfTI"
        remedy = "convert the series of each to NIfTI files on one grid, NAME_0000.nii.gz, NAME_0001.nii.gz ..."
        series.append(_failing(scan.name, scan.path, volume_error(scan.path, rule, "a DICOM series", remedy)))
    groups = _by_case(scans)
    cases = [Input(case.name, paths[0], partial(_read_case, case, paths, channels)) for case, paths in groups]
    return cases + series


def _require_one_channel(scans: Sequence[Input], channel: str) -> None:
    """Raise VolumeError for several channels of a case: folders number them each in its way, and none says which."""
    for case, paths in _by_case(scans):
        numbered = sorted({_name(path) for path in paths if channel_of(_name(path)) is not None})
        if len(numbered) > 1:
            rule = f"a model of one channel, {channel}, must be given the file of that channel alone"
            remedy = f"name the files of {channel} one by one; or rename them, if the numbers are those of cases"
            raise volume_error(case, rule, ", ".join(numbered), remedy)


def _by_case(scans: Sequence[Input]) -> list[tuple[Path, list[Path]]]:
    """NIfTI files by case, with the path of its name: those of all channels, by their numbers, or one."""
    files: dict[Path, list[Path]] = {}
    for scan in (scan for scan in scans if scan.series is None):
        files.setdefault(scan.path.with_name(without_channel(scan.name)), []).append(scan.path)
    groups: list[tuple[Path, list[Path]]] = []
    for case, paths in files.items():
        if of_channel(case.name, 0) in map(_name, paths):
            groups.append((case, paths))
        else:  # a number that no first channel has is that of a case, whose channels are in one file
            groups += [(path.with_name(_name(path)), [path]) for path in paths]
    return groups


def _read_case(case: Path, paths: Sequence[Path], channels: Sequence[str]) -> list[Volume]:
    """The one frame of a scan that has a file for each channel, or one 4-D file."""
    paths = sorted(paths)
    found, wanted = [_name(path) for path in paths], [of_channel(case.name, n) for n in range(len(channels))]
    if found not in ([case.name], wanted):
        rule = f"the channels {', '.join(channels)} must lie in {', '.join(wanted)} (.nii.gz), or in one 4-D file"
        raise volume_error(case, rule, ", ".join(found), "name all of them and no others, or rename them")
    return [read_channels(paths)]


def _name(path: Path) -> str:
    """Of a scan in one file."""
    return path.stem if path.suffix.lower() == ".dcm" else case_name(path.name)


def _series(found: Sequence[Series]) -> list[Input]:
    """A series has the name of its folder or its one file, with its number, and a count, where that names several."""
    beside = Counter(one.path for one in found)
    alike = Counter((one.path, one.number) for one in found)
    seen: Counter[tuple[Path, int]] = Counter()
    inputs = []
    for one in found:
        folder = one.path if one.path.is_symlink() else one.path.resolve()  # which may have been named "."
        name = folder.name if one.path.is_dir() else _name(one.path)
        name += f"_series{one.number}" * (beside[one.path] > 1)
        seen[one.path, one.number] += 1
        name += f"_{seen[one.path, one.number]}" * (alike[one.path, one.number] > 1)
        inputs.append(Input(name, one.path, one.read_frames, one))
    return inputs
