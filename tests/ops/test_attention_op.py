import itertools
import math
import tracemalloc
from functools import partial

import numpy as np
import pytest

from minigpt.gradcheck import check_op
from minigpt.ops import (
    Mask,
    attention_backward,
    attention_forward,
    dropout_forward,
    lean_attention_backward,
    lean_attention_forward,
    reference_attention,
)
from minigpt.ops.attend import LEAN_FROM, attend, attend_backward
from minigpt.ops.attention import AttentionCache
from minigpt.ops.lean_attention import QUERY_BLOCK, LeanAttentionCache, visible_blocks
from minigpt.ops.newest_attention import NewestAttentionCache, newest_attention

B, H, D = 2, 3, 4
PLAIN = attention_forward, attention_backward
# three queries at a time: short texts have several blocks
LEAN = partial(lean_attention_forward, block=3), lean_attention_backward
both = pytest.mark.parametrize(("forward", "backward"), [PLAIN, LEAN], ids=["plain", "lean"])
lengths = pytest.mark.parametrize(("T", "S"), [(5, 5), (5, 7), (7, 5), (1, 6), (6, 1)])
masks = pytest.mark.parametrize(
    ("causal", "window", "padded"), list(itertools.product([False, True], [None, 1, 3], [False, True]))
)
BIAS_SHAPES = [None, *itertools.product((1, "B"), (1, "H"), (1, "T"), (1, "S"))]


def make_mask(S, causal=False, window=None, padded=False):
    """padded: of the first row the last key is hidden, of the second every key."""
    return Mask(causal, window, np.arange(S) < np.array([S - 1, 0])[:, None] if padded else None)


def make_inputs(rng, T, S, bias_shape=None):
    q, k, v = (rng.standard_normal((B, H, n, D)) for n in (T, S, S))
    sizes = {"B": B, "H": H, "T": T, "S": S}
    return q, k, v, None if bias_shape is None else rng.standard_normal([sizes.get(n, n) for n in bias_shape])


def visible(b, t, s, T, S, mask):
    """Whether query t of row b may see key s, from the definition."""
    distance = S - T + t - s
    if mask.causal and distance < 0:
        return False
    if mask.window is not None and abs(distance) >= mask.window:
        return False
    return mask.keys is None or bool(mask.keys[b, s])


def oracle(q, k, v, mask=Mask(), bias=None, scale=None):  # noqa: B008
    """Attention by loops over single numbers. -> y, weights (B, H, T, S)"""
    (B, H, T, D), S = q.shape, k.shape[2]
    scale = 1 / math.sqrt(D) if scale is None else scale
    y, weights = np.zeros((B, H, T, D)), np.zeros((B, H, T, S))
    bias = np.zeros((B, H, T, S)) if bias is None else np.broadcast_to(bias, (B, H, T, S))
    for b, h, t in np.ndindex(B, H, T):
        seen = [s for s in range(S) if visible(b, t, s, T, S, mask)]
        e = {s: math.exp(scale * sum(q[b, h, t, d] * k[b, h, s, d] for d in range(D)) + bias[b, h, t, s]) for s in seen}
        for s in seen:
            weights[b, h, t, s] = e[s] / sum(e.values())
            y[b, h, t] += weights[b, h, t, s] * v[b, h, s]
    return y, weights


def assert_right(report):
    """Where one key is visible, or a bias is the same for all keys, the gradient is zero in theory:
    its rounding stays below 1e-14.
    """
    for row in report.rows:
        assert row.error < (1e-13 if row.norm > 1e-14 else 1e-11), report


@both
@masks
@lengths
def test_attention_is_the_loop(forward, backward, T, S, causal, window, padded, rng):
    mask = make_mask(S, causal, window, padded)
    q, k, v, bias = make_inputs(rng, T, S, (1, "H", "T", "S"))
    y, cache = forward(q, k, v, mask, bias)
    expected, weights = oracle(q, k, v, mask, bias)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(cache.weights, weights, rtol=0, atol=1e-14)
    assert cache.weights.shape == (B, H, T, S)


@masks
@lengths
def test_reference_attention_is_the_loop(T, S, causal, window, padded, rng):
    mask = make_mask(S, causal, window, padded)
    q, k, v, bias = make_inputs(rng, T, S, (1, "H", "T", "S"))
    for given, scale in ((bias, None), (None, 0.3)):
        for mine, right in zip(reference_attention(q, k, v, mask, given, scale), oracle(q, k, v, mask, given, scale)):
            np.testing.assert_allclose(mine, right, rtol=0, atol=1e-14)


@both
@masks
@lengths
def test_attention_gradients_are_those_of_the_reference(forward, backward, T, S, causal, window, padded, rng):
    """The fast backward against the complex step of the form of every book."""
    mask = make_mask(S, causal, window, padded)

    def both_forms(*inputs):
        return reference_attention(*inputs[:3], mask, inputs[3])[0], forward(*inputs[:3], mask, inputs[3])[1]

    assert_right(check_op(both_forms, backward, make_inputs(rng, T, S, (1, "H", "T", "S"))))


@both
@masks
@lengths
def test_attention_gradients(forward, backward, T, S, causal, window, padded, rng):
    mask = make_mask(S, causal, window, padded)
    report = check_op(lambda *a: forward(*a[:3], mask, a[3]), backward, make_inputs(rng, T, S, (1, "H", "T", "S")))
    assert len(report.rows) == 4
    assert_right(report)


@both
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("bias_shape", BIAS_SHAPES, ids=str)
def test_attention_gradients_with_bias(forward, backward, bias_shape, causal, rng):
    inputs = make_inputs(rng, 5, 7, bias_shape)
    mask = make_mask(7, causal, padded=True)
    y, _ = forward(*inputs[:3], mask, inputs[3])
    np.testing.assert_allclose(y, oracle(*inputs[:3], mask, inputs[3])[0], rtol=0, atol=1e-14)
    report = check_op(lambda *a: forward(*a[:3], mask, a[3]), backward, inputs)
    assert len(report.rows) == 3 + (bias_shape is not None)
    assert_right(report)


@both
@pytest.mark.parametrize("bias_shape", [None, (1, "H", 1, "S"), ("B", "H", "T", "S")], ids=str)
@pytest.mark.parametrize("dropout", [0.2, 0.6])
def test_attention_gradients_with_dropout(forward, backward, dropout, bias_shape, rng):
    mask = make_mask(7, causal=True, padded=True)
    report = check_op(
        lambda *a: forward(*a[:3], mask, a[3], dropout=dropout, rng=np.random.default_rng(3)),
        backward,
        make_inputs(rng, 5, 7, bias_shape),
    )
    assert_right(report)


@both
def test_attention_dropout_drops_weights_and_scales_the_rest(forward, backward, rng):
    """With values that are the unit vectors, y is the weights after dropout."""
    q, k = rng.standard_normal((2, 1, 20, 50, 50))
    v = np.broadcast_to(np.eye(50), (1, 20, 50, 50))
    y, cache = forward(q, k, v, dropout=0.3, rng=np.random.default_rng(0))
    kept = y != 0
    assert kept.mean() == pytest.approx(0.7, abs=0.01)
    np.testing.assert_allclose(y[kept], cache.weights[kept] / 0.7, rtol=1e-12)
    assert not np.array_equal(kept[0, 0, 0], kept[0, 0, 3])  # another block, another mask
    assert (forward(q, k, v, dropout=0.3, rng=None)[0] > 0).all()


@both
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_attention_scale(forward, backward, scale, rng):
    inputs = make_inputs(rng, 5, 7)
    np.testing.assert_allclose(
        forward(*inputs[:3], scale=scale)[0], oracle(*inputs[:3], scale=scale)[0], rtol=0, atol=1e-14
    )
    assert (
        check_op(lambda *a: forward(*a, scale=scale), lambda dy, c: backward(dy, c)[:3], inputs[:3]).max_error < 1e-13
    )


@masks
@lengths
@pytest.mark.parametrize("block", [1, 3, 4, 128])
def test_lean_attention_equals_plain(T, S, causal, window, padded, block, rng):
    mask = make_mask(S, causal, window, padded)
    q, k, v, bias = make_inputs(rng, T, S, ("B", 1, "T", "S"))
    (y, plain), (z, lean) = (
        attention_forward(q, k, v, mask, bias),
        lean_attention_forward(q, k, v, mask, bias, block=block),
    )
    np.testing.assert_allclose(z, y, rtol=0, atol=1e-13)
    np.testing.assert_allclose(lean.weights, plain.weights, rtol=0, atol=1e-13)
    dy = rng.standard_normal(y.shape)
    for a, b in zip(lean_attention_backward(dy, lean), attention_backward(dy, plain)):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)


def test_lean_attention_equals_plain_at_its_own_block_size(rng):
    T = QUERY_BLOCK + 9
    q, k, v, bias = make_inputs(rng, T, T + 2, (1, "H", "T", "S"))
    for mask in (Mask(), Mask(causal=True), Mask(causal=True, window=20), Mask(window=140)):
        (y, plain), (z, lean) = attention_forward(q, k, v, mask, bias), lean_attention_forward(q, k, v, mask, bias)
        np.testing.assert_allclose(z, y, rtol=0, atol=1e-13)
        dy = rng.standard_normal(y.shape)
        for a, b in zip(lean_attention_backward(dy, lean), attention_backward(dy, plain)):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)


@both
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_attention_query_that_sees_nothing_gives_zero(forward, backward, dtype, rng):
    """By padding (the whole second row of the batch), and by causality: 7 queries on 5 keys leave
    two queries before the first key.
    """
    T, S = 7, 5
    q, k, v = (x.astype(dtype) for x in make_inputs(rng, T, S)[:3])
    y, cache = forward(q, k, v, make_mask(S, causal=True, padded=True))
    blind = np.zeros((B, H, T), bool)
    blind[:, :, : T - S] = blind[1] = True
    dq, dk, dv, _ = backward(rng.standard_normal(y.shape).astype(dtype), cache)
    assert not y[blind].any() and y[~blind].all()
    assert not dq[blind].any() and not cache.weights[blind].any()
    assert not dk[1].any() and not dv[1].any()
    assert np.isfinite(dq).all() and np.isfinite(dk).all() and np.isfinite(dv).all()
    np.testing.assert_allclose(cache.weights.sum(-1)[~blind], 1, rtol=1e-6)


@both
def test_attention_hidden_keys_leave_no_trace(forward, backward, rng):
    """Whatever stands at a hidden key, y and the gradients keep their bits."""
    mask = make_mask(7, padded=True)
    q, k, v, _ = make_inputs(rng, 5, 7)
    dy = rng.standard_normal((B, H, 5, D))
    results = []
    for junk in (0.0, 1e3):
        k[0, :, -1] = v[0, :, -1] = k[1] = v[1] = junk
        y, cache = forward(q, k, v, mask)
        results.append((y, *backward(dy, cache)[:3]))
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)


@both
@pytest.mark.parametrize("value", [-np.inf, -1e9, np.finfo(np.float32).min])
def test_attention_bias_can_hide_keys(forward, backward, value, rng):
    """A bias of -inf or of a huge negative number hides keys like a mask, as other libraries do
    it.
    """
    q, k, v = (x.astype(np.float32) for x in make_inputs(rng, 5, 7)[:3])
    keys = np.arange(7) < np.array([4, 2])[:, None]
    bias = np.where(keys, 0, np.float32(value))[:, None, None, :].astype(np.float32)
    y, cache = forward(q, k, v, bias=bias)
    expected, masked = forward(q, k, v, Mask(keys=keys))
    np.testing.assert_allclose(y, expected, atol=1e-6)
    for a, b in zip(backward(y, cache)[:3], backward(y, masked)[:3]):
        np.testing.assert_allclose(a, b, atol=1e-5)


@both
def test_attention_huge_scores_are_finite(forward, backward, rng):
    q, k, v = (x.astype(np.float32) for x in make_inputs(rng, 5, 7)[:3])
    y, cache = forward(1e4 * q, 1e4 * k, v)
    assert np.isfinite(y).all()
    assert all(np.isfinite(g).all() for g in backward(y, cache)[:3])
    np.testing.assert_allclose(cache.weights.max(-1), 1)
    for mine, theirs in zip((y, cache.weights), reference_attention(1e4 * q, 1e4 * k, v)):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)


@both
def test_attention_backward_writes_into_out(forward, backward, rng):
    """Into three views of one (B, T, 3, H, D) buffer, as the layer does."""
    q, k, v, bias = make_inputs(rng, 5, 5, (1, "H", "T", "S"))
    y, cache = forward(q, k, v, make_mask(5, causal=True), bias)
    dy = rng.standard_normal(y.shape)
    buffer = np.full((B, 5, 3, H, D), np.nan)
    out = tuple(buffer.transpose(2, 0, 3, 1, 4))
    results = backward(dy, cache, out=out)
    for result, view, expected in zip(results, out, backward(dy, cache)):
        assert result is view
        np.testing.assert_allclose(view, expected, rtol=1e-13, atol=1e-14)
    np.testing.assert_array_equal(results[3], backward(dy, cache)[3])
    assert np.isfinite(buffer).all()


@both
def test_attention_output_merges_heads_without_a_copy(forward, backward, rng):
    y, _ = forward(*make_inputs(rng, 5, 7)[:3])
    assert y.shape == (B, H, 5, D)
    assert np.shares_memory(y.swapaxes(1, 2).reshape(B, 5, H * D), y)


@both
def test_attention_without_dropout_draws_nothing(forward, backward, rng):
    inputs = make_inputs(rng, 5, 7)[:3]
    state = rng.bit_generator.state
    forward(*inputs, dropout=0.0, rng=rng)
    assert rng.bit_generator.state == state
    dropout_forward(inputs[0], 0.5, rng)
    assert rng.bit_generator.state != state


def peak_memory(forward, backward, T, mask):
    """Bytes at the peak of one forward and backward at T queries and keys."""
    q, k, v, dy = np.random.default_rng(0).standard_normal((4, 1, 2, T, 8), dtype=np.float32)
    tracemalloc.start()
    try:
        _, cache = forward(q, k, v, mask)
        backward(dy, cache)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("mask", [Mask(), Mask(causal=True)])
def test_lean_attention_memory_grows_with_length_not_its_square(mask):
    forward, backward = partial(lean_attention_forward, block=32), lean_attention_backward
    lean = peak_memory(forward, backward, 1024, mask) / peak_memory(forward, backward, 256, mask)
    plain = peak_memory(*PLAIN, 1024, mask) / peak_memory(*PLAIN, 256, mask)
    assert lean < 5 and plain > 12  # four times the length


def test_lean_attention_skips_blocks_that_the_mask_hides():
    blocks = list(visible_blocks(9, 9, Mask(causal=True, window=2), 3))
    assert [(q.start, q.stop) for q, _ in blocks] == [(0, 3), (3, 6), (6, 9)]
    assert [(k.start, k.stop) for _, k in blocks] == [(0, 3), (2, 6), (5, 9)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("bias_shape", [None, ("1", "H", "1", "S"), ("B", "1", "1", "1")])
@masks
def test_newest_attention_is_attention_of_one_query(causal, window, padded, bias_shape, dtype, rng):
    S = 6
    shape = bias_shape and [{"B": B, "H": H, "S": S}.get(n, 1) for n in bias_shape]
    q, k, v, bias = (None if x is None else x.astype(dtype) for x in make_inputs(rng, 1, S, shape))
    mask, scores = make_mask(S, causal, window, padded), np.empty((B, H, 1, S), dtype)
    y, cache = newest_attention(q, k, v, scores, mask, bias, scale=0.7)
    expected, whole = attention_forward(q, k, v, mask, bias, scale=0.7)
    limit = 1e-5 if dtype == np.float32 else 1e-13
    assert y.dtype == dtype and cache.weights is scores
    np.testing.assert_allclose(y, expected, rtol=limit, atol=limit)
    np.testing.assert_allclose(cache.weights, whole.weights, rtol=limit, atol=limit)


def test_newest_attention_of_large_scores(rng):
    q, k, v, _ = make_inputs(rng, 1, 6, None)
    y, _ = newest_attention(1e4 * q, k, v, np.empty((B, H, 1, 6)))
    np.testing.assert_allclose(y, attention_forward(1e4 * q, k, v)[0], rtol=1e-13)


@pytest.mark.parametrize(
    ("T", "dropout_seed", "decoding", "kind"),
    [
        (LEAN_FROM - 1, None, False, AttentionCache),
        (LEAN_FROM, None, False, LeanAttentionCache),
        (1, None, False, AttentionCache),
        (1, None, True, NewestAttentionCache),
        (1, 0, True, AttentionCache),
        (2, None, True, AttentionCache),
        (LEAN_FROM, None, True, LeanAttentionCache),
    ],
)
def test_attend_takes_the_form_for_the_number_of_queries(T, dropout_seed, decoding, kind, rng):
    """Keys number more in all cases, and do not count."""
    q, k, v, _ = make_inputs(rng, T, LEAN_FROM + 5)
    scores = np.empty((B, H, 1, LEAN_FROM + 5)) if decoding else None
    generator = None if dropout_seed is None else np.random.default_rng(dropout_seed)
    y, cache = attend(q, k, v, scale=0.7, rng=generator, newest_scores=scores)
    assert type(cache) is kind
    np.testing.assert_allclose(y, reference_attention(q, k, v, scale=0.7)[0], rtol=0, atol=1e-13)


@pytest.mark.parametrize("lean_from", [1, 6])
def test_attend_hands_on_all_that_it_is_given(lean_from, rng):
    """Mask, bias, scale, dropout, generator and block, and out on the way back: the form itself
    says the same, to the bit.
    """
    q, k, v, bias = make_inputs(rng, 5, 5, (1, "H", "T", "S"))
    mask, scale, dropout = make_mask(5, causal=True, window=3), 0.7, 0.4
    form, back = LEAN if lean_from == 1 else PLAIN
    y, cache = attend(
        q,
        k,
        v,
        mask=mask,
        bias=bias,
        scale=scale,
        dropout=dropout,
        rng=np.random.default_rng(3),
        lean_from=lean_from,
        block=3,
    )
    right, right_cache = form(q, k, v, mask, bias, scale, dropout, np.random.default_rng(3))
    np.testing.assert_array_equal(y, right)
    dy, out = rng.standard_normal(y.shape), tuple(np.empty((3, B, H, 5, D)))
    grads = attend_backward(dy, cache, out)
    assert all(mine is given for mine, given in zip(grads, out))
    for mine, theirs in zip(grads, back(dy, right_cache)):
        np.testing.assert_array_equal(mine, theirs)
    assert attend_backward(dy, cache)[0] is not grads[0]


def test_attend_backward_refuses_a_cache_of_newest_attention(rng):
    q, k, v, _ = make_inputs(rng, 1, 6)
    y, cache = attend(q, k, v, newest_scores=np.empty((B, H, 1, 6)))
    with pytest.raises(
        TypeError, match=r"no backward follows from a NewestAttentionCache: newest attention's weights .* written over"
    ):
        attend_backward(y, cache)


@pytest.mark.parametrize("forward", [attention_forward, lean_attention_forward])
def test_attention_given_only_a_generator_drops_nothing(forward, rng):
    q, k, v = rng.standard_normal((3, 2, 3, 5, 4))
    np.testing.assert_array_equal(forward(q, k, v, rng=rng)[0], forward(q, k, v)[0])


def test_lean_attention_draws_its_seed_from_a_wide_range(rng):
    """A narrow range would give the same dropout again after a few steps."""
    q, k, v = rng.standard_normal((3, 2, 3, 5, 4))
    seeds = {lean_attention_forward(q, k, v, dropout=0.5, rng=rng)[1].seed for _ in range(8)}
    assert len(seeds) == 8 and max(seeds) > 2**59


@pytest.mark.parametrize("bias_shape", [(1, 1, "T", 1), (1, 1, 1, "T"), (1, 1, "T", "T"), (1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("T", [2, 5])
def test_lean_attention_takes_the_block_of_its_bias(T, bias_shape, rng):
    """Where a window makes the first key of a block another than 0, and where there are just two
    queries or keys.
    """
    q, k, v = rng.standard_normal((3, 2, 3, T, 4))
    bias, mask = (
        rng.standard_normal([T if n == "T" else n for n in bias_shape]),
        Mask(causal=True, window=2 if T > 2 else 1),
    )
    (y, plain), (z, lean) = attention_forward(q, k, v, mask, bias), lean_attention_forward(q, k, v, mask, bias, block=1)
    np.testing.assert_allclose(z, y, rtol=0, atol=1e-14)
    dy = rng.standard_normal(y.shape)
    for a, b in zip(lean_attention_backward(dy, lean), attention_backward(dy, plain)):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)
