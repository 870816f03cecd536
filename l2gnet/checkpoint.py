"""Trained models on disk: weights as safetensors with a JSON header, so that loading never runs code."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from l2gnet.data.grid import Grid
from l2gnet.data.volume import Plane
from l2gnet.errors import CheckpointError, ConfigError
from l2gnet.files import atomic_path
from l2gnet.models import build_model
from l2gnet.models.backbone import SegmentationModel

_FORMAT = "l2gnet-1"


@dataclass(frozen=True)
class ModelCard:
    """What a checkpoint says of itself: how to build the model, how to feed it, and where it comes from.

    `plane` is the one that the model's slices lie in: a fixed one, or the plane that each scan was acquired in.
    """

    model: str
    settings: dict[str, Any]
    classes: tuple[str, ...]
    grid: Grid
    training: dict[str, Any] = field(default_factory=dict)
    plane: Plane = "acquired"


def save_checkpoint(path: str | Path, model: SegmentationModel, card: ModelCard) -> None:
    """Write weights and card to one safetensors file, atomically."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    header = {"format": _FORMAT, "card": json.dumps(asdict(card))}
    with atomic_path(path) as temporary:
        save_file(weights, temporary, metadata=header)


def read_card(path: str | Path) -> ModelCard:
    """Read what a checkpoint says of itself, without its weights.

    Raises:
        CheckpointError: the file is missing, damaged or not one of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: a checkpoint must be a safetensors file, got: {error}; train it again"
        ) from error
    if header.get("format") != _FORMAT:
        raise CheckpointError(
            f"{path}: a checkpoint of this project has the format {_FORMAT}, got {header.get('format')}; "
            "use a model.safetensors from a run folder"
        )
    try:
        card = json.loads(header["card"])
        window = card["grid"]["window"]
        grid = Grid(card["grid"]["spacing_mm"], card["grid"]["size_px"], tuple(window) if window else None)
        rest = {name: card[name] for name in ("training", "plane") if name in card}
        return ModelCard(card["model"], card["settings"], tuple(card["classes"]), grid, **rest)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: the model card is damaged ({error!r}); train it again") from error


def load_checkpoint(path: str | Path, *, expect: str | None = None) -> tuple[SegmentationModel, ModelCard]:
    """Rebuild the model of a checkpoint, in evaluation mode, with its card.

    Raises:
        CheckpointError: the file is damaged, its weights do not fit its card, or it is not an `expect` model.
    """
    card = read_card(path)
    if expect is not None and card.model != expect:
        raise CheckpointError(f"{path}: holds a model {card.model!r}, expected {expect!r}; name the right checkpoint")
    try:
        model = build_model(card.model, **card.settings)
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        model.load_state_dict(weights)
    except (ConfigError, RuntimeError, TypeError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: the weights do not fit the model of the card: {error}; train it again"
        ) from error
    return model.eval(), card
