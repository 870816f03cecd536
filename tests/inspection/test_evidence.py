import numpy as np
import pytest
import torch
from torch import nn

from l2gnet.data.dataset import open_dataset
from l2gnet.data.grid import Grid
from l2gnet.data.settings import DataSettings
from l2gnet.data.slices import SliceSet, prepare_slices
from l2gnet.inspection.audit import audit
from l2gnet.inspection.evidence import Distances, Reach, ReachCount, evidence_on_grid

CLASSES = ("background", "a", "b")


def rising(count=8):
    """Pictures of one row of structures, whose evidence lies as far away as they lie to the right."""
    labels = np.zeros((count, 4, 16), np.uint8)
    labels[:, 1], labels[:, 2] = 1, 2
    away = np.where(labels > 0, np.arange(16, dtype=np.float32), np.nan).astype(np.float32)
    return SliceSet(labels[:, None], labels, np.arange(count), tuple(f"p{n}" for n in range(count))), away


def test_what_is_found_is_counted_at_its_distance():
    slices, away = rising(2)
    predicted = slices.labels.astype(np.int64)
    predicted[:, 1, 12:] = 2  # of the farthest quarter one of two rows is taken for the other
    predicted[:, 0] = 1  # what has no class to find is not asked
    count = ReachCount(Distances(away, slices.labels))
    for row in range(2):
        count.add(predicted[[row]], np.array([row]))
    reach = count.reach()
    assert reach.edges_px.tolist() == [0, 3.75, 7.5, 11.25, 15]
    assert reach.found.tolist() == [1, 1, 1, 0.5]
    assert list(reach.row().values()) == ["100 %", "100 %", "100 %", "50 %"]


def test_pixels_that_nobody_knows_are_left_out():
    slices, away = rising(1)
    slices.labels[:, 2] = 255
    count = ReachCount(Distances(away, slices.labels))
    count.add(np.zeros((1, 4, 16), np.int64), np.array([0]))
    assert count.all.sum() == 16


def test_a_distance_that_is_everywhere_the_same_is_one_bin():
    slices, away = rising(1)
    count = ReachCount(Distances(np.where(np.isnan(away), np.nan, 30).astype(np.float32), slices.labels))
    count.add(slices.labels.astype(np.int64), np.array([0]))
    assert count.reach().found.tolist() == [1]
    assert count.reach().row() == {"30 to 30 px": "100 %"}


def test_no_bin_is_without_pixels():
    """Between two distances lies a quarter that no pixel is in."""
    away, truth = np.array([[[0, 10, 10, 20]]], np.float32), np.ones((1, 1, 4), np.uint8)
    count = ReachCount(Distances(away, truth))
    count.add(truth.astype(np.int64), np.array([0]))
    assert count.all.tolist() == [1, 2, 1]
    assert count.reach().row() == {"0 to 10 px": "100 %", "10 to 12.5 px": "100 %", "12.5 to 20 px": "100 %"}


def test_distances_of_nothing_are_refused():
    slices, away = rising(1)
    with pytest.raises(ValueError, match="evidence_px must say of a labelled pixel"):
        Distances(np.full_like(away, np.nan), slices.labels)


def test_bins_that_lie_close_have_names_of_their_own():
    assert len(Reach(np.array([1.0, 1.2, 1.4]), np.array([0.5, 1.0])).row()) == 2


class Doubled(nn.Module):
    """Features to features: what it adds is the features themselves."""

    def forward(self, features):
        return 2 * features


class Model(nn.Module):
    """Labels are the grey values 0, 1, 2: in the left half those of the picture, in the right those of the block."""

    def __init__(self):
        super().__init__()
        self.block, self.unused = Doubled(), nn.Parameter(torch.zeros(()))

    def forward(self, images):
        seen = torch.cat([images[..., :8], (self.block(images) - images)[..., 8:]], dim=-1)
        return -(255 * seen - torch.arange(3).view(1, 3, 1, 1)).abs()


def test_an_audit_tells_how_far_away_what_a_block_finds_is_decided():
    slices, away = rising()
    found = audit(Model(), slices, CLASSES, blocks=["block"], evidence_px=away)
    assert found.reach.found.tolist() == [1, 1, 1, 1]
    assert found.blocks[0].changes["removed"].reach.found.tolist() == [1, 1, 0, 0]
    rows = found.reach_rows()
    assert [row["answer"] for row in rows] == ["as it is", *found.blocks[0].changes]
    assert "100 %" in found._repr_html_()
    plain = audit(Model(), slices, CLASSES, blocks=["block"])
    assert plain.reach is None
    assert plain.reach_rows() == []
    assert plain.rows() == found.rows()


def test_evidence_lies_on_the_grid_of_the_model_beside_its_labels():
    settings = DataSettings(data="phantom-key", patients=2, validation_patients=1)
    dataset = open_dataset(settings)
    grid = dataset.grid(settings)
    away = evidence_on_grid(dataset.cases, grid)
    slices = prepare_slices(dataset.cases, grid, 3)
    assert np.array_equal(np.isfinite(away), slices.labels > 0)
    assert np.nanmin(away) > 23
    # On a grid of half as many pixels, padded at its edges, everything is half as far, in pixels.
    coarse = Grid(2 * settings.spacing_mm, 64, grid.window)
    halved = evidence_on_grid(dataset.cases, coarse)
    assert np.isnan(halved[:, :8]).all()
    assert np.nanmean(halved) == pytest.approx(np.nanmean(away) / 2, rel=0.02)
    labelled = prepare_slices(dataset.cases, coarse, 3).labels > 0
    assert (np.isfinite(halved) & labelled).sum() > 0.85 * labelled.sum()


def test_of_other_data_nobody_knows_the_evidence():
    dataset = open_dataset(DataSettings(patients=2, validation_patients=1))
    assert evidence_on_grid(dataset.cases, Grid(2.0, 32)) is None
