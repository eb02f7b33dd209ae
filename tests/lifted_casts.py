"""transformers' casts to float32, lifted: in float64 it is an oracle to 1e-10 only without them."""

import inspect

import pytest


class Float64Torch:
    """torch, whose float32 is float64."""

    def __init__(self, torch):
        self.torch = torch

    def __getattr__(self, name):
        return getattr(self.torch, "float64" if name in ("float32", "float") else name)


def lift_casts(monkeypatch, module, *casts):
    """Have a module of transformers compute in float64 throughout, for the rest of a test.

    casts: the pieces of its source that cast. The test fails where one is no longer there: then the
    oracle has changed, and the lift may not be needed or not be enough.
    """
    source = inspect.getsource(module)
    for cast in casts:
        if cast not in source:
            pytest.fail(f"{module.__name__} has no {cast!r} any more")
    monkeypatch.setattr(module, "torch", Float64Torch(module.torch))
