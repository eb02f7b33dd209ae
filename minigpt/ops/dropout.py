"""Dropout (Srivastava et al. 2014), in the inverted form: scaled in training, absent in use."""

from typing import NamedTuple

import numpy as np


class DropoutCache(NamedTuple):
    scale: np.ndarray | None  # the shape of x: 0 where dropped, 1 / (1 - p) where kept; None where nothing is


def dropout_scale(shape, p, rng, dtype):
    """A random factor for each element: 0 with probability p, else 1 / (1 - p), so that the mean is
    1. -> array of real dtype.

    Drawn in float32 whatever the dtype, so that one seed drops the same elements in float32,
    float64 and complex128.
    """
    scale = np.empty(shape, np.zeros(0, dtype).real.dtype)
    np.multiply(rng.random(shape, dtype=np.float32) >= p, 1 / (1 - p), out=scale, casting="unsafe")
    return scale


def dropout_forward(x, p, rng):
    """Set each element to zero with probability p and scale the rest, so that the expectation
    stays.

        y = x * m,    m = 0 with probability p, else 1 / (1 - p)

    x of any shape, p in [0, 1), rng a numpy Generator, or None for no dropout -> y, DropoutCache.
    """
    if rng is None or p == 0:
        return x, DropoutCache(None)
    scale = dropout_scale(x.shape, p, rng, x.dtype)
    return x * scale, DropoutCache(scale)


def dropout_backward(dy, cache):
    """Gradient of dropout_forward: dx = dy * m."""
    return dy if cache.scale is None else dy * cache.scale
