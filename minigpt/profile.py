"""Where the time of a training step goes, op by op: matrix products, element-wise passes, reductions, and the rest.

The ops hold no line of this. A copy of the trainer runs the very same code on arrays of a subclass, whose `__array_ufunc__` times every ufunc
(`@` and `.sum()` are ufuncs too). Meanwhile the names of the ops stand for functions that note which op is at work, and in these modules `np.empty`
and its kin give such arrays as well. A second copy runs without any of this, in turn with the first: it shows what the profile costs, and that it
changes no bit. (`sys.setprofile` could do the names' part, but is told of every builtin too: of one thread, 13% of a step where this takes 6%.)

    from minigpt.profile import profile_steps
    print(profile_steps(trainer))
"""

import copy
import functools
import json
import statistics
import sys
import threading
import time
import types
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from minigpt.errors import MinigptError
from minigpt.layers.store import Store
from minigpt.ops.activations import ACTIVATIONS
from minigpt.training.trainer import make_optimizer

KINDS = ("matmul", "elementwise", "reductions", "other")  # the fields of OpTime that are seconds
WARM_UP = 3  # steps of either copy before anything counts
TURN = 4  # steps of one copy before it is the other's turn
CUBE = 1024  # rows and columns of the product that measures the machine
WAITING = "waiting"
PARTS = ("ops", "layers", "optim")  # where fresh arrays are made
ONE_AT_A_TIME = threading.Lock()  # two profiles at once would put back each other's changes
BETWEEN = ("layers", "models", "training")  # rows that are no op
CALLS, MATMUL, ELEMENTWISE, REDUCTIONS, OTHER, FLOPS = range(6)  # places in the row of a Clock


class OpTime(NamedTuple):
    """What one op takes in a step, summed over threads. An op within an op has a row of its own, and its time is not in the outer one's."""

    op: str  # a function of ops, optim or data; "layers", "models" or "training" for what lies between them
    calls: float  # a step
    matmul: float  # seconds a step in products of matrices
    elementwise: float  # ... in ufuncs
    reductions: float  # ... in sums, maxima and the like, and in products with a single row or column, which are sums
    other: float  # ... in copies, indexing, sorting, random numbers and Python
    flops: float  # of the matrix products of a step, two for each multiplication with its addition

    @property
    def seconds(self):
        """All kinds together."""
        return self.matmul + self.elementwise + self.reductions + self.other


@dataclass(frozen=True)
class Profile:
    """Times by op, as a table where printed. Shares are of the threads' time: threads times wall-clock, the profile's own work left out."""

    rows: list  # of OpTime, the longest first
    steps: int  # that were timed
    threads: int
    waiting: float  # thread-seconds a step in which a thread had nothing to do
    step_seconds: float  # wall-clock of a step with the profile, the median
    plain_step_seconds: float  # without
    peak: float  # FLOP/s of one thread alone in a product of two 1024-cubes

    @property
    def seconds(self):
        """Thread-seconds a step: all rows, and waiting."""
        return sum(row.seconds for row in self.rows) + self.waiting

    def share(self, kind):
        """The part of the threads' time that one of KINDS takes, of 1."""
        return sum(getattr(row, kind) for row in self.rows) / self.seconds

    @property
    def overhead(self):
        """How much longer a step takes with the profile: 0.1 for a tenth."""
        return self.step_seconds / self.plain_step_seconds - 1

    def __str__(self):
        every = OpTime("all of it", 0, *(sum(getattr(row, kind) for row in self.rows) for kind in KINDS), sum(row.flops for row in self.rows))
        lines = [("op", "calls", "ms", "share", "matmul", "element-wise", "reductions", "other", "GFLOP/s", "of peak")]
        lines += [self.cells(row, row.seconds, "" if row.op in BETWEEN else f"{row.calls:g}") for row in self.rows]
        lines += [self.cells(OpTime(WAITING, 0, 0, 0, 0, 0, 0), self.waiting), self.cells(every, self.seconds)]
        widths = [max(map(len, column)) for column in zip(*lines)]
        table = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines]
        table.insert(len(table) - 1, "-" * max(map(len, table)))
        shares = ", ".join(f"{name} {self.share(kind):.0%}" for kind, name in zip(KINDS, ("matrix products", "element-wise", "reductions", "other")))
        step, plain_step, peak = 1e3 * self.step_seconds, 1e3 * self.plain_step_seconds, self.peak / 1e9
        return "\n".join(
            [
                *table,
                "",
                f"{shares}, {WAITING} {self.waiting / self.seconds:.0%}",
                f"ms and shares: of thread time, {self.threads} x wall-clock, a step, mean of {self.steps}; GFLOP/s: of the matrix products",
                "layers, models, training: between the ops (residual sums, gradients added into their store, shards added up)",
                f"peak: {peak:.1f} GFLOP/s, one thread alone in a product of two {CUBE}-cubes",
                f"a step takes {plain_step:.1f} ms, with the profile {step:.1f} ms ({self.overhead:+.0%}), medians; both end in the same bits",
            ]
        )

    def cells(self, row, seconds, calls=""):
        """One line of the table as texts."""
        kinds = [f"{1e3 * getattr(row, kind):.2f}" if getattr(row, kind) else "" for kind in KINDS]
        rate = row.flops / row.matmul if row.flops else None
        rates = ("", "") if rate is None else (f"{rate / 1e9:.1f}", f"{rate / self.peak:.0%}")
        return row.op, calls, f"{1e3 * seconds:.2f}", f"{seconds / self.seconds:.1%}", *kinds, *rates

    def to_json(self):
        """The figures as a JSON text: the fields of Profile, each row an object; seconds and FLOPs a step."""
        values = {name: getattr(self, name) for name in ("steps", "threads", "waiting", "step_seconds", "plain_step_seconds", "peak")}
        shares = {kind: self.share(kind) for kind in KINDS} | {WAITING: self.waiting / self.seconds}
        return json.dumps(values | {"shares": shares, "rows": [row._asdict() for row in self.rows]}, indent=1) + "\n"


def profile_steps(trainer, steps=20):
    """Time the next steps of a Trainer by op -> Profile. The trainer is left as it was; they are run on copies of its numbers.

    MinigptError for fewer than 1 step, or where profiled and plain steps did not end in the same bits.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise MinigptError(f"profile: steps is {steps!r}, it must be a whole number of at least 1")
    reference = copied(trainer, np.ndarray)
    with timed_ops():  # layers may keep an op that they were made with
        profiled = copied(trainer, TimedArray)
    reference_seconds, seconds, clocks = [], [], []
    peaks = [gemm_peak(trainer)]
    run_plain(reference, WARM_UP)
    run_timed(profiled, WARM_UP)
    for done in range(0, steps, TURN):
        count = min(TURN, steps - done)
        reference_seconds += run_plain(reference, count)
        more_seconds, more_clocks = run_timed(profiled, count)
        seconds += more_seconds
        clocks += more_clocks
    peaks.append(gemm_peak(trainer))  # of a busy machine, the better of two moments
    if reference.model.store.vector.tobytes() != profiled.model.store.vector.tobytes():
        raise MinigptError(f"profile: after {WARM_UP + steps} steps the profiled parameters are not those of plain steps")
    threads, rows = trainer.workers.threads, merged(clocks, steps)
    waiting = (threads * sum(seconds) - sum(clock.own for clock in clocks)) / steps - sum(row.seconds for row in rows)
    return Profile(rows, steps, threads, max(0.0, waiting), statistics.median(seconds), statistics.median(reference_seconds), max(peaks))


def copied(trainer, kind):
    """A trainer of the same settings and threads at the same step, on copies of its numbers: arrays of a kind, np.ndarray or TimedArray."""
    model, twin = trainer.model, copy.copy(trainer)
    twin.model = type(model)(model.config, store=Store(model.store.shapes, model.store.vector.copy().view(kind)))
    twin.optimizer = make_optimizer(twin.model, trainer.config)  # np.zeros_like keeps the kind
    for name, value in trainer.optimizer.state.items():
        twin.optimizer.state[name][...] = value
    twin.gradients = [Store(gradient.shapes, np.zeros_like(twin.model.store.vector)) for gradient in trainer.gradients]
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
    """Take steps on arrays that time their ufuncs -> the seconds of each, the Clocks of all threads."""
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
    """FLOP/s of a product of two 1024-cubes of the model's dtype on one thread, the best of a few."""
    a = np.ones((CUBE, CUBE), trainer.model.dtype)
    product, best = np.empty_like(a), np.inf
    with trainer.workers.one_blas_thread():
        for _ in range(tries):
            began = time.perf_counter()
            np.matmul(a, a, out=product)
            best = min(best, time.perf_counter() - began)
    return 2 * CUBE**3 / best


def merged(clocks, steps):
    """The rows of several clocks added up, a step, the longest first; waiting is left out."""
    total = {}
    for clock in clocks:
        for op, numbers in clock.rows.items():
            total[op] = [a + b for a, b in zip(total[op], numbers)] if op in total else numbers
    rows = [OpTime(op, *(number / steps for number in numbers)) for op, numbers in total.items() if op != WAITING]
    return sorted(rows, key=lambda row: -row.seconds)


class Clock:
    """Times one thread: which op is at work, and in what kind of work its time goes.

    Each timed op and each ufunc of a TimedArray reports here; what passes between two reports is "other" of the op at work.
    """

    def __init__(self, op):
        self.rows = {}  # op -> [calls, seconds of each of KINDS, FLOPs]
        self.own = 0.0  # seconds that the reports take, which are in no row
        self.row = self.rows[op] = [0, 0.0, 0.0, 0.0, 0.0, 0]
        self.stack = [(op, self.row)]
        self.started = self.mark = time.perf_counter()  # mark: up to here all time is in a row

    def push(self, op):
        """An op begins; the time so far is the outer one's."""
        now = time.perf_counter()
        self.row[OTHER] += now - self.mark
        self.row = self.rows.setdefault(op, [0, 0.0, 0.0, 0.0, 0.0, 0])
        self.row[CALLS] += 1
        self.stack.append((op, self.row))
        self.mark = time.perf_counter()
        self.own += self.mark - now

    def pop(self):
        """The op at work ends."""
        now = time.perf_counter()
        self.row[OTHER] += now - self.mark
        self.stack.pop()
        self.row = self.stack[-1][1]
        self.mark = time.perf_counter()
        self.own += self.mark - now

    def charge(self, kind, flops, entered, began, ended):
        """A piece of work has run from began to ended; what else passed since entered are the reports themselves."""
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


class Local(threading.local):
    """What times this thread: a Clock, or None."""

    clock = None


LOCAL = Local()


@contextmanager
def timing(op, clocks):
    """Time what this thread does, to begin with as part of an op -> Clock, which is added to clocks at the end."""
    outer, LOCAL.clock = LOCAL.clock, Clock(op)
    try:
        yield LOCAL.clock
    finally:
        LOCAL.clock.stop()
        clocks.append(LOCAL.clock)
        LOCAL.clock = outer


def timed_function(op, function):
    """A function that reports to the thread's clock, where there is one."""

    @functools.wraps(function)
    def call(*args, **more):
        clock = LOCAL.clock
        if clock is None:
            return function(*args, **more)
        clock.push(op)
        try:
            return function(*args, **more)
        finally:
            clock.pop()

    return call


class TimedArray(np.ndarray):
    """An array that times its ufuncs for the clock of the thread; in all else, to the bit, what np.ndarray is."""

    __array_priority__ = 1  # stacked with others, it gives its own kind

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **more):
        entered = time.perf_counter()
        inputs = [plain(x) for x in inputs]
        if out is not None:
            more["out"] = tuple([plain(x) for x in out])
        if "where" in more:
            more["where"] = plain(more["where"])
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        clock = LOCAL.clock
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
    """What a product is: of matrices, or, with a single row or column on one side, a sum -> MATMUL or REDUCTIONS, FLOPs."""
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
    """The workers of a trainer, with a clock on each of their threads, and one for what the calling thread takes on."""

    def __init__(self, workers, clocks):
        self.workers, self.clocks = workers, clocks
        self.threads, self.one_blas_thread = workers.threads, workers.one_blas_thread

    def map(self, function, parts):
        """Workers.map."""
        parts = list(parts)
        if self.workers.pool is None or len(parts) < 2:
            return self.workers.map(function, parts)

        clock = LOCAL.clock
        op = clock.stack[-1][0]  # Muon.step, say, which shares its matrices out

        def work(part):
            with timing(op, self.clocks):
                return function(part)

        clock.push(WAITING)
        try:
            return self.workers.map(work, parts)
        finally:
            clock.pop()


@contextmanager
def timed_ops():
    """For as long as the context lasts, ops report to their thread's clock, and np.empty and its kin give TimedArrays in ops, layers and optim.

    The whole process sees it; threads without a clock compute what they always do.
    """
    with ONE_AT_A_TIME:
        changes = list(instrumentation())
        before = [(thing, name, vars(thing)[name]) for thing, name, _ in changes]
        try:
            for change in changes:
                setattr(*change)
            yield
        finally:
            for change in before:
                setattr(*change)


def instrumentation():
    """What timed_ops sets: yields (module or class, name, value)."""
    modules = {name: module for name, module in list(sys.modules.items()) if name.split(".")[0] == "minigpt" and name != __name__}
    instead = {id(function): timed_function(op, function) for op, function in functions(modules)}
    instead[id(ACTIVATIONS)] = {name: tuple(instead.get(id(function), function) for function in pair) for name, pair in ACTIVATIONS.items()}
    makers = {name: timed_maker(getattr(np, name)) for name in ("empty", "zeros", "ones")}  # not full, whose results ops.reductions keeps for good
    numpy = types.SimpleNamespace(**vars(np) | makers | {"einsum": timed_einsum})
    for name, module in modules.items():
        yield from ((module, attribute, instead[id(value)]) for attribute, value in vars(module).items() if id(value) in instead)
        if part_of(name) in PARTS and vars(module).get("np") is np:
            yield module, "np", numpy
    yield from ((owner, name, timed_function(op, function)) for op, owner, name, function in methods(modules))


def timed_maker(make):
    """np.empty, say, that gives a TimedArray."""
    return lambda *args, **more: make(*args, **more).view(TimedArray)


def timed_einsum(subscripts, *operands, **more):
    """np.einsum, which is no ufunc: sums of products, timed as a reduction."""
    entered = time.perf_counter()
    operands, clock = [plain(x) for x in operands], LOCAL.clock
    began = time.perf_counter()
    result = np.einsum(subscripts, *operands, **more)
    ended = time.perf_counter()
    if clock is not None:
        clock.charge(REDUCTIONS, 0, entered, began, ended)
    return timed(result)


def part_of(module):
    """minigpt.ops.linear -> ops."""
    return module.partition(".")[2].partition(".")[0]


def functions(modules):
    """The functions that are an op: yields (op, function)."""
    for module, names in modules.items():
        for name, value in vars(names).items():
            if isinstance(value, types.FunctionType) and value.__module__ == module:
                op = name.removesuffix("_forward").removesuffix("_backward")
                a_pair = part_of(module) == "ops" and op != name and {f"{op}_forward", f"{op}_backward"} <= vars(names).keys()
                if a_pair or name in ("newton_schulz", "clip_by_norm", "draw_batch"):
                    yield name, value


def methods(modules):
    """The methods that are an op, or hold the ops together: yields (op, class, name, function)."""
    wanted = {"layers": ("forward", "backward"), "models": ("add_gradients",), "optim": ("step",)}
    for module, names in modules.items():
        part = part_of(module)
        owners = [value for value in vars(names).values() if isinstance(value, type) and value.__module__ == module]
        for owner in owners:
            for name in set(wanted.get(part, ())) & set(vars(owner)):
                yield f"{owner.__name__}.step" if part == "optim" else part, owner, name, vars(owner)[name]
