"""Where a token stands: learned and sinusoidal position embeddings, and rotation.

Shapes: B batch, T time, C channels, P the most positions, H heads, D channels of a head.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from minigpt.ops.embedding import EmbeddingCache, embedding_backward, embedding_forward
from minigpt.ops.reductions import column_sum


class PositionsCache(NamedTuple):
    rows: EmbeddingCache  # of the position ids
    shared: bool  # one row of positions for the whole batch


def learned_positions_forward(x, weight, position_ids=None):
    """Add a learned vector for each position.

        y[b, t] = x[b, t] + weight[position_ids[b, t]]

    x (B, T, C), weight (P, C), position_ids (B, T) or (T,) int, 0 .. T-1 unless given -> y
    (B, T, C), PositionsCache. GPT-2 and BERT; Gehring et al. 2017, arXiv:1705.03122, section 3.1.
    """
    if position_ids is None:
        position_ids = np.arange(x.shape[1])
    rows, cache = embedding_forward(position_ids, weight)  # (T, C) or (B, T, C)
    return x + rows, PositionsCache(cache, position_ids.ndim == 1)


def learned_positions_backward(dy, cache, with_dweight=True):
    """Gradients of learned_positions_forward: dy (B, T, C), cache -> dx (B, T, C), dweight (P, C),
    or None without with_dweight.
    """
    if not with_dweight:
        return dy, None
    B, T, C = dy.shape

    # forward: y = x + rows, where one row of positions serves the whole batch
    drows = column_sum(dy.reshape(B, T * C)).reshape(T, C) if cache.shared else dy

    # forward: rows = weight[position_ids]
    return dy, embedding_backward(drows, cache.rows)


def sinusoidal_positions(length, channels, interleaved=False, dtype=np.float64):
    """A fixed table of waves, one position a row; it has no parameters, hence no backward.

        angle[p, i] = p / 10000^(2i / C)

    -> (length, C): sines then cosines side by side (CTRL), or sine, cosine, sine, ... when
    interleaved (Vaswani et al. 2017, arXiv:1706.03762, section 3.5). channels must be even:
    ValueError.
    """
    if channels % 2:
        raise ValueError(f"channels is {channels}; sinusoidal positions need an even number: half sines, half cosines")
    rate = np.exp(np.arange(0, channels, 2) * (-math.log(10000.0) / channels))  # (C/2,)
    angle = np.arange(length)[:, None] * rate  # (length, C/2)
    waves = np.stack([np.sin(angle), np.cos(angle)], axis=-1 if interleaved else 1)
    return waves.reshape(length, channels).astype(dtype)


@functools.lru_cache(maxsize=32)
def rotary_table(length, channels, dtype=np.float64, base=10000.0):
    """Cosines and sines of the angles by which position p turns the pairs of a head's channels;
    they have no parameters.

        angle[p, i] = p / base^(2i / D)    for the pair of channels i and i + D/2

    -> cos (length, D), sin (length, D), read-only; each half of the columns holds the D/2 angles.
    channels must be even: ValueError.
    """
    if channels % 2:
        raise ValueError(f"a head has {channels} channels; rotary positions need an even number, since they turn pairs")
    rate = np.exp(np.arange(0, channels, 2) * (-math.log(base) / channels))  # (D/2,)
    angle = np.tile(np.arange(length)[:, None] * rate, 2)  # (length, D)
    tables = np.cos(angle).astype(dtype), np.sin(angle).astype(dtype)
    for table in tables:
        table.flags.writeable = False
    return tables


class RotaryCache(NamedTuple):
    cos: np.ndarray  # (T, D) or (B, T, D)
    sin: np.ndarray


def rotary_forward(x, cos, sin):
    """Turn each pair of channels (i, i + D/2) of every head by an angle that grows with the
    position.

        y_i = x_i cos_i - x_{i+D/2} sin_i        y_{i+D/2} = x_{i+D/2} cos_i + x_i sin_i

    x (B, T, H, D), cos and sin (T, D) or (B, T, D), rows of rotary_table -> y (B, T, H, D),
    RotaryCache. A query turned by its position and a key turned by its own have a product that
    depends on the distance alone. RoFormer: Su et al. 2021, arXiv:2104.09864, eq. 34, with the
    pairing of GPT-NeoX and Llama.
    """
    cos, sin = (table.astype(x.real.dtype, copy=False) for table in (cos, sin))
    return rotate(x, cos, sin), RotaryCache(cos, sin)


def rotary_backward(dy, cache):
    """Gradient of rotary_forward: dy (B, T, H, D), cache -> dx (B, T, H, D). The inverse of a
    rotation turns the other way.
    """
    return rotate(dy, cache.cos, -cache.sin)


def rotate(x, cos, sin):
    """y = x * cos + quarter_turn(x) * sin, where a quarter turn takes the pair (a, b) to
    (-b, a).
    """
    B, T, H, D = x.shape
    turned = np.empty(x.shape, x.dtype)
    np.negative(x[..., D // 2 :], out=turned[..., : D // 2])
    turned[..., D // 2 :] = x[..., : D // 2]

    # one row of all heads, not D numbers, is what NumPy's inner loops then run over: 90 against 150
    # us at (6, 64, 8, 32)
    cos, sin = np.tile(cos, H), np.tile(sin, H)  # (T, H D)
    turned = turned.reshape(B, T, H * D)
    turned *= sin  # quarter_turn(x) * sin
    turned += x.reshape(B, T, H * D) * cos  # y
    return turned.reshape(B, T, H, D)
