"""The blocks of a model that can be taken out and replaced: what each answers to its input, read and written by hooks.

The answer of a block is what it adds to what it was given: its output less its input for a block that maps features to
features of one shape, what each token is given beside itself for a mapper, how much is let through for a gate. A block
whose features have another shape than its input, as those of an encoder, adds nothing: its answer is all that it says,
and so is that of an attention around which the residual lies. A block may write into its input: a copy of it is kept.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from l2gnet.errors import ConfigError
from l2gnet.method.mapper import L2GMapper, Mapped
from l2gnet.models.attn_unet import AttentionGate
from l2gnet.models.backbone import SegmentationModel
from l2gnet.models.blocks.latent import Latent
from l2gnet.models.blocks.relations import Related
from l2gnet.shapes import Float

Kind = Literal["global", "local"]


@dataclass(frozen=True)
class Block:
    """A module of a model by its name.

    Without a `residual` of its own all that it gives is its answer.
    """

    name: str
    module: nn.Module
    residual: bool = True

    @property
    def kind(self) -> Kind:
        """`local` blocks gate what passes, and relate nothing."""
        return "local" if isinstance(self.module, AttentionGate) else "global"

    @property
    def sends_and_receives(self) -> bool:
        """Whether tokens can hear by their own plan what others have sent."""
        return isinstance(self.module, L2GMapper) and self.module.setting.readout == "barycentric"

    def require_replaceable(self, inputs: tuple[Any, ...], output: Any, images: int) -> None:
        """Raise ConfigError unless another answer can stand for all that the block gives to so many images."""
        whole, more = _features(output), output[1:] if isinstance(output, tuple) else ()
        tokens_first = isinstance(self.module, nn.MultiheadAttention) and not self.module.batch_first
        if not isinstance(whole, Tensor) or whole.ndim < 3 or len(whole) != images or tokens_first:
            found = tuple(whole.shape) if isinstance(whole, Tensor) else type(whole).__name__
            rule = f"block {self.name} must give features, (B, C, H, W) or (B, N, d), for each of {images} images"
            raise ConfigError(f"{rule}, got {found}; name another module")
        if _tensors(more) and not isinstance(self.module, nn.MultiheadAttention):  # which gives its weights beside
            rule = f"block {self.name} must give one tensor, or its answer would go on in the others"
            raise ConfigError(f"{rule}, got {1 + _tensors(more)}; name modules within it")
        if not self._whole(inputs, output) and not (inputs and isinstance(inputs[0], Tensor)):
            rule = f"block {self.name} must be given its features first, as one tensor, to tell what it adds to them"
            found = type(inputs[0]).__name__ if inputs else "none"
            raise ConfigError(f"{rule}, got {found}; say residual=False to replace all that it gives")
        self.token_axes(whole)  # or what is a token is not known

    def answer(self, inputs: tuple[Any, ...], output: Any) -> Float[Tensor, "B ..."]:
        """What the block adds to its input."""
        whole = _features(output)
        return whole if self._whole(inputs, output) else whole - inputs[0]

    def with_answer(self, inputs: tuple[Any, ...], output: Any, answer: Float[Tensor, "B ..."]) -> Any:
        """The block's output, had this been its answer."""
        whole = answer.clone() if self._whole(inputs, output) else inputs[0] + answer  # what follows may write into it
        whole = whole.to(_features(output).dtype)
        match output:
            case Mapped() | Related():
                return replace(output, tokens=whole)
            case Latent():
                return replace(output, features=whole)
            case tuple():
                return getattr(type(output), "_make", tuple)((whole, *output[1:]))  # a named one keeps its names
        return whole

    def nothing(self, answer: Float[Tensor, "B ..."]) -> Float[Tensor, "B ..."]:
        """The answer of a block that is not there; a gate that is not there lets all through."""
        return torch.ones_like(answer) if self.kind == "local" else torch.zeros_like(answer)

    def token_axes(self, answer: Float[Tensor, "B ..."]) -> tuple[int, ...]:
        """The axes along which the tokens lie: all but that of images and that of channels.

        Raises:
            ConfigError: a layer norm within the block fits the second axis and the last: either may be the channels.
        """
        last, normalised = answer.ndim - 1, _normalised(self.module)
        if answer.ndim > 3 and normalised == answer.shape[1] == answer.shape[-1]:
            rule = f"block {self.name} must have channels first or last, told by its layer norm of {normalised}"
            raise ConfigError(f"{rule}, got {tuple(answer.shape)}, where both fit; give slices of another size")
        channels = last if answer.ndim == 3 or normalised == answer.shape[-1] else 1
        return tuple(axis for axis in range(1, last + 1) if axis != channels)

    def _whole(self, inputs: tuple[Any, ...], output: Any) -> bool:
        """Whether the answer is all of the output, and not what that adds to the input."""
        if not self.residual or self.kind == "local" or isinstance(self.module, nn.MultiheadAttention):
            return True
        if isinstance(output, Mapped | Related):
            return True
        first = inputs[0] if inputs else None
        return isinstance(first, Tensor) and _features(output).shape != first.shape


def blocks_of(model: nn.Module, names: Sequence[str] = (), *, residual: bool = True) -> list[Block]:
    """The blocks to audit: those of these names in any model, or the global blocks and gates of one of this project.

    `residual` says whether those named add to their input themselves.

    Raises:
        ConfigError: the names are one text, the model has no module of a name, or none that is known to relate or to
            gate.
    """
    if isinstance(names, str):
        raise ConfigError(f"blocks must be a sequence of names, got {names!r}; give [{names!r}]")
    modules = dict(model.named_modules())
    if names:
        unknown = [name for name in names if name not in modules]
        if unknown:
            raise ConfigError(f"the model has no module {unknown[0]!r}; model.named_modules() names them")
        return [Block(name, modules[name], residual) for name in dict.fromkeys(names)]
    found = own_blocks(model)
    if not found:
        rule = "the model has no block that relates or gates, so there is nothing to audit"
        raise ConfigError(f"{rule}; audit another, or name modules of it as blocks in Python")
    return found


def own_blocks(model: nn.Module) -> list[Block]:
    """The global blocks and the gates that a model of this project is known to have; of any other none is."""
    if not isinstance(model, SegmentationModel):
        return []
    found, bottleneck = [], model.bottleneck
    for name in ("mapper", "continuous_to_discrete", "discrete_to_continuous"):
        module = getattr(bottleneck, name, None)
        if isinstance(module, nn.Module):
            found.append(Block(f"bottleneck.{name}", module))
    layers = getattr(bottleneck, "layers", ())
    found += [Block(f"bottleneck.layers.{number}", layer) for number, layer in enumerate(layers)]
    gates = ((name, gate) for name, gate in model.named_modules() if re.fullmatch(r"decoder\.\d+\.gate", name))
    return found + [Block(name, gate) for name, gate in gates]


@contextmanager
def changed(block: Block, change: Callable[[tuple[Any, ...], Any, Tensor], Tensor]) -> Iterator[None]:
    """For a while, let the block answer what `change` makes of its inputs, its output and its answer."""

    def answered(inputs: tuple[Any, ...], output: Any) -> Any:
        return block.with_answer(inputs, output, change(inputs, output, block.answer(inputs, output)))

    with _watched(block, answered):
        yield


@contextmanager
def kept(blocks: Sequence[Block], images: int) -> Iterator[dict[str, tuple[Tensor, Any]]]:
    """While a model is given so many images, keep the answer of each block, and its output, by the block's name.

    Raises:
        ConfigError: the model did not call a block once, or what one gives cannot be replaced.
    """
    answers: dict[str, tuple[Tensor, Any]] = {}

    def keep(block: Block, inputs: tuple[Any, ...], output: Any) -> None:
        _require_once(block, 2 if block.name in answers else 1)
        block.require_replaceable(inputs, output, images)
        answers[block.name] = (block.answer(inputs, output).clone(), output)

    with ExitStack() as stack:
        for block in blocks:
            stack.enter_context(_watched(block, partial(keep, block)))
        yield answers
    for block in blocks:
        _require_once(block, int(block.name in answers))


def _require_once(block: Block, calls: int) -> None:
    if calls != 1:
        found = "none" if calls == 0 else "several"
        raise ConfigError(f"the model must call block {block.name} once for a batch, got {found}; name another module")


@contextmanager
def _watched(block: Block, act: Callable[[tuple[Any, ...], Any], Any]) -> Iterator[None]:
    """For a while, tell `act` what the block was given, as it was then, and what it gives; what it returns goes on."""
    given: list[tuple[Any, ...]] = []

    def enter(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        if named:  # to where they stand in its signature
            bound = inspect.signature(module.forward).bind(*inputs, **named)
            bound.apply_defaults()
            inputs = bound.args
        first = (inputs[0].clone(),) if inputs and isinstance(inputs[0], Tensor) else inputs[:1]
        given.append((*first, *inputs[1:]))

    def leave(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        return act(given.pop(), output)

    handles = [
        block.module.register_forward_pre_hook(enter, with_kwargs=True),
        block.module.register_forward_hook(leave),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _tensors(nested: Any) -> int:
    """How many tensors lie in tuples and lists, at any depth."""
    return sum(map(_tensors, nested)) if isinstance(nested, tuple | list) else int(isinstance(nested, Tensor))


def _features(output: Any) -> Any:
    match output:
        case Mapped() | Related():
            return output.tokens
        case Latent():
            return output.features
        case tuple():
            return output[0]
    return output


def _normalised(module: nn.Module) -> int:
    """How many channels the first layer norm within a module normalises; 0 without one: it tells channels-last."""
    sizes = (part.normalized_shape[0] for part in module.modules() if isinstance(part, nn.LayerNorm))
    return int(next(sizes, 0))
