import numpy as np
import pytest


@pytest.fixture
def rng():
    """A generator with a fixed seed: every test draws the same numbers in whatever order the tests run."""
    return np.random.default_rng(0)
