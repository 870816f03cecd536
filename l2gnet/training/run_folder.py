"""The run folder: what a training leaves in it, and a run opened again from there."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from l2gnet.data.beside import aside
from l2gnet.data.dataset import DataSet
from l2gnet.data.grid import PLANES, Grid
from l2gnet.data.slices import cache_key
from l2gnet.errors import CheckpointError, ConfigError
from l2gnet.files import read_json, write_json
from l2gnet.models import build_model
from l2gnet.models.backbone import SegmentationModel
from l2gnet.models.card import ModelCard, checkpoint_file, patient_fingerprint
from l2gnet.models.checkpoint import load_checkpoint, save_checkpoint
from l2gnet.prediction.doubt import learn_familiar
from l2gnet.training.held_out import data_of
from l2gnet.training.resume import lightning_epochs, lightning_weights
from l2gnet.training.settings import OF_A_START, TrainSettings, whole_settings
from l2gnet.version import code_version

RESUME_FILE = "last.ckpt"
BEST_FILE = "best.ckpt"
_DATA_FILE = "data.json"
LOCAL = ("data_dir", "cache_dir", "pretrained")  # settings that are paths of this machine


@dataclass(frozen=True)
class TrainedRun:
    """A trained model in evaluation mode, with what it was trained on and where its files lie."""

    model: SegmentationModel
    dataset: DataSet
    grid: Grid
    run_dir: Path


def open_run(checkpoint: str | Path, *, data_dir: str = "", cache_dir: str = "cache") -> TrainedRun:
    """A run again, from its checkpoint or its folder: the model, and the data set and split of its settings.

    Raises:
        CheckpointError: the file is damaged, or does not say how it was trained.
        ConfigError: its data set needs a folder, and `data_dir` is none, or holds other patients.
    """
    model, card = load_checkpoint(checkpoint)
    if "settings" not in card.training:
        raise CheckpointError(
            f"{checkpoint}: the model card must hold the settings of the run, found none; train again"
        )
    return TrainedRun(model, data_of(card, data_dir, cache_dir), card.grid, checkpoint_file(checkpoint).parent)


def require_same_run(run_dir: Path, settings: TrainSettings) -> None:
    """Refuse a folder that holds a run already, unless it is to be gone on with, and by the same settings."""
    if not (run_dir / RESUME_FILE).exists():
        return
    if not settings.resume:
        raise ConfigError(f"run_dir must be free, but {run_dir} holds a run; choose another, or set resume")
    before = whole_settings(read_json(run_dir / "config.json"))
    now = _shareable(settings) | _weights_file(settings)
    changed = sorted(name for name in now if name not in OF_A_START and before[name] != now[name])
    if changed:
        what = ", ".join(f"{name} {before[name]!r} -> {now[name]!r}" for name in changed)
        raise ConfigError(f"{run_dir}: a resumed run must keep its settings, got {what}; choose another folder")


def require_same_data(run_dir: Path, dataset: DataSet, grid: Grid) -> None:
    """Refuse to go on with other data than the run has: patients that it was trained on might be held out now."""
    before, now = _data_before(run_dir), _fingerprints(dataset, grid)
    if before and any(before[name] != now[name] for name in now):
        what = "other patients to train on" if before["trained_on"] != now["trained_on"] else "other cases or contents"
        raise ConfigError(
            f"{run_dir}: a resumed run must keep its data, got {what}; "
            "set data_dir to the data that it was started with, or choose another folder"
        )


def write_config(run_dir: Path, settings: TrainSettings, dataset: DataSet, grid: Grid) -> None:
    """Write what a resumed run must keep: `config.json`, all settings that may be passed on, and `data.json`.

    That also lists the code of each start, where it was another: a model is of all of them.
    """
    code = dict.fromkeys([*_data_before(run_dir).get("code", []), code_version()])
    write_json(run_dir / "config.json", _shareable(settings) | _weights_file(settings))
    write_json(run_dir / _DATA_FILE, {**_fingerprints(dataset, grid), "code": list(code)})


def write_models(
    run_dir: Path,
    settings: TrainSettings,
    dataset: DataSet,
    grid: Grid,
    model: SegmentationModel,
    *,
    epochs: int,
    parts: int,
) -> None:
    """Write `model.safetensors`, the model as it is, and `best.safetensors`, that of its best epoch, with cards.

    The best is left out where its checkpoint has not come along with the run.
    """
    card = ModelCard(
        settings.model,
        settings.model_settings(dataset.regions.outputs(dataset.classes), len(dataset.channels)),
        dataset.classes,
        grid,
        {
            "settings": _shareable(settings),
            "code": ", then ".join(read_json(run_dir / _DATA_FILE)["code"]),
            "epochs": epochs,
            "parts": parts,
            **_weights_file(settings),
            **_described(dataset, grid),
        },
        channels=dataset.channels,
        regions=dataset.regions,
    )
    _write(run_dir / "model.safetensors", model, card, dataset)
    if not (run_dir / BEST_FILE).exists():
        aside(f"no best.safetensors is written, as {run_dir / BEST_FILE} is not there; model.safetensors is")
        return
    best = build_model(card.model, **card.settings)
    best.load_state_dict(lightning_weights(run_dir / BEST_FILE))
    best_training = card.training | {"epochs": lightning_epochs(run_dir / BEST_FILE)}
    _write(run_dir / "best.safetensors", best, replace(card, training=best_training), dataset)


def _write(path: Path, model: SegmentationModel, card: ModelCard, dataset: DataSet) -> None:
    """Write a model with its card, and on the card what the model takes for normal."""
    familiar = learn_familiar(model, dataset.validation, card.grid, card.regions)
    axial = dataset.window is not None and familiar.axes == (PLANES["axial"],)  # CT is cut across, however acquired
    training = card.training | {"familiar": familiar.as_dict()}
    save_checkpoint(path, model, replace(card, training=training, plane="axial" if axial else "acquired"))


def _described(dataset: DataSet, grid: Grid) -> Mapping[str, Any]:
    """What a card says of the data."""
    return {
        "data": dataset.name,
        "citation": dataset.citation,
        "licence": dataset.licence,
        "training_volumes": len(dataset.training),
        "held_out_volumes": len(dataset.validation),
        **_fingerprints(dataset, grid),
    }


def _data_before(run_dir: Path) -> dict[str, Any]:
    """What a run that is gone on with says of its data; nothing if it is new, or of an older version."""
    file = run_dir / _DATA_FILE
    return dict(read_json(file)) if file.exists() and (run_dir / RESUME_FILE).exists() else {}


def _fingerprints(dataset: DataSet, grid: Grid) -> dict[str, Any]:
    """What tells data and split: names of patients only as hashes, to know them again and not to give them away."""
    return {
        "data_fingerprint": cache_key(dataset.cases, grid, len(dataset.labels)),
        "trained_on": sorted({patient_fingerprint(case.patient) for case in dataset.training}),
    }


def _shareable(settings: TrainSettings) -> dict[str, Any]:
    """What of the settings goes into a checkpoint, which may be passed on."""
    return {name: value for name, value in asdict(settings).items() if name not in LOCAL}


def _weights_file(settings: TrainSettings) -> dict[str, str]:
    """The file of pretrained weights, without its folder."""
    return {"pretrained": Path(settings.pretrained).name}
