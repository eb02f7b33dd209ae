"""What a reader's functions are handed: copies, and a look at what became of them afterwards."""

import copy
import re
from collections.abc import Mapping

import numpy as np

from minigpt.errors import MinigptError


def copied(value):
    """A copy of a value with all arrays in it, containers by their parts.

    What can't be copied (a module, a lock) is handed on as it is.
    """
    if isinstance(value, np.ndarray):
        return value.copy(order="K")
    if isinstance(value, tuple):
        parts = [copied(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if type(value) is list:
        return [copied(part) for part in value]
    if type(value) is dict:
        return {key: copied(part) for key, part in value.items()}
    try:
        return copy.deepcopy(value)
    except Exception:  # whatever a class of the reader's own raises
        return value


def numbers_in(value, path, seen=()):
    """(path, array) for every array and number in nested containers and objects.

    A path reads as code does: "cache.rstd", "cache[0]".
    """
    if id(value) in seen:
        return
    if isinstance(value, np.ndarray | np.generic | int | float | complex):
        yield path, np.asarray(value)
    elif hasattr(value, "_fields"):
        for name in value._fields:
            yield from numbers_in(getattr(value, name), f"{path}.{name}", (*seen, id(value)))
    elif isinstance(value, tuple | list):
        for i, part in enumerate(value):
            yield from numbers_in(part, f"{path}[{i}]", (*seen, id(value)))
    elif isinstance(value, Mapping):
        for name in value:
            yield from numbers_in(value[name], f"{path}[{name!r}]", (*seen, id(value)))
    elif hasattr(value, "__dict__") and not isinstance(value, type) and not callable(value):
        for name, part in vars(value).items():
            yield from numbers_in(part, f"{path}.{name}", (*seen, id(value)))


def snapshot(value, path):
    """path -> (dtype, shape, bytes) of every number in a value."""
    return {where: (x.dtype, x.shape, x.tobytes()) for where, x in numbers_in(value, path)}


def changed(before, after):
    """The paths whose numbers differ between two snapshots."""
    return [path for path in {**before, **after} if before.get(path) != after.get(path)]


def remarks_on(function, before, after):
    """A list of the remark on what a function changed, empty where it changed nothing."""
    paths = [re.sub(r"^\['(.*?)'\]", r"\1", path) for path in changed(before, after)]  # an input by its name
    if not paths:
        return []
    named = ", ".join(paths[:5]) + ", ..." * (len(paths) > 5)
    return [f"{function} changed {named}: it must leave {'it as it is' if len(paths) == 1 else 'them as they are'}"]


def as_gradient(name, g):
    """A copy of a gradient as a float64 array. MinigptError for what is not real and floating."""
    if not isinstance(g, np.ndarray | np.floating | float):
        kind = f"of dtype {g.dtype}" if isinstance(g, np.generic) else f"of type {type(g).__name__}"
        raise MinigptError(f"{name}: the gradient is {kind}, it must be a floating array of the same shape as {name}")
    if np.asarray(g).dtype.kind != "f":
        raise MinigptError(f"{name}: the gradient has dtype {g.dtype}, it must be real and floating")
    return np.array(g, np.float64)


def in_double(x):
    """A floating array, number or list of numbers as a float64 array, anything else as it is."""
    try:
        floating = np.asarray(x).dtype.kind == "f"
    except ValueError:  # lists of unequal lengths
        return x
    return np.array(x, np.float64) if floating else x


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


def kind_of(value):
    """A value's type, for a message."""
    return "None" if value is None else f"a {type(value).__name__}"


def check_function(name, function):
    """MinigptError where something that is to be called can't be."""
    if not callable(function):
        raise MinigptError(f"{name} is {kind_of(function)}, it must be a function")
