"""A named affine map."""

from minigpt.layers.store import Parameter
from minigpt.ops.linear import linear_backward, linear_forward


class Linear:
    """y = x @ weight + bias, weight (inputs, outputs) drawn from normal(0, std), bias zero;
    ops.linear_forward has the formulas.
    """

    def __init__(self, name, inputs, outputs, *, bias=True, std=0.02, role="hidden", parts=1, rate=1.0):
        """role, parts and rate: of the weight, as for Parameter."""
        self.name = name
        self.weight = Parameter(f"{name}.weight", (inputs, outputs), role, std=std, parts=parts, rate=rate)
        self.bias = Parameter(f"{name}.bias", (outputs,), "vector") if bias else None

    def parameters(self):
        """The Parameters of this layer, in store order."""
        return [self.weight, self.bias] if self.bias else [self.weight]

    def forward(self, p, x):
        """x (..., inputs) -> y (..., outputs), cache."""
        return linear_forward(x, p[self.weight.name], p[self.bias.name] if self.bias else None)

    def backward(self, g, dy, cache):
        """Add this layer's gradients into g, where it has their names; dy (..., outputs) -> dx
        (..., inputs).
        """
        dx, dweight, dbias = linear_backward(dy, cache, with_dweight=self.weight.name in g)
        if dweight is not None:
            g[self.weight.name] += dweight
        if self.bias and self.bias.name in g:
            g[self.bias.name] += dbias
        return dx
