import numpy as np
import torch

from l2gnet.data.dataset import open_dataset
from l2gnet.data.slices import prepare_slices
from l2gnet.prediction.inference import network_input
from l2gnet.training.look import look
from l2gnet.training.settings import TrainSettings

SETTINGS = TrainSettings(patients=5, validation_patients=1, size_px=48, spacing_mm=4.0)


def test_one_sees_what_the_model_gets():
    dataset = open_dataset(SETTINGS)
    plain, _ = look(SETTINGS, dataset, count=2)
    first, last = (
        prepare_slices([case], dataset.grid(SETTINGS), 4) for case in (dataset.training[0], dataset.training[-1])
    )
    for number, whole in enumerate((first, last)):
        best = int((whole.labels > 0).sum((1, 2)).argmax())
        assert np.array_equal(plain.images[number], network_input(whole.images[best : best + 1])[0])
        assert np.array_equal(plain.labels[number], whole.labels[best])
        assert plain.titles[number] == f"case {number + 1}, slice {best + 1} of {len(whole)}"


def test_it_is_augmented_by_the_seed_alone_and_nothing_else_is_drawn():
    dataset = open_dataset(SETTINGS)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    plain, moved = look(SETTINGS, dataset)
    assert torch.rand(1) == expected
    again = look(SETTINGS, dataset)[1]
    assert np.array_equal(moved.images, again.images)
    assert np.array_equal(moved.labels, again.labels)
    assert not np.array_equal(moved.labels, plain.labels)
    assert len(plain.titles) == 4  # no case twice where there are few
