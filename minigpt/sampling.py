"""Decoding: from logits to a token, and from token to token.

Shapes: B batch, V vocabulary.
"""

import math
import numbers

import numpy as np

from minigpt.errors import MinigptError

ROOM = 1 << 16  # new tokens that decoding has room for from the start; past them it doubles its buffer


def check_sampling(temperature=1.0, top_k=None, top_p=None, max_new_tokens=0):
    """MinigptError where a setting is out of its range, named with its value and limit."""
    if not is_number(temperature) or not (math.isfinite(temperature) and temperature >= 0):
        raise MinigptError(f"temperature is {temperature!r}, it must be a number of at least 0 (0 is greedy)")
    if top_k is not None and not (is_whole(top_k) and top_k >= 1):
        raise MinigptError(f"top_k is {top_k!r}, it must be a whole number of at least 1")
    if top_p is not None and not (is_number(top_p) and 0 < top_p <= 1):
        raise MinigptError(f"top_p is {top_p!r}, it must be more than 0 and at most 1")
    if not (is_whole(max_new_tokens) and max_new_tokens >= 0):
        raise MinigptError(f"max_new_tokens is {max_new_tokens!r}, it must be a whole number of at least 0")


def is_number(value):
    """Whether value is a real number and not a bool."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_whole(value):
    """Whether value is an integer, NumPy's included, and not a bool."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def token_probabilities(logits, temperature=1.0, top_k=None, top_p=None):
    """The distribution that the next token is drawn from.

        p = softmax(logits / temperature), cut to the top_k largest, then to the fewest largest whose sum reaches top_p, and renormalised

    logits (B, V) -> (B, V) float64. temperature 0 gives the largest logit (the first of equals) everything.
    top_k: Fan et al. 2018, arXiv:1805.04833; top_p, nucleus sampling: Holtzman et al. 2019, arXiv:1904.09751.
    """
    logits = np.asarray(logits, np.float64)
    if temperature == 0:
        return (np.arange(logits.shape[-1]) == logits.argmax(axis=-1)[:, None]).astype(np.float64)
    logits = logits - logits.max(axis=-1, keepdims=True)
    with np.errstate(over="ignore"):  # a tiny temperature: -inf is the right limit
        logits = logits / temperature
    if top_k is None and top_p is None:  # nothing to cut, nothing to sort
        p = np.exp(logits)
        return p / p.sum(axis=-1, keepdims=True)
    order = most_likely(logits, logits.shape[-1] if top_k is None else top_k)  # (B, K)
    p = np.exp(np.take_along_axis(logits, order, axis=-1))
    p /= p.sum(axis=-1, keepdims=True)
    if top_p is not None:
        p[p.cumsum(axis=-1) - p >= top_p] = 0  # drop a token when those before it already reach top_p
        p /= p.sum(axis=-1, keepdims=True)
    probabilities = np.zeros_like(logits)
    np.put_along_axis(probabilities, order, p, axis=-1)
    return probabilities


def most_likely(logits, k):
    """The ids of the k largest logits, largest first and the first of equals first: (B, V) -> (B, min(k, V)). It sorts those alone."""
    V = logits.shape[-1]
    if k < V:
        kth = np.partition(logits, V - k, axis=-1)[:, V - k]
        candidates = [np.flatnonzero(row >= smallest) for row, smallest in zip(logits, kth)]  # k, and more where some are equal to the k-th
    else:
        candidates = [np.arange(V)] * len(logits)
    return np.stack([ids[np.argsort(-row[ids], kind="stable")[:k]] for row, ids in zip(logits, candidates)])


def sample(probabilities, rng):
    """Draw one token for each row by inverting the distribution function. probabilities (B, V), numpy Generator -> ids (B,)."""
    cumulative = probabilities.cumsum(axis=-1)
    u = rng.random(len(cumulative)) * cumulative[:, -1]
    return (cumulative <= u[:, None]).sum(axis=-1)


def decode(next_logits, rows, max_new_tokens, temperature=1.0, top_k=None, top_p=None, stop=None, seed=0):
    """Draw token after token from a model: the one loop behind every family's generate.

    next_logits: a function of the rows so far, a list of B integer arrays whose lengths may differ, to the logits (B, V) of each row's next
    token. stop: an id or several at which a row ends; it then repeats that id until all rows have ended. seed: int or numpy Generator.
    Yields an array (B,) of new ids at each step. MinigptError for settings out of range.
    """
    check_sampling(temperature, top_k, top_p, max_new_tokens)
    rng = np.random.default_rng(seed)
    stops = np.atleast_1d(np.asarray([] if stop is None else stop, np.int64))
    prompts, *_ = left_pad(rows)
    B, T = prompts.shape
    starts = [T - len(row) for row in rows]
    text = np.empty((B, T + min(int(max_new_tokens), ROOM)), np.int64)  # all rows end in one column, T - 1
    text[:, :T] = prompts
    ended = np.zeros(B, bool)
    for _ in range(int(max_new_tokens)):
        logits = next_logits([row[start:T] for row, start in zip(text, starts)])
        if temperature == 0:
            ids = logits.argmax(axis=-1)
        else:
            ids = sample(token_probabilities(logits, temperature, top_k, top_p), rng)
        if stops.size and ended.any():
            ids = np.where(ended, text[:, T - 1], ids)
        if text.shape[1] == T:
            text = np.concatenate([text, np.empty_like(text)], axis=1)
        text[:, T] = ids
        T += 1
        yield ids
        if stops.size:
            ended |= np.isin(ids, stops)
            if ended.all():
                return


def window_start(length, block_size):
    """Where the context begins once a text is longer than the window: 0 up to block_size, then jumping ahead.

    When a text grows past block_size, the context becomes its last block_size // 2 tokens (at least 1) and grows again from there. The
    start depends on the length alone, so cached and uncached decoding, and a decoding that is stopped and taken up, see the same context.
    """
    if length <= block_size:
        return 0
    hop = block_size + 1 - max(1, block_size // 2)
    return -(-(length - block_size) // hop) * hop


def left_pad(rows):
    """Rows of unequal length as one batch, right-aligned, so that the newest tokens stand in one column.

    -> ids (B, T), mask (B, T) bool or None where no row is padded, position_ids (B, T) or (T,).
    """
    T = max(len(row) for row in rows)
    if all(len(row) == T for row in rows):
        return np.stack(rows), None, np.arange(T)
    ids, mask = np.zeros((len(rows), T), np.int64), np.zeros((len(rows), T), bool)
    for i, row in enumerate(rows):
        ids[i, T - len(row) :] = row
        mask[i, T - len(row) :] = True
    return ids, mask, np.maximum(mask.cumsum(axis=1) - 1, 0)
