"""One layer of a transformer: attention and MLP, each with a residual connection and a normalisation."""

from typing import NamedTuple


class BlockCache(NamedTuple):
    ln_1: tuple
    attn: tuple
    ln_2: tuple
    mlp: tuple


class PreNormBlock:
    """Normalise, transform, add (GPT-2, T5, CTRL; Xiong et al. 2020, arXiv:2002.04745).

        x = x + attn(ln_1(x));    x = x + mlp(ln_2(x))
    """

    def __init__(self, ln_1, attn, ln_2, mlp):
        self.ln_1, self.attn, self.ln_2, self.mlp = ln_1, attn, ln_2, mlp

    def parameters(self):
        """The Parameters of the four parts, in store order."""
        return self.ln_1.parameters() + self.attn.parameters() + self.ln_2.parameters() + self.mlp.parameters()

    def forward(self, p, x, rng=None, key_mask=None, bias=None, kv=None, rotary=None):
        """x (B, T, C) -> y (B, T, C), BlockCache; key_mask, bias, kv and rotary are handed to attention."""
        h, c1 = self.ln_1.forward(p, x)
        a, c2 = self.attn.forward(p, h, rng, key_mask=key_mask, bias=bias, kv=kv, rotary=rotary)
        x = x + a
        h, c3 = self.ln_2.forward(p, x)
        m, c4 = self.mlp.forward(p, h, rng)
        return x + m, BlockCache(c1, c2, c3, c4)

    def backward(self, g, dx, cache, dbias=None):
        """Add the gradients of the four parts into g; dy (B, T, C) -> dx (B, T, C)."""
        dx = dx + self.ln_2.backward(g, self.mlp.backward(g, dx, cache.mlp), cache.ln_2)
        return dx + self.ln_1.backward(g, self.attn.backward(g, dx, cache.attn, dbias=dbias), cache.ln_1)


class PostNormBlock:
    """Transform, add, normalise: the order of the first transformer, of BERT and RoBERTa.

        x = ln_1(x + attn(x));    x = ln_2(x + mlp(x))
    """

    def __init__(self, ln_1, attn, ln_2, mlp):
        self.ln_1, self.attn, self.ln_2, self.mlp = ln_1, attn, ln_2, mlp

    def parameters(self):
        """The Parameters of the four parts, in store order."""
        return self.attn.parameters() + self.ln_1.parameters() + self.mlp.parameters() + self.ln_2.parameters()

    def forward(self, p, x, rng=None, key_mask=None, bias=None, kv=None, rotary=None):
        """x (B, T, C) -> y (B, T, C), BlockCache; key_mask, bias, kv and rotary are handed to attention."""
        a, c1 = self.attn.forward(p, x, rng, key_mask=key_mask, bias=bias, kv=kv, rotary=rotary)
        x, c2 = self.ln_1.forward(p, x + a)
        m, c3 = self.mlp.forward(p, x, rng)
        x, c4 = self.ln_2.forward(p, x + m)
        return x, BlockCache(c2, c1, c4, c3)

    def backward(self, g, dx, cache, dbias=None):
        """Add the gradients of the four parts into g; dy (B, T, C) -> dx (B, T, C)."""
        dx = self.ln_2.backward(g, dx, cache.ln_2)
        dx = dx + self.mlp.backward(g, dx, cache.mlp)
        dx = self.ln_1.backward(g, dx, cache.ln_1)
        return dx + self.attn.backward(g, dx, cache.attn, dbias=dbias)
