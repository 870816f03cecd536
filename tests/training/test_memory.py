"""Memory that is kept is not asked for again."""

import subprocess
import sys

import pytest

STEPS = """
import resource, sys

import torch

from l2gnet.training.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
for step in range(12):
    if step == 8:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.ones(2**24) for _ in range(2)]  # 64 MiB each
    del tensors
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Page faults of four steps, after eight to settle."""
    done = subprocess.run([sys.executable, "-c", STEPS, how], check=True, capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is told")
def test_a_step_that_asks_for_as_much_as_the_last_gets_pages_it_has_touched():
    assert faults("kept") < 100 < faults("given back")
