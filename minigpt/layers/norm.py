"""Named normalisations."""

from minigpt.layers.store import Parameter
from minigpt.ops.normalization import layernorm_backward, layernorm_forward, rmsnorm_backward, rmsnorm_forward


class LayerNorm:
    """Layer normalisation with a learned scale and, unless bias=False, a learned shift;
    ops.layernorm_forward has the formulas.
    """

    def __init__(self, name, channels, *, bias=True, eps=1e-5):
        self.name, self.eps = name, eps
        self.weight = Parameter(f"{name}.weight", (channels,), "vector", mean=1.0)
        self.bias = Parameter(f"{name}.bias", (channels,), "vector") if bias else None

    def parameters(self):
        """The Parameters of this layer, in store order."""
        return [self.weight, self.bias] if self.bias else [self.weight]

    def forward(self, p, x):
        """x (..., C) -> y (..., C), cache."""
        return layernorm_forward(x, p[self.weight.name], p[self.bias.name] if self.bias else None, self.eps)

    def backward(self, g, dy, cache):
        """Add this layer's gradients into g, where it has them; dy (..., C) -> dx (..., C)."""
        dx, dweight, dbias = layernorm_backward(dy, cache, with_dweight=self.weight.name in g)
        if dweight is not None:
            g[self.weight.name] += dweight
        if self.bias and self.bias.name in g:
            g[self.bias.name] += dbias
        return dx


class RMSNorm:
    """Root-mean-square normalisation with a learned scale; ops.rmsnorm_forward has the formulas."""

    def __init__(self, name, channels, eps=1e-6):
        self.name, self.eps = name, eps
        self.weight = Parameter(f"{name}.weight", (channels,), "vector", mean=1.0)

    def parameters(self):
        """The Parameters of this layer, in store order."""
        return [self.weight]

    def forward(self, p, x):
        """x (..., C) -> y (..., C), cache."""
        return rmsnorm_forward(x, p[self.weight.name], self.eps)

    def backward(self, g, dy, cache):
        """Add this layer's gradients into g, where it has them; dy (..., C) -> dx (..., C)."""
        dx, dweight = rmsnorm_backward(dy, cache, with_dweight=self.weight.name in g)
        if dweight is not None:
            g[self.weight.name] += dweight
        return dx
