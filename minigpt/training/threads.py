"""Work on several cores: shards of a batch on threads, with BLAS held to one thread meanwhile.

NumPy lets go of the interpreter in element-wise functions and in products, so threads of Python run
all of a step side by side; BLAS's own threads would speed up the products only: 50 ms against 64 ms
a step (4 layers, 128 channels, batch 12 x 64, two cores). They would change the bits as well, since
BLAS adds in another order on several threads: measured at that size and at GPT-2's 124M.
"""

import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

import numpy as np
from threadpoolctl import ThreadpoolController

from minigpt.machine import check_threads, usable_threads

SWITCH_INTERVAL = 1e-4  # seconds after which a thread that waits for the interpreter gets it, while a step lasts


def candidates(most, shards):
    """Numbers of threads worth a measurement, the largest first: for each number of rounds that
    doubles, the fewest threads that need no more.

    8 shards: 8, 4, 2, 1, which take 1, 2, 4 and 8 rounds. -> list
    """
    most, chosen = min(most, shards), []
    rounds = -(-shards // most)
    while not chosen or chosen[-1] > 1:
        chosen.append(-(-shards // rounds))
        rounds = min(2 * rounds, shards)
    return chosen


def measure_threads(work, counts, seconds=0.6, rounds=20):
    """Time work(workers) with each number of threads: once to warm up, then in turn, at least once
    and as often as `seconds` and `rounds` allow.

    counts: numbers of threads, the largest first; once one takes half as long again as the best,
    fewer are not tried. -> number of threads -> the least seconds that it took: other programs only
    ever add to them.
    """
    teams, best = {}, {}

    def measure(count):
        began = time.perf_counter()
        work(teams[count])
        return time.perf_counter() - began

    try:
        for count in counts:
            teams[count] = Workers(count)
            best[count] = measure(count)
            if best[count] > 1.5 * min(best.values()):
                break
        for _ in range(max(1, min(rounds, int(seconds / sum(best.values()))))):
            for count in best:
                best[count] = min(best[count], measure(count))
    finally:
        for workers in teams.values():
            workers.close()
    return best


class Workers:
    """A pool of threads that runs functions over parts in order, with BLAS at one thread and
    floating-point warnings off.

    Overflow is not an error here: training checks its loss and gradients itself, and says where
    they went wrong.
    """

    def __init__(self, threads=None):
        """threads: how many, as many as usable_threads says unless given. MinigptError below 1."""
        self.threads = usable_threads() if threads is None else threads
        check_threads(self.threads)
        self.blas = ThreadpoolController().select(user_api="blas")
        # the calling thread works as well
        self.pool = ThreadPoolExecutor(self.threads - 1) if self.threads > 1 else None

    @contextmanager
    def one_blas_thread(self):
        """Hold BLAS to one thread as long as the context lasts, and have threads hand over the
        interpreter soon; decoding outside has all cores.

        A thread that comes back from NumPy asks for the interpreter and gets it at the latest after
        the switch interval: 5 ms unless set, in which the other one may well finish its piece of
        Python and wait in turn. 25.7 against 28.0 ms a step (4 layers, 128 channels, batch 12 x
        64).
        """
        interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL)
        try:
            with self.blas.limit(limits=1):
                yield
        finally:
            sys.setswitchinterval(interval)

    def map(self, function, parts):
        """function of each part -> the list of results, in order; exceptions come out here.

        The calling thread takes parts like the others, so that one thread fewer has to be woken.
        """
        parts = list(parts)
        results, left = [None] * len(parts), deque(range(len(parts)))

        def work():
            while left:
                try:
                    i = left.popleft()
                except IndexError:  # another thread took the last one
                    return
                results[i] = quietly(function, parts[i])

        others = [self.pool.submit(work) for _ in range(min(self.threads, len(parts)) - 1)]
        try:
            work()
        finally:
            wait(others)
        for other in others:
            other.result()
        return results

    def close(self):
        """End the threads."""
        if self.pool is not None:
            self.pool.shutdown()


def quietly(function, part):
    """Call a function without floating-point warnings (NumPy keeps that setting by thread)."""
    with np.errstate(all="ignore"):
        return function(part)
