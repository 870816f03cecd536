"""Runs the library on a device that is not the CPU, on machines without a GPU: `python tests/another_device.py`.

The device keeps its tensors in the CPU's memory, but, as a GPU does, refuses to work with tensors of both, other than
numbers and indices. So it finds what would stop on a GPU, and nothing about speed or rounding. It cannot be removed
from a process again, which is why this is one of its own.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

from l2gnet.data.dataset import open_dataset
from l2gnet.data.grid import Grid
from l2gnet.data.slices import SliceSet, load_slices
from l2gnet.evaluation.scores import evaluate_cases
from l2gnet.inspection.audit import audit
from l2gnet.inspection.code_atlas import CodeAtlas
from l2gnet.inspection.image_transport import ImageTransport
from l2gnet.inspection.receptive_field import receptive_field_px
from l2gnet.inspection.redundancy import redundancy, relations
from l2gnet.method.mapper import L2GMapper
from l2gnet.models import ModelName
from l2gnet.models.card import ModelCard
from l2gnet.models.checkpoint import load_checkpoint, save_checkpoint
from l2gnet.prediction import inference
from l2gnet.prediction.doubt import learn_familiar
from l2gnet.prediction.inference import network_input
from l2gnet.training.settings import TrainSettings
from l2gnet.training.task import SegmentationTask

NAME = "elsewhere"
_MAY_MIX = ("aten::copy_", "aten::_to_copy", "aten::index", "aten::index_put_", "aten::_index_put_impl_")


class _Module(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


class _NoGrad:
    """In the place of inference mode, which knows no subclasses of tensors."""

    def __enter__(self) -> None:
        self._context = torch.no_grad()
        self._context.__enter__()

    def __exit__(self, *error: object) -> None:
        self._context.__exit__(*error)


_setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
torch.__future__.set_swap_module_params_on_conversion(True)
torch.inference_mode.__enter__ = _NoGrad.__enter__
torch.inference_mode.__exit__ = _NoGrad.__exit__
DEVICE = torch.device(NAME, 0)
inference.best_device = lambda: DEVICE


class Elsewhere(torch.Tensor):
    """A tensor of the device, and the one in the CPU's memory that holds its numbers."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "Elsewhere":
        """Looks like `held`, but for its device."""
        return torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )

    def __init__(self, held: torch.Tensor):
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do the work on what is held, if all of it is here."""
        values, structure = tree_flatten((args, kwargs or {}))
        name, to = func._schema.name, (kwargs or {}).get("device")
        tensors = [value for value in values if isinstance(value, torch.Tensor)]
        if name not in _MAY_MIX and any(not isinstance(x, Elsewhere) and x.ndim > 0 for x in tensors):
            raise RuntimeError(f"{name} got tensors of two devices")
        args, kwargs = tree_unflatten([_held(value) for value in values], structure)
        result = func(*args, **kwargs)
        if func._schema.is_mutable:  # gives back what it was given
            given = {id(x.held): x for x in tensors if isinstance(x, Elsewhere)}
            return tree_map(lambda x: given.get(id(x), x), result)
        if to is not None and torch.device(to).type != NAME:
            return result
        return tree_map(lambda x: cls(x) if isinstance(x, torch.Tensor) else x, result)


def _held(value: object) -> object:
    if isinstance(value, torch.device) and value.type == NAME:
        return torch.device("cpu")
    return value.held if isinstance(value, Elsewhere) else value


def _empty(size, *, dtype=None, layout=None, device=None, pin_memory=None, memory_format=None):
    return Elsewhere(torch.empty(size, dtype=dtype, memory_format=memory_format or torch.contiguous_format))


def _empty_strided(size, stride, *, dtype=None, layout=None, device=None, pin_memory=None):
    return Elsewhere(torch.empty_strided(size, stride, dtype=dtype))


def _copy(target: Elsewhere, source: torch.Tensor, non_blocking: bool = False) -> Elsewhere:
    target.held.copy_(_held(source))
    return target


_library = torch.library.Library("aten", "IMPL")
for name, made in (("empty.memory_format", _empty), ("empty_strided", _empty_strided), ("copy_", _copy)):
    _library.impl(name, made, "PrivateUse1")


def main() -> None:
    """Train, validate, evaluate and look into every model."""
    small = TrainSettings(patients=3, validation_patients=1, size_px=64, width=4, codes=16, references=8, flips=True)
    dataset, grid = open_dataset(small), Grid(small.spacing_mm, small.size_px)
    slices = load_slices(small, dataset, grid)
    batch = [torch.from_numpy(x[:4]).to(DEVICE) for x in (slices.images, slices.labels, slices.case)]
    batch[2] = torch.zeros_like(batch[2])
    images = network_input(batch[0])
    try:
        images + images.cpu()
    except RuntimeError as error:
        print(f"as it should: {error}")
    for model in get_args(ModelName):
        for settings in (
            replace(small, model=model, deep_supervision=True),
            replace(small, model=model, recipe="transunet", flips=False),
        ):
            torch.manual_seed(0)
            task = SegmentationTask(settings, dataset.classes, 1).to(DEVICE)
            optimiser = torch.optim.AdamW(task.parameters())
            for _ in range(2):
                loss = task.training_step(batch, 0)["loss"]
                loss.backward()
                optimiser.step()
            assert loss.device == DEVICE
            assert loss.isfinite()
        task.on_validation_epoch_start()
        task.validation_step(batch, 0)
        for total in task.epoch.values():
            total.compute()
        look_into(task.model, slices, dataset, grid, images)
        card = ModelCard(model, settings.model_settings(len(dataset.classes)), dataset.classes, grid, {})
        with tempfile.TemporaryDirectory() as folder:
            save_checkpoint(Path(folder) / "model.safetensors", task.model, card)
            on_cpu, _ = load_checkpoint(Path(folder) / "model.safetensors")
        there = []
        on_cpu.bottleneck.register_forward_pre_hook(lambda module, inputs, there=there: there.append(inputs[0].device))
        evaluate_cases(on_cpu, dataset.validation, grid, dataset.classes)
        assert set(there) == {DEVICE}
        assert next(on_cpu.parameters()).device.type == "cpu"
        print(f"{model}: trained, evaluated and looked into")
    tokens, references = torch.randn(2, 9, 8, device=DEVICE), 9
    for cost in ("cosine", "euclidean", "dot"):
        for readout in ("barycentric", "grid"):
            for epsilon in (0.002, 0.02, 0.5):  # by logarithms, in double and in single precision
                mapper = L2GMapper(8, references, heads=2, cost=cost, readout=readout, epsilon=epsilon).to(DEVICE)
                mapped = mapper(tokens.requires_grad_(), None)
                mapped.tokens.sum().backward()
                assert tokens.grad.device == DEVICE
    print("the mapper: every cost, readout and way to solve")


def look_into(model, slices, dataset, grid, images) -> None:
    """All that is done with a trained model."""
    evaluate_cases(model, dataset.validation, grid, dataset.classes)
    learn_familiar(model, dataset.validation, grid)
    alone = SliceSet(slices.images, slices.labels, np.arange(len(slices)), tuple(f"{n}" for n in range(len(slices))))
    audit(model, alone, dataset.classes, blocks=["encoder.1"])  # each slice for a patient: an interval wants several
    for relation in relations(model, images).values():
        redundancy(relation)
    receptive_field_px(model, images)
    if model.codebook is not None:
        CodeAtlas.of_model(model, slices)
    if model.mapper is not None:
        ImageTransport.of_model(model, images[:1])


if __name__ == "__main__":
    main()
