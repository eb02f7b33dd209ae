"""A named affine map."""

from minigpt.layers.store import Parameter
from minigpt.ops.linear import linear_backward, linear_forward


class Linear:
    """y = x @ weight + bias, weight (inputs, outputs) drawn from normal(0, std), bias zero; ops.linear_forward has the formulas."""

    def __init__(self, name, inputs, outputs, bias=True, std=0.02, matrices=1):
        self.weight = Parameter(f"{name}.weight", (inputs, outputs), std=std, matrices=matrices)
        self.bias = Parameter(f"{name}.bias", (outputs,)) if bias else None

    def parameters(self):
        """The Parameters of this layer, in store order."""
        return [self.weight, self.bias] if self.bias else [self.weight]

    def forward(self, p, x):
        """x (..., inputs) -> y (..., outputs), cache."""
        return linear_forward(x, p[self.weight.name], p[self.bias.name] if self.bias else None)

    def backward(self, g, dy, cache):
        """Add this layer's gradients into g; dy (..., outputs) -> dx (..., inputs)."""
        dx, dweight, dbias = linear_backward(dy, cache)
        g[self.weight.name] += dweight
        if self.bias:
            g[self.bias.name] += dbias
        return dx
