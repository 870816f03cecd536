"""The codes and plans of a scan of one's own, on its own grid and as tables: for whoever analyses them elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from l2gnet.data.resampling import affine_of_cells, batches_on_grid, cells_on_scan
from l2gnet.data.volume import Volume, write_arrays
from l2gnet.errors import unwritable
from l2gnet.files import atomic_path, write_text
from l2gnet.inspection.changed_parts import evaluating
from l2gnet.method.mapper import sum_of_rows
from l2gnet.method.rows import rows_of_codes
from l2gnet.models.backbone import SegmentationModel
from l2gnet.models.card import ModelCard
from l2gnet.prediction.inference import network_input
from l2gnet.prediction.segmenter import frame_ends
from l2gnet.shapes import Float, Float32, Int64
from l2gnet.tables import csv_text


@dataclass(frozen=True, eq=False)
class Plan:
    """The plan of every slice of a scan, by the codes that it has.

    `mass` adds up to 1 for each slice and head (h). Its row u is that of code `codes[s, u]`, the sum over its tokens
    where these receive by themselves; rows that are left over are empty, and named -1. `likeliest` is the reference
    that takes the most of each cell's mass.
    """

    codes: Int64[np.ndarray, "S U"]
    mass: Float32[np.ndarray, "S h U R"]
    likeliest: Int64[np.ndarray, "S h rows columns"]

    @property
    def of_scan(self) -> dict[int, Float[np.ndarray, "h R"]]:
        """For each code of the scan, the mass that goes from it to each reference, mean of all slices."""
        found = {}
        for code in np.unique(self.codes[self.codes >= 0]).tolist():
            slices, rows = np.nonzero(self.codes == code)
            found[code] = self.mass[slices, :, rows].sum(0, dtype=np.float64) / len(self.codes)
        return found


@dataclass(frozen=True, eq=False)
class ScanCodes:
    """What the codebook of a model makes of a volume, slice by slice in the plane of the model.

    `codes` are those of the cells, the pixels of the bottleneck, out of `size` (K); `affine` leads from (slice, row,
    column, 1) of a cell to the world in mm. `sending` and `receiving` are the plans of an L2GNet; where its relation is
    symmetric, they are one, and `receiving` is None.
    """

    scan: Volume
    card: ModelCard
    size: int
    codes: Int64[np.ndarray, "S rows columns"]
    sending: Plan | None = None
    receiving: Plan | None = None

    @property
    def affine(self) -> Float[np.ndarray, "4 4"]:
        """Where the cells lie."""
        return affine_of_cells((self.codes.shape[1], self.codes.shape[2]), self.card.grid, self._turned)

    @property
    def histogram(self) -> Int64[np.ndarray, "S K"]:
        """How many cells of each slice have each code."""
        return np.stack([np.bincount(each.ravel(), minlength=self.size) for each in self.codes])

    def on_scan(self, cells: Int64[np.ndarray, "S rows columns"]) -> Volume:
        """A number of each cell for the voxels of the scan that lie in it; -1 where the model did not look."""
        turned = self._turned
        back = turned.like(cells_on_scan(cells, self.card.grid, turned)).turned(self.scan.axes)
        return self.scan.like(back.array)

    @cached_property
    def _turned(self) -> Volume:
        return self.scan.in_plane(self.card.plane)


@torch.inference_mode()
def codes_of_scan(model: SegmentationModel, card: ModelCard, scan: Volume, *, batch_size: int = 8) -> ScanCodes:
    """The codes of a scan, and its plans where the model has a mapper.

    Raises:
        ValueError: the model has no codebook.
        VolumeError: the scan cannot be brought onto the grid of the model.
    """
    if model.codebook is None:
        raise ValueError(f"a model must have a codebook for codes, got {card.model} without; name an l2gnet with codes")
    device = next(model.parameters()).device
    codes, sending, receiving = [], [], []
    for slices in batches_on_grid(scan.in_plane(card.plane), card.grid, batch_size):
        with evaluating(model):
            latent = model.trace(network_input(slices).to(device)).latent
        assert latent.codes is not None  # a codebook gives them
        codes.append(latent.codes.cpu())
        if model.mapper is not None and latent.transport is not None and latent.receiving is not None:
            sending.append(_plan(latent.codes, latent.transport.plan, model.mapper.heads))
            if model.mapper.relation == "send-receive":
                by_token = model.tokens_receive
                receiving.append(_plan(latent.codes, latent.receiving.plan, model.mapper.heads, by_token=by_token))
    size = len(model.codebook.vectors)
    return ScanCodes(scan, card, size, torch.cat(codes).numpy(), _joined(sending), _joined(receiving))


def write_codes(folder: str | Path, name: str, frames: Sequence[ScanCodes]) -> None:
    """Write what analysis elsewhere needs of a scan; for a cine `_frameNN` follows on NAME_codes and so on.

    `NAME_codes.nii.gz` has the code of each voxel, on the scan's own grid, -1 where the model did not look. With plans,
    `NAME_sent_to.nii.gz` has the reference that takes the most of a voxel's mass, a volume for each head, and
    `NAME_received_from.nii.gz` the same of the plan that receives. `NAME_codes.npz` holds `codes` (slice, row, column),
    `affine` (from there to the world, RAS in mm), `histogram` (slice, code), and with plans `sending` and `receiving`
    (slice, head, row, reference) with `row_codes` (slice, row), the code of each row; where tokens receive by
    themselves, a row of `receiving` is the sum over those of its code. `NAME_histogram.csv` has a row
    for each code of each slice, `NAME_plan.csv` one for each plan, head and code, with the mass that goes to each
    reference, mean of all slices. All numbers of codes, references, heads and slices begin at 0.

    Raises:
        VolumeError: a file cannot be written.
    """
    for number, (end, frame) in enumerate(zip(frame_ends(len(frames)), frames, strict=True), start=1):
        start = Path(folder) / name
        arrays: dict[str, Any] = {"codes": frame.codes, "affine": frame.affine, "histogram": frame.histogram}
        write_arrays(_beside(start, f"_codes{end}.nii.gz"), frame.scan, frame.on_scan(frame.codes).array)
        table = []
        for key, plan, ending in (
            ("sending", frame.sending, "sent_to"),
            ("receiving", frame.receiving, "received_from"),
        ):
            if plan is not None:
                arrays |= {key: plan.mass, "row_codes": plan.codes}
                heads = [frame.on_scan(plan.likeliest[:, head]).array for head in range(plan.mass.shape[1])]
                write_arrays(_beside(start, f"_{ending}{end}.nii.gz"), frame.scan, *heads)
                table += _table(key, plan)
        tables = {"histogram": _histogram_table(name, number, frame), "plan": table}
        try:
            with atomic_path(_beside(start, f"_codes{end}.npz")) as temporary:
                np.savez_compressed(temporary, **arrays)
            for what, rows in tables.items():
                if rows:
                    write_text(_beside(start, f"_{what}{end}.csv"), csv_text(rows))
        except OSError as error:
            raise unwritable(start, error) from error


def _plan(
    codes: Int64[torch.Tensor, "B rows columns"],
    plan: Float[torch.Tensor, "_ _ R"],
    heads: int,
    *,
    by_token: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes of rows, masses and likeliest references of a batch, as a mapper's plan has them: images, then heads."""
    rows = rows_of_codes(codes.flatten(1))
    best = plan.argmax(-1).unflatten(0, (-1, heads))
    if by_token:
        plan = sum_of_rows(plan, rows)
    else:
        best = best.gather(2, rows.row[:, None].expand(-1, heads, -1))
    mass = plan.float().unflatten(0, (-1, heads))
    return rows.codes.cpu(), mass.cpu(), best.unflatten(2, codes.shape[1:]).cpu()


def _joined(batches: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> Plan | None:
    """One plan of batches whose images have different numbers of codes."""
    if not batches:
        return None
    most = max(codes.shape[1] for codes, _, _ in batches)
    pad = torch.nn.functional.pad
    return Plan(
        codes=torch.cat([pad(codes, (0, most - codes.shape[1]), value=-1) for codes, _, _ in batches]).numpy(),
        mass=torch.cat([pad(mass, (0, 0, 0, most - mass.shape[2])) for _, mass, _ in batches]).numpy(),
        likeliest=torch.cat([best for _, _, best in batches]).numpy(),
    )


def _histogram_table(name: str, frame: int, seen: ScanCodes) -> list[dict[str, Any]]:
    cells = seen.codes[0].size
    return [
        {"scan": name, "frame": frame, "slice": index, "code": code, "cells": count[code], "share": count[code] / cells}
        for index, count in enumerate(seen.histogram)
        for code in np.flatnonzero(count).tolist()
    ]


def _table(name: str, plan: Plan) -> list[dict[str, Any]]:
    return [
        {"plan": name, "head": head, "code": code}
        | {f"reference_{number}": float(mass) for number, mass in enumerate(of_head)}
        for code, heads in plan.of_scan.items()
        for head, of_head in enumerate(heads)
    ]


def _beside(start: Path, end: str) -> Path:
    return start.with_name(start.name + end)
