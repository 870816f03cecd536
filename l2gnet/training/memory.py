"""Memory that is freed stays with the process, for those that ask for as much again at every step."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # names of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let glibc keep what tensors on the CPU free; a C library without `mallopt` goes on as it does.

    A training step asks for the same hundreds of megabytes as the one before. Given back in between, they come as
    fresh pages each time: 15,000 page faults a step of a small l2gnet, a tenth of its time on a virtual machine.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, -1)
