import pytest
import tiny
import torch
from ranks import on_ranks
from torch import distributed, nn

from l2gnet.data.regions import Regions
from l2gnet.data.volume import IGNORED
from l2gnet.errors import ConfigError
from l2gnet.files import sole_writer
from l2gnet.method.codebook import Codebook
from l2gnet.tables import read_rows
from l2gnet.training import resume
from l2gnet.training.loss import RegionLoss, SegmentationLoss
from l2gnet.training.processes import started
from l2gnet.training.run import train
from l2gnet.training.settings import TrainSettings
from l2gnet.training.task import SegmentationTask
from l2gnet.whole_batch import gathered, normalise_whole_batches, part

TINY = tiny.TINY | {"size_px": 48, "spacing_mm": 4.0, "codes": 64, "epochs": 6, "batch_size": 4}


def in_group(work):
    """As `work`, in processes that can talk to each other."""

    def working(rank):
        distributed.init_process_group("gloo")
        return work()

    return on_ranks(working)


def trained(folder, **settings):
    """History and weights of a run in one process, and of the same run in two as the first and the second have it."""

    def weights(name, **more):
        run = train(TrainSettings(**TINY | settings | more), folder / name)
        return {name: tensor.numpy() for name, tensor in run.model.state_dict().items()}

    one, two = weights("one"), on_ranks(lambda rank: weights("two", devices=2))
    return [read_rows(folder / name / "history.csv") for name in ("one", "two")], (one, *two)


def column(history, name):
    return [float(row[name]) for row in history]


def test_parts_are_gathered_in_order_and_an_uneven_batch_is_filled_up():
    for whole, halves in ((torch.arange(6), ([0, 1, 2], [3, 4, 5])), (torch.arange(3), ([0, 1], [2, 0]))):
        results = in_group(lambda whole=whole: (part(whole).tolist(), gathered(part(whole)).tolist()))
        assert [own for own, _ in results] == list(halves)
        assert [together for _, together in results] == 2 * [halves[0] + halves[1]]
    assert in_group(lambda: gathered(torch.tensor(float(distributed.get_rank()))).tolist()) == 2 * [[0.0, 1.0]]


@pytest.mark.parametrize("of_regions", [False, True])
def test_where_pixels_are_not_known_two_processes_lose_what_one_loses(of_regions):
    """Each slice has another share of them: one none, one nearly all."""
    torch.manual_seed(0)
    labels, logits = torch.randint(3, (4, 1, 6, 6)), torch.randn(4, 2 if of_regions else 3, 6, 6)
    for number, rows in enumerate((0, 0, 2, 5)):
        labels[number, :, :rows] = IGNORED
    regions = Regions(((1, 2), (2,)), (1, 2))
    loss = (
        RegionLoss(regions, batch=False, squared=False) if of_regions else SegmentationLoss(batch=False, squared=False)
    )

    def lost():
        own = part(logits).clone().requires_grad_()
        value = loss(own, part(labels))
        value.backward()
        gradient = gathered(own.grad) / distributed.get_world_size()
        return gathered(value.detach()).mean().item(), gradient.numpy()

    whole = logits.clone().requires_grad_()
    expected = loss(whole, labels)
    expected.backward()
    for value, gradient in in_group(lost):
        assert value == pytest.approx(expected.item(), rel=1e-6)
        torch.testing.assert_close(torch.from_numpy(gradient), whole.grad)


def test_batch_norm_in_parts_is_that_of_the_whole_batch():
    torch.manual_seed(0)
    images, weights = torch.randn(2, 4, 3, 5, 5, dtype=torch.float64)

    def normalised(images, weights, norm):
        images = images.clone().requires_grad_()
        result = norm(images)
        (result * weights).sum().backward()
        tensors = (result, images.grad, norm.running_mean, norm.running_var, norm.weight.grad, norm.bias.grad)
        return [tensor.detach().numpy() for tensor in tensors]

    def in_parts():
        model = nn.Sequential(nn.BatchNorm2d(3)).double()
        normalise_whole_batches(model, images.device)
        return normalised(part(images), part(weights), model[0])

    whole = map(torch.from_numpy, normalised(images, weights, nn.BatchNorm2d(3).double()))
    first, second = ([torch.from_numpy(array) for array in result] for result in in_group(in_parts))
    joined = [torch.cat(both) for both in zip(first[:2], second[:2], strict=True)]
    joined += first[2:4]
    joined += [a + b for a, b in zip(first[4:], second[4:], strict=True)]
    for expected, got in zip(whole, joined, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    for a, b in zip(first[2:4], second[2:4], strict=True):
        assert torch.equal(a, b)


def test_a_codebook_learns_from_all_processes_what_it_learns_from_the_whole_batch():
    def learnt(shared):
        torch.manual_seed(0)
        codebook, revived = Codebook(24, 4, decay=0.5).train(), []
        if shared:
            codebook.learn_from_whole_batches()
        for step in range(20):  # k-means starts it; when the tokens move away, codes die and are revived
            generator = torch.Generator().manual_seed(step)
            tokens = torch.randn(4, 16, 4, generator=generator) + 10 * (step > 5)
            revived.append(int(codebook(part(tokens) if shared else tokens).revived))
        return revived, [tensor.numpy() for tensor in codebook.state_dict().values()]

    (revived, whole), (first, second) = learnt(False), in_group(lambda: learnt(True))
    assert sum(revived) > 20
    assert first[0] == second[0] == revived
    for expected, a, b in zip(whole, first[1], second[1], strict=True):
        assert a.tobytes() == b.tobytes()
        torch.testing.assert_close(torch.from_numpy(a), torch.from_numpy(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        {"model": "l2gnet", "receivers": "codes"},
        {"model": "l2gnet", "epochs": 4},
        {"model": "unet", "recipe": "transunet", "epochs": 2},
    ],
    ids=["codes receive", "tokens receive", "unet"],
)
def test_two_processes_train_as_one(tmp_path, changed):
    (one, two), (_, first, second) = trained(tmp_path, **changed)
    # What rounding does to an early step decides some tokens' codes much later.
    assert column(two, "loss")[0] == pytest.approx(column(one, "loss")[0], rel=1e-5)
    assert column(two, "loss") == pytest.approx(column(one, "loss"), rel=5e-3)
    assert column(two, "val_dice") == pytest.approx(column(one, "val_dice"), abs=0.02)
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)
    if changed["model"] == "l2gnet":
        assert sum(column(two, "codes_revived")) > 0
        assert sum(column(one, "codes_revived")) > 0
        assert column(two, "codes_per_image")[0] == pytest.approx(column(one, "codes_per_image")[0], rel=0.02)
        assert max(column(two, "transport_error")) <= 1e-4


@pytest.mark.slow
def test_a_run_that_lost_a_process_ends_and_goes_on_with_another_number(tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "SAVE_EVERY_S", 0.0)  # after every step
    settings = TINY | {"epochs": 3, "resume": True}
    whole = train(TrainSettings(**settings), tmp_path / "whole")
    step = SegmentationTask.training_step

    def stopping(self, batch, batch_index):
        if self.current_epoch == 1 and batch_index == 3 and distributed.get_rank() == 1:
            raise ValueError("the power failed")
        return step(self, batch, batch_index)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationTask, "training_step", stopping)
        with pytest.raises(RuntimeError, match="the power failed"):
            on_ranks(lambda rank: train(TrainSettings(**settings, devices=2), tmp_path / "run"))
    assert len(read_rows(tmp_path / "run" / "history.csv")) == 1
    assert not (tmp_path / "run" / "model.safetensors").exists()
    train(TrainSettings(**settings), tmp_path / "run")
    histories = [read_rows(folder / "history.csv") for folder in (whole.run_dir, tmp_path / "run")]
    losses, resumed = (column(history, "loss") for history in histories)
    assert resumed == pytest.approx(losses, rel=2e-3)


@pytest.mark.slow
def test_a_training_starts_its_processes_and_raises_what_ends_them(tmp_path):
    settings = TrainSettings(**TINY | {"epochs": 1, "devices": 2})
    with (
        sole_writer(tmp_path / ".training-lock"),
        pytest.raises(ConfigError, match="must have one writer, but a job is running there"),
    ):
        train(settings, tmp_path)
    run = train(settings, tmp_path)
    assert not run.model.training
    assert len(read_rows(tmp_path / "history.csv")) == 1
    assert {file.name for file in tmp_path.glob("*.safetensors")} == {"model.safetensors", "best.safetensors"}


def test_processes_that_srun_or_torchrun_started_are_as_many_as_the_settings_say(monkeypatch):
    alone, two = TrainSettings(), TrainSettings(devices=2)
    for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    assert started(alone)
    assert not started(two)
    with pytest.raises(ConfigError, match="must start devices x nodes = 4 processes, got 1"):
        started(TrainSettings(devices=2, nodes=2))
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    assert started(alone)  # one of several runs in a job
    assert started(two)
    with pytest.raises(ConfigError, match="must start devices x nodes = 4 processes, got 2"):
        started(TrainSettings(devices=4))
