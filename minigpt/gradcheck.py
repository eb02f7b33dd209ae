"""Proof that a backward pass is the derivative of its forward pass.

Two methods. The complex step, Im f(x + i h v) / h, has no subtraction and so no cancellation: with h = 1e-30 it is exact to rounding, 14 to 15
digits (Squire and Trapp 1998, "Using complex variables to estimate derivatives of real functions"). The central difference,
(f(x + h v) - f(x - h v)) / 2h, needs no complex numbers and reaches 7 to 10 digits.

Errors are measured as: largest error divided by the larger of this array's largest gradient and 1e-3 of the largest of them all.
"""

import math
import sys
import traceback
import warnings
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from minigpt.errors import MinigptError

STEP = {"complex": 1e-30, "central": 1e-5}
LIMIT = {"complex": 1e-13, "central": 1e-6}  # a larger error fails the report
LARGE = 100_000  # parameters; rounding grows with the number of additions, so a larger model is granted ten times the limit
ELEMENTS = 64  # an array of at most so many numbers is checked one by one
SAMPLES = 8  # of a larger one, so many single numbers and as many random directions are
MEND = "squares as x * x, comparisons and maxima on .real, and no abs, norm, float() or cast to a real dtype"


class NotComplexSafe(MinigptError):
    """A forward function loses the imaginary part, so that the complex step can't judge its backward."""


class Row(NamedTuple):
    """The verdict on one array."""

    name: str
    shape: tuple
    norm: float  # Euclidean norm of the analytic gradient
    checks: int  # numbers and directions compared
    error: float  # of the method, in the measure above
    central: float | None = None  # of central differences, where both methods were asked for


@dataclass
class Report:
    """A list of Rows; str(report) is a table to read."""

    rows: list = field(default_factory=list)
    method: str = "complex"
    limit: float | None = None  # the error above which the report fails; the method's unless given

    def __post_init__(self):
        self.limit = LIMIT["complex" if self.method == "both" else self.method] if self.limit is None else self.limit

    @property
    def max_error(self):
        """The largest error of all rows; NaN where any is."""
        return float(np.max([row.error for row in self.rows])) if self.rows else 0.0

    @property
    def passed(self):
        """Whether every error is within the limit."""
        return self.max_error <= self.limit  # False for NaN

    @property
    def summary(self):
        """The verdict in a line."""
        verdict = "all gradients agree" if self.passed else "NOT all gradients agree"
        return f"{verdict}: largest error {self.max_error:.1e}, limit {self.limit:.0e}, method {self.method}"

    def table(self):
        """The rows as lists of strings, a heading first."""
        both = self.method == "both"
        heading = ["parameter", "shape", "gradient norm", "checks", *(["complex step", "central difference"] if both else ["error"]), "verdict"]
        lines = [heading]
        for row in self.rows:
            shape = "x".join(map(str, row.shape)) or "scalar"
            errors = [f"{row.error:.1e}"] + ([f"{row.central:.1e}"] if both else [])
            lines.append([row.name, shape, f"{row.norm:.3e}", str(row.checks), *errors, "ok" if row.error <= self.limit else "WRONG"])
        return lines

    def __str__(self):
        lines = self.table()
        widths = [max(map(len, column)) for column in zip(*lines)]
        to_the_left = (0, 1, len(widths) - 1)
        aligned = ("  ".join(c.ljust(w) if i in to_the_left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))) for line in lines)
        return "\n".join([line.rstrip() for line in aligned] + [self.summary])


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
    for i, (x, g) in enumerate(zip(inputs, grads)):
        if g is not None and not is_floating(x):
            kind = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
            raise MinigptError(f"input {i} is {kind} and backward returned a gradient for it: only floating arrays have one")

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
    method: "complex", "central", or "both", which judges by the complex step and shows the other beside it; progress: None or a function that wraps
    the iteration over names, such as tqdm. -> Report, a row a parameter, with the limit 1e-13, 1e-12 from 100,000 parameters on.
    MinigptError for a parameter that is empty, not floating or not finite, and for a loss that differs from call to call; NotComplexSafe names
    an op that drops the imaginary part.
    """

    def rng():
        return None if dropout_seed is None else np.random.default_rng(dropout_seed)

    for name, value in model.parameters.items():
        if not is_floating(value):
            raise MinigptError(f"{name} is {value.dtype}, only floating parameters have gradients")
        check_values(name, value)
    double = model.astype(np.float64)
    _, analytic = double.loss_and_grads(ids, targets, rng())
    stepped = {kind: model.astype(kind) for kind in (np.float64, np.complex128)}

    def objective(arrays):
        at = stepped[np.complex128 if any(value.dtype.kind == "c" for value in arrays.values()) else np.float64]
        for name, value in arrays.items():
            at.parameters[name][...] = value
        return at.loss(ids, targets, rng())

    arrays = {name: np.array(value) for name, value in double.parameters.items()}
    report = compare(objective, arrays, analytic, method, np.random.default_rng(seed), step, progress)
    report.limit *= 10 if model.num_parameters >= LARGE else 1
    return report


def compare(objective, arrays, analytic, method, rng, step=None, progress=None):
    """Compare analytic gradients with numeric ones. objective: dict of arrays -> number; -> Report. Errors as for check_gradients."""
    if method not in (*STEP, "both"):
        raise MinigptError(f"method is {method!r}, it must be one of {', '.join(STEP)}, both")
    methods = tuple(STEP) if method == "both" else (method,)
    check_deterministic(objective, arrays)
    largest = max((abs(g).max() for g in analytic.values()), default=0.0)
    report = Report(method=method)
    for name in progress(analytic) if progress else analytic:
        g = np.asarray(analytic[name])
        if g.shape != arrays[name].shape:
            raise MinigptError(f"{name}: the gradient has shape {g.shape}, the array {arrays[name].shape}")
        vs = list(directions(g, rng))
        scale = max(abs(g).max(), 1e-3 * largest) or 1.0
        errors = []
        for m in methods:
            h = STEP[m] if step is None else step
            off = [float(abs((g * v).sum() - DERIVATIVES[m](objective, arrays, name, v, h))) for v in vs]
            errors.append(float(np.max(off)) / scale)  # np.max keeps a NaN, which fails
        if methods[0] == "complex" and not errors[0] <= 1e3 * report.limit:
            check_complex_safe(objective, arrays, name, g, vs, errors[0] * scale)
        report.rows.append(Row(name, g.shape, math.sqrt((g * g).sum()), len(vs), *errors))
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
    """Im f(x + i h v) / h. All arrays are complex, so that a forward may write in place. NotComplexSafe where it can't take such input."""
    stepped = {n: x.astype(np.complex128) for n, x in arrays.items()}
    stepped[name].imag = h * v
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            return np.imag(objective(stepped)) / h
    except (TypeError, np.exceptions.ComplexWarning) as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{where.name} ({where.filename.replace(chr(92), '/').split('/')[-1]}, line {where.lineno}) can't take complex input: {error}"
        raise NotComplexSafe(f"{text}; {MEND}") from None


def central_difference(objective, arrays, name, v, h):
    """(f(x + h v) - f(x - h v)) / 2h."""
    plus, minus = ({**arrays, name: arrays[name] + s * h * v} for s in (1, -1))
    return (objective(plus) - objective(minus)) / (2 * h)


DERIVATIVES = {"complex": complex_step, "central": central_difference}


def check_deterministic(objective, arrays):
    """MinigptError where two calls at one point differ."""
    a, b = objective(arrays), objective(arrays)
    if a != b and not (np.isnan(a) and np.isnan(b)):
        raise MinigptError(f"the function is not deterministic: two calls gave {a!r} and {b!r}; make its generator anew, from one seed, at each call")


def check_complex_safe(objective, arrays, name, g, vs, error):
    """NotComplexSafe where the complex step is wrong about an array and not the gradient: central differences side with the gradient."""
    off = [(abs((g * v).sum() - central_difference(objective, arrays, name, v, STEP["central"])), v) for v in vs]
    if max(o for o, _ in off) < 1e-2 * error:
        op = find_dropper(objective, arrays, name, max(off, key=lambda pair: abs((g * pair[1]).sum()))[1])
        raise NotComplexSafe(f"{name}: the gradient agrees with central differences, but {op} drops the imaginary part; {MEND}")


def find_dropper(objective, arrays, name, v):
    """The first function that is given an array with an imaginary part and returns arrays without any. -> its name and place, for a message."""
    stepped = {n: x.astype(np.complex128) for n, x in arrays.items()}
    stepped[name].imag = STEP["complex"] * v
    found = []

    def watch(frame, event, result):
        code = frame.f_code
        if event == "return" and not found and code is not objective.__code__:
            given = [frame.f_locals[n] for n in code.co_varnames[: code.co_argcount] if n in frame.f_locals]
            made = arrays_in(result[0] if type(result) is tuple and result else result)  # y of (y, cache)
            if made and any(np.any(np.imag(x)) for x in arrays_in(given)) and not any(np.any(np.imag(x)) for x in made):
                found.append(f"{code.co_name} ({code.co_filename.replace(chr(92), '/').split('/')[-1]}, line {code.co_firstlineno})")

    previous = sys.getprofile()
    sys.setprofile(watch)
    try:
        objective(stepped)
    finally:
        sys.setprofile(previous)
    return found[0] if found else "its forward function"


def arrays_in(value):
    """The arrays of floating or complex numbers in nested tuples and lists."""
    if isinstance(value, tuple | list):
        return [array for part in value for array in arrays_in(part)]
    return [value] if isinstance(value, np.ndarray | np.inexact) and value.dtype.kind in "fc" else []


def errors_by_step(model, ids, targets, seed=0, exponents=range(31)):
    """Error of both methods for steps 10^-e, along one random direction of all parameters: the V of central differences, the flat complex step.

    -> steps (n,), dict of method -> relative errors (n,). Central differences end where the step is too small to change a parameter.
    """
    double, rng = model.astype(np.float64), np.random.default_rng(seed)
    _, grads = double.loss_and_grads(ids, targets)
    x, v = double.store.vector.copy(), rng.choice([-1.0, 1.0], double.num_parameters)
    exact = np.concatenate([g.ravel() for g in grads.values()]) @ v
    complex_model = model.astype(np.complex128)

    def loss(at):
        m = complex_model if at.dtype.kind == "c" else double
        m.store.vector[:] = at
        return m.loss(ids, targets)

    steps, errors = [10.0**-e for e in exponents], {"central": [], "complex": []}
    for h in steps:
        with np.errstate(all="ignore"):
            errors["central"].append(abs((loss(x + h * v) - loss(x - h * v)) / (2 * h) - exact) / abs(exact))
            errors["complex"].append(abs(loss(x + 1j * h * v).imag / h - exact) / abs(exact))
    return np.array(steps), {method: np.array(values, np.float64) for method, values in errors.items()}


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
