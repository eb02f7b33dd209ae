"""Softmax over one axis: scores into weights that are positive and sum to one."""

from typing import NamedTuple

import numpy as np


class SoftmaxCache(NamedTuple):
    y: np.ndarray
    axis: int


def softmax_forward(x, axis=-1):
    """Turn scores into positive weights that sum to one along an axis.

        y_i = exp(x_i - m) / sum_j exp(x_j - m),    m = max_j x_j

    x of any shape -> y of the same, SoftmaxCache. The shift by m cancels and keeps exp from
    overflowing; it is taken of the real part, so that complex input stays on the analytic path. A
    score of -inf gets weight zero; where all of them are -inf, every weight is zero.
    """
    m = x.real.max(axis=axis, keepdims=True)
    m = np.where(np.isfinite(m), m, 0)  # only -inf here: -inf - -inf would be nan
    y = np.exp(x - m)  # not yet divided
    total = y.sum(axis=axis, keepdims=True)
    y /= np.where(total == 0, 1, total)
    return y, SoftmaxCache(y, axis)


def softmax_backward(dy, cache):
    """Gradient of softmax_forward: dy, cache -> dx.

    The Jacobian is diag(y) - y y^T, so that

        dx = y * (dy - sum_j dy_j y_j)
    """
    y, axis = cache
    dx = dy - (dy * y).sum(axis=axis, keepdims=True)  # dy_i - sum_j dy_j y_j
    dx *= y  # dx
    return dx
