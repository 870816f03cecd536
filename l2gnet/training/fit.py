"""A task is fitted to slices by Lightning: from the last checkpoint on, in as many parts as the memory wants."""

import gc
import importlib.util
import logging
import signal
import sys
import warnings
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from l2gnet.data.dataset import DataSet
from l2gnet.data.slices import SliceSet
from l2gnet.inspection.forming import FORMING_FILE
from l2gnet.models.pretrained import load_imagenet_weights
from l2gnet.models.transunet import TransUNet
from l2gnet.training.accumulation import next_parts
from l2gnet.training.batches import SliceData
from l2gnet.training.history import Forming, History, Pulse, Samples
from l2gnet.training.memory import keep_freed_memory
from l2gnet.training.processes import is_first
from l2gnet.training.resume import AtomicCheckpoints, BestSoFar, Patience, Resumable, require_resumable
from l2gnet.training.run_folder import BEST_FILE, RESUME_FILE
from l2gnet.training.settings import TrainSettings
from l2gnet.training.task import SegmentationTask


def fit(settings: TrainSettings, dataset: DataSet, slices: SliceSet, run_dir: Path) -> tuple[SegmentationTask, int]:
    """Train a model of the settings; returns its task, and how many epochs there have been.

    Raises:
        ConfigError: the device has too little memory, or the loss is not finite any more.
        CheckpointError: the checkpoint to resume from is damaged, or of another model.
        SystemExit: SIGTERM came, with the status that shells and queues expect.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # no advertisements in the log
    keep_freed_memory()
    parts = 1
    while True:
        gc.collect()  # what a try that failed may still hold of the device
        task, data = _new_task(settings, dataset, parts), SliceData(settings, dataset, slices)
        try:
            return task, _fit(task, data, settings, run_dir)
        except torch.OutOfMemoryError as error:
            # It may come anywhere within a step, so the next try starts from the last checkpoint.
            parts = next_parts(settings, data.order.batch_size, task.parts, error)
            print(f"the device has too little memory; now each batch passes in {parts} parts", flush=True)


def _new_task(settings: TrainSettings, dataset: DataSet, parts: int) -> SegmentationTask:
    pl.seed_everything(settings.seed, verbose=False)
    task = SegmentationTask(
        settings, dataset.classes, len(dataset.validation), parts, len(dataset.channels), dataset.regions
    )
    if settings.pretrained:
        assert isinstance(task.model, TransUNet)  # the settings see to it
        load_imagenet_weights(task.model, settings.pretrained)
    return task


def _fit(task: SegmentationTask, data: SliceData, settings: TrainSettings, run_dir: Path) -> int:
    """Train from the last checkpoint, if there is one; returns how many epochs there have been."""
    resume_file = run_dir / RESUME_FILE
    if resume_file.exists():
        require_resumable(resume_file, task)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")  # it is the run folder
        warnings.filterwarnings("ignore", "You're resuming from a checkpoint that ended before")  # SliceData can
        warnings.filterwarnings("ignore", "It is recommended to use .*sync_dist")  # all processes log the same
        warnings.filterwarnings("ignore", ".*LeafSpec.*deprecated")  # Lightning 2.6 on torch 2.13
        warnings.filterwarnings("ignore", "The `srun` command is available")  # one run needs no srun
        trainer = pl.Trainer(
            default_root_dir=run_dir,  # in a SLURM job a new run would start from an hpc_ckpt_*.ckpt of any other here
            max_epochs=settings.epochs,
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.nodes,
            strategy="ddp" if settings.processes > 1 else "auto",
            use_distributed_sampler=False,  # every process gets whole batches, and takes its part
            precision=settings.precision,
            logger=_logger(run_dir),
            callbacks=_callbacks(settings, run_dir),
            plugins=[AtomicCheckpoints(), *_environment(settings)],
            num_sanity_val_steps=0,
            log_every_n_steps=1,  # every metric is one an epoch anyway
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        try:
            trainer.fit(task, data, ckpt_path=resume_file if resume_file.exists() else None, weights_only=True)
        except SIGTERMException:  # an exit with status 0
            sys.exit(128 + signal.SIGTERM)
        except SystemExit as stop:
            if isinstance(stop.__context__, KeyboardInterrupt):  # which Lightning makes an exit with status 1
                raise KeyboardInterrupt from None
            raise
    return trainer.current_epoch


def _environment(settings: TrainSettings) -> list[ClusterEnvironment]:
    """What keeps a training of one process from taking the tasks of a SLURM job for processes that share it.

    Where several share it, it keeps Lightning from putting the job into its queue again, with a checkpoint of its own.
    """
    if settings.processes == 1:
        return [LightningEnvironment()]
    by_srun = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()  # which comes first, as in Lightning
    return [SLURMEnvironment(auto_requeue=False)] if by_srun else []


def _callbacks(settings: TrainSettings, run_dir: Path) -> list[Callback]:
    watchers: list[Callback] = []
    if is_first(settings):
        watchers = [
            Forming(run_dir / FORMING_FILE),  # before the row of its epoch, which tells those who watch of it
            History(run_dir / "history.csv"),
            Pulse(run_dir / "progress.json"),
            Samples(run_dir / "samples.npz"),
        ]
    early_stopping = [Patience(settings.patience)] if settings.patience else []
    return [BestSoFar(run_dir / BEST_FILE), *watchers, *early_stopping, Resumable(run_dir / RESUME_FILE)]


def _logger(run_dir: Path) -> Logger | None:
    """TensorBoard's log, when it is installed; `history.csv` is always written."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    return TensorBoardLogger(run_dir, name="", version="tensorboard")
