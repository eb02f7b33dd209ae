import numpy as np
import pytest

from minigpt import MinigptError
from minigpt.data import consecutive_batches, draw_batch
from minigpt.objectives import NextToken


def test_draws_are_those_of_draw_batch(rng):
    tokens = rng.integers(0, 50, 99)
    batch = NextToken(7).draw(tokens, 4, np.random.default_rng(3))
    ids, targets = draw_batch(tokens, 4, 7, np.random.default_rng(3))
    np.testing.assert_array_equal(batch["ids"], ids)
    np.testing.assert_array_equal(batch["targets"], targets)
    assert batch.counts == {"targets": batch.rows * 7} == {"targets": 28}


def test_walk_covers_a_text_once(rng):
    tokens = rng.integers(0, 50, 99)
    batches = list(NextToken(7).walk(tokens, 4))
    assert [batch.rows for batch in batches] == [4, 4, 4, 2]
    assert [batch.counts["targets"] for batch in batches] == [28, 28, 28, 14]
    np.testing.assert_array_equal(np.concatenate([batch["ids"] for batch in batches]).ravel(), tokens[:98])
    for batch, (ids, targets) in zip(batches, consecutive_batches(tokens, 4, 7), strict=True):
        np.testing.assert_array_equal(batch["ids"], ids)
        np.testing.assert_array_equal(batch["targets"], targets)


def test_tokens_that_do_not_fit_are_named():
    NextToken(8).check(np.arange(9), 9)
    with pytest.raises(MinigptError, match=r"essay: 8 tokens, at least block_size . 1 = 9 are needed"):
        NextToken(8).check(np.arange(8), 9, "essay")
    with pytest.raises(MinigptError, match="essay: token id 8, the model's vocab_size is 8"):
        NextToken(8).check(np.arange(9), 8, "essay")
