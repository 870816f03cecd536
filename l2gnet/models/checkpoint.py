"""Trained models on disk: weights as safetensors with a JSON header, so that loading never runs code."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.overrides import TorchFunctionMode

from l2gnet.errors import CheckpointError
from l2gnet.files import atomic_path
from l2gnet.models import Variant, build_model, fits, model_types
from l2gnet.models.backbone import SegmentationModel
from l2gnet.models.card import FORMAT, ModelCard, checkpoint_file, read_card
from l2gnet.models.older import weights_today


class _NoDraws(TorchFunctionMode):
    """Leaves random numbers out where only shapes are asked for: torch would import its compiler to draw them there."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `torch.empty` for `torch.randn`."""
        return (torch.empty if func is torch.randn else func)(*args, **kwargs or {})


def save_checkpoint(path: str | Path, model: SegmentationModel, card: ModelCard) -> None:
    """Write weights and card to one safetensors file, atomically.

    Raises:
        CheckpointError: a weight is NaN or infinite.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    try:
        require_finite(weights)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}; train it again") from error
    header = {"format": FORMAT, "card": json.dumps(asdict(card))}
    with atomic_path(path) as temporary:
        save_file(weights, temporary, metadata=header)


def load_checkpoint(path: str | Path, *, expect: str | None = None) -> tuple[SegmentationModel, ModelCard]:
    """Rebuild the model of a checkpoint, or of a run folder, in evaluation mode, with its card.

    Raises:
        CheckpointError: the file is damaged, its weights do not fit its card or are not finite, or it is not an
            `expect` model.
    """
    path = checkpoint_file(path)
    card = read_card(path)
    try:
        _require_types(card)
    except ValueError as error:
        raise CheckpointError(f"{path}: the model card is damaged ({str(error)[:200]}); train it again") from error
    if expect is not None and card.model != expect:
        raise CheckpointError(f"{path}: holds a model {card.model!r}, expected {expect!r}; name the right checkpoint")
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
            if file.metadata()["format"] != FORMAT:
                weights = weights_today(weights)
        for name in ("depth", "layers"):  # each of them has a weight at least, and takes time to plan
            if (asked := card.settings.get(name, 0)) > len(weights):
                raise ValueError(f"{name} must be at most the number of weights, {len(weights)}, found {asked}")
        with torch.device("meta"), _NoDraws():  # shapes without memory: a small file may ask for a huge model
            planned = build_model(card.model, **card.settings)
        require_shapes(planned, {name: tuple(tensor.shape) for name, tensor in weights.items()})
        require_finite(weights)
        model = build_model(card.model, **card.settings)
        model.load_state_dict(weights)
    except (RuntimeError, TypeError, ValueError, OverflowError, ZeroDivisionError, SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: the weights do not fit the model of the card: {str(error)[:500]}; train it again"
        ) from error
    return model.eval(), card


def _require_types(card: ModelCard) -> None:
    """Raise ValueError unless the model takes every setting of its card, with a value of this type."""
    types = model_types(card.model, card.settings.get("variant", "matched")) | {"variant": Variant}
    for name, value in card.settings.items():
        if name not in types:
            raise ValueError(f"settings cannot be {name!r}")
        if not fits(value, types[name]):
            raise ValueError(f"{name} cannot be {value!r}")


def require_shapes(model: torch.nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError, naming one difference, unless the model's weights have these shapes."""
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name in sorted({*wanted, *shapes}):
        if wanted.get(name) != shapes.get(name):
            raise ValueError(f"{name} must have shape {wanted.get(name)}, found {shapes.get(name)}")


def require_finite(weights: Mapping[str, torch.Tensor]) -> None:
    """Raise ValueError, naming the first that does not, unless all weights hold finite numbers."""
    for name, tensor in weights.items():
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"weights must be finite, but {name} holds NaN or infinity: its training has diverged")
