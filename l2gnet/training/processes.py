"""The processes of a training on several GPUs: started here on one machine, by srun or torchrun on several."""

import os
import signal
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import torch
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from torch.multiprocessing import ProcessRaisedException, spawn

from l2gnet.errors import CheckpointError, ConfigError, VolumeError
from l2gnet.training.settings import TrainSettings


def started(settings: TrainSettings) -> bool:
    """Whether this is one of the processes of the training, and not the one that has yet to start them.

    Raises:
        ConfigError: srun or torchrun has started another number of processes than the settings say, or none for
            a training on several machines.
    """
    running = int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_STEP_NUM_TASKS") or 1)
    wanted = settings.processes
    if wanted > 1 and running != wanted and (running > 1 or settings.nodes > 1):
        raise ConfigError(
            f"srun or torchrun must start devices x nodes = {wanted} processes, got {running}; "
            "start one for each GPU, or set devices and nodes to what was started"
        )
    return wanted in (1, running)


def require_devices(settings: TrainSettings) -> None:
    """Raise ConfigError unless this machine has the accelerator and as many devices as the settings ask for."""
    if settings.accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError("accelerator must be one that this machine has, got 'gpu' and no GPU; use auto or cpu")
    if settings.precision == "16-mixed" and (settings.accelerator == "cpu" or not torch.cuda.is_available()):
        raise ConfigError("precision must be 32-true or bf16-mixed on a CPU, which has no 16-mixed; got 16-mixed")
    if settings.accelerator != "cpu" and settings.devices > torch.cuda.device_count() > 0:
        have = torch.cuda.device_count()
        raise ConfigError(f"devices must be at most the {have} GPUs of this machine, got {settings.devices}")


def is_first(settings: TrainSettings) -> bool:
    """Whether this is the process of the training that writes its files."""
    rank = os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0
    return settings.processes == 1 or int(rank) == 0


def train_in_processes(train: Callable[[TrainSettings, Path], object], settings: TrainSettings, run_dir: Path) -> None:
    """Let `train`, a function of a module, run in a process for each device of this machine.

    If one fails, all end, and its error is raised here.

    New processes, and not Lightning's launchers: those run the command again, which a notebook has not, or fork,
    which is no way once a GPU or threads have been used.
    """
    errors = get_context("spawn").SimpleQueue()
    workers = spawn(
        _train, (train, settings, run_dir, find_free_network_port(), errors), nprocs=settings.devices, join=False
    )
    try:
        while not workers.join():
            pass
    except ProcessRaisedException:
        if errors.empty():
            raise
        raise errors.get() from None
    finally:  # when this process is interrupted, too
        for process in workers.processes:
            process.kill()


def _train(rank: int, train: Callable, settings: TrainSettings, run_dir: Path, port: int, errors: SimpleQueue) -> None:
    # torch has it sent when the process that started this one dies; what runs in the background of a shell ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # As torchrun tells its processes, which Lightning looks for first, also within a job of SLURM.
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": settings.devices, "MASTER_PORT": port}
    os.environ |= {name: str(number) for name, number in numbers.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "l2gnet"}
    if rank > 0:
        os.environ["TQDM_DISABLE"] = "1"  # one progress bar is enough
    torch.set_num_threads(max(torch.get_num_threads() // settings.devices, 1))

    try:
        train(settings, run_dir)
    except (CheckpointError, ConfigError, VolumeError) as error:
        errors.put(error)
        raise
