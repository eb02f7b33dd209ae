"""Scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762, eq. 1), plain and memory-lean.

Heads are a batch axis here; splitting channels into heads and the projections around attention belong to layers/attention.py.
Scores and weights are stored [key, query]: the softmax then reduces over an axis that is not the last, which runs vectorised over queries.
Every cache shows its weights as (B, H, query, key) all the same.

Shapes: B batch, H heads, T queries, S keys, D channels of a head.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from minigpt.ops.dropout import dropout_scale

QUERY_BLOCK = 64  # queries that memory-lean attention takes at a time: against 128, a tenth faster at T=256, a twentieth slower from 1024 on


class Mask(NamedTuple):
    """Which keys a query may see. Query t stands at position S - T + t among the keys: the last query meets the last key."""

    causal: bool = False  # no key after the query
    window: int | None = None  # only keys nearer than this: of the last `window` keys, the query's own included
    keys: np.ndarray | None = None  # (B, S) bool, False at padding


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


def attention_forward(q, k, v, mask=Mask(), bias=None, scale=None, dropout=0.0, rng=None):  # noqa: B008 a Mask is immutable
    """Each query takes the mean of the values, weighted by how well their keys match it.

        y = softmax(scale * q k^T + bias) v    with a weight of 0 where the mask hides a key

    q (B, H, T, D), k and v (B, H, S, D), mask a Mask, bias broadcastable to (B, H, T, S) with four axes, or None; scale 1/sqrt(D) unless
    given -> y (B, H, T, D), a view of a (B, T, H, D) array so that merging the heads copies nothing, and an AttentionCache.
    dropout is the probability to drop a weight (scaled by 1 / (1 - p) otherwise), drawn from rng; None for no dropout.
    A query that may see no key gives y = 0 and passes no gradient.
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
    """Gradients of attention_forward: dy (B, H, T, D), cache -> dq (B, H, T, D), dk and dv (B, H, S, D), dbias of bias's shape or None.

    out may name three arrays to write dq, dk and dv into, such as views of one (B, T, 3, H, D) buffer. With A the weights:

        dv = A^T dy        dA = dy v^T        dscores = A * (dA - rowsum(dA * A))        dq = scale * dscores k        dk = scale * dscores^T q

    and rowsum(dA * A) = rowsum(dy * y), which costs D products a query in place of S. It holds with dropout too.
    """
    q, k, v, y, weights, factors, scale, bias_shape = cache
    dq, dk, dv = out if out is not None else (np.empty_like(q), np.empty_like(k), np.empty_like(v))

    # forward: y = dropped v
    np.matmul(weights if factors is None else weights * factors, dy, out=dv)
    dscores = v @ dy.swapaxes(-1, -2)  # (B, H, S, T), the gradient of the dropped weights so far
    if factors is not None:
        dscores *= factors

    # forward: weights = softmax(scores)
    dscores -= row_dot(dy, y)[:, :, None, :]
    dscores *= weights

    # forward: scores = k q^T + bias, with q already scaled
    dbias = None if bias_shape is None else sum_to_shape(dscores.swapaxes(-1, -2), bias_shape)
    np.matmul(dscores.swapaxes(-1, -2), k, out=dq)
    np.matmul(dscores, q, out=dk)
    dq *= scale
    return dq, dk, dv, dbias


class LeanAttentionCache(NamedTuple):
    q: np.ndarray  # (B, H, T, D) times scale
    k: np.ndarray  # (B, H, S, D)
    v: np.ndarray  # (B, H, S, D)
    y: np.ndarray  # (B, H, T, D)
    log_total: np.ndarray  # (B, H, T) log of the softmax's denominator, from which backward recomputes the weights
    mask: Mask
    bias: np.ndarray | None
    scale: float
    dropout: float
    seed: int | None  # from which backward draws the same dropout again

    @property
    def weights(self):
        """The attention weights, (B, H, query, key), computed anew: T x S numbers a head."""
        (B, H, T, _), S = self.q.shape, self.k.shape[2]
        weights = np.zeros((B, H, S, T), self.y.dtype)
        for queries, keys in visible_blocks(T, S, self.mask):
            weights[:, :, keys, queries], _ = softmax_over_keys(scores_kq(self.q, self.k, self.mask, self.bias, queries, keys))
        return weights.swapaxes(-1, -2)


def lean_attention_forward(q, k, v, mask=Mask(), bias=None, scale=None, dropout=0.0, rng=None):  # noqa: B008
    """attention_forward with memory that grows with T and not with T squared, and no work on blocks that the mask hides whole.

    Queries are taken a block at a time against all the keys that they may see, so that each softmax is complete at once. The weights are
    not kept: backward computes them again from the log of their denominator. Arguments and result as for attention_forward; the dropout
    drawn from one rng differs from attention_forward's. After FlashAttention (Dao et al. 2022, arXiv:2205.14135), without its blocks of keys.
    """
    B, H, T, D = q.shape
    S = k.shape[2]
    scale = 1 / math.sqrt(D) if scale is None else scale
    q = q * scale
    seed = int(rng.integers(2**63)) if rng is not None and dropout > 0 else None
    y = heads_last(B, H, T, D, np.result_type(q, k, v, *(() if bias is None else (bias,))))
    log_total = np.empty((B, H, T), y.dtype)
    for queries, keys in visible_blocks(T, S, mask):
        weights, log_total[:, :, queries] = softmax_over_keys(scores_kq(q, k, mask, bias, queries, keys))
        if seed is not None:
            weights *= block_dropout(weights, dropout, seed, queries)
        np.matmul(weights.swapaxes(-1, -2), v[:, :, keys], out=y[:, :, queries])
    return y, LeanAttentionCache(q, k, v, y, log_total, mask, bias, scale, dropout, seed)


def lean_attention_backward(dy, cache, out=None):
    """Gradients of lean_attention_forward: arguments, results and formulas of attention_backward, a block of queries at a time."""
    q, k, v, y, log_total, mask, bias, scale, dropout, seed = cache
    T, S = q.shape[2], k.shape[2]
    dq, dk, dv = out if out is not None else (np.empty_like(q), np.empty_like(k), np.empty_like(v))
    dk[...] = 0
    dv[...] = 0
    dbias = None if bias is None else np.zeros_like(bias)
    dot = row_dot(dy, y)  # (B, H, T)
    for queries, keys in visible_blocks(T, S, mask):
        block_dy = dy[:, :, queries]
        weights = scores_kq(q, k, mask, bias, queries, keys)
        weights -= log_total[:, :, None, queries]
        np.exp(weights, out=weights)
        factors = None if seed is None else block_dropout(weights, dropout, seed, queries)

        # forward: y = dropped v
        dv[:, :, keys] += (weights if factors is None else weights * factors) @ block_dy
        dscores = v[:, :, keys] @ block_dy.swapaxes(-1, -2)
        if factors is not None:
            dscores *= factors

        # forward: weights = softmax(scores)
        dscores -= dot[:, :, None, queries]
        dscores *= weights

        # forward: scores = k q^T + bias, with q already scaled
        if bias is not None:
            part = block_of_bias(dbias, queries, keys)
            part += sum_to_shape(dscores.swapaxes(-1, -2), part.shape)
        np.matmul(dscores.swapaxes(-1, -2), k[:, :, keys], out=dq[:, :, queries])
        dk[:, :, keys] += dscores @ q[:, :, queries]
    dq *= scale
    return dq, dk, dv, dbias


def newest_attention(q, k, v, scores, mask=Mask(), bias=None, scale=None):  # noqa: B008
    """attention_forward of the newest query alone, as decoding asks for it: scores go into a buffer and no result of the length S is allocated.

    q (B, H, 1, D), k and v (B, H, S, D), scores (B, H, 1, S) to write into -> y (B, H, 1, D), AttentionCache, whose weights are in `scores`.
    Mask, bias and scale as for attention_forward; a mask of keys takes B S bytes. One row of scores has no other axis to run over, so that
    they lie [query, key] here: 11 us against 18 at (1, 4, 100, 32).
    """
    S = k.shape[2]
    scale = 1 / math.sqrt(q.shape[3]) if scale is None else scale
    q = q * scale
    np.matmul(q, k.swapaxes(-1, -2), out=scores)
    if bias is not None:
        scores += bias
    if mask.window is not None:
        scores[..., : max(0, S - mask.window)] = -np.inf
    if mask.keys is not None:
        np.copyto(scores, -np.inf, where=~mask.keys[:, None, None, :])
    scores -= scores.real.max(axis=-1, initial=np.finfo(scores.dtype).min, keepdims=True)  # finite even where every score is -inf
    np.exp(scores, out=scores)
    total = scores.sum(axis=-1, keepdims=True)
    total += total.real == 0  # a query without keys: 0 / 1 = 0
    scores /= total
    y = scores @ v
    return y, AttentionCache(q, k, v, y, scores.swapaxes(-1, -2), None, scale, None if bias is None else bias.shape)


def scores_kq(q, k, mask, bias, queries, keys):
    """Scores of a block of queries against a range of keys, -inf where the mask hides: -> (B, H, keys, queries), a new array."""
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
    """Softmax over axis -2, in place, zero where a query sees no key. -> weights (B, H, S, T), log of the denominator (B, H, T)."""
    top = scores.real.max(axis=-2, initial=np.finfo(scores.dtype).min, keepdims=True)  # finite even where every score is -inf
    weights = scores
    weights -= top
    np.exp(weights, out=weights)
    total = np.ones((1, weights.shape[-2]), weights.dtype) @ weights  # (B, H, 1, T), as a product: 7 us against weights.sum's 26 at (6, 4, 64, 64)
    total += total.real == 0  # a query without keys: 0 / 1 = 0
    weights /= total
    return weights, (np.log(total) + top)[..., 0, :]


def row_dot(a, b):
    """Products of rows: (B, H, T, D) twice -> (B, H, T), in C order: subtracting it takes half as long as in the order of strided heads."""
    return np.einsum("bhtd,bhtd->bht", a, b, order="C")


@functools.lru_cache(maxsize=16)  # blocks along the diagonal, and layers, all ask for the same few
def position_penalty(first, keys, queries, causal, window, dtype):
    """What to add to scores where positions decide which keys a query may see: -> (keys, queries) of 0 and -inf; None where all are visible.

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
    """-inf where hidden, else 0: read-only, since some are kept. A score that overflowed to inf becomes nan by it, in a model that is lost anyway."""
    penalty = np.where(hidden, -np.inf, 0).astype(dtype)
    penalty.flags.writeable = False
    return penalty


def visible_blocks(T, S, mask):
    """The blocks of queries and, for each, the range of keys that any of them may see: yields (slice of queries, slice of keys)."""
    for start in range(0, T, QUERY_BLOCK):
        stop = min(start + QUERY_BLOCK, T)
        first, last = S - T + start, S - T + stop - 1  # positions of the block's first and last query among the keys
        low, high = 0, S
        if mask.window is not None:
            low, high = max(0, first - mask.window + 1), min(S, last + mask.window)
        if mask.causal:
            high = min(high, last + 1)
        yield slice(start, stop), slice(low, max(low, high))


def block_dropout(weights, p, seed, queries):
    """The dropout factors of one block of queries, the same at each call."""
    return dropout_scale(weights.shape, p, np.random.default_rng([seed, queries.start]), weights.dtype)


def block_of_bias(bias, queries, keys):
    """The part of a (B or 1, H or 1, T or 1, S or 1) array that belongs to a block: a view."""
    return bias[:, :, queries if bias.shape[2] > 1 else slice(None), keys if bias.shape[3] > 1 else slice(None)]


def sum_to_shape(x, shape):
    """Undo broadcasting: sum x over the axes that are 1 in shape, which has as many axes. -> a new array of that shape."""
    axes = tuple(i for i, n in enumerate(shape) if n == 1 and x.shape[i] != 1)
    return x.sum(axis=axes, keepdims=True) if axes else x.copy()


def heads_last(B, H, T, D, dtype):
    """An empty (B, H, T, D) view of a contiguous (B, T, H, D) array."""
    return np.empty((B, T, H, D), dtype).swapaxes(1, 2)
