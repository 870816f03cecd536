"""Segmentation models: one backbone, one bottleneck a method, one registry.

Each model is a module of this package named after it, with two functions: `build` makes it on the backbone that all
models share, where only what distinguishes the method differs; `build_published` in the sizes of its source.
"""

import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from l2gnet.checks import nearest
from l2gnet.errors import ConfigError

if TYPE_CHECKING:
    from l2gnet.models.backbone import SegmentationModel

ModelName = Literal["unet", "attn_unet", "vq_unet", "transunet", "synergynet", "l2gnet"]
Variant = Literal["matched", "published"]
MODELS: tuple[str, ...] = get_args(ModelName)


def model_options(name: str, variant: str = "matched") -> list[str]:
    """Names of the settings that model `name` takes in this variant.

    Raises:
        ConfigError: there is no such model or variant.
    """
    return list(inspect.signature(_builder(name, variant)).parameters)


def model_types(name: str, variant: str = "matched") -> dict[str, Any]:
    """The type of each setting that model `name` takes: int, float, bool, or a Literal of names.

    Raises:
        ConfigError: there is no such model or variant.
    """
    types = get_type_hints(_builder(name, variant))
    return {option: types[option] for option in model_options(name, variant)}


def build_model(name: str, *, variant: str = "matched", **settings: Any) -> "SegmentationModel":
    """Build a model that maps images (B, C, H, W) to logits (B, L, H, W).

    Raises:
        ConfigError: the model or variant is unknown, or does not take one of the settings.
    """
    options = model_options(name, variant)
    unknown = sorted(set(settings) - set(options))
    if unknown:
        model = repr(name) if variant == "matched" else f"{name!r} ({variant})"
        raise ConfigError(f"model {model} takes no setting {', '.join(unknown)}{nearest(unknown[0], options)}")
    return _builder(name, variant)(**settings)


def _builder(name: str, variant: str) -> Callable[..., "SegmentationModel"]:
    if name not in MODELS:
        raise ConfigError(f"unknown model {name!r}{nearest(name, MODELS)}")
    if variant not in get_args(Variant):
        raise ConfigError(f"unknown variant {variant!r}{nearest(variant, get_args(Variant))}")
    module = importlib.import_module(f"l2gnet.models.{name}")  # on demand: torch takes seconds to import
    return module.build if variant == "matched" else module.build_published
