import time
from unittest.mock import Mock

import dask
import dask_jobqueue
import pytest
from distributed import Client, Security

from l2gnet.errors import ConfigError
from l2gnet.jobs.cluster import keep_workers, open_cluster, runs_at_once, threads_of_a_run
from l2gnet.jobs.sweep_file import Workers

MANY = 99


@pytest.fixture
def submitted(monkeypatch, tmp_path):
    """A function that opens a cluster of SLURM with these options, and returns the script of its jobs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dask_jobqueue.SLURMCluster, "scale", Mock())

    def submitted(**options):
        workers = Workers(kind="slurm", count=5, threads=4, options={"memory": "1GB", "interface": "lo"} | options)
        with open_cluster(workers, 2) as cluster:
            return cluster.job_script()

    return submitted


def test_cores_are_shared_out(monkeypatch):
    monkeypatch.setattr("l2gnet.jobs.cluster._cores", lambda: 8)
    monkeypatch.setattr("l2gnet.jobs.cluster._gpus", list)
    assert threads_of_a_run(Workers(), MANY) == 1
    assert threads_of_a_run(Workers(count=3), MANY) == 2
    assert threads_of_a_run(Workers(count=16), MANY) == 1
    assert threads_of_a_run(Workers(count=2, threads=5), MANY) == 5
    assert threads_of_a_run(Workers(kind="slurm", count=2), MANY) == 1


def test_there_are_no_more_workers_than_runs(monkeypatch):
    monkeypatch.setattr("l2gnet.jobs.cluster._cores", lambda: 8)
    monkeypatch.setattr("l2gnet.jobs.cluster._gpus", list)
    assert runs_at_once(Workers(), MANY) == 8
    assert (runs_at_once(Workers(), 4), threads_of_a_run(Workers(), 4)) == (4, 2)
    assert runs_at_once(Workers(kind="slurm", count=5), 1) == 1


def test_each_worker_gets_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr("l2gnet.jobs.cluster._gpus", lambda: ["3", "5"])
    with open_cluster(Workers(), MANY) as cluster:
        seen = [worker["options"]["env"] for worker in cluster.worker_spec.values()]
    assert seen == [{"CUDA_VISIBLE_DEVICES": "3"}, {"CUDA_VISIBLE_DEVICES": "5"}]


def test_idle_workers_go_and_one_with_a_run_stays():
    with open_cluster(Workers(count=3), 3) as cluster, Client(cluster) as client:
        client.wait_for_workers(3)
        run = client.submit(time.sleep, 3, workers=[1], retries=0)
        while not any(client.processing().values()):
            time.sleep(0.05)
        keep_workers(cluster, 1)
        assert list(cluster.worker_spec) == [1]
        run.result(timeout=10)
        assert list(cluster.workers) == [1]


@pytest.mark.parametrize(("protocol", "security"), [("tcp", None), ("tls", Security.temporary())])
def test_who_has_not_the_key_runs_nothing(protocol, security):
    with (
        open_cluster(Workers(count=1), 1) as cluster,
        pytest.raises(OSError, match=r"reset by peer|timed out|does not match"),
    ):
        Client(cluster.scheduler_address.replace("tls", protocol), security=security, timeout="1s")


def test_workers_of_a_queue_have_the_key_and_take_one_run_at_a_time(submitted, tmp_path):
    script = submitted(worker_extra_args=["--lifetime", "55m"])
    assert "--lifetime 55m --nthreads 1 " in script
    assert "--protocol tls:// " in script
    assert f"--tls-key {tmp_path}/" in script
    assert dask_jobqueue.SLURMCluster.scale.call_args_list[0].args == (2,)


def test_a_queues_jobs_end_by_their_time_more_often_than_workers_die(submitted):
    submitted()
    assert dask.config.get("distributed.scheduler.allowed-failures") == 100
    open_cluster(Workers(count=1), 1).close()
    assert dask.config.get("distributed.scheduler.allowed-failures") == 10


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of dask-jobqueue's half-made cluster
def test_a_queue_gets_the_options_or_says_which_are_wrong(submitted):
    with pytest.raises(ConfigError, match=r"options must be those of dask_jobqueue\.SLURMCluster"):
        open_cluster(Workers(kind="slurm", count=1, options={"queue": "gpu"}), 1)
    with pytest.raises(ConfigError, match=r"options must be those of .*, got: can only concatenate str"):
        submitted(worker_extra_args="--lifetime 55m")
    with pytest.raises(ConfigError, match="kind kubernetes needs the package dask-kubernetes"):
        open_cluster(Workers(kind="kubernetes", count=1), 1)
