"""Every setting of a training run: the flags of `l2gnet train` and the parameters of `notebooks/01_train.ipynb`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from l2gnet.checks import checked_settings, require, require_choices, require_least, require_positive
from l2gnet.data.settings import DataSettings
from l2gnet.models.settings import UNNAMED, ModelSettings, Precision

Recipe = Literal["onecycle", "transunet"]
Scoring = Literal["strict", "transunet"]


@dataclass(frozen=True)
class OptimisationSettings:
    """How a model is made to fit its slices."""

    epochs: int = 10  # passes over the training slices
    batch_size: int = 16  # slices a step, of all devices together
    recipe: Recipe = "onecycle"  # onecycle (AdamW) or transunet (SGD, polynomial decay, its loss and augmentation)
    learning_rate: float = 0.005  # peak of the one-cycle schedule, start of the polynomial one
    weight_decay: float = 0.01  # of the optimiser
    flips: bool = False  # mirror training slices both ways, unless a class has a side (onecycle)
    patience: int = 0  # stop after so many epochs without a better Dice of those held out (and scored); 0: never
    seed: int = 0  # decides weights, order and augmentation

    def __post_init__(self) -> None:
        require_choices(self)
        require_least(self, 1, "epochs", "batch_size")
        require_positive(self, "learning_rate")
        require_least(self, 0, "weight_decay", "patience", "seed")


@dataclass(frozen=True)
class RunSettings:
    """On what a training runs, and how its result is scored."""

    convention: Scoring = "strict"  # scores: strict (missed is infinitely far) or transunet (its edge cases, in voxels)
    precision: Precision = "32-true"  # 32-true, bf16-mixed or 16-mixed (Lightning's names)
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"  # auto, cpu or gpu
    devices: int = 1  # GPUs of a machine that share each batch; same result but for rounding and transunet's dropout
    nodes: int = 1  # machines with so many devices; srun or torchrun starts the processes where there are several
    accumulate: bool = False  # where a GPU has too little memory for a batch, pass it in 2, 4, 8 ... parts
    resume: bool = False  # go on from the last checkpoint in the run folder

    def __post_init__(self) -> None:
        require_choices(self)
        require_least(self, 1, "devices", "nodes")
        rule = f"off where processes share a batch, devices x nodes = {self.processes}"  # the others would wait for one
        require(not self.accumulate or self.processes == 1, "accumulate", rule, self.accumulate)

    @property
    def processes(self) -> int:
        """How many processes share each batch."""
        return self.devices * self.nodes


@dataclass(frozen=True)
class TrainSettings(RunSettings, OptimisationSettings, DataSettings, ModelSettings):
    """What decides a training run: the settings of each room, side by side under their own names.

    The defaults are a demonstration on the phantom, done in a minute or two.
    """

    def __post_init__(self) -> None:
        for part in PARTS:
            part.__post_init__(self)
        self.require_size(self.size_px)
        rule = f"a multiple of devices x nodes = {self.processes}"
        require(self.batch_size % self.processes == 0, "batch_size", rule, self.batch_size)
        mirrored = self.recipe != "transunet" or not self.flips
        require(mirrored, "flips", "off for the recipe transunet, which has mirrors of its own", self.flips)
        moves = self.recipe != "transunet" or not self.field_shift
        require(moves, "field_shift", "0 for the recipe transunet, which moves no slice in training", self.field_shift)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "TrainSettings":
        """Check names and types of values from a file, a notebook or a command line, then build the settings.

        Raises:
            ConfigError: a name is unknown, or a value has another type or is out of range.
        """
        return checked_settings(cls, values)


PARTS: tuple[Any, ...] = (ModelSettings, DataSettings, OptimisationSettings, RunSettings)

OF_A_START = ("resume", "devices", "nodes", "accumulate")  # of one start of a training, which another may change


def whole_settings(named: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a run by those that it names; one that is younger than the run had the default of then."""
    return asdict(TrainSettings()) | UNNAMED | dict(named)
