"""What stands on an encoder: the pooler, the head of the masked language model, and classifiers.

Shapes: B batch, T time, C channels, V vocabulary, L labels.
"""

from typing import NamedTuple

import numpy as np

from minigpt.layers.linear import Linear
from minigpt.ops.activations import (
    ACTIVATIONS,
    GeluCache,
    GeluTanhCache,
    ReluCache,
    SiluCache,
    TanhCache,
    tanh_backward,
    tanh_forward,
)
from minigpt.ops.dropout import DropoutCache, dropout_backward, dropout_forward
from minigpt.ops.embedding import EmbeddingCache, UnembeddingCache, embedding_backward, embedding_forward
from minigpt.ops.linear import LinearCache
from minigpt.ops.normalization import LayerNormCache


class PoolerCache(NamedTuple):
    shape: tuple  # of the input
    dense: LinearCache
    tanh: TanhCache


class Pooler:
    """y = tanh(x[:, 0] @ W + b): the first token's vector, which stands for the whole text (Devlin
    et al. 2018, arXiv:1810.04805, section 3.1; its code).
    """

    def __init__(self, name, channels):
        self.name = name
        self.dense = Linear(name, channels, channels)

    def parameters(self):
        """The Parameters of this layer, in store order."""
        return self.dense.parameters()

    def forward(self, p, x):
        """x (B, T, C) -> y (B, C), PoolerCache."""
        y, dense = self.dense.forward(p, x[:, 0])
        y, tanh = tanh_forward(y)
        return y, PoolerCache(x.shape, dense, tanh)

    def backward(self, g, dy, cache):
        """Add this layer's gradients into g; dy (B, C) -> dx (B, T, C), zero but for the first
        token.
        """
        dy = tanh_backward(dy, cache.tanh)
        return of_first_token(self.dense.backward(g, dy, cache.dense), cache.shape)


class MaskedLMCache(NamedTuple):
    shape: tuple  # of the input
    rows: EmbeddingCache | None  # where the head ran at some tokens alone
    transform: LinearCache
    activation: GeluCache | GeluTanhCache | ReluCache | SiluCache
    ln: LayerNormCache
    decoder: UnembeddingCache | LinearCache


class MaskedLMHead:
    """Logits of the token that a mask hides: y = decoder(ln(act(transform(x)))).

    BERT's and RoBERTa's code; the paper has the decoder alone (section 3.1, task 1).
    """

    def __init__(self, name, transform, ln, decoder, *, activation="gelu"):
        """transform: a Linear (C, C); ln: a LayerNorm; decoder: a TiedHead or Linear to V."""
        self.name, self.activation = name, activation
        self.transform, self.ln, self.decoder = transform, ln, decoder

    def parameters(self):
        """The Parameters of the three parts, in store order."""
        return self.transform.parameters() + self.ln.parameters() + self.decoder.parameters()

    def forward(self, p, x, at=None):
        """x (..., C) -> y (..., V), MaskedLMCache.

        at (n,) int: the tokens, counted through the leading axes, whose logits y (n, V) are wanted;
        all unless given.
        """
        activation_forward, _ = ACTIVATIONS[self.activation]
        h, rows = (x, None) if at is None else embedding_forward(at, x.reshape(-1, x.shape[-1]))
        h, transform = self.transform.forward(p, h)
        h, activation = activation_forward(h)
        h, ln = self.ln.forward(p, h)
        y, decoder = self.decoder.forward(p, h)
        return y, MaskedLMCache(x.shape, rows, transform, activation, ln, decoder)

    def backward(self, g, dy, cache):
        """Add the gradients of the three parts into g; dy as y -> dx (..., C), zero at tokens where
        the head did not run.
        """
        _, activation_backward = ACTIVATIONS[self.activation]
        dh = self.decoder.backward(g, dy, cache.decoder)
        dh = self.ln.backward(g, dh, cache.ln)
        dh = activation_backward(dh, cache.activation)
        dx = self.transform.backward(g, dh, cache.transform)
        return dx if cache.rows is None else embedding_backward(dx, cache.rows).reshape(cache.shape)


class ClassifierCache(NamedTuple):
    dropout: DropoutCache
    out: LinearCache


class Classifier:
    """y = dropout(x) @ W + b: logits of L labels, of a pooled text or of each token."""

    def __init__(self, name, channels, labels, *, dropout=0.0):
        self.name, self.dropout = name, dropout
        self.out = Linear(name, channels, labels, role="head")

    def parameters(self):
        """The Parameters of this layer, in store order."""
        return self.out.parameters()

    def forward(self, p, x, rng=None):
        """x (..., C) -> y (..., L), ClassifierCache."""
        x, dropout = dropout_forward(x, self.dropout, rng)
        y, out = self.out.forward(p, x)
        return y, ClassifierCache(dropout, out)

    def backward(self, g, dy, cache):
        """Add this layer's gradients into g; dy (..., L) -> dx (..., C)."""
        return dropout_backward(self.out.backward(g, dy, cache.out), cache.dropout)


class FirstTokenClassifierCache(NamedTuple):
    shape: tuple  # of the input
    dropout_in: DropoutCache
    dense: LinearCache
    tanh: TanhCache
    dropout: DropoutCache
    out: LinearCache


class FirstTokenClassifier:
    """y = dropout(tanh(dropout(x[:, 0]) @ W1 + b1)) @ W2 + b2: a pooler and a classifier in one
    head, RoBERTa's.
    """

    def __init__(self, name, channels, labels, *, dropout=0.0):
        self.name, self.dropout = name, dropout
        self.dense = Linear(f"{name}.dense", channels, channels)
        self.out = Linear(f"{name}.out", channels, labels, role="head")

    def parameters(self):
        """The Parameters of this layer, in store order."""
        return self.dense.parameters() + self.out.parameters()

    def forward(self, p, x, rng=None):
        """x (B, T, C) -> y (B, L), FirstTokenClassifierCache."""
        h, dropout_in = dropout_forward(x[:, 0], self.dropout, rng)
        h, dense = self.dense.forward(p, h)
        h, tanh = tanh_forward(h)
        h, dropout = dropout_forward(h, self.dropout, rng)
        y, out = self.out.forward(p, h)
        return y, FirstTokenClassifierCache(x.shape, dropout_in, dense, tanh, dropout, out)

    def backward(self, g, dy, cache):
        """Add this layer's gradients into g; dy (B, L) -> dx (B, T, C), zero but for the first
        token.
        """
        dh = self.out.backward(g, dy, cache.out)
        dh = dropout_backward(dh, cache.dropout)
        dh = tanh_backward(dh, cache.tanh)
        dh = self.dense.backward(g, dh, cache.dense)
        return of_first_token(dropout_backward(dh, cache.dropout_in), cache.shape)


def of_first_token(dy, shape):
    """Gradient of x[:, 0]: dy (B, C) -> dx (B, T, C), of this shape."""
    dx = np.zeros(shape, dy.dtype)
    dx[:, 0] = dy
    return dx
