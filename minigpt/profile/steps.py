"""Steps with a clock on each thread, in turn with plain steps: both end in the same bits."""

import copy
import statistics
import time

import numpy as np

from minigpt.checks import whole
from minigpt.errors import MinigptError
from minigpt.profile.clock import TimedArray, TimedWorkers, timed_ops, timing
from minigpt.profile.table import GEMM_SIZE, WAITING, OpTime, Profile
from minigpt.training.step import make_optimizer

WARM_UP_STEPS = 3  # of either copy, before anything counts
STEPS_IN_TURN = 4  # of one copy, before it is the other's turn


def profile_steps(trainer, steps=20):
    """Time the next steps of a Trainer by op -> Profile. They are run on copies of its numbers.

    MinigptError for fewer than 1 step, or where profiled and plain steps end in different bits.
    """
    whole("profile: steps", steps, at_least=1)
    reference, profiled = copied(trainer, np.ndarray), copied(trainer, TimedArray)
    reference_seconds, seconds, clocks = [], [], []
    peaks = [gemm_peak(trainer)]
    run_plain(reference, WARM_UP_STEPS)
    run_timed(profiled, WARM_UP_STEPS)
    for done in range(0, steps, STEPS_IN_TURN):
        count = min(STEPS_IN_TURN, steps - done)
        reference_seconds += run_plain(reference, count)
        more_seconds, more_clocks = run_timed(profiled, count)
        seconds += more_seconds
        clocks += more_clocks
    peaks.append(gemm_peak(trainer))  # of a busy machine, the better of two moments
    if reference.model.store.vector.tobytes() != profiled.model.store.vector.tobytes():
        count = WARM_UP_STEPS + steps
        raise MinigptError(f"profile: after {count} steps the profiled parameters are not those of plain steps")
    threads, rows = trainer.workers.threads, merged(clocks, steps)
    thread_seconds = threads * sum(seconds) - sum(clock.own for clock in clocks)
    waiting = max(0.0, thread_seconds / steps - sum(row.seconds for row in rows))
    step, plain_step = statistics.median(seconds), statistics.median(reference_seconds)
    return Profile(rows, steps, threads, waiting, step, plain_step, max(peaks))


def copied(trainer, kind):
    """The same trainer at the same step, on copies of its numbers: np.ndarray or TimedArray."""
    model, twin = trainer.model, copy.copy(trainer)
    twin.model = type(model)(model.config, store=model.store.like(model.store.vector.copy().view(kind)))
    twin.optimizer = make_optimizer(twin.model, trainer.config)  # np.zeros_like keeps the kind
    for name, value in trainer.optimizer.state.items():
        twin.optimizer.state[name][...] = value
    twin.gradients = [gradient.like(np.zeros_like(twin.model.store.vector)) for gradient in trainer.gradients]
    return twin


def run_plain(trainer, steps):
    """Take steps -> the seconds of each."""
    seconds = []
    for _ in range(steps):
        began = time.perf_counter()
        trainer.train_step()
        seconds.append(time.perf_counter() - began)
        trainer.step += 1
    return seconds


def run_timed(trainer, steps):
    """Take steps on arrays that time their ufuncs -> the seconds of each, all threads' Clocks."""
    seconds, clocks, workers = [], [], trainer.workers
    trainer.workers = TimedWorkers(workers, clocks)
    try:
        with timed_ops():
            for _ in range(steps):
                with timing("training", clocks) as clock:
                    trainer.train_step()
                seconds.append(clock.stopped - clock.started)
                trainer.step += 1
    finally:
        trainer.workers = workers
    return seconds, clocks


def gemm_peak(trainer, tries=5):
    """FLOP/s of a product of two 1024-cubes of the model's dtype on one thread, best of a few."""
    a = np.ones((GEMM_SIZE, GEMM_SIZE), trainer.model.dtype)
    product, best = np.empty_like(a), np.inf
    with trainer.workers.one_blas_thread():
        for _ in range(tries):
            began = time.perf_counter()
            np.matmul(a, a, out=product)
            best = min(best, time.perf_counter() - began)
    return 2 * GEMM_SIZE**3 / best


def merged(clocks, steps):
    """The rows of several clocks added up, a step, the longest first; waiting is left out."""
    total = {}
    for clock in clocks:
        for op, numbers in clock.rows.items():
            total[op] = [a + b for a, b in zip(total[op], numbers)] if op in total else numbers
    rows = [OpTime(op, *(number / steps for number in numbers)) for op, numbers in total.items() if op != WAITING]
    return sorted(rows, key=lambda row: -row.seconds)
