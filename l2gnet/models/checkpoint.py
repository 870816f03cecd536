"""Trained models on disk: weights as safetensors with a JSON header, so that loading never runs code."""

import json
import math
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from l2gnet.data.grid import Grid
from l2gnet.data.volume import Plane
from l2gnet.errors import CheckpointError
from l2gnet.files import atomic_path
from l2gnet.models import MODELS, Variant, build_model, model_types
from l2gnet.models.backbone import SegmentationModel

_FORMAT = "l2gnet-1"
_LARGEST_PX = 8192  # of a model's grid


@dataclass(frozen=True)
class ModelCard:
    """What a checkpoint says of itself: how to build the model, how to feed it, and where it comes from.

    `plane` is the one that the model's slices lie in: a fixed one, or the plane that each scan was acquired in.
    `channels` are the names of the image channels that it takes, in order.
    `training` holds the settings of its training and the fingerprints of data and code.
    """

    model: str
    settings: dict[str, Any]
    classes: tuple[str, ...]
    grid: Grid
    training: dict[str, Any] = field(default_factory=dict)
    plane: Plane = "acquired"
    channels: tuple[str, ...] = ("image",)

    @property
    def windows(self) -> tuple[tuple[float, float] | None, ...]:
        """The intensity range that each channel is seen through; None where its percentiles decide."""
        return tuple(self.grid.window_of(number) for number in range(len(self.channels)))


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
        return _parsed_card(json.loads(header["card"]))
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path}: the model card is damaged ({str(error)[:200]}); train it again") from error


def load_checkpoint(path: str | Path, *, expect: str | None = None) -> tuple[SegmentationModel, ModelCard]:
    """Rebuild the model of a checkpoint, in evaluation mode, with its card.

    Raises:
        CheckpointError: the file is damaged, its weights do not fit its card, or it is not an `expect` model.
    """
    card = read_card(path)
    if expect is not None and card.model != expect:
        raise CheckpointError(f"{path}: holds a model {card.model!r}, expected {expect!r}; name the right checkpoint")
    try:
        with torch.device("meta"):  # shapes without memory: a small file may ask for a huge model
            planned = build_model(card.model, **card.settings)
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no dict)
            _require_shapes(planned, shapes)
            model = build_model(card.model, **card.settings)
            model.load_state_dict({name: file.get_tensor(name) for name in shapes})
    except (RuntimeError, TypeError, ValueError, OverflowError, ZeroDivisionError, SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: the weights do not fit the model of the card: {str(error)[:500]}; train it again"
        ) from error
    return model.eval(), card


def require_resumable(path: str | Path, task: torch.nn.Module) -> None:
    """Check a checkpoint of Lightning before it is resumed from: it is ours, whole, and of this task.

    It is a pickle inside a zip file; `weights_only=True` refuses every pickle that would run code.

    Raises:
        CheckpointError: the file is damaged, holds more than numbers, or is of another model.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("compressed entries, which torch does not write")
            damaged = archive.testzip()
            if damaged is not None:
                raise ValueError(f"another checksum in {damaged}")
        _require_shapes(task, {name: tuple(tensor.shape) for name, tensor in _lightning_state(path).items()})
    # A stranger's bytes can be wrong in as many ways as zip, pickle and torch know.
    except Exception as error:
        reason = str(error).partition("\n")[0][:300]
        if isinstance(error, pickle.UnpicklingError):
            reason = "a pickle that holds more than numbers, or is damaged"
        raise CheckpointError(
            f"{path}: a run resumes from a whole checkpoint of its own model, got: {reason}; "
            "train in another folder, or remove the file to start anew"
        ) from error


def lightning_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """The weights of the model in a checkpoint of Lightning; a pickle that would run code is refused."""
    state = _lightning_state(path)
    return {name.removeprefix("model."): weight for name, weight in state.items() if name.startswith("model.")}


def _lightning_state(path: str | Path) -> dict[str, torch.Tensor]:
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)["state_dict"]


def _parsed_card(card: Mapping[str, Any]) -> ModelCard:
    """The card of a header's JSON; every value is of its type and within its bounds, or ValueError says which."""
    model, settings, classes = card["model"], card["settings"], card["classes"]
    grid, training, plane = card["grid"], card.get("training", {}), card.get("plane", "acquired")
    channels = card.get("channels", ["image"])  # older cards do not say
    _require(model in MODELS, "model", model)
    _require(isinstance(settings, dict), "settings", settings)
    variant = settings.get("variant", "matched")
    _require(variant in get_args(Variant), "variant", variant)
    types = model_types(model, variant) | {"variant": Variant}
    for name, value in settings.items():
        _require(name in types, "settings", name)
        choices = get_args(types[name])
        fits = value in choices if choices else type(value) in (types[name], *((int,) if types[name] is float else ()))
        _require(fits and (not isinstance(value, float) or math.isfinite(value)), name, value)
    _require(
        isinstance(classes, list)
        and all(isinstance(name, str) for name in classes)
        and len(classes) == settings["classes"],
        "classes",
        classes,
    )
    _require(
        isinstance(channels, list)
        and all(isinstance(name, str) for name in channels)
        and len(channels) == settings.get("channels", 1),
        "channels",
        channels,
    )
    spacing_mm, size_px, window = grid["spacing_mm"], grid["size_px"], grid["window"]
    windowed = grid.get("windowed", [])
    _require(type(spacing_mm) in (int, float) and 0 <= spacing_mm < math.inf, "spacing_mm", spacing_mm)
    _require(type(size_px) is int and 1 <= size_px <= _LARGEST_PX, "size_px", size_px)
    if window is not None:
        low, high = (float(value) for value in window)
        _require(-math.inf < low < high < math.inf, "window", window)
        window = low, high
    _require(isinstance(windowed, list) and all(type(n) is int for n in windowed), "windowed", windowed)
    _require(isinstance(training, dict), "training", training)
    _require(plane in get_args(Plane), "plane", plane)
    seen = Grid(float(spacing_mm), size_px, window, tuple(windowed))
    return ModelCard(model, settings, tuple(classes), seen, training, plane, tuple(channels))


def _require(holds: bool, name: str, value: object) -> None:
    if not holds:
        raise ValueError(f"{name} cannot be {value!r}")


def _require_shapes(model: torch.nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError, naming one difference, unless the model's weights have these shapes."""
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name in sorted({*wanted, *shapes}):
        if wanted.get(name) != shapes.get(name):
            raise ValueError(f"{name} must have shape {wanted.get(name)}, found {shapes.get(name)}")
