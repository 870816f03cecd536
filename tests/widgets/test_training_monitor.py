import os
import threading
import time

import numpy as np
import pytest
from l2gnet.widgets import TrainingMonitor
from l2gnet.widgets.training_monitor import _progress as progress
from l2gnet.widgets.training_monitor import _within as within

from l2gnet.files import write_json, write_text
from l2gnet.inspection.forming import read_forming
from l2gnet.training.run import train
from l2gnet.training.settings import TrainSettings

HEADER = "epoch,seconds,codes_perplexity,codes_used,loss,val_dice,val_dice_left_ventricle\n"


@pytest.fixture
def run_dir(tmp_path):
    write_json(tmp_path / "run/config.json", {"epochs": 10})
    return tmp_path / "run"


def write_rows(run_dir, *rows, age=0.0):
    write_text(run_dir / "history.csv", HEADER + "\n".join(rows) + "\n")
    written = time.time() - age
    os.utime(run_dir / "history.csv", (written, written))


@pytest.fixture
def watch(front_end):
    made = []

    def watch(run_dir):
        made.append(TrainingMonitor(run_dir))
        return made[-1]

    yield watch
    for monitor in made:
        monitor.close()


def wait_for(condition, seconds=20):
    end = time.time() + seconds
    while not condition():
        assert time.time() < end
        time.sleep(0.05)


def test_it_waits_for_a_run_and_follows_it(run_dir, watch):
    monitor = watch(run_dir)
    assert monitor.progress["text"] == "waiting for the first epoch"
    write_rows(run_dir, "1,20.0,30.4,61,0.9,0.4,0.5", "2,40.0,31,62,0.5,0.6,0.7")
    wait_for(lambda: monitor.progress["epoch"] == 2)
    assert monitor.progress["state"] == "running"
    loss, dice, codes = monitor.panels
    assert loss["lines"][0]["values"] == [0.9, 0.5]
    assert [(line["name"], line["values"]) for line in dice["lines"]] == [("left ventricle", [0.5, 0.7])]
    assert [line["name"] for line in codes["lines"]] == ["in use", "perplexity"]


def test_what_is_ignored_is_no_structure(run_dir, watch):
    truth = np.zeros((1, 8, 8), np.uint8)
    truth[0, 1:3, 1:3], truth[0, 4:6, 4:6] = 1, 255
    run_dir.mkdir(exist_ok=True)
    np.savez(run_dir / "samples.npz", image=truth, truth=truth, predicted=truth * (truth == 1))
    write_rows(run_dir, "1,20.0,30.4,61,0.9,0.4,0.5")
    monitor = watch(run_dir)
    wait_for(lambda: "truth" in monitor.arrays)
    assert np.array_equal(monitor._published["truth"], truth * (truth == 1))  # what the browser outlines
    assert len(monitor.draw().axes[-1].collections) == 2  # the structure, twice


def test_it_shows_the_first_steps_before_the_first_epoch_ends(run_dir, watch):
    monitor = watch(run_dir)
    write_json(run_dir / "progress.json", {"epochs": 0.25, "loss": 1.5})
    monitor.look()
    assert monitor.progress == {
        "epoch": 0.25,
        "epochs": 10,
        "state": "running",
        "text": "epoch 1 of 10, 25% of it   ·   loss of the last batch 1.5000",
    }
    (loss,) = monitor.panels
    assert (loss["epochs"], loss["lines"][0]["values"]) == ([0.25], [1.5])
    write_rows(run_dir, "1,20.0,30.4,61,0.9,0.4,0.5")
    write_json(run_dir / "progress.json", {"epochs": 1.5, "loss": None})  # it was not a number
    os.utime(run_dir / "progress.json", (time.time() + 1, time.time() + 1))
    monitor.look()
    assert monitor.panels[0]["epochs"] == [1, 1.5]
    assert monitor.panels[0]["lines"][0]["values"] == [0.9, None]
    assert monitor.progress["text"].startswith("epoch 2 of 10, 50% of it   ·   ")


def rows(*seconds):
    last = {"loss": "0.5", "val_dice": "0.6", "codes_used": "62", "codes_perplexity": "31.2"}
    return [{"epoch": str(epoch), "seconds": s, **last} for epoch, s in enumerate(seconds, start=1)]


@pytest.mark.parametrize(
    ("seconds", "age", "left"),
    [
        (("20", "40"), 0, "2 min 40 s left"),
        (("20", "40"), 10, "2 min 30 s left"),
        (("20", "40"), 200, "no news for 3 min 20 s: has it stopped?"),
        (("100", "200", "110", "210"), 0, "10 min 00 s left"),  # resumed after the second epoch
    ],
)
def test_time_left(seconds, age, left):
    words = progress(rows(*seconds), 10, "running", age)["text"].split("   ·   ")
    assert words[:2] == [f"epoch {len(seconds)} of 10", left]
    assert words[2:] == ["loss 0.5000", "validation Dice 0.6000", "62 codes in use, perplexity 31"]


@pytest.mark.parametrize(
    ("at", "age", "left"), [(2.05, 0, "33 min 10 s"), (2.95, 0, "30 min 10 s"), (3.0, 60, "29 min 00 s")]
)
def test_time_runs_within_an_epoch(at, age, left):
    words = within(rows("200", "400"), (at, 0.4), 12, age)["text"].split("   ·   ")
    assert words[1] == f"{left} left"


def test_a_run_that_ends_in_its_first_epoch_is_silent():
    assert within([], (0.25, 1.5), 10, 299)["state"] == "running"
    told = within([], (0.25, 1.5), 10, 3600)
    assert (told["state"], told["epoch"]) == ("silent", 0.25)
    assert told["text"] == "epoch 1 of 10, 25% of it   ·   no news for 1 h 00 min: has it stopped?"


def test_silence_and_the_end_are_told(run_dir, watch):
    write_rows(run_dir, "1,20,3,6,1,1,nan", age=3600)
    monitor = watch(run_dir)
    assert monitor.progress["state"] == "silent"
    assert "no news for 1 h 00 min: has it stopped?" in monitor.progress["text"]
    assert [panel["title"] for panel in monitor.panels] == ["training loss", "codes"]  # no Dice is known
    write_text(run_dir / "model.safetensors", "")
    wait_for(lambda: monitor.progress["state"] == "finished")


def test_a_broken_folder_is_shown_in_the_status_line(run_dir, watch):
    monitor = watch(run_dir)
    write_rows(run_dir, "one,two")
    wait_for(lambda: monitor.error)
    assert monitor.error.startswith("ValueError: ")


def test_close_stops_looking(run_dir, watch):
    before = threading.active_count()
    for _ in range(20):
        watch(run_dir).close()
    wait_for(lambda: threading.active_count() <= before)


@pytest.mark.slow
def test_it_watches_a_run_in_this_process(tmp_path, watch):
    monitor = watch(tmp_path / "run")
    settings = TrainSettings(
        patients=3, validation_patients=1, epochs=2, size_px=48, spacing_mm=4.0, width=4, codes=16, references=4
    )
    train(settings, tmp_path / "run")
    wait_for(lambda: monitor.progress["state"] == "finished")
    assert monitor.error == ""
    assert monitor.progress["epoch"] == 2
    with np.load(tmp_path / "run/samples.npz") as samples:
        assert samples["image"].shape == samples["truth"].shape == samples["predicted"].shape
        assert samples["epoch"] == 2
        assert samples["truth"].any()
    assert set(monitor.arrays) == {"image", "truth", "predicted", "places", "uses"}
    forming = read_forming(tmp_path / "run")
    assert monitor.forming == {"epochs": [1, 2], "variance": forming.variance}
    for place, epoch in ((-1, 2), (0, 1)):
        monitor.shown_epoch = place
        assert f"codes at epoch {epoch}" in [axes.get_title() for axes in monitor.draw().axes]
    assert monitor.snapshot().startswith(b"\x89PNG")
