"""The second opinion: whether a central difference confirms the complex step.

A forward that drops the imaginary part of a path has the derivative without that path by the
complex step, and a backward that forgets the same path agrees with it. Central differences see the
whole. They are rough, though: a step over a kink (ReLU near 0), a point on a kink, a step too large
for the curvature or too small for the rounding all make them wrong about a function that is fine. A
gap counts only where it stays at every size of step, at this point and at another near by, and
where central differences of neighbouring steps agree with each other.
"""

import numpy as np

from minigpt.gradcheck.droppers import NotComplexSafe
from minigpt.gradcheck.numeric import central_difference, complex_step
from minigpt.gradcheck.report import GAP_LIMIT

STEPS = (1e-5, 1e-3, 1e-2, 1e-4, 1e-6, 1e-7)  # the first one is enough for nearly all
NEAR = 1e-3  # how far off, of each number's size, the second point is
NOISE = 100 * np.finfo(np.float64).eps  # rounding granted to a function's value
SETTLED = 1e-5  # the rounding with which the first step's word is taken
BETWEEN_STEPS = 30  # times its rounding, the best of steps a factor of 10 apart may be off
COARSE = 1e-3  # a step at which that rounding is more of the gradient than this shows nothing


def methods_gap(value, arrays, name, along, rng, movable, *, floor, size):
    """How far the two methods are apart, as a part of the gradient's size.

    The largest over the directions `along`, each the least that can be reached.
    movable: names of the arrays that may be moved to look at a point near by; floor: the least size
    of a gradient to measure against; size: that of the terms in the function's value. -> gap; NaN
    where central differences are not finite; None where they are too rough to judge, or the
    function refuses the points beside this one.
    """
    gaps = []
    for v in along:
        try:
            with np.errstate(all="ignore"):
                gaps.append(gap_along(value, arrays, name, v, rng, movable, floor, size))
        except NotComplexSafe:
            raise
        except Exception:  # whatever a reader's function raises where it was not asked to run
            gaps.append(None)
    judged = [gap for gap in gaps if gap is not None]
    return float(np.max(judged)) if judged and (len(judged) == len(gaps) or max(judged) > GAP_LIMIT) else None


def gap_along(value, arrays, name, v, rng, movable, floor, size):
    """The gap along one direction: by one step; where that settles nothing by all, and near by."""
    gap, rounding = gap_at(value, arrays, name, v, STEPS[:1], floor, size)
    if gap is not None and gap <= GAP_LIMIT and rounding <= SETTLED:
        return gap
    gap, _ = gap_at(value, arrays, name, v, STEPS, floor, size)
    if gap is None or gap <= GAP_LIMIT:
        return gap
    near = {**arrays, **{n: moved(arrays[n], rng) for n in movable}}
    there, _ = gap_at(value, near, name, v, STEPS, floor, size)
    return gap if there is None else there if np.isnan(gap) else float(np.fmin(gap, there))


def gap_at(value, arrays, name, v, steps, floor, size):
    """The gap by the best of several sizes of step, and the rounding in it -> (gap, rounding).

    The steps are absolute and, where there are several, relative to the array's size as well; the
    best is the one whose difference from the complex step and rounding are the least together, so
    that no step passes for being too rough to show anything. NaN and None as above.
    """
    exact = complex_step(value, arrays, name, v)
    rms = size_of(arrays[name])
    found, closest, finite = [], np.inf, False
    for unit in (1.0,) if len(steps) == 1 or 0.1 < rms < 10 else (1.0, rms):
        before = np.nan
        for h in unit * np.array(sorted(steps)):
            slope, noise = central_difference(value, arrays, name, v, h), NOISE * size / h
            scale = max(floor, abs(exact), abs(slope)) or 1.0
            finite = finite or np.isfinite(slope)
            if np.isfinite(slope) and noise <= COARSE * scale:
                found.append((abs(slope - exact) / scale, noise / scale))
                closest = np.fmin(closest, abs(slope - before) / scale)
            before = slope
    if not found:
        return (None if finite else float("nan")), 0.0
    difference, rounding = min(found, key=sum)
    gap = float(max(difference - (rounding if len(steps) == 1 else BETWEEN_STEPS * rounding), 0.0))
    if len(steps) > 1 and gap > GAP_LIMIT and closest > 0.1 * gap:
        return None, rounding
    return gap, rounding


def size_of(x):
    """The root mean square of an array's numbers, 1 where all are zero."""
    return float(np.sqrt(np.mean(x * x))) or 1.0


def moved(x, rng):
    """A point near by, on the same side of zero.

    What is next to zero moves away from it, and what is zero upwards: many domains begin there.
    """
    rms = size_of(x)
    away = np.where(x < 0, -rms, rms) * (0.5 + rng.random(x.shape))
    return np.asarray(x + NEAR * np.where(abs(x) < NEAR * rms, away, x * rng.standard_normal(x.shape)))
