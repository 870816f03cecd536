"""`l2gnet data`: what a folder holds, before anything is trained on it."""

import sys
from pathlib import Path
from typing import Annotated

import tyro

from l2gnet.checks import require_path
from l2gnet.cli.settings import Data
from l2gnet.data.settings import DataSettings


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


def prepare(data: tyro.conf.OmitArgPrefixes[Data]) -> None:
    """Prepare the slices of a real data set once, as training with the same settings would, and keep them."""
    settings = DataSettings(**vars(data))

    from l2gnet.data.dataset import open_dataset
    from l2gnet.data.slices import cached_slices

    dataset = open_dataset(settings)
    slices, path = cached_slices(dataset.cases, dataset.grid(settings), len(dataset.labels), settings.cache_dir)
    print(f"{len(slices.names)} volumes, {len(slices)} slices in {path} ({path.stat().st_size / 2**20:.1f} MiB)")
