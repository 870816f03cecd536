"""Every setting of a training run: the flags of `l2gnet train` and the parameters of `notebooks/01_train.ipynb`."""

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from l2gnet.errors import ConfigError
from l2gnet.models import ModelName, Variant, model_options

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True)
class TrainSettings:
    """What decides a training run. The defaults are a demonstration on the phantom, done in under a minute."""

    model: ModelName = "l2gnet"  # unet, attn_unet, vq_unet, transunet, synergynet or l2gnet
    variant: Variant = "matched"  # matched (one backbone for all models) or published (sizes of the model's source)
    pretrained: str = ""  # file of ImageNet weights to start from, .npz or .safetensors (published transunet)
    data: Literal["phantom", "phantom-abdomen", "acdc", "synapse", "decathlon"] = (
        "phantom"  # phantom (hearts), phantom-abdomen, acdc, synapse, or decathlon (any MSD or nnU-Net folder)
    )
    data_dir: str = ""  # folder of the data set; the phantoms need none
    channel: str = ""  # image channels to use, by name or number, as "T2" or "T2, ADC"; empty: all, together
    window: str = ""  # grey values that become black and white, as "-125 275"; empty: those HU for CT, percentiles else
    cache_dir: str = "cache"  # prepared slices of real data are kept here
    patients: int = 40  # phantom patients to make; real data sets bring their own
    validation_patients: int = 8  # patients held out, equally from each diagnosis group; synapse has its own 12
    fold: int = -1  # hold out this fold of nnU-Net's splits_final.json, from 0 on; -1 draws a split (decathlon)
    train_on: str = ""  # train on a part only, as "phase=ED" or "group=NOR"; all held-out patients are still evaluated
    spacing_mm: float = 2.0  # in-plane pixel size that the model sees, in mm; 0 fits the whole slice into size_px
    size_px: int = 96  # height and width that the model sees, in pixels, around the middle of the scan
    width: int = 8  # channels at full resolution; they double at each level (published models have their own sizes)
    depth: int = 4  # halvings of the resolution between image and bottleneck
    deep_supervision: bool = False  # also train the coarser decoder levels
    codes: int = 128  # K, vectors in the codebook (vq_unet, synergynet, l2gnet)
    code_dim: int = 32  # d, dimension of a code (vq_unet, synergynet, l2gnet)
    commitment: float = 0.0  # weight of the loss that draws tokens to their codes (vq_unet, synergynet, l2gnet)
    references: int = 32  # R, trainable references that codes are transported to (l2gnet)
    heads: int = 1  # parts of the code dimension with a transport plan each (l2gnet)
    epsilon: float = 0.02  # entropy of the transport plan, in units of the cost, which lies in 0 to 1 (l2gnet)
    cost: Literal["cosine", "euclidean", "dot"] = (
        "cosine"  # cost between codes and references: cosine, euclidean or dot (l2gnet)
    )
    readout: Literal["barycentric", "grid"] = (
        "barycentric"  # way back from references to pixels: barycentric or grid (l2gnet)
    )
    epochs: int = 10  # passes over the training slices
    batch_size: int = 16  # slices a step, of all devices together
    recipe: Literal["onecycle", "transunet"] = (
        "onecycle"  # onecycle (AdamW) or transunet (SGD, polynomial decay, its loss and augmentation)
    )
    learning_rate: float = 0.005  # peak of the one-cycle schedule, start of the polynomial one
    weight_decay: float = 0.01  # of the optimiser
    flips: bool = False  # mirror training slices left to right and top to bottom (onecycle)
    convention: Literal["strict", "transunet"] = (
        "strict"  # scores: strict (missed is infinitely far) or transunet (its edge cases, in voxels)
    )
    patience: int = 0  # epochs without a better validation Dice before training stops early; 0 never stops
    precision: Precision = "32-true"  # 32-true, bf16-mixed or 16-mixed (Lightning's names)
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"  # auto, cpu or gpu
    devices: int = 1  # GPUs of a machine that share each batch, a process each; the result is the same within rounding
    nodes: int = 1  # machines with so many devices; srun or torchrun starts the processes where there are several
    accumulate: bool = False  # where a GPU has too little memory for a batch, pass it in 2, 4, 8 ... parts
    split_seed: int = 0  # decides which patients are held out, and which patients the phantom makes
    seed: int = 0  # decides weights, order and augmentation
    resume: bool = False  # go on from the last checkpoint in the run folder

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            choices = get_args(field.type)
            value = getattr(self, field.name)
            _require(not choices or value in choices, field.name, f"one of {', '.join(map(str, choices))}", value)
        if self.pretrained:
            fits = (self.model, self.variant) == ("transunet", "published")
            _require(fits, "pretrained", "empty for any model but published transunet", self.pretrained)
            _require(Path(self.pretrained).is_file(), "pretrained", "a file of weights", self.pretrained)
        if not self.data.startswith("phantom"):
            rule = f"the folder of the {self.data} data"
            _require(self.data_dir != "" and Path(self.data_dir).is_dir(), "data_dir", rule, self.data_dir)
        counts = ("patients", "validation_patients", "size_px", "width", "depth", "epochs", "batch_size")
        for name in (*counts, "codes", "code_dim", "references", "heads", "devices", "nodes"):
            _require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        for name in ("epsilon", "learning_rate"):
            _require(0 < getattr(self, name) < float("inf"), name, "above 0 and finite", getattr(self, name))
        for name in ("spacing_mm", "commitment", "weight_decay", "patience", "split_seed", "seed"):
            _require(0 <= getattr(self, name) < float("inf"), name, "0 or more, and finite", getattr(self, name))
        rule = "-1, or for data = decathlon a fold from 0 on"
        _require(self.fold == -1 or (self.fold >= 0 and self.data == "decathlon"), "fold", rule, self.fold)
        rule = 'empty, or like "phase=ED" or "group=NOR"'
        _require(re.fullmatch("((phase|group)=.+)?", self.train_on) is not None, "train_on", rule, self.train_on)
        smallest = 2 ** (self.depth + 1)
        _require(self.size_px >= smallest, "size_px", f"at least {smallest} at depth {self.depth}", self.size_px)
        _require(self.code_dim % self.heads == 0, "heads", f"a divisor of code_dim = {self.code_dim}", self.heads)
        rule = f"a multiple of devices x nodes = {self.processes}"
        _require(self.batch_size % self.processes == 0, "batch_size", rule, self.batch_size)
        rule = f"off where processes share a batch, devices x nodes = {self.processes}"  # the others would wait for one
        _require(not self.accumulate or self.processes == 1, "accumulate", rule, self.accumulate)
        rule = 'two numbers, the lower first, as "-125 275"'
        _require(self.window == "" or self.window_range is not None, "window", rule, self.window)
        if self.data.startswith("phantom"):
            rule = f"below patients = {self.patients}"
            _require(self.validation_patients < self.patients, "validation_patients", rule, self.validation_patients)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "TrainSettings":
        """Check names and types of values from a file, a notebook or a command line, then build the settings.

        Raises:
            ConfigError: a name is unknown, or a value has another type or is out of range.
        """
        types = {field.name: field.type for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(types))
        if unknown:
            raise ConfigError(f"unknown setting {', '.join(unknown)}; the settings are {', '.join(types)}")
        checked = {}
        for name, value in values.items():
            wanted: Any = str if get_args(types[name]) else types[name]
            if wanted is float and type(value) is int:
                value = float(value)
            if type(value) is not wanted:
                rule = f"of type {wanted.__name__}"
                raise ConfigError(f"{name} must be {rule}, got {value!r} of type {type(value).__name__}")
            checked[name] = value
        return cls(**checked)

    @property
    def processes(self) -> int:
        """How many processes share each batch."""
        return self.devices * self.nodes

    @property
    def window_range(self) -> tuple[float, float] | None:
        """The two numbers of `window`; None where it has none."""
        try:
            low, high = (float(word) for word in self.window.split())
        except ValueError:
            return None
        return (low, high) if -math.inf < low < high < math.inf else None

    def model_settings(self, classes: int, channels: int = 1) -> dict[str, Any]:
        """The part of these settings that builds the model, for `build_model(settings.model, ...)`."""
        own = dataclasses.asdict(self)
        names = ["variant", *(name for name in model_options(self.model, self.variant) if name in own)]
        return {"classes": classes, "channels": channels} | {name: own[name] for name in names}


def _require(holds: bool, name: str, rule: str, value: Any) -> None:
    if not holds:
        raise ConfigError(f"{name} must be {rule}, got {value!r}")
