"""Trains over and over in processes that are killed: `python tests/killed_training.py FOLDER KILLS SEED`.

A warm process forks them, because importing what a training needs takes longer than the training. It prints a line
for each life: how long it was, and how it ended.
"""

import functools
import gc
import os
import random
import signal
import sys
import threading
import time
import warnings
from pathlib import Path

from tiny import TINY
from tqdm import tqdm

from l2gnet.data import phantoms
from l2gnet.training import resume
from l2gnet.training.run import train
from l2gnet.training.settings import TrainSettings

SETTINGS = TINY | {"patients": 3, "epochs": 4, "batch_size": 4, "patience": 3, "resume": True}


def live(folder: Path, life_s: float) -> str:
    """Train in a process of its own, killed after so many seconds unless it has ended by then."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 (for as long as the process lives)
            warnings.simplefilter("error")
            train(TrainSettings(**SETTINGS), folder)
            code = 0
        finally:
            os._exit(code)
    died = time.monotonic() + life_s
    while time.monotonic() < died:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return "finished" if status == 0 else f"failed with status {status}"
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return "killed"


def main() -> None:
    """Train once without a kill, which warms the process, then until enough were killed, each in a folder."""
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    resume.SAVE_EVERY_S = 0.0  # after every step, so that many kills fall into the writing of a checkpoint
    moments = random.Random(seed)
    phantoms.make_heart = functools.cache(phantoms.make_heart)
    tqdm.set_lock(threading.RLock())  # its own lock is shared by all lives, and lost with one that is killed holding it
    started = time.monotonic()
    train(TrainSettings(**SETTINGS), folder / "whole")
    duration_s = time.monotonic() - started
    gc.freeze()  # no life collects the garbage of what was imported
    training, killed = 0, 0
    while killed < kills or ended == "killed":
        life_s = moments.uniform(0, duration_s) if killed < kills else 600
        ended = live(folder / f"killed-{training}", life_s)
        print(f"life of {life_s:.2f} s in training {training}: {ended}", flush=True)
        killed += ended == "killed"
        training += ended != "killed"


if __name__ == "__main__":
    main()
