"""The position-wise feed-forward network of a block (Vaswani et al. 2017, arXiv:1706.03762, section
3.3).
"""

from typing import NamedTuple

from minigpt.layers.linear import Linear
from minigpt.ops.activations import ACTIVATIONS, GeluCache, GeluTanhCache, ReluCache, SiluCache
from minigpt.ops.dropout import DropoutCache, dropout_backward, dropout_forward
from minigpt.ops.linear import LinearCache


class MLPCache(NamedTuple):
    c_fc: LinearCache
    activation: GeluCache | GeluTanhCache | ReluCache | SiluCache
    c_proj: LinearCache
    dropout: DropoutCache


class MLP:
    """y = dropout(act(x @ W1 + b1) @ W2 + b2), names and shapes of GPT-2: c_fc (C, F), c_proj (F,
    C).
    """

    def __init__(
        self, name, channels, hidden, *, activation="gelu_tanh", bias=True, dropout=0.0, std=0.02, residual_std=0.02
    ):
        self.name, self.activation, self.dropout = name, activation, dropout
        self.c_fc = Linear(f"{name}.c_fc", channels, hidden, bias=bias, std=std)
        self.c_proj = Linear(f"{name}.c_proj", hidden, channels, bias=bias, std=residual_std)

    def parameters(self):
        """The Parameters of this layer, in store order."""
        return self.c_fc.parameters() + self.c_proj.parameters()

    def forward(self, p, x, rng=None):
        """x (..., C) -> y (..., C), MLPCache."""
        activation_forward, _ = ACTIVATIONS[self.activation]
        h, c_fc = self.c_fc.forward(p, x)
        a, activation = activation_forward(h)
        y, c_proj = self.c_proj.forward(p, a)
        y, dropout = dropout_forward(y, self.dropout, rng)
        return y, MLPCache(c_fc, activation, c_proj, dropout)

    def backward(self, g, dy, cache):
        """Add this layer's gradients into g; dy (..., C) -> dx (..., C)."""
        _, activation_backward = ACTIVATIONS[self.activation]
        dy = dropout_backward(dy, cache.dropout)
        da = self.c_proj.backward(g, dy, cache.c_proj)
        dh = activation_backward(da, cache.activation)
        return self.c_fc.backward(g, dh, cache.c_fc)
