"""Multi-head attention (Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2): projections around ops.attention.

Shapes: B batch, T queries, S keys, C channels of the input, M channels of the memory, H heads, D channels of a head.
"""

from typing import NamedTuple

import numpy as np

from minigpt.layers.linear import Linear
from minigpt.ops.attend import attend, attend_backward
from minigpt.ops.attention import Mask
from minigpt.ops.dropout import DropoutCache, dropout_backward, dropout_forward
from minigpt.ops.linear import LinearCache
from minigpt.ops.normalization import RMSNormCache, rmsnorm_backward, rmsnorm_forward
from minigpt.ops.positions import RotaryCache, rotary_backward, rotary_forward


class KVCache:
    """The keys and values of one attention layer in decoding: buffers taken once, filled from the left.

    keys, values (B, H, S, D) with room for S tokens, of which `length` are filled: those of one head lie end to end, as its query reads them.
    The newest query's scores are computed in a buffer as well: contiguous, since np.exp copies a strided array before it works in place.
    """

    def __init__(self, batch, heads, size, channels, dtype):
        self.keys = np.empty((batch, heads, size, channels), dtype)
        self.values = np.empty_like(self.keys)
        self.scores_buffer = np.empty(batch * heads * size, dtype)
        self.length = 0

    @property
    def scores(self):
        """Where the newest query's scores of all tokens so far go: (B, H, 1, length)."""
        B, H, *_ = self.keys.shape
        return self.scores_buffer[: B * H * self.length].reshape(B, H, 1, self.length)

    def append(self, k, v):
        """Store the keys and values of new tokens, (B, H, T, D) each -> views of all so far, (B, H, length, D) each."""
        start, self.length = self.length, self.length + k.shape[2]
        if self.length > self.keys.shape[2]:
            raise ValueError(f"the KV cache has room for {self.keys.shape[2]} tokens, {self.length} were given")
        self.keys[:, :, start : self.length] = k
        self.values[:, :, start : self.length] = v
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


class MultiHeadAttentionCache(NamedTuple):
    projections: tuple  # the LinearCaches of the maps into q, k, v
    attention: tuple
    c_proj: LinearCache
    dropout: DropoutCache
    qk_norm: RMSNormCache | None = None
    rotary: RotaryCache | None = None

    @property
    def weights(self):
        """The attention weights, (B, H, query, key)."""
        return self.attention.weights


class Attention:
    """y = dropout(heads(attention(q, k, v)) @ W + b), where q, k, v are linear maps of the input, or k and v of a separate memory.

    Names and layout are GPT-2's: `c_attn` (C, 3HD) makes q, k and v of the input; with a memory of M channels, `q_attn` (C, HD) makes q
    of the input and `c_attn` (M, 2HD) makes k and v of the memory; `c_proj` (HD, C) brings the heads together.

    With qk_norm, q and k of each head are scaled to root mean square 1 first: a score is then at most sqrt(D), whatever the matrices grow to
    (Henry et al. 2020, arXiv:2010.04245, with RMSNorm in place of the norm and without a learned scale). Not with a memory: ValueError.
    """

    def __init__(self, name, channels, n_head, head_channels=None, memory_channels=None, causal=False, window=None, scale=None,
                 bias=True, dropout=0.0, std=0.02, residual_std=0.02, qk_norm=False):  # fmt: skip
        self.n_head = n_head
        self.head_channels = head_channels or channels // n_head
        self.causal, self.window, self.scale, self.dropout, self.qk_norm = causal, window, scale, dropout, qk_norm
        if qk_norm and memory_channels is not None:
            raise ValueError("qk_norm is for self-attention, a layer with a memory has none")
        width = self.n_head * self.head_channels
        if memory_channels is None:
            self.q_attn = None
            self.c_attn = Linear(f"{name}.c_attn", channels, 3 * width, bias, std, matrices=3)
        else:
            self.q_attn = Linear(f"{name}.q_attn", channels, width, bias, std)
            self.c_attn = Linear(f"{name}.c_attn", memory_channels, 2 * width, bias, std, matrices=2)
        self.c_proj = Linear(f"{name}.c_proj", width, channels, bias, residual_std)

    def parameters(self):
        """The Parameters of this layer, in store order."""
        q = self.q_attn.parameters() if self.q_attn else []
        return q + self.c_attn.parameters() + self.c_proj.parameters()

    def forward(self, p, x, rng=None, memory=None, key_mask=None, bias=None, kv=None, rotary=None):
        """x (B, T, C) -> y (B, T, C), MultiHeadAttentionCache.

        memory (B, S, M) where the layer was made for one; key_mask (B, S) bool, False at padding; bias (B or 1, H or 1, T, S) added to the
        scores; kv a KVCache to append to: the T inputs are then the newest of its S tokens, and with T = 1 the weights in the cache returned
        last until the next call; rotary the rows of ops.rotary_table for the T positions, by which q and k are turned, in a layer without
        a memory.
        """
        c5 = c6 = None
        if self.q_attn is None:
            qkv, c1 = self.c_attn.forward(p, x)  # (B, T, 3HD)
            q, k, v = self.split(qkv)  # three (B, H, T, D) views of it
            if self.qk_norm or rotary is not None:
                qk = self.queries_and_keys(qkv)
                if self.qk_norm:
                    qk, c5 = rmsnorm_forward(qk)
                if rotary is not None:
                    qk, c6 = rotary_forward(qk, *rotary)
                q, k = self.split(qk)
            projections = (c1,)
        else:
            (q,), c1 = self.project(self.q_attn, p, x)
            (k, v), c2 = self.project(self.c_attn, p, memory)
            projections = (c1, c2)
        if kv is not None:
            k, v = kv.append(k, v)
        mask = Mask(self.causal, self.window, key_mask)
        y, c3 = attend(
            q, k, v, mask=mask, bias=bias, scale=self.scale, dropout=self.dropout, rng=rng, newest_scores=None if kv is None else kv.scores
        )
        y, c4 = self.c_proj.forward(p, y.swapaxes(1, 2).reshape(*x.shape[:2], -1))
        y, c7 = dropout_forward(y, self.dropout, rng)
        return y, MultiHeadAttentionCache(projections, c3, c4, c7, c5, c6)

    def backward(self, g, dy, cache, dmemory=None, dbias=None):
        """Add this layer's gradients into g, and those of the memory and the bias into dmemory and dbias where given; dy -> dx (B, T, C)."""
        dy = dropout_backward(dy, cache.dropout)
        dy = self.c_proj.backward(g, dy, cache.c_proj)  # (B, T, HD)
        (dy,) = self.split(dy)  # (B, H, T, D)
        B, T, H, D = dy.shape[0], dy.shape[2], self.n_head, self.head_channels
        if self.q_attn is None:
            dqkv = np.empty((B, T, 3 * H * D), dy.dtype)
            *_, dscores = attend_backward(dy, cache.attention, out=self.split(dqkv))
            dqk = self.queries_and_keys(dqkv)
            if cache.rotary is not None:
                dqk[...] = rotary_backward(dqk, cache.rotary)
            if cache.qk_norm is not None:
                dqk[...], _ = rmsnorm_backward(dqk, cache.qk_norm)
            dx = self.c_attn.backward(g, dqkv, cache.projections[0])
        else:
            S = cache.attention.k.shape[2]
            dq, dkv = np.empty((B, T, H * D), dy.dtype), np.empty((B, S, 2 * H * D), dy.dtype)
            *_, dscores = attend_backward(dy, cache.attention, out=(*self.split(dq), *self.split(dkv)))
            dx = self.q_attn.backward(g, dq, cache.projections[0])
            dm = self.c_attn.backward(g, dkv, cache.projections[1])
            if dmemory is not None:
                dmemory += dm
        if dbias is not None:
            dbias += dscores
        return dx

    def project(self, linear, p, x):
        """A linear map, cut into heads."""
        y, cache = linear.forward(p, x)
        return self.split(y), cache

    def queries_and_keys(self, qkv):
        """The heads of q and k side by side: (B, T, 3HD) -> a (B, T, 2H, D) view."""
        B, T, _ = qkv.shape
        return qkv.reshape(B, T, 3 * self.n_head, self.head_channels)[:, :, : 2 * self.n_head]

    def split(self, x):
        """Cut channels into heads: (B, T, nHD) or (B, T, nH, D) -> n views (B, H, T, D)."""
        B, T = x.shape[:2]
        return tuple(x.reshape(B, T, -1, self.n_head, self.head_channels).transpose(2, 0, 3, 1, 4))
