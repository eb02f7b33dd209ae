"""Numeric derivatives along a direction, by the complex step and by central differences."""

import math
import numbers
import traceback
import warnings

import numpy as np

from minigpt.errors import MinigptError
from minigpt.gradcheck.droppers import REMEDY, NotComplexSafe, place

STEP = {"complex": 1e-30, "central": 1e-5}
ELEMENTS = 64  # an array of at most so many numbers is checked one by one
SAMPLES = 8  # of a larger one, so many single numbers and as many random directions are


def complex_step(value, arrays, name, v, h=STEP["complex"]):
    """Im f(x + i h v) / h. NotComplexSafe where the function can't take complex input.

    All arrays are complex, so that a forward may write in place.
    """
    stepped = {n: x.astype(np.complex128) for n, x in arrays.items()}
    stepped[name].imag = h * v
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            return np.imag(value(stepped)) / h
    except MinigptError:
        raise
    except Exception as error:  # it ran on real numbers: whatever it raises now is about complex ones
        at = traceback.extract_tb(error.__traceback__)[-1]
        where = place(at.name, at.filename, at.lineno)
        raise NotComplexSafe(f"{where} can't take complex input: {error}; {REMEDY}") from None


def central_difference(value, arrays, name, v, h=STEP["central"]):
    """(f(x + h v) - f(x - h v)) / 2h."""
    plus, minus = ({**arrays, name: np.asarray(arrays[name] + s * h * v)} for s in (1, -1))
    return (value(plus) - value(minus)) / (2 * h)


DERIVATIVES = {"complex": complex_step, "central": central_difference}


def directions(g, rng):
    """The directions to compare a gradient along.

    Every axis of a small array; of a large one its largest entries' axes, random axes and random
    directions. Random numbers, not signs: of signs, every second direction is blind to two entries
    that are swapped.
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


def check_method(method, step=None):
    """The names of the methods to use, the one that judges first.

    MinigptError for an unknown method or a step that is not above zero.
    """
    if not isinstance(method, str) or method not in (*STEP, "both"):
        raise MinigptError(f"method is {method!r}, it must be one of {', '.join(STEP)}, both")
    if step is not None and not (isinstance(step, numbers.Real) and 0 < step < math.inf):
        raise MinigptError(f"step is {step!r}, it must be a number above 0")
    return tuple(STEP) if method == "both" else (method,)
