import math

import numpy as np
import pytest

from minigpt.gradcheck import check_op
from minigpt.ops import ACTIVATIONS, tanh_backward, tanh_forward

EXACT = {
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "relu": lambda x: max(x, 0.0),
    "silu": lambda x: x / (1 + math.exp(-x)),
}
BORDER = math.sqrt(2) * np.array([0.46875, 4, 6])  # of erf's pieces, seen from gelu
X = np.concatenate([[0.0, 1e-9, 1e-3, 30, 80], BORDER - 1e-9, BORDER + 1e-9, np.linspace(0.1, 12, 97)])
X = np.concatenate([-X, X])


@pytest.fixture(params=ACTIVATIONS)
def name(request):
    return request.param


@pytest.mark.parametrize(("dtype", "accuracy"), [(np.float64, 1e-15), (np.float32, 1e-6)])
def test_activation_values(name, dtype, accuracy):
    y, _ = ACTIVATIONS[name][0](X.astype(dtype))
    expected = np.array([EXACT[name](v) for v in X])
    assert np.abs(y - expected).max() <= accuracy * np.abs(X).max()


@pytest.mark.parametrize("scale", [1e-8, 1e-2, 1.0, 4.0, 40.0])
def test_activation_gradients(name, scale, rng):
    x = scale * rng.standard_normal((3, 5))
    assert check_op(*ACTIVATIONS[name], (x,)).max_error < 1e-13


def test_activation_gradients_at_chosen_points(name):
    x = X[X != 0] if name == "relu" else X  # relu has no derivative at 0
    assert check_op(*ACTIVATIONS[name], (x[:60],)).max_error < 1e-13
    assert check_op(*ACTIVATIONS[name], (x[60:],)).max_error < 1e-13


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activation_of_large_numbers_is_finite(name, dtype):
    x = np.array([-1e4, -100, 100, 1e4], dtype)
    y, cache = ACTIVATIONS[name][0](x)
    np.testing.assert_array_equal(y, [0, 0, 100, 1e4])
    np.testing.assert_array_equal(ACTIVATIONS[name][1](np.ones_like(x), cache), [0, 0, 1, 1])


@pytest.mark.parametrize(("name", "slope"), [("gelu", 0.5), ("gelu_tanh", 0.5), ("silu", 0.5), ("relu", 0.0)])
def test_activation_slope_at_zero(name, slope):
    forward, backward = ACTIVATIONS[name]
    assert backward(np.ones(1), forward(np.zeros(1))[1]) == slope


def test_gelu_tanh_is_near_gelu():
    assert np.abs(ACTIVATIONS["gelu_tanh"][0](X)[0] - ACTIVATIONS["gelu"][0](X)[0]).max() < 5e-4


@pytest.mark.parametrize("scale", [1e-8, 1.0, 4.0])
def test_tanh_gradients_and_values(scale, rng):
    x = scale * rng.standard_normal((3, 5))
    assert check_op(tanh_forward, tanh_backward, (x,)).max_error < 1e-13
    np.testing.assert_array_equal(tanh_forward(x)[0], np.tanh(x))


def test_tanh_of_large_numbers_is_flat():
    y, cache = tanh_forward(np.array([-1e4, 0, 1e4], np.float32))
    np.testing.assert_array_equal(y, [-1, 0, 1])
    np.testing.assert_array_equal(tanh_backward(np.ones(3, np.float32), cache), [0, 1, 0])
