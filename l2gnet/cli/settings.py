"""The settings of training as flags, those of each room under a heading of their own.

They are checked by whoever puts them together, not one by one: a part's error would come in a frame of tyro's.
"""

from l2gnet.data.settings import DataSettings
from l2gnet.models.settings import ModelSettings
from l2gnet.training.settings import OptimisationSettings, RunSettings


class _Unchecked:
    def __post_init__(self) -> None:
        """Leave the check to the whole."""


class Model(_Unchecked, ModelSettings):
    """Which model, and how large; the defaults are small enough for a demonstration."""


class Data(_Unchecked, DataSettings):
    """Which data set, which of its patients are held out, and the grid on which its slices are seen."""


class Optimisation(_Unchecked, OptimisationSettings):
    """How a model is made to fit its slices."""


class Run(_Unchecked, RunSettings):
    """On what a training runs, and how its result is scored."""
