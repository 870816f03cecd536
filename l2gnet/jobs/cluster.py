"""Where the runs of a sweep go: processes of this machine or jobs of a queue, by one setting, on dask.distributed."""

import importlib
import logging
import os
from typing import Any

import dask
from distributed import Nanny, Scheduler, SpecCluster
from distributed.deploy import Cluster

from l2gnet.errors import ConfigError
from l2gnet.jobs.sweep_file import Workers

_QUEUES = {
    "slurm": ("dask_jobqueue", "SLURMCluster"),
    "pbs": ("dask_jobqueue", "PBSCluster"),
    "lsf": ("dask_jobqueue", "LSFCluster"),
    "sge": ("dask_jobqueue", "SGECluster"),
    "oar": ("dask_jobqueue", "OARCluster"),
    "htcondor": ("dask_jobqueue", "HTCondorCluster"),
    "kubernetes": ("dask_kubernetes.operator", "KubeCluster"),
}


def open_cluster(workers: Workers) -> Cluster:
    """Start the workers, as many as are asked for; close the cluster to end them.

    The run of a worker that dies goes to whichever is free. On this machine the worker is started again; but one that
    is long away is given up, as is a queue's job at the end of its time: `cluster.scale` starts others instead.

    Raises:
        ConfigError: the queue's package is not installed, or does not take the options.
    """
    dask.config.set(
        {
            "distributed.scheduler.worker-saturation": 1.0,  # hand a worker its next run when it is free, not before
            "distributed.scheduler.allowed-failures": 10,  # workers die of many things, seldom of the run they had
            # Else Dask looks 50 times a second at itself, and 100 times at what its workers do: a twentieth of a core.
            "distributed.worker.profile.enabled": False,
            "distributed.admin.tick.interval": "1s",
            "distributed.admin.system-monitor.interval": "10s",
        }
    )
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # the table of runs says what happens
    return _local(workers) if workers.kind == "local" else _queue(workers)


def runs_at_once(workers: Workers) -> int:
    """How many workers there are."""
    return workers.count or len(_gpus()) or _cores()


def threads_of_a_run(workers: Workers) -> int:
    """How many threads a run may use, so that runs side by side do not fight for cores."""
    if workers.threads or workers.kind != "local":
        return max(1, workers.threads)
    return max(1, _cores() // runs_at_once(workers))


def _local(workers: Workers) -> SpecCluster:
    gpus = _gpus()
    specs = {
        number: {
            "cls": Nanny,
            "options": {
                "nthreads": 1,
                "memory_limit": 0,  # a run lives in its kernel, which Dask's limit would not see
                "host": "127.0.0.1",
                "dashboard": False,
                "silence_logs": logging.CRITICAL,
                "env": {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {},
            },
        }
        for number in range(runs_at_once(workers))
    }
    # Even without a dashboard it serves its state on a port: any, as a second sweep would find the usual one taken.
    options = {"host": "127.0.0.1", "dashboard": False, "dashboard_address": "127.0.0.1:0"}
    scheduler = {"cls": Scheduler, "options": options}
    return SpecCluster(workers=specs, scheduler=scheduler)


def _queue(workers: Workers) -> Cluster:
    module, name = _QUEUES[workers.kind]
    threads = threads_of_a_run(workers)
    options: dict[str, Any] = {"cores": threads, "processes": 1, "worker_extra_args": ["--nthreads", "1"]}
    if workers.kind == "kubernetes":  # as its documentation says; nobody has tried it yet
        options = {"worker_command": "dask worker --nthreads 1"}
    try:
        cluster = getattr(importlib.import_module(module), name)(**(options | dict(workers.options)))
    except ImportError as error:
        package = module.split(".")[0].replace("_", "-")
        rule = f"workers: kind {workers.kind} needs the package {package}"
        raise ConfigError(f"{rule}, got: {error}; pip install {package}") from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"workers: options must be those of {module}.{name}, got: {error}") from error
    cluster.scale(workers.count)
    return cluster


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _gpus() -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES spells them."""
    import torch  # on demand: workers take a second less to start

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    return names[: torch.cuda.device_count()]
