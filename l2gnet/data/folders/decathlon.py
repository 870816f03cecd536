"""Folders of the Medical Segmentation Decathlon and of nnU-Net: a dataset.json beside imagesTr and labelsTr.

Antonelli et al., Nature Communications 13, 2022, doi 10.1038/s41467-022-30695-9; Isensee et al., Nature Methods 18,
2021, doi 10.1038/s41592-020-01008-z. This is how users bring their own data. Both write the same things differently:

                the Decathlon (and nnU-Net 1)           nnU-Net 2
    channels    "modality": {"0": "CT"}                 "channel_names": {"0": "CT"}
    classes     "labels": {"0": "background"}           "labels": {"background": 0}, or lists: regions
    cases       a list "training" of image and label    the files in labelsTr, or "dataset" by name
    images      one file a case, channels in it         one file a channel, CASE_0000.nii.gz

Every case counts as one patient, since no field says whose it is. Folds are those of nnU-Net's splits_final.json, if it
lies there: a list with the names of the cases to train and to validate on, [{"train": [...], "val": [...]}, ...].
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2gnet.data.beside import what_it_is
from l2gnet.data.folders.labels import Labels, read_labels_of
from l2gnet.data.folders.scan import ABDOMEN_HU, Scan, ScanFolder, is_ct, lies_inside
from l2gnet.data.folders.whole import unlike_its_description, unlike_its_splits
from l2gnet.data.names import NIFTI, case_name, of_channel
from l2gnet.errors import ConfigError, VolumeError, volume_error

FILE = "dataset.json"
SPLITS = "splits_final.json"
_MAX_BYTES = 16 * 2**20


def is_task(data_dir: Path) -> bool:
    """Whether a folder holds a dataset.json."""
    return (data_dir / FILE).is_file()


def find_scans(data_dir: str | Path, channel: str = "", fold: int = -1) -> ScanFolder:
    """The labelled cases of a folder, by name, with all channels of their images.

    `channel` takes only some: the name or number of one, or of several separated by commas. From `fold` 0 on, the cases
    are those of a fold of splits_final.json. Raises VolumeError where dataset.json or splits_final.json is missing,
    malformed or names no case, ConfigError where there is no such channel or fold.
    """
    root = Path(data_dir)
    path = root / FILE
    if not path.is_file():
        remedy = f"write {FILE} as the Decathlon or nnU-Net has it, or name the folder that holds it"
        raise volume_error(path, "a Decathlon or nnU-Net folder needs this file", "none", remedy)
    info = _read_json(path)
    labels, channels = read_labels_of(path, info), _channels(path, info)
    numbers = _channel_numbers(path, channels, channel)
    scans: dict[str, Scan] = {}
    problems: list[VolumeError] = []
    entries = _entries(root, path, info)
    missing = [*_unlike_its_description(root, info, entries, len(channels))]
    for entry in entries:
        try:
            scan = _scan(root, path, entry, labels, numbers, len(channels))
            if scan.name in scans:
                raise volume_error(path, "each case must have a name of its own", scan.name, "remove or rename one")
            scans[scan.name] = scan
        except VolumeError as error:
            problems.append(error)
    held_out: frozenset[str] = frozenset()
    if (root / SPLITS).is_file():
        missing += _unlike_its_splits(root / SPLITS, set(scans))
    if fold >= 0:
        training, held_out = _read_fold(root / SPLITS, fold, set(scans))
        scans = {name: scan for name, scan in scans.items() if name in training | held_out}
    name, reference = (info.get(key) for key in ("name", "reference"))
    licence = info.get("licence", info.get("license"))
    return ScanFolder(
        name=name if isinstance(name, str) and name else "decathlon",
        classes=labels.classes,
        regions=labels.regions,
        scans=tuple(scans[name] for name in sorted(scans)),
        problems=tuple(problems),
        citation=reference if isinstance(reference, str) and reference else "as the owner of the data asks",
        licence=licence if isinstance(licence, str) and licence else "as the owner of the data grants",
        window=ABDOMEN_HU if any(is_ct(channels[number]) for number in numbers) else None,
        test_patients=held_out,
        channels=tuple(channels[number] for number in numbers),
        missing=tuple(missing),
    )


@dataclass(frozen=True)
class _Entry:
    """A case as the folder names it: the image may be one file, or as many as there are channels.

    Where no `name` is given, it is that of the label map.
    """

    images: tuple[Any, ...]
    label: Any
    name: str | None = None


def _unlike_its_description(root: Path, info: dict[str, Any], entries: Sequence[_Entry], channels: int) -> list[str]:
    images = [image for entry in entries for image in entry.images if isinstance(image, str)]
    masks = [entry.label if isinstance(entry.label, str) else "" for entry in entries]
    return unlike_its_description(root, info, images, masks, channels)


def _unlike_its_splits(path: Path, cases: set[str]) -> list[str]:
    try:
        return unlike_its_splits(_read_json(path, list), cases)
    except VolumeError as error:  # of a file that this training may not need
        return [str(error)]


def _read_fold(path: Path, fold: int, known: set[str]) -> tuple[frozenset[str], frozenset[str]]:
    """The names of the cases to train and to validate on."""
    if not path.is_file():
        remedy = "copy it from nnUNet_preprocessed, or set fold to -1: then a split is drawn"
        raise volume_error(path, "a fold needs nnU-Net's file of splits", "none", remedy)
    folds = _read_json(path, list)
    if fold >= len(folds):
        raise ConfigError(f"{path}: fold must lie in 0..{len(folds) - 1}, or be -1 for a split of its own, got {fold}")
    parts = folds[fold] if isinstance(folds[fold], dict) else {}
    for names in (parts.get("train"), parts.get("val")):
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            rule = 'a fold must name cases to train and to validate on, as {"train": ["a"], "val": ["b"]}'
            raise volume_error(path, rule, str(folds[fold])[:200], "correct it")
    training, held_out = frozenset(parts["train"]), frozenset(parts["val"])
    unknown, both = sorted((training | held_out) - known), sorted(training & held_out)
    if unknown:
        rule = "a fold must name cases of this folder"
        raise volume_error(path, rule, ", ".join(unknown[:5]), "copy the whole data set")
    if both:
        raise volume_error(path, "no case may be trained and validated on", ", ".join(both[:5]), "correct the fold")
    return training, held_out


def _read_json(path: Path, kind: type = dict) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
            raise ValueError(f"{name[:100]!r} twice")
        return dict(pairs)

    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            value = f"{size / 2**20:.0f} MiB"
            raise volume_error(path, f"the file may take {_MAX_BYTES // 2**20} MiB", value, "is it the right file?")
        info = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=once)
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, VolumeError):
            raise
        raise volume_error(path, "the file must be JSON with every name once", error, "correct it") from error
    if not isinstance(info, kind):
        what, remedy = ("object", "write {...}") if kind is dict else ("list", "write [...]")
        raise volume_error(path, f"the file must be a JSON {what}", type(info).__name__, remedy)
    return info


def _channels(path: Path, info: dict[str, Any]) -> tuple[str, ...]:
    channels = info.get("channel_names", info.get("modality"))
    if (
        not isinstance(channels, dict)
        or not channels
        or set(channels) != {str(number) for number in range(len(channels))}
        or not all(isinstance(name, str) and name for name in channels.values())
    ):
        rule = 'channel_names (or modality) must number the image channels from 0, as {"0": "CT"}'
        raise volume_error(path, rule, str(channels)[:200], "correct it")
    return tuple(channels[str(number)] for number in range(len(channels)))


def _channel_numbers(path: Path, channels: tuple[str, ...], channel: str) -> tuple[int, ...]:
    if channel in ("", ", ".join(channels)):
        return tuple(range(len(channels)))
    names = [*channels, *(str(number) for number in range(len(channels)))]
    wanted = [channel] if channel in names else [name.strip() for name in channel.split(",")]
    numbers = tuple(names.index(name) % len(channels) for name in wanted if name in names)
    if len(set(numbers)) < len(wanted):
        rule = f"channel must be one of {', '.join(channels)}, or several separated by commas, or empty for all"
        raise ConfigError(f"{path}: {rule}, got {channel!r}; correct it")
    return numbers


def _entries(root: Path, path: Path, info: dict[str, Any]) -> list[_Entry]:
    """The cases that dataset.json lists, or else those in labelsTr."""
    listed, by_case = info.get("training"), info.get("dataset")
    if isinstance(listed, list) and all(isinstance(case, dict) for case in listed):
        entries = [_Entry((case.get("image"),), case.get("label")) for case in listed]
    elif isinstance(by_case, dict) and all(isinstance(case, dict) for case in by_case.values()):
        entries = [
            _Entry(tuple(i) if isinstance(i := case.get("images"), list) and i else (i,), case.get("label"), name)
            for name, case in by_case.items()
        ]
    elif listed is None and by_case is None:
        ending = info.get("file_ending", ".nii.gz")
        if ending not in NIFTI:
            raise volume_error(path, f"file_ending must be {' or '.join(NIFTI)}", ending, "convert the images")
        folder = root / "labelsTr"
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        names = [file.name for file in files if file.name.lower().endswith(ending) and not what_it_is(file)]
        entries = [_Entry((f"imagesTr/{name}",), f"labelsTr/{name}") for name in names]
    else:
        found = type(by_case if listed is None else listed).__name__
        rule = "training must be a list, or dataset an object, of cases with their image and label"
        raise volume_error(path, rule, found, "correct it, or remove it: then the files in labelsTr are the cases")
    if not entries:
        raise volume_error(path, "a data set must have labelled cases", "none", "fill imagesTr and labelsTr")
    return entries


def _scan(root: Path, path: Path, entry: _Entry, labels: Labels, numbers: tuple[int, ...], channels: int) -> Scan:
    """The scan of a case, or VolumeError where a file is missing or lies outside the folder."""
    label = _inside(root, path, entry.label)
    if not label.is_file():
        raise volume_error(label, f"the label map that {FILE} asks for must exist", "none", "copy the data set again")
    name = case_name(label.name) if entry.name is None else entry.name
    if not name.strip(".") or "/" in name or "\0" in name:  # a picture of it would lie elsewhere
        raise volume_error(path, "a case must be named as a file can be", repr(name)[:200], "rename it")
    if len(entry.images) not in (1, channels):
        rule = f"a case must list one image, or as many as there are channels, {channels}"
        raise volume_error(path, rule, f"{len(entry.images)} of {name}", "correct its images, or channel_names")
    inner: tuple[int, ...] = ()
    if len(entry.images) == channels > 1:
        images = [_inside(root, path, entry.images[number]) for number in numbers]
    else:
        images = [_inside(root, path, entry.images[0])]
        if images[0].is_file():
            inner = numbers if channels > 1 else ()
        else:
            of_channels = [_inside(root, path, of_channel(entry.images[0], number)) for number in numbers]
            images = of_channels if of_channels[0].is_file() or channels > 1 else images
    for image in images:
        if not image.is_file():
            other = f", nor {of_channel(image.name, 0)}" if len(images) == channels == 1 else ""
            rule, value = f"the image of {label.name} must exist", f"none{other}"
            raise volume_error(image, rule, value, "copy the data set again")
    return Scan(
        name,
        name,
        images[0],
        label,
        labels.classes,
        channels=inner,
        class_of=labels.class_of,
        more=tuple(images[1:]),
        regions=labels.regions,
        of_channels=channels if inner else 0,
    )


def _inside(root: Path, path: Path, name: object) -> Path:
    """A file's path below the folder, whatever links and `..` it goes by."""
    if isinstance(name, str) and name and lies_inside(root, root / name):
        return root / name
    rule = "image and label must be files inside the data folder, not reached by .. or a link out of it"
    raise volume_error(path, rule, repr(name)[:200], "copy them into it")
