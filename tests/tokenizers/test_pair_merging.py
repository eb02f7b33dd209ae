import doctest
import time
from collections import Counter
from itertools import pairwise

import pytest

from minigpt.tokenizers import pair_merging
from minigpt.tokenizers.pair_merging import learn_merges


def counted_again(words, counts, tokens, vocab_size):
    """Merges by the book: all pairs are counted before each merge."""
    words, merges = [list(word) for word in words], []
    while len(tokens) < vocab_size:
        totals = Counter()
        for word, count in zip(words, counts):
            for pair in pairwise(word):
                totals[pair] += count
        if not totals:
            break
        pair = min(totals, key=lambda pair: (-totals[pair], pair))
        merges.append(pair)
        tokens.append(tokens[pair[0]] + tokens[pair[1]])
        for word in words:
            i = 0
            while i < len(word) - 1:
                if (word[i], word[i + 1]) == pair:
                    word[i : i + 2] = [len(tokens) - 1]
                i += 1
    return merges


def test_module_examples():
    assert doctest.testmod(pair_merging).failed == 0


def test_merges_are_those_of_counting_again(rng):
    for _ in range(20):
        # merges of two letters alone: where two give one token, see the module
        words = [rng.integers(0, 26, rng.integers(1, 7)).tolist() for _ in range(30)]
        counts = rng.integers(1, 5, 30).tolist()
        tokens, others = [list("abcdefghijklmnopqrstuvwxyz") for _ in range(2)]
        merges = learn_merges([list(word) for word in words], counts, tokens, 36)
        assert merges == counted_again(words, counts, others, 36)
        assert tokens == others and len(set(tokens)) == 36


def test_merge_of_equal_neighbours():
    tokens, words = ["a"], [[0, 0, 0, 0, 0], [0]]
    assert learn_merges(words, [1, 9], tokens, 10) == [(0, 0), (1, 0), (1, 2)]
    assert tokens == ["a", "aa", "aaa", "aaaaa"] and words == [[3], [0]]


def test_a_token_that_is_there_is_not_added():
    tokens, words = ["ab", "a", "b"], [[1, 2, 2], [1, 2]]
    assert learn_merges(words, [3, 4], tokens, 9) == [(1, 2), (0, 2)]
    assert tokens == ["ab", "a", "b", "abb"] and words == [[3], [0]]


@pytest.mark.parametrize(("least", "merges"), [(1, 2), (3, 2), (4, 1), (9, 0)])
def test_least_frequency_ends_training(least, merges):
    assert len(learn_merges([[0, 1], [1, 0]], [3, 5], ["a", "b"], 9, min_frequency=least)) == merges


def test_a_vocabulary_that_is_full_gets_no_merges():
    assert learn_merges([[0, 1]], [1], ["a", "b"], 2) == []
    assert learn_merges([], [], ["a", "b"], 9) == []


def test_a_long_word_takes_little_time():
    start = time.perf_counter()
    words = [[0, 1] * 100_000]
    assert learn_merges(words, [1], ["a", "b"], 12)[:2] == [(0, 1), (2, 2)] and len(words[0]) < 500
    assert time.perf_counter() - start < 5
