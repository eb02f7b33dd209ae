"""Proof that a backward pass is the derivative of its forward pass.

Two methods. The complex step, Im f(x + i h v) / h, has no subtraction and so no cancellation: with h = 1e-30 it is exact to rounding, 14 to 15
digits (Squire and Trapp 1998, "Using complex variables to estimate derivatives of real functions"). The central difference,
(f(x + h v) - f(x - h v)) / 2h, needs no complex numbers and reaches 7 to 10 digits.

Errors are measured as: largest error divided by the larger of this array's largest gradient and 1e-3 of the largest of them all.
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from minigpt.errors import MinigptError

STEP = {"complex": 1e-30, "central": 1e-5}
LIMIT = {"complex": 1e-13, "central": 1e-6}  # a larger error fails the report
ELEMENTS = 64  # an array of at most so many numbers is checked one by one
SAMPLES = 8  # of a larger one, so many single numbers and as many random directions are


class Row(NamedTuple):
    """The verdict on one array."""

    name: str
    shape: tuple
    norm: float  # Euclidean norm of the analytic gradient
    checks: int  # numbers and directions compared
    error: float  # in the measure above


@dataclass
class Report:
    """A list of Rows; str(report) is a table to read."""

    rows: list = field(default_factory=list)
    method: str = "complex"

    @property
    def max_error(self):
        """The largest error of all rows; NaN where any is."""
        return float(np.max([row.error for row in self.rows])) if self.rows else 0.0

    @property
    def limit(self):
        """The error above which the report fails."""
        return LIMIT[self.method]

    @property
    def passed(self):
        """Whether every error is within the limit."""
        return self.max_error <= self.limit  # False for NaN

    def __str__(self):
        width = max([len(row.name) for row in self.rows] + [9])
        lines = [f"{'parameter':<{width}}  {'shape':<14} {'gradient norm':>13} {'checks':>6} {'error':>9}  verdict"]
        for row in self.rows:
            verdict = "ok" if row.error <= self.limit else "WRONG"
            shape = "x".join(map(str, row.shape)) or "scalar"
            lines.append(f"{row.name:<{width}}  {shape:<14} {row.norm:>13.3e} {row.checks:>6} {row.error:>9.1e}  {verdict}")
        verdict = "all gradients agree" if self.passed else "NOT all gradients agree"
        lines.append(f"{verdict}: largest error {self.max_error:.1e}, limit {self.limit:.0e}, method {self.method}")
        return "\n".join(lines)


def check_op(forward, backward, inputs, method="complex", seed=0, step=None):
    """Check an op's backward against its forward.

    forward(*inputs) -> (y, cache), or a tuple of arrays in place of y; backward(dy, cache) -> the gradient of the one input, or a tuple of one
    for each input, None where there is none; inputs: a tuple of arrays. The output is contracted with a random dy. Inputs that are not
    floating (ids, masks) are handed through unchecked. -> Report, a row an input. MinigptError where an input is empty or not finite, or where
    backward says nothing of a floating input.
    """
    inputs = tuple(np.array(x, np.float64) if np.asarray(x).dtype.kind == "f" else x for x in inputs)
    for i, x in enumerate(inputs):
        check_values(f"input {i}", x)
    y, cache = forward(*inputs)
    rng = np.random.default_rng([seed, 1])  # not the stream of default_rng(seed), which the caller's inputs may come from: with dy = x, x^T dy is
    # symmetric and a transposed dweight would pass
    dy = tuple(rng.standard_normal(part.shape) for part in y) if isinstance(y, tuple) else rng.standard_normal(np.shape(y))
    grads = backward(dy, cache)
    if not isinstance(grads, tuple):
        grads = (grads,)
    if len(grads) > len(inputs):
        raise MinigptError(f"backward returned {len(grads)} gradients for {len(inputs)} inputs")
    missed = [i for i, x in enumerate(inputs) if is_floating(x) and i >= len(grads)]
    if missed:  # a row that is not there looks like one that passed
        raise MinigptError(f"backward returned {len(grads)} gradients and none for input {missed[0]}, it must return None where there is none")

    def objective(arrays):
        outputs = forward(*(arrays.get(f"input {i}", x) for i, x in enumerate(inputs)))[0]
        if isinstance(outputs, tuple):
            return sum((part * d).sum() for part, d in zip(outputs, dy))
        return (outputs * dy).sum()

    arrays = {f"input {i}": x for i, x in enumerate(inputs) if is_floating(x)}
    analytic = {f"input {i}": g for i, g in enumerate(grads) if f"input {i}" in arrays and g is not None}
    if not analytic:
        raise MinigptError(f"none of the {len(inputs)} inputs is floating and has a gradient: there is nothing to check")
    return compare(objective, arrays, analytic, method, rng, step)


def check_gradients(model, ids, targets, method="complex", seed=0, dropout_seed=None, step=None, progress=None):
    """Check every parameter's gradient of a model's loss.

    The model is taken to float64, its weights as they are. Dropout is on where dropout_seed is given, the same in every evaluation.
    method: "complex" or "central"; progress: None or a function that wraps the iteration over names, such as tqdm.
    -> Report, a row a parameter. MinigptError for a parameter that is empty or not finite.
    """

    def rng():
        return None if dropout_seed is None else np.random.default_rng(dropout_seed)

    for name, value in model.parameters.items():
        check_values(name, value)
    double = model.astype(np.float64)
    _, analytic = double.loss_and_grads(ids, targets, rng())
    stepped = model.astype(np.complex128 if method == "complex" else np.float64)

    def objective(arrays):
        for name, value in arrays.items():
            stepped.parameters[name][...] = value
        return stepped.loss(ids, targets, rng())

    arrays = {name: np.array(value) for name, value in double.parameters.items()}
    return compare(objective, arrays, analytic, method, np.random.default_rng(seed), step, progress)


def compare(objective, arrays, analytic, method, rng, step=None, progress=None):
    """Compare analytic gradients with numeric ones. objective: dict of arrays -> number; -> Report."""
    if method not in STEP:
        raise MinigptError(f"method is {method!r}, it must be one of {', '.join(STEP)}")
    h = STEP[method] if step is None else step
    derivative = complex_step if method == "complex" else central_difference
    largest = max((abs(g).max() for g in analytic.values()), default=0.0)
    report = Report(method=method)
    for name in progress(analytic) if progress else analytic:
        g = np.asarray(analytic[name])
        if g.shape != arrays[name].shape:
            raise MinigptError(f"{name}: the gradient has shape {g.shape}, the array {arrays[name].shape}")
        errors = [float(abs((g * v).sum() - derivative(objective, arrays, name, v, h))) for v in directions(g, rng)]
        scale = max(abs(g).max(), 1e-3 * largest)
        error = float(np.max(errors)) / (scale if scale > 0 else 1.0)  # np.max keeps a NaN, which fails
        report.rows.append(Row(name, g.shape, math.sqrt((g * g).sum()), len(errors), error))
    return report


def directions(g, rng):
    """The directions to compare along: every axis of a small array; of a large one its largest entries' axes, random axes, random signs."""
    if g.size <= ELEMENTS:
        axes = range(g.size)
    else:
        axes = [*np.argsort(abs(g), axis=None)[-SAMPLES // 2 :], *rng.integers(0, g.size, SAMPLES // 2)]
    for at in axes:
        v = np.zeros(g.size)
        v[at] = 1
        yield v.reshape(g.shape)
    if g.size > ELEMENTS:
        for _ in range(SAMPLES):
            yield rng.choice([-1.0, 1.0], g.shape)


def complex_step(objective, arrays, name, v, h):
    """Im f(x + i h v) / h. All arrays are complex, so that a forward may write in place."""
    stepped = {n: x.astype(np.complex128) for n, x in arrays.items()}
    stepped[name].imag = h * v
    return objective(stepped).imag / h


def central_difference(objective, arrays, name, v, h):
    """(f(x + h v) - f(x - h v)) / 2h."""
    plus, minus = ({**arrays, name: arrays[name] + s * h * v} for s in (1, -1))
    return (objective(plus) - objective(minus)) / (2 * h)


def is_floating(x):
    """Whether x is an array of floating numbers."""
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def check_values(name, x):
    """MinigptError where a floating array is empty or not finite."""
    if is_floating(x):
        if x.size == 0:
            raise MinigptError(f"{name} is empty, shape {x.shape}: there is nothing to check")
        if not np.isfinite(x).all():
            raise MinigptError(f"{name} holds {np.count_nonzero(~np.isfinite(x))} values that are not finite")
