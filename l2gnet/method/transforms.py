"""Whether more than plain calls and plain gradients is at work, which torch tells by private names only."""

from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch
from torch.autograd import forward_ad


def exporting() -> bool:
    """Whether a graph is being written, by `torch.export` or for ONNX."""
    return torch.compiler.is_exporting()


def transformed(*tensors: Tensor) -> bool:
    """Whether a transform of `torch.func` is at work, or one of the tensors carries a forward derivative."""
    return torch._C._are_functorch_transforms_active() or any(
        forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors
    )


def require_numbers(**tensors: Any) -> None:
    """Raise ValueError for what is no tensor of real numbers."""
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{name} must be a torch.Tensor, got {type(value).__name__}; use torch.as_tensor")
        if value.is_complex():
            raise ValueError(f"{name} must hold real numbers, got {value.dtype}; give its parts, or abs()")


def refuse_trace(name: str, rule: str) -> None:
    """Raise ValueError under `torch.jit.trace`, which would keep the steps that one example took."""
    if torch.jit.is_tracing():
        raise ValueError(f"{name} must be {rule}, got torch.jit.trace; a trace would keep the number of its iterations")


def refuse_vmap(name: str, remedy: str, *tensors: Tensor | None) -> None:
    """Raise ValueError under `torch.func.vmap`, which cannot follow steps that depend on the numbers of a tensor."""
    for tensor in tensors:
        while tensor is not None and _functorch.is_functorch_wrapped_tensor(tensor):
            if _functorch.is_batchedtensor(tensor):
                raise ValueError(f"{name} must be called without torch.func.vmap, got a tensor of it; {remedy}")
            tensor = _functorch.get_unwrapped(tensor)
