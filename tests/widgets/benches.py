"""Tiny models and scans for the workbench."""

import functools
from pathlib import Path

import numpy as np
import torch

from l2gnet.data.grid import Grid
from l2gnet.data.phantoms import make_heart
from l2gnet.data.volume import Volume
from l2gnet.models import build_model
from l2gnet.models.card import ModelCard
from l2gnet.models.checkpoint import save_checkpoint
from l2gnet.prediction.inference import network_input

CLASSES = ("background", "right ventricle", "myocardium", "left ventricle")
SMALL = {"classes": 4, "width": 4, "depth": 2}
CODES = {"codes": 12, "code_dim": 8}
PLANS = {**CODES, "references": 5, "heads": 2, "receivers": "codes"}
MODELS = {"l2gnet": PLANS, "vq_unet": CODES, "unet": {}}
AFFINE = np.array([[0, 0, -3, 0], [0, -3, 0, 0], [16, 0, 0, 0], [0, 0, 0, 1.0]])  # superior, posterior, left


@functools.cache
def phantom(seed):
    return make_heart(seed, shape=(4, 48, 48), spacing_mm=(16.0, 3.0, 3.0))


def volume(seed=1, *, slices=4):
    return Volume(phantom(seed).image[:slices], AFFINE)


def truth(seed=1, *, slices=4):
    return Volume(phantom(seed).label[:slices], AFFINE)


def save_model(path: Path, name="l2gnet", *, size_px=48, **settings):
    """A checkpoint of a model whose codes fire at more than one place."""
    torch.manual_seed(0)
    settings = {**SMALL, **MODELS[name], **settings}
    model = build_model(name, **settings).eval()
    if model.codebook is not None:
        tokens = []
        hook = model.codebook.register_forward_pre_hook(lambda _, inputs: tokens.append(inputs[0].flatten(0, 1)))
        with torch.no_grad():
            model(network_input(np.random.default_rng(0).integers(0, 256, (4, 1, 48, 48)).astype(np.uint8)))
            hook.remove()
            model.codebook.vectors.copy_(tokens[0][torch.randperm(len(tokens[0]))[: len(model.codebook.vectors)]])
    with torch.no_grad():  # each class somewhere, or nothing could change
        bias = [each for each in model.parameters() if each.shape == (len(CLASSES),)][-1]
        bias -= model(network_input((phantom(1).image[:, None].clip(0, 1000) / 4).astype(np.uint8))).mean((0, 2, 3))
    save_checkpoint(path, model, ModelCard(name, settings, CLASSES, Grid(3.0, size_px)))
    return path
