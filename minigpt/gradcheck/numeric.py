"""Numeric derivatives, and the comparison of analytic gradients with them."""

import math
import numbers
import traceback
import warnings

import numpy as np

from minigpt.errors import MinigptError
from minigpt.gradcheck.cross_check import central_difference, methods_gap
from minigpt.gradcheck.droppers import REMEDY, NotComplexSafe, find_dropper
from minigpt.gradcheck.handing import as_gradient
from minigpt.gradcheck.report import GAP_LIMIT, LIMIT, Report, Row

STEP = {"complex": 1e-30, "central": 1e-5}
ELEMENTS = 64  # an array of at most so many numbers is checked one by one
SAMPLES = 8  # of a larger one, so many single numbers and as many random directions are
UNDERFLOW = 1e-30  # a slope of this part of the function's value is none
ROUNDING = 1e-12  # two calls at one point may differ by so much of their size, where the memory they were given lies differently


def compare(objective, arrays, analytic, method="complex", rng=None, step=None, progress=None, *, size=0.0):
    """Compare analytic gradients with numeric ones.

    objective: dict of name -> array to a number, of which each call is handed copies; analytic: name -> gradient, of some or all of the
    arrays; size: of the terms whose sum the number is, where that is larger than the number: it says how much rounding there is.
    -> Report. Errors as for check_gradients.
    """
    methods = check_method(method, step)
    rng = np.random.default_rng(0) if rng is None else rng
    arrays = {name: np.array(x) for name, x in arrays.items()}
    analytic = {name: as_gradient(name, g) for name, g in analytic.items()}
    for name, g in analytic.items():
        if g.shape != arrays[name].shape:
            raise MinigptError(f"{name}: the gradient has shape {g.shape}, the array {arrays[name].shape}")

    def value(at):
        return objective({name: np.array(x) for name, x in at.items()})

    start = check_deterministic(value, arrays, size)
    size = max(size, abs(start))
    report = Report(method=method)
    if not analytic:
        raise MinigptError("there is no gradient to check")
    largest = max(float(abs(g).max()) for g in analytic.values())
    norms = {name: math.sqrt((g * g).sum()) for name, g in analytic.items()}
    floor = 1e-3 * max((norm for norm in norms.values() if math.isfinite(norm)), default=0.0)
    for name in progress(analytic) if progress else analytic:
        g, vs = analytic[name], list(directions(analytic[name], rng))
        slopes = {m: [DERIVATIVES[m](value, arrays, name, v, STEP[m] if step is None else step) for v in vs] for m in methods}
        off = {m: [float(abs((g * v).sum() - slope)) for v, slope in zip(vs, slopes[m])] for m in methods}
        scale = float(max(abs(g).max(), 1e-3 * largest))
        if scale <= UNDERFLOW * size:  # zeros are wrong by all that there is, beyond what underflows
            steepest = float(np.max(np.abs(slopes[methods[0]])))
            scale = steepest if steepest > UNDERFLOW * size else 1.0
        errors = [float(np.max(off[m])) / scale for m in methods]  # np.max keeps a NaN, which fails
        gap = None
        if methods[0] == "complex" and math.isfinite(norms[name]):
            along = [rng.standard_normal(g.shape)]
            if method == "both" and not errors[1] <= LIMIT["central"]:
                along.append(vs[int(np.argmax(off["central"]))])
            gap = methods_gap(value, arrays, name, along, complex_step, rng, list(analytic), floor=max(norms[name], floor), size=size)
            judge_gap(report, value, arrays, name, [*along, *vs], errors[0], scale, gap, g)
        report.rows.append(Row(name, g.shape, norms[name], len(vs), *errors, *[None] * (method != "both"), gap))
    check_same(start, value(arrays), size)
    return report


def judge_gap(report, value, arrays, name, vs, error, scale, gap, g):
    """Say what a wide gap between the methods means: NotComplexSafe where the gradient differs from the complex step, which is no judge then;
    a remark where the gradient agrees with it, and so has lost what the forward lost."""
    if gap is None:
        report.remarks.append(f"{name}: central differences are too rough here to confirm the complex step")
    elif math.isnan(gap):
        report.remarks.append(f"{name}: central differences are not finite here")
    if gap is None or not gap > GAP_LIMIT:
        return
    loser = find_dropper(value, arrays, name, vs[0], STEP["complex"]) or "its forward function drops or conjugates the imaginary part"
    if not error <= 1e3 * report.limit:
        off = max(abs((g * v).sum() - central_difference(value, arrays, name, v, STEP["central"])) for v in vs) / scale
        finding = "agrees with central differences" if off <= LIMIT["central"] else "is WRONG by central differences"
        raise NotComplexSafe(f"{name}: {loser}; the gradient {finding}, off by {off:.1e}, and by {error:.1e} from the complex step; {REMEDY}")
    report.remarks.append(
        f"{name}: the gradient agrees with the complex step, off by {error:.1e}, and central differences contradict both by {gap:.1e}: {loser}"
        f" of a path that backward leaves out as well, or forward is not continuous here, or not the same for complex numbers; {REMEDY}"
    )


def directions(g, rng):
    """The directions to compare along: every axis of a small array; of a large one its largest entries' axes, random axes, random directions.

    Random numbers, not signs: of signs, every second direction is blind to two entries that are swapped.
    """
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
            yield rng.standard_normal(g.shape)


def complex_step(value, arrays, name, v, h):
    """Im f(x + i h v) / h. All arrays are complex, so that a forward may write in place. NotComplexSafe where it can't take such input."""
    stepped = {n: x.astype(np.complex128) for n, x in arrays.items()}
    stepped[name].imag = h * v
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            return np.imag(value(stepped)) / h
    except (TypeError, np.exceptions.ComplexWarning) as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{where.name} ({where.filename.replace(chr(92), '/').split('/')[-1]}, line {where.lineno}) can't take complex input: {error}"
        raise NotComplexSafe(f"{text}; {REMEDY}") from None


DERIVATIVES = {"complex": complex_step, "central": central_difference}


def check_method(method, step=None):
    """The names of the methods to use, the one that judges first. MinigptError for an unknown method or a step that is not above zero."""
    if not isinstance(method, str) or method not in (*STEP, "both"):
        raise MinigptError(f"method is {method!r}, it must be one of {', '.join(STEP)}, both")
    if step is not None and not (isinstance(step, numbers.Real) and 0 < step < math.inf):
        raise MinigptError(f"step is {step!r}, it must be a number above 0")
    return tuple(STEP) if method == "both" else (method,)


def check_deterministic(value, arrays, size=0.0):
    """The value at a point; MinigptError where a second call there differs."""
    a, b = value(arrays), value(arrays)
    check_same(a, b, size)
    return a


def check_same(a, b, size=0.0):
    """MinigptError where two calls at one point differ by more than rounding."""
    if not abs(a - b) <= ROUNDING * max(abs(a), abs(b), size) and not (np.isnan(a) and np.isnan(b)):
        raise MinigptError(f"the function is not deterministic: two calls gave {a!r} and {b!r}; make its generator anew, from one seed, at each call")
