"""Whether a folder of the Decathlon or of nnU-Net is whole: what its description and its files say of each other."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from l2gnet.data.beside import is_nifti
from l2gnet.data.folders.scan import counted, lies_inside
from l2gnet.data.names import case_name, channel_of, of_channel, without_channel


def unlike_its_description(
    root: Path, info: Mapping[str, Any], images: Iterable[str], masks: Collection[str], channels: int
) -> list[str]:
    """What is wrong with a folder whose description names these images and masks, in words that count and name it."""
    images = list(images)
    return [
        *_numbers(info, len({Path(mask) for mask in masks})),
        *_unnamed(root, {case_name(image) for image in images}, {case_name(mask) for mask in masks}, channels),
        *_tests(root, info),
    ]


def unlike_its_splits(folds: Sequence[Any], known: Collection[str]) -> list[str]:
    """What is wrong with the folds of nnU-Net's splits_final.json in a folder of these cases."""
    lines, known, everyone = [], set(known), set()
    for number, fold in enumerate(folds):
        parts = [fold.get(part) for part in ("train", "val")] if isinstance(fold, dict) else []
        if not parts or not all(isinstance(part, list) and all(isinstance(n, str) for n in part) for part in parts):
            lines.append(f"fold {number} of splits_final.json does not name cases to train and to validate on")
            continue
        training, held_out = set(fold["train"]), set(fold["val"])
        where = f"fold {number} of splits_final.json"
        everyone |= training | held_out
        lines += counted((training | held_out) - known, "case", f"in {where}, but not here")
        lines += counted(training & held_out, "case", f"to train and to validate on in {where}")
    return [*lines, *counted(known - everyone, "case", "in no fold of splits_final.json")]


def _numbers(info: Mapping[str, Any], cases: int) -> list[str]:
    tests = info.get("test")
    counts = {"numTraining": cases} | ({"numTest": len(tests)} if isinstance(tests, list) else {})
    return [
        f"{name} in dataset.json is {str(info[name])[:20]}, and there are {count}"
        for name, count in counts.items()
        if name in info and str(info[name]) != str(count)
    ]


def _unnamed(root: Path, images: Collection[str], masks: Collection[str], channels: int) -> list[str]:
    """Files of imagesTr and labelsTr that are of no case, and of labelsTs that are of no image."""
    cases = {*images, *(without_channel(image) for image in images)}
    others = [name for name in map(case_name, _files(root / "imagesTr")) if name not in images]
    found_images = {without_channel(name) for name in others} - cases
    more_channels = [
        name
        for name in others
        if (channel := channel_of(name)) is not None and channel >= channels and without_channel(name) in cases
    ]
    found_masks = {case_name(file) for file in _files(root / "labelsTr")} - set(masks)
    tests = {case_name(file) for file in _files(root / "labelsTs")}
    tests -= {part for file in _files(root / "imagesTs") for part in _both_names(file)}
    return [
        *counted(found_images - found_masks, "image", "without a mask"),
        *counted(found_masks - found_images, "mask", "without an image"),
        *counted(found_masks & found_images, "case", "with image and mask that dataset.json does not name"),
        *counted(tests, "mask", "of a test image that is not here"),
        *counted(more_channels, "image", f"of a channel beyond the {channels} of dataset.json"),
    ]


def _both_names(image: str) -> tuple[str, str]:
    """The names that the mask of an image may have: with the number of its channel, or without."""
    return case_name(image), without_channel(case_name(image))


def _tests(root: Path, info: Mapping[str, Any]) -> list[str]:
    tests = info.get("test")
    named = [case.get("image") if isinstance(case, dict) else case for case in tests] if isinstance(tests, list) else []
    gone = [name for name in named if isinstance(name, str) and name and not _is_there(root, name)]
    return counted(map(case_name, gone), "test image", "in dataset.json, but not here")


def _is_there(root: Path, name: str) -> bool:
    either = (name, of_channel(name, 0))
    return any(lies_inside(root, root / file) and (root / file).is_file() for file in either)


def _files(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir() if file.is_file() and is_nifti(file)] if folder.is_dir() else []
