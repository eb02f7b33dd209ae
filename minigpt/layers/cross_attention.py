"""Multi-head attention from one sequence to another: a decoder's queries, an encoder's keys and
values.

Vaswani et al. 2017, arXiv:1706.03762, section 3.2.3. Shapes: B batch, T queries, S tokens of the
memory, C channels of the input, M of the memory, H heads, D channels of a head.
"""

from typing import NamedTuple

import numpy as np

from minigpt.layers.attention import merge_heads, query_rate, split_heads
from minigpt.layers.kv_cache import KVCache
from minigpt.layers.linear import Linear
from minigpt.layers.shared import NOTHING_COLLECTED
from minigpt.ops.attend import attend, attend_backward
from minigpt.ops.attention import AttentionCache, Mask
from minigpt.ops.dropout import DropoutCache, dropout_backward, dropout_forward
from minigpt.ops.lean_attention import LeanAttentionCache
from minigpt.ops.linear import LinearCache


class CrossAttentionCache(NamedTuple):
    q_attn: LinearCache
    c_attn: LinearCache | None  # of the memory; None in decoding, where the keys and values were there already
    attention: AttentionCache | LeanAttentionCache
    c_proj: LinearCache
    dropout: DropoutCache

    @property
    def weights(self):
        """The attention weights, (B, H, query, key)."""
        return self.attention.weights


class CrossAttention:
    """y = dropout(heads(attention(q, k, v)) @ W + b), where q is a linear map of the input, k and v
    of a memory.

    `q_attn` (C, HD) makes q of the input, `c_attn` (M, 2HD) k and v of the memory; `c_proj` (HD, C)
    brings the heads together.
    """

    def __init__(self, name, channels, n_head, *, memory_channels, head_channels=None, scale=None, bias=True,
                 dropout=0.0, std=0.02, q_std=None, residual_std=0.02):  # fmt: skip
        """std: of both maps into heads, q_std of the first if it differs."""
        self.name, self.n_head = name, n_head
        self.head_channels = head_channels or channels // n_head
        self.scale, self.dropout = scale, dropout
        width = self.n_head * self.head_channels
        of_query = {"std": std if q_std is None else q_std, "rate": query_rate(scale, self.head_channels)}
        self.q_attn = Linear(f"{name}.q_attn", channels, width, bias=bias, **of_query)
        self.c_attn = Linear(f"{name}.c_attn", memory_channels, 2 * width, bias=bias, std=std, parts=2)
        self.c_proj = Linear(f"{name}.c_proj", width, channels, bias=bias, std=residual_std)

    def parameters(self):
        """The Parameters of this layer, in store order."""
        return self.q_attn.parameters() + self.c_attn.parameters() + self.c_proj.parameters()

    def kv_cache(self, batch, size, dtype):
        """A KVCache for this layer: batch rows, room for a memory of `size` tokens."""
        return KVCache(batch, self.n_head, size, self.head_channels, dtype)

    def forward(self, p, x, rng=None, *, shared, kv=None):
        """x (B, T, C) -> y (B, T, C), CrossAttentionCache.

        shared: memory (B, S, M) and memory_mask (B, S) are read of it; kv: a KVCache, which the
        first call fills with the memory's keys and values and later calls read, so that they are
        computed once. Then the memory may have fewer rows than x: each is read by as many rows of x
        side by side, whose queries stand beside each other in one product.
        """
        q, q_attn = self.q_attn.forward(p, x)
        (q,) = split_heads(q, self.n_head, self.head_channels)
        c_attn = None
        if kv is None or kv.length == 0:
            keys_and_values, c_attn = self.c_attn.forward(p, shared.memory)
            k, v = split_heads(keys_and_values, self.n_head, self.head_channels)
            if kv is not None:
                k, v = kv.append(k, v)
        else:
            k, v = kv.filled()
        mask = Mask(keys=shared.memory_mask)
        q, rows = beside(q, len(k)), len(q)
        y, attention = attend(q, k, v, mask=mask, scale=self.scale, dropout=self.dropout, rng=rng)
        y = apart(y, rows)
        y, c_proj = self.c_proj.forward(p, merge_heads(y))
        y, dropout = dropout_forward(y, self.dropout, rng)
        return y, CrossAttentionCache(q_attn, c_attn, attention, c_proj, dropout)

    def backward(self, g, dy, cache, dshared=NOTHING_COLLECTED):
        """Add this layer's gradients into g, and the memory's into dshared, which is refused
        without one; dy -> dx (B, T, C).
        """
        if cache.c_attn is None:
            raise ValueError("this pass read keys and values computed earlier, in decoding: it has no backward")
        dy = dropout_backward(dy, cache.dropout)
        dy = self.c_proj.backward(g, dy, cache.c_proj)  # (B, T, HD)
        (dy,) = split_heads(dy, self.n_head, self.head_channels)  # (B, H, T, D)
        (B, H, T, D), S = dy.shape, cache.attention.k.shape[2]
        dq, dkv = np.empty((B, T, H * D), dy.dtype), np.empty((B, S, 2 * H * D), dy.dtype)
        attend_backward(dy, cache.attention, out=(*split_heads(dq, H, D), *split_heads(dkv, H, D)))
        dshared.add("memory", self.c_attn.backward(g, dkv, cache.c_attn))
        return self.q_attn.backward(g, dq, cache.q_attn)


def beside(q, sources):
    """Queries of rows that read one source beside each other: (B, H, T, D), B = K sources ->
    (sources, H, K T, D); q itself where K is 1.
    """
    B, H, T, D = q.shape
    K = B // sources
    return q if K == 1 else q.reshape(sources, K, H, T, D).swapaxes(1, 2).reshape(sources, H, K * T, D)


def apart(y, rows):
    """What beside put together, for each row again: (sources, H, K T, D) -> (B, H, T, D), B = rows;
    y itself where K is 1.
    """
    sources, H, queries, D = y.shape
    K = rows // sources
    return y if K == 1 else y.reshape(sources, H, K, queries // K, D).swapaxes(1, 2).reshape(rows, H, -1, D)
