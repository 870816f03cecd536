import pytest
import tiny
import torch

from l2gnet.errors import ConfigError
from l2gnet.models import build_model
from l2gnet.models.backbone import SegmentationModel
from l2gnet.models.card import read_card
from l2gnet.prediction.model_card import card_text
from l2gnet.tables import read_rows
from l2gnet.training import resume
from l2gnet.training.accumulation import next_parts, remember_as_long
from l2gnet.training.run import train
from l2gnet.training.settings import TrainSettings
from l2gnet.training.task import SegmentationTask

TINY = tiny.TINY | {"model": "unet", "accumulate": True}


STEPS = 3  # an epoch


@pytest.fixture
def memory(monkeypatch):
    """Lets a device hold so many slices once so many passes of training are over; returns what each tried to hold."""
    trace, predict = SegmentationModel.trace, SegmentationModel.forward

    def of(slices, after=0):
        passes = []

        def hold(images):
            if len(images) > slices and len(passes) > after:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        def full(self, images):
            if self.training:
                passes.append(len(images))
                hold(images)
            return trace(self, images)

        def full_in_validation(self, images):
            hold(images)
            return predict(self, images)

        monkeypatch.setattr(SegmentationModel, "trace", full)
        monkeypatch.setattr(SegmentationModel, "forward", full_in_validation)
        return passes

    return of


@pytest.fixture
def from_the_start(monkeypatch):
    """Lets every training start in so many parts."""

    def of(parts):
        make = SegmentationTask.__init__
        monkeypatch.setattr(SegmentationTask, "__init__", lambda self, *given: make(self, *given[:3], parts))

    return of


def weights(run):
    return run.model.state_dict()


def same(run, other):
    return all(torch.equal(tensor, weights(other)[name]) for name, tensor in weights(run).items())


@pytest.mark.parametrize(("precision", "rounding"), [("32-true", 1e-5), ("bf16-mixed", 0.02)])
def test_gradients_of_parts_add_up_to_those_of_the_batch(precision, rounding, tmp_path, monkeypatch, from_the_start):
    gradients = []

    def keep(self, optimizer):
        gradients.append(torch.cat([one.grad.flatten() for one in self.parameters()]))

    told = []
    monkeypatch.setattr(SegmentationTask, "on_before_optimizer_step", keep)
    monkeypatch.setattr(
        "l2gnet.training.history.Pulse.on_train_batch_end", lambda *given: told.append(given[3]["whole"])
    )
    monkeypatch.setattr(torch.nn, "BatchNorm2d", torch.nn.InstanceNorm2d)  # so that nothing is taken of a batch
    settings = TrainSettings(**TINY | {"epochs": 1, "precision": precision})
    whole = train(settings, tmp_path / "whole")
    from_the_start(3)  # of three, three and two slices
    parts = train(settings, tmp_path / "parts")
    assert len(gradients) == 2 * STEPS
    for expected, got in zip(gradients[:STEPS], gradients[STEPS:], strict=True):
        assert (got - expected).norm() < rounding * expected.norm()
    assert torch.allclose(torch.stack(told[:STEPS]), torch.stack(told[STEPS:]), rtol=rounding)
    losses = [float(read_rows(run.run_dir / "history.csv")[0]["loss"]) for run in (whole, parts)]
    assert losses[1] == pytest.approx(losses[0], rel=rounding)


@pytest.mark.parametrize("model", ["unet", "l2gnet"])
def test_a_training_that_finds_too_little_memory_goes_on_in_parts(model, tmp_path, memory, from_the_start, capsys):
    settings = TrainSettings(**TINY | {"model": model})
    passes = memory(2)
    found = train(settings, tmp_path / "found")
    assert passes[:2] == [8, 4]
    assert set(passes[2:]) == {2}
    assert capsys.readouterr().out.count("too little memory") == 2
    from_the_start(4)
    assert same(found, train(settings, tmp_path / "known"))
    assert "too little memory" not in capsys.readouterr().out
    card = read_card(found.run_dir / "model.safetensors")
    assert "batches in 4 parts; code" in card_text(card, 0)
    assert [row["epoch"] for row in read_rows(found.run_dir / "history.csv")] == ["1", "2"]


def test_memory_that_runs_out_later_costs_no_finished_epoch_and_leaves_no_trace(tmp_path, memory):
    settings = TrainSettings(**TINY | {"model": "l2gnet"})
    runs = []
    for late in (0, 1):
        passes = memory(4, after=STEPS + late)
        runs.append(train(settings, tmp_path / str(late)))
        assert passes == (STEPS + late + 1) * [8] + STEPS * [4, 4]
    assert same(*runs)


def test_a_stopped_training_goes_on_in_as_many_parts(tmp_path, memory, monkeypatch):
    monkeypatch.setattr(resume, "SAVE_EVERY_S", 0.0)  # after every step
    settings = TrainSettings(**TINY | {"resume": True})
    passes = memory(4)
    whole = train(settings, tmp_path / "whole")
    step = SegmentationTask.training_step

    def until_the_power_fails(self, batch, batch_index):
        if self.current_epoch == 1 and batch_index == 1:
            raise ValueError("the power failed")
        return step(self, batch, batch_index)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationTask, "training_step", until_the_power_fails)
        with pytest.raises(ValueError, match="the power failed"):
            train(settings, tmp_path / "stopped")
    passes.clear()
    assert same(whole, train(settings, tmp_path / "stopped"))
    assert set(passes) == {4}


def test_parts_are_refused_where_they_are_not_wanted_or_would_be_single_slices(tmp_path, memory):
    passes = memory(1)
    with pytest.raises(ConfigError, match=r"batch_size 8 in 4 parts, .*; lower size_px or width, then try precision"):
        train(TrainSettings(**TINY), tmp_path / "on")
    assert passes == [8, 4, 2]
    with pytest.raises(ConfigError, match=r"batch_size 8, .*; halve batch_size first, or set accumulate"):
        train(TrainSettings(**TINY | {"accumulate": False}), tmp_path / "off")
    assert passes == [8, 4, 2, 8]
    shared = TrainSettings(**TINY | {"accumulate": False, "devices": 2})
    with pytest.raises(ConfigError, match="halve batch_size first, then try"):  # processes cannot take parts
        next_parts(shared, 8, 1, MemoryError("full"))


def test_averages_move_with_parts_as_fast_as_with_batches():
    def learnt(parts):
        torch.manual_seed(0)
        model = build_model("vq_unet", classes=2, width=4, depth=3, codes=16, code_dim=8).train()
        model.trace(images)  # which starts the codebook
        if parts > 1:
            remember_as_long(model, parts)
        for _ in range(parts):
            model.trace(images)
        return model

    images = torch.rand(2, 1, 32, 32)
    whole, halves = learnt(1), learnt(2)
    for name, expected in whole.named_buffers():
        if "running" in name or name.endswith("uses"):
            torch.testing.assert_close(halves.get_buffer(name), expected)
    assert halves.codebook.revive_below == whole.codebook.revive_below / 2
