import itertools
import tracemalloc

import numpy as np
import pytest
from small_gpt import small_gpt

from minigpt import GPT, MinigptError
from minigpt.models.fast_decoding import FastDecoder
from minigpt.models.generation import CachedLogits, contexts, uncached_logits
from minigpt.sampling import window_start

V = 11
BLOCKS = [1, 2, 5, 8]


def make_gpt(block_size=8, std=0.6, dtype=np.float64, seed=0, **changes):
    """A small GPT with weights of O(1), or those that it starts with where std is None. With biases
    or tied embeddings it would say one word.
    """
    rng = None if std is None else np.random.default_rng(seed)
    return small_gpt(
        rng,
        std=std,
        dtype=dtype,
        seed=seed,
        block_size=block_size,
        **{"bias": False, "tie_embeddings": False} | changes,
    )


@pytest.fixture(params=["fast", "plain"])
def decoder(request, monkeypatch):
    """Cached decoding both ways: fast, and as it is for a family that has no FastDecoder."""
    if request.param == "plain":
        monkeypatch.setattr(GPT, "fast_decoder", None)
    return request.param


def ragged(rng, *lengths):
    return [rng.integers(0, V, n).tolist() for n in lengths]


def greedy_alone(model, prompt, n):
    """Token after token by model.logits on the context that window_start gives."""
    row = list(prompt)
    for _ in range(n):
        row.append(int(model.logits([row[window_start(len(row), model.config.block_size) :]])[0, -1].argmax()))
    return row


@pytest.mark.parametrize("block_size", BLOCKS)
@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("length", [1, 4, 8, 9, 21])
def test_greedy_is_argmax_of_logits(length, use_cache, block_size, rng):
    """From prompts shorter and longer than the block, to far past it."""
    model, ids = make_gpt(block_size), rng.integers(0, V, (3, length))
    new = model.generate(ids, max_new_tokens=29, temperature=0, use_cache=use_cache)
    assert new.shape == (3, length + 29) and new.dtype == np.int64
    np.testing.assert_array_equal(new, [greedy_alone(model, row, 29) for row in ids])
    assert len(np.unique(new[:, length:])) > 1  # not one token for ever


@pytest.mark.parametrize(
    ("positions", "qk_norm", "smear"), [("rotary", True, False), ("rotary", False, True), ("learned", False, True)]
)
@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_with_options(use_cache, positions, qk_norm, smear, rng):
    model, prompts = make_gpt(8, positions=positions, qk_norm=qk_norm, smear=smear), ragged(rng, 3, 1, 7, 8, 12)
    new = model.generate(prompts, max_new_tokens=29, temperature=0, use_cache=use_cache)
    for row, prompt in zip(new, prompts):
        np.testing.assert_array_equal(row, greedy_alone(model, prompt, 29))


@pytest.mark.parametrize("block_size", BLOCKS)
@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_ragged_rows_are_as_if_alone(use_cache, block_size, rng):
    model, prompts = make_gpt(block_size), ragged(rng, 3, 1, 7, 8, 12)
    rows = model.generate(prompts, max_new_tokens=31, temperature=0, use_cache=use_cache)
    assert isinstance(rows, list)
    for row, prompt in zip(rows, prompts):
        assert row.tolist() == greedy_alone(model, prompt, 31)


@pytest.mark.parametrize("side", ["left", "right", "hole"])
@pytest.mark.parametrize("use_cache", [True, False])
def test_generate_leaves_padding_out(side, use_cache, rng):
    model, ids, mask = make_gpt(), rng.integers(0, V, (2, 6)), np.ones((2, 6), int)
    mask[0, {"left": slice(0, 2), "right": slice(4, 6), "hole": slice(2, 4)}[side]] = 0
    new = model.generate(ids, 13, temperature=0, attention_mask=mask, use_cache=use_cache)
    np.testing.assert_array_equal(new[:, :6], ids)
    for row, prompt, keep in zip(new, ids, mask.astype(bool)):
        kept = prompt[keep]
        assert row[6:].tolist() == greedy_alone(model, kept, 13)[len(kept) :]


@pytest.mark.parametrize("lengths", [(4, 4), (1, 6, 3), (9, 2)])
@pytest.mark.parametrize("block_size", BLOCKS)
@pytest.mark.parametrize(
    ("dtype", "std", "limit"), [(np.float64, 0.6, 1e-12), (np.float64, None, 1e-12), (np.float32, None, 1e-5)]
)
def test_cached_logits_are_the_uncached_at_every_step(decoder, dtype, std, limit, block_size, lengths, rng):
    model = make_gpt(block_size, std, dtype)
    rows, cached = [np.array(row) for row in ragged(rng, *lengths)], CachedLogits(model)
    for _ in range(3 * block_size + 5):
        expected, logits = uncached_logits(model, rows), cached(rows)
        assert logits.dtype == dtype and logits.shape == (len(rows), V)
        assert np.abs(logits - expected).max() <= limit * np.abs(expected).max()
        alone = np.concatenate(
            [model.logits(context[None])[:, -1] for context in contexts(rows, model.config.block_size)]
        )
        assert np.abs(logits - alone).max() <= limit * np.abs(expected).max()
        rows = [np.append(row, token) for row, token in zip(rows, rng.integers(0, V, len(rows)))]


def test_cached_decoding_computes_one_token_a_step(rng, monkeypatch, decoder):
    """Apart from the steps at which the window jumps."""
    owner, name = (FastDecoder, "__call__") if decoder == "fast" else (GPT, "next_logits")
    lengths, compute = [], getattr(owner, name)
    monkeypatch.setattr(
        owner,
        name,
        lambda self, ids, *args, **kwargs: lengths.append(ids.shape[1]) or compute(self, ids, *args, **kwargs),
    )
    make_gpt(8).generate(rng.integers(0, V, (2, 3)), 16, temperature=0)
    assert lengths == [3, 1, 1, 1, 1, 1, 4, 1, 1, 1, 1, 4, 1, 1, 1, 1]


def test_decoding_takes_no_memory_that_grows_with_the_text(rng):
    """Bytes held at the most during a token. NumPy itself copies a head's row of scores for a
    moment where it subtracts their maximum in place:

    3 heads of 420 numbers more, 10,080 bytes. Keys and values of a layer would be 80,640, the text
    3,360 more.
    """
    tokens, held = make_gpt(512).stream(rng.integers(0, V, (1, 3)), 480, temperature=0), []
    next(tokens)  # takes the buffers
    tracemalloc.start()
    try:
        for _ in range(470):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            next(tokens)
            held.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    assert np.median(held[-50:]) - np.median(held[10:60]) <= 10_080


def test_greedy_with_biases_and_tied_embeddings(rng):
    model = make_gpt(bias=True, tie_embeddings=True, activation="gelu")
    ids = rng.integers(0, V, (2, 3))
    np.testing.assert_array_equal(
        model.generate(ids, 20, temperature=0), model.generate(ids, 20, temperature=0, use_cache=False)
    )


def test_generate_is_without_dropout(rng):
    ids = rng.integers(0, V, (2, 3))
    np.testing.assert_array_equal(make_gpt(dropout=0.5).generate(ids, 20), make_gpt(dropout=0.0).generate(ids, 20))


@pytest.mark.parametrize(
    "settings", [{}, {"temperature": 0.7, "top_k": 5}, {"top_p": 0.8}, {"temperature": 2.0}], ids=str
)
def test_generate_repeats_with_the_seed(settings, rng):
    model, ids = make_gpt(std=0.3), rng.integers(0, V, (2, 3))
    first = model.generate(ids, 40, seed=5, **settings)
    np.testing.assert_array_equal(model.generate(ids, 40, seed=5, **settings), first)
    np.testing.assert_array_equal(model.generate(ids, 40, seed=np.random.default_rng(5), **settings), first)
    np.testing.assert_array_equal(model.generate(ids, 40, seed=5, use_cache=False, **settings), first)
    assert (model.generate(ids, 40, seed=6, **settings) != first).any()
    assert first.min() >= 0 and first.max() < V


def test_generate_leaves_the_global_random_state_alone(rng):
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    make_gpt().generate([[1]], 5)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_generate_top_k_one_is_greedy(rng):
    model, ids = make_gpt(), rng.integers(0, V, (2, 3))
    greedy = model.generate(ids, 20, temperature=0)
    for settings in ({"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-300}):
        np.testing.assert_array_equal(model.generate(ids, 20, **settings), greedy)


@pytest.mark.parametrize("use_cache", [True, False])
def test_generate_stops(use_cache, rng):
    """Each row is as without stop up to its first stop id, which it then repeats; the text ends
    with the row that ends last.
    """
    model, ids = make_gpt(std=0.3), rng.integers(0, V, (3, 2))
    free = model.generate(ids, 60, seed=2, use_cache=use_cache)[:, 2:]
    stop = int(free[0, 4])
    ends = [int((row == stop).argmax()) for row in free]
    assert all((row == stop).any() for row in free) and len(set(ends)) == 3
    stopped = model.generate(ids, 60, seed=2, stop=stop, use_cache=use_cache)
    assert stopped.shape == (3, 2 + max(ends) + 1)
    for row, end in zip(stopped[:, 2:], ends):
        assert (row[end:] == stop).all()
    shortest = min(ends)
    np.testing.assert_array_equal(stopped[:, 2 : 3 + shortest], free[:, : shortest + 1])
    np.testing.assert_array_equal(model.generate(ids, 60, seed=2, stop=[stop, stop], use_cache=use_cache), stopped)


def test_generate_no_new_tokens():
    np.testing.assert_array_equal(make_gpt().generate([[1, 2, 3]], 0), [[1, 2, 3]])
    rows = make_gpt().generate([[1, 2], [3]], 0)
    assert [row.tolist() for row in rows] == [[1, 2], [3]]


def test_generate_leaves_the_prompt_alone():
    ids = np.array([[1, 2, 3]])
    make_gpt().generate(ids, 5)
    np.testing.assert_array_equal(ids, [[1, 2, 3]])


def test_generate_can_be_taken_up_where_it_stopped(rng):
    """The window depends on the length alone: 10 tokens and then 20 more are 30 tokens."""
    model, ids = make_gpt(), rng.integers(0, V, (2, 3))
    np.testing.assert_array_equal(
        model.generate(model.generate(ids, 10, temperature=0), 20, temperature=0),
        model.generate(ids, 30, temperature=0),
    )


def test_stream_yields_each_step_as_it_is_drawn(rng):
    model, ids = make_gpt(), rng.integers(0, V, (2, 3))
    first = list(itertools.islice(model.stream(ids, 10**9), 5))
    np.testing.assert_array_equal(np.stack(first, 1), model.generate(ids, 5)[:, 3:])


@pytest.mark.parametrize(
    ("ids", "kwargs", "words"),
    [
        ([[]], {}, ["prompt", "empty", "at least 1"]),
        ([[1], []], {}, ["prompt", "empty", "at least 1"]),
        (np.zeros((2, 0), int), {}, ["prompt", "empty", "at least 1"]),
        ([], {}, ["ids", "(0,)", "(batch, time)"]),
        ([1, 2, 3], {}, ["ids", "(3,)", "(batch, time)"]),
        (5, {}, ["ids", "()", "(batch, time)"]),
        ([[1, 2], 3], {}, ["ids", "(2,)", "sequence"]),
        ([[1, V]], {}, ["prompt", str(V), f"0 to {V - 1}"]),
        ([[1], [2, -1]], {}, ["prompt", "-1", f"0 to {V - 1}"]),
        ([[1.0, 2.0]], {}, ["prompt", "float64", "integers"]),
        ([[1, 2]], {"attention_mask": [[1]]}, ["attention_mask", "(1, 1)", "(1, 2)"]),
        ([1, 2], {"attention_mask": [1, 1]}, ["attention_mask", "(2,)", "(batch, time)"]),
        ([[1, 2], [3]], {"attention_mask": [[1, 1], [1]]}, ["ids", "unequal lengths"]),
        ([[1, 2]], {"attention_mask": [[0, 0]]}, ["prompt", "empty"]),
        ([[1, 2]], {"attention_mask": [[0.0, -1e4]]}, ["attention_mask", "-10000.0", "(0, 1)", "0 at padding"]),
        ([[1]], {"temperature": -1}, ["temperature", "-1", "at least 0"]),
        ([[1]], {"top_k": 0}, ["top_k", "0", "at least 1"]),
        ([[1]], {"top_p": 1.5}, ["top_p", "1.5", "at most 1"]),
        ([[1]], {"max_new_tokens": -2}, ["max_new_tokens", "-2", "at least 0"]),
    ],
    ids=str,
)
def test_generate_error(ids, kwargs, words):
    with pytest.raises(MinigptError) as error:
        make_gpt().generate(ids, **kwargs)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"top_k": 3}, {"top_p": 0.5}], ids=str)
@pytest.mark.parametrize("use_cache", [True, False])
def test_generate_from_weights_that_are_nan_is_an_error(use_cache, settings):
    model = make_gpt()
    model.parameters["h.1.mlp.c_proj.weight"][0, 0] = np.nan
    with pytest.raises(MinigptError, match="logits of row 0 at step 0: token 0 has nan"):
        model.generate([[1, 2], [3, 4]], 3, use_cache=use_cache, **settings)


@pytest.mark.parametrize(("name", "value"), [("seed", -1), ("seed", "x"), ("stop", 1.5), ("stop", [-1]), ("top_k", 0)])
def test_stream_checks_its_settings_at_once(name, value):
    """Before the first token is asked for."""
    with pytest.raises(MinigptError, match=name):
        make_gpt().stream([[1]], 3, **{name: value})
