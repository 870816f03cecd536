"""The blocks of a model that can be taken out and replaced: what each answers to its input, read and written by hooks.

The answer of a block is what it adds to what it was given: its output less its input for a block that maps features to
features of one shape, what each token is given beside itself for a mapper, how much is let through for a gate. A block
whose features have another shape than its input, as those of an encoder, adds nothing: its answer is all that it says.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from l2gnet.errors import ConfigError
from l2gnet.method.mapper import L2GMapper, Mapped
from l2gnet.models.backbone import SegmentationModel
from l2gnet.models.blocks.latent import Latent
from l2gnet.models.blocks.relations import Related
from l2gnet.shapes import Float

Kind = Literal["global", "local"]


@dataclass(frozen=True)
class Block:
    """A module of a model by its name; `local` ones gate what passes, and relate nothing."""

    name: str
    module: nn.Module
    kind: Kind = "global"

    @property
    def sends_and_receives(self) -> bool:
        """Whether tokens can hear by their own plan what others have sent."""
        return isinstance(self.module, L2GMapper)

    def answer(self, inputs: tuple[Any, ...], output: Any) -> Float[Tensor, "B ..."]:
        """What the block adds to its input."""
        whole = _features(output)
        return whole if self._whole(inputs, output) else whole - inputs[0]

    def with_answer(self, inputs: tuple[Any, ...], output: Any, answer: Float[Tensor, "B ..."]) -> Any:
        """The block's output, had this been its answer."""
        whole = answer if self._whole(inputs, output) else inputs[0] + answer
        whole = whole.to(_features(output).dtype)
        match output:
            case Mapped() | Related():
                return replace(output, tokens=whole)
            case Latent():
                return replace(output, features=whole)
            case tuple():
                return (whole, *output[1:])
        return whole

    def nothing(self, answer: Float[Tensor, "B ..."]) -> Float[Tensor, "B ..."]:
        """The answer of a block that is not there; a gate that is not there lets all through."""
        return torch.ones_like(answer) if self.kind == "local" else torch.zeros_like(answer)

    def token_axes(self, answer: Float[Tensor, "B ..."]) -> tuple[int, ...]:
        """The axes along which the tokens lie: all but that of images and that of channels."""
        last = answer.ndim - 1
        channels = last if answer.ndim == 3 or _normalised(self.module) == answer.shape[-1] else 1
        return tuple(axis for axis in range(1, last + 1) if axis != channels)

    def _whole(self, inputs: tuple[Any, ...], output: Any) -> bool:
        """Whether the answer is all of the output, and not what that adds to the input."""
        if self.kind == "local" or isinstance(output, Mapped | Related):
            return True
        return _features(output).shape != inputs[0].shape


def blocks_of(model: nn.Module, names: Sequence[str] = ()) -> list[Block]:
    """The blocks to audit: those of these names in any model, or the global blocks and gates of one of this project.

    Raises:
        ConfigError: the model has no module of a name, or none that is known to relate or to gate.
    """
    modules = dict(model.named_modules())
    if names:
        unknown = [name for name in names if name not in modules]
        if unknown:
            raise ConfigError(f"the model has no module {unknown[0]!r}; model.named_modules() names them")
        return [Block(name, modules[name]) for name in names]
    found = []
    if isinstance(model, SegmentationModel):
        bottleneck = model.bottleneck
        for name in ("mapper", "continuous_to_discrete", "discrete_to_continuous"):
            module = getattr(bottleneck, name, None)
            if isinstance(module, nn.Module):
                found.append(Block(f"bottleneck.{name}", module))
        layers = getattr(bottleneck, "layers", ())
        found += [Block(f"bottleneck.layers.{number}", layer) for number, layer in enumerate(layers)]
        gates = ((f"decoder.{n}.gate", modules.get(f"decoder.{n}.gate")) for n in range(len(modules)))
        found += [Block(name, gate, "local") for name, gate in gates if gate is not None]
    if not found:
        raise ConfigError("the model has no block that relates or gates, so there is nothing to audit; name its blocks")
    return found


@contextmanager
def changed(block: Block, change: Callable[[tuple[Any, ...], Any, Tensor], Tensor]) -> Iterator[None]:
    """For a while, let the block answer what `change` makes of its inputs, its output and its answer."""

    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        return block.with_answer(inputs, output, change(inputs, output, block.answer(inputs, output)))

    handle = block.module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def kept(blocks: Sequence[Block]) -> Iterator[dict[str, tuple[Tensor, Any]]]:
    """For a while, keep the last answer of each block, and its output, by the block's name."""
    answers: dict[str, tuple[Tensor, Any]] = {}

    def keeper(block: Block) -> Callable:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            answers[block.name] = (block.answer(inputs, output), output)

        return hook

    handles = [block.module.register_forward_hook(keeper(block)) for block in blocks]
    try:
        yield answers
    finally:
        for handle in handles:
            handle.remove()


def _features(output: Any) -> Tensor:
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
