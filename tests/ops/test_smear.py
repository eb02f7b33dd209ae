import numpy as np
import pytest

from minigpt.gradcheck import check_op
from minigpt.ops import smear_backward, smear_forward

VISIBLE = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 0, 1]], bool)


@pytest.mark.parametrize("visible", [None, VISIBLE])
def test_smear_values(visible, rng):
    x, weight = rng.standard_normal((2, 5, 3)), rng.standard_normal(3)
    y, _ = smear_forward(x, weight, visible)
    for b in range(2):
        for t in range(5):
            taken = t > 0 and (visible is None or visible[b, t - 1])
            np.testing.assert_allclose(y[b, t], x[b, t] + weight * x[b, t - 1] if taken else x[b, t], rtol=1e-15)


@pytest.mark.parametrize("visible", [None, VISIBLE])
def test_smear_gradients(visible, rng):
    x, weight = rng.standard_normal((2, 5, 3)), rng.standard_normal(3)
    assert check_op(lambda x, weight: smear_forward(x, weight, visible), smear_backward, (x, weight)).max_error < 1e-13


@pytest.mark.parametrize("visible", [None, VISIBLE])
@pytest.mark.parametrize("cut", [1, 2, 4])
def test_smear_in_parts_is_that_of_the_whole(visible, cut, rng):
    """Where the second part is told what stood before it, as in decoding; nothing of padding."""
    x, weight = rng.standard_normal((2, 5, 3)), rng.standard_normal(3)
    whole, _ = smear_forward(x, weight, visible)
    previous = x[:, cut - 1 : cut]
    if visible is not None:
        previous = previous * visible[:, cut - 1 : cut, None]
    part, _ = smear_forward(x[:, cut:], weight, None if visible is None else visible[:, cut:], previous)
    np.testing.assert_array_equal(part, whole[:, cut:])


def test_smear_of_one_token_is_that_token(rng):
    x, weight = rng.standard_normal((2, 1, 3)), rng.standard_normal(3)
    y, cache = smear_forward(x, weight)
    dx, dweight = smear_backward(y, cache)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(dx, y)
    np.testing.assert_array_equal(dweight, 0)
