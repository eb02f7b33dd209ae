"""Cross-entropy fused with softmax: the measure of error of a language model.

Shapes: ... any axes of targets, V vocabulary.
"""

from typing import NamedTuple

import numpy as np

IGNORED = -100  # a target with this value takes no part in the loss; the value is PyTorch's and Hugging Face's


class CrossEntropyCache(NamedTuple):
    probabilities: np.ndarray  # (rows, V)
    targets: np.ndarray  # (rows,)
    count: int
    shape: tuple


def count_targets(targets):
    """How many targets take part in the loss. targets (...) int -> int."""
    return int(np.count_nonzero(np.asarray(targets) != IGNORED))


def cross_entropy_forward(logits, targets, count=None):
    """Mean negative log-probability of the targets that count, in nats.

        loss = -1/count * sum_i log softmax(logits_i)[target_i]    over the i with target_i != -100

    logits (..., V), targets (...) int -> loss, a number of the logits' dtype, CrossEntropyCache.
    count is the number to divide by: this call's own unless given. A batch cut into shards and
    micro-batches passes the count of the whole, so that the parts' losses and gradients add up to
    the whole batch's, however many ignored targets each part holds. ValueError where no target
    counts.
    """
    V = logits.shape[-1]
    rows, targets = logits.reshape(-1, V), np.asarray(targets).reshape(-1)  # (rows, V), (rows,)
    if count is None:
        count = count_targets(targets)
        if count == 0:
            raise ValueError(f"targets: all {targets.size} are {IGNORED} (ignored), at least 1 must count")
    kept = np.flatnonzero(targets != IGNORED)
    shifted = rows - rows.real.max(axis=-1, keepdims=True)
    probabilities = np.exp(shifted)  # (rows, V), not yet divided
    total = probabilities.sum(axis=-1, keepdims=True)  # (rows, 1)
    probabilities /= total
    # log p as a difference: the log of a probability that underflowed would be -inf
    log_p = shifted[kept, targets[kept]] - np.log(total[kept, 0])
    # an array of one: of two numbers, a float32 and an int, NumPy 1 makes a float64
    loss = -log_p.sum(keepdims=True) / count
    return loss[0], CrossEntropyCache(probabilities, targets, count, logits.shape)


def cross_entropy_backward(dy, cache):
    """Gradient of cross_entropy_forward: dy a number, cache -> dlogits (..., V).

    dlogits_i = dy / count * (softmax(logits_i) - onehot(target_i)),    0 where ignored
    """
    probabilities, targets, count, shape = cache
    kept = targets != IGNORED
    dlogits = probabilities.copy()
    dlogits[np.flatnonzero(kept), targets[kept]] -= 1  # softmax - onehot
    dlogits[~kept] = 0
    dlogits *= dy / count  # of the mean over the targets that count
    return dlogits.reshape(shape)
