"""Properties of ops that benchmarks/mutation_score.py found no other test to hold."""

import numpy as np
import pytest

from minigpt import ops


@pytest.mark.parametrize(("forward", "eps"), [(ops.layernorm_forward, 1e-5), (ops.rmsnorm_forward, 1e-6)])
def test_norm_ops_default_eps(forward, eps, rng):
    """On rows so small that eps is what counts: the documented value, T5's and GPT-2's."""
    x, one = 1e-3 * rng.standard_normal((4, 7)), np.ones(7)
    np.testing.assert_array_equal(forward(x, one)[0], forward(x, one, eps=eps)[0])
