"""The data of a training again, from the model that it left: found without what trains."""

from l2gnet.data.dataset import Case, open_dataset
from l2gnet.models.card import ModelCard
from l2gnet.training.settings import TrainSettings


def held_out_cases(card: ModelCard, *, data_dir: str = "") -> tuple[Case, ...]:
    """The cases that a model's training held out; of a card that does not say how it was trained, none.

    Raises:
        ConfigError: its data set needs a folder, and `data_dir` is none.
    """
    if "settings" not in card.training:
        return ()
    return open_dataset(settings_of(card, data_dir, TrainSettings().cache_dir)).validation


def settings_of(card: ModelCard, data_dir: str, cache_dir: str) -> TrainSettings:
    """The settings of a model's training, with folders of this machine."""
    return TrainSettings.from_mapping(card.training["settings"] | {"data_dir": data_dir, "cache_dir": cache_dir})
