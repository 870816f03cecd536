"""Training: one recipe for every model, on Lightning.

The loss of the recipe (`recipes.py`) plus the bottleneck's own. Every random draw of a step is decided by the seed
and the step, so that a run does not depend on how it was interrupted.
"""

import importlib.util
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from l2gnet.checkpoint import ModelCard, lightning_weights, load_checkpoint, require_resumable, save_checkpoint
from l2gnet.codebook import codebook_usage
from l2gnet.data.dataset import DataSet, open_dataset
from l2gnet.data.grid import Grid
from l2gnet.data.slices import SliceSet, cache_key, cached_slices, prepare_slices
from l2gnet.data.volume import PLANES
from l2gnet.doubt import learn_familiar
from l2gnet.errors import CheckpointError, ConfigError
from l2gnet.files import read_json, write_json
from l2gnet.history import History, Samples
from l2gnet.inference import network_input
from l2gnet.model_card import describe_data
from l2gnet.models import build_model
from l2gnet.models.backbone import SegmentationModel, Trace
from l2gnet.models.pretrained import load_imagenet_weights
from l2gnet.models.transunet import TransUNet
from l2gnet.recipes import build_augmentation, build_loss, build_optimiser
from l2gnet.settings import TrainSettings
from l2gnet.shapes import Float, Int64
from l2gnet.version import code_version

RESUME_FILE = "last.ckpt"
_LOCAL = ("data_dir", "cache_dir", "pretrained")  # settings that are paths of this machine


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
            there is no such accelerator here.
        VolumeError: the data folder is not what it should be.
        CheckpointError: the checkpoint to resume from is damaged, or of another model.
    """
    run_dir = Path(run_dir or f"runs/{settings.data}-{settings.model}-{time.strftime('%Y%m%d-%H%M%S')}")
    resume_file = run_dir / RESUME_FILE
    if resume_file.exists():
        _require_same_run(run_dir, settings)
    if settings.accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError("accelerator must be one that this machine has, got 'gpu' and no GPU; use auto or cpu")
    dataset = open_dataset(settings)
    grid = Grid(settings.spacing_mm, settings.size_px, dataset.window)
    slices = load_slices(settings, dataset, grid)
    write_json(run_dir / "config.json", _shareable(settings) | {"pretrained": Path(settings.pretrained).name})
    pl.seed_everything(settings.seed, verbose=False)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # no advertisements in the log
    task = SegmentationTask(settings, dataset.classes, len(dataset.validation))
    if settings.pretrained:
        assert isinstance(task.model, TransUNet)  # the settings see to it
        load_imagenet_weights(task.model, settings.pretrained)
    if resume_file.exists():
        require_resumable(resume_file, task.model)
    best = ModelCheckpoint(run_dir, filename="best", monitor="val_dice", mode="max", enable_version_counter=False)
    last = ModelCheckpoint(run_dir, filename=Path(RESUME_FILE).stem, enable_version_counter=False)
    trainer = pl.Trainer(
        max_epochs=settings.epochs,
        accelerator=settings.accelerator,
        devices=1,
        precision=settings.precision,
        logger=_logger(run_dir),
        callbacks=[best, last, *_watchers(run_dir), *_early_stopping(settings)],
        num_sanity_val_steps=0,
        log_every_n_steps=1,  # every metric is one an epoch anyway
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")  # it is the run folder
        warnings.filterwarnings("ignore", ".*LeafSpec.*deprecated")  # Lightning 2.6 on torch 2.13
        trainer.fit(
            task,
            SliceData(settings, dataset, slices),
            ckpt_path=resume_file if resume_file.exists() else None,
            weights_only=True,
        )
    card = ModelCard(
        settings.model,
        settings.model_settings(len(dataset.classes)),
        dataset.classes,
        grid,
        {
            "settings": _shareable(settings),
            "pretrained": Path(settings.pretrained).name,
            "data_fingerprint": cache_key(dataset.cases, grid, len(dataset.classes)),
            "code": code_version(),
            "epochs": trainer.current_epoch,
            **describe_data(dataset),
        },
    )
    _save(run_dir / "model.safetensors", task.model, card, dataset)
    _save(run_dir / "best.safetensors", _best_model(Path(best.best_model_path), card), card, dataset)
    return TrainedRun(task.model.eval(), dataset, grid, run_dir)


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


class SegmentationTask(pl.LightningModule):
    """A model with its loss, its optimiser, and what is logged of it."""

    def __init__(self, settings: TrainSettings, classes: tuple[str, ...], validation_cases: int):
        super().__init__()
        self.settings, self.classes, self.validation_cases = settings, classes, validation_cases
        self.model = build_model(settings.model, **settings.model_settings(len(classes)))
        self.augmentation = build_augmentation(settings)
        self.segmentation_loss = build_loss(settings)
        self._codes: list[Tensor] = []
        self._overlap: Tensor

    def training_step(self, batch: Sequence[Tensor], batch_index: int) -> Tensor:
        """Augment, predict, and add up the losses."""
        slices, labels, _ = batch
        torch.manual_seed(_mixed_seed(self.settings.seed, self.global_step))
        images, labels = self.augmentation(network_input(slices), labels.long())
        trace = self.model.trace(images)
        loss = self.loss(trace, labels)
        self.log("loss", loss.detach(), on_step=False, on_epoch=True)
        self._log_latent(trace)
        return loss

    def loss(self, trace: Trace, labels: Int64[Tensor, "B H W"]) -> Float[Tensor, ""]:
        """Segmentation loss, at each depth if supervised deeply (weights 1, 1/2, 1/4 ...), plus the bottleneck's."""
        target = labels[:, None]
        total = self.segmentation_loss(trace.logits.float(), target)
        for level, side in enumerate(reversed(trace.side_logits), start=1):
            coarse = F.interpolate(target.float(), side.shape[2:], mode="nearest")
            total = total + 0.5**level * self.segmentation_loss(side.float(), coarse)
        return total if trace.latent.loss is None else total + trace.latent.loss

    def on_validation_epoch_start(self) -> None:
        """Start counting overlaps afresh."""
        self._overlap = torch.zeros(self.validation_cases, 3, len(self.classes), device=self.device)

    def validation_step(self, batch: Sequence[Tensor], batch_index: int) -> Int64[Tensor, "B H W"]:
        """Count voxels of each case: in both, in the prediction, in the truth; returns the predicted labels."""
        slices, labels, case = batch
        L = len(self.classes)
        predicted_labels = self.model(network_input(slices)).argmax(1)
        predicted = F.one_hot(predicted_labels, L).flatten(1, 2).float()
        truth = F.one_hot(labels.long(), L).flatten(1, 2).float()
        counts = torch.stack([(predicted * truth).sum(1), predicted.sum(1), truth.sum(1)], dim=1)
        self._overlap.index_add_(0, case, counts)
        return predicted_labels

    def on_validation_epoch_end(self) -> None:
        """Log Dice a structure, averaged over cases (on the model's grid, for watching only), and codebook use."""
        both, predicted, truth = self._overlap[:, :, 1:].unbind(1)
        dice = torch.where(truth + predicted > 0, 2 * both / (truth + predicted), torch.nan).nanmean(0)
        self.log_dict({f"val_dice_{name.replace(' ', '_')}": d for name, d in zip(self.classes[1:], dice, strict=True)})
        self.log("val_dice", dice.nanmean())
        if self._codes and self.model.codebook:  # of the training epoch that ends with this validation
            usage = codebook_usage(self._codes, len(self.model.codebook.vectors))
            self.log("codes_used", float(usage.used))
            self.log("codes_perplexity", usage.perplexity)
            self.log("codes_per_image", usage.codes_per_image)
            self._codes = []

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The recipe's optimiser, and its schedule over all steps."""
        return build_optimiser(
            self.settings, self.model.parameters(), steps=int(self.trainer.estimated_stepping_batches)
        )

    def _log_latent(self, trace: Trace) -> None:
        if trace.latent.codes is not None:
            self._codes.append(trace.latent.codes.detach())
        if trace.latent.revived is not None:
            self.log("codes_revived", trace.latent.revived.float(), on_step=False, on_epoch=True, reduce_fx="sum")
        if trace.latent.loss is not None:
            self.log("quantiser_loss", trace.latent.loss.detach(), on_step=False, on_epoch=True)
        if trace.latent.transport is not None:
            transport = trace.latent.transport
            self.log("transport_error", transport.marginal_error.max(), on_step=False, on_epoch=True, reduce_fx="max")
            self.log("transport_iterations", transport.iterations.float().mean(), on_step=False, on_epoch=True)


class SliceData(pl.LightningDataModule):
    """Batches of slices held in memory, in an order that seed and epoch decide."""

    def __init__(self, settings: TrainSettings, dataset: DataSet, slices: SliceSet):
        super().__init__()
        self.settings = settings
        self.training = slices.select(case.name for case in dataset.training)
        self.validation = slices.select(case.name for case in dataset.validation)

    def train_dataloader(self) -> DataLoader:
        """Shuffled batches of equal size; what is left over waits for the next epoch's order."""
        size = min(self.settings.batch_size, len(self.training))
        return _loader(self.training, _ShuffledBatches(len(self.training), size, self.settings.seed))

    def val_dataloader(self) -> DataLoader:
        """All validation slices in order."""
        rows = torch.arange(len(self.validation))
        return _loader(self.validation, [batch.tolist() for batch in rows.split(self.settings.batch_size)])


class _Batches(Dataset):
    def __init__(self, slices: SliceSet):
        self.tensors = [torch.from_numpy(array) for array in (slices.images, slices.labels, slices.case)]

    def __getitem__(self, rows: list[int]) -> tuple[Tensor, ...]:
        return tuple(tensor[rows] for tensor in self.tensors)


class _ShuffledBatches(Sampler[list[int]]):
    def __init__(self, rows: int, batch_size: int, seed: int):
        self.rows, self.batch_size, self.seed, self.epoch = rows, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.rows // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(_mixed_seed(self.seed, self.epoch))
        order = torch.randperm(self.rows, generator=generator).tolist()
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield order[start : start + self.batch_size]


def _require_same_run(run_dir: Path, settings: TrainSettings) -> None:
    if not settings.resume:
        raise ConfigError(f"run_dir must be free, but {run_dir} holds a run; choose another, or set resume")
    # A setting that is younger than the run had its default.
    before, now = asdict(TrainSettings()) | read_json(run_dir / "config.json"), _shareable(settings)
    changed = sorted(name for name in now if name != "resume" and before[name] != now[name])
    if changed:
        what = ", ".join(f"{name} {before[name]!r} -> {now[name]!r}" for name in changed)
        raise ConfigError(f"{run_dir}: a resumed run must keep its settings, got {what}; choose another folder")


def _shareable(settings: TrainSettings) -> dict[str, Any]:
    """What of the settings goes into a checkpoint, which may be passed on."""
    return {name: value for name, value in asdict(settings).items() if name not in _LOCAL}


def _loader(slices: SliceSet, batches: Sampler | list) -> DataLoader:
    # A batch is one look-up in memory: worker processes would cost more than they save.
    return DataLoader(_Batches(slices), sampler=batches, batch_size=None)


def _mixed_seed(seed: int, count: int) -> int:
    return seed * 1_000_003 + count


def _watchers(run_dir: Path) -> list[Callback]:
    return [History(run_dir / "history.csv"), Samples(run_dir / "samples.npz")]


def _early_stopping(settings: TrainSettings) -> list[Callback]:
    return [EarlyStopping("val_dice", mode="max", patience=settings.patience)] if settings.patience else []


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
