"""Where the runs of a sweep go: processes of this machine or jobs of a queue, by one setting, on dask.distributed."""

import importlib
import logging
import os
from pathlib import Path

import dask
from distributed import Nanny, Scheduler, Security, SpecCluster
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


def open_cluster(workers: Workers, runs: int) -> Cluster:
    """Start the workers, as many as are asked for and there are runs; close the cluster to end them.

    The run of a worker that dies goes to whichever is free. On this machine the worker is started again; but one that
    is long away is given up, as is a queue's job at the end of its time: `keep_workers` starts others instead. They
    talk encrypted, and to those who have the key: others work on the same machine, and Dask runs what it is sent.

    Raises:
        ConfigError: the queue's package is not installed, or does not take the options.
    """
    dask.config.set(
        {
            "distributed.scheduler.worker-saturation": 1.0,  # hand a worker its next run when it is free, not before
            # Workers die of many things, seldom of the run they had; those of a queue at the end of their time, too.
            "distributed.scheduler.allowed-failures": 10 if workers.kind == "local" else 100,
            # Else Dask looks 50 times a second at itself, and 100 times at what its workers do: a twentieth of a core.
            "distributed.worker.profile.enabled": False,
            "distributed.admin.tick.interval": "1s",
            "distributed.admin.system-monitor.interval": "10s",
        }
    )
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # the table of runs says what happens
    return _local(workers, runs) if workers.kind == "local" else _queue(workers, runs)


def keep_workers(cluster: Cluster, runs: int) -> None:
    """Start others in the place of workers that were given up, and let idle ones go that no run is left for."""
    if isinstance(cluster, SpecCluster):  # `scale` alone would take the newest, with the run that it has
        cluster.sync(_let_go, cluster, runs)
        runs = len(cluster.plan)
    cluster.scale(runs)


def runs_at_once(workers: Workers, runs: int) -> int:
    """How many workers there are for so many runs."""
    return min(runs, workers.count or len(_gpus()) or _cores())


def threads_of_a_run(workers: Workers, runs: int) -> int:
    """How many threads each of the runs may use, so that those side by side do not fight for cores."""
    if workers.threads or workers.kind != "local":
        return max(1, workers.threads)
    return max(1, _cores() // runs_at_once(workers, runs))


async def _let_go(cluster: SpecCluster, runs: int) -> None:
    """Take idle workers off the list, down to one a run; on the scheduler's own thread, so that none gets a run now."""
    busy = {str(worker.name) for worker in cluster.scheduler.workers.values() if worker.processing}
    jobs = cluster.worker_spec.items()
    idle = [name for name, job in jobs if not busy & {f"{name}{suffix}" for suffix in job.get("group", [""])}]
    for name in idle[: max(0, len(jobs) - runs)]:
        del cluster.worker_spec[name]


def _local(workers: Workers, runs: int) -> SpecCluster:
    gpus, security = _gpus(), Security.temporary()
    shared = {"host": "127.0.0.1", "protocol": "tls://", "security": security, "dashboard": False}
    specs = {
        number: {
            "cls": Nanny,
            "options": {
                **shared,
                "nthreads": 1,
                "memory_limit": 0,  # a run lives in its kernel, which Dask's limit would not see
                "silence_logs": logging.CRITICAL,
                "env": {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {},
            },
        }
        for number in range(runs_at_once(workers, runs))
    }
    # Even without a dashboard it serves its state on a port: any, as a second sweep would find the usual one taken.
    scheduler = {"cls": Scheduler, "options": {**shared, "dashboard_address": "127.0.0.1:0"}}
    return SpecCluster(workers=specs, scheduler=scheduler, security=security)


def _queue(workers: Workers, runs: int) -> Cluster:
    module, name = _QUEUES[workers.kind]
    given = dict(workers.options)
    try:
        if workers.kind == "kubernetes":  # as its documentation says; nobody has tried it yet
            options = {"worker_command": "dask worker --nthreads 1"} | given
        else:
            options = {"cores": threads_of_a_run(workers, runs), "processes": 1, "security": Security.temporary()}
            options["shared_temp_directory"] = str(Path.cwd())  # for the key: the workers, too, go to this folder
            more = given.get("worker_extra_args", []) + ["--nthreads", "1"]  # noqa: RUF005 (would take words apart)
            options |= given | {"worker_extra_args": more}
        cluster = getattr(importlib.import_module(module), name)(**options)
    except ImportError as error:
        package = module.split(".")[0].replace("_", "-")
        rule = f"workers: kind {workers.kind} needs the package {package}"
        raise ConfigError(f"{rule}, got: {error}; pip install {package}") from error
    except (TypeError, ValueError, OSError) as error:
        raise ConfigError(f"workers: options must be those of {module}.{name}, got: {error}") from error
    cluster.scale(runs_at_once(workers, runs))
    return cluster


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _gpus() -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES spells them."""
    import torch  # on demand: workers take a second less to start

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    return names[: torch.cuda.device_count()]
