import numpy as np
import pytest

from minigpt.gradcheck import check_op
from minigpt.ops import dropout_backward, dropout_forward


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_rate_and_scale(p):
    n = 200_000
    y, _ = dropout_forward(np.ones(n), p, np.random.default_rng(0))
    kept = y != 0
    np.testing.assert_allclose(y[kept], 1 / (1 - p), rtol=1e-15)
    assert abs(kept.mean() - (1 - p)) < 5 * np.sqrt(p * (1 - p) / n)
    assert abs(y.mean() - 1) < 5 * np.sqrt(p / (1 - p) / n)


def test_dropout_gradients(rng):
    x = rng.standard_normal((3, 5))
    assert (
        check_op(lambda x: dropout_forward(x, 0.4, np.random.default_rng(1)), dropout_backward, (x,)).max_error < 1e-13
    )


@pytest.mark.parametrize("dtype", [np.float32, np.complex128])
def test_dropout_mask_is_the_same_in_every_dtype(dtype):
    y, _ = dropout_forward(np.ones((30, 7)), 0.3, np.random.default_rng(5))
    z, _ = dropout_forward(np.ones((30, 7), dtype), 0.3, np.random.default_rng(5))
    assert z.dtype == dtype
    np.testing.assert_array_equal(z != 0, y != 0)


@pytest.mark.parametrize(("p", "with_rng"), [(0.0, True), (0.0, False), (0.7, False)])
def test_dropout_off_is_the_identity(p, with_rng, rng):
    x = rng.standard_normal((3, 5))
    state = rng.bit_generator.state
    y, cache = dropout_forward(x, p, rng if with_rng else None)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(dropout_backward(x, cache), x)
    assert rng.bit_generator.state == state  # nothing drawn


def test_dropout_masks_differ_from_call_to_call(rng):
    x = np.ones(100)
    assert (dropout_forward(x, 0.5, rng)[0] != dropout_forward(x, 0.5, rng)[0]).any()


class Draws:
    """A generator that draws what it is told."""

    def __init__(self, values):
        self.values = np.array(values, np.float32)

    def random(self, shape, dtype):
        return self.values.reshape(shape).astype(dtype)


def test_dropout_keeps_a_draw_equal_to_p():
    """Draws are of [0, 1): those below p are the share p, and p itself is the first to stay."""
    y, _ = dropout_forward(np.ones(4), 0.25, Draws([0.0, 0.2499, 0.25, 0.99]))
    np.testing.assert_array_equal(y, [0, 0, 4 / 3, 4 / 3])
