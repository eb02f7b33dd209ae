"""Mistakes planted in LayerNorm and RMSNorm."""

from minigpt.museum.checks import gradients
from minigpt.museum.oracles import golden_loss, layernorm_oracle
from minigpt.museum.planting import Edit, gradient, other

EXHIBITS = [
    gradient(
        "LayerNorm: the mean's term dropped", "ops.normalization", "layernorm_backward",
        "dx = dxhat - row_mean(dxhat)", "dx = dxhat.copy()", gradients.layernorm, "layernorm.x",
        "learns, a little worse; the residual stream's mean drifts, which LayerNorm cannot feel",
    ),
    gradient(
        "LayerNorm: the variance's term dropped", "ops.normalization", "layernorm_backward",
        "dx -= xhat * row_mean(dxhat * xhat)", "pass", gradients.layernorm, "layernorm.x",
        "learns, and the residual stream grows without end: the gradient believes that its length still matters",
    ),
    gradient(
        "LayerNorm: dx not divided by the standard deviation", "ops.normalization", "layernorm_backward",
        "dx *= rstd", "pass", gradients.layernorm, "layernorm.x",
        "lower layers get gradients that are too long by the stream's size, more in each block: clipping hides it",
    ),
    gradient(
        "LayerNorm: its weight forgotten on the way down", "ops.normalization", "layernorm_backward",
        "dxhat = dy * weight", "dxhat = dy", gradients.layernorm, "layernorm.x",
        "none at first, since the weights start at 1; the loss levels off early",
    ),
    gradient(
        "LayerNorm: dweight from dy alone", "ops.normalization", "layernorm_backward",
        "dweight = column_sum(dy * xhat)", "dweight = column_sum(dy)", gradients.layernorm, "layernorm.weight",
        "weight and bias move together; hard to see in the loss",
    ),
    gradient(
        "LayerNorm: backward assumes a variance of exactly 1, without eps", "ops.normalization", "layernorm_backward",
        "xhat * row_mean(dxhat * xhat)", "xhat * row_mean(dxhat * xhat) / row_mean(xhat * xhat)", gradients.layernorm,
        "layernorm.x",
        "none, until a row is nearly constant",
    ),
    gradient(
        "LayerNorm: unbiased variance (C - 1) in backward only", "ops.normalization", "layernorm_backward",
        "row_mean(dxhat * xhat)", "(dxhat * xhat).sum(axis=-1, keepdims=True) / (len(weight) - 1)",
        gradients.wide_layernorm, "layernorm.x",
        "none: one part in C of one term",
    ),
    gradient(
        "LayerNorm: unbiased variance (C - 1) in forward only", "ops.normalization", "layernorm_forward",
        "row_mean(xhat * xhat) + eps", "(xhat * xhat).sum(axis=-1, keepdims=True) / (len(weight) - 1) + eps",
        gradients.layernorm, "layernorm.x",
        "loads a checkpoint with a slightly higher loss than it was trained to",
    ),
    gradient(
        "RMSNorm: the projection dropped", "ops.normalization", "rmsnorm_backward",
        "dx -= xhat * row_mean(dx * xhat)", "pass", gradients.rmsnorm, "rmsnorm.x",
        "learns, and the residual stream grows without end",
    ),
    gradient(
        "RMSNorm: eps outside the root in forward only", "ops.normalization", "rmsnorm_forward",
        "1 / np.sqrt(row_mean(x * x) + eps)", "1 / (np.sqrt(row_mean(x * x)) + eps)", gradients.rmsnorm, "rmsnorm.x",
        "none: one part in a million",
    ),
    other(
        "LayerNorm: unbiased variance (C - 1), both ways",
        (
            Edit(
                "ops.normalization", "layernorm_forward",
                "row_mean(xhat * xhat) + eps", "(xhat * xhat).sum(axis=-1, keepdims=True) / (len(weight) - 1) + eps",
            ),
            Edit(
                "ops.normalization", "layernorm_backward",
                "row_mean(dxhat * xhat)", "(dxhat * xhat).sum(axis=-1, keepdims=True) / (len(weight) - 1)",
            ),
        ),
        "oracle: norms in loops", layernorm_oracle, "layernorm",
        "none in training from scratch; a checkpoint from elsewhere is off by one part in 2C", gradients.layernorm,
    ),
    other(
        "RMSNorm: eps outside the root, both ways",
        (
            Edit(
                "ops.normalization", "rmsnorm_forward",
                "1 / np.sqrt(row_mean(x * x) + eps)", "1 / (np.sqrt(row_mean(x * x)) + eps)",
            ),
            Edit(
                "ops.normalization", "rmsnorm_backward",
                "row_mean(dx * xhat)", "row_mean(dx * xhat) / np.sqrt(row_mean(xhat * xhat))",
            ),
        ),
        "oracle: norms in loops", layernorm_oracle, "rmsnorm",
        "none, except on rows near zero, such as padding", gradients.rmsnorm,
    ),
    other(
        "RMSNorm: the mean taken off first, both ways",
        (
            Edit("ops.normalization", "rmsnorm_forward", "rstd = 1 / np.sqrt",
                 "x = x - x.mean(axis=-1, keepdims=True)\n    rstd = 1 / np.sqrt"),
            Edit("ops.normalization", "rmsnorm_backward", "dx *= rstd",
                 "dx *= rstd\n    dx -= dx.mean(axis=-1, keepdims=True)"),
        ),
        "oracle: norms in loops", layernorm_oracle, "rmsnorm",
        "none from scratch: it is LayerNorm without its bias; a checkpoint from elsewhere gives soup",
        gradients.rmsnorm,
    ),
    other(
        "LayerNorm: eps 1e-6 for 1e-5",
        Edit(
            "layers.norm", "LayerNorm.__init__",
            "self.name, self.eps = name, eps", "self.name, self.eps = name, 1e-6",
        ),
        "golden: loss of Hugging Face's GPT-2", golden_loss, "loss",
        "none, but logits of a checkpoint from elsewhere agree to a few digits fewer", gradients.gpt,
    ),
]  # fmt: skip
