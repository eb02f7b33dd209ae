"""Beam search: the likeliest beginnings of a text are continued side by side, and the best of those
that end are its continuations.

    score of a beginning  = sum of log p of its tokens, after the penalty of repetition
    score of an ended one = that sum / (number of new tokens)**length_penalty

At each step every beginning is followed by every token. Of these candidates of a text the best
(1 + number of stop ids) K are looked at, at least 2 K. Those among the first K that end take part
in the list of the K best ended ones; the K best that do not end are the next beginnings. A text is
closed when its list is full and its best beginning can't come into it any more (`can_improve`).

It equals transformers' `generate(num_beams=K)`. Beam search is Lowerre's (1976, The HARPY speech
recognition system); the penalty of Wu et al. 2016, arXiv:1609.08144, equation 14, is
((5 + length) / 6)**alpha, and transformers' is length**length_penalty.

Shapes: B texts, K beams of a text, V vocabulary, n new tokens.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from minigpt.checks import number, one_of, whole
from minigpt.errors import MinigptError
from minigpt.sampling import check_logits, check_penalty, check_stops, left_pad, most_likely, penalised, stop_ids

STEEPEST = 50  # length_penalty at most: longer texts than a model writes, to this power, are still a float


@dataclass(frozen=True)
class Beams:
    """How texts are searched for. MinigptError names a setting out of its range."""

    num_beams: int = 4  # beginnings of a text that are continued side by side
    length_penalty: float = 1.0  # above 0, long texts gain on short ones; 0 compares the sums as they are
    early_stopping: bool | str = False  # True closes a text as soon as K have ended; False, "never": see can_improve
    num_return_sequences: int = 1  # how many of the best ended ones are wanted
    stop: int | list | None = None  # an id, or several, at which a text ends
    repetition_penalty: float = 1.0  # above 1, tokens that the text has already are less likely

    def __post_init__(self):
        whole("num_beams", self.num_beams, at_least=1)
        number("length_penalty", self.length_penalty, at_least=-STEEPEST, at_most=STEEPEST)
        one_of("early_stopping", self.early_stopping, (False, True, "never"))
        whole("num_return_sequences", self.num_return_sequences, at_least=1)
        check_stops(stop_ids(self.stop))
        check_penalty(self.repetition_penalty)


def beams_asked(beams, sampling):
    """Whether texts are searched for (True) or drawn. MinigptError where settings of the one come
    with the other, or more texts are wanted than there are.
    """
    n, K = beams.num_return_sequences, beams.num_beams
    if K > 1:
        set_otherwise = {
            "temperature": sampling.temperature not in (0, 1),
            "top_k": sampling.top_k is not None,
            "top_p": sampling.top_p is not None,
        }
        for name, is_set in set_otherwise.items():
            if is_set:
                value = getattr(sampling, name)
                raise MinigptError(f"{name} is {value}, but num_beams is {K}: beam search draws no tokens")
        if n > K:
            raise MinigptError(f"num_return_sequences is {n}, it must be at most num_beams, which is {K}")
    elif n > 1 and sampling.temperature == 0:
        raise MinigptError(f"num_return_sequences is {n}, it must be 1 where temperature is 0: greedy finds one text")
    return K > 1


class Ended(NamedTuple):
    """A continuation that ended: at a stop id, which is its last, or at max_new_tokens."""

    score: float
    ids: np.ndarray  # (n,) the new ones


def beam_search(next_logits, rows, max_new_tokens, beams):
    """The best continuations of each of B texts, best first: B lists of num_return_sequences Ended.

    rows: B integer arrays, whose lengths may differ. next_logits(rows, origins) gives the logits of
    each row's next token: at first of the B texts, with None for origins; then of the beginnings of
    all texts that are not closed, K of each side by side, where row i is row origins[i] of the call
    before and a token more. Whatever is kept of a row can so be kept of its continuations; most
    stay in place. MinigptError for a stop id outside the vocabulary, logits that are not finite,
    and a text that has fewer than num_return_sequences continuations.
    """
    max_new_tokens, K = whole("max_new_tokens", max_new_tokens, at_least=1), beams.num_beams
    stops, ended, open_texts = np.array(stop_ids(beams.stop), np.int64), [[] for _ in rows], np.arange(len(rows))
    text, *_ = left_pad(rows)
    T = text.shape[1]
    so_far, origins, starts = rows, None, np.array([T - len(row) for row in rows])
    for n in range(1, max_new_tokens + 1):
        logits = next_logits(so_far, origins)
        log_p = penalised(log_probabilities(logits, step=n - 1), so_far, beams.repetition_penalty)
        if n == 1:
            check_stops(stops.tolist(), logits.shape[-1])
            text, starts, log_p = (x.repeat(K, axis=0) for x in (text, starts, log_p))
            sums = np.full((len(rows), K), -math.inf, log_p.dtype)  # of K equal rows the first alone is followed
            sums[:, 0] = 0
        sums, parents, tokens = best_candidates(log_p, sums, max(2, 1 + len(stops)) * K)
        parents += np.arange(0, len(text), K)[:, None]  # rows of text
        ends = (tokens[:, :, None] == stops).any(axis=-1) | (n == max_new_tokens)
        for i in np.flatnonzero(ends[:, :K].any(axis=1)):
            here = np.flatnonzero(ends[i, :K])
            new = np.concatenate([text[parents[i, here], T:], tokens[i, here, None]], axis=1)
            ended[open_texts[i]] = best_ended(ended[open_texts[i]], sums[i, here], new, beams)
        sums, parents, tokens = going_on(sums, parents, tokens, ends, K)
        going = [can_improve(best, ended[b], n, max_new_tokens, beams) for b, best in zip(open_texts, sums.max(axis=1))]
        if not any(going):
            break
        origins, sums, open_texts = parents[going].ravel(), sums[going], open_texts[going]
        text, starts = np.concatenate([text[origins], tokens[going].reshape(-1, 1)], axis=1), starts[origins]
        so_far = [row[start:] for row, start in zip(text, starts)]
        origins = origins // K if n == 1 else origins  # the texts were followed once, not K times
    return [chosen(b, of_text, beams.num_return_sequences) for b, of_text in enumerate(ended)]


def log_probabilities(logits, *, step=0):
    """log softmax(logits), (B, V) -> (B, V). MinigptError for logits that are not finite, as
    sampling.draw says; step: which new token it is, for the message.
    """
    largest = logits.max(axis=-1)
    check_logits(logits, largest, step)
    logits = logits - largest[:, None]
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def best_candidates(log_p, sums, count):
    """The best pairs of a beginning and its next token: log_p (B K, V), sums (B, K) of the
    beginnings -> sums, parents (which beginning, 0 to K - 1) and tokens, (B, count) each, best
    first and the first of equals first; fewer columns where there are fewer pairs.
    """
    (B, K), V = sums.shape, log_p.shape[-1]
    with np.errstate(over="ignore"):  # after a huge penalty: -inf is the right limit
        of_pairs = (log_p.reshape(B, K, V) + sums[:, :, None]).reshape(B, K * V)
    candidates = most_likely(of_pairs, count)
    return np.take_along_axis(of_pairs, candidates, axis=1), *np.divmod(candidates, V)


def going_on(sums, parents, tokens, ends, K):
    """The K best candidates that do not end, each where its parent stood unless a better one of the
    same parent does: (B, count) each -> sums, parents, tokens, (B, K) each.

    Where fewer than K go on, the sum of the others is -inf: nothing comes of them.
    """
    sums = np.where(ends, -math.inf, sums).astype(sums.dtype)
    order = np.argsort(ends, axis=1, kind="stable")[:, :K]
    order = np.stack([one[in_place(of_one[one])] for one, of_one in zip(order, parents)])
    return tuple(np.take_along_axis(x, order, axis=1) for x in (sums, parents, tokens))


def in_place(parents):
    """In which order K beginnings stay where their parents are, as far as they can.

    >>> in_place([2, 0, 2])
    [1, 2, 0]
    """
    K = len(parents)
    order, others = [None] * K, []
    for i, parent in enumerate(parents):
        if order[parent % K] is None:
            order[parent % K] = i
        else:
            others.append(i)
    return [others.pop(0) if i is None else i for i in order]


def best_ended(ended, sums, new, beams):
    """A text's list with those that end now, sums (m,) and ids (m, n): the num_beams best. Of
    equals the earlier come first; a sum of -inf is impossible, and no continuation.
    """
    possible = [Ended(float(s) / len(ids) ** beams.length_penalty, ids) for s, ids in zip(sums, new) if s > -math.inf]
    return sorted(ended + possible, key=lambda one: -one.score)[: beams.num_beams]


def can_improve(best, ended, n, max_new_tokens, beams):
    """Whether a text goes on after n new tokens: best is the largest sum of its beginnings, ended
    its list.

    It does until the list is full. Then with early_stopping True it does not; with False it does
    while the best beginning, ended here, would come into the list, which is a guess: with a
    length_penalty above 0 its score may rise; with "never" while it could if max_new_tokens were as
    likely as can be, which is no guess.
    """
    if len(ended) < beams.num_beams or best == -math.inf:
        return best > -math.inf
    if beams.early_stopping is True:
        return False
    length = max_new_tokens if beams.early_stopping == "never" and beams.length_penalty > 0 else n
    return float(best) / length**beams.length_penalty > ended[-1].score


def chosen(text, ended, count):
    """The first `count` of a text's list. MinigptError where there are fewer."""
    if len(ended) < count:
        raise MinigptError(f"num_return_sequences is {count}, text {text} has but {len(ended)} continuations")
    return ended[:count]
