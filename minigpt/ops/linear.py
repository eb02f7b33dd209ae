"""The affine map: nearly all of a transformer's arithmetic.

Shapes: ... any leading axes, I inputs, O outputs.
"""

from typing import NamedTuple

import numpy as np

from minigpt.ops.reductions import column_sum


class LinearCache(NamedTuple):
    x: np.ndarray  # (..., I)
    weight: np.ndarray  # (I, O)
    has_bias: bool


def linear_forward(x, weight, bias=None):
    """Multiply each row by a matrix and add a bias.

        y = x @ weight + bias

    x (..., I), weight (I, O), bias (O,) or None -> y (..., O), LinearCache.
    Leading axes are collapsed to rows, so that BLAS sees one large product and not B small ones.
    """
    y = x.reshape(-1, x.shape[-1]) @ weight  # (rows, O)
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], weight.shape[1]), LinearCache(x, weight, bias is not None)


def linear_backward(dy, cache, with_dweight=True):
    """Gradients of linear_forward: dy (..., O), cache -> dx (..., I), dweight (I, O), dbias (O,) or
    None.

        dx = dy @ weight^T        dweight = x^T @ dy        dbias = sum of dy over rows

    Without with_dweight, for a weight that is not trained, that product is not computed: dweight is
    None.
    """
    x, weight, has_bias = cache
    rows = dy.reshape(-1, dy.shape[-1])  # (rows, O)

    # forward: y = x @ weight + bias
    dbias = column_sum(rows) if has_bias else None
    dweight = x.reshape(-1, x.shape[-1]).T @ rows if with_dweight else None
    dx = (rows @ weight.T).reshape(x.shape)
    return dx, dweight, dbias
