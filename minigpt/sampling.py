"""Decoding: from logits to a token, and from token to token.

Shapes: B batch, V vocabulary.
"""

import math
from dataclasses import dataclass

import numpy as np

from minigpt.checks import LARGEST_SIZE, number, shortened, whole
from minigpt.errors import MinigptError

COLUMNS = 64  # a choice of k looks at the maxima of so many times k columns first
ROOM = 1 << 16  # new tokens that decoding has room for from the start; past them it doubles its buffer


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn, and where a text ends.
    MinigptError names a setting out of its range.
    """

    temperature: float = 1.0  # by which logits are divided; 0 is greedy
    top_k: int | None = None  # draw from so many of the likeliest tokens
    top_p: float | None = None  # draw from the fewest of the likeliest whose probabilities sum to this
    stop: int | list | None = None  # an id, or several, at which a text ends
    seed: "int | np.random.Generator" = 0  # quoted: `import minigpt` does not load numpy.random
    repetition_penalty: float = 1.0  # above 1, tokens that the text has already are less likely

    def __post_init__(self):
        number("temperature", self.temperature, at_least=0)
        if self.top_k is not None:
            whole("top_k", self.top_k, at_least=1)
        if self.top_p is not None and number("top_p", self.top_p, at_most=1) <= 0:
            raise MinigptError(f"top_p is {shortened(self.top_p)}, it must be more than 0 and at most 1")
        check_stops(self.stops())
        if not isinstance(self.seed, np.random.Generator):
            whole("seed", self.seed, at_least=0)
        check_penalty(self.repetition_penalty)

    def stops(self):
        """The ids at which a text ends, as a list."""
        return stop_ids(self.stop)


def stop_ids(stop):
    """The ids at which a text ends, as a list: of None, an id, or several."""
    if stop is None:
        return []
    if isinstance(stop, np.ndarray) and stop.ndim < 2:
        return list(np.atleast_1d(stop))
    return list(stop) if isinstance(stop, list | tuple | set | range) else [stop]


def check_stops(stops, vocab_size=None):
    """MinigptError for a stop id that is none, or not of the vocabulary where its size is given."""
    for token in stops:
        whole("stop", token, at_least=0, at_most=LARGEST_SIZE)
    if vocab_size is not None and len(stops) and max(stops) >= vocab_size:
        raise MinigptError(f"stop is {max(stops)}, token ids are 0 to {vocab_size - 1}")


def check_penalty(penalty):
    """MinigptError for a repetition_penalty that is no number above 0."""
    if number("repetition_penalty", penalty) <= 0:
        raise MinigptError(f"repetition_penalty is {shortened(penalty)}, it must be more than 0")


def token_probabilities(logits, temperature=1.0, top_k=None, top_p=None):
    """The distribution that the next token is drawn from.

        p = softmax(logits / temperature), cut to the top_k largest, then to the fewest largest
            whose sum reaches top_p, and renormalised

    logits (B, V) -> (B, V) float64. temperature 0 gives the largest logit (the first of equals)
    everything. top_k: Fan et al. 2018, arXiv:1805.04833; top_p, nucleus sampling: Holtzman et al.
    2019, arXiv:1904.09751.
    """
    logits = np.asarray(logits, np.float64)
    if temperature == 0:
        return (np.arange(logits.shape[-1]) == logits.argmax(axis=-1)[:, None]).astype(np.float64)
    logits = logits - logits.max(axis=-1, keepdims=True)
    with np.errstate(over="ignore"):  # a tiny temperature: -inf is the right limit
        logits = logits / temperature
    if top_p is None:  # nothing is sorted: 20 us against 34 where V is 65
        p = np.exp(logits if top_k is None else only_most_likely(logits, top_k))
        return p / p.sum(axis=-1, keepdims=True)
    order = most_likely(logits, logits.shape[-1] if top_k is None else top_k)  # (B, K)
    p = np.exp(np.take_along_axis(logits, order, axis=-1))
    p /= p.sum(axis=-1, keepdims=True)
    p[p.cumsum(axis=-1) - p >= top_p] = 0  # drop a token when those before it already reach top_p
    p /= p.sum(axis=-1, keepdims=True)
    probabilities = np.zeros_like(logits)
    np.put_along_axis(probabilities, order, p, axis=-1)
    return probabilities


def only_most_likely(logits, k):
    """Logits (B, V) of the k largest, the first of equals first; -inf for all others."""
    V = logits.shape[-1]
    if k >= V:
        return logits
    ordered = np.partition(logits, (V - k - 1, V - k), axis=-1)  # in these two places, as if sorted
    below, kth = ordered[:, V - k - 1], ordered[:, V - k]
    if (below == kth).any():  # equals on both sides of the cut
        kept = np.zeros(logits.shape, bool)
        np.put_along_axis(kept, most_likely(logits, k), True, axis=-1)
    else:
        kept = logits >= kth[:, None]
    return np.where(kept, logits, -np.inf)


def most_likely(logits, k):
    """The ids of the k largest logits, largest first and the first of equals first.

    (B, V) -> (B, min(k, V)). It sorts those alone.
    """
    V = logits.shape[-1]
    if k < V:
        kth = at_most_kth(logits, k)
        # k of each row, and more where some are equal to the k-th or lie between it and its bound
        candidates = [np.flatnonzero(row >= smallest) for row, smallest in zip(logits, kth)]
    else:
        candidates = [np.arange(V)] * len(logits)
    return np.stack([ids[np.argsort(-row[ids], kind="stable")[:k]] for row, ids in zip(logits, candidates)])


def at_most_kth(logits, k):
    """A bound from below of the k-th largest of each row, which few others reach: (B, V) -> (B,).

    Of a long row it is the k-th largest of the maxima of COLUMNS k columns, each of which is an
    entry: 15 us against 156 for the k-th itself, where V is 32,768 and k is 8. k is less than V.
    """
    B, V = logits.shape
    columns = COLUMNS * k
    n = V // columns
    if n >= 4:
        logits, V = logits[:, : n * columns].reshape(B, n, columns).max(axis=1), columns
    return np.partition(logits, V - k, axis=-1)[:, V - k]


def penalised(logits, rows, penalty):
    """Logits with those of the tokens that each row has already divided by the penalty, or, where
    they are negative, multiplied by it: a penalty above 1 makes them less likely.

    logits (B, V), rows: B arrays of ids, prompts included -> (B, V), a new array; for 1.0 the
    logits themselves. Keskar et al. 2019 (CTRL), arXiv:1909.05858, section 4.1, which divides
    whatever the sign; that negative ones are multiplied is from transformers'
    RepetitionPenaltyLogitsProcessor, to which this is equal.
    """
    if penalty == 1:
        return logits
    logits = logits.copy()
    for of_row, row in zip(logits, rows):
        seen = of_row[row]  # of a token that stands in the row twice, twice the same
        with np.errstate(over="ignore"):  # a huge penalty: -inf is the right limit
            of_row[row] = np.where(seen < 0, seen * penalty, seen / penalty)
    return logits


def sample(probabilities, rng):
    """Draw one token for each row by inverting the distribution function.

    probabilities (B, V), numpy Generator -> ids (B,).
    """
    cumulative = probabilities.cumsum(axis=-1)
    u = rng.random(len(cumulative)) * cumulative[:, -1]
    return (cumulative <= u[:, None]).sum(axis=-1)


def decode(next_logits, rows, max_new_tokens, sampling, *, fill=None):
    """Draw token after token from a model: the one loop behind every family's generate.

    next_logits: a function of the rows so far, a list of B integer arrays whose lengths may differ,
    to the logits (B, V) of each row's next token; sampling: a Sampling. A row that has met a stop
    id goes on with the id `fill` until all rows have ended, or repeats the one that it met where
    that is None. Yields an array (B,) of new ids at each step. MinigptError for a stop id outside
    the vocabulary and logits that are not finite.
    """
    max_new_tokens = whole("max_new_tokens", max_new_tokens, at_least=0)
    rng = np.random.default_rng(sampling.seed)
    stops = np.array(sampling.stops(), np.int64)
    prompts, *_ = left_pad(rows)
    B, T = prompts.shape
    starts = [T - len(row) for row in rows]
    text = np.empty((B, T + min(max_new_tokens, ROOM)), np.int64)  # all rows end in one column, T - 1
    text[:, :T] = prompts
    ended = np.zeros(B, bool)
    for step in range(max_new_tokens):
        so_far = [row[start:T] for row, start in zip(text, starts)]
        logits = next_logits(so_far)
        if step == 0:
            check_stops(sampling.stops(), logits.shape[-1])
        ids = draw(penalised(logits, so_far, sampling.repetition_penalty), sampling, rng, step=step)
        if stops.size and ended.any():
            ids = np.where(ended, text[:, T - 1] if fill is None else fill, ids)
        if text.shape[1] == T:
            text = np.concatenate([text, np.empty_like(text)], axis=1)
        text[:, T] = ids
        T += 1
        yield ids
        if stops.size:
            ended |= np.isin(ids, stops)
            if ended.all():
                return


def draw(logits, sampling, rng, *, step=0):
    """The next token of each row: logits (B, V), Sampling, numpy Generator -> ids (B,).

    MinigptError where a row has NaN, infinity, or -inf alone; step: which new token it is, for the
    message. -inf for some tokens is right: they are never drawn.
    """
    check_logits(logits, logits.max(axis=-1), step)
    if sampling.temperature == 0:
        return logits.argmax(axis=-1)
    return sample(token_probabilities(logits, sampling.temperature, sampling.top_k, sampling.top_p), rng)


def check_logits(logits, largest, step):
    """MinigptError where a row of logits (B, V), whose maxima are `largest`, has NaN, infinity, or
    -inf alone.
    """
    largest = largest.tolist()  # NaN where there is one
    if all(map(math.isfinite, largest)):
        return
    row = [math.isfinite(value) for value in largest].index(False)
    if largest[row] == -math.inf:
        raise MinigptError(f"logits of row {row} at step {step}: all are -inf, at least 1 must be finite")
    token = int(logits[row].argmax())  # the first NaN, if there is one
    raise MinigptError(
        f"logits of row {row} at step {step}: token {token} has {largest[row]}, it must be finite or -inf"
    )


def window_start(length, block_size):
    """Where the context begins: 0 up to block_size, then jumping ahead.

    When a text grows past block_size, the context becomes its last block_size // 2 tokens (at least
    1) and grows again from there. The start depends on the length alone, so cached and uncached
    decoding, and a decoding that is stopped and taken up, see the same context.
    """
    if length <= block_size:
        return 0
    hop = block_size + 1 - max(1, block_size // 2)
    return -(-(length - block_size) // hop) * hop


def left_pad(rows):
    """Rows of unequal length as one batch, right-aligned: the newest tokens stand in one column.

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
