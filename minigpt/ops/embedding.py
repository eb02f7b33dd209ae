"""Table look-up: integers into rows.

Shapes: ... any axes of ids, V vocabulary, C channels.
"""

from typing import NamedTuple

import numpy as np

from minigpt.ops.reductions import column_sum


class EmbeddingCache(NamedTuple):
    ids: np.ndarray  # (...) int
    vocab_size: int


def embedding_forward(ids, weight):
    """Pick one row of a table for each id: y = weight[ids].

    ids (...) int in 0 .. V-1, weight (V, C) -> y (..., C), EmbeddingCache. Equal to
    onehot(ids) @ weight, without the zeros.
    """
    return weight[ids], EmbeddingCache(ids, len(weight))


def embedding_backward(dy, cache):
    """Gradient of embedding_forward: dy (..., C), cache -> dweight (V, C); rows of ids that occur
    more than once add up.

    Equal to onehot(ids)^T @ dy. Sorting the ids makes each row's share one run to sum; np.add.at
    does the same several times slower.
    """
    ids, vocab_size = cache
    rows = dy.reshape(-1, dy.shape[-1])  # (rows, C)
    order = np.argsort(ids, axis=None, kind="stable")
    sorted_ids = ids.ravel()[order]
    starts = np.flatnonzero(np.diff(sorted_ids, prepend=-1))  # the first row of each run

    # forward: y = weight[ids]
    dweight = np.zeros((vocab_size, rows.shape[1]), dy.dtype)
    dweight[sorted_ids[starts]] = np.add.reduceat(rows[order], starts, axis=0)
    return dweight


class UnembeddingCache(NamedTuple):
    x: np.ndarray  # (..., C)
    weight: np.ndarray  # (V, C)
    has_bias: bool


def unembedding_forward(x, weight, bias=None):
    """Score each vocabulary entry by its row of the table, the head of a model with tied
    embeddings: y = x @ weight^T + bias.

    x (..., C), weight (V, C), bias (V,) or None -> y (..., V), UnembeddingCache. Press and Wolf
    2016, arXiv:1608.05859; BERT and CTRL have the bias, GPT-2 has none.
    """
    y = x.reshape(-1, x.shape[-1]) @ weight.T  # (rows, V)
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], len(weight)), UnembeddingCache(x, weight, bias is not None)


def unembedding_backward(dy, cache, with_dweight=True):
    """Gradients of unembedding_forward: dy (..., V), cache -> dx (..., C), dweight (V, C), or None
    without with_dweight, dbias (V,) or None.
    """
    x, weight, has_bias = cache
    rows = dy.reshape(-1, dy.shape[-1])  # (rows, V)

    # forward: y = x @ weight^T + bias
    dbias = column_sum(rows) if has_bias else None
    dweight = rows.T @ x.reshape(-1, x.shape[-1]) if with_dweight else None
    dx = (rows @ weight).reshape(x.shape)
    return dx, dweight, dbias
