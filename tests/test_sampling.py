import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt import MinigptError
from minigpt.sampling import (
    Sampling,
    decode,
    draw,
    left_pad,
    most_likely,
    penalised,
    sample,
    token_probabilities,
    window_start,
)

P = np.array([[0.4, 0.1, 0.3, 0.2], [0.1, 0.2, 0.3, 0.4]])
LOGITS = np.log(P) + [[5.0], [-700.0]]  # a shift changes nothing


# token_probabilities


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities_are_the_softmax(dtype):
    p = token_probabilities(LOGITS.astype(dtype))
    assert p.dtype == np.float64
    np.testing.assert_allclose(p, P, rtol=1e-4 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
def test_probabilities_follow_temperature(temperature):
    powers = P ** (1 / temperature)
    np.testing.assert_allclose(
        token_probabilities(LOGITS, temperature), powers / powers.sum(-1, keepdims=True), rtol=1e-11
    )


@pytest.mark.parametrize("temperature", [0, 0.0, 1e-9, 1e-300, 5e-324])
def test_probabilities_at_tiny_temperature_are_greedy(temperature):
    np.testing.assert_array_equal(token_probabilities(LOGITS, temperature), [[1, 0, 0, 0], [0, 0, 0, 1]])


def test_probabilities_at_temperature_zero_take_the_first_of_equals():
    np.testing.assert_array_equal(token_probabilities(np.array([[1.0, 2.0, 2.0]]), 0), [[0, 1, 0]])


def test_probabilities_at_huge_temperature_are_uniform():
    np.testing.assert_allclose(token_probabilities(LOGITS, 1e12), 0.25, rtol=1e-9)


@pytest.mark.parametrize(
    ("top_k", "expected"),
    [(1, [1, 0, 0, 0]), (2, [4 / 7, 0, 3 / 7, 0]), (3, [4 / 9, 0, 3 / 9, 2 / 9]), (4, P[0]), (99, P[0])],
)
def test_probabilities_with_top_k(top_k, expected):
    np.testing.assert_allclose(token_probabilities(LOGITS, top_k=top_k)[0], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [(1e-9, [1, 0, 0, 0]), (0.39, [1, 0, 0, 0]), (0.41, [4 / 7, 0, 3 / 7, 0]), (0.69, [4 / 7, 0, 3 / 7, 0]),
     (0.75, [4 / 9, 0, 3 / 9, 2 / 9]), (0.95, P[0]), (1, P[0]), (1.0, P[0])],
)  # fmt: skip
def test_probabilities_with_top_p(top_p, expected):
    np.testing.assert_allclose(token_probabilities(LOGITS, top_p=top_p)[0], expected, rtol=1e-12)


@pytest.mark.parametrize(("top_p", "kept"), [(0.2, 1), (0.25, 1), (0.26, 2), (0.75, 3), (0.76, 4), (1.0, 4)])
def test_probabilities_with_top_p_and_ties(top_p, kept):
    """Of equals the first are kept, and no more than are needed."""
    np.testing.assert_allclose(
        token_probabilities(np.zeros((1, 4)), top_p=top_p), [[1 / kept] * kept + [0] * (4 - kept)]
    )


def test_probabilities_with_top_k_and_ties_keep_exactly_k():
    np.testing.assert_allclose(token_probabilities(np.zeros((1, 4)), top_k=2), [[0.5, 0.5, 0, 0]])


def test_probabilities_apply_temperature_then_top_k_then_top_p():
    """top_k = 2 leaves 4/7 and 3/7, of which top_p = 0.5 keeps the first; of the whole it would
    have kept both. At temperature 1/2 too.
    """
    np.testing.assert_array_equal(token_probabilities(LOGITS, top_k=2, top_p=0.5)[0], [1, 0, 0, 0])
    squares = P[0] ** 2 / (P[0] ** 2).sum()  # 0.53 for the first
    assert squares[0] > 0.5
    np.testing.assert_array_equal(token_probabilities(LOGITS, 0.5, top_p=0.5)[0], [1, 0, 0, 0])


def test_probabilities_of_logits_minus_infinity_are_zero():
    np.testing.assert_allclose(token_probabilities(np.array([[0, -np.inf, 0]]), 0.7, top_p=0.99), [[0.5, 0, 0.5]])


def test_probabilities_of_one_token():
    for chosen in ({}, {"top_k": 1}, {"top_p": 0.1}, {"temperature": 0}):
        np.testing.assert_array_equal(token_probabilities(np.array([[-3.0]]), **chosen), [[1]])


@settings(deadline=None)
@given(
    st.lists(st.floats(-50, 50), min_size=1, max_size=12),
    st.floats(0.05, 20),
    st.none() | st.integers(1, 15),
    st.none() | st.floats(1e-6, 1),
)
def test_probabilities_keep_a_top_set(logits, temperature, top_k, top_p):
    """They sum to one, and no token that is kept was less likely than one that is dropped; top_p
    keeps no token too many.
    """
    logits = np.array([logits])
    p = token_probabilities(logits, temperature, top_k, top_p)[0]
    kept = p > 0
    assert p.sum() == pytest.approx(1, rel=1e-12) and (p >= 0).all() and kept.any()
    assert top_k is None or kept.sum() <= top_k
    full = token_probabilities(logits, temperature, top_k)[0]
    dropped = ~kept & (full > 0)
    if dropped.any():
        assert full[kept].min() >= full[dropped].max()
    if top_p is not None and kept.sum() > 1:
        assert full[kept].sum() - full[kept].min() < top_p + 1e-12
        assert full[kept].sum() >= top_p - 1e-12


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(1, 15))
def test_most_likely_is_the_head_of_a_stable_sort(values, k):
    logits = np.array([values, values[::-1]], float)
    np.testing.assert_array_equal(most_likely(logits, k), np.argsort(-logits, axis=-1, kind="stable")[:, :k])


def test_decode_makes_room_past_its_first_buffer(monkeypatch):
    monkeypatch.setattr("minigpt.sampling.ROOM", 1)
    seen = []

    def next_logits(rows):
        seen[:] = [row.tolist() for row in rows]
        return 100.0 * np.eye(10)[[len(rows[0]), 9]]

    run(next_logits, [[0], [5, 6]], 8)
    assert seen == [[0, 1, 2, 3, 4, 5, 6, 7], [5, 6, 9, 9, 9, 9, 9, 9, 9]]


# sample


def test_sample_frequencies(rng):
    n = 40_000
    ids = sample(np.repeat(P[:1], n, axis=0), rng)
    for token, p in enumerate(P[0]):
        assert abs((ids == token).mean() - p) < 5 * math.sqrt(p * (1 - p) / n)


def test_sample_never_draws_an_impossible_token(rng):
    p = np.tile([0.0, 0.5, 0.0, 0.5, 0.0], (5000, 1))
    assert set(sample(p, rng).tolist()) == {1, 3}


class Fixed:
    """A generator that draws the number it was given."""

    def __init__(self, u):
        self.u = u

    def random(self, n):
        return np.full(n, self.u)


@pytest.mark.parametrize("scale", [1.0, 0.3, 1 + 2**-52, 1 - 2**-53])
@pytest.mark.parametrize(("u", "token"), [(0.0, 1), (1 - 2**-53, 2)])
def test_sample_at_the_ends_stays_on_possible_tokens(u, token, scale):
    assert sample(np.array([[0, 0.5, 0.5, 0]]) * scale, Fixed(u)) == token


# decode


def scripted(*steps):
    """next_logits that make each row say what the script has: a list of the rows' tokens for each
    step, in a vocabulary of 10.
    """
    steps = iter(steps)
    return lambda rows: 100.0 * np.eye(10)[list(next(steps))]


def run(next_logits, rows, n, **kwargs):
    return [ids.tolist() for ids in decode(next_logits, [np.array(r) for r in rows], n, Sampling(**kwargs))]


def test_decode_hands_on_the_growing_rows():
    seen = []

    def next_logits(rows):
        seen.append([row.tolist() for row in rows])
        return 100.0 * np.eye(10)[[len(seen), len(seen) + 3]]

    assert run(next_logits, [[0], [5, 6]], 3) == [[1, 4], [2, 5], [3, 6]]
    assert seen == [[[0], [5, 6]], [[0, 1], [5, 6, 4]], [[0, 1, 2], [5, 6, 4, 5]]]


@pytest.mark.parametrize("stop", [7, [7], [7, 8], np.array([8, 7]), (7,)])
def test_decode_stops_when_every_row_has(stop):
    """The first row ends at the second step and repeats its stop id;
    the second ends at the fourth.
    """
    script = scripted([1, 2], [7, 3], [4, 4], [5, 7], [6, 6])
    assert run(script, [[0], [0]], 9, stop=stop) == [[1, 2], [7, 3], [7, 4], [7, 7]]


def test_decode_rows_may_end_on_different_stops():
    assert run(scripted([8, 2], [1, 7], [1, 1]), [[0], [0]], 9, stop=[7, 8]) == [[8, 2], [8, 7]]


def test_decode_ignores_a_stop_in_the_prompt():
    assert run(scripted([1], [2]), [[7]], 2, stop=7) == [[1], [2]]


@pytest.mark.parametrize("stop", [None, [], 9])
def test_decode_goes_on_without_a_stop(stop):
    assert run(scripted([1], [7], [2]), [[0]], 3, stop=stop) == [[1], [7], [2]]


def test_decode_of_no_tokens_asks_the_model_nothing():
    assert run(None, [[0]], 0) == []


def test_decode_repeats_with_the_seed():
    def flat(rows):
        return np.zeros((len(rows), 10))

    first, again, other = (run(flat, [[0], [0]], 20, seed=seed) for seed in (3, 3, 4))
    assert first == again == run(flat, [[0], [0]], 20, seed=np.random.default_rng(3))
    assert first != other
    assert any(a != b for a, b in first)  # rows are drawn apart


# draw


@pytest.mark.parametrize(
    "settings", [{"temperature": 0}, {}, {"top_k": 3}, {"top_p": 0.9}, {"top_k": 3, "top_p": 0.9}], ids=str
)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_draw_names_a_logit_that_is_not_finite(value, settings, rng):
    logits = np.array([[0.0, 1.0, 2.0, -np.inf], [3.0, 0.0, value, value]], np.float32)
    with pytest.raises(MinigptError) as error:
        draw(logits, Sampling(**settings), rng, step=5)
    assert str(error.value) == f"logits of row 1 at step 5: token 2 has {value}, it must be finite or -inf"


@pytest.mark.parametrize("settings", [{"temperature": 0}, {}, {"top_k": 2}], ids=str)
def test_draw_of_minus_infinity(settings, rng):
    """Right for tokens that are ruled out, wrong for all of them."""
    assert draw(np.array([[-np.inf, 1.0, -np.inf]]), Sampling(**settings), rng).tolist() == [1]
    with pytest.raises(MinigptError, match=r"^logits of row 0 at step 0: all are -inf, at least 1 must be finite$"):
        draw(np.full((1, 3), -np.inf), Sampling(**settings), rng)


def test_decode_names_the_step_of_a_nan():
    steps = iter([np.zeros((2, 10)), np.array([[0.0] * 10, [0.0] * 9 + [np.nan]])])
    tokens = decode(lambda rows: next(steps), [np.array([0]), np.array([1])], 5, Sampling())
    next(tokens)
    with pytest.raises(MinigptError, match="row 1 at step 1: token 9 has nan"):
        next(tokens)


@pytest.mark.parametrize(
    ("settings", "sums"),
    [
        ({}, [12822, 12450, 12736]),
        ({"temperature": 0.8, "top_k": 20}, [12969, 12978, 12588]),
        ({"top_p": 0.9}, [12913, 12559, 12527]),
        ({"temperature": 1.3, "top_k": 7, "top_p": 0.8}, [12895, 12611, 12837]),
        ({"top_k": 64}, [12827, 12450, 12736]),
    ],
    ids=str,
)
def test_decode_draws_the_tokens_of_earlier_versions(settings, sums):
    """Sums of 400 tokens a row, kept from the first version that sampled: a seed means the same
    text for ever.
    """
    table = 2 * np.random.default_rng(7).standard_normal((65, 65)).astype(np.float32)
    steps = decode(
        lambda rows: table[[row[-1] for row in rows]],
        [np.array(r) for r in ([1], [2, 3], [4])],
        400,
        Sampling(seed=11, **settings),
    )
    assert np.sum(list(steps), axis=0).tolist() == sums


# settings

BAD_SETTINGS = [
    *[("temperature", value) for value in (-1, -1e-9, math.nan, math.inf, "1", None, True)],
    *[("top_k", value) for value in (0, -1, 2.5, 2.0, True, "3", math.nan)],
    *[("top_p", value) for value in (0, -0.1, 1.0001, math.nan, "1", True)],
    *[("stop", value) for value in (-1, 1.0, True, "\n", 2**70, math.nan, {3: 4}, np.int64(-2), object)],
    *[("seed", value) for value in (-1, 1.5, "x", True, None, [1, 2], np.random.RandomState(0))],
    *[("repetition_penalty", value) for value in (math.nan, math.inf, "1", None, True)],
]


@pytest.mark.parametrize(("name", "value"), BAD_SETTINGS)
def test_sampling_settings_error(name, value):
    with pytest.raises(MinigptError) as error:
        Sampling(**{name: value})
    shown = f"{value!r:.80}" if value != 2**70 else str(value)
    assert str(error.value).startswith(f"{name} is {shown}, it must be") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("stop", "named"), [([3, -1], "-1"), ([[3]], "[3]"), (np.array([2.0]), "2.0"), ((3, None), "None"), (["a"], "'a'")]
)
def test_sampling_stop_error_names_the_id(stop, named):
    with pytest.raises(MinigptError, match=r"stop is .*it must be a whole number") as error:
        Sampling(stop=stop)
    assert named in str(error.value)


@pytest.mark.parametrize("value", [-1, 1.5, "x", math.inf, None, True])
def test_decode_error_of_max_new_tokens(value):
    with pytest.raises(MinigptError) as error:
        run(None, [[0]], value)
    assert str(error.value).startswith(f"max_new_tokens is {value!r}, it must be a whole number of at least 0")


@pytest.mark.parametrize("stop", [10, [3, 11]])
def test_decode_error_of_a_stop_outside_the_vocabulary(stop):
    with pytest.raises(MinigptError, match=r"^stop is 1\d, token ids are 0 to 9$"):
        run(scripted([1]), [[0]], 3, stop=stop)


def test_sampling_settings_take_numpy_numbers():
    Sampling(np.float32(0.5), np.int64(3), np.float64(0.9), np.int32(4), np.uint8(5))
    Sampling(0, 1, 1, [], 0)
    assert Sampling(stop=np.array(7)).stops() == [7] and Sampling(stop=np.array([7, 8])).stops() == [7, 8]


# window_start


@settings(deadline=None)
@given(st.integers(1, 500), st.integers(1, 5000))
def test_window_keeps_half_to_all_of_the_block(block_size, length):
    start = window_start(length, block_size)
    if length <= block_size:
        assert start == 0
    else:
        assert max(1, block_size // 2) <= length - start <= block_size
    # grows by one, or jumps to half
    assert start in (window_start(length - 1, block_size), length - max(1, block_size // 2))


@pytest.mark.parametrize(
    ("block_size", "starts"),
    [(1, [0, 0, 1, 2, 3, 4, 5]), (2, [0, 0, 0, 2, 2, 4, 4]), (4, [0, 0, 0, 0, 0, 3, 3]), (5, [0] * 6 + [4])],
)
def test_window_start_values(block_size, starts):
    assert [window_start(n, block_size) for n in range(7)] == starts


@pytest.mark.parametrize("block_size", [1, 2, 7, 64])
def test_window_jumps_once_in_half_a_block(block_size):
    jumps = [n for n in range(1, 1000) if window_start(n, block_size) != window_start(n - 1, block_size)]
    assert set(np.diff(jumps)) == {block_size + 1 - max(1, block_size // 2)}


# left_pad


def test_left_pad_of_equal_rows_pads_nothing():
    ids, mask, positions = left_pad([np.array([1, 2, 3]), np.array([4, 5, 6])])
    np.testing.assert_array_equal(ids, [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(positions, [0, 1, 2])
    assert mask is None


def test_left_pad_aligns_the_newest_tokens():
    ids, mask, positions = left_pad([np.array([1]), np.array([4, 5, 6]), np.array([7, 8])])
    np.testing.assert_array_equal(ids, [[0, 0, 1], [4, 5, 6], [0, 7, 8]])
    np.testing.assert_array_equal(mask, [[0, 0, 1], [1, 1, 1], [0, 1, 1]])
    np.testing.assert_array_equal(positions, [[0, 0, 0], [0, 1, 2], [0, 0, 1]])
    assert mask.dtype == bool


# the penalty of repetition


def test_penalised_divides_positive_logits_and_multiplies_negative_ones():
    logits = np.array([[2.0, -2.0, 0.0, 4.0, -np.inf], [1.0, 1.0, 1.0, -1.0, 3.0]])
    before = logits.copy()
    found = penalised(logits, [np.array([0, 1, 0, 4, 2]), np.array([3])], 4.0)
    np.testing.assert_array_equal(found, [[0.5, -8, 0, 4, -np.inf], [1, 1, 1, -4, 3]])
    np.testing.assert_array_equal(logits, before)
    assert penalised(logits, [], 1.0) is logits
    float32 = penalised(logits.astype(np.float32), [np.array([0])] * 2, 1e300)
    assert float32.dtype == np.float32 and float32[0, 0] == 0


def test_decode_penalises_the_prompt_and_what_was_drawn():
    """Logits 3, 2 and -1 whatever was said; half of 3 is less than 2, half of 2 than 3 / 2."""
    found = run(lambda rows: np.array([[3.0, 2, -1]] * len(rows)), [[2], [0]], 3, temperature=0, repetition_penalty=2)
    assert found == [[0, 1], [1, 0], [0, 0]]


@pytest.mark.parametrize(("size", "k"), [(1000, 1), (1000, 3), (5000, 9), (4 * 64 * 2, 2), (4 * 64 * 2 - 1, 2)])
@pytest.mark.parametrize("values", [4, 10**6])
def test_most_likely_of_many_is_the_head_of_a_stable_sort(values, size, k, rng):
    logits = rng.integers(0, values, (3, size)).astype(float)
    logits[1, : size // 2] = -np.inf
    np.testing.assert_array_equal(most_likely(logits, k), np.argsort(-logits, axis=-1, kind="stable")[:, :k])


@pytest.mark.parity
@pytest.mark.parametrize("settings", [
    {}, {"temperature": 0.7}, {"top_k": 5}, {"top_p": 0.8}, {"repetition_penalty": 1.4},
    {"temperature": 1.3, "top_k": 9, "top_p": 0.7, "repetition_penalty": 1.4},
    {"temperature": 0.4, "top_k": 30, "top_p": 0.95, "repetition_penalty": 0.8},
], ids=str)  # fmt: skip
def test_the_distribution_equals_that_of_transformers_processors(settings, rng):
    """In their order: the penalty, temperature, top_k, top_p."""
    torch = pytest.importorskip("torch")
    logits_process = pytest.importorskip("transformers.generation.logits_process")
    logits, rows = 3 * rng.standard_normal((50, 40)), rng.integers(0, 40, (50, 12))
    kinds = {
        "repetition_penalty": logits_process.RepetitionPenaltyLogitsProcessor,
        "temperature": logits_process.TemperatureLogitsWarper,
        "top_k": logits_process.TopKLogitsWarper,
        "top_p": logits_process.TopPLogitsWarper,
    }
    expected = torch.tensor(logits)
    for name, kind in kinds.items():
        if name in settings:
            expected = kind(settings[name])(torch.tensor(rows), expected)
    cut = {name: value for name, value in settings.items() if name != "repetition_penalty"}
    found = token_probabilities(penalised(logits, rows, settings.get("repetition_penalty", 1.0)), **cut)
    np.testing.assert_allclose(found, torch.softmax(expected, dim=-1).numpy(), rtol=0, atol=1e-12)
