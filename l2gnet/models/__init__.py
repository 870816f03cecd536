"""Segmentation models: one backbone, one bottleneck a method, one registry.

Each model is a module of this package named after it, with two functions: `build` makes it on the backbone that all
models share, where only what distinguishes the method differs; `build_published` in the sizes of its source.
"""

import importlib
import inspect
from collections.abc import Callable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from l2gnet.checks import nearest, require
from l2gnet.errors import ConfigError

if TYPE_CHECKING:
    from l2gnet.models.backbone import SegmentationModel

ModelName = Literal["unet", "attn_unet", "vq_unet", "transunet", "synergynet", "l2gnet"]
Variant = Literal["matched", "published"]
MODELS: tuple[str, ...] = get_args(ModelName)
_COUNTS = ("channels", "classes", "width", "depth", "code_dim", "layers", "size_px")  # of which none can be 0


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


def fits(value: Any, kind: Any) -> bool:
    """Whether a setting of this type, of those in `model_types`, can have this value; whole numbers are floats too."""
    if choices := get_args(kind):
        return value in choices
    number = {int: Integral, float: Real}.get(kind, kind)  # those of NumPy too, but no bool
    return isinstance(value, number) and isinstance(value, bool) == (kind is bool)


def build_model(name: str, *, variant: str = "matched", **settings: Any) -> "SegmentationModel":
    """Build a model that maps images (B, C, H, W) to logits (B, L, H, W).

    Raises:
        ConfigError: the model or variant is unknown, or does not take one of the settings, or its value.
    """
    types = model_types(name, variant)
    unknown = sorted(set(settings) - set(types))
    if unknown:
        model = repr(name) if variant == "matched" else f"{name!r} ({variant})"
        raise ConfigError(f"model {model} takes no setting {', '.join(unknown)}{nearest(unknown[0], types)}")
    for option, value in settings.items():
        choices = get_args(types[option])
        rule = f"one of {', '.join(choices)}" if choices else f"of type {types[option].__name__}"
        require(fits(value, types[option]), option, rule, value)
        require(option not in _COUNTS or value >= 1, option, "at least 1", value)
    try:
        return _builder(name, variant)(**settings)
    except ValueError as error:  # of a part of the method, in its own words
        raise ConfigError(f"model {name!r}: {error}") from error


def _builder(name: str, variant: str) -> Callable[..., "SegmentationModel"]:
    if name not in MODELS:
        raise ConfigError(f"unknown model {name!r}{nearest(name, MODELS)}")
    if variant not in get_args(Variant):
        raise ConfigError(f"unknown variant {variant!r}{nearest(variant, get_args(Variant))}")
    module = importlib.import_module(f"l2gnet.models.{name}")  # on demand: torch takes seconds to import
    return module.build if variant == "matched" else module.build_published
