"""Runs a function in processes that form a group, as torchrun would start them."""

import multiprocessing
import os
import pickle
import traceback
from collections.abc import Callable
from typing import Any

from lightning.fabric.plugins.environments.lightning import find_free_network_port

_FORK = multiprocessing.get_context("fork")  # importing what a training needs takes longer than the training


def on_ranks(work: Callable[[int], Any], count: int = 2) -> list[Any]:
    """What `work(rank)` returns in each process; what it raised there is named in a RuntimeError here."""
    port, pipes = find_free_network_port(), [_FORK.Pipe(duplex=False) for _ in range(count)]
    workers = [_FORK.Process(target=_work, args=(work, rank, count, port, pipes[rank][1])) for rank in range(count)]
    for worker in workers:
        worker.start()
    for _, end in pipes:
        end.close()
    try:
        results = [pickle.loads(pipe.recv_bytes()) if pipe.poll(120) else "silent" for pipe, _ in pipes]
    finally:
        for worker in workers:
            worker.join(10)
            worker.kill()
    failed = [result for result in results if isinstance(result, str)]
    if failed:
        raise RuntimeError("\n".join(failed))
    return [result for (result,) in results]


def _work(work: Callable[[int], Any], rank: int, count: int, port: int, end: Any) -> None:
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
    os.environ |= {name: str(number) for name, number in numbers.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "test"}
    try:
        answer = pickle.dumps((work(rank),))
    except BaseException:
        answer = pickle.dumps(traceback.format_exc())
    end.send_bytes(answer)
    os._exit(0)
