"""Where keys stand as seen from queries: one learned number for each range of distances, added to
the scores of attention.

Shapes: T queries, S keys, H heads, N buckets.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from minigpt.ops.embedding import EmbeddingCache, embedding_backward, embedding_forward


def relative_buckets(distance, buckets=32, max_distance=128, bidirectional=True):
    """The bucket of each distance from a query to a key: near distances have one each, farther ones
    share them, the more the farther.

        n                                                            for n < E
        E + floor(log(n / E) / log(max_distance / E) * (N - E))      for n up to max_distance

    with n the distance, E = N // 2, and the last bucket for all beyond. distance (...) int, the
    key's position less the query's -> (...) int in 0 .. buckets - 1. bidirectional: the first half
    of the buckets is for keys at or before the query, the second for those behind it, N = buckets
    // 2 each; otherwise N is buckets, and keys behind the query fall into bucket 0, as the query
    itself does. In float32, as in transformers, where rounding decides at the edges of a bucket.
    ValueError where E is 0 or not less than max_distance. Raffel et al. 2019, arXiv:1910.10683,
    section 2.1.
    """
    start = 0
    if bidirectional:
        buckets //= 2
        start = np.where(distance > 0, buckets, 0)
        far = np.abs(distance)
    else:
        far = np.maximum(-distance, 0)
    exact = buckets // 2
    if exact < 1 or max_distance <= exact:
        raise ValueError(f"{buckets} buckets a side, half of them exact, for distances up to {max_distance}")
    log = np.log(np.maximum(far, exact).astype(np.float32) / exact)
    shared = exact + (log / math.log(max_distance / exact) * (buckets - exact)).astype(np.int64)
    return start + np.where(far < exact, far, np.minimum(shared, buckets - 1))


@functools.lru_cache(maxsize=16)  # all layers and passes over texts of one length ask for the same
def diagonal_buckets(queries, keys, buckets, max_distance, bidirectional):
    """The bucket of every diagonal of a (T, S) matrix of scores, where the last query meets the
    last key: -> (T + S - 1,) int, read-only, distances from T - 1 down to 1 - S.
    """
    found = relative_buckets(np.arange(queries - 1, -keys, -1), buckets, max_distance, bidirectional)
    found.flags.writeable = False
    return found


class RelativeBiasCache(NamedTuple):
    rows: EmbeddingCache  # of the buckets of the T + S - 1 diagonals


def relative_bias_forward(weight, queries, keys, max_distance=128, bidirectional=True):
    """What attention adds to the scores of T queries and S keys, of which the last stand at the
    same place.

        bias[h, t, s] = weight[bucket(s - (S - T + t)), h]

    weight (N, H), a row a bucket of relative_buckets -> bias (1, H, T, S), RelativeBiasCache. A
    bias depends on the distance alone, so that T + S - 1 rows are looked up and the result is a
    read-only view of those: it takes no memory of T times S.
    """
    buckets = diagonal_buckets(queries, keys, len(weight), max_distance, bidirectional)
    rows, cache = embedding_forward(buckets, weight)  # (T + S - 1, H)
    diagonals = np.ascontiguousarray(rows.T)  # (H, T + S - 1)
    # number s, t is diagonal S - 1 - s + t: the queries of a key lie end to end, as scores do
    bias = np.lib.stride_tricks.sliding_window_view(diagonals, queries, axis=1)[:, ::-1]  # (H, S, T)
    return bias.swapaxes(1, 2)[None], RelativeBiasCache(cache)


def relative_bias_backward(dy, cache):
    """Gradient of relative_bias_forward: dy (1, H, T, S), cache -> dweight (N, H); all pairs of one
    distance, and all distances of one bucket, add up.
    """
    _, H, T, S = dy.shape

    # forward: bias[s, t] = diagonals[S - 1 - s + t]. With the keys from the last to the first, each
    # row moved right by its number has a diagonal in each column: a row that is one longer than it
    # is read does that.
    rows = np.zeros((H, S, T + S), dy.dtype)
    rows[:, :, :T] = dy[0].swapaxes(1, 2)[:, ::-1]
    moved = rows.reshape(H, S * (T + S))[:, : S * (T + S - 1)].reshape(H, S, -1)
    ddiagonals = moved.sum(axis=1)  # (H, T + S - 1)

    # forward: diagonals = weight[buckets]
    return embedding_backward(ddiagonals.T, cache.rows)
