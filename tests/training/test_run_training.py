import dataclasses
import json
import math
import os
import re
import warnings
from unittest.mock import Mock

import numpy as np
import pytest
import tiny
import torch
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from l2gnet.data.dataset import open_dataset
from l2gnet.data.grid import Grid
from l2gnet.data.slices import load_slices
from l2gnet.errors import CheckpointError, ConfigError
from l2gnet.files import sole_writer, write_json
from l2gnet.inspection.forming import FORMING_FILE
from l2gnet.method.transport import ConvergenceWarning
from l2gnet.models import MODELS
from l2gnet.models.card import read_card
from l2gnet.models.checkpoint import load_checkpoint, save_checkpoint
from l2gnet.prediction.inference import network_input
from l2gnet.prediction.views import trained_views
from l2gnet.tables import read_rows
from l2gnet.training.batches import SliceData
from l2gnet.training.fit import _environment
from l2gnet.training.history import Forming
from l2gnet.training.resume import lightning_weights, require_resumable
from l2gnet.training.run import train
from l2gnet.training.run_folder import open_run
from l2gnet.training.settings import TrainSettings
from l2gnet.training.task import SegmentationTask
from l2gnet.version import code_version

TINY = tiny.TINY | {"patients": 5, "validation_patients": 2, "size_px": 48, "spacing_mm": 4.0}


class PowerCutError(Exception):
    pass


@pytest.fixture(scope="module", params=MODELS)
def trained(request, tmp_path_factory):
    settings = TrainSettings(model=request.param, **TINY)
    return settings, train(settings, tmp_path_factory.mktemp("runs") / "run")


def weights(path):
    model, _ = load_checkpoint(path)
    return model.state_dict()


def test_a_run_leaves_everything_in_its_folder(trained):
    settings, run = trained
    names = {file.name for file in run.run_dir.iterdir()}
    assert {
        "config.json",
        "history.csv",
        "progress.json",
        "model.safetensors",
        "best.safetensors",
        "last.ckpt",
        "tensorboard",
    } <= names
    card = read_card(run.run_dir / "model.safetensors")
    assert card.model == settings.model
    assert card.classes == run.dataset.classes
    assert card.grid == run.grid == Grid(4.0, 48)
    assert "data_dir" not in card.training["settings"]  # paths of this machine stay on it
    assert card.training["code"] == code_version()
    assert re.fullmatch("[0-9a-f]{16}", card.training["data_fingerprint"])


def test_the_model_returned_is_the_model_saved(trained):
    _, run = trained
    saved = weights(run.run_dir / "model.safetensors")
    assert not run.model.training
    assert all(torch.equal(tensor, saved[name]) for name, tensor in run.model.state_dict().items())


def test_a_run_is_opened_again_from_its_checkpoint(trained, tmp_path):
    settings, run = trained
    again = open_run(run.run_dir)
    assert [case.name for case in again.dataset.validation] == [case.name for case in run.dataset.validation]
    assert (again.grid, again.run_dir) == (run.grid, run.run_dir)
    images = torch.rand(1, 1, settings.size_px, settings.size_px)
    assert torch.equal(again.model(images), run.model(images))
    bare = dataclasses.replace(read_card(run.run_dir / "model.safetensors"), training={})
    save_checkpoint(tmp_path / "bare.safetensors", run.model, bare)
    with pytest.raises(CheckpointError, match="must hold the settings of the run, found none"):
        open_run(tmp_path / "bare.safetensors")


def test_history_has_a_row_an_epoch_and_watches_the_codebook(trained):
    settings, run = trained
    rows = read_rows(run.run_dir / "history.csv")
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])
    assert 0 <= float(rows[1]["val_dice"]) <= 1
    structures = [name.removeprefix("val_dice_") for name in rows[0] if name.startswith("val_dice_")]
    assert structures == ["right_ventricle", "myocardium", "left_ventricle"]  # as labels, which decide their colours
    watched = {"codes_used", "codes_perplexity", "codes_per_image", "codes_revived"}
    expected = watched if settings.model in ("vq_unet", "synergynet", "l2gnet") else set()
    expected = expected | {"transport_error"} if settings.model == "l2gnet" else expected
    assert (watched | {"transport_error"}) & rows[1].keys() == expected
    if expected:
        assert 1 <= float(rows[1]["codes_perplexity"]) <= float(rows[1]["codes_used"]) <= 16
    if settings.model == "l2gnet":
        assert float(rows[1]["transport_error"]) <= 1e-4


def test_the_error_of_the_plan_that_receives_is_told_too(tmp_path):
    """At so small an epsilon it does not converge, where the plan that sends does."""
    settings = TrainSettings(**TINY | {"model": "l2gnet", "epochs": 1, "epsilon_receive": 1e-4})
    with pytest.warns(ConvergenceWarning):
        run = train(settings, tmp_path / "run")
    (row,) = read_rows(run.run_dir / "history.csv")
    assert float(row["transport_error"]) > 1e-3


def test_a_run_folder_in_use_is_refused(trained):
    settings, run = trained
    with pytest.raises(
        ConfigError, match=r"run_dir must be free, but .*run holds a run; choose another, or set resume"
    ):
        train(settings, run.run_dir)


def test_a_resumed_run_must_keep_its_settings(trained):
    settings, run = trained
    changed = TrainSettings(model=settings.model, **TINY | {"learning_rate": 0.1, "resume": True})
    with pytest.raises(ConfigError, match=r"must keep its settings, got learning_rate 0\.005 -> 0\.1"):
        train(changed, run.run_dir)


def test_a_resumed_run_keeps_the_weights_that_it_started_from(trained):
    settings, run = trained
    config = json.loads((run.run_dir / "config.json").read_text())
    (run.run_dir / "config.json").write_text(json.dumps(config | {"pretrained": "vit.npz"}))
    with pytest.raises(ConfigError, match=r"must keep its settings, got pretrained 'vit\.npz' -> ''"):
        train(TrainSettings(model=settings.model, **TINY | {"resume": True}), run.run_dir)
    (run.run_dir / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("name", "then", "now"), [("variant", "matched", "published"), ("receivers", "codes", "tokens")]
)
def test_a_setting_younger_than_a_run_had_the_default_of_then(trained, name, then, now):
    settings, run = trained
    config = json.loads((run.run_dir / "config.json").read_text())
    (run.run_dir / "config.json").write_text(json.dumps({key: config[key] for key in config if key != name}))
    changed = TrainSettings(model=settings.model, **TINY | {"resume": True, name: now})
    with pytest.raises(ConfigError, match=rf"must keep its settings, got {name} '{then}' -> '{now}'"):
        train(changed, run.run_dir)


def test_published_transunet_starts_from_the_weights_of_a_file(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, mystery=np.zeros(3))
    settings = TrainSettings(model="transunet", variant="published", pretrained=str(path), **TINY)
    with pytest.raises(CheckpointError, match="left over: mystery"):
        train(settings, tmp_path / "run")


def test_a_hostile_checkpoint_is_not_resumed_from(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    settings = TrainSettings(**TINY | {"resume": True})
    write_json(tmp_path / "run" / "config.json", dataclasses.asdict(settings))
    torch.save({"state_dict": {}, "callbacks": Hostile()}, tmp_path / "run" / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"last\.ckpt: .* a pickle that holds more than numbers"):
        train(settings, tmp_path / "run")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("model", MODELS)
def test_a_stopped_run_goes_on_as_if_it_had_not_been_stopped(model, tmp_path, monkeypatch):
    whole = train(TrainSettings(model=model, **TINY | {"epochs": 3}), tmp_path / "whole")
    step, steps = SegmentationTask.training_step, 0

    def until_the_power_fails(self, batch, batch_index):
        nonlocal steps
        steps += 1
        if self.current_epoch == 2:
            raise PowerCutError
        return step(self, batch, batch_index)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationTask, "training_step", until_the_power_fails)
        with pytest.raises(PowerCutError):
            train(TrainSettings(model=model, **TINY | {"epochs": 3}), tmp_path / "stopped")
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    torch.manual_seed(77)  # whatever was drawn in between must not matter
    resumed = train(TrainSettings(model=model, **TINY | {"epochs": 3, "resume": True}), tmp_path / "stopped")
    again = resumed.model.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in whole.model.state_dict().items())
    rows = [read_rows(run.run_dir / "history.csv") for run in (whole, resumed)]
    assert [row["epoch"] for row in rows[1]] == ["1", "2", "3"]
    assert [row["loss"] for row in rows[1]] == [row["loss"] for row in rows[0]]
    kept = [kept_codebooks(run.run_dir) for run in (whole, resumed)]
    assert kept[0] == kept[1]
    assert (kept[0] is None) == (whole.model.codebook is None)


def kept_codebooks(run_dir):
    """What a run has kept of its codebook at some epochs, bit for bit; None where there is none."""
    if not (run_dir / FORMING_FILE).exists():
        return None
    with np.load(run_dir / FORMING_FILE) as kept:
        return {name: (kept[name].shape, kept[name].dtype, kept[name].tobytes()) for name in kept.files}


def test_a_few_epochs_of_the_codebook_are_kept(trained):
    _, run = trained
    if run.model.codebook is None:
        assert not (run.run_dir / FORMING_FILE).exists()
        return
    with np.load(run.run_dir / FORMING_FILE) as kept:
        assert kept["epochs"].tolist() == [1, 2]
        np.testing.assert_array_equal(kept["vectors"][1], run.model.codebook.vectors.half().numpy())
        assert (kept["vectors"][0] != kept["vectors"][1]).any()
        used = [(uses > 0).sum() for uses in kept["uses"]]
    rows = read_rows(run.run_dir / "history.csv")
    assert used == [float(row["codes_used"]) for row in rows]


@pytest.mark.parametrize(("codes", "epochs", "wanted"), [(64, 40, 10), (1024, 40, 2), (64, 3, 3)])
def test_what_is_kept_of_a_codebook_stays_small(tmp_path, codes, epochs, wanted):
    task = SegmentationTask(TrainSettings(**TINY | {"codes": codes, "code_dim": 256}), ("a", "b"), 1)
    keeper = Forming(tmp_path / FORMING_FILE)
    for epoch in range(epochs):
        keeper.on_train_epoch_end(Mock(spec=Trainer, current_epoch=epoch, max_epochs=epochs), task)
        with np.load(tmp_path / FORMING_FILE) as kept:
            assert kept["epochs"][-1] == epoch + 1  # the newest is always there
    with np.load(tmp_path / FORMING_FILE) as kept:
        assert len(kept["epochs"]) == wanted
        assert (kept["epochs"][0], kept["epochs"][-1]) == (1, epochs)
    assert (tmp_path / FORMING_FILE).stat().st_size < 1.1e6


def test_training_stops_early_when_nothing_gets_better(tmp_path):
    settings = TrainSettings(**TINY | {"epochs": 20, "patience": 1, "learning_rate": 1e-12})
    run = train(settings, tmp_path / "run")
    assert len(read_rows(run.run_dir / "history.csv")) < 20
    assert read_card(run.run_dir / "model.safetensors").training["epochs"] < 20


@pytest.mark.parametrize("model", MODELS)
def test_one_fixed_batch_is_learnt_by_heart(model):
    torch.manual_seed(0)
    settings = TrainSettings(model=model, patients=2, validation_patients=1)
    task = SegmentationTask(settings, ("background", "right ventricle", "myocardium", "left ventricle"), 1).train()
    dataset = open_dataset(settings)
    slices = load_slices(settings, dataset, Grid(2.5, 64))
    images, labels = network_input(slices.images[3:7]), torch.from_numpy(slices.labels[3:7]).long()
    optimiser = torch.optim.AdamW(task.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.01, total_steps=200)
    for _ in range(200):
        optimiser.zero_grad()
        task.loss(task.model.trace(images), labels).backward()
        optimiser.step()
        schedule.step()
    predicted = task.model.eval()(images).argmax(1)
    for label in (1, 2, 3):
        both = ((predicted == label) & (labels == label)).sum()
        assert 2 * both / ((predicted == label).sum() + (labels == label).sum()) > 0.98


def test_loss_is_half_cross_entropy_and_half_dice():
    torch.manual_seed(0)
    task = SegmentationTask(TrainSettings(model="unet", **TINY), ("a", "b", "c"), 1).eval()
    logits, labels = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    trace = task.model.trace(torch.randn(2, 1, 16, 16))
    loss = task.loss(type(trace)(logits, trace.latent), labels)
    truth = torch.nn.functional.one_hot(labels, 3).movedim(3, 1).float()
    probability = logits.softmax(1)
    overlap = 2 * (probability * truth).sum((2, 3)) / (probability + truth).sum((2, 3))
    expected = 0.5 * torch.nn.functional.cross_entropy(logits, labels) + 0.5 * (1 - overlap).mean()
    torch.testing.assert_close(loss, expected, atol=1e-4, rtol=1e-4)


def test_deep_supervision_adds_the_coarser_levels_by_halves():
    task = SegmentationTask(TrainSettings(model="unet", **TINY | {"deep_supervision": True}), ("a", "b"), 1).train()
    trace = task.model.trace(torch.randn(2, 1, 16, 16))
    labels = torch.zeros(2, 16, 16, dtype=torch.long)
    plain = [task.loss(type(trace)(logits, trace.latent), labels) for logits in (trace.logits,)]
    sides = [task.segmentation_loss(side, torch.zeros(2, 1, *side.shape[2:])) for side in reversed(trace.side_logits)]
    assert len(sides) == 2
    torch.testing.assert_close(task.loss(trace, labels), plain[0] + sides[0] / 2 + sides[1] / 4)


def test_batches_are_shuffled_by_seed_and_epoch_and_lose_nothing():
    settings = TrainSettings(**TINY)
    dataset = open_dataset(settings)
    data = SliceData(settings, dataset, load_slices(settings, dataset, Grid(4.0, 48)))
    loader: DataLoader = data.train_dataloader()

    def order(epoch):
        loader.sampler.set_epoch(epoch)
        return [row for batch in loader.sampler for row in batch]

    assert order(0) == order(0) != order(1)
    data.load_state_dict({"epoch": 0, "done": 1})
    entered = order(0)
    assert entered == order(0)[settings.batch_size :]
    rows = len(data.training)
    assert len(set(order(0))) == len(order(0)) == rows - rows % settings.batch_size
    assert sum(len(batch[0]) for batch in data.val_dataloader()) == len(data.validation)


def test_a_batch_that_processes_cannot_share_evenly_is_refused():
    settings = TrainSettings(**TINY | {"batch_size": 600, "devices": 4, "nodes": 2})
    dataset = open_dataset(settings)
    with pytest.raises(ConfigError, match="batch_size must be at most the 30 training slices where processes share"):
        SliceData(settings, dataset, load_slices(settings, dataset, Grid(4.0, 48)))


def test_a_training_of_one_process_takes_no_tasks_of_a_slurm_job_for_its_own(tmp_path, monkeypatch):
    for name, value in {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "sweep"}.items():
        monkeypatch.setenv(name, value)
    assert train(TrainSettings(model="unet", **TINY | {"epochs": 1}), tmp_path / "run").run_dir.exists()


def test_a_new_run_in_a_slurm_job_does_not_start_from_what_another_left_in_this_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hpc_ckpt_1.ckpt").write_text("of another run, as Lightning names it")
    run = train(TrainSettings(model="unet", **TINY | {"epochs": 1}), "run")
    assert len(read_rows(run.run_dir / "history.csv")) == 1


def test_processes_of_srun_do_not_put_their_job_into_the_queue_again(monkeypatch):
    for name in ("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE"):
        monkeypatch.setenv(name, "2")
    (environment,) = _environment(TrainSettings(devices=2))
    assert isinstance(environment, SLURMEnvironment)
    assert not environment.auto_requeue
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "torchrun within the job")
    assert _environment(TrainSettings(devices=2)) == []


def test_an_accelerator_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigError, match="accelerator must be one that this machine has"):
        train(TrainSettings(**TINY | {"accelerator": "gpu"}), "unused")


def test_too_little_memory_names_the_setting_to_lower(tmp_path, monkeypatch):
    def full(self, batch, batch_index):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(SegmentationTask, "training_step", full)  # a device that is full is not at hand
    with pytest.raises(
        ConfigError, match=r"too little memory for batch_size 8, .*; halve batch_size first, or set accumulate, then"
    ):
        train(TrainSettings(**TINY), tmp_path / "run")


def test_a_loss_that_is_no_number_ends_the_training_at_once(tmp_path):
    settings = TrainSettings(**TINY | {"learning_rate": 1e6, "epochs": 8})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transport of NaN, right before
        with pytest.raises(ConfigError, match=r"finite, .* epoch \d, step \d+; .* lower learning_rate \(now 1e\+06\)"):
            train(settings, tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    for file in tmp_path.glob("*.ckpt"):
        assert all(weight.isfinite().all() for weight in lightning_weights(file).values())


def test_no_checkpoint_is_written_once_a_weight_is_no_number(tmp_path, monkeypatch):
    step, steps = SegmentationTask.training_step, 0

    def spoilt(self, batch, batch_index):
        nonlocal steps
        steps += 1
        told = step(self, batch, batch_index)
        return told if self.current_epoch == 0 else told | {"loss": told["loss"] * math.nan}  # as one that overflows

    monkeypatch.setattr(SegmentationTask, "training_step", spoilt)
    settings = TrainSettings(**TINY | {"epochs": 3, "batch_size": 64, "model": "unet"})  # a step an epoch
    with pytest.raises(
        ConfigError, match=r"weights must be finite, but .* in epoch 2.* checkpoints of before are kept"
    ):
        train(settings, tmp_path)
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert kept["epoch"] == 0
    assert steps == 2
    task = SegmentationTask(settings, ("background", *"abc"), 1)
    require_resumable(tmp_path / "last.ckpt", task)
    kept["state_dict"]["model.stem.0.conv.weight"][0] = math.inf
    torch.save(kept, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"weights must be finite, but stem.0.conv.weight holds NaN or infinity"):
        require_resumable(tmp_path / "last.ckpt", task)


def test_two_trainings_do_not_write_to_one_folder(tmp_path):
    settings = TrainSettings(**TINY)
    (tmp_path / ".writing-1.ckpt").touch()  # left by one that was killed
    with sole_writer(tmp_path / ".training-lock"):
        assert not (tmp_path / ".writing-1.ckpt").exists()
        with pytest.raises(ConfigError, match="must have one writer, but a job is running there"):
            train(settings, tmp_path)


def test_validation_dice_counts_a_whole_case():
    task = SegmentationTask(TrainSettings(model="unet", **TINY), ("background", "left ventricle"), 1).eval()
    logged = {}
    task.log = lambda name, value, **_: logged.update({name: float(value)})
    task.log_dict = lambda values: logged.update({name: float(value) for name, value in values.items()})
    task.model.forward = lambda images: torch.stack([0.5 - images[:, 0], images[:, 0] - 0.5], 1)
    task.on_validation_epoch_start()
    bright, dark = (torch.full((1, 1, 4, 4), grey, dtype=torch.uint8) for grey in (255, 0))
    ones = torch.ones(1, 4, 4, dtype=torch.uint8)
    case = torch.zeros(1, dtype=torch.long)
    task.validation_step((bright, ones, case), 0)  # 16 right
    task.validation_step((dark, ones, case), 1)  # 16 missed
    task.on_validation_epoch_end()
    assert math.isclose(logged["val_dice_left_ventricle"], 2 * 16 / (16 + 32), rel_tol=1e-6)
    assert logged["val_dice"] == logged["val_dice_left_ventricle"]


def test_a_training_says_what_it_makes_of_mirrors_where_classes_have_a_side(tmp_path, capsys):
    run = train(TrainSettings(**TINY | {"data": "phantom-kidneys", "epochs": 1, "flips": True}), tmp_path / "run")
    assert "flips mirrors no slice here, since left kidney and right kidney have a side" in capsys.readouterr().err
    assert len(trained_views(read_card(run.run_dir / "model.safetensors"))) == 2
