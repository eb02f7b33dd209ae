"""What a model of hidden tokens or spans is to be compared with: predictors that know next to
nothing of a hidden token's context.

Shapes: N tokens, M hidden ones, V vocabulary.
"""

import math

import numpy as np

from minigpt.ops.loss import IGNORED


def baseline_losses(tokens, batches, vocab_size, special_ids):
    """The mean nats a hidden token of two predictors that were counted on tokens (N,) -> dict.

    batches: with ids and targets, such as a walk of MaskedLM or SpanCorruption: the same tokens are
    hidden as from a model. Targets that are special, such as sentinels, are none of the text and
    are left out.

    unigram: how frequent a token is, whatever stands around it,

        p(w) = (n(w) + 1) / (N + V)

    bigram: how often w follows the token h before it in the text, which is shown to this predictor
    even where it is hidden too; interpolated with the unigram as Witten and Bell (1991; Chen and
    Goodman 1999, section 2.3) do, where t(h) different tokens follow h:

        p(w | h) = (n(h, w) + t(h) p(w)) / (n(h) + t(h))

    A special token, which is none of the text, is counted as neither w nor h.
    """
    ordinary = np.ones(vocab_size, bool)
    ordinary[special_ids] = False
    tokens = np.asarray(tokens).astype(np.int64)
    counts = np.bincount(tokens, minlength=vocab_size) * ordinary
    unigram = np.where(ordinary, (counts + 1) / (counts.sum() + ordinary.sum()), 0)  # (V,)
    pairs = np.sort((tokens[:-1] * vocab_size + tokens[1:])[ordinary[tokens[:-1]] & ordinary[tokens[1:]]])
    kinds = np.unique(pairs)
    before, hidden = (np.concatenate(column) for column in zip(*(hidden_tokens(b, ordinary) for b in batches)))  # (M,)
    pair = before * vocab_size + hidden
    n = np.searchsorted(pairs, pair, "right") - np.searchsorted(pairs, pair)  # n(h, w)
    edges = np.array([before, before + 1]) * vocab_size  # all pairs with h lie between
    total, different = (np.diff(np.searchsorted(of, edges), axis=0)[0] for of in (pairs, kinds))  # n(h), t(h)
    alone = unigram[hidden]
    with np.errstate(invalid="ignore"):
        bigram = np.where(total > 0, (n + different * alone) / (total + different), alone)
    return {"unigram": -math.fsum(np.log(alone)) / len(hidden), "bigram": -math.fsum(np.log(bigram)) / len(hidden)}


def hidden_tokens(batch, ordinary):
    """A batch's hidden tokens, and those before them in the text -> (M,), (M,).

    ordinary (V,) bool: which tokens are of a text.
    """
    targets = batch["targets"]
    rows, places = np.nonzero((targets != IGNORED) & ordinary[np.maximum(targets, 0)])
    if "decoder_input_ids" not in batch:
        text = np.where(targets == IGNORED, batch["ids"], targets)
        return text[rows, places - 1], text[rows, places]
    before = batch["decoder_input_ids"][rows, places]  # (M,)
    first = np.flatnonzero(~ordinary[before])  # of a span: what the source has before its sentinel
    stands = batch["ids"][rows[first]] == before[first, None]  # (first, S)
    source = batch["ids"][rows[first], np.maximum(stands.argmax(axis=1) - 1, 0)]
    before[first] = np.where(stands.any(axis=1), source, before[first])
    return before, targets[rows, places]
