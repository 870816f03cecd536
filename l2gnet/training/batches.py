"""The batches of a training, in an order that is a function of seed and epoch and can be entered anywhere."""

from collections.abc import Iterator

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from l2gnet.data.dataset import DataSet
from l2gnet.data.slices import SliceSet
from l2gnet.errors import ConfigError
from l2gnet.training.settings import TrainSettings


class SliceData(pl.LightningDataModule):
    """Batches of slices held in memory, in an order that seed and epoch decide."""

    def __init__(self, settings: TrainSettings, dataset: DataSet, slices: SliceSet):
        super().__init__()
        self.settings = settings
        self.training = slices.select(case.name for case in dataset.training)
        self.validation = slices.select(case.name for case in dataset.validation)
        size = min(settings.batch_size, len(self.training))
        if size % settings.processes:
            rule = f"batch_size must be at most the {size} training slices where processes share it"
            raise ConfigError(f"{rule}, got {settings.batch_size}; lower it to a multiple of {settings.processes}")
        self.order = _ShuffledBatches(len(self.training), size, settings.seed)

    def train_dataloader(self) -> DataLoader:
        """Shuffled batches of equal size; what is left over waits for the next epoch's order."""
        return _loader(self.training, self.order)

    def val_dataloader(self) -> DataLoader:
        """All validation slices in order."""
        rows = torch.arange(len(self.validation))
        return _loader(self.validation, [batch.tolist() for batch in rows.split(self.settings.batch_size)])

    def state_dict(self) -> dict[str, int]:
        """Where in the order the training is, for its checkpoint."""
        return {"epoch": self.order.epoch, "done": self.order.done}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on there."""
        self.order.epoch, self.order.done = state_dict["epoch"], state_dict["done"]


def mixed_seed(seed: int, count: int) -> int:
    """A seed of its own for each step or epoch of a run."""
    return seed * 1_000_003 + count


def _loader(slices: SliceSet, batches: Sampler | list) -> DataLoader:
    # A batch is one look-up in memory: worker processes would cost more than they save.
    return DataLoader(_Batches(slices), sampler=batches, batch_size=None)


class _Batches(Dataset):
    def __init__(self, slices: SliceSet):
        self.tensors = [torch.from_numpy(array) for array in (slices.images, slices.labels, slices.case)]

    def __getitem__(self, rows: list[int]) -> tuple[Tensor, ...]:
        return tuple(tensor[rows] for tensor in self.tensors)


class _ShuffledBatches(Sampler[list[int]]):
    def __init__(self, rows: int, batch_size: int, seed: int):
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.epoch, self.done = 0, 0  # batches of this epoch that have been handed out

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch, and when it goes on within one."""
        if epoch != self.epoch:
            self.epoch, self.done = epoch, 0

    def __len__(self) -> int:
        return self.rows // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, self.epoch))
        order = torch.randperm(self.rows, generator=generator).split(self.batch_size)
        self.done %= len(self)  # after a whole pass comes another
        for batch in order[self.done : len(self)]:
            self.done += 1
            yield batch.tolist()
