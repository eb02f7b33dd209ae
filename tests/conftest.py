import numpy as np
import pytest

from minigpt.ops.attend import attend


@pytest.fixture
def rng():
    """A generator with a fixed seed: every test draws the same numbers in whatever
    order the tests run.
    """
    return np.random.default_rng(0)


@pytest.fixture
def take_lean(monkeypatch):
    """A function that has attention take its memory-lean form from so many queries on,
    so many at a time.
    """

    def take(lean_from=1, block=2):
        monkeypatch.setitem(attend.__kwdefaults__, "lean_from", lean_from)
        monkeypatch.setitem(attend.__kwdefaults__, "block", block)

    return take
