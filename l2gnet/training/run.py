"""Training, from settings to a run folder: what happens, in order; each step is told in the file that does it."""

import time
from contextlib import nullcontext
from pathlib import Path

from l2gnet.data.beside import aside
from l2gnet.data.dataset import open_dataset
from l2gnet.data.slices import load_slices
from l2gnet.files import sole_writer
from l2gnet.training.fit import fit
from l2gnet.training.processes import is_first, require_devices, started, train_in_processes
from l2gnet.training.recipes import about_mirrors
from l2gnet.training.run_folder import (
    TrainedRun,
    open_run,
    require_same_data,
    require_same_run,
    write_config,
    write_models,
)
from l2gnet.training.settings import TrainSettings


def folder_of(settings: TrainSettings, run_dir: str | Path = "") -> Path:
    """The folder of a run: the one named, or by default a new one in runs/."""
    return Path(run_dir or f"runs/{settings.data}-{settings.model}-{time.strftime('%Y%m%d-%H%M%S')}")


def train(settings: TrainSettings, run_dir: str | Path = "") -> TrainedRun:
    """Train a model as the settings say; logs and checkpoints go to `run_dir`, by default a new folder in runs/.

    Files: `config.json` (the settings), `data.json` (hashes of the data), `history.csv` (a row an epoch),
    `samples.npz` (a few predictions of the newest epoch), `codebook.npz` (the codes and their use at a few epochs),
    `model.safetensors` (after the last epoch, the one to report: nothing was selected on the validation patients),
    `best.safetensors` (highest validation Dice), `last.ckpt` (for resuming).

    Raises:
        ConfigError: the folder holds a run already, and `settings.resume` is off or its settings or data were others;
            or another training is writing to it; or there is no such accelerator here, or too few devices, or too
            little memory; or the loss is not finite any more.
        VolumeError: the data folder is not what it should be.
        CheckpointError: the checkpoint to resume from is damaged, or of another model.
    """
    run_dir = folder_of(settings, run_dir)
    require_devices(settings)
    if not started(settings):
        train_in_processes(train, settings, run_dir)
        return open_run(run_dir / "model.safetensors", data_dir=settings.data_dir, cache_dir=settings.cache_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    with sole_writer(run_dir / ".training-lock") if is_first(settings) else nullcontext():
        return _train(settings, run_dir)


def _train(settings: TrainSettings, run_dir: Path) -> TrainedRun:
    require_same_run(run_dir, settings)
    dataset = open_dataset(settings)
    if is_first(settings) and (words := about_mirrors(settings, dataset.classes)):
        aside(words)
    grid = dataset.grid(settings)
    require_same_data(run_dir, dataset, grid)
    slices = load_slices(settings, dataset, grid)
    if is_first(settings):
        write_config(run_dir, settings, dataset, grid)
    task, epochs = fit(settings, dataset, slices, run_dir)
    if is_first(settings):
        write_models(run_dir, settings, dataset, grid, task.model, epochs=epochs, parts=task.parts)
    return TrainedRun(task.model.eval(), dataset, grid, run_dir)
