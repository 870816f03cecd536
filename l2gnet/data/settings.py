"""The settings that decide which images a model sees, and how."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from l2gnet.checks import nearest_path, require, require_choices, require_least

Name = Literal[
    "phantom",
    "phantom-abdomen",
    "phantom-key",
    "phantom-side",
    "phantom-match",
    "phantom-kidneys",
    "acdc",
    "synapse",
    "decathlon",
]


@dataclass(frozen=True)
class DataSettings:
    """Which data set, which of its patients are held out, and the grid on which its slices are seen."""

    data: Name = "phantom"  # phantom (hearts), phantom-abdomen, -key, -side, -match, -kidneys; acdc, synapse, decathlon
    data_dir: str = ""  # folder of the data set (decathlon: any of MSD or nnU-Net); the phantoms need none
    channel: str = ""  # image channels to use, by name or number, as "T2" or "T2, ADC"; empty: all, together
    window: str = ""  # grey values that become black and white, as "-125 275"; empty: those HU for CT, percentiles else
    cache_dir: str = "cache"  # prepared slices of real data are kept here
    patients: int = 40  # phantom patients to make; real data sets bring their own
    validation_patients: int = 8  # patients held out, equally from each diagnosis group; synapse has its own 12
    fold: int = -1  # hold out this fold of nnU-Net's splits_final.json, from 0 on; -1 draws a split (decathlon)
    structures: str = ""  # structures to learn, by name, as "liver, spleen"; the others are background; empty: all
    field_shift: float = 0.0  # fields of view lie off the middle by up to this share of a side, in training and testing
    train_on: str = ""  # train on a part only, as "phase=ED" or "group=NOR"; all held-out patients are still evaluated
    split_seed: int = 0  # decides which patients are held out, and which patients the phantom makes
    spacing_mm: float = 2.0  # in-plane pixel size that the model sees, in mm; 0 fits the whole slice into size_px
    size_px: int = 96  # height and width that the model sees, in pixels, around the middle of the scan

    def __post_init__(self) -> None:
        require_choices(self)
        if not self.data.startswith("phantom"):
            rule = f"the folder of the {self.data} data"
            there = self.data_dir != "" and Path(self.data_dir).is_dir()
            require(there, "data_dir", rule, self.data_dir, nearest_path(self.data_dir))
        made = self.data.startswith("phantom")
        require(
            not (made and self.structures),
            "structures",
            f"empty for {self.data}, which is learnt whole",
            self.structures,
        )
        channels = self.channel == "" or self.data == "decathlon"
        require(channels, "channel", f"empty for {self.data}, which has one channel", self.channel)
        require_least(self, 1, "patients", "validation_patients")
        require_least(self, 1, "size_px", most=4096)
        fits = self.spacing_mm == 0 or 0.01 <= self.spacing_mm <= 100
        require(fits, "spacing_mm", "0 or more, and if more from 0.01 to 100", self.spacing_mm)
        require_least(self, 0, "split_seed")
        require(0 <= self.field_shift < 1, "field_shift", "a share of a side, from 0 to below 1", self.field_shift)
        rule = "-1, or for data = decathlon a fold from 0 on"
        require(self.fold == -1 or (self.fold >= 0 and self.data == "decathlon"), "fold", rule, self.fold)
        rule = 'empty, or like "phase=ED" or "group=NOR"'
        require(re.fullmatch("((phase|group)=.+)?", self.train_on) is not None, "train_on", rule, self.train_on)
        rule = 'two numbers, the lower first, as "-125 275"'
        require(self.window == "" or self.window_range is not None, "window", rule, self.window)
        if self.data.startswith("phantom"):
            rule = f"below patients = {self.patients}"
            require(self.validation_patients < self.patients, "validation_patients", rule, self.validation_patients)

    @property
    def structure_names(self) -> tuple[str, ...]:
        """The names in `structures`."""
        return tuple(name.strip() for name in self.structures.split(",") if name.strip())

    @property
    def window_range(self) -> tuple[float, float] | None:
        """The two numbers of `window`; None where it has none."""
        try:
            low, high = (float(word) for word in self.window.split())
        except ValueError:
            return None
        return (low, high) if -math.inf < low < high < math.inf else None
