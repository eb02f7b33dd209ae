import numpy as np
import pytest

from minigpt.gradcheck import check_op
from minigpt.ops import softmax_backward, softmax_forward


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2])
def test_softmax_gradients(axis, rng):
    x = 2 * rng.standard_normal((2, 3, 5))
    assert check_op(lambda x: softmax_forward(x, axis), softmax_backward, (x,)).max_error < 1e-13


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_softmax_sums_to_one(axis, rng):
    x = rng.standard_normal((2, 3, 5))
    y, _ = softmax_forward(x, axis)
    np.testing.assert_allclose(y.sum(axis), 1, rtol=1e-14)
    np.testing.assert_allclose(y, np.exp(x) / np.exp(x).sum(axis, keepdims=True), rtol=1e-13)


def test_softmax_is_blind_to_shift_and_huge_scores(rng):
    x = rng.standard_normal((3, 5))
    for shift in (1e4, -1e4):
        np.testing.assert_allclose(softmax_forward(x + shift)[0], softmax_forward(x)[0], rtol=1e-11)
    np.testing.assert_array_equal(softmax_forward(np.array([1e38, -1e38, 0], np.float32))[0], [1, 0, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_softmax_of_a_row_of_minus_infinity_is_zero(dtype):
    x = np.array([[-np.inf] * 3, [0, -np.inf, 0]], dtype)
    y, cache = softmax_forward(x)
    np.testing.assert_array_equal(y, [[0, 0, 0], [0.5, 0, 0.5]])
    assert y.dtype == dtype
    dx = softmax_backward(np.ones_like(y) * [1, 2, 3], cache)
    np.testing.assert_array_equal(dx, [[0, 0, 0], [-0.5, 0, 0.5]])
