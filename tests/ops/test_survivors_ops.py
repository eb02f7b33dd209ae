"""Properties of ops that benchmarks/mutation_score.py found no other test to hold."""

import numpy as np
import pytest

from minigpt import ops
from minigpt.ops.attention import position_penalty
from minigpt.ops.reductions import averaging


@pytest.mark.parametrize(("forward", "eps"), [(ops.layernorm_forward, 1e-5), (ops.rmsnorm_forward, 1e-6)])
def test_norm_ops_default_eps(forward, eps, rng):
    """On rows so small that eps is what counts: the documented value, T5's and GPT-2's."""
    x, one = 1e-3 * rng.standard_normal((4, 7)), np.ones(7)
    np.testing.assert_array_equal(forward(x, one)[0], forward(x, one, eps=eps)[0])


@pytest.mark.parametrize("forward", [ops.attention_forward, ops.lean_attention_forward])
def test_attention_given_only_a_generator_drops_nothing(forward, rng):
    q, k, v = rng.standard_normal((3, 2, 3, 5, 4))
    np.testing.assert_array_equal(forward(q, k, v, rng=rng)[0], forward(q, k, v)[0])


class Draws:
    """A generator that draws what it is told."""

    def __init__(self, values):
        self.values = np.array(values, np.float32)

    def random(self, shape, dtype):
        return self.values.reshape(shape).astype(dtype)


def test_dropout_keeps_a_draw_equal_to_p():
    """Draws are of [0, 1): those below p are the share p, and p itself is the first to stay."""
    y, _ = ops.dropout_forward(np.ones(4), 0.25, Draws([0.0, 0.2499, 0.25, 0.99]))
    np.testing.assert_array_equal(y, [0, 0, 4 / 3, 4 / 3])


def test_lean_attention_draws_its_seed_from_a_wide_range(rng):
    """A narrow range would give the same dropout again after a few steps."""
    q, k, v = rng.standard_normal((3, 2, 3, 5, 4))
    seeds = {ops.lean_attention_forward(q, k, v, dropout=0.5, rng=rng)[1].seed for _ in range(8)}
    assert len(seeds) == 8 and max(seeds) > 2**59


def test_sinusoidal_positions_stand_side_by_side_unless_told():
    np.testing.assert_array_equal(ops.sinusoidal_positions(5, 6), ops.sinusoidal_positions(5, 6, interleaved=False))


@pytest.mark.parametrize("bias_shape", [(1, 1, "T", 1), (1, 1, 1, "T"), (1, 1, "T", "T"), (1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("T", [2, 5])
def test_lean_attention_takes_the_block_of_its_bias(T, bias_shape, rng):
    """Where a window makes the first key of a block another than 0, and where there are just two queries or keys."""
    q, k, v = rng.standard_normal((3, 2, 3, T, 4))
    bias, mask = rng.standard_normal([T if n == "T" else n for n in bias_shape]), ops.Mask(causal=True, window=2 if T > 2 else 1)
    (y, plain), (z, lean) = ops.attention_forward(q, k, v, mask, bias), ops.lean_attention_forward(q, k, v, mask, bias, block=1)
    np.testing.assert_allclose(z, y, rtol=0, atol=1e-14)
    dy = rng.standard_normal(y.shape)
    for a, b in zip(ops.lean_attention_backward(dy, lean), ops.attention_backward(dy, plain)):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)


def test_arrays_that_ops_keep_cannot_be_written_to():
    """They are handed out again."""
    for kept in (averaging(3, np.dtype(np.float32)), position_penalty(0, 4, 4, True, None, np.dtype(np.float32)), *ops.rotary_table(4, 2)):
        with pytest.raises(ValueError, match="read-only"):
            kept[0] = 1
