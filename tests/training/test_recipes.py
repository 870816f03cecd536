from pathlib import Path

import pytest
import torch
from torch import nn

from l2gnet.jobs.parameters import read_profile
from l2gnet.training.recipes import about_mirrors, build_augmentation, build_loss, build_optimiser
from l2gnet.training.settings import TrainSettings

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "01_train.ipynb"


def transunet(**changes):
    return TrainSettings(**{"recipe": "transunet", "learning_rate": 0.01, "weight_decay": 1e-4} | changes)


def test_transunets_loss_is_the_one_of_its_code():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 5, 6, 7), torch.randint(0, 4, (3, 6, 7))  # class 4 is absent
    probability = logits.softmax(1)
    dice = 0.0
    for label in range(5):  # `DiceLoss` of utils.py, from its definition
        score, target = probability[:, label], (labels == label).float()
        overlap, smooth = (score * target).sum(), 1e-5
        dice += 1 - (2 * overlap + smooth) / ((score * score).sum() + (target * target).sum() + smooth)
    expected = 0.5 * nn.functional.cross_entropy(logits, labels) + 0.5 * dice / 5
    torch.testing.assert_close(build_loss(transunet())(logits, labels[:, None]), expected)
    assert not torch.isclose(build_loss(TrainSettings())(logits, labels[:, None]), expected)


def rates(settings, steps):
    """The optimiser, and the learning rate of every step."""
    built = build_optimiser(settings, nn.Linear(2, 2).parameters(), steps)
    optimizer, schedule = built["optimizer"], built["lr_scheduler"]["scheduler"]
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return optimizer, found


def test_transunets_rate_falls_by_a_power_of_what_is_left():
    optimizer, found = rates(transunet(), 10)
    assert isinstance(optimizer, torch.optim.SGD)
    assert {name: optimizer.defaults[name] for name in ("momentum", "weight_decay", "nesterov")} == {
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "nesterov": False,
    }
    assert found == pytest.approx([0.01 * (1 - step / 10) ** 0.9 for step in range(10)])


def test_a_cycle_rises_to_the_rate_and_falls_to_nothing():
    optimizer, found = rates(TrainSettings(), 50)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert max(found) == pytest.approx(0.005, rel=0.01)
    assert found[-1] < 1e-5


def test_the_profile_is_the_papers(tmp_path):
    profile = read_profile(NOTEBOOK, "synapse-transunet")
    settings = TrainSettings.from_mapping(profile | {"data_dir": str(tmp_path)})
    assert (settings.size_px, settings.spacing_mm, settings.batch_size, settings.epochs) == (224, 0.0, 24, 150)
    assert (settings.recipe, settings.learning_rate, settings.weight_decay) == ("transunet", 0.01, 1e-4)
    assert (settings.convention, settings.patience) == ("transunet", 0)


KIDNEYS = ("background", "left kidney", "right kidney")


def mirrored(augmentation):
    """Whether three spots, in any of many slices, come round the other way."""
    torch.manual_seed(0)
    images, labels = torch.zeros(200, 1, 48, 48), torch.zeros(200, 48, 48).long()
    for label, (y, x) in enumerate(((16, 16), (16, 28), (30, 16)), start=1):
        labels[:, y : y + 6, x : x + 6] = label
    _, labels = augmentation(images, labels)
    spots = [torch.stack([(one == label).nonzero().float().mean(0) for label in (1, 2, 3)]) for one in labels]
    return any(torch.linalg.det(spot[1:] - spot[:1]) > 0 for spot in spots)


def test_nothing_is_mirrored_where_a_class_has_a_side_but_in_the_recipe_of_the_paper():
    plain = ("background", "a", "b")
    flips, theirs = TrainSettings(flips=True), TrainSettings(recipe="transunet")
    assert mirrored(build_augmentation(flips, plain))
    assert not mirrored(build_augmentation(flips, KIDNEYS))
    assert mirrored(build_augmentation(theirs, KIDNEYS))
    assert about_mirrors(flips, plain) == about_mirrors(theirs, plain) == about_mirrors(TrainSettings(), KIDNEYS) == ""
    names = "left kidney and right kidney have a side"
    said = f"flips mirrors no slice here, since {names}, and in a mirror would be another"
    assert about_mirrors(flips, KIDNEYS) == said
    assert about_mirrors(theirs, KIDNEYS).endswith(f"mirrors slices, as its paper does, though {names}")
