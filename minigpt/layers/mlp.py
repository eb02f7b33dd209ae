"""The position-wise feed-forward network of a block (Vaswani et al. 2017, arXiv:1706.03762, section
3.3), plain and gated.
"""

from typing import NamedTuple

from minigpt.layers.linear import Linear
from minigpt.ops.activations import ACTIVATIONS, GeluCache, GeluTanhCache, ReluCache, SiluCache
from minigpt.ops.dropout import DropoutCache, dropout_backward, dropout_forward
from minigpt.ops.gating import GateCache, gate_backward, gate_forward
from minigpt.ops.linear import LinearCache


class MLPCache(NamedTuple):
    c_fc: LinearCache
    activation: GeluCache | GeluTanhCache | ReluCache | SiluCache
    inner: DropoutCache | None
    c_proj: LinearCache
    dropout: DropoutCache


class MLP:
    """y = dropout(act(x @ W1 + b1) @ W2 + b2), names and shapes of GPT-2: c_fc (C, F), c_proj (F,
    C). With inner_dropout, T5's, what is activated is dropped as well.
    """

    def __init__(self, name, channels, hidden, *, activation="gelu_tanh", bias=True, dropout=0.0, inner_dropout=0.0,
                 std=0.02, residual_std=0.02):  # fmt: skip
        self.name, self.activation, self.dropout, self.inner_dropout = name, activation, dropout, inner_dropout
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
        inner = None
        if self.inner_dropout:
            a, inner = dropout_forward(a, self.inner_dropout, rng)
        y, c_proj = self.c_proj.forward(p, a)
        y, dropout = dropout_forward(y, self.dropout, rng)
        return y, MLPCache(c_fc, activation, inner, c_proj, dropout)

    def backward(self, g, dy, cache):
        """Add this layer's gradients into g; dy (..., C) -> dx (..., C)."""
        _, activation_backward = ACTIVATIONS[self.activation]
        dy = dropout_backward(dy, cache.dropout)
        da = self.c_proj.backward(g, dy, cache.c_proj)
        if cache.inner is not None:
            da = dropout_backward(da, cache.inner)
        dh = activation_backward(da, cache.activation)
        return self.c_fc.backward(g, dh, cache.c_fc)


class GatedMLPCache(NamedTuple):
    c_gate: LinearCache
    activation: GeluCache | GeluTanhCache | ReluCache | SiluCache
    c_fc: LinearCache
    gate: GateCache
    inner: DropoutCache
    c_proj: LinearCache
    dropout: DropoutCache


class GatedMLP:
    """y = dropout(dropout(act(x @ Wg) * (x @ Wf)) @ Wo), without biases: c_gate and c_fc (C, F),
    c_proj (F, C). Shazeer 2020, arXiv:2002.05202, eq. 6; T5 v1.1.
    """

    def __init__(self, name, channels, hidden, *, activation="gelu_tanh", dropout=0.0, inner_dropout=0.0, std=0.02,
                 residual_std=0.02):  # fmt: skip
        self.name, self.activation, self.dropout, self.inner_dropout = name, activation, dropout, inner_dropout
        self.c_gate = Linear(f"{name}.c_gate", channels, hidden, bias=False, std=std)
        self.c_fc = Linear(f"{name}.c_fc", channels, hidden, bias=False, std=std)
        self.c_proj = Linear(f"{name}.c_proj", hidden, channels, bias=False, std=residual_std)

    def parameters(self):
        """The Parameters of this layer, in store order."""
        return self.c_gate.parameters() + self.c_fc.parameters() + self.c_proj.parameters()

    def forward(self, p, x, rng=None):
        """x (..., C) -> y (..., C), GatedMLPCache."""
        activation_forward, _ = ACTIVATIONS[self.activation]
        h, c_gate = self.c_gate.forward(p, x)
        a, activation = activation_forward(h)
        value, c_fc = self.c_fc.forward(p, x)
        a, gate = gate_forward(a, value)
        a, inner = dropout_forward(a, self.inner_dropout, rng)
        y, c_proj = self.c_proj.forward(p, a)
        y, dropout = dropout_forward(y, self.dropout, rng)
        return y, GatedMLPCache(c_gate, activation, c_fc, gate, inner, c_proj, dropout)

    def backward(self, g, dy, cache):
        """Add this layer's gradients into g; dy (..., C) -> dx (..., C)."""
        _, activation_backward = ACTIVATIONS[self.activation]
        dy = dropout_backward(dy, cache.dropout)
        da = self.c_proj.backward(g, dy, cache.c_proj)
        da = dropout_backward(da, cache.inner)
        da, dvalue = gate_backward(da, cache.gate)
        dx = self.c_fc.backward(g, dvalue, cache.c_fc)
        dh = activation_backward(da, cache.activation)
        return dx + self.c_gate.backward(g, dh, cache.c_gate)
