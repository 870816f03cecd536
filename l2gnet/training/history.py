"""The log of a training run: a row an epoch in `history.csv`, a line on the screen, and what lets one watch it."""

import csv
import math
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from l2gnet.data.volume import IGNORED
from l2gnet.files import atomic_path, write_json
from l2gnet.tables import read_rows
from l2gnet.training.task import SegmentationTask

_FORMING_BYTES = 600_000  # of all snapshots of a codebook, unless it is so large that two are more


class History(Callback):
    """Append a row an epoch to `path`, and print what a person wants to see of it.

    A resumed run keeps the rows before the epoch that it goes on with (Lightning's own CSV logger would delete
    them, and spreads an epoch over several rows).
    """

    def __init__(self, path: Path):
        self.path = path
        self.rows: list[dict[str, str]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock and take up earlier rows (before this hook a resumed run does not know its epoch yet)."""
        self.started, self.first_epoch = time.monotonic(), trainer.current_epoch
        if self.path.exists():
            self.rows = [row for row in read_rows(self.path) if int(row["epoch"]) <= trainer.current_epoch]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the row and print the line, once the epoch's validation is done too."""
        done, elapsed = trainer.current_epoch + 1, time.monotonic() - self.started
        # By name, but structures in the order of their labels, which decides their colours.
        named = sorted(trainer.callback_metrics.items(), key=lambda item: re.sub("^val_dice_.*", "val_dice_", item[0]))
        metrics = {name: float(value) for name, value in named}
        row = {"epoch": str(done), "seconds": f"{elapsed:.1f}"} | {name: f"{v:.6g}" for name, v in metrics.items()}
        self.rows.append(row)
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        with atomic_path(self.path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.rows)
        epochs = trainer.max_epochs or done
        left = elapsed / (done - self.first_epoch) * (epochs - done)
        codes = f"  codes {metrics['codes_used']:.0f}" if "codes_used" in metrics else ""
        print(
            f"epoch {done:3d}/{epochs}  loss {metrics['loss']:.4f}  val Dice {metrics['val_dice']:.4f}"
            f"{codes}  {elapsed:.0f} s, {left:.0f} s left",
            flush=True,
        )


class Pulse(Callback):
    """Tell in `path` how far the run is, within its epoch too, at most once a second.

    The file holds `epochs`, those done with the part of the one at work, and `loss`, that of the last batch.
    """

    def __init__(self, path: Path):
        self.path = path
        self.told = -math.inf

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write it, if a second has passed."""
        if time.monotonic() - self.told < 1:
            return
        self.told = time.monotonic()
        part = (batch_idx + 1) / max(trainer.num_training_batches, 1)
        loss = float(outputs["whole"])
        write_json(self.path, {"epochs": trainer.current_epoch + part, "loss": loss if math.isfinite(loss) else None})


class Samples(Callback):
    """Keep what the newest epoch predicts for a few validation slices in `path`, for whoever watches the run.

    The file holds `image` (of several channels the first), `truth` and `predicted` (B, H, W) of the first batch's most
    labelled slice of up to `count` cases, and the `epoch`.
    """

    def __init__(self, path: Path, count: int = 4):
        self.path, self.count = path, count

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the samples; later batches are left alone."""
        if batch_idx > 0:
            return
        slices, labels, case = batch
        labelled = ((labels > 0) & (labels != IGNORED)).flatten(1).sum(1)
        rows = [int(torch.where(case == one, labelled, -1).argmax()) for one in case.unique()[: self.count]]
        kinds = {"image": slices[:, 0], "truth": labels, "predicted": outputs}
        arrays: dict[str, Any] = {name: tensor[rows].to(torch.uint8).cpu().numpy() for name, tensor in kinds.items()}
        with atomic_path(self.path) as temporary:
            np.savez_compressed(temporary, epoch=trainer.current_epoch + 1, **arrays)


class Forming(Callback):
    """Keep in `path` how the codebook forms: its vectors and their use at up to `most` epochs, for whoever looks back.

    They are evenly chosen from the first to the newest epoch; of a large codebook there are fewer. A model without one
    leaves no file. The file holds `epochs` (E), `vectors` (E K d) in half precision and `uses` (E K), tokens of the
    epoch.
    """

    def __init__(self, path: Path, most: int = 10):
        self.path, self.most = path, most
        self.kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take up what an earlier part of the run has kept."""
        if self.path.exists():
            with np.load(self.path) as kept:
                rows = zip(kept["epochs"].tolist(), kept["vectors"], kept["uses"], strict=True)
                self.kept = {epoch: (vectors, uses) for epoch, vectors, uses in rows if epoch <= trainer.current_epoch}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the codebook of the epoch, and let go of one that is not among those to keep."""
        assert isinstance(pl_module, SegmentationTask)
        codebook, done = pl_module.model.codebook, trainer.current_epoch + 1
        if codebook is None:
            return
        most = max(2, min(self.most, _FORMING_BYTES // (2 * codebook.vectors.numel())))
        chosen = np.linspace(1, max(trainer.max_epochs or done, done), most).round().astype(int).tolist()
        now = codebook.vectors.detach().half().cpu().numpy()
        self.kept[done] = now, pl_module.code_use.counts.cpu().numpy()
        self.kept = {epoch: kept for epoch, kept in self.kept.items() if epoch in (*chosen, done)}
        vectors, uses = (np.stack(each) for each in zip(*self.kept.values(), strict=True))
        with atomic_path(self.path) as temporary:
            np.savez_compressed(temporary, epochs=np.array(list(self.kept)), vectors=vectors, uses=uses)
