"""ImageNet-21k weights for published TransUNet, from a file that the user names.

Two formats: `R50+ViT-B_16.npz` of the ViT repository (Flax names), and the safetensors of timm's
`vit_base_r50_s16_224`. Every parameter before the decoder must be found, and nothing may be left over but the class
token and the classifier.
"""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from l2gnet.errors import CheckpointError, ConfigError
from l2gnet.models.blocks.resnet import UNITS
from l2gnet.models.transunet import TransUNet

_CLASSIFIER = re.compile(r"(cls|cls_token|(head|pre_logits)[./].+)")
_POSITIONS = ("bottleneck.position", "Transformer/posembed_input/pos_embedding", "pos_embed")


@torch.no_grad()
def load_imagenet_weights(model: TransUNet, path: str | Path) -> None:
    """Set encoder, embedding, positions and transformer from an .npz or .safetensors file; nothing is unpickled.

    Positions of another grid are interpolated as in the `load_from` of TransUNet's authors, `ndimage.zoom` of order 1:
    bilinear, and corner stays on corner.

    Raises:
        CheckpointError: the file is unreadable, a weight is missing, left over or of another shape.
        ConfigError: the model takes neither 1 nor 3 image channels.
    """
    if model.channels not in (1, 3):
        rule = "the weights of ImageNet are for 1 or 3 image channels"
        raise ConfigError(f"{rule}, got {model.channels}; name as many by `channel`, or leave pretrained empty")
    path = Path(path)
    flax = path.suffix == ".npz"
    stored = _read(path)
    parameters = dict(model.named_parameters())
    table = [(own, _flax_parts(a) if flax else [b]) for own, a, b in _names(len(model.bottleneck.layers))]
    position = _POSITIONS[1 if flax else 2]
    wanted = {name for _, names in table for name in names} | {position}
    missing = sorted(wanted - set(stored))
    left_over = sorted(name for name in set(stored) - wanted if not _CLASSIFIER.fullmatch(name))
    if missing or left_over:
        raise CheckpointError(
            f"{path}: must hold the weights of R50+ViT-B/16 and no others; "
            f"missing: {_some(missing)}; left over: {_some(left_over)}"
        )
    with_class = "cls" in stored or "cls_token" in stored
    try:
        new = {own: _joined(own, [stored[n] for n in names], parameters[own], flax) for own, names in table}
        new[_POSITIONS[0]] = _grid(stored[position], with_class, model.bottleneck.position)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}; use the weights of R50+ViT-B/16") from error
    for name, value in new.items():
        parameters[name].copy_(value)


def _names(layers: int) -> Iterator[tuple[str, str, str]]:
    """Each parameter's name here, in the ViT repository and in timm."""

    def affine(own: str, flax: str, timm: str, weight: str = "kernel") -> Iterator[tuple[str, str, str]]:
        yield f"{own}weight", f"{flax}/{weight}", f"{timm}.weight"
        yield f"{own}bias", f"{flax}/bias", f"{timm}.bias"

    def convolution(own: str, flax: str, timm: str) -> tuple[str, str, str]:
        return f"{own}.parametrizations.weight.original", f"{flax}/kernel", f"{timm}.weight"

    timm = "patch_embed.backbone"
    yield convolution("encoder.conv", "conv_root", f"{timm}.stem.conv")
    yield from affine("encoder.norm.", "gn_root", f"{timm}.stem.norm", "scale")
    for stage, units in enumerate(UNITS):
        for unit in range(units):
            own, flax = f"encoder.stages.{stage}.{unit}", f"block{stage + 1}/unit{unit + 1}"
            block = f"{timm}.stages.{stage}.blocks.{unit}"
            for i in (1, 2, 3):
                yield convolution(f"{own}.conv{i}", f"{flax}/conv{i}", f"{block}.conv{i}")
                yield from affine(f"{own}.norm{i}.", f"{flax}/gn{i}", f"{block}.norm{i}", "scale")
            if unit == 0:
                yield convolution(f"{own}.shortcut.0", f"{flax}/conv_proj", f"{block}.downsample.conv")
                yield from affine(f"{own}.shortcut.1.", f"{flax}/gn_proj", f"{block}.downsample.norm", "scale")
    yield from affine("embedding.", "embedding", "patch_embed.proj")
    for i in range(layers):
        own, flax, block = f"bottleneck.layers.{i}", f"Transformer/encoderblock_{i}", f"blocks.{i}"
        attention = f"{flax}/MultiHeadDotProductAttention_1"
        yield from affine(f"{own}.norm1.", f"{flax}/LayerNorm_0", f"{block}.norm1", "scale")
        yield from affine(f"{own}.attention.in_proj_", f"{attention}/query", f"{block}.attn.qkv")
        yield from affine(f"{own}.attention.out_proj.", f"{attention}/out", f"{block}.attn.proj")
        yield from affine(f"{own}.norm2.", f"{flax}/LayerNorm_2", f"{block}.norm2", "scale")
        for j in (1, 2):
            yield from affine(f"{own}.mlp.linear{j}.", f"{flax}/MlpBlock_3/Dense_{j - 1}", f"{block}.mlp.fc{j}")
    yield from affine("bottleneck.norm.", "Transformer/encoder_norm", "norm", "scale")


def _flax_parts(name: str) -> list[str]:
    """Flax keeps query, key and value apart; here, as in timm, they are the rows of one matrix."""
    return [name.replace("/query/", f"/{part}/") for part in ("query", "key", "value")] if "/query/" in name else [name]


def _joined(own: str, parts: list[Tensor], target: Tensor, flax: bool) -> Tensor:
    shape = (len(target) // len(parts), *target.shape[1:])
    if flax:
        parts = [_from_flax(part, shape) for part in parts]
    if any(part.shape != shape for part in parts):
        raise ValueError(f"{own} must be of shape {tuple(shape)}, got {[tuple(part.shape) for part in parts]}")
    return torch.cat(parts)


def _from_flax(array: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Flax's axes are (height, width, in, out), heads are an axis of their own, and scales are (1, 1, 1, C)."""
    if array.numel() != math.prod(shape):
        return array
    if len(shape) == 4:
        return array.permute(3, 2, 0, 1) if array.ndim == 4 else array
    return array.reshape(shape[::-1]).T if len(shape) == 2 else array.reshape(shape)


def _grid(stored: Tensor, with_class: bool, own: Tensor) -> Tensor:
    """Positions from tokens (1, N, C), the class token first, to the size of our own grid (1, C, h, w)."""
    side = math.isqrt(max(stored.numel() // own.shape[1] - with_class, 0))
    if stored.shape != (1, side**2 + with_class, own.shape[1]):
        raise ValueError(f"positions must be a square grid of {own.shape[1]} channels, got {tuple(stored.shape)}")
    grid = stored[:, with_class:].mT.reshape(1, -1, side, side)
    return F.interpolate(grid, tuple(own.shape[2:]), mode="bilinear", align_corners=True)


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return {name: torch.from_numpy(file[name]).float() for name in file.files}
        if path.suffix == ".safetensors":
            return {name: tensor.float() for name, tensor in load_file(path).items()}
    except Exception as error:  # a file can be wrong in as many ways as zip, NumPy and safetensors know
        raise CheckpointError(f"{path}: ImageNet weights cannot be read: {error}; download them again") from error
    raise CheckpointError(f"{path}: ImageNet weights must be an .npz of the ViT repository or .safetensors of timm")


def _some(names: list[str]) -> str:
    return ", ".join([*names[:3], f"{len(names) - 3} more"] if len(names) > 4 else names) or "nothing"
