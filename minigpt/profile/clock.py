"""The instrument: a clock a thread, told by the observer of ops and by arrays that time themselves.

The ops hold no line of this. A trainer runs the very same code on arrays of a subclass, whose
`__array_ufunc__` times every ufunc (`@` and `.sum()` are ufuncs too). Meanwhile minigpt.observe
tells which op is at work, and in ops, layers and optim `np.empty` and its kin give such arrays as
well. (`sys.setprofile` could do the observer's part, but is told of every builtin too: of one
thread, 13% of a step where all of this takes 6%.)
"""

import sys
import threading
import time
import types
from contextlib import contextmanager

import numpy as np

from minigpt.observe import Observer, observable, observing
from minigpt.profile.table import PARTS_BETWEEN_OPS, WAITING

MODULES_WITH_TIMED_ARRAYS = ("minigpt.ops", "minigpt.layers", "minigpt.optim")
TIMED_MAKERS = ("empty", "zeros", "ones")  # not full: ops.reductions keeps what that gives for good
NUMPY_LOCK = threading.Lock()  # two profiles at once would put back each other's np
CALLS, MATMUL, ELEMENTWISE, REDUCTIONS, OTHER, FLOPS = range(6)  # places in the row of a Clock


class Clock(Observer):
    """Times one thread: which op is at work, and in what kind of work its time goes.

    Each op and each ufunc of a TimedArray reports here; the time between two reports is "other".
    """

    def __init__(self, op):
        self.rows = {}  # op -> [calls, seconds of each of KINDS, FLOPs]
        self.own = 0.0  # seconds that the reports take, which are in no row
        self.row = self.rows[op] = [0, 0.0, 0.0, 0.0, 0.0, 0]
        self.stack = [(op, self.row)]
        self.started = self.mark = time.perf_counter()  # mark: up to here all time is in a row

    def enter(self, call):
        """A Call begins, or by its name what else has a row; the time so far is the outer one's."""
        now = time.perf_counter()
        self.row[OTHER] += now - self.mark
        op = call if type(call) is str else call.part if call.part in PARTS_BETWEEN_OPS else call.name
        self.row = self.rows.setdefault(op, [0, 0.0, 0.0, 0.0, 0.0, 0])
        self.row[CALLS] += 1
        self.stack.append((op, self.row))
        self.mark = time.perf_counter()
        self.own += self.mark - now

    def leave(self, call, outputs=None):
        """The op at work ends."""
        now = time.perf_counter()
        self.row[OTHER] += now - self.mark
        self.stack.pop()
        self.row = self.stack[-1][1]
        self.mark = time.perf_counter()
        self.own += self.mark - now

    def charge(self, kind, flops, entered, began, ended):
        """Work was done from began to ended; the rest since entered are the reports themselves."""
        row = self.row
        row[OTHER] += entered - self.mark
        row[kind] += ended - began
        row[FLOPS] += flops
        self.mark = time.perf_counter()
        self.own += began - entered + self.mark - ended

    def stop(self):
        """The thread's work ends."""
        self.stopped = time.perf_counter()
        self.row[OTHER] += self.stopped - self.mark


class ThreadClock(threading.local):
    """What times this thread: a Clock, or None."""

    clock = None


THREAD = ThreadClock()


@contextmanager
def timing(op, clocks):
    """Time this thread, which begins as part of an op -> Clock, added to clocks at the end."""
    outer, THREAD.clock = THREAD.clock, Clock(op)
    try:
        with observing(THREAD.clock) as clock:
            yield clock
    finally:
        clock.stop()
        clocks.append(clock)
        THREAD.clock = outer


class TimedArray(np.ndarray):
    """An array that times its ufuncs for the thread's clock; else, to the bit, an np.ndarray."""

    __array_priority__ = 1  # stacked with others, it gives its own kind

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **more):
        entered = time.perf_counter()
        inputs = [plain(x) for x in inputs]
        if out is not None:
            more["out"] = tuple([plain(x) for x in out])
        if "where" in more:
            more["where"] = plain(more["where"])
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        clock = THREAD.clock
        began = time.perf_counter()
        result = function(*inputs, **more)
        ended = time.perf_counter()
        if out is not None:
            given = out[0] if len(out) == 1 else out
        else:
            given = timed(result) if type(result) is not tuple else tuple([timed(x) for x in result])
        if clock is not None:
            kind, flops = ELEMENTWISE if method == "__call__" else REDUCTIONS, 0
            if ufunc is np.matmul:
                kind, flops = product(*inputs, result)
            clock.charge(kind, flops, entered, began, ended)
        return given


def product(a, b, result):
    """A product of matrices or, with one row or column, a sum -> MATMUL or REDUCTIONS, FLOPs."""
    if a.ndim < 2 or b.ndim < 2 or 1 in (a.shape[-2], b.shape[-1]):
        return REDUCTIONS, 0
    return MATMUL, 2 * a.shape[-1] * result.size


def plain(x):
    """A TimedArray as the np.ndarray that it is a view of; anything else as it is."""
    return x.view(np.ndarray) if type(x) is TimedArray else x


def timed(x):
    """An array as a TimedArray; anything else, such as the scalar that a sum gives, as it is."""
    return x.view(TimedArray) if type(x) is np.ndarray else x


class TimedWorkers:
    """The workers of a trainer, with a clock for each part that one of their threads takes on."""

    def __init__(self, workers, clocks):
        self.workers, self.clocks = workers, clocks
        self.threads, self.one_blas_thread = workers.threads, workers.one_blas_thread

    def map(self, function, parts):
        """Workers.map."""
        parts = list(parts)
        if self.workers.pool is None or len(parts) < 2:
            return self.workers.map(function, parts)

        clock = THREAD.clock
        op = clock.stack[-1][0]  # Muon.step, say, which shares its matrices out

        def work(part):
            with timing(op, self.clocks):
                return function(part)

        clock.enter(WAITING)
        try:
            return self.workers.map(work, parts)
        finally:
            clock.leave(WAITING)


@contextmanager
def timed_ops():
    """Calls pass by their thread's clock and fresh arrays time themselves while the context lasts.

    The whole process sees it; threads without a clock compute what they always do.
    """
    makers = {name: timed_maker(getattr(np, name)) for name in TIMED_MAKERS}
    numpy = types.SimpleNamespace(**vars(np) | makers | {"einsum": timed_einsum})
    with NUMPY_LOCK, observable():
        modules = [module for name, module in list(sys.modules.items()) if name.startswith(MODULES_WITH_TIMED_ARRAYS)]
        changed = [module for module in modules if vars(module).get("np") is np]
        try:
            for module in changed:
                module.np = numpy
            yield
        finally:
            for module in changed:
                module.np = np


def timed_maker(make):
    """np.empty, say, that gives a TimedArray."""
    return lambda *args, **more: make(*args, **more).view(TimedArray)


def timed_einsum(subscripts, *operands, **more):
    """np.einsum, which is no ufunc: sums of products, timed as a reduction."""
    entered = time.perf_counter()
    operands, clock = [plain(x) for x in operands], THREAD.clock
    began = time.perf_counter()
    result = np.einsum(subscripts, *operands, **more)
    ended = time.perf_counter()
    if clock is not None:
        clock.charge(REDUCTIONS, 0, entered, began, ended)
    return timed(result)
