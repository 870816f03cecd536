import csv
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

KILLS = 30


def history(run_dir):
    with (run_dir / "history.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def content(checkpoint):
    """Card and weights, bit for bit; only the order of the header's two entries is left to chance by safetensors."""
    with safe_open(checkpoint, framework="np") as file:
        return file.metadata(), {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118


@pytest.mark.slow
def test_a_training_killed_thirty_times_ends_bit_for_bit_like_one_that_was_not(tmp_path):
    command = [sys.executable, Path(__file__).parents[1] / "killed_training.py", tmp_path, str(KILLS), "0"]
    lives = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lives = [line for line in lives.splitlines() if line.startswith("life")]
    assert sum(life.endswith("killed") for life in lives) == KILLS
    assert not [life for life in lives if "failed" in life]
    whole, *survivors = sorted(tmp_path.iterdir(), key=lambda folder: folder.name != "whole")
    assert len(survivors) == sum("finished" in life for life in lives)
    for survivor in survivors:
        for name in ("model.safetensors", "best.safetensors"):
            assert content(survivor / name) == content(whole / name), (survivor.name, name)
        assert history(survivor) == history(whole)
        assert not list(survivor.glob(".writing-*"))
