import math

import numpy as np
import pytest

from minigpt.gradcheck import check_op
from minigpt.ops import learned_positions_backward, learned_positions_forward, sinusoidal_positions

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
