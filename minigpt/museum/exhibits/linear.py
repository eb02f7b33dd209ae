"""Mistakes planted in linear maps."""

from minigpt.museum.checks import gradients
from minigpt.museum.planting import Edit, gradient, other
from minigpt.museum.training_oracles import micro_batches

EXHIBITS = [
    gradient(
        "linear: the bias's gradient a mean over rows", "ops.linear", "linear_backward",
        "column_sum(rows) if", "column_sum(rows) / len(rows) if", gradients.linear, "linear.bias",
        "biases hardly move under SGD; Adam hides it",
    ),
    gradient(
        "linear: dweight of the last batch row only", "ops.linear", "linear_backward",
        "x.reshape(-1, x.shape[-1]).T @ rows", "x[-1].T @ dy[-1]", gradients.linear, "linear.weight",
        "as noisy as a batch of 1, however large the batch",
    ),
    gradient(
        "linear: dweight kept in float16", "ops.linear", "linear_backward",
        ".T @ rows", ".T @ rows.astype(np.float16).astype(dy.dtype)", gradients.linear, "linear.weight",
        "small gradients vanish late in training, when they matter",
    ),
    gradient(
        "linear: a float32 in the middle of a float64 backward", "ops.linear", "linear_backward",
        "(rows @ weight.T)", "(rows @ weight.T).astype(np.float32)", gradients.linear, "linear.x",
        "none; a gradient check by any other method takes it for its own rounding",
    ),
    gradient(
        "linear layer: the bias's gradient never added", "layers.linear", "Linear.backward",
        "if self.bias and self.bias.name in g:", "if False:", gradients.gpt, "h.1.mlp.c_proj.bias",
        "biases stay at zero; hard to see in the loss",
    ),
    other(
        "linear layer: gradient overwritten by each micro-batch",
        Edit("layers.linear", "Linear.backward", "g[self.weight.name] += dweight", "g[self.weight.name] = dweight"),
        "invariance: micro-batches add up", micro_batches, "gradient",
        "accumulation has no effect: as noisy as the last micro-batch alone", gradients.gpt,
    ),
]  # fmt: skip
