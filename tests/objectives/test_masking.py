import numpy as np
import pytest
from pieces import Pieces

from minigpt import MinigptError
from minigpt.objectives import Masking

TOKENIZER = Pieces([f"{'##' if i % 3 == 2 else ''}{i}" for i in range(40)])


def apply(masking, ids, rng):
    return masking.apply(ids, rng.random((len(ids), Masking.numbers(ids.shape[1]))))


def some_rows(rng, rows=400, length=50):
    """Rows with specials at both ends and in the middle, and an unknown token now and then."""
    ids = rng.integers(5, TOKENIZER.vocab_size, (rows, length))
    ids[:, 0], ids[:, length // 2], ids[:, -1] = 2, 3, 3
    ids[rng.random(ids.shape) < 0.05] = 1
    return ids


@pytest.mark.parametrize("whole_words", [False, True])
@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_rates_are_those_of_the_paper(rng, rate, whole_words):
    ids = some_rows(rng)
    masked = apply(Masking(TOKENIZER, rate, whole_words=whole_words), ids, rng)
    chosen, ordinary = masked.targets >= 0, ids >= 5
    assert abs(chosen.sum() / ordinary.sum() - rate) < 0.002 * (1 + 2 * whole_words)  # about 18,000 tokens
    mask, other = masked.ids[chosen] == TOKENIZER.mask_id, masked.ids[chosen] != ids[chosen]
    assert abs(mask.mean() - 0.8) < 0.025
    assert abs((other & ~mask).mean() - 0.1 * 39 / 40) < 0.02  # one random token in 40 is the right one
    np.testing.assert_array_equal(masked.ids[~chosen], ids[~chosen])
    np.testing.assert_array_equal(masked.targets, np.where(chosen, ids, -100))


@pytest.mark.parametrize("whole_words", [False, True])
def test_special_tokens_are_never_hidden_nor_drawn(rng, whole_words):
    ids = some_rows(rng)
    masked = apply(Masking(TOKENIZER, 0.9, whole_words=whole_words), ids, rng)
    assert (masked.targets[ids < 5] == -100).all()
    assert set(np.unique(masked.ids[(masked.targets >= 0) & (masked.ids < 5)])) == {TOKENIZER.mask_id}
    random = masked.ids[(masked.targets >= 0) & (masked.ids != ids) & (masked.ids != TOKENIZER.mask_id)]
    assert set(random) == set(range(5, TOKENIZER.vocab_size))  # and each of the others is drawn


def test_a_row_has_its_share_to_within_one_token_and_at_least_one(rng):
    ids = some_rows(rng)
    count = (apply(Masking(TOKENIZER), ids, rng).targets >= 0).sum(axis=1)
    share = 0.15 * (ids >= 5).sum(axis=1)
    assert ((count == np.floor(share)) | (count == np.ceil(share))).all()
    short = np.array([[2, 9, 3], [2, 1, 3]])
    for _ in range(20):
        targets = apply(Masking(TOKENIZER), short, rng).targets
        np.testing.assert_array_equal(targets, [[-100, 9, -100], [-100] * 3])  # nothing ordinary, nothing hidden
    assert (apply(Masking(TOKENIZER), short[1:], rng).targets == -100).all()
    assert ((apply(Masking(TOKENIZER, 0), ids, rng).targets >= 0).sum(axis=1) == 1).all()


def test_whole_words_are_hidden_whole(rng):
    ids = some_rows(rng)
    targets = apply(Masking(TOKENIZER, whole_words=True), ids, rng).targets
    pieces = set()
    for row, hidden in zip(ids, targets >= 0):
        word = 0  # where it begins
        for i in range(1, len(row) + 1):
            if i == len(row) or not (TOKENIZER.continues[row[i]] and row[i - 1] >= 5):
                assert hidden[word:i].all() or not hidden[word:i].any()
                pieces.add((i - word, bool(hidden[word])))
                word = i
    assert {(1, True), (2, True), (3, True), (4, True), (4, False)} <= pieces
    apart = apply(Masking(TOKENIZER), ids, rng).targets >= 0
    continued = TOKENIZER.continues[ids[:, 1:]] & (ids[:, :-1] >= 5)
    assert (apart[:, 1:] != apart[:, :-1])[continued].any()


def test_equal_numbers_give_equal_masks_row_by_row(rng):
    ids = some_rows(rng, rows=6)
    numbers = rng.random((6, Masking.numbers(50)))
    for masking in (Masking(TOKENIZER), Masking(TOKENIZER, whole_words=True)):
        whole = masking.apply(ids, numbers)
        for i in range(6):
            row = masking.apply(ids[i : i + 1], numbers[i : i + 1])
            np.testing.assert_array_equal(row.ids[0], whole.ids[i])
            np.testing.assert_array_equal(row.targets[0], whole.targets[i])


def test_every_token_of_a_row_is_hidden_as_often(rng):
    ids = np.broadcast_to(np.arange(5, 25), (6000, 20))
    share = (apply(Masking(TOKENIZER, 0.3), ids, rng).targets >= 0).mean(axis=0)
    np.testing.assert_allclose(share, 0.3, atol=0.03)


@pytest.mark.parametrize("rate", [-0.1, 1, "all", float("nan")])
def test_a_rate_that_is_none_is_named(rate):
    with pytest.raises(MinigptError, match="mask rate is"):
        Masking(TOKENIZER, rate)


def test_a_tokenizer_without_a_mask_token_is_refused():
    without = Pieces(["a"])
    without.mask_id = None
    with pytest.raises(MinigptError, match="has no mask token"):
        Masking(without)
