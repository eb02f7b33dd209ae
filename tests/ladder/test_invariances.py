"""Rung: invariances, which need no oracle; they see what is wrong in forward and backward together.
Below: the gradient checks of tests/models.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_gpt import small_gpt

from minigpt.ops import (
    IGNORED,
    attention_forward,
    count_targets,
    dropout_forward,
    lean_attention_forward,
    softmax_forward,
)

V, T, B = 11, 7, 3
QUICK = settings(derandomize=True, deadline=None, max_examples=20)
SEEDS = st.integers(0, 2**32 - 1)


def make(seed=0, **changes):
    """A GPT with weights of scale one and a batch for it."""
    rng = np.random.default_rng(seed)
    model = small_gpt(rng, std=0.7, **{"n_head": 2, "n_embd": 6} | changes)
    ids, targets = rng.integers(0, V, (2, B, T))
    targets[rng.random((B, T)) < 0.3] = IGNORED
    targets[0, 0] = 1
    return model, ids, targets, rng


def close(a, b, limit=1e-11):
    """Equal to rounding, relative to the largest entry."""
    assert np.abs(a - b).max() <= limit * max(np.abs(a).max(), 1e-30)


@pytest.fixture(params=["plain", "lean"])
def form(request, take_lean):
    """Both forms of attention inside the model."""
    if request.param == "lean":
        take_lean(1, 3)


@pytest.mark.usefixtures("form")
def test_causality_is_exact():
    @QUICK
    @given(SEEDS, st.integers(1, T - 1))
    def check(seed, t):
        model, ids, _, rng = make(seed)
        other = ids.copy()
        other[:, t:] = rng.integers(0, V, (B, T - t))
        np.testing.assert_array_equal(model.logits(ids)[:, :t], model.logits(other)[:, :t])

    check()


@QUICK
@given(SEEDS)
def test_two_runs_are_bit_equal(seed):
    model, ids, targets, _ = make(seed, dropout=0.3)
    (a, grads_a), (b, grads_b) = (model.loss_and_grads(ids, targets, np.random.default_rng(seed)) for _ in range(2))
    assert a == b
    for name in grads_a:
        np.testing.assert_array_equal(grads_a[name], grads_b[name])


@QUICK
@given(SEEDS, st.permutations(range(B)))
def test_order_of_the_batch_does_not_matter(seed, order):
    model, ids, targets, _ = make(seed)
    (a, grads_a), (b, grads_b) = model.loss_and_grads(ids, targets), model.loss_and_grads(ids[order], targets[order])
    close(a, b)
    for name in grads_a:
        close(grads_a[name], grads_b[name], 1e-10)


@QUICK
@given(SEEDS, st.integers(1, 2))
def test_padding_changes_nothing(seed, width):
    model, ids, _, rng = make(seed)
    logits, padding = model.logits(ids), rng.integers(0, V, (B, width))
    mask = np.ones((B, T + width), int)
    mask[:, T:] = 0
    close(logits, model.logits(np.concatenate([ids, padding], 1), attention_mask=mask)[:, :T])
    positions = np.maximum(np.arange(T + width) - width, 0)
    left = model.logits(np.concatenate([padding, ids], 1), attention_mask=mask[:, ::-1], position_ids=positions)
    close(logits, left[:, width:])


@QUICK
@given(SEEDS, st.integers(1, T))
def test_a_longer_text_leaves_its_prefix_as_it_was(seed, length):
    model, ids, _, _ = make(seed)
    close(model.logits(ids)[:, :length], model.logits(ids[:, :length]))


@QUICK
@given(SEEDS, st.integers(1, B - 1))
def test_shards_add_up_to_the_whole(seed, cut):
    model, ids, targets, _ = make(seed)
    targets[cut:, 1:] = IGNORED  # the shards then hold different numbers of targets that count, perhaps none
    counts = {"targets": count_targets(targets)}
    loss, grads = model.loss_and_grads(ids, targets)
    g = model.store.zeros_like()
    parts = [model.add_gradients(g, ids[s], targets[s], counts=counts) for s in (slice(0, cut), slice(cut, B))]
    close(loss, sum(parts))
    for name in grads:
        close(grads[name], g[name], 1e-10)


@QUICK
@given(SEEDS)
def test_what_is_not_seen_has_a_gradient_of_exactly_zero(seed):
    model, ids, targets, _ = make(seed, tie_embeddings=False)
    ids[ids == 4] = 5
    targets[:, -2:] = IGNORED  # so the last two positions reach no loss
    _, grads = model.loss_and_grads(ids, targets)
    assert not grads["wte.weight"][4].any()
    assert not grads["wpe.weight"][T - 2 :].any()
    targets[1] = IGNORED
    _, grads = model.loss_and_grads(ids, targets)
    rest = [0, 2]
    _, alone = model.loss_and_grads(ids[rest], targets[rest])
    for name in grads:
        close(grads[name], alone[name], 1e-10)


@QUICK
@given(SEEDS, st.floats(-50, 50))
def test_softmax_and_attention_are_blind_to_a_common_shift(seed, shift):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((4, 5))
    close(softmax_forward(x)[0], softmax_forward(x + shift)[0])
    q, k, v = rng.standard_normal((3, 2, 3, 5, 4))
    bias = rng.standard_normal((1, 3, 5, 5))
    for forward in (attention_forward, lean_attention_forward):
        close(forward(q, k, v, bias=bias)[0], forward(q, k, v, bias=bias + shift)[0])
        order = rng.permutation(3)
        close(forward(q[:, order], k[:, order], v[:, order])[0], forward(q, k, v)[0][:, order])
        close(forward(q, k[:, :, ::-1], v[:, :, ::-1])[0], forward(q, k, v)[0])  # without a mask keys have no order


@QUICK
@given(SEEDS, st.floats(0.05, 0.9))
def test_dropout_keeps_the_mean(seed, p):
    y, _ = dropout_forward(np.ones(40_000), p, np.random.default_rng(seed))
    assert abs(y.mean() - 1) < 6 * np.sqrt(p / (1 - p) / y.size)
    assert set(np.unique(y)) <= {0.0, 1 / (1 - p)}
