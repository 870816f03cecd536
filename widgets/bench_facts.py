"""What the workbench tells the browser of a model, a scan and a slice: plain values, and numbers as bytes."""

import math
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import torch
from l2gnet.widgets.explorer import as_float32
from l2gnet.widgets.planes import planes_of

from l2gnet.colours import AGREEMENT, label_colour
from l2gnet.data.volume import IGNORED
from l2gnet.inspection.interventions import Intervened, SliceScores
from l2gnet.inspection.plan_order import Order, plan_order
from l2gnet.inspection.seen_scan import SeenScan
from l2gnet.models.backbone import SegmentationModel
from l2gnet.models.card import ModelCard
from l2gnet.shapes import Bool, Float, Int64, UInt8


def model_facts(model: SegmentationModel, card: ModelCard) -> dict[str, Any]:
    """What a model is made of, and in words what it has not."""
    mapper, book = model.mapper, model.codebook
    missing = ""
    if book is None:
        missing = f"{card.model} has no codebook: no codes, no plans. Slices, doubt and skips work."
    elif mapper is None:
        missing = f"{card.model} relates no codes by transport: there are no plans. Codes work."
    labels = enumerate(card.labels)
    return {
        "kind": card.model,
        "structures": [{"label": n, "name": name, "colour": label_colour(n)} for n, name in labels if n],
        "agreement": AGREEMENT,
        "codes": 0 if book is None else len(book.vectors),
        "heads": 0 if mapper is None else mapper.heads,
        "references": 0 if mapper is None else int(mapper.references.shape[-2]),
        "two": mapper is not None and mapper.relation == "send-receive",
        "epsilons": [] if mapper is None else list(mapper.setting.epsilons),
        "skips": int(card.settings.get("depth", 0)),
        "missing": missing,
    }


def scan_facts(seen: SeenScan, typical: Int64[np.ndarray, " K"] | None) -> dict[str, Any]:
    """Where a scan lies, on the grid of the model; `typical` is the label that each code marks in it."""
    placed = seen.placed
    return {
        "shape": list(seen.labels.shape),
        "cells": None if seen.codes is None else list(seen.codes.shape[1:]),
        "spacing_mm": list(placed.spacing_mm) if placed.has_mm else [1.0, 1.0, 1.0],
        "affine": placed.affine.tolist() if placed.has_mm else None,
        "unit": "mm" if placed.has_mm else "pixels",
        "planes": [plane.to_browser() for plane in planes_of(placed.axes if placed.has_mm else None)],
        "range": list(seen.range),
        "truth": seen.truth is not None,
        "typical": [] if typical is None else typical.tolist(),
    }


def most_to_see(seen: SeenScan) -> list[int]:
    """The voxel [d, h, w] amid the slice that has most of all structures, in truth or else as they are found."""
    labels = seen.labels if seen.truth is None else seen.truth
    there = (labels > 0) & (labels != IGNORED)
    if not there.any():
        return [size // 2 for size in labels.shape]
    d = int(there.sum((1, 2)).argmax())
    h, w = np.argwhere(there[d]).mean(0).round().astype(int).tolist()
    return [d, h, w]


def plan_facts(
    result: Intervened, plain: Intervened, head: int, order: Order, typical: Int64[np.ndarray, " K"] | None
) -> dict[str, Any]:
    """The plans of one slice as they are used, with a row for each code, in all heads; nothing without plans.

    Where its codes are those of the model that is left alone, `plain`, its plan gives the order, which so stays while
    one interferes.
    """
    if result.codes is None or result.row_codes is None or result.sending is None or result.receiving is None:
        return {}
    named = result.row_codes[0].cpu().numpy()
    names = named[named >= 0]
    sending, receiving = (plan[0].float().cpu().numpy()[:, named >= 0] for plan in (result.sending, result.receiving))
    codes = result.codes[0].flatten().cpu().numpy()
    rows = np.searchsorted(names, codes).clip(max=len(names) - 1)
    own = sending[head]
    still = _still(result, plain)[0, head].float().cpu().numpy()[named >= 0]
    places = plan_order(still.astype(np.float64), order, None if typical is None else typical[names])
    hearing = None if result.hearing is None else as_float32(result.hearing[0].float().cpu().numpy())
    target = own.sum(0)
    even = (target > 0) / max(int((target > 0).sum()), 1)
    return {
        "names": names.tolist(),
        "rows": np.where(names[rows] == codes, rows, -1).astype(np.int32).tobytes(),
        "source": as_float32(own.sum(1)),
        "target": as_float32(target),
        "sending": as_float32(sending),
        "receiving": as_float32(receiving),
        "hearing": hearing,
        "order": [each.tolist() for each in places],
        "errors": [float(np.abs(plan[head].sum(0) - even).sum()) for plan in (sending, receiving)],
    }


def plan_orders(
    result: Intervened, plain: Intervened, typical: Int64[np.ndarray, " K"] | None
) -> dict[str, list[list[list[int]]]]:
    """By name, every order of the rows and columns of a slice's plan, a pair for each head; nothing without codes."""
    if result.codes is None or result.row_codes is None or result.sending is None:
        return {}
    named = result.row_codes[0].cpu().numpy()
    still = _still(result, plain)[0].double().cpu().numpy()[:, named >= 0]
    labels = None if typical is None else typical[named[named >= 0]]
    return {
        order: [[each.tolist() for each in plan_order(plan, order, labels)] for plan in still]
        for order in get_args(Order)
    }


def _still(result: Intervened, plain: Intervened) -> Float[torch.Tensor, "1 heads U R"]:
    """The plan that decides the order: that of the model left alone, where it has the same rows."""
    assert result.sending is not None
    assert result.row_codes is not None
    if plain.row_codes is None or plain.sending is None or not torch.equal(plain.row_codes, result.row_codes):
        return result.sending
    return plain.sending


def slice_scores(
    seen: SeenScan,
    index: int,
    labels: UInt8[np.ndarray, "H W"],
    names: Sequence[str],
    other: UInt8[np.ndarray, "H W"] | None = None,
) -> list[dict[str, Any]]:
    """Pixels, and with truth Dice, of each structure in a slice: as the model found it, in these labels, in others."""
    truth = None if seen.truth is None else seen.truth[index]
    known = np.ones(labels.shape, bool) if truth is None else truth != IGNORED
    told = []
    for number, name in enumerate(names):
        if number:
            maps = [each for each in (seen.labels[index], labels, other) if each is not None]
            masks = [each[known] == number for each in maps]
            row: dict[str, Any] = {"name": name, "pixels": [int(mask.sum()) for mask in masks]}
            if truth is not None:
                row["dice"] = [_dice(mask, truth[known] == number) for mask in masks]
            told.append(row)
    return told


def scan_scores(scores: SliceScores, classes: Sequence[str]) -> dict[str, Any]:
    """Dice of each structure over one whole scan, before and after, and the share of its pixels that change."""
    pairs = zip(classes[1:], scores.plain_dice[0].tolist(), scores.changed_dice[0].tolist(), strict=True)
    told = [{"name": name, "dice": [None if math.isnan(d) else d for d in dice]} for name, *dice in pairs]
    return {"scores": told, "changed": float(scores.changed_share[0])}


def _dice(found: Bool[np.ndarray, " n"], truth: Bool[np.ndarray, " n"]) -> float | None:
    both = int(found.sum()) + int(truth.sum())
    return None if both == 0 else 2 * int((found & truth).sum()) / both
