"""`l2gnet data` and `l2gnet privacy`: what a folder holds, before anything is trained on it or passed on."""

import sys
from pathlib import Path
from typing import Annotated

import tyro

from l2gnet.training.settings import TrainSettings

data_app = tyro.extras.SubcommandApp()
privacy_app = tyro.extras.SubcommandApp()


@data_app.command
def check(data_dir: Annotated[Path, tyro.conf.Positional]) -> None:
    """Say what a data folder holds and, in words, all that is wrong with it.

    Args:
        data_dir: A folder of ACDC, of Synapse, of the Medical Segmentation Decathlon or of nnU-Net.
    """
    from l2gnet.data.folders.check import check as check_folder

    report = check_folder(data_dir)
    print(report)
    if report.problems:
        sys.exit(1)


@data_app.command
def prepare(settings: Annotated[TrainSettings, tyro.conf.arg(name="")]) -> None:
    """Prepare the slices of a real data set once, and keep them in the cache folder.

    Args:
        settings: As for training; data, data_dir, cache_dir, spacing_mm and size_px decide what is prepared.
    """
    from l2gnet.data.dataset import open_dataset
    from l2gnet.data.slices import cached_slices

    dataset = open_dataset(settings)
    slices, path = cached_slices(dataset.cases, dataset.grid(settings), len(dataset.classes), settings.cache_dir)
    print(f"{len(slices.names)} volumes, {len(slices)} slices in {path} ({path.stat().st_size / 2**20:.1f} MiB)")


@privacy_app.command(name="check")
def check_privacy(path: Annotated[Path, tyro.conf.Positional], names: Path | None = None) -> None:
    """Find what may tell who a patient or a user is, before a notebook, a run folder or an image is passed on.

    Args:
        path: A file, or a folder with all that is below it.
        names: A text file with the names of patients to look for, one a line.
    """
    from l2gnet.jobs.privacy import find_identifiers, read_names

    findings = find_identifiers(path, read_names(names) if names else ())
    print("\n".join(map(str, findings)) or "nothing found")
    if findings:
        sys.exit(1)
