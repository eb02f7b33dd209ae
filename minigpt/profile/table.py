"""The times of a profile, and the table that they are printed as."""

import json
from dataclasses import dataclass
from typing import NamedTuple

from minigpt.tables import text_table

KINDS = ("matmul", "elementwise", "reductions", "other")  # the fields of OpTime that are seconds
WAITING = "waiting"
PARTS_BETWEEN_OPS = ("layers", "models", "training")  # rows that are no op
GEMM_SIZE = 1024  # rows and columns of the product that measures the machine


class OpTime(NamedTuple):
    """What one op takes in a step, summed over threads; an op within an op has a row of its own."""

    op: str  # a function of ops, optim or data; of PARTS_BETWEEN_OPS for what lies between them
    calls: float  # a step
    matmul: float  # seconds a step in products of matrices
    elementwise: float  # ... in ufuncs
    reductions: float  # ... in sums, maxima, products with a single row or column, which are sums
    other: float  # ... in copies, indexing, sorting, random numbers and Python
    flops: float  # of the matrix products of a step, two for each multiplication with its addition

    @property
    def seconds(self):
        """All kinds together."""
        return self.matmul + self.elementwise + self.reductions + self.other


@dataclass(frozen=True)
class Profile:
    """Times by op, as a table where printed.

    Shares are of the threads' time: threads times wall-clock, the profile's own work left out.
    """

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
        seconds = [sum(getattr(row, kind) for row in self.rows) for kind in KINDS]
        every = OpTime("all of it", 0, *seconds, sum(row.flops for row in self.rows))
        lines = [("op", "calls", "ms", "share", "matmul", "element-wise", "reductions", "other", "GFLOP/s", "of peak")]
        for row in self.rows:
            lines.append(self.cells(row, row.seconds, "" if row.op in PARTS_BETWEEN_OPS else f"{row.calls:g}"))
        lines += [self.cells(OpTime(WAITING, 0, 0, 0, 0, 0, 0), self.waiting), self.cells(every, self.seconds)]
        table = text_table(lines)
        table.insert(len(table) - 1, "-" * max(map(len, table)))
        names = ("matrix products", "element-wise", "reductions", "other")
        shares = ", ".join(f"{name} {self.share(kind):.0%}" for kind, name in zip(KINDS, names))
        step, plain_step, peak = 1e3 * self.step_seconds, 1e3 * self.plain_step_seconds, self.peak / 1e9
        return "\n".join(
            [
                *table,
                "",
                f"{shares}, {WAITING} {self.waiting / self.seconds:.0%}",
                f"ms and shares: of thread time, {self.threads} x wall-clock, a step, mean of {self.steps}; "
                "GFLOP/s: of the matrix products",
                f"{', '.join(PARTS_BETWEEN_OPS)}: between the ops "
                "(residual sums, gradients added into their store, shards added up)",
                f"peak: {peak:.1f} GFLOP/s, one thread alone in a product of two {GEMM_SIZE}-cubes",
                f"a step takes {plain_step:.1f} ms, with the profile {step:.1f} ms ({self.overhead:+.0%}), medians; "
                "both end in the same bits",
            ]
        )

    def cells(self, row, seconds, calls=""):
        """One line of the table as texts."""
        kinds = [f"{1e3 * getattr(row, kind):.2f}" if getattr(row, kind) else "" for kind in KINDS]
        rate = row.flops / row.matmul if row.flops else None
        rates = ("", "") if rate is None else (f"{rate / 1e9:.1f}", f"{rate / self.peak:.0%}")
        return row.op, calls, f"{1e3 * seconds:.2f}", f"{seconds / self.seconds:.1%}", *kinds, *rates

    def to_json(self):
        """The figures as JSON: the fields of Profile, rows as objects; seconds and FLOPs a step."""
        names = ("steps", "threads", "waiting", "step_seconds", "plain_step_seconds", "peak")
        values = {name: getattr(self, name) for name in names}
        shares = {kind: self.share(kind) for kind in KINDS} | {WAITING: self.waiting / self.seconds}
        return json.dumps(values | {"shares": shares, "rows": [row._asdict() for row in self.rows]}, indent=1) + "\n"
