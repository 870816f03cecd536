"""Training: one recipe for every model, on Lightning; what a step does is in `task.py`."""

import gc
import importlib.util
import logging
import time
import warnings
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from l2gnet.data.dataset import DataSet, open_dataset
from l2gnet.data.grid import Grid
from l2gnet.data.slices import SliceSet, cache_key, cached_slices, prepare_slices
from l2gnet.data.volume import PLANES
from l2gnet.errors import CheckpointError, ConfigError
from l2gnet.files import read_json, sole_writer, write_json
from l2gnet.models import build_model
from l2gnet.models.backbone import SegmentationModel
from l2gnet.models.checkpoint import ModelCard, lightning_weights, load_checkpoint, require_resumable, save_checkpoint
from l2gnet.models.pretrained import load_imagenet_weights
from l2gnet.models.transunet import TransUNet
from l2gnet.prediction.doubt import learn_familiar
from l2gnet.prediction.model_card import describe_data
from l2gnet.training.accumulation import next_parts
from l2gnet.training.batches import SliceData
from l2gnet.training.history import History, Samples
from l2gnet.training.processes import is_first, started, train_in_processes
from l2gnet.training.resume import AtomicCheckpoints, Patience, Resumable
from l2gnet.training.settings import TrainSettings
from l2gnet.training.task import SegmentationTask
from l2gnet.version import code_version

RESUME_FILE = "last.ckpt"
_BEST_FILE = "best.ckpt"
_LOCAL = ("data_dir", "cache_dir", "pretrained")  # settings that are paths of this machine
_FREE = ("resume", "devices", "nodes", "accumulate")  # settings that a resumed run may change


@dataclass(frozen=True)
class TrainedRun:
    """A trained model in evaluation mode, with what it was trained on and where its files lie."""

    model: SegmentationModel
    dataset: DataSet
    grid: Grid
    run_dir: Path


def train(settings: TrainSettings, run_dir: str | Path = "") -> TrainedRun:
    """Train a model as the settings say; logs and checkpoints go to `run_dir`, by default a new folder in runs/.

    Files: `config.json` (the settings), `history.csv` (a row an epoch), `samples.npz` (a few predictions of the
    newest epoch), `model.safetensors` (after the last epoch, the one to report: nothing was selected on the
    validation patients), `best.safetensors` (highest validation Dice), `last.ckpt` (for resuming).

    Raises:
        ConfigError: the folder holds a run already, and `settings.resume` is off or its settings were others; or
            another training is writing to it; or there is no such accelerator here, or too few devices, or too little
            memory.
        VolumeError: the data folder is not what it should be.
        CheckpointError: the checkpoint to resume from is damaged, or of another model.
    """
    run_dir = Path(run_dir or f"runs/{settings.data}-{settings.model}-{time.strftime('%Y%m%d-%H%M%S')}")
    if settings.accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError("accelerator must be one that this machine has, got 'gpu' and no GPU; use auto or cpu")
    if settings.accelerator != "cpu" and settings.devices > torch.cuda.device_count() > 0:
        have = torch.cuda.device_count()
        raise ConfigError(f"devices must be at most the {have} GPUs of this machine, got {settings.devices}")
    if not started(settings):
        train_in_processes(settings, run_dir)
        return open_run(run_dir / "model.safetensors", data_dir=settings.data_dir, cache_dir=settings.cache_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    with sole_writer(run_dir / ".training-lock") if is_first(settings) else nullcontext():
        return _train(settings, run_dir)


def _train(settings: TrainSettings, run_dir: Path) -> TrainedRun:
    resume_file = run_dir / RESUME_FILE
    if resume_file.exists():
        _require_same_run(run_dir, settings)
    dataset = open_dataset(settings)
    grid = dataset.grid(settings)
    slices = load_slices(settings, dataset, grid)
    first = is_first(settings)
    if first:
        write_json(run_dir / "config.json", _shareable(settings) | {"pretrained": Path(settings.pretrained).name})
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # no advertisements in the log
    parts = 1
    epochs: int | None = None
    while epochs is None:
        gc.collect()  # what a try that failed may still hold of the device
        task, data = _new_task(settings, dataset, parts), SliceData(settings, dataset, slices)
        try:
            epochs = _fit(task, data, settings, run_dir)
        except torch.OutOfMemoryError as error:
            # It may come anywhere within a step, so the next try starts from the last checkpoint.
            parts = next_parts(settings, data.order.batch_size, task.parts, error)
            print(f"the device has too little memory; now each batch passes in {parts} parts", flush=True)
    card = ModelCard(
        settings.model,
        settings.model_settings(len(dataset.classes), len(dataset.channels)),
        dataset.classes,
        grid,
        {
            "settings": _shareable(settings),
            "pretrained": Path(settings.pretrained).name,
            "data_fingerprint": cache_key(dataset.cases, grid, len(dataset.classes)),
            "code": code_version(),
            "epochs": epochs,
            "parts": task.parts,
            **describe_data(dataset),
        },
        channels=dataset.channels,
    )
    if first:
        _save(run_dir / "model.safetensors", task.model, card, dataset)
        _save(run_dir / "best.safetensors", _best_model(run_dir / _BEST_FILE, card), card, dataset)
    return TrainedRun(task.model.eval(), dataset, grid, run_dir)


def _new_task(settings: TrainSettings, dataset: DataSet, parts: int) -> SegmentationTask:
    pl.seed_everything(settings.seed, verbose=False)
    task = SegmentationTask(settings, dataset.classes, len(dataset.validation), parts, len(dataset.channels))
    if settings.pretrained:
        assert isinstance(task.model, TransUNet)  # the settings see to it
        load_imagenet_weights(task.model, settings.pretrained)
    return task


def _fit(task: SegmentationTask, data: SliceData, settings: TrainSettings, run_dir: Path) -> int:
    """Train from the last checkpoint, if there is one; returns how many epochs there have been."""
    resume_file = run_dir / RESUME_FILE
    if resume_file.exists():
        require_resumable(resume_file, task)
    watchers = _watchers(run_dir) if is_first(settings) else []
    best = ModelCheckpoint(
        run_dir,
        filename=Path(_BEST_FILE).stem,
        monitor="val_dice",
        mode="max",
        enable_version_counter=False,
        save_on_train_epoch_end=False,  # but after validation, so that the checkpoint to resume from knows of it
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")  # it is the run folder
        warnings.filterwarnings("ignore", "You're resuming from a checkpoint that ended before")  # SliceData can
        warnings.filterwarnings("ignore", "It is recommended to use .*sync_dist")  # all processes log the same
        warnings.filterwarnings("ignore", ".*LeafSpec.*deprecated")  # Lightning 2.6 on torch 2.13
        warnings.filterwarnings("ignore", "The `srun` command is available")  # one run needs no srun
        trainer = pl.Trainer(
            max_epochs=settings.epochs,
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.nodes,
            strategy="ddp" if settings.processes > 1 else "auto",
            use_distributed_sampler=False,  # every process gets whole batches, and takes its part
            precision=settings.precision,
            logger=_logger(run_dir),
            callbacks=[best, *watchers, *_early_stopping(settings), Resumable(resume_file)],
            plugins=[AtomicCheckpoints()],
            num_sanity_val_steps=0,
            log_every_n_steps=1,  # every metric is one an epoch anyway
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(task, data, ckpt_path=resume_file if resume_file.exists() else None, weights_only=True)
    return trainer.current_epoch


def open_run(checkpoint: str | Path, *, data_dir: str = "", cache_dir: str = "cache") -> TrainedRun:
    """A run again, from its checkpoint: the model, and the data set and split of its settings.

    Raises:
        CheckpointError: the file is damaged, or does not say how it was trained.
        ConfigError: its data set needs a folder, and `data_dir` is none.
    """
    model, card = load_checkpoint(checkpoint)
    if "settings" not in card.training:
        raise CheckpointError(
            f"{checkpoint}: the model card must hold the settings of the run, found none; train again"
        )
    settings = TrainSettings.from_mapping(card.training["settings"] | {"data_dir": data_dir, "cache_dir": cache_dir})
    return TrainedRun(model, open_dataset(settings), card.grid, Path(checkpoint).parent)


def load_slices(settings: TrainSettings, dataset: DataSet, grid: Grid) -> SliceSet:
    """All slices of the data set on the model's grid; those of real data are kept in the cache folder."""
    if settings.data.startswith("phantom"):
        return prepare_slices(dataset.cases, grid, len(dataset.classes))
    return cached_slices(dataset.cases, grid, len(dataset.classes), settings.cache_dir)[0]


def _require_same_run(run_dir: Path, settings: TrainSettings) -> None:
    if not settings.resume:
        raise ConfigError(f"run_dir must be free, but {run_dir} holds a run; choose another, or set resume")
    # A setting that is younger than the run had its default.
    before, now = asdict(TrainSettings()) | read_json(run_dir / "config.json"), _shareable(settings)
    changed = sorted(name for name in now if name not in _FREE and before[name] != now[name])
    if changed:
        what = ", ".join(f"{name} {before[name]!r} -> {now[name]!r}" for name in changed)
        raise ConfigError(f"{run_dir}: a resumed run must keep its settings, got {what}; choose another folder")


def _shareable(settings: TrainSettings) -> dict[str, Any]:
    """What of the settings goes into a checkpoint, which may be passed on."""
    return {name: value for name, value in asdict(settings).items() if name not in _LOCAL}


def _watchers(run_dir: Path) -> list[Callback]:
    return [History(run_dir / "history.csv"), Samples(run_dir / "samples.npz")]


def _early_stopping(settings: TrainSettings) -> list[Callback]:
    return [Patience(settings.patience)] if settings.patience else []


def _logger(run_dir: Path) -> Logger | None:
    """TensorBoard's log, when it is installed; `history.csv` is always written."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    return TensorBoardLogger(run_dir, name="", version="tensorboard")


def _save(path: Path, model: SegmentationModel, card: ModelCard, dataset: DataSet) -> None:
    """Write a model with its card, and on the card what the model takes for normal."""
    familiar = learn_familiar(model, dataset.validation, card.grid)
    axial = dataset.window is not None and familiar.axes == (PLANES["axial"],)  # CT is cut across, however acquired
    training = card.training | {"familiar": familiar.as_dict()}
    save_checkpoint(path, model, replace(card, training=training, plane="axial" if axial else "acquired"))


def _best_model(checkpoint: Path, card: ModelCard) -> SegmentationModel:
    """The best epoch's model, from Lightning's file of this run."""
    best = build_model(card.model, **card.settings)
    best.load_state_dict(lightning_weights(checkpoint))
    return best
