"""Planting a mistake: a text of the real source is replaced, compiled, and its code object swapped in for as long as a context lasts."""

import importlib
import inspect
import textwrap
import types
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import numpy as np

from minigpt.errors import MinigptError


class Edit(NamedTuple):
    """A text of one function, and what to put in its place."""

    module: str  # below minigpt, such as "ops.attention"
    function: str  # or Class.method
    old: str  # occurs exactly once in the function's source
    new: str


class Exhibit(NamedTuple):
    """One classic mistake."""

    name: str
    edits: tuple  # of Edit; more than one where forward and backward are wrong together
    caught_by: str  # "gradient check", or another rung and what it compares
    check: Callable  # -> Finding; of a gradient check, called with a method
    wrong: tuple  # names that the check must find wrong, no more and no fewer
    symptom: str  # what it would have looked like in training
    blind: Callable | None = None  # a gradient check that passes with the bug planted: it runs the wrong code and sees nothing

    @property
    def by_gradient(self):
        """Whether a gradient check catches it."""
        return self.caught_by == "gradient check"


class Finding(NamedTuple):
    """What a check found."""

    wrong: tuple  # names beyond the limit
    error: float  # the largest of theirs; of all where none is wrong
    errors: dict  # name -> error


def gradient(name, module, function, old, new, check, wrong, symptom):
    """An exhibit that a gradient check catches; wrong: names, separated by blanks."""
    return Exhibit(name, (Edit(module, function, old, new),), "gradient check", check, tuple(wrong.split()), symptom)


def other(name, edits, caught_by, check, wrong, symptom, blind=None):
    """An exhibit that no gradient check catches; edits: one or several; wrong: names, separated by commas."""
    edits = (edits,) if isinstance(edits, Edit) else tuple(edits)
    return Exhibit(name, edits, caught_by, check, tuple(wrong.split(", ")), symptom, blind)


def named(edit):
    """What stands under the name of an edit's function: the function or method, or a cache around it."""
    part = importlib.import_module(f"minigpt.{edit.module}")
    for name in edit.function.split("."):
        part = getattr(part, name)
    return part


def function_of(edit):
    """The function or method that an edit changes."""
    return inspect.unwrap(named(edit))


def patched_code(edit):
    """The code object of an edit's function with its text replaced.

    MinigptError where the old text does not occur exactly once (the exhibit went stale), or where the new code could not take the place of
    the old: a code object holds neither the defaults of the arguments nor the closure's cells, which stay the function's own.
    """
    function = function_of(edit)
    source = inspect.getsource(function)
    count = source.count(edit.old)
    if count != 1:
        raise MinigptError(f"{edit.module}.{edit.function}: the text to replace occurs {count} times, it must occur once: {edit.old!r}")
    source = textwrap.dedent(source.replace(edit.old, edit.new))
    at = function.__code__
    module = compile("\n" * (at.co_firstlineno - 1) + source, at.co_filename, "exec", dont_inherit=True)  # a code object: nothing is run
    code = find_code(module, function.__name__)
    if code is None or code.co_freevars != at.co_freevars:
        raise MinigptError(f"{edit.module}.{edit.function}: the new code does not fit the function")
    return code.replace(co_qualname=at.co_qualname)


def find_code(code, name):
    """The first code object of a name among the constants of another, at any depth, or None."""
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    for constant in inner:
        if constant.co_name == name:
            return constant
    return next((found for constant in inner if (found := find_code(constant, name)) is not None), None)


@contextmanager
def replaced(thing, attribute, value):
    """Set an attribute for as long as the context lasts."""
    before = getattr(thing, attribute)
    setattr(thing, attribute, value)
    try:
        yield
    finally:
        setattr(thing, attribute, before)


@contextmanager
def planted(exhibit):
    """The library with one mistake in it, for as long as the context lasts; overflow and division by zero pass without a warning meanwhile.

    The whole process has the mistake, other threads too. MinigptError where the exhibit is stale; nothing is planted then.
    """
    codes = [(function_of(edit), patched_code(edit)) for edit in exhibit.edits]
    if len({function for function, _ in codes}) < len(codes):
        raise MinigptError(f"{exhibit.name}: two edits of one function would undo each other")
    with ExitStack() as stack:
        stack.enter_context(np.errstate(all="ignore"))
        for forget in [cache.cache_clear for cache in map(named, exhibit.edits) if hasattr(cache, "cache_clear")]:
            forget()
            stack.callback(forget)
        for function, code in codes:
            stack.enter_context(replaced(function, "__code__", code))
        yield
