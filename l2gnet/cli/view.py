"""`l2gnet view` and `l2gnet watch`: the workbench, and a training, in a browser without a notebook."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from l2gnet.widgets.viewer import Viewer


def view(
    model: Annotated[str, tyro.conf.Positional] = "phantom-heart",
    scans: Annotated[tuple[Path, ...], tyro.conf.Positional] = (),
    labels: tuple[Path, ...] = (),
    other: str = "",
    data_dir: str = "",
    port: int = 0,
    browser: bool = True,
) -> None:
    """Open the workbench: scans, what a model finds in them, its codes and plans, and what becomes of them if changed.

    Args:
        model: A checkpoint, a run folder, or the name of a model that comes along.
        scans: NIfTI files, or folders of them or of DICOM series; by default those that the training held out.
        labels: The label map of each scan, in the same order, by the numbers of the model's labels.
        other: A second model of the same task, whose labels are shown beside those of the first.
        data_dir: The data set that the model was trained on, where no scans are named and it needs one.
        port: Where it is served, on this machine alone; 0 takes one that is free.
        browser: Open a browser.
    """
    from l2gnet.checks import require
    from l2gnet.models.card import read_card

    card = read_card(model)
    if other:
        read_card(other)
    require(bool(scans) or not labels, "labels", "none, or one for each of 0 scans", len(labels))
    found = []
    if scans:
        from l2gnet.cli.scans import named_scans

        found = named_scans(scans, card.channels)
        require(not labels or len(found) == len(labels), "labels", f"one for each of {len(found)} scans", len(labels))
    from l2gnet.jobs.live import LiveViewer, serve_live

    def make() -> "Viewer":
        from l2gnet.widgets.bench_scans import of_input
        from l2gnet.widgets.workbench import Workbench

        opened = [of_input(scan, number, card, *labels[number : number + 1]) for number, scan in enumerate(found)]
        return Workbench(model, opened, other=other, data_dir=data_dir)

    serve_live([LiveViewer(make, Path(model).stem)], Path(model).stem, port=port, browser=browser)


def watch(run_dir: Annotated[Path, tyro.conf.Positional], port: int = 0, browser: bool = True) -> None:
    """Watch a training that something else has started: its curves, time left, codes, and what it predicts.

    Args:
        run_dir: Its run folder, which need not exist yet.
        port: Where it is served, on this machine alone; 0 takes one that is free.
        browser: Open a browser.
    """
    from l2gnet.checks import exists, nearest_path
    from l2gnet.errors import ConfigError

    if exists(run_dir) and not run_dir.is_dir():
        raise ConfigError(f"{run_dir}: a run must be a folder, got a file{nearest_path(run_dir)}; name its folder")
    from l2gnet.jobs.live import LiveViewer, serve_live

    def make() -> "Viewer":
        from l2gnet.widgets.training_monitor import TrainingMonitor

        return TrainingMonitor(run_dir)

    name = run_dir.resolve().name
    serve_live([LiveViewer(make, name)], name, port=port, browser=browser)
