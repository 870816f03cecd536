"""Does the decoder use the bottleneck? What a trained model loses when other features are put into their place.

The skips of a U-Net can carry a segmentation by themselves, and a bottleneck that nobody listens to trains as well as
any: then nothing that is done with its codes can help. Interventions on the trained model tell.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from l2gnet.data.slices import SliceSet
from l2gnet.evaluation.overlap import Overlap
from l2gnet.models.backbone import SegmentationModel
from l2gnet.prediction.inference import network_input

_FEATURES: dict[str, Callable[[Tensor], Tensor]] = {
    "features of another image": lambda features: features.roll(1, dims=0),
    "their mean over the image": lambda features: features.mean((2, 3), keepdim=True).expand_as(features),
    "no features": torch.zeros_like,
}
_RELATED: dict[str, Callable[[Tensor], Tensor]] = {
    "relation of another image": lambda tokens: tokens.roll(1, dims=0),
    "mean of the image for a relation": lambda tokens: tokens.mean(1, keepdim=True).expand_as(tokens),
    "no relation": torch.zeros_like,
}


@torch.no_grad()
def reliance(
    model: SegmentationModel, slices: SliceSet, classes: int, *, batch_size: int = 32, seed: int = 0
) -> dict[str, float]:
    """Mean Dice over cases and structures, on the model's grid: as it is, and with each thing replaced.

    The bottleneck's features are replaced in every model, what the mapper adds to the tokens where there is a mapper.
    Slices are put into batches in an order that `seed` decides, so that "another image" is mostly another patient's.

    Raises:
        ValueError: there are fewer than two slices.
    """
    if len(slices) < 2:
        raise ValueError(f"there must be two slices or more to exchange features, got {len(slices)}")
    model.eval()
    order = torch.randperm(len(slices), generator=torch.Generator().manual_seed(seed))
    batches = [batch.tolist() for batch in order.split(batch_size)]
    if len(batches[-1]) == 1 and len(batches) > 1:  # a slice by itself has no other image
        alone = batches.pop()
        batches[-1] += alone
    dice = {"as it is": _dice(model, slices, classes, batches)}
    for name, change in _FEATURES.items():
        with _changed(model.bottleneck, lambda latent, to=change: replace(latent, features=to(latent.features))):
            dice[name] = _dice(model, slices, classes, batches)
    if model.mapper is not None:
        for name, change in _RELATED.items():
            with _changed(model.mapper, lambda mapped, to=change: replace(mapped, tokens=to(mapped.tokens))):
                dice[name] = _dice(model, slices, classes, batches)
    return dice


@contextmanager
def _changed(module: nn.Module, change: Callable) -> Iterator[None]:
    hook = module.register_forward_hook(lambda module, inputs, output: change(output))
    try:
        yield
    finally:
        hook.remove()


def _dice(model: SegmentationModel, slices: SliceSet, classes: int, batches: list[list[int]]) -> float:
    device = next(model.parameters()).device
    overlap = Overlap(len(slices.names), classes)
    for rows in batches:
        predicted = model(network_input(slices.images[rows]).to(device)).argmax(1).cpu()
        overlap.add(predicted, torch.from_numpy(slices.labels[rows]), torch.from_numpy(slices.case[rows]))
    return float(overlap.dice().nanmean())
