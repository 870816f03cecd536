"""Segmentation models: one backbone, one bottleneck a method, one registry."""

import inspect
from collections.abc import Callable
from typing import Any

from l2gnet.errors import ConfigError
from l2gnet.models.backbone import Latent, SegmentationUNet, Trace
from l2gnet.models.l2gnet import l2gnet
from l2gnet.models.unet import unet

__all__ = ["MODELS", "Latent", "SegmentationUNet", "Trace", "build_model", "model_options"]

MODELS: dict[str, Callable[..., SegmentationUNet]] = {"unet": unet, "l2gnet": l2gnet}


def model_options(name: str) -> list[str]:
    """Names of the settings that model `name` takes.

    Raises:
        ConfigError: there is no such model.
    """
    if name not in MODELS:
        raise ConfigError(f"unknown model {name!r}; choose one of {', '.join(sorted(MODELS))}")
    return list(inspect.signature(MODELS[name]).parameters)


def build_model(name: str, **settings: Any) -> SegmentationUNet:
    """Build a model that maps images (B, C, H, W) to logits (B, L, H, W).

    Raises:
        ConfigError: the model is unknown or does not take one of the settings.
    """
    options = model_options(name)
    unknown = sorted(set(settings) - set(options))
    if unknown:
        raise ConfigError(f"model {name!r} takes no setting {', '.join(unknown)}; it takes {', '.join(options)}")
    return MODELS[name](**settings)
