"""Work on several cores: shards of a batch on threads, with BLAS held to one thread meanwhile.

NumPy lets go of the interpreter in element-wise functions and in products, so threads of Python run all of a step side by side; BLAS's own
threads would speed up the products only: 50 ms against 64 ms a step (4 layers, 128 channels, batch 12 x 64, two cores).
"""

import ctypes
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from threadpoolctl import ThreadpoolController

from minigpt.errors import MinigptError


def available_cores():
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_freed_memory():
    """Have glibc keep freed blocks for reuse, instead of giving large ones back to the system at each free: 97 ms against 61 ms a step.

    Process-wide, hence an explicit call. Elsewhere than on glibc it does nothing. -> whether it was done.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl has no mallopt
        return False
    trim_threshold, mmap_threshold, arena_max = -1, -3, -8  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX of malloc.h
    return bool(mallopt(mmap_threshold, 1 << 30) and mallopt(trim_threshold, (1 << 31) - 1) and mallopt(arena_max, 1))


class Workers:
    """A pool of threads that runs functions over parts in order, with BLAS at one thread and floating-point warnings off.

    Overflow is not an error here: training checks its loss and gradients itself, and says where they went wrong.
    """

    def __init__(self, threads=None):
        """threads: how many, the available cores unless given. MinigptError below 1."""
        self.threads = available_cores() if threads is None else threads
        if self.threads < 1:
            raise MinigptError(f"threads is {self.threads}, it must be at least 1")
        self.blas = ThreadpoolController().select(user_api="blas")
        self.pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None

    @contextmanager
    def one_blas_thread(self):
        """Hold BLAS to one thread as long as the context lasts; decoding outside of it has all cores."""
        with self.blas.limit(limits=1):
            yield

    def map(self, function, parts):
        """function of each part -> the list of results, in order; exceptions come out here."""
        parts = list(parts)
        if self.pool is None or len(parts) < 2:
            return [quietly(function, part) for part in parts]
        return list(self.pool.map(quietly, [function] * len(parts), parts))

    def close(self):
        """End the threads."""
        if self.pool is not None:
            self.pool.shutdown()


def quietly(function, part):
    """Call a function without floating-point warnings (NumPy keeps that setting by thread)."""
    with np.errstate(all="ignore"):
        return function(part)
