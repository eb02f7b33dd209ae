import doctest
import itertools
import math

import numpy as np
import pytest

from minigpt import MinigptError, beams
from minigpt.beams import Beams, beam_search, log_probabilities
from minigpt.sampling import Sampling, decode

V = 5


@pytest.fixture
def table(rng):
    """Logits of the next token by how long a row is and by its newest token: sharp enough that
    stop ids come early and late.
    """
    return 2 * rng.standard_normal((13, V, V))


def by_table(table):
    """A next_logits that checks what it is told: each row continues the row of its origin."""
    before = []

    def next_logits(rows, origins=None):
        if origins is not None:
            assert len(origins) == len(rows)
            for row, origin in zip(rows, origins):
                np.testing.assert_array_equal(row[:-1], before[origin])
        before[:] = [row.copy() for row in rows]
        return np.stack([table[len(row) % len(table), row[-1]] for row in rows])

    return next_logits


def log_p_of(table, row, ids, penalty=1.0):
    """log p of each of the ids that follow a row, after the penalty of repetition."""
    found, row = [], list(row)
    for token in ids:
        logits = table[len(row) % len(table), row[-1]]
        log_p = logits[token] - np.log(np.exp(logits).sum())
        found.append(log_p * penalty if token in row else log_p)
        row.append(token)
    return found


def search(table, rows, n, **settings):
    """-> for each text its (score, list of ids), best first"""
    found = beam_search(by_table(table), [np.array(row) for row in rows], n, Beams(**settings))
    return [[(one.score, one.ids.tolist()) for one in of_text] for of_text in found]


def all_texts(table, row, n, stops, length_penalty):
    """Every continuation that ends at a stop id or at n tokens, best first."""
    texts = []
    for length in range(1, n + 1):
        for ids in itertools.product(range(table.shape[-1]), repeat=length):
            if stops.isdisjoint(ids[:-1]) and (ids[-1] in stops or length == n):
                texts.append((sum(log_p_of(table, row, ids)) / length**length_penalty, list(ids)))
    return sorted(texts, reverse=True)


@pytest.mark.parametrize("length_penalty", [-1, 0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("stops", [set(), {1}, {0, 2}])
def test_beams_that_hold_every_text_find_the_best(stops, length_penalty, table):
    table, n, rows, count = table[:, :3, :3], 4, [[0, 1], [2]], {0: 81, 1: 31, 2: 9}[len(stops)]
    found = search(
        table, rows, n,
        num_beams=3**n, length_penalty=length_penalty, stop=list(stops), num_return_sequences=count,
    )  # fmt: skip
    for row, of_text in zip(rows, found):
        expected = all_texts(table, row, n, stops, length_penalty)
        assert len(expected) == count
        assert [ids for _, ids in of_text] == [ids for _, ids in expected]
        np.testing.assert_allclose([s for s, _ in of_text], [s for s, _ in expected], rtol=1e-12)


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("length_penalty", [-1, 0, 0.5, 1, 2])
def test_scores_are_the_mean_log_probabilities_and_fall(length_penalty, early_stopping, table):
    """Of texts that are searched for together and end at various steps; the same as if alone."""
    rows = [[0], [3, 1], [4, 4, 2]]
    settings = {
        "num_beams": 3, "num_return_sequences": 3, "length_penalty": length_penalty,
        "early_stopping": early_stopping, "stop": 3,
    }  # fmt: skip
    found = search(table, rows, 9, **settings)
    assert found == [search(table, [row], 9, **settings)[0] for row in rows]
    assert len({len(ids) for of_text in found for _, ids in of_text}) > 1 or length_penalty == 2
    for row, of_text in zip(rows, found):
        scores = [score for score, _ in of_text]
        assert scores == sorted(scores, reverse=True) and len({str(ids) for _, ids in of_text}) == 3
        for score, ids in of_text:
            assert score == pytest.approx(sum(log_p_of(table, row, ids)) / len(ids) ** length_penalty, rel=1e-12)
            assert 3 not in ids[:-1] and (ids[-1] == 3 or len(ids) == 9)


@pytest.mark.parametrize("repetition_penalty", [1.0, 1.7])
def test_one_beam_that_stops_early_is_greedy(table, repetition_penalty):
    rows = [[0], [3, 1], [4, 4, 2]]
    found = search(table, rows, 12, num_beams=1, early_stopping=True, stop=3, repetition_penalty=repetition_penalty)
    greedy = Sampling(temperature=0, stop=3, repetition_penalty=repetition_penalty)
    if repetition_penalty != 1:  # of log p, as transformers does
        table = log_probabilities(table.reshape(-1, V)).reshape(table.shape)
    new = np.stack(list(decode(by_table(table), [np.array(row) for row in rows], 12, greedy)), axis=1)
    for [(_, ids)], expected in zip(found, new):
        assert ids == expected[: len(ids)].tolist() and (len(ids) == 12 or ids[-1] == 3)


def test_early_stopping_closes_sooner_and_never_later(table):
    """Calls of the model: True closes a text when its list is full, False and "never" when its
    best beginning can't come into it, by a guess and for certain.
    """
    calls = dict.fromkeys((True, False, "never"), 0)
    for early_stopping, first in itertools.product(calls, itertools.product(range(V), repeat=2)):
        inner = by_table(table)

        def next_logits(rows, origins=None, early_stopping=early_stopping, inner=inner):
            calls[early_stopping] += 1
            return inner(rows, origins)

        asked = Beams(3, early_stopping=early_stopping, stop=3, length_penalty=0.5)
        beam_search(next_logits, [np.array(first)], 40, asked)
    assert 25 * 3 < calls[True] < calls[False] < calls["never"] < 25 * 40


def test_a_text_that_is_closed_is_no_longer_computed(table):
    lengths, inner = [], by_table(table)
    table[:, 0, :], table[:, 0, [3, 0]] = -30, 0  # the first text ends, or says 0 and ends

    def next_logits(rows, origins=None):
        lengths.append(len(rows))
        return inner(rows, origins)

    beam_search(next_logits, [np.array([0]), np.array([1])], 8, Beams(2, stop=3, early_stopping=True))
    assert lengths[0] == 2 and lengths[1] == 4 and lengths[-1] == 2 and sorted(set(lengths[1:])) == [2, 4]


def test_repetition_penalty_counts_the_prompt_and_what_was_written(table):
    [[(score, ids)]] = search(table, [[0, 2]], 2, num_beams=V**2, repetition_penalty=3.0)
    texts = [
        (sum(log_p_of(table, [0, 2], pair, 3.0)) / 2, list(pair)) for pair in itertools.product(range(V), repeat=2)
    ]
    assert ids == max(texts)[1] and score == pytest.approx(max(texts)[0], rel=1e-12)
    assert search(table, [[0, 2]], 2, num_beams=V**2) != [[(score, ids)]]


def test_a_sum_past_the_largest_float_is_impossible(table):
    """As of a huge penalty of repetition, of which two tokens are too many."""
    settings = {"num_beams": 3, "repetition_penalty": 1e308}
    assert {len({0, *ids}) for _, ids in search(table, [[0]], 4, **settings)[0]} == {5}
    assert np.isfinite([score for score, _ in search(table, [[0]], 9, **settings)[0]]).all()


def test_tokens_that_are_impossible_are_never_taken(table):
    """-inf stands for a token that is ruled out; a text that has fewer continuations than are
    asked for is told.
    """
    table = np.where(np.arange(V) == 2, -np.inf, table)
    for _, ids in search(table, [[0]], 4, num_beams=20, num_return_sequences=20)[0]:
        assert 2 not in ids
    with pytest.raises(MinigptError, match="num_return_sequences is 5, text 0 has but 4 continuations"):
        search(table, [[0]], 1, num_beams=6, num_return_sequences=5)


def test_beams_stay_in_place():
    assert doctest.testmod(beams).failed == 0
    for parents in itertools.product(range(4), repeat=4):
        order = beams.in_place(parents)
        assert sorted(order) == [0, 1, 2, 3]
        assert all(parents[i] == slot for slot, i in enumerate(order) if slot in parents)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_probabilities_of_extreme_logits(dtype):
    found = log_probabilities(np.array([[1e4, 1e4, -np.inf]], dtype))
    np.testing.assert_allclose(found, [[-math.log(2), -math.log(2), -np.inf]], rtol=1e-6)
    assert found.dtype == dtype
    with pytest.raises(MinigptError, match="logits of row 1 at step 3: token 0 has nan"):
        log_probabilities(np.array([[0, 0], [np.nan, 0]], dtype), step=3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_beams": 0}, "num_beams is 0, it must be a whole number of at least 1"),
        ({"num_beams": 2.0}, "num_beams is 2.0, it must be a whole number"),
        ({"length_penalty": math.nan}, "length_penalty is nan, it must be a number from -50 to 50"),
        ({"length_penalty": math.inf}, "length_penalty is inf, it must be a number"),
        ({"length_penalty": None}, "length_penalty is None, it must be a number"),
        ({"early_stopping": "always"}, "early_stopping is 'always', it must be one of False, True, never"),
        ({"early_stopping": 1}, "early_stopping is 1, it must be one of False, True, never"),
        ({"early_stopping": None}, "early_stopping is None, it must be one of"),
        ({"num_return_sequences": 0}, "num_return_sequences is 0, it must be a whole number of at least 1"),
        ({"stop": [1, -1]}, "stop is -1, it must be a whole number from 0 to"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0, it must be more than 0"),
        ({"repetition_penalty": math.nan}, "repetition_penalty is nan, it must be a number"),
    ],
    ids=str,
)
def test_beams_settings_error(settings, message):
    with pytest.raises(MinigptError) as error:
        Beams(**settings)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_beam_search_error_of_a_stop_outside_the_vocabulary_and_of_no_tokens(table):
    with pytest.raises(MinigptError, match=r"^stop is 5, token ids are 0 to 4$"):
        search(table, [[0]], 3, stop=[1, 5])
    with pytest.raises(MinigptError, match=r"^max_new_tokens is 0, it must be a whole number of at least 1$"):
        search(table, [[0]], 0)
