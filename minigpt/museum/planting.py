"""Planting a mistake: a piece of the real source is replaced, compiled, and its code object swapped
in for as long as a context lasts.
"""

import importlib
import inspect
import io
import re
import textwrap
import tokenize
import types
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import numpy as np

from minigpt.errors import MinigptError


class Edit(NamedTuple):
    """A piece of one function's code, and what to put in its place. How the source breaks its
    lines, and its comments, do not matter.
    """

    module: str  # below minigpt, such as "ops.attention"
    function: str  # or Class.method
    old: str  # occurs exactly once in the function's code
    new: str


class Exhibit(NamedTuple):
    """One classic mistake."""

    name: str
    edits: tuple  # of Edit; more than one where forward and backward are wrong together
    caught_by: str  # "gradient check", or another rung and what it compares
    check: Callable  # -> Finding; of a gradient check, called with a method
    wrong: tuple  # names that the check must find wrong, no more and no fewer
    symptom: str  # what it would have looked like in training
    # a gradient check that passes with the bug planted: it runs the wrong code and sees nothing
    blind: Callable | None = None

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
    """An exhibit that no gradient check catches; edits: one or several; wrong: names, separated by
    commas.
    """
    edits = (edits,) if isinstance(edits, Edit) else tuple(edits)
    return Exhibit(name, edits, caught_by, check, tuple(wrong.split(", ")), symptom, blind)


def named(edit):
    """What stands under the name of an edit's function: the function or method, or a cache around
    it.
    """
    part = importlib.import_module(f"minigpt.{edit.module}")
    for name in edit.function.split("."):
        part = getattr(part, name)
    return part


def function_of(edit):
    """The function or method that an edit changes; of a property the one that computes it."""
    thing = named(edit)
    return inspect.unwrap(thing.fget if isinstance(thing, property) else thing)


def code_text(function):
    """A function's source, its comments blanked out."""
    source = textwrap.dedent(inspect.getsource(function))
    lines = source.splitlines(keepends=True)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            (row, start), (_, stop) = token.start, token.end
            lines[row - 1] = lines[row - 1][:start] + lines[row - 1][stop:]
    return "".join(lines)


def places(old, source):
    """Where a piece of code stands in a source, however either is spaced and broken into lines: ->
    list of matches.
    """
    tokens = [
        rf"\b{token}\b" if token[0].isalnum() or token[0] == "_" else re.escape(token)
        for token in re.findall(r"\w+|[^\w\s]", old)
    ]
    return list(re.finditer(r"\s*".join(tokens), source))


def patched_code(edit, *more):
    """The code object of an edit's function with the old text replaced, and those of further edits
    of the same function.

    MinigptError where an old text does not occur exactly once (the exhibit went stale), or where
    the new code could not take the place of the old: a code object holds neither the defaults of
    the arguments nor the closure's cells, which stay the function's own.
    """
    function = function_of(edit)
    source = code_text(function)
    for each in (edit, *more):
        found = places(each.old, source)
        if len(found) != 1:
            where, times = f"{edit.module}.{edit.function}", len(found)
            raise MinigptError(f"{where}: the text to replace occurs {times} times, it must occur once: {each.old!r}")
        source = source[: found[0].start()] + each.new + source[found[0].end() :]
    at = function.__code__
    # a code object: nothing is run
    module = compile("\n" * (at.co_firstlineno - 1) + source, at.co_filename, "exec", dont_inherit=True)
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
    """The library with one mistake in it, for as long as the context lasts; overflow and division
    by zero pass without a warning meanwhile.

    The whole process has the mistake, other threads too. MinigptError where the exhibit is stale;
    nothing is planted then.
    """
    by_function = {}
    for edit in exhibit.edits:
        by_function.setdefault(function_of(edit), []).append(edit)
    codes = [(function, patched_code(*edits)) for function, edits in by_function.items()]
    with ExitStack() as stack:
        stack.enter_context(np.errstate(all="ignore"))
        for forget in [cache.cache_clear for cache in map(named, exhibit.edits) if hasattr(cache, "cache_clear")]:
            forget()
            stack.callback(forget)
        for function, code in codes:
            stack.enter_context(replaced(function, "__code__", code))
        yield
