"""Observers for tests: what a run calls, the order of its caches, overflows planted in its ops."""

import inspect
import itertools
import types
from contextlib import contextmanager

import numpy as np

from minigpt import ops
from minigpt.observe import Observer, first_not_finite, observable, observing


class Recorder(Observer):
    """Keeps every call with what it returned, in the order in which they end."""

    def __init__(self):
        self.ended = []

    def leave(self, call, outputs):
        self.ended.append((call, outputs))

    def places(self):
        """The places of all ops."""
        return [call.place for call, _ in self.ended if call.part == "ops"]


def recorded(run):
    """What a Recorder sees of run()."""
    with observing(Recorder()) as recorder:
        run()
    return recorder


class OpCaches(Observer):
    """Keeps the caches of all ops, in the order in which they are made."""

    def __init__(self):
        self.made = []

    def leave(self, call, outputs):
        if call.part == "ops" and call.direction == "forward" and not any(outputs[1] is cache for cache in self.made):
            self.made.append(outputs[1])


def walked(value, wanted):
    """Yields the wanted caches in a nest of tuples and lists, an inner one before its outer."""
    if isinstance(value, tuple | list):
        for part in value:
            yield from walked(part, wanted)
        if any(value is cache for cache in wanted):
            yield value


def assert_in_order(run):
    """run() -> y, cache: a walk meets every cache that its ops made, in the order of the making."""
    with observing(OpCaches()) as caches:
        _, cache = run()
    met = list(walked(cache, caches.made))
    assert [type(one).__name__ for one in met] == [type(one).__name__ for one in caches.made]
    assert all(a is b for a, b in zip(met, caches.made))
    assert met


def calls_wrong(*arguments, **keywords):
    """Its code takes the place of an op's, and finds `wrong` in that op's module."""
    return wrong(*arguments, **keywords)  # noqa: F821


@contextmanager
def overflow_in(name, at):
    """Call number `at` of an op returns inf in one place; its code is exchanged, as by museum."""
    function = inspect.unwrap(getattr(ops, name))
    right = types.FunctionType(function.__code__, function.__globals__, name, function.__defaults__)
    right.__kwdefaults__ = function.__kwdefaults__
    calls = itertools.count()

    def wrong(*arguments, **keywords):
        outputs = right(*arguments, **keywords)
        if next(calls) != at:
            return outputs
        y, *more = outputs if isinstance(outputs, tuple) else (outputs,)
        if not isinstance(y, np.ndarray) or not y.flags.writeable or any(y is argument for argument in arguments):
            y = np.array(y)  # not in place: an input stays as it is
        y[(0,) * y.ndim] = np.inf
        return (y, *more) if isinstance(outputs, tuple) else y

    code, function.__globals__["wrong"] = function.__code__, wrong
    function.__code__, function.__signature__ = calls_wrong.__code__, inspect.signature(function)
    try:
        yield
    finally:
        function.__code__ = code
        del function.__signature__
        del function.__globals__["wrong"]


def assert_planted_overflows_are_named(run):
    """An overflow in a call of each op that run() makes is found where it is -> their names."""
    assert first_not_finite(run) is None
    calls = [call for call, _ in recorded(run).ended if call.part == "ops"]
    names = {call.name for call in calls}
    with observable():  # once, and not for each of them
        for name in sorted(names):
            places = [call.place for call in calls if call.name == name]
            at = len(places) // 2
            with overflow_in(name, at):
                assert first_not_finite(run) == places[at]
    assert first_not_finite(run) is None
    return names
