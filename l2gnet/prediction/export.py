"""Trained models for programs that do not know this project: as ONNX and as `torch.export`, transport included."""

import copy
import json
import logging
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from l2gnet.errors import ConfigError
from l2gnet.extras import explained
from l2gnet.files import atomic_path
from l2gnet.method.graph import require_graph
from l2gnet.models.backbone import SegmentationModel
from l2gnet.models.card import NOT_CLINICAL, ModelCard
from l2gnet.shapes import Float


class _Graph(nn.Module):
    """Images to what the file gives: logits, and the marginal error of the plan that they rest on, if any."""

    def __init__(self, model: SegmentationModel):
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(False)
        if self.model.mapper is not None:
            require_graph(self.model.mapper.setting)

    def forward(self, images: Float[Tensor, "B C H W"]) -> dict[str, Tensor]:
        trace = self.model.trace(images)
        latent = trace.latent
        if latent.transport is None or latent.receiving is None:
            return {"logits": trace.logits}
        worst = torch.maximum(latent.transport.marginal_error, latent.receiving.marginal_error)
        by_head = rearrange(worst, "(B h) -> B h", B=images.shape[0])  # len() would fix the batch
        return {"logits": trace.logits, "marginal_error": by_head.amax(1)}


def write_export(path: str | Path, model: SegmentationModel, card: ModelCard) -> None:
    """Write a model for images (B, C, H, W) of its grid, of any batch B, atomically: `.onnx` or `.pt2` by the suffix.

    The file holds `instructions` for a user of the file alone. With a transport layer it gives the plan's marginal
    error of each image beside the logits: the result is to be trusted where that is below 1e-4.

    Raises:
        ConfigError: another suffix, the packages for ONNX are missing, or the transport cannot be exported.
    """
    path = Path(path)
    if path.suffix not in (".onnx", ".pt2"):
        raise ConfigError(f"{path}: the file to export to must end in .onnx or .pt2; name one that does")
    graph, told = _Graph(model).eval(), {"l2gnet": json.dumps(instructions(card), indent=2)}
    images = torch.zeros(2, model.channels, card.grid.size_px, card.grid.size_px)
    any_batch = {"images": {0: torch.export.Dim("batch")}}
    with atomic_path(path) as temporary:
        if path.suffix == ".pt2":
            program = torch.export.export(graph, (images,), dynamic_shapes=any_batch)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "No complete tensor found")  # of weights in channels-last order
                torch.export.save(program, temporary, extra_files=told)
        else:
            _write_onnx(temporary, graph, images, any_batch, told)


_MEANING = {
    False: "(batch, classes, height, width); the largest is the class of a pixel, in the order of model.classes",
    True: "(batch, regions, height, width); a pixel lies in each region, in the order of model.classes from 1 on, "
    "whose logit is above 0, and its label is that of model.regions.painted for the last of them",
}


def instructions(card: ModelCard) -> dict[str, Any]:
    """All that a user of an exported file must know: how to make its input, what it gives, and what it is not for."""
    grid, plane = card.grid, card.plane
    size = f"{grid.size_px} x {grid.size_px}"
    ranges = [list(window) if window else "their 0.5th to 99.5th percentile over the volume" for window in card.windows]
    fit = f"resample each slice to {size} pixels"
    if grid.spacing_mm:
        fit = f"resample each slice to pixels of {grid.spacing_mm:g} mm, crop or pad with 0 around the middle to {size}"
    acquired = "across the thickest spacing; from inferior to superior, where none is 1.2 times the next"
    seen = f"in the plane of acquisition ({acquired})" if plane == "acquired" else plane
    return {
        "warning": NOT_CLINICAL,
        "model": asdict(card),
        "input": f"images: float32 (batch, {len(card.channels)}, {grid.size_px}, {grid.size_px}), from 0 to 1, "
        f"of any batch; the channels are {', '.join(card.channels)}",
        "preparation": [
            f"cut the volume into slices, {seen}; axial ones have posterior down and left to the right, coronal ones "
            "inferior down and left to the right, sagittal ones inferior down and posterior to the right",
            *(f"map {name} from {r} to 0..1, clipped" for name, r in zip(card.channels, ranges, strict=True)),
            f"{fit}, by antialiased bilinear interpolation",
            "round to steps of 1/255",
        ],
        "output": f"logits: {_MEANING[bool(card.regions)]}. marginal_error (l2gnet): (batch), of the transport plan; "
        "to be trusted below 1e-4",
    }


def _write_onnx(path: Path, graph: nn.Module, images: Tensor, any_batch: dict[str, Any], told: dict[str, str]) -> None:
    try:
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(f"{path}: {explained(error)}") from error
    for talker in ("torch.onnx", "onnxscript"):  # of torchvision that is missing, of folding that is skipped
        logging.getLogger(talker).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own code uses what torch has deprecated
        program: Any = torch.onnx.export(
            graph,
            (images,),
            dynamo=True,
            dynamic_shapes=any_batch,
            input_names=["images"],
            output_names=list(graph(images)),
            verbose=False,
        )
    program.model.metadata_props.update(told)
    program.save(path)
