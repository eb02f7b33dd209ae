import math

import numpy as np
import pytest

from minigpt.gradcheck import check_op
from minigpt.ops import (
    learned_positions_backward,
    learned_positions_forward,
    rotary_backward,
    rotary_forward,
    rotary_table,
    sinusoidal_positions,
)

B, T, C, P = 2, 3, 5, 7


@pytest.mark.parametrize("position_ids", [None, [4, 0, 4], [[4, 0, 4], [0, 0, 6]]])
def test_learned_positions_values_and_gradients(position_ids, rng):
    x, weight = rng.standard_normal((B, T, C)), rng.standard_normal((P, C))
    position_ids = None if position_ids is None else np.array(position_ids)
    y, _ = learned_positions_forward(x, weight, position_ids)
    at = np.broadcast_to(np.arange(T) if position_ids is None else position_ids, (B, T))
    np.testing.assert_array_equal(y, [[x[b, t] + weight[at[b, t]] for t in range(T)] for b in range(B)])
    assert check_op(learned_positions_forward, learned_positions_backward, (x, weight, position_ids)).max_error < 1e-13


def test_learned_positions_beyond_the_text_have_no_gradient(rng):
    y, cache = learned_positions_forward(rng.standard_normal((B, T, C)), rng.standard_normal((P, C)))
    _, dweight = learned_positions_backward(rng.standard_normal(y.shape), cache)
    assert not dweight[T:].any()
    assert dweight[:T].all()


@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize("channels", [2, 6, 8])
def test_sinusoidal_positions_values(channels, interleaved):
    table = sinusoidal_positions(11, channels, interleaved)
    for p in range(11):
        for i in range(channels // 2):
            angle = p / 10000 ** (2 * i / channels)
            sine, cosine = (2 * i, 2 * i + 1) if interleaved else (i, channels // 2 + i)
            assert table[p, sine] == pytest.approx(math.sin(angle), abs=1e-14)
            assert table[p, cosine] == pytest.approx(math.cos(angle), abs=1e-14)


def test_sinusoidal_positions_dtype_and_error():
    assert sinusoidal_positions(3, 4, dtype=np.float32).dtype == np.float32
    with pytest.raises(ValueError, match=r"channels is 5.*even"):
        sinusoidal_positions(3, 5)


H, D = 5, 4


@pytest.mark.parametrize("position_ids", [[4, 0, 6], [[4, 0, 6], [1, 1, 2]]])
def test_rotary_values_and_gradients(position_ids, rng):
    x, position_ids = rng.standard_normal((B, T, H, D)), np.array(position_ids)
    cos, sin = (table[position_ids] for table in rotary_table(P, D))
    y, _ = rotary_forward(x, cos, sin)
    at = np.broadcast_to(position_ids, (B, T))
    for b, t, h, i in np.ndindex(B, T, H, D // 2):  # a complex number turned by an angle
        turned = complex(x[b, t, h, i], x[b, t, h, i + D // 2]) * np.exp(1j * at[b, t] / 10000 ** (2 * i / D))
        assert y[b, t, h, i] == pytest.approx(turned.real, abs=1e-14)
        assert y[b, t, h, i + D // 2] == pytest.approx(turned.imag, abs=1e-14)
    assert check_op(lambda x: rotary_forward(x, cos, sin), rotary_backward, (x,)).max_error < 1e-13


def test_rotary_products_depend_on_the_distance_alone(rng):
    q, k = rng.standard_normal((2, 1, 1, 1, D))
    cos, sin = rotary_table(30, D)

    def product(at, other):
        return (rotary_forward(q, cos[[at]], sin[[at]])[0] * rotary_forward(k, cos[[other]], sin[[other]])[0]).sum()

    assert product(7, 3) == pytest.approx(product(29, 25), abs=1e-13)
    assert abs(product(7, 3) - product(7, 4)) > 1e-3


def test_rotary_backward_is_the_inverse(rng):
    x, (cos, sin) = rng.standard_normal((B, T, H, D)), rotary_table(T, D)
    y, cache = rotary_forward(x, cos, sin)
    np.testing.assert_allclose(rotary_backward(y, cache), x, rtol=0, atol=1e-15 * 10)


def test_rotary_table_is_read_only_and_even():
    cos, sin = rotary_table(3, 6, np.float32)
    assert cos.dtype == sin.dtype == np.float32 and cos.shape == (3, 6)
    with pytest.raises(ValueError, match="read-only"):
        cos[0] = 0
    with pytest.raises(ValueError, match=r"a head has 5 channels.*even"):
        rotary_table(3, 5)


def test_sinusoidal_positions_stand_side_by_side_unless_told():
    np.testing.assert_array_equal(sinusoidal_positions(5, 6), sinusoidal_positions(5, 6, interleaved=False))
