import numpy as np
import pytest

from minigpt.gradcheck import check_op
from minigpt.ops import layernorm_backward, layernorm_forward, rmsnorm_backward, rmsnorm_forward


@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_layernorm_gradients(leading, bias, eps, rng):
    x, weight, b = rng.standard_normal((*leading, 5)), rng.standard_normal(5), rng.standard_normal(5)
    report = check_op(lambda *a: layernorm_forward(*a, eps), layernorm_backward, (x, weight, b if bias else None))
    assert len(report.rows) == 2 + bias
    assert report.max_error < 1e-13


@pytest.mark.parametrize("eps", [0.0, 1e-6, 0.3])
@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_rmsnorm_gradients(leading, eps, rng):
    x, weight = rng.standard_normal((*leading, 5)), rng.standard_normal(5)
    assert check_op(lambda *a: rmsnorm_forward(*a, eps), rmsnorm_backward, (x, weight)).max_error < 1e-13


def test_layernorm_values(rng):
    x, weight, bias = rng.standard_normal((2, 3, 7)), rng.standard_normal(7), rng.standard_normal(7)
    y, _ = layernorm_forward(x, weight, bias, eps=0.1)
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 0.1) * weight + bias
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-14)


def test_rmsnorm_without_a_scale(rng):
    x = rng.standard_normal((2, 3, 4, 6))[:, :, 1:]  # not contiguous, as the heads of q and k
    assert check_op(rmsnorm_forward, rmsnorm_backward, (x, None)).max_error < 1e-13
    np.testing.assert_allclose(rmsnorm_forward(x)[0], rmsnorm_forward(x, np.ones(6))[0], rtol=1e-15)


def test_rmsnorm_values(rng):
    x, weight = rng.standard_normal((2, 3, 7)), rng.standard_normal(7)
    y, _ = rmsnorm_forward(x, weight, eps=0.1)
    np.testing.assert_allclose(y, x / np.sqrt((x * x).mean(-1, keepdims=True) + 0.1) * weight, rtol=1e-13)


def test_layernorm_is_blind_to_shift_and_scale(rng):
    x, one = rng.standard_normal((4, 7)), np.ones(7)
    y, _ = layernorm_forward(x, one, eps=0.0)
    np.testing.assert_allclose(layernorm_forward(3 * x + 5, one, eps=0.0)[0], y, rtol=1e-12, atol=1e-14)


def test_rmsnorm_is_blind_to_scale_but_not_to_shift(rng):
    x, one = rng.standard_normal((4, 7)), np.ones(7)
    y, _ = rmsnorm_forward(x, one, eps=0.0)
    np.testing.assert_allclose(rmsnorm_forward(3 * x, one, eps=0.0)[0], y, rtol=1e-13)
    assert np.abs(rmsnorm_forward(x + 1, one, eps=0.0)[0] - y).max() > 0.1


def test_layernorm_gradient_is_blind_to_shift_and_scale(rng):
    """What normalisation undoes has no gradient: dx is orthogonal to ones and to xhat."""
    x, weight = rng.standard_normal((4, 7)), rng.standard_normal(7)
    y, cache = layernorm_forward(x, weight, eps=0.0)
    dx, *_ = layernorm_backward(rng.standard_normal(y.shape), cache)
    assert np.abs(dx.sum(-1)).max() < 1e-14
    assert np.abs((dx * cache.xhat).sum(-1)).max() < 1e-14


def test_normalization_of_a_constant_row_is_finite():
    x, one = np.full((2, 7), 3.0, np.float32), np.ones(7, np.float32)
    for forward, backward in ((layernorm_forward, layernorm_backward), (rmsnorm_forward, rmsnorm_backward)):
        y, cache = forward(0 * x, one)
        np.testing.assert_array_equal(y, 0)
        assert all(np.isfinite(g).all() for g in backward(x, cache) if g is not None)
    assert np.abs(layernorm_forward(x, one)[0]).max() < 1e-3


@pytest.mark.parametrize(("forward", "eps"), [(layernorm_forward, 1e-5), (rmsnorm_forward, 1e-6)])
def test_norm_ops_default_eps(forward, eps, rng):
    """On rows so small that eps is what counts: the documented value, T5's and GPT-2's."""
    x, one = 1e-3 * rng.standard_normal((4, 7)), np.ones(7)
    np.testing.assert_array_equal(forward(x, one)[0], forward(x, one, eps=eps)[0])
