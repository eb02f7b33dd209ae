"""Which spans are corrupted: the counts, and that all rows are as likely as they are to be."""

import itertools
from collections import Counter

import numpy as np
import pytest

from minigpt.objectives.spans import random_numbers, random_segmentation, span_counts, span_mask


def masks(rng, rows, length, rate=0.15, mean_span=3.0):
    numbers = rng.random((rows, random_numbers(length)))
    return span_mask(np.full(rows, length), rate, mean_span, numbers)


def runs(row):
    """The lengths of a row's spans."""
    return [len(list(group)) for corrupted, group in itertools.groupby(row.tolist()) if corrupted]


def test_counts_are_those_of_the_papers_code():
    lengths = np.array([0, 1, 2, 3, 10, 30, 31, 128, 568])
    corrupted, spans = span_counts(lengths, 0.15, 3.0)
    np.testing.assert_array_equal(corrupted, [0, 0, 1, 1, 2, 4, 5, 19, 85])
    np.testing.assert_array_equal(spans, [0, 0, 1, 1, 1, 1, 2, 6, 28])
    corrupted, spans = span_counts(np.array([2, 5, 9]), 0.9, 1.0)  # there is text before each span
    np.testing.assert_array_equal(corrupted, [1, 4, 8])
    np.testing.assert_array_equal(spans, [1, 1, 1])


def test_all_segmentations_are_equally_likely(rng):
    rows = 6000
    numbered = random_segmentation(np.full(rows, 6), np.full(rows, 3), rng.random((rows, 8)))[:, :6]
    found = Counter(map(tuple, numbered.tolist()))
    assert len(found) == 10  # two of the five places between six items
    assert all(row[0] == 0 and row[-1] == 2 and set(np.diff(row)) <= {0, 1} for row in found)
    assert min(found.values()) > 500 and max(found.values()) < 700


def test_rate_and_mean_are_exact_in_every_row_and_spans_lie_anywhere(rng):
    found = masks(rng, 500, 128)
    assert (found.sum(axis=1) == 19).all()
    lengths = [runs(row) for row in found]
    assert {len(row) for row in lengths} == {6}
    assert {n for row in lengths for n in row} >= set(range(1, 10))
    share = found.mean(axis=0)
    assert share[10:-10].min() > 0.09 and share[10:-10].max() < 0.22
    assert 0.02 < share[0] < 0.15 and 0.02 < share[-1] < 0.15  # their rows all end with a span


def test_rows_are_the_turns_of_equally_likely_rows_that_cut_no_span(rng):
    """Against a count of all of them."""
    length, rate, mean = 9, 0.45, 2.0  # four corrupted in two spans, five others
    expected = Counter()
    for a, b in itertools.product(range(1, 5), range(1, 4)):  # text: a, 5 - a; spans: b, 4 - b
        row = [0] * a + [1] * b + [0] * (5 - a) + [1] * (4 - b)
        turns = [row[i:] + row[:i] for i in range(9) if not (row[i] and row[i - 1])]
        for turn in turns:
            expected[tuple(turn)] += 1 / (12 * len(turns))
    rows = 40000
    found = Counter(map(tuple, masks(rng, rows, length, rate, mean).astype(int).tolist()))
    assert found.keys() == expected.keys()
    for row, p in expected.items():
        assert abs(found[row] / rows - p) < 5 * (p / rows) ** 0.5


@pytest.mark.parametrize("rate", [0.0, 0.15, 0.5, 0.99])
def test_short_rows_keep_a_token_of_each_kind(rng, rate):
    lengths = np.repeat(np.arange(7), 50)
    found = span_mask(lengths, rate, 3.0, rng.random((350, random_numbers(6))))
    assert not found[np.arange(6) >= lengths[:, None]].any()
    np.testing.assert_array_equal(found.sum(axis=1), span_counts(lengths, rate, 3.0)[0])
    assert (found.sum(axis=1)[lengths > 1] >= 1).all() and (found.sum(axis=1)[lengths > 1] < lengths[lengths > 1]).all()
