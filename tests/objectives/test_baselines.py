import itertools
import math

import numpy as np
import pytest
from pieces import SentinelPieces

from minigpt.objectives import Batch, PrefixLM, SpanCorruption
from minigpt.objectives.baselines import baseline_losses


def batch(rng, tokens, rows=9, length=8):
    starts = rng.integers(0, len(tokens) - length, rows)
    text = np.concatenate([np.full((rows, 1), 2), tokens[starts[:, None] + np.arange(length)]], axis=1)
    hidden = (rng.random(text.shape) < 0.4) & (text > 3)
    return Batch({"ids": np.where(hidden, 4, text), "targets": np.where(hidden, text, -100)}), text, hidden


def test_losses_are_those_of_the_formulas(rng):
    tokens = rng.choice(np.array([3, 5, 6, 7, 8]), 300, p=[0.05, 0.5, 0.2, 0.2, 0.05]).astype(np.uint16)
    train, held_out = tokens[:200], tokens[200:].astype(np.int64)
    held_out[::9] = 9  # never seen
    special = [0, 1, 2, 3, 4]
    batches, sums = [], {"unigram": 0.0, "bigram": 0.0}
    for _ in range(3):
        made, text, hidden = batch(rng, held_out)
        batches.append(made)
        for row, column in zip(*np.nonzero(hidden)):
            h, w = text[row, column - 1], text[row, column]
            p = ((train == w).sum() + 1) / ((train > 4).sum() + 5)
            after = [b for a, b in itertools.pairwise(train) if a == h and b > 4] if h > 4 else []
            different = len(set(after))
            q = (after.count(w) + different * p) / (len(after) + different) if after else p
            sums["unigram"] -= math.log(p)
            sums["bigram"] -= math.log(q)
    count = sum(made.counts["targets"] for made in batches)
    found = baseline_losses(train, batches, 10, special)
    assert found == pytest.approx({name: value / count for name, value in sums.items()}, rel=1e-12)
    assert any((made["targets"] == 9).any() for made in batches)


def test_the_bigram_model_knows_what_always_follows(rng):
    tokens = np.tile(np.arange(5, 15), 100)
    made, _, _ = batch(rng, tokens)
    found = baseline_losses(tokens, [made], 15, range(5))
    assert found["unigram"] == pytest.approx(math.log(10), rel=0.01)
    assert found["bigram"] < 0.5


@pytest.mark.parametrize("kind", [SpanCorruption, PrefixLM])
def test_losses_of_what_a_decoder_writes_are_those_of_the_text_alone(rng, kind):
    """The tokens of spans, each after the one that stands before it in the text, in the source or
    the target."""
    tokenizer = SentinelPieces([str(i) for i in range(12)])
    size, special = tokenizer.vocab_size, tokenizer.special_ids
    train, held_out = rng.integers(3, 8, 200), rng.integers(3, 15, 120)
    held_out[::11] = tokenizer.unk_id
    batches = list(kind(tokenizer, 20).walk(held_out, 4))
    sums, count = {"unigram": 0.0, "bigram": 0.0}, 0
    for batch in batches:
        for ids, targets in zip(batch["ids"], batch["targets"]):
            h, source = None, ids.tolist()
            for w in targets[targets != -100].tolist():
                if w in special:  # before a span stands what stands before its sentinel in the source
                    h = source[source.index(w) - 1] if w in source and source.index(w) else None
                    continue
                p = ((train == w).sum() + 1) / (len(train) + 12)
                after = [b for a, b in itertools.pairwise(train) if a == h]
                different = len(set(after))
                q = (after.count(w) + different * p) / (len(after) + different) if after else p
                sums["unigram"] -= math.log(p)
                sums["bigram"] -= math.log(q)
                h, count = w, count + 1
    found = baseline_losses(train, batches, size, special)
    assert found == pytest.approx({name: value / count for name, value in sums.items()}, rel=1e-12)
