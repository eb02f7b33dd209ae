import math

import numpy as np
import pytest

from minigpt.ops.erf import BLOCK, erf, normal_cdf

BORDERS = [0.0, 0.46875, 5.49 * math.sqrt(0.5), 4.0, 6.0]  # where erf changes from one rational piece to the next


@pytest.fixture
def x():
    """A dense grid, the borders of the pieces and their neighbours, tiny and huge numbers; both
    signs.
    """
    border = np.array(BORDERS)
    near = np.concatenate(
        [
            np.nextafter(border, -np.inf),
            border,
            np.nextafter(border, np.inf),
            [5e-324, 1e-300, 1e-8, 27.0, 1e6, 1e300, np.inf],
        ]
    )
    x = np.concatenate([np.linspace(0, 7, 20011), abs(near)])
    return np.concatenate([-x, x])


def exact(x):
    return np.array([math.erf(v) for v in x.ravel().tolist()]).reshape(x.shape)


@pytest.mark.parametrize(("dtype", "accuracy"), [(np.float64, 3e-16), (np.float32, 4e-7)])
def test_erf_accuracy(x, dtype, accuracy):
    with np.errstate(over="ignore"):  # 1e300 is inf in float32
        x = x.astype(dtype)
    y = erf(x)
    assert y.dtype == dtype
    assert np.abs(y - exact(x)).max() <= accuracy
    assert (np.abs(y[np.abs(x) >= 6]) == 1).all()


def test_erf_relative_accuracy_near_zero():
    x = np.geomspace(1e-30, 0.5, 997)
    np.testing.assert_allclose(erf(x), exact(x), rtol=5e-16)
    np.testing.assert_allclose(erf(x.astype(np.float32)), exact(x), rtol=5e-7)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_erf_is_odd(x, dtype):
    x = np.clip(x, -100, 100).astype(dtype)
    np.testing.assert_array_equal(erf(-x), -erf(x))


def test_erf_derivative_by_complex_step(x):
    x = x[np.abs(x) < 20]
    slope = erf(x + 1e-30j).imag / 1e-30
    assert np.abs(slope - 2 / math.sqrt(math.pi) * np.exp(-x * x)).max() < 1e-15


def test_erf_complex_has_the_value_of_real(x):
    x = x[np.isfinite(x)]
    y = erf(x.astype(complex))
    np.testing.assert_allclose(y.real, erf(x), rtol=0, atol=3e-16)
    assert not y.imag.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_erf_keeps_nan_and_shape(dtype):
    x = np.array([[np.nan, np.inf, -np.inf], [0, 1, -1]], dtype)
    np.testing.assert_allclose(erf(x), exact(x), atol=4e-7)
    assert erf(dtype(0.3)) == pytest.approx(math.erf(0.3), abs=4e-7)
    assert erf(np.zeros((0, 3), dtype)).shape == (0, 3)


def test_erf_leaves_its_argument_alone(x):
    before = x.copy()
    erf(x)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(("dtype", "accuracy"), [(np.float64, 2e-16), (np.float32, 2e-7)])
def test_normal_cdf_of_more_than_a_block(dtype, accuracy):
    x = np.linspace(-7, 7, 2 * (BLOCK + 57)).astype(dtype).reshape(2, -1).T  # two blocks and a part; not contiguous
    y = normal_cdf(x)
    assert y.dtype == dtype
    assert np.abs(y - (1 + exact(x * math.sqrt(0.5))) / 2).max() <= accuracy
    np.testing.assert_array_equal(y[::5003], normal_cdf(x[::5003]))
    assert normal_cdf(dtype(-7)) <= 1e-11
