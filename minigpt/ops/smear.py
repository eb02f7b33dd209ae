"""Smearing: each token's vector takes in something of the vector of the token before it.

Shapes: B batch, T time, C channels.
"""

from typing import NamedTuple

import numpy as np

from minigpt.ops.reductions import column_sum


class SmearCache(NamedTuple):
    before: np.ndarray  # (B, T - 1, C) the input of all tokens but the last, zero where hidden
    weight: np.ndarray  # (C,)
    visible: np.ndarray | None  # (B, T - 1, 1) bool


def smear_forward(x, weight, visible=None, previous=None):
    """Add to each token's vector that of the token before it, each channel in a proportion of its
    own.

        y[b, t] = x[b, t] + weight * x[b, t - 1]        y[b, 0] = x[b, 0]

    x (B, T, C), weight (C,), visible (B, T) bool, False at padding, which the next token takes
    nothing of; previous (B, 1, C), in decoding, x of the token before the first, to which no
    gradient goes -> y (B, T, C), SmearCache. A pair of characters says more than one does, and
    attention needs hundreds of steps to find out how to look one back. After the smear of
    modded-nanogpt's records (https://github.com/KellerJordan/modded-nanogpt), with fixed
    proportions in place of a gate.
    """
    before = x[:, :-1]
    if visible is not None:
        visible = visible[:, :-1, None]
        before = before * visible
    y = x.copy()
    y[:, 1:] += before * weight
    if previous is not None:
        y[:, :1] += previous * weight
    return y, SmearCache(before, weight, visible)


def smear_backward(dy, cache, with_dweight=True):
    """Gradients of smear_forward: dy (B, T, C), cache -> dx (B, T, C), dweight (C,), or None
    without with_dweight.

    A token is paid from its own place and from the next.
    """
    before, weight, visible = cache
    after = dy[:, 1:]

    # forward: y[:, 1:] += before * weight
    dweight = column_sum(after * before) if with_dweight else None
    dbefore = after * weight
    if visible is not None:
        dbefore *= visible

    # forward: y = x, before = x[:, :-1]
    dx = dy.copy()
    dx[:, :-1] += dbefore
    return dx, dweight
