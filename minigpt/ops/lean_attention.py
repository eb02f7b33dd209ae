"""Attention with memory that grows with the length of a text and not with its square.

Shapes: B batch, H heads, T queries, S keys, D channels of a head.
"""

import math
from typing import NamedTuple

import numpy as np

from minigpt.ops.attention import Mask, block_of_bias, heads_last, row_dot, scores_kq, softmax_over_keys, sum_to_shape
from minigpt.ops.dropout import dropout_scale

QUERY_BLOCK = 64  # queries taken at a time: against 128, a tenth faster at T=256, a twentieth slower from 1024 on


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
    block: int  # queries taken at a time

    @property
    def weights(self):
        """The attention weights, (B, H, query, key), computed anew: T x S numbers a head."""
        (B, H, T, _), S = self.q.shape, self.k.shape[2]
        weights = np.zeros((B, H, S, T), self.y.dtype)
        for queries, keys in visible_blocks(T, S, self.mask, self.block):
            scores = scores_kq(self.q, self.k, self.mask, self.bias, queries, keys)
            weights[:, :, keys, queries], _ = softmax_over_keys(scores)
        return weights.swapaxes(-1, -2)


def lean_attention_forward(q, k, v, mask=Mask(), bias=None, scale=None, dropout=0.0, rng=None, *, block=QUERY_BLOCK):  # noqa: B008
    """attention_forward with memory that grows with T and not with T squared, and no work on blocks
    that the mask hides whole.

    Queries are taken `block` at a time against all the keys that they may see, so that each softmax
    is complete at once. The weights are not kept: backward computes them again from the log of
    their denominator. Arguments and result as for attention_forward; the dropout drawn from one rng
    differs from attention_forward's. After FlashAttention (Dao et al. 2022, arXiv:2205.14135),
    without its blocks of keys.
    """
    B, H, T, D = q.shape
    S = k.shape[2]
    scale = 1 / math.sqrt(D) if scale is None else scale
    q = q * scale
    seed = int(rng.integers(2**63)) if rng is not None and dropout > 0 else None
    y = heads_last(B, H, T, D, np.result_type(q, k, v, *(() if bias is None else (bias,))))
    log_total = np.empty((B, H, T), y.dtype)
    for queries, keys in visible_blocks(T, S, mask, block):
        weights, log_total[:, :, queries] = softmax_over_keys(scores_kq(q, k, mask, bias, queries, keys))
        if seed is not None:
            weights *= block_dropout(weights, dropout, seed, queries)
        np.matmul(weights.swapaxes(-1, -2), v[:, :, keys], out=y[:, :, queries])
    return y, LeanAttentionCache(q, k, v, y, log_total, mask, bias, scale, dropout, seed, block)


def lean_attention_backward(dy, cache, out=None):
    """Gradients of lean_attention_forward: arguments, results and formulas of attention_backward, a
    block of queries at a time.
    """
    q, k, v, y, log_total, mask, bias, scale, dropout, seed, block = cache
    T, S = q.shape[2], k.shape[2]
    dq, dk, dv = out if out is not None else (np.empty_like(q), np.empty_like(k), np.empty_like(v))
    dk[...] = 0
    dv[...] = 0
    dbias = None if bias is None else np.zeros_like(bias)
    dot = row_dot(dy, y)  # (B, H, T)
    for queries, keys in visible_blocks(T, S, mask, block):
        block_dy = dy[:, :, queries]
        weights = scores_kq(q, k, mask, bias, queries, keys)  # scores so far
        weights -= log_total[:, :, None, queries]  # logs of the weights
        np.exp(weights, out=weights)
        factors = None if seed is None else block_dropout(weights, dropout, seed, queries)

        # forward: y = dropped v
        dv[:, :, keys] += (weights if factors is None else weights * factors) @ block_dy
        dscores = v[:, :, keys] @ block_dy.swapaxes(-1, -2)  # of the dropped weights so far
        if factors is not None:
            dscores *= factors  # dA, of the weights

        # forward: weights = softmax(scores)
        dscores -= dot[:, :, None, queries]  # dA - rowsum(dA * A)
        dscores *= weights  # dscores

        # forward: scores = k q^T + bias, with q already scaled
        if bias is not None:
            part = block_of_bias(dbias, queries, keys)
            part += sum_to_shape(dscores.swapaxes(-1, -2), part.shape)
        np.matmul(dscores.swapaxes(-1, -2), k[:, :, keys], out=dq[:, :, queries])
        dk[:, :, keys] += dscores @ q[:, :, queries]
    dq *= scale
    return dq, dk, dv, dbias


def visible_blocks(T, S, mask, block):
    """The blocks of queries and, for each, the range of keys that any of them may see: yields
    (slice of queries, slice of keys).
    """
    for start in range(0, T, block):
        stop = min(start + block, T)
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
