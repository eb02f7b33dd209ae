"""One layer of a transformer: attention and MLP, each with a residual connection and a
normalisation.
"""

from typing import NamedTuple

from minigpt.layers.attention import SelfAttentionCache
from minigpt.layers.cross_attention import CrossAttentionCache
from minigpt.layers.mlp import GatedMLPCache, MLPCache
from minigpt.layers.shared import NOTHING_COLLECTED, NOTHING_SHARED
from minigpt.ops.normalization import LayerNormCache, RMSNormCache


class PreNormCache(NamedTuple):
    ln_1: LayerNormCache | RMSNormCache
    attn: SelfAttentionCache
    ln_2: LayerNormCache | RMSNormCache
    mlp: MLPCache | GatedMLPCache


class PreNormBlock:
    """Normalise, transform, add (GPT-2, CTRL, T5's encoder; Xiong et al. 2020, arXiv:2002.04745).

    x = x + attn(ln_1(x));    x = x + mlp(ln_2(x))
    """

    def __init__(self, ln_1, attn, ln_2, mlp):
        self.ln_1, self.attn, self.ln_2, self.mlp = ln_1, attn, ln_2, mlp

    def parameters(self):
        """The Parameters of the four parts, in store order."""
        return self.ln_1.parameters() + self.attn.parameters() + self.ln_2.parameters() + self.mlp.parameters()

    def forward(self, p, x, rng=None, *, shared=NOTHING_SHARED, kv=None):
        """x (B, T, C) -> y (B, T, C), PreNormCache; shared and kv are handed to attention."""
        h, ln_1 = self.ln_1.forward(p, x)
        a, attn = self.attn.forward(p, h, rng, shared=shared, kv=kv)
        x = x + a
        h, ln_2 = self.ln_2.forward(p, x)
        m, mlp = self.mlp.forward(p, h, rng)
        return x + m, PreNormCache(ln_1, attn, ln_2, mlp)

    def backward(self, g, dy, cache, dshared=NOTHING_COLLECTED):
        """Add the gradients of the four parts into g, those of what is shared into dshared; dy (B,
        T, C) -> dx (B, T, C).
        """
        dx = dy + self.ln_2.backward(g, self.mlp.backward(g, dy, cache.mlp), cache.ln_2)
        return dx + self.ln_1.backward(g, self.attn.backward(g, dx, cache.attn, dshared), cache.ln_1)


class PostNormCache(NamedTuple):
    attn: SelfAttentionCache
    ln_1: LayerNormCache
    mlp: MLPCache | GatedMLPCache
    ln_2: LayerNormCache


class PostNormBlock:
    """Transform, add, normalise: the order of the first transformer, of BERT and RoBERTa.

    x = ln_1(x + attn(x));    x = ln_2(x + mlp(x))
    """

    def __init__(self, ln_1, attn, ln_2, mlp):
        self.ln_1, self.attn, self.ln_2, self.mlp = ln_1, attn, ln_2, mlp

    def parameters(self):
        """The Parameters of the four parts, in store order."""
        return self.attn.parameters() + self.ln_1.parameters() + self.mlp.parameters() + self.ln_2.parameters()

    def forward(self, p, x, rng=None, *, shared=NOTHING_SHARED, kv=None):
        """x (B, T, C) -> y (B, T, C), PostNormCache; shared and kv are handed to attention."""
        a, attn = self.attn.forward(p, x, rng, shared=shared, kv=kv)
        x, ln_1 = self.ln_1.forward(p, x + a)
        m, mlp = self.mlp.forward(p, x, rng)
        x, ln_2 = self.ln_2.forward(p, x + m)
        return x, PostNormCache(attn, ln_1, mlp, ln_2)

    def backward(self, g, dy, cache, dshared=NOTHING_COLLECTED):
        """Add the gradients of the four parts into g, those of what is shared into dshared; dy (B,
        T, C) -> dx (B, T, C).
        """
        dx = self.ln_2.backward(g, dy, cache.ln_2)
        dx = dx + self.mlp.backward(g, dx, cache.mlp)
        dx = self.ln_1.backward(g, dx, cache.ln_1)
        return dx + self.attn.backward(g, dx, cache.attn, dshared)


class DecoderCache(NamedTuple):
    ln_1: LayerNormCache | RMSNormCache
    attn: SelfAttentionCache
    ln_cross: LayerNormCache | RMSNormCache
    cross: CrossAttentionCache
    ln_2: LayerNormCache | RMSNormCache
    mlp: MLPCache | GatedMLPCache


class DecoderBlock:
    """A pre-norm block that reads a memory between its attention and its MLP (T5's decoder; Raffel
    et al. 2019, arXiv:1910.10683).

        x = x + attn(ln_1(x));    x = x + cross(ln_cross(x), memory);    x = x + mlp(ln_2(x))
    """

    def __init__(self, ln_1, attn, ln_cross, cross, ln_2, mlp):
        self.ln_1, self.attn, self.ln_cross, self.cross, self.ln_2, self.mlp = ln_1, attn, ln_cross, cross, ln_2, mlp

    def parameters(self):
        """The Parameters of the six parts, in store order."""
        parts = (self.ln_1, self.attn, self.ln_cross, self.cross, self.ln_2, self.mlp)
        return [parameter for part in parts for parameter in part.parameters()]

    def forward(self, p, x, rng=None, *, shared, kv=None):
        """x (B, T, C) -> y (B, T, C), DecoderCache; kv: the KVCaches of attn and of cross."""
        own_kv, memory_kv = kv or (None, None)
        h, ln_1 = self.ln_1.forward(p, x)
        a, attn = self.attn.forward(p, h, rng, shared=shared, kv=own_kv)
        x = x + a
        h, ln_cross = self.ln_cross.forward(p, x)
        c, cross = self.cross.forward(p, h, rng, shared=shared, kv=memory_kv)
        x = x + c
        h, ln_2 = self.ln_2.forward(p, x)
        m, mlp = self.mlp.forward(p, h, rng)
        return x + m, DecoderCache(ln_1, attn, ln_cross, cross, ln_2, mlp)

    def backward(self, g, dy, cache, dshared):
        """Add the gradients of the six parts into g, those of bias and memory into dshared; dy (B,
        T, C) -> dx (B, T, C).
        """
        dx = dy + self.ln_2.backward(g, self.mlp.backward(g, dy, cache.mlp), cache.ln_2)
        dx = dx + self.ln_cross.backward(g, self.cross.backward(g, dx, cache.cross, dshared), cache.ln_cross)
        return dx + self.ln_1.backward(g, self.attn.backward(g, dx, cache.attn, dshared), cache.ln_1)
