"""The verdict of a gradient check: a row an array, and remarks on what the functions did."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from minigpt.tables import text_table

LIMIT = {"complex": 1e-13, "central": 1e-6}  # a larger error fails the report
GAP_LIMIT = 1e-6  # a wider gap between complex step and central difference fails it, too


class Row(NamedTuple):
    """What was measured of one array."""

    name: str
    shape: tuple
    norm: float  # Euclidean norm of the analytic gradient
    checks: int  # numbers and directions compared
    error: float  # of the method, in the measure above
    central: float | None = None  # of central differences, where both methods were asked for
    gap: float | None = (
        None  # between the two methods along a random direction; None where it was not or could not be judged
    )


@dataclass
class Report:
    """Rows and remarks; str(report) is a table to read.

    passed says that every gradient is right: its error is within the limit, and the complex step
    that says so is confirmed by central differences. remarks are lines on what forward or backward
    did to things that are not theirs (wrote into an input, its dy, its cache): a gradient may be
    right all the same, so a remark does not fail the report.
    """

    rows: list = field(default_factory=list)
    method: str = "complex"
    limit: float | None = None  # the error above which the report fails; the method's unless given
    remarks: list = field(default_factory=list)

    def __post_init__(self):
        self.limit = LIMIT["complex" if self.method == "both" else self.method] if self.limit is None else self.limit

    @property
    def max_error(self):
        """The largest error of all rows; NaN where any is."""
        return float(np.max([row.error for row in self.rows])) if self.rows else 0.0

    @property
    def passed(self):
        """Whether every gradient is right: there are some, no row is wrong, and in none do the two
        methods disagree.
        """
        return bool(self.rows) and all(self.verdict(row) == "ok" for row in self.rows)

    def verdict(self, row):
        """ok, WRONG, or METHODS DISAGREE where the error is within the limit and central
        differences contradict the complex step.
        """
        if not row.error <= self.limit:  # NaN is wrong
            return "WRONG"
        return "ok" if row.gap is None or row.gap <= GAP_LIMIT else "METHODS DISAGREE"

    @property
    def summary(self):
        """The verdict in a line."""
        verdict = "all gradients agree" if self.passed else "NOT all gradients agree"
        apart = [f"{row.name} by {row.gap:.1e}" for row in self.rows if self.verdict(row) == "METHODS DISAGREE"]
        apart = f" (complex step and central differences disagree: {', '.join(apart)})" if apart else ""
        return f"{verdict}{apart}: largest error {self.max_error:.1e}, limit {self.limit:.0e}, method {self.method}"

    def table(self):
        """The rows as lists of strings, a heading first."""
        both = self.method == "both"
        errors = ["complex step", "central difference"] if both else ["error"]
        lines = [["parameter", "shape", "gradient norm", "checks", *errors, "verdict"]]
        for row in self.rows:
            shape = "x".join(map(str, row.shape)) or "scalar"
            errors = [f"{row.error:.1e}"] + ([f"{row.central:.1e}"] if both else [])
            lines.append([row.name, shape, f"{row.norm:.3e}", str(row.checks), *errors, self.verdict(row)])
        return lines

    def __str__(self):
        lines = self.table()
        table = text_table(lines, left=(0, 1, len(lines[0]) - 1))
        return "\n".join([*table, self.summary, *(f"remark: {remark}" for remark in self.remarks)])
