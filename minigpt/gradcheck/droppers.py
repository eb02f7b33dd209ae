"""Forward functions that lose the imaginary part, on which the complex step lives."""

import sys
from pathlib import Path

import numpy as np

from minigpt.errors import MinigptError

REMEDY = "squares as x * x, comparisons and maxima on .real, and no abs, norm, std, conj, float() or real dtype"
HERE = str(Path(__file__).parent)


def place(function, file, line):
    """A function and where it stands, for a message: cube (ops.py, line 7)."""
    return f"{function} ({file.replace(chr(92), '/').split('/')[-1]}, line {line})"


class NotComplexSafe(MinigptError):
    """A forward function loses the imaginary part: the complex step can't judge its backward."""


def find_dropper(value, arrays, name, v, h):
    """The first function that is given an imaginary part and returns arrays without any.

    -> a text such as "cube (ops.py, line 7) drops the imaginary part", or None where there is none.
    """
    stepped = {n: x.astype(np.complex128) for n, x in arrays.items()}
    stepped[name].imag = h * v
    found = []

    def watch(frame, event, result):
        code = frame.f_code
        if event == "return" and not found and not code.co_filename.startswith(HERE):
            given = [frame.f_locals[n] for n in code.co_varnames[: code.co_argcount] if n in frame.f_locals]
            made = arrays_in(result[0] if type(result) is tuple and result else result)  # y of (y, cache)
            if made and any(np.any(np.imag(x)) for x in arrays_in(given)) and not any(np.any(np.imag(x)) for x in made):
                found.append(place(code.co_name, code.co_filename, code.co_firstlineno))

    previous = sys.getprofile()
    sys.setprofile(watch)
    try:
        value(stepped)
    finally:
        sys.setprofile(previous)
    return f"{found[0]} drops the imaginary part" if found else None


def arrays_in(value):
    """The arrays of floating or complex numbers in nested tuples and lists."""
    if isinstance(value, tuple | list):
        return [array for part in value for array in arrays_in(part)]
    return [value] if isinstance(value, np.ndarray | np.inexact) and value.dtype.kind in "fc" else []
