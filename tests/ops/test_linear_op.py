import numpy as np
import pytest

from minigpt.gradcheck import check_op
from minigpt.ops import linear_backward, linear_forward
from minigpt.ops.reductions import column_sum, row_mean


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("leading", [(), (2,), (2, 3), (2, 1, 3)])
def test_linear_gradients(leading, bias, rng):
    x, weight, b = rng.standard_normal((*leading, 5)), rng.standard_normal((5, 7)), rng.standard_normal(7)
    report = check_op(linear_forward, linear_backward, (x, weight, b if bias else None))
    assert len(report.rows) == 2 + bias
    assert report.max_error < 1e-13


@pytest.mark.parametrize("leading", [(), (2,), (2, 3), (2, 1, 3)])
def test_linear_values(leading, rng):
    x, weight, bias = rng.standard_normal((*leading, 5)), rng.standard_normal((5, 7)), rng.standard_normal(7)
    y, _ = linear_forward(x, weight, bias)
    np.testing.assert_allclose(y, np.einsum("...i,io->...o", x, weight) + bias, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(linear_forward(x, weight)[0], y - bias, rtol=1e-12, atol=1e-14)


def test_linear_without_bias_has_no_bias_gradient(rng):
    y, cache = linear_forward(rng.standard_normal((2, 5)), rng.standard_normal((5, 7)))
    assert linear_backward(y, cache)[2] is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_reductions_are_numpys(rng, dtype):
    x = rng.standard_normal((2, 3, 5)).astype(dtype)
    np.testing.assert_allclose(row_mean(x), x.mean(axis=-1, keepdims=True), rtol=1e-5 if dtype == np.float32 else 1e-13)
    np.testing.assert_allclose(column_sum(x), x.sum(axis=(0, 1)), rtol=1e-5 if dtype == np.float32 else 1e-13)
    assert row_mean(x).dtype == column_sum(x).dtype == dtype
