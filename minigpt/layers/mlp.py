"""The position-wise feed-forward network of a block (Vaswani et al. 2017, arXiv:1706.03762, section 3.3)."""

from typing import NamedTuple

from minigpt.layers.linear import Linear
from minigpt.ops.activations import ACTIVATIONS
from minigpt.ops.dropout import DropoutCache, dropout_backward, dropout_forward
from minigpt.ops.linear import LinearCache


class MLPCache(NamedTuple):
    c_fc: LinearCache
    activation: tuple
    c_proj: LinearCache
    dropout: DropoutCache


class MLP:
    """y = dropout(act(x @ W1 + b1) @ W2 + b2), names and shapes of GPT-2: c_fc (C, F), c_proj (F, C)."""

    def __init__(self, name, channels, hidden, activation="gelu_tanh", bias=True, dropout=0.0, std=0.02, residual_std=0.02):
        self.c_fc = Linear(f"{name}.c_fc", channels, hidden, bias, std)
        self.c_proj = Linear(f"{name}.c_proj", hidden, channels, bias, residual_std)
        self.activation = activation  # a name of ACTIVATIONS
        self.dropout = dropout

    def parameters(self):
        """The Parameters of this layer, in store order."""
        return self.c_fc.parameters() + self.c_proj.parameters()

    def forward(self, p, x, rng=None):
        """x (..., C) -> y (..., C), MLPCache."""
        h, c1 = self.c_fc.forward(p, x)
        activation_forward, _ = ACTIVATIONS[self.activation]  # looked up when it runs, not kept: an observer of ops may have put its own there
        a, c2 = activation_forward(h)
        y, c3 = self.c_proj.forward(p, a)
        y, c4 = dropout_forward(y, self.dropout, rng)
        return y, MLPCache(c1, c2, c3, c4)

    def backward(self, g, dy, cache):
        """Add this layer's gradients into g; dy (..., C) -> dx (..., C)."""
        dy = dropout_backward(dy, cache.dropout)
        da = self.c_proj.backward(g, dy, cache.c_proj)
        _, activation_backward = ACTIVATIONS[self.activation]
        dh = activation_backward(da, cache.activation)
        return self.c_fc.backward(g, dh, cache.c_fc)
