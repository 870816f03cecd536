"""Going on with a training that was stopped at any moment, as if it had not been stopped.

The order of the data is a function of seed and epoch (`batches.py`), a step's random draws one of seed and step
(`task.py`); the rest of what decides a training lies in its checkpoint.
"""

import pickle
import random
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from l2gnet.errors import CheckpointError
from l2gnet.files import atomic_path
from l2gnet.models.checkpoint import require_finite, require_shapes

SAVE_EVERY_S = 60.0  # within an epoch


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints are whole or absent (Lightning's own go through another folder, maybe on another disk)."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint atomically."""
        with atomic_path(path) as temporary:
            torch.save(checkpoint, temporary)


class Resumable(Callback):
    """Keep in `path` what a stopped training goes on from: after every epoch, and each minute within one.

    It must come after the callbacks whose files have to be written before an epoch counts as done.
    """

    def __init__(self, path: Path):
        self.path = path
        self.random_states: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """The states of all random generators, as numbers and tensors, since a checkpoint holds nothing else."""
        name, keys, *rest = np.random.get_state()
        return {
            "python": random.getstate(),
            "numpy": (name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states until training starts, because setting up draws numbers too."""
        self.random_states = state_dict

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the random generators to where they were."""
        self.saved = time.monotonic()
        if self.random_states:
            random.setstate(self.random_states["python"])
            name, keys, *rest = self.random_states["numpy"]
            np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
            torch.set_rng_state(self.random_states["torch"])
            if torch.cuda.device_count() == len(self.random_states["cuda"]):
                torch.cuda.set_rng_state_all(self.random_states["cuda"])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time, but not on the last batch, which the epoch's own checkpoint follows."""
        due = time.monotonic() - self.saved >= SAVE_EVERY_S and batch_idx + 1 < trainer.num_training_batches
        if trainer.strategy.reduce_boolean_decision(due, all=False):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the finished epoch."""
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self.saved = time.monotonic()


class BestSoFar(ModelCheckpoint):
    """Keep the epoch with the best validation Dice in `path`, also where the run folder lay elsewhere before."""

    def __init__(self, path: Path):
        super().__init__(
            path.parent,
            filename=path.stem,
            monitor="val_dice",
            mode="max",
            enable_version_counter=False,
            save_on_train_epoch_end=False,  # but after validation, so that the checkpoint to resume from knows of it
        )

    @property
    def state_key(self) -> str:
        """The name of its state in checkpoints, those of older versions too."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what was best; Lightning would forget it in a folder that was moved, and write a worse over it."""
        here = str(self.dirpath)

        def moved(path: str) -> str:
            return str(Path(here, Path(path).name)) if path else ""

        paths = {name: moved(path) for name, path in state_dict.items() if name.endswith("model_path")}
        best = {moved(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(state_dict | paths | {"dirpath": here, "best_k_models": best})


class Patience(EarlyStopping):
    """Stop when validation Dice has not got better for `epochs` epochs, also when killed right after deciding so."""

    def __init__(self, epochs: int):
        super().__init__("val_dice", mode="max", patience=epochs, check_on_train_epoch_end=False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember a decision that was taken before the training was stopped."""
        trainer.should_stop = self.wait_count >= self.patience


def require_resumable(path: str | Path, task: torch.nn.Module) -> None:
    """Check a checkpoint of Lightning before it is resumed from: it is ours, whole, and of this task.

    It is a pickle inside a zip file; `weights_only=True` refuses every pickle that would run code.

    Raises:
        CheckpointError: the file is damaged, holds more than finite numbers, or is of another model.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("compressed entries, which torch does not write")
            damaged = archive.testzip()
            if damaged is not None:
                raise ValueError(f"another checksum in {damaged}")
        require_shapes(task, {name: tuple(tensor.shape) for name, tensor in _lightning(path)["state_dict"].items()})
        require_finite(lightning_weights(path))
    # A stranger's bytes can be wrong in as many ways as zip, pickle and torch know.
    except Exception as error:
        reason = str(error).partition("\n")[0][:300]
        if isinstance(error, pickle.UnpicklingError):
            reason = "a pickle that holds more than numbers, or is damaged"
        raise CheckpointError(
            f"{path}: a run resumes from a whole checkpoint of its own model, got: {reason}; "
            "train in another folder, or remove the file to start anew"
        ) from error


def lightning_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """The weights of the model in a checkpoint of Lightning; a pickle that would run code is refused."""
    state = _lightning(path)["state_dict"]
    return {name.removeprefix("model."): weight for name, weight in state.items() if name.startswith("model.")}


def lightning_epochs(path: str | Path) -> int:
    """How many epochs the model in a checkpoint of Lightning has been trained for, that under way included."""
    return int(_lightning(path)["epoch"]) + 1


def _lightning(path: str | Path) -> Any:  # a stranger's file may hold anything
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
