"""FastDecoder against the plain path: the same logits, and the same state for whoever goes on."""

import itertools
import threading
import time

import numpy as np
import pytest
from small_gpt import small_gpt

from minigpt import GPT, GPTNeo, GPTNeoConfig
from minigpt.layers import Linear
from minigpt.layers.store import Store
from minigpt.models import fast_decoding
from minigpt.models.fast_decoding import FastDecoder, FastLinear, few_rows_product
from minigpt.models.generation import CachedLogits, decoder
from minigpt.observe import Observer, observing
from minigpt.ops.attend import attend
from minigpt.sampling import left_pad

V, C, H = 11, 12, 3
OTHERS = itertools.cycle(itertools.product(("gelu", "relu", "silu", "gelu_tanh"), (True, False), (False, True)))
FORMS = [  # all ways of positions, qk_norm and smear, each with another activation, biases or none, a tied head or none
    {"positions": p, "qk_norm": q, "smear": s, "activation": a, "bias": b, "tie_embeddings": t}
    for (p, q, s), (a, b, t) in zip(itertools.product(("learned", "rotary"), (False, True), (False, True)), OTHERS)
] + [{"n_layer": 3}, {"n_layer": 1, "smear": True}, {"n_head": 4, "n_embd": 12}]  # heads of 3 channels have no halves


def texts(rng, *lengths):
    return [rng.integers(0, V, n) for n in lengths]


def both_ways(model, rows, steps, rng):
    """A prompt and the tokens after it, plain and fast -> logits of each call,
    and the two states.
    """
    ids, mask, position_ids = left_pad(rows)
    states = [model.decoding_state(len(rows)) for _ in range(2)]
    fast, found = FastDecoder(model, states[1]), []
    for step in range(steps):
        plain = model.next_logits(ids, states[0], key_mask=mask, position_ids=position_ids)
        found.append((plain, fast(ids, key_mask=mask, position_ids=position_ids)))
        position_ids = np.array([[len(row) + step] for row in rows])
        mask = None if mask is None else np.pad(mask, ((0, 0), (0, 1)), constant_values=True)
        ids = rng.integers(0, V, (len(rows), 1))
    return found, states


@pytest.mark.parametrize("lengths", [(1,), (4,), (2, 2, 2), (1, 5, 3), (2, 1)], ids=str)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(map(str, form.values())))
def test_fast_logits_are_the_plain_ones(form, lengths, rng):
    model = small_gpt(rng, **form)
    found, (plain, fast) = both_ways(model, texts(rng, *lengths), 5, rng)
    for expected, logits in found:
        assert logits.shape == (len(lengths), V) and logits.dtype == np.float64
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    # what padding has is read by nobody
    visible = np.array([[n >= max(lengths) - t for t in range(max(lengths))] for n in lengths])
    for a, b in zip(plain.kv, fast.kv):
        assert a.length == b.length == max(lengths) + 4
        for name in ("keys", "values"):
            x, y = (np.swapaxes(getattr(kv, name), 1, 2)[:, : a.length] for kv in (a, b))
            np.testing.assert_allclose(y[:, max(lengths) :], x[:, max(lengths) :], rtol=1e-11, atol=1e-12)
            np.testing.assert_allclose(
                y[:, : max(lengths)][visible], x[:, : max(lengths)][visible], rtol=1e-11, atol=1e-12
            )
    if plain.previous is not None:
        np.testing.assert_array_equal(fast.previous, plain.previous)


@pytest.mark.parametrize("form", [{}, {"positions": "rotary", "qk_norm": True, "smear": True}], ids=str)
def test_fast_logits_in_float32(form, rng):
    model = small_gpt(rng, std=0.1, dtype=np.float32, **form)
    for expected, logits in both_ways(model, texts(rng, 3, 1), 5, rng)[0]:
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_plain_and_fast_take_turns_on_one_state(positions, rng):
    model = small_gpt(rng, positions=positions, smear=True)
    ids = rng.integers(0, V, (2, 8))
    state = model.decoding_state(2)
    fast = FastDecoder(model, state)
    fast(ids[:, :3], position_ids=np.arange(3))
    for t in range(3, 8):
        compute = fast if t % 2 else lambda *args, **kwargs: model.next_logits(*args, state, **kwargs)
        logits = compute(ids[:, t : t + 1], position_ids=np.array([t]))
        np.testing.assert_allclose(logits, model.logits(ids[:, : t + 1])[:, -1], rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("lengths", [(4,), (1, 5, 3)], ids=str)
def test_fast_local_attention_without_scale(lengths, rng):
    """What attention layers of other families state: a window, a scale, biases of one map alone."""
    model = small_gpt(rng)
    model.blocks[1].attn.window, model.blocks[0].attn.scale = 2, 1.0
    model.blocks[0].attn.c_attn.bias = None
    for expected, logits in both_ways(model, texts(rng, *lengths), 5, rng)[0]:
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_fast_attention_of_large_scores(rng):
    """Scores of thousands, of which exp alone would overflow or leave nothing."""
    model = small_gpt(rng)
    for i in range(2):
        model.parameters[f"h.{i}.attn.c_attn.weight"][:, : 2 * C] *= 100
    for expected, logits in both_ways(model, texts(rng, 3, 2), 4, rng)[0]:
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("form", [{}, {"positions": "rotary", "qk_norm": True, "smear": True, "bias": False}], ids=str)
def test_parameters_are_live(form, rng):
    """Written between two generates, and between two tokens of one: what comes next is of the new
    values.
    """
    model, ids = small_gpt(rng, **form), rng.integers(0, V, (2, 3))
    model.generate(ids, 4, temperature=0)
    model.store.vector[:] = 0.5 * rng.standard_normal(model.num_parameters)
    np.testing.assert_array_equal(
        model.generate(ids, 4, temperature=0), model.generate(ids, 4, temperature=0, use_cache=False)
    )

    state = model.decoding_state(2)
    fast = FastDecoder(model, state)
    before = fast(ids, position_ids=np.arange(3))
    for name in model.parameters:
        if name.startswith(("ln_f", "h.1.mlp", "h.1.ln_2")):  # no keys and no values are made of these
            model.parameters[name][...] = 0.5 * rng.standard_normal(model.parameters[name].shape)
    new = rng.integers(0, V, (2, 1))
    logits = fast(new, position_ids=np.array([3]))
    np.testing.assert_allclose(logits, model.logits(np.concatenate([ids, new], axis=1))[:, -1], rtol=1e-10, atol=1e-11)
    assert logits.shape == before.shape and not np.shares_memory(logits, before)  # what was returned stays as it is


def test_fast_decoder_is_for_the_families_as_they_are(rng):
    class Changed(GPT):
        """A reader's own."""

    model = small_gpt(rng)
    state = model.decoding_state(1)
    assert isinstance(decoder(model, state), FastDecoder)
    assert isinstance(decoder(small_gpt(rng, smear=True), state), FastDecoder)
    assert decoder(model.astype(np.complex128), state).func.__name__ == "next_logits"
    assert decoder(Changed(model.config), state).func.__name__ == "next_logits"


def test_an_observer_sees_every_op_of_a_cached_token(rng):
    class Places(Observer):
        seen = ()

        def leave(self, call, outputs):
            self.seen = (*self.seen, call.place)

    model = small_gpt(rng)
    tokens = model.stream(rng.integers(0, V, (1, 3)), 2, temperature=0)
    with observing(Places()) as places:
        next(tokens)
        places.seen = ()
        next(tokens)
    assert "h.1.attn: newest_attention" in places.seen and "h.0.mlp: gelu_tanh_forward" in places.seen


def test_cached_logits_use_it(rng, monkeypatch):
    """And without it the plain path, to the same logits."""
    model, rows = small_gpt(rng), texts(rng, 3, 2)
    fast = CachedLogits(model)(rows)
    monkeypatch.setattr(GPT, "fast_decoder", None)
    plain = CachedLogits(model)(rows)
    assert (fast != plain).any()  # other roundings
    np.testing.assert_allclose(fast, plain, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("lengths", [(4,), (1, 6, 3)], ids=str)
def test_fast_logits_of_gpt_neo(lengths, rng):
    """Windows in every other layer, no scale, biases of one map alone."""
    model = GPTNeo(GPTNeoConfig(V, 12, hidden_size=C, num_layers=2, num_heads=H, window_size=3), dtype=np.float64)
    model.store.vector[:] = 0.5 * rng.standard_normal(model.num_parameters)
    assert isinstance(decoder(model, model.decoding_state(1)), FastDecoder)
    for expected, logits in both_ways(model, texts(rng, *lengths), 5, rng)[0]:
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("B", "C", "V"), [(2, 5, 37), (3, 4, 8), (7, 3, 2)])
def test_few_rows_product(B, C, V, threads, rng, monkeypatch):
    """Blocks of three columns and a rest, more threads than blocks,
    a table smaller than a block.
    """
    monkeypatch.setattr(fast_decoding, "ONE_THREAD", B * C * 3)
    monkeypatch.setattr(fast_decoding, "QUICK", 0)
    monkeypatch.setattr(fast_decoding, "usable_threads", lambda: threads)
    x, table = rng.standard_normal((B, C)), rng.standard_normal((V, C))
    np.testing.assert_allclose(few_rows_product(x, table.T), x @ table.T, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(few_rows_product(x, table.T.copy()), x @ table.T, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("one_thread", "n"), [(2 * 5 * 3 + 9, 3), (1, 1)])
def test_few_rows_product_shares_out_small_blocks(one_thread, n, rng, monkeypatch):
    """Half of the blocks go to another thread, which is waited for."""
    shapes, multiply = [], np.matmul

    def slow(x, blocks, out):
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.05)
        shapes.append(blocks.shape)
        multiply(x, blocks, out)

    monkeypatch.setattr(fast_decoding, "ONE_THREAD", one_thread)
    monkeypatch.setattr(fast_decoding, "QUICK", 2 * 100 - 1)
    monkeypatch.setattr(fast_decoding, "usable_threads", lambda: 2)
    monkeypatch.setattr(fast_decoding, "matmul", slow)
    x, table = rng.standard_normal((2, 5)), rng.standard_normal((20, 5))
    np.testing.assert_allclose(few_rows_product(x, table.T), x @ table.T, rtol=1e-13, atol=1e-13)
    half = 20 // n // 2
    assert shapes == [(half, 5, n), (5, 20 % n), (half, 5, n)]
    shapes.clear()
    monkeypatch.setattr(fast_decoding, "QUICK", 2 * 100)
    np.testing.assert_allclose(few_rows_product(x, table.T), x @ table.T, rtol=1e-13, atol=1e-13)
    assert shapes == [(20 // n, 5, n), (5, 20 % n)]


@pytest.mark.parametrize(("rows", "as_it_lies", "one_core", "parts"), [
    (3, 3 * 7 * 32, 7 * 80, [32, 32, 16]),
    (3, 3 * 7 * 80 - 1, 7 * 80, [64, 16]),
    (3, 3 * 7 * 96, 7 * 80, [80]),  # small enough
    (3, 3 * 7 * 31, 7 * 80, [80]),  # too narrow a part to be worth it
    (3, 3 * 7 * 32, 7 * 80 - 1, [80]),  # a matrix that all cores had better read
    (16, 16 * 7 * 32, 7 * 80, [32, 32, 16]),
    (17, 17 * 7 * 32, 7 * 80, [80]),
    (2, 2 * 7 * 32, 7 * 80, [32, 32, 16]),
    (1, 7 * 64, 7 * 80, [80]),
])  # fmt: skip
@pytest.mark.parametrize("bias", [True, False])
def test_fast_linear_cuts_large_matrices_into_columns(rows, as_it_lies, one_core, parts, bias, rng, monkeypatch):
    monkeypatch.setattr(fast_decoding, "AS_IT_LIES", as_it_lies)
    monkeypatch.setattr(fast_decoding, "ONE_CORE", one_core)
    linear = Linear("l", 7, 80, bias=bias)
    p = Store.initialised(linear.parameters(), 0, np.float64)
    p.vector[:] = rng.standard_normal(p.vector.size)
    shape, x = (() if rows == 1 else (rows,)), rng.standard_normal((rows, 7))
    fast = FastLinear(p, linear, np.empty((*shape, 80)))
    assert [part.shape[1] for part, _ in fast.parts or [(p["l.weight"], None)]] == parts
    expected, _ = linear.forward(p, x)
    np.testing.assert_allclose(fast(x.reshape(*shape, 7)).reshape(rows, 80), expected, rtol=1e-13, atol=1e-13)


def test_a_token_takes_the_form_of_attention_that_makes_no_arrays(rng, monkeypatch):
    model, calls = small_gpt(rng), []
    monkeypatch.setattr(
        fast_decoding, "attend", lambda q, *args, **kwargs: calls.append(q.shape[2]) or attend(q, *args, **kwargs)
    )
    model.generate(rng.integers(0, V, (2, 5)), 3)
    assert calls == [4]  # of the prompt's first block; of the second, nothing but keys and values


@pytest.mark.parametrize(("rows", "used"), [(1, False), (2, True), (32, True), (33, False)])
def test_few_rows_product_is_for_few_rows_and_a_large_table(rows, used, rng, monkeypatch):
    calls = []
    monkeypatch.setattr(fast_decoding, "few_rows_product", lambda x, m: calls.append(len(x)) or x @ m)
    monkeypatch.setattr(fast_decoding, "LARGE_TABLE", V * C)
    model = small_gpt(rng)
    ids = rng.integers(0, V, (rows, 3))
    new = model.generate(ids, 4, temperature=0)
    np.testing.assert_array_equal(new, model.generate(ids, 4, temperature=0, use_cache=False))
    assert calls == [rows] * 4 * used
    monkeypatch.setattr(fast_decoding, "LARGE_TABLE", V * C + 1)
    model.generate(ids, 1)
    assert calls == [rows] * 4 * used
