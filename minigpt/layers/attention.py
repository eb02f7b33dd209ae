"""Multi-head self-attention (Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2): projections
around ops.attend.

Shapes: B batch, T queries, S keys, C channels, H heads, D channels of a head.
"""

from typing import NamedTuple

import numpy as np

from minigpt.layers.kv_cache import KVCache
from minigpt.layers.linear import Linear
from minigpt.layers.shared import NOTHING_COLLECTED, NOTHING_SHARED
from minigpt.ops.attend import attend, attend_backward
from minigpt.ops.attention import AttentionCache, Mask
from minigpt.ops.dropout import DropoutCache, dropout_backward, dropout_forward
from minigpt.ops.lean_attention import LeanAttentionCache
from minigpt.ops.linear import LinearCache
from minigpt.ops.normalization import RMSNormCache, rmsnorm_backward, rmsnorm_forward
from minigpt.ops.positions import RotaryCache, rotary_backward, rotary_forward


class SelfAttentionCache(NamedTuple):
    c_attn: LinearCache
    qk_norm: RMSNormCache | None
    rotary: RotaryCache | None
    attention: AttentionCache | LeanAttentionCache
    c_proj: LinearCache
    dropout: DropoutCache

    @property
    def weights(self):
        """The attention weights, (B, H, query, key)."""
        return self.attention.weights


class Attention:
    """y = dropout(heads(attention(q, k, v)) @ W + b), where q, k and v are linear maps of the
    input.

    Names and layout are GPT-2's: `c_attn` (C, 3HD) makes q, k and v, `c_proj` (HD, C) brings the
    heads together.

    With qk_norm, q and k of each head are scaled to root mean square 1 first: a score is then at
    most sqrt(D), whatever the matrices grow to (Henry et al. 2020, arXiv:2010.04245, with RMSNorm
    in place of the norm, without a learned scale).
    """

    def __init__(self, name, channels, n_head, *, head_channels=None, causal=False, window=None, scale=None,
                 bias=True, qkv_bias=None, dropout=0.0, std=0.02, residual_std=0.02, qk_norm=False):  # fmt: skip
        """bias: of both maps, qkv_bias of the first if it differs; window, scale and causal as for
        ops.attend and its Mask.
        """
        self.name, self.n_head = name, n_head
        self.head_channels = head_channels or channels // n_head
        self.causal, self.window, self.scale, self.dropout, self.qk_norm = causal, window, scale, dropout, qk_norm
        width = self.n_head * self.head_channels
        qkv = {"std": std, "parts": 3, "rate": (query_rate(scale, self.head_channels), 1.0, 1.0)}
        self.c_attn = Linear(f"{name}.c_attn", channels, 3 * width, bias=bias if qkv_bias is None else qkv_bias, **qkv)
        self.c_proj = Linear(f"{name}.c_proj", width, channels, bias=bias, std=residual_std)

    def parameters(self):
        """The Parameters of this layer, in store order."""
        return self.c_attn.parameters() + self.c_proj.parameters()

    def kv_cache(self, batch, size, dtype):
        """A KVCache for this layer: batch rows, room for `size` tokens."""
        return KVCache(batch, self.n_head, size, self.head_channels, dtype)

    def forward(self, p, x, rng=None, *, shared=NOTHING_SHARED, kv=None):
        """x (B, T, C) -> y (B, T, C), SelfAttentionCache.

        shared: key_mask, bias and rotary are read of it; kv: a KVCache to append to: the T inputs
        are then the newest of its S tokens, and with T = 1 the weights in the cache returned last
        until the next call.
        """
        qkv, c_attn = self.c_attn.forward(p, x)  # (B, T, 3HD)
        q, k, v = split_heads(qkv, self.n_head, self.head_channels)  # three (B, H, T, D) views of it
        qk_norm = rotary = None
        if self.qk_norm or shared.rotary is not None:
            qk = self.queries_and_keys(qkv)
            if self.qk_norm:
                qk, qk_norm = rmsnorm_forward(qk)
            if shared.rotary is not None:
                qk, rotary = rotary_forward(qk, *shared.rotary)
            q, k = split_heads(qk, self.n_head, self.head_channels)
        if kv is not None:
            k, v = kv.append(k, v)
        mask = Mask(self.causal, self.window, shared.key_mask)
        scores = None if kv is None else kv.scores
        y, attention = attend(
            q, k, v, mask=mask, bias=shared.bias, scale=self.scale, dropout=self.dropout, rng=rng, newest_scores=scores
        )
        y, c_proj = self.c_proj.forward(p, merge_heads(y))
        y, dropout = dropout_forward(y, self.dropout, rng)
        return y, SelfAttentionCache(c_attn, qk_norm, rotary, attention, c_proj, dropout)

    def backward(self, g, dy, cache, dshared=NOTHING_COLLECTED):
        """Add this layer's gradients into g, and the bias's into dshared, which is refused without
        one; dy -> dx (B, T, C).
        """
        dy = dropout_backward(dy, cache.dropout)
        dy = self.c_proj.backward(g, dy, cache.c_proj)  # (B, T, HD)
        (dy,) = split_heads(dy, self.n_head, self.head_channels)  # (B, H, T, D)
        dqkv = np.empty((dy.shape[0], dy.shape[2], 3 * self.n_head * self.head_channels), dy.dtype)
        *_, dbias = attend_backward(dy, cache.attention, out=split_heads(dqkv, self.n_head, self.head_channels))
        if dbias is not None:
            dshared.add("bias", dbias)
        dqk = self.queries_and_keys(dqkv)
        if cache.rotary is not None:
            dqk[...] = rotary_backward(dqk, cache.rotary)
        if cache.qk_norm is not None:
            dqk[...], _ = rmsnorm_backward(dqk, cache.qk_norm)
        return self.c_attn.backward(g, dqkv, cache.c_attn)

    def queries_and_keys(self, qkv):
        """The heads of q and k side by side: (B, T, 3HD) -> a (B, T, 2H, D) view."""
        B, T, _ = qkv.shape
        return qkv.reshape(B, T, 3 * self.n_head, self.head_channels)[:, :, : 2 * self.n_head]


def split_heads(x, heads, channels):
    """Cut channels into heads: (B, T, nHD) or (B, T, nH, D) -> n views (B, H, T, D)."""
    B, T = x.shape[:2]
    return tuple(x.reshape(B, T, -1, heads, channels).transpose(2, 0, 3, 1, 4))


def merge_heads(y):
    """Lay heads side by side: (B, H, T, D) -> (B, T, HD), a view of what ops.attend returns."""
    B, _, T, _ = y.shape
    return y.swapaxes(1, 2).reshape(B, T, -1)


def query_rate(scale, head_channels):
    """The factor of Muon's learning rate for the matrix of queries:

        1 / (sqrt(D) scale)

    1 where scores are divided by sqrt(D). Where they are not, as in T5, that division is part of
    the matrix, which is smaller by as much: an update has to be, too. Without this Muon moves the
    queries of a T5 of D = 64 eight times as fast as its keys, and its attention saturates.
    """
    return 1.0 if scale is None else head_channels**-0.5 / scale
