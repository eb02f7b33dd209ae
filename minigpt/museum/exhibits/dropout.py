"""Mistakes planted in dropout."""

from minigpt.museum.checks import gradients
from minigpt.museum.oracles import dropout_expectation
from minigpt.museum.planting import Edit, gradient, other

EXHIBITS = [
    gradient(
        "dropout: 1 / (1 - p) forgotten in backward", "ops.dropout", "dropout_backward",
        "dy * cache.scale", "dy * (cache.scale > 0)", gradients.dropout, "dropout.x",
        "gradients shrink by 1 - p at every dropout: deep models learn slowly at the bottom",
    ),
    gradient(
        "dropout: forgotten in backward", "ops.dropout", "dropout_backward",
        "dy * cache.scale", "dy.copy()", gradients.dropout, "dropout.x",
        "dropped units are trained as if they had been there: noise",
    ),
    other(
        "dropout: scaled twice",
        Edit("ops.dropout", "dropout_scale", "1 / (1 - p), out", "1 / (1 - p) ** 2, out"),
        "invariance: expectation kept", dropout_expectation, "mean",
        "validation loss is worse than it should be: in use, activations are smaller than in training",
        gradients.dropout,
    ),
    other(
        "dropout: not scaled at all",
        Edit("ops.dropout", "dropout_scale", "1 / (1 - p), out", "1.0, out"),
        "invariance: expectation kept", dropout_expectation, "mean",
        "validation loss is worse than it should be: in use, activations are larger than in training",
        gradients.dropout,
    ),
    other(
        "dropout: p taken for the probability to keep",
        Edit("ops.dropout", "dropout_scale", ">= p", "< p"),
        "invariance: expectation kept", dropout_expectation, "mean",
        "p = 0.1 drops nine of ten: hardly learns, and better without", gradients.dropout,
    ),
    other(
        "dropout: one mask for all rows of a batch",
        Edit("ops.dropout", "dropout_scale", "rng.random(shape,", "rng.random(shape[1:],"),
        "accounting: rows drawn apart", dropout_expectation, "rows that agree",
        "noisier gradients than the batch size promises", gradients.dropout,
    ),
]  # fmt: skip
