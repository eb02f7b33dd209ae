"""Layer normalisation (Ba, Kiros, Hinton 2016, arXiv:1607.06450) and RMS normalisation (Zhang,
Sennrich 2019, arXiv:1910.07467).

Shapes: ... any leading axes, C channels.
"""

from typing import NamedTuple

import numpy as np

from minigpt.ops.reductions import column_sum, row_mean


class LayerNormCache(NamedTuple):
    xhat: np.ndarray  # (..., C) the normalised input
    rstd: np.ndarray  # (..., 1) one over the standard deviation
    weight: np.ndarray  # (C,)
    has_bias: bool


def layernorm_forward(x, weight, bias=None, eps=1e-5):
    """Shift and scale each row to mean 0 and variance 1, then apply a learned scale and shift.

        y = (x - mean) / sqrt(var + eps) * weight + bias

    x (..., C), weight (C,), bias (C,) or None -> y (..., C), LayerNormCache.
    The variance divides by C, not C - 1: eq. 3 of the paper, and what every checkpoint expects.
    """
    xhat = x - row_mean(x)  # (..., C), centred
    rstd = 1 / np.sqrt(row_mean(xhat * xhat) + eps)  # (..., 1)
    xhat *= rstd  # of variance 1
    y = xhat * weight
    if bias is not None:
        y += bias
    return y, LayerNormCache(xhat, rstd, weight, bias is not None)


def layernorm_backward(dy, cache, with_dweight=True):
    """Gradients of layernorm_forward: dy (..., C), cache -> dx (..., C), dweight (C,), dbias (C,)
    or None.

    xhat depends on x directly, through the mean and through the variance. The last two subtract
    from dxhat its mean and its projection on xhat: what is left is the part that normalisation
    cannot undo.

        dx = rstd * (dxhat - mean(dxhat) - xhat * mean(dxhat * xhat))

    Without with_dweight, for a weight that is not trained, dweight is not computed: None.
    """
    xhat, rstd, weight, has_bias = cache

    # forward: y = xhat * weight + bias
    dbias = column_sum(dy) if has_bias else None
    dweight = column_sum(dy * xhat) if with_dweight else None
    dxhat = dy * weight

    # forward: xhat = (x - mean) * rstd
    dx = dxhat - row_mean(dxhat)  # without its mean
    dx -= xhat * row_mean(dxhat * xhat)  # and without its projection on xhat
    dx *= rstd  # in units of x
    return dx, dweight, dbias


class RMSNormCache(NamedTuple):
    x: np.ndarray  # (..., C)
    rstd: np.ndarray  # (..., 1) one over the root mean square
    weight: np.ndarray | None  # (C,)


def rmsnorm_forward(x, weight=None, eps=1e-6):
    """Scale each row to root mean square 1, then apply a learned scale, if any: LayerNorm without
    the mean and without the bias.

        y = x / sqrt(mean(x^2) + eps) * weight

    x (..., C), weight (C,) or None -> y (..., C), RMSNormCache. Eq. 4 of Zhang and Sennrich; eps
    stands inside the root, as in T5.
    """
    rstd = 1 / np.sqrt(row_mean(x * x) + eps)  # (..., 1)
    y = x * rstd
    if weight is not None:
        y *= weight
    return y, RMSNormCache(x, rstd, weight)


def rmsnorm_backward(dy, cache, with_dweight=True):
    """Gradients of rmsnorm_forward: dy (..., C), cache -> dx (..., C), dweight (C,) or None.

    With xhat = x * rstd and dxhat = dy * weight:

        dx = rstd * (dxhat - xhat * mean(dxhat * xhat))

    Without with_dweight dweight is None as well.
    """
    x, rstd, weight = cache
    xhat = x * rstd

    # forward: y = xhat * weight
    dweight = column_sum(dy * xhat) if with_dweight and weight is not None else None
    dx = dy * (1 if weight is None else weight)  # dxhat so far

    # forward: xhat = x * rstd
    dx -= xhat * row_mean(dx * xhat)  # without its projection on xhat
    dx *= rstd  # in units of x
    return dx, dweight
