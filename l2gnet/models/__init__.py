"""Segmentation models: one backbone, one bottleneck a method, one registry.

Each model is a module of this package named after it, with a function `build`.
"""

import importlib
import inspect
from typing import TYPE_CHECKING, Any, Literal, get_args

from l2gnet.errors import ConfigError

if TYPE_CHECKING:
    from l2gnet.models.backbone import SegmentationUNet

ModelName = Literal["unet", "attn_unet", "vq_unet", "transunet", "synergynet", "l2gnet"]
MODELS: tuple[str, ...] = get_args(ModelName)


def model_options(name: str) -> list[str]:
    """Names of the settings that model `name` takes.

    Raises:
        ConfigError: there is no such model.
    """
    return list(inspect.signature(_model_module(name).build).parameters)


def build_model(name: str, **settings: Any) -> "SegmentationUNet":
    """Build a model that maps images (B, C, H, W) to logits (B, L, H, W).

    Raises:
        ConfigError: the model is unknown, or does not take one of the settings.
    """
    options = model_options(name)
    unknown = sorted(set(settings) - set(options))
    if unknown:
        raise ConfigError(f"model {name!r} takes no setting {', '.join(unknown)}; it takes {', '.join(options)}")
    return _model_module(name).build(**settings)


def _model_module(name: str) -> Any:
    if name not in MODELS:
        raise ConfigError(f"unknown model {name!r}; choose one of {', '.join(MODELS)}")
    return importlib.import_module(f"l2gnet.models.{name}")  # on demand: MONAI takes seconds to import
