"""Where a token stands: learned and sinusoidal position embeddings.

Shapes: B batch, T time, C channels, P the most positions.
"""

import math
from typing import NamedTuple

import numpy as np

from minigpt.ops.embedding import embedding_backward, embedding_forward
from minigpt.ops.reductions import column_sum


class PositionsCache(NamedTuple):
    rows: tuple  # EmbeddingCache of the position ids
    shared: bool  # one row of positions for the whole batch


def learned_positions_forward(x, weight, position_ids=None):
    """Add a learned vector for each position.

        y[b, t] = x[b, t] + weight[position_ids[b, t]]

    x (B, T, C), weight (P, C), position_ids (B, T) or (T,) int, 0 .. T-1 unless given -> y (B, T, C), PositionsCache.
    GPT-2 and BERT; Gehring et al. 2017, arXiv:1705.03122, section 3.1.
    """
    if position_ids is None:
        position_ids = np.arange(x.shape[1])
    rows, cache = embedding_forward(position_ids, weight)  # (T, C) or (B, T, C)
    return x + rows, PositionsCache(cache, position_ids.ndim == 1)


def learned_positions_backward(dy, cache):
    """Gradients of learned_positions_forward: dy (B, T, C), cache -> dx (B, T, C), dweight (P, C)."""
    B, T, C = dy.shape

    # forward: y = x + rows, where one row of positions serves the whole batch
    drows = column_sum(dy.reshape(B, T * C)).reshape(T, C) if cache.shared else dy

    # forward: rows = weight[position_ids]
    return dy, embedding_backward(drows, cache.rows)


def sinusoidal_positions(length, channels, interleaved=False, dtype=np.float64):
    """A fixed table of waves, one position a row; it has no parameters, hence no backward.

        angle[p, i] = p / 10000^(2i / C)

    -> (length, C): sines then cosines side by side (CTRL), or sine, cosine, sine, ... when interleaved (Vaswani et al. 2017,
    arXiv:1706.03762, section 3.5). channels must be even: ValueError.
    """
    if channels % 2:
        raise ValueError(f"channels is {channels}; sinusoidal positions need an even number, half for sines and half for cosines")
    rate = np.exp(np.arange(0, channels, 2) * (-math.log(10000.0) / channels))  # (C/2,)
    angle = np.arange(length)[:, None] * rate  # (length, C/2)
    waves = np.stack([np.sin(angle), np.cos(angle)], axis=-1 if interleaved else 1)
    return waves.reshape(length, channels).astype(dtype)
