from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from l2gnet.data.dataset import Case
from l2gnet.data.grid import Grid
from l2gnet.data.volume import Volume
from l2gnet.evaluation.generalisation import domain_matrix, shift_table
from l2gnet.models import build_model
from l2gnet.models.backbone import Trace
from l2gnet.models.blocks.latent import Latent


def test_a_matrix_has_training_down_and_test_across():
    rows = [("", "ED", 0.9), ("", "ES", 0.8), ("phase=ED", "ED", 0.7), ("phase=ED", "ED", 0.9), ("phase=ED", "ES", 0.5)]
    frame = pd.DataFrame(rows, columns=["train_on", "phase", "dice"])
    matrix = domain_matrix(frame, "dice", "phase")
    assert matrix.loc["all"].to_dict() == {"ED": 0.9, "ES": 0.8}
    assert matrix.loc["phase=ED"].to_dict() == pytest.approx({"ED": 0.8, "ES": 0.5})
    assert list(matrix.index) == ["all", "phase=ED"]


def test_what_was_missed_is_left_out_of_mean_distances():
    frame = pd.DataFrame({"train_on": "", "group": ["NOR", "NOR", "RV"], "hd95_mm": [3.0, np.inf, 5.0]})
    assert domain_matrix(frame, "hd95_mm", "group").loc["all"].to_dict() == {"NOR": 3.0, "RV": 5.0}


def test_where_all_was_missed_the_mean_distance_is_not_known():
    frame = pd.DataFrame({"train_on": ["", "phase=ED"], "phase": "ES", "hd95_mm": [3.0, np.inf]})
    matrix = domain_matrix(frame, "hd95_mm", "phase")
    assert (matrix.loc["all", "ES"], np.isnan(matrix.loc["phase=ED", "ES"])) == (3.0, True)


def thresholding():
    """A case with a square, a model that finds whatever is bright, and the rest of what `shift_table` takes."""
    labels = np.zeros((2, 48, 48), dtype=np.uint8)
    labels[:, 12:36, 12:36] = 1

    def load():
        label = Volume(labels, np.diag([8.0, 1.0, 1.0, 1.0]))
        return label.like(
            100 * (0.5 + 0.2 * labels + 0.3 * (np.indices(labels.shape)[1] == 2)).astype(np.float32)
        ), label

    def trace(images):
        bright = (images > 0.3).float()
        return Trace(50 * torch.cat([1 - bright, bright], dim=1), Latent(images))

    model = build_model("unet", classes=2, width=4, depth=2)
    model.trace = trace
    return model, [Case("p1", "p1", "", "", load)], Grid(1.0, 48), ("background", "square")


def test_a_model_that_thresholds_stands_blur_and_falls_to_gamma():
    table = shift_table(*thresholding(), shifts=["blur", "gamma"], levels=[1, 3])
    assert table.columns.tolist() == [0, 1, 3]
    assert table.loc["blur", 0] == table.loc["gamma", 0] > 0.8
    assert table.loc["blur", 1] > 0.8
    assert table.loc["gamma", 3] < 0.1


def test_what_was_missed_is_not_left_out_of_the_distances_of_a_shift():
    model, (case,), *others = thresholding()
    image, labels = case.load()
    dark = replace(case, name="p2", load=lambda: (image.like(0 * image.array), labels))
    for cases, distance in (([case], 10.0), ([case, dark], np.inf)):
        assert shift_table(model, cases, *others, "hd95_mm", shifts=["blur"], levels=[]).loc["blur", 0] == distance
