"""Mistakes planted in the loss."""

from minigpt.museum.checks import gradients
from minigpt.museum.oracles import loss_oracle, shift
from minigpt.museum.planting import Edit, gradient, other

EXHIBITS = [
    gradient(
        "loss: gradient divided by all tokens, ignored ones too", "ops.loss", "cross_entropy_backward",
        "dlogits *= dy / count", "dlogits *= dy / len(targets)", gradients.cross_entropy, "cross_entropy.logits",
        "the learning rate changes with the amount of padding; the loss printed is right",
    ),
    gradient(
        "loss: the target's 1 not subtracted", "ops.loss", "cross_entropy_backward",
        "-= 1", "-= 0", gradients.cross_entropy, "cross_entropy.logits",
        "the loss rises from the first step",
    ),
    gradient(
        "loss: label smoothing left in backward, 0.001 of it", "ops.loss", "cross_entropy_backward",
        "-= 1", "-= 0.999", gradients.cross_entropy, "cross_entropy.logits",
        "none until the loss is small, then logits shrink",
    ),
    gradient(
        "loss: ignored targets pull all the same", "ops.loss", "cross_entropy_backward",
        "dlogits[~kept] = 0", "pass", gradients.cross_entropy, "cross_entropy.logits",
        "logits at padding are pushed down; worse as batches are padded more",
    ),
    gradient(
        "loss: the vocabulary's last entry left out", "ops.loss", "cross_entropy_backward",
        "dlogits[~kept] = 0", "dlogits[~kept] = 0\n    dlogits[:, -1] = 0", gradients.wide_cross_entropy,
        "cross_entropy.logits",
        "one token of many is never learned to be avoided: now and then it turns up in samples",
    ),
    gradient(
        "loss: the arriving gradient ignored", "ops.loss", "cross_entropy_backward",
        "dlogits *= dy / count", "dlogits *= 1 / count", gradients.cross_entropy, "cross_entropy.logits",
        "none, until the loss is scaled or weighted: the model's own check, where dy is 1, cannot see it",
    ),
    other(
        "loss: the maximum not subtracted",
        Edit("ops.loss", "cross_entropy_forward", "rows - rows.real.max(axis=-1, keepdims=True)", "rows.copy()"),
        "invariance: shift of scores", shift, "cross-entropy",
        "trains for an hour, then the loss is NaN", gradients.cross_entropy,
    ),
    other(
        "loss: mean over all targets, ignored ones too",
        Edit("ops.loss", "count_targets", "np.count_nonzero(np.asarray(targets) != IGNORED)", "np.size(targets)"),
        "oracle: loss in loops", loss_oracle, "loss",
        "the more padding, the better the loss looks", gradients.gpt,
    ),
]  # fmt: skip
