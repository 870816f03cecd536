"""The data of a training again, from the model that it left: found without what trains."""

from l2gnet.data.dataset import Case, DataSet, open_dataset
from l2gnet.errors import ConfigError
from l2gnet.models.card import ModelCard, patient_fingerprint
from l2gnet.training.settings import TrainSettings


def held_out_cases(card: ModelCard, *, data_dir: str = "") -> tuple[Case, ...]:
    """The cases that a model's training held out; of a card that does not say how it was trained, none.

    Raises:
        ConfigError: its data set needs a folder, and `data_dir` is none, or holds other patients.
    """
    if "settings" not in card.training:
        return ()
    return data_of(card, data_dir, TrainSettings().cache_dir).validation


def data_of(card: ModelCard, data_dir: str, cache_dir: str) -> DataSet:
    """The data set of a model's training, split as then, from folders of this machine.

    Raises:
        ConfigError: it needs a folder, and `data_dir` is none, or holds other patients: some that it was trained on
            might be held out, as they are chosen by the list of all.
    """
    settings = card.training["settings"] | {"data_dir": data_dir, "cache_dir": cache_dir}
    dataset = open_dataset(TrainSettings.from_mapping(settings))
    before = set(card.training.get("trained_on", ()))
    now = {patient_fingerprint(case.patient) for case in dataset.training}
    if before and now != before:
        rule = "the data must be that of the training, since patients are held out by the list of all"
        found = f"{len(now & before)} that it was trained on, of {len(before)}, among {len(now)} to train on"
        raise ConfigError(f"{data_dir or dataset.name}: {rule}, got {found}; name the folder as it was then")
    return dataset
