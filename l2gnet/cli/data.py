"""`l2gnet data`: what a folder holds, before anything is trained on it."""

import sys
from pathlib import Path
from typing import Annotated

import tyro

from l2gnet.checks import require, require_path
from l2gnet.cli.settings import Data
from l2gnet.data.settings import DataSettings
from l2gnet.files import write_text


def check(data_dir: Annotated[Path, tyro.conf.Positional]) -> None:
    """Say what a data folder holds and, in words, all that is wrong with it.

    Args:
        data_dir: A folder of ACDC, of Synapse, of the Medical Segmentation Decathlon or of nnU-Net.
    """
    require_path(data_dir)
    from l2gnet.data.folders.check import check as check_folder

    report = check_folder(data_dir)
    print(report)
    if report.problems:
        sys.exit(1)


def repair(
    data_dir: Annotated[Path, tyro.conf.Positional], out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
) -> None:
    """Copy a data folder, with every mask on the grid of its image there, and say and draw what was changed.

    A mask on another grid is resampled by its nearest voxels, and a picture of it, before and after, is written to
    `repaired/`. The folder itself is left alone.

    Args:
        data_dir: A folder of ACDC, of Synapse, of the Medical Segmentation Decathlon or of nnU-Net.
        out: The new folder.
    """
    require_path(data_dir)
    from l2gnet.data.folders.repair import repair as repair_folder
    from l2gnet.widgets.pictures import save_repair  # first, since it may lack an extra

    repaired, left = 0, 0
    for one in repair_folder(data_dir, out):
        if one.shown is None:
            left += 1
            print(f"not repaired: {one.words}", flush=True)
        else:
            repaired += 1
            print(f"{one.name}: {one.words}", flush=True)
            save_repair(out / "repaired" / f"{one.name}.png", *one.shown, title=one.name)
    print(f"{repaired} repaired, {left} not; the copy is {out}")
    if left:
        sys.exit(1)


def show(
    data_dir: Annotated[Path, tyro.conf.Positional],
    augmented: bool = False,
    spacing_mm: float = DataSettings.spacing_mm,
    size_px: int = DataSettings.size_px,
    channel: str = "",
    window: str = "",
    structures: str = "",
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("seen.png"),
) -> None:
    """Show slices with masks as a model gets them, and a table of all volumes: sizes, spacings, grey values, classes.

    The table on the screen sums up; one with a line for each volume lies beside the picture, as OUT.csv.

    Args:
        data_dir: A folder of ACDC, of Synapse, of the Medical Segmentation Decathlon or of nnU-Net.
        augmented: Below each slice, show what a training step may make of it.
        spacing_mm: As in training: in-plane pixel size that the model sees, in mm; 0 fits the whole slice into size_px.
        size_px: Height and width that the model sees, in pixels.
        channel: Image channels to use, by name or number; of several the first is shown.
        window: Grey values that become black and white, as "-125 275".
        structures: Structures to show, by name, as "liver, spleen"; empty: all.
        out: The picture, a PNG file.
    """
    require_path(data_dir)
    require(out.suffix.lower() == ".png", "out", "a PNG file, as seen.png", str(out))
    from l2gnet.data.folders.check import kind_of
    from l2gnet.training.settings import TrainSettings

    settings = TrainSettings(
        depth=1,  # whatever size some model takes
        data=kind_of(data_dir),
        data_dir=str(data_dir),
        spacing_mm=spacing_mm,
        size_px=size_px,
        channel=channel,
        window=window,
        structures=structures,
    )
    from l2gnet.data.dataset import open_whole
    from l2gnet.data.survey import remarks, summary, survey
    from l2gnet.tables import csv_text, text_table
    from l2gnet.training.look import cases_to_look_at, look
    from l2gnet.widgets.looks import save_seen

    dataset = open_whole(settings)
    found = survey(dataset)
    print(f"{dataset.name}: {len(found)} volumes; classes: {', '.join(dataset.classes)}")
    print("\n".join([text_table(summary(found)), *remarks(found)]))
    plain, moved = look(settings, dataset)
    save_seen(out, {"as read": plain} | ({"augmented": moved} if augmented else {}), dataset.labels)
    write_text(out.with_suffix(".csv"), csv_text([one.as_row() for one in found]))
    print(f"cases in the picture, from 1 on: {', '.join(case.name for case in cases_to_look_at(dataset))}")
    print(f"{out} shows what the model sees, {out.with_suffix('.csv').name} has a line for each volume")


def prepare(data: tyro.conf.OmitArgPrefixes[Data]) -> None:
    """Prepare the slices of a real data set once, as training with the same settings would, and keep them."""
    settings = DataSettings(**vars(data))
    real = not settings.data.startswith("phantom")
    require(real, "data", "a real data set, since phantoms are made anew each time", settings.data)

    from l2gnet.data.dataset import open_dataset
    from l2gnet.data.slices import cached_slices

    dataset = open_dataset(settings)
    slices, path = cached_slices(dataset.cases, dataset.grid(settings), len(dataset.labels), settings.cache_dir)
    print(f"{len(slices.names)} volumes, {len(slices)} slices in {path} ({path.stat().st_size / 2**20:.1f} MiB)")
