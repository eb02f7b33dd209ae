"""Scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762, eq. 1): the form of every
book, then the one that training runs.

Heads are a batch axis here; splitting channels into heads and the projections around attention
belong to layers/attention.py. The fast form stores scores and weights [key, query]: the softmax
then reduces over an axis that is not the last, which runs vectorised over queries. Every cache
shows its weights as (B, H, query, key) all the same. Beside this file: lean_attention.py, which
keeps no weights, newest_attention.py, of one query in decoding, and attend.py, which says what runs
when.

Shapes: B batch, H heads, T queries, S keys, D channels of a head.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from minigpt.ops.dropout import dropout_scale


class Mask(NamedTuple):
    """Which keys a query may see. Query t stands at position S - T + t among the keys: the last
    query meets the last key.
    """

    causal: bool = False  # no key after the query
    window: int | None = None  # only keys nearer than this: of the last `window` keys, the query's own included
    keys: np.ndarray | None = None  # (B, S) bool, False at padding

    def visible(self, T, S):
        """The definition, for reference_attention: which of S keys each of T queries may see, bool
        (B or 1, 1, T, S).
        """
        distance = S - T + np.arange(T)[:, None] - np.arange(S)  # (T, S), negative for a key to come
        seen = (distance >= 0) | (not self.causal)
        if self.window is not None:
            seen &= np.abs(distance) < self.window
        return seen[None, None] if self.keys is None else seen & self.keys[:, None, None, :]


def reference_attention(q, k, v, mask=Mask(), bias=None, scale=None):  # noqa: B008 a Mask is immutable
    """Attention as every book writes it: what the fast forms below and beside this file are tested
    against; training never calls it.

        y = softmax(scale * q k^T + bias) v    over the keys that the mask shows; 0 where none is

    Arguments as for attention_forward -> y (B, H, T, D), weights (B, H, T, S). Its gradient is
    taken by the complex step in tests.
    """
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = scale * (q @ k.swapaxes(-1, -2))  # (B, H, T, S)
    if bias is not None:
        scores = scores + bias
    scores = np.where(mask.visible(q.shape[2], k.shape[2]), scores, -np.inf)
    # finite where a query sees nothing
    top = scores.real.max(axis=-1, initial=np.finfo(scores.dtype).min, keepdims=True)
    e = np.exp(scores - top)
    total = e.sum(axis=-1, keepdims=True)
    weights = e / np.where(total.real == 0, 1, total)
    return weights @ v, weights


class AttentionCache(NamedTuple):
    q: np.ndarray  # (B, H, T, D) times scale
    k: np.ndarray  # (B, H, S, D)
    v: np.ndarray  # (B, H, S, D)
    y: np.ndarray  # (B, H, T, D)
    weights_kq: np.ndarray  # (B, H, S, T) after the softmax, before dropout
    dropout: np.ndarray | None  # (B, H, S, T) factors
    scale: float
    bias_shape: tuple | None

    @property
    def weights(self):
        """The attention weights, (B, H, query, key): a view."""
        return self.weights_kq.swapaxes(-1, -2)


def attention_forward(q, k, v, mask=Mask(), bias=None, scale=None, dropout=0.0, rng=None):  # noqa: B008
    """Each query takes the mean of the values, weighted by how well their keys match it.

        y = softmax(scale * q k^T + bias) v    with a weight of 0 where the mask hides a key

    q (B, H, T, D), k and v (B, H, S, D), mask a Mask, bias broadcastable to (B, H, T, S) with four
    axes, or None; scale 1/sqrt(D) unless given -> y (B, H, T, D), a view of a (B, T, H, D) array so
    that merging the heads copies nothing, and an AttentionCache. dropout is the probability to drop
    a weight (scaled by 1 / (1 - p) otherwise), drawn from rng; None for no dropout. A query that
    may see no key gives y = 0 and passes no gradient.
    """
    B, H, T, D = q.shape
    S = k.shape[2]
    scale = 1 / math.sqrt(D) if scale is None else scale
    q = q * scale  # D numbers a query instead of S
    weights, _ = softmax_over_keys(scores_kq(q, k, mask, bias, slice(0, T), slice(0, S)))  # (B, H, S, T)
    factors = None
    dropped = weights
    if rng is not None and dropout > 0:
        factors = dropout_scale(weights.shape, dropout, rng, weights.dtype)
        dropped = weights * factors
    y = heads_last(B, H, T, D, weights.dtype)
    np.matmul(dropped.swapaxes(-1, -2), v, out=y)
    return y, AttentionCache(q, k, v, y, weights, factors, scale, None if bias is None else bias.shape)


def attention_backward(dy, cache, out=None):
    """Gradients of attention_forward: dy (B, H, T, D), cache -> dq (B, H, T, D), dk and dv
    (B, H, S, D), dbias of bias's shape or None.

    out may name three arrays to write dq, dk and dv into, such as views of one (B, T, 3, H, D)
    buffer. With A the weights:

        dv = A^T dy        dA = dy v^T        dscores = A * (dA - rowsum(dA * A))
        dq = scale * dscores k        dk = scale * dscores^T q

    and rowsum(dA * A) = rowsum(dy * y), which costs D products a query in place of S. It holds with
    dropout too.
    """
    q, k, v, y, weights, factors, scale, bias_shape = cache
    dq, dk, dv = out if out is not None else (np.empty_like(q), np.empty_like(k), np.empty_like(v))

    # forward: y = dropped v
    np.matmul(weights if factors is None else weights * factors, dy, out=dv)
    dscores = v @ dy.swapaxes(-1, -2)  # (B, H, S, T), of the dropped weights so far
    if factors is not None:
        dscores *= factors  # dA, of the weights

    # forward: weights = softmax(scores)
    dscores -= row_dot(dy, y)[:, :, None, :]  # dA - rowsum(dA * A)
    dscores *= weights  # dscores

    # forward: scores = k q^T + bias, with q already scaled
    dbias = None if bias_shape is None else sum_to_shape(dscores.swapaxes(-1, -2), bias_shape)
    np.matmul(dscores.swapaxes(-1, -2), k, out=dq)
    np.matmul(dscores, q, out=dk)
    dq *= scale
    return dq, dk, dv, dbias


def scores_kq(q, k, mask, bias, queries, keys):
    """Scores of a block of queries against a range of keys, -inf where the mask hides: ->
    (B, H, keys, queries), a new array.
    """
    T, S = q.shape[2], k.shape[2]
    scores = k[:, :, keys] @ q[:, :, queries].swapaxes(-1, -2)
    if bias is not None:
        scores = scores + block_of_bias(bias, queries, keys).swapaxes(-1, -2)
    if mask.causal or mask.window is not None:
        first = S - T + queries.start - keys.start  # the first query's position, counted from the first key
        seen = max(0, first) if mask.window is None else 0  # keys that come before all of these queries
        rows, columns = keys.stop - keys.start - seen, queries.stop - queries.start
        penalty = position_penalty(first - seen, rows, columns, mask.causal, mask.window, scores.real.dtype)
        if penalty is not None:
            scores[:, :, seen:] += penalty  # 10 us against np.copyto's 27 at (6, 4, 64, 64)
    if mask.keys is not None:
        scores += penalty_of(~mask.keys[:, None, keys, None], scores.real.dtype)  # (B, 1, keys, 1)
    return scores


def softmax_over_keys(scores):
    """Softmax over axis -2, in place, zero where a query sees no key. -> weights (B, H, S, T), log
    of the denominator (B, H, T).
    """
    # finite even where every score is -inf
    top = scores.real.max(axis=-2, initial=np.finfo(scores.dtype).min, keepdims=True)
    weights = scores  # one array, three meanings: scores,
    weights -= top
    np.exp(weights, out=weights)  # their exponentials,
    # (B, H, 1, T), as a product: 7 us against weights.sum's 26 at (6, 4, 64, 64)
    total = np.ones((1, weights.shape[-2]), weights.dtype) @ weights
    total += total.real == 0  # a query without keys: 0 / 1 = 0
    weights /= total  # weights
    return weights, (np.log(total) + top)[..., 0, :]


def row_dot(a, b):
    """Products of rows: (B, H, T, D) twice -> (B, H, T), in C order: subtracting it takes half as
    long as in the order of strided heads.
    """
    return np.einsum("bhtd,bhtd->bht", a, b, order="C")


@functools.lru_cache(maxsize=16)  # blocks along the diagonal, and layers, all ask for the same few
def position_penalty(first, keys, queries, causal, window, dtype):
    """What to add to scores where positions decide which keys a query may see: -> (keys, queries)
    of 0 and -inf; None where all are visible.

    first: the first query's position, counted from the first key.
    """
    distance = first + np.arange(queries) - np.arange(keys)[:, None]  # (keys, queries), negative for a key to come
    hidden = np.zeros(distance.shape, bool)
    if causal:
        hidden |= distance < 0
    if window is not None:
        hidden |= np.abs(distance) >= window
    return penalty_of(hidden, dtype) if hidden.any() else None


def penalty_of(hidden, dtype):
    """-inf where hidden, else 0: read-only, since some are kept. A score that overflowed to inf
    becomes nan by it, in a model that is lost anyway.
    """
    penalty = np.where(hidden, -np.inf, 0).astype(dtype)
    penalty.flags.writeable = False
    return penalty


def block_of_bias(bias, queries, keys):
    """The part of a (B or 1, H or 1, T or 1, S or 1) array that belongs to a block: a view."""
    return bias[:, :, queries if bias.shape[2] > 1 else slice(None), keys if bias.shape[3] > 1 else slice(None)]


def sum_to_shape(x, shape):
    """Undo broadcasting: sum x over the axes that are 1 in shape, which has as many axes. -> a new
    array of that shape.
    """
    axes = tuple(i for i, n in enumerate(shape) if n == 1 and x.shape[i] != 1)
    return x.sum(axis=axes, keepdims=True) if axes else x.copy()


def heads_last(B, H, T, D, dtype):
    """An empty (B, H, T, D) view of a contiguous (B, T, H, D) array."""
    return np.empty((B, T, H, D), dtype).swapaxes(1, 2)
