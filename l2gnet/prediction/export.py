"""Trained models for programs that do not know this project: as ONNX and as `torch.export`, transport included.

The layer of training asks how many distinct codes an image has, which no fixed graph can know. In a file it works on
tokens, with Sinkhorn's own steps in a loop of the graph: more arithmetic, and the same plan within the tolerance.
"""

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
from torch._higher_order_ops.while_loop import while_loop

from l2gnet.errors import ConfigError
from l2gnet.extras import explained
from l2gnet.files import atomic_path
from l2gnet.method.cost import unit_cost
from l2gnet.method.mapper import L2GMapper, Mapped
from l2gnet.method.places import in_own_frame, waves
from l2gnet.method.transport import TransportPlan
from l2gnet.models.backbone import SegmentationModel
from l2gnet.models.card import NOT_CLINICAL, ModelCard
from l2gnet.shapes import Float, Int64

_SMALLEST_EPSILON = 0.005  # exp(+-2 * cost / epsilon), cost in [0, 1], lies far inside the numbers of float64
_LONGEST_LOOP = 100  # times the iterations that training allows: these steps are plain ones, without momentum


class GraphMapper(nn.Module):
    """An `L2GMapper` of operations that a graph can hold for any batch; without gradients.

    Sinkhorn's iteration on scalings (Cuturi 2013, arXiv 1306.0895), in float64, to half the mapper's tolerance.

    Raises:
        ConfigError: an epsilon of the mapper is too small for scalings.
    """

    def __init__(self, mapper: L2GMapper):
        super().__init__()
        self.references, self.setting = mapper.references, mapper.setting
        self.heads, self.positions, self.given = mapper.heads, mapper.positions, mapper.given
        smallest = min(self.setting.epsilons)
        if smallest < _SMALLEST_EPSILON:
            rule = f"a model to export must have an epsilon of at least {_SMALLEST_EPSILON}"
            raise ConfigError(f"{rule}, got {smallest}; train one with more entropy")

    def forward(
        self,
        tokens: Float[Tensor, "B N d"],
        indices: Int64[Tensor, "B N"] | None = None,
        shape: tuple[int, int] | None = None,
    ) -> Mapped:
        """Relate tokens, as the mapper does; a plan has a row for each token, also for those that share a code."""
        split = rearrange(tokens, "B N (h d) -> h B N d", h=self.heads)
        references = self.references.reshape(-1, *self.references.shape[-3:])
        pairs = zip(references, self.setting.epsilons, strict=True)
        plans = [self._solve(split, each, epsilon) for each, epsilon in pairs]
        (sent, transport), (received, receiving) = plans[0], plans[-1]
        N, R = tokens.shape[1], self.references.shape[-2]
        places = waves(*shape, like=split) if self.positions and shape is not None else split.new_empty(N, 0)
        values = torch.cat([split, places.expand(*split.shape[:2], *places.shape)], dim=-1)
        aligned = (R / N) * (sent.transpose(-1, -2) @ values)
        related = aligned if self.setting.readout == "grid" else received @ aligned
        if self.positions:
            related = in_own_frame(related, places)
        codes = indices if indices is not None else torch.zeros_like(tokens[..., 0], dtype=torch.int64)
        return Mapped(rearrange(related, "h B N d -> B N (h d)"), transport, receiving, codes, aligned)

    def _solve(
        self, tokens: Float[Tensor, "h B N d"], references: Float[Tensor, "h R d"], epsilon: float
    ) -> tuple[Float[Tensor, "h B N R"], TransportPlan]:
        """Each token's way to the references, and the plan."""
        setting, (heads, B, N, _), R = self.setting, tokens.shape, references.shape[1]
        cost = unit_cost(tokens, references, setting.cost).double()
        lowest = cost.amin(-1, keepdim=True)
        kernel = ((lowest - cost) / epsilon).exp()
        allowed = setting.tolerance / 2

        def unsolved(iteration: Tensor, scale: Tensor, error: Tensor) -> Tensor:
            return (error > allowed).any() & (iteration < _LONGEST_LOOP * setting.max_iterations)

        def step(iteration: Tensor, scale: Tensor, error: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            rows = N * (kernel @ scale.transpose(-1, -2))
            columns = scale * (rows.reciprocal().transpose(-1, -2) @ kernel)
            error = (columns - 1 / R).abs().sum(-1, keepdim=True)
            # A solved image stays, so that its result does not depend on the others of its batch.
            return iteration + 1, torch.where(error > allowed, scale / (R * columns), scale), error

        scale, error = kernel.new_ones(heads, B, 1, R), kernel.new_ones(heads, B, 1, 1)
        iteration = torch.zeros((), dtype=torch.int64, device=scale.device)
        iteration, scale, error = while_loop(unsolved, step, (iteration, scale, error))
        scaled = kernel * scale
        total = scaled.sum(-1, keepdim=True)
        q = (scaled / total).to(tokens.dtype)
        plan = rearrange(q / N, "h B N R -> (B h) N R")
        error = rearrange(error, "h B 1 1 -> (B h)").to(tokens.dtype)
        source = epsilon * (-torch.log(N * total)) + lowest
        return q, TransportPlan(
            plan=plan,
            source_potential=rearrange(source, "h B N 1 -> (B h) N").to(tokens.dtype),
            target_potential=rearrange(epsilon * scale.log(), "h B 1 R -> (B h) R").to(tokens.dtype),
            cost=(plan * rearrange(cost, "h B N R -> (B h) N R")).sum((1, 2)).to(tokens.dtype),
            marginal_error=error,
            iterations=iteration * torch.ones_like(error, dtype=torch.int64),
            converged=error <= setting.tolerance,
            epsilon=epsilon,
        )


class _Graph(nn.Module):
    """Images to what the file gives: logits, and the marginal error of the plan that they rest on, if any."""

    def __init__(self, model: SegmentationModel):
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(False)
        if self.model.mapper is not None:
            self.model.bottleneck.mapper = GraphMapper(self.model.mapper)

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


def instructions(card: ModelCard) -> dict[str, Any]:
    """All that a user of an exported file must know: how to make its input, what it gives, and what it is not for."""
    grid, plane = card.grid, card.plane
    size = f"{grid.size_px} x {grid.size_px}"
    ranges = [list(window) if window else "their 0.5th to 99.5th percentile over the volume" for window in card.windows]
    fit = f"resample each slice to {size} pixels"
    if grid.spacing_mm:
        fit = f"resample each slice to pixels of {grid.spacing_mm:g} mm, crop or pad with 0 around the middle to {size}"
    seen = "in the plane of acquisition (across the thickest spacing)" if plane == "acquired" else plane
    return {
        "warning": NOT_CLINICAL,
        "model": asdict(card),
        "input": f"images: float32 (batch, {len(card.channels)}, {grid.size_px}, {grid.size_px}), from 0 to 1, "
        f"of any batch; the channels are {', '.join(card.channels)}",
        "preparation": [
            f"cut the volume into slices, {seen}; axial ones have posterior down and left to the right",
            *(f"map {name} from {r} to 0..1, clipped" for name, r in zip(card.channels, ranges, strict=True)),
            f"{fit}, by antialiased bilinear interpolation",
            "round to steps of 1/255",
        ],
        "output": "logits: (batch, classes, height, width); the largest is the class of a pixel, in the order of "
        "model.classes. marginal_error (l2gnet): (batch), of the transport plan; to be trusted below 1e-4",
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
