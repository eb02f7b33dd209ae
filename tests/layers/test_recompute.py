import numpy as np
import pytest
from layer_gradients import random_store

from minigpt.layers import (
    MLP,
    Attention,
    RecomputedCache,
    Shared,
    SharedGradients,
    Smear,
    recomputed_backward,
    recomputed_forward,
)

B, T, C = 2, 5, 6
LAYERS = {"mlp": MLP("f", C, 7, dropout=0.4), "attention": Attention("f", C, 3, causal=True, dropout=0.4)}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("repeats", [1, 2])
def test_recomputed_layer_gives_the_same_bits(layer, repeats, rng):
    """Dropout and further arguments included,
    and where the gradient's store already holds something.
    """
    p, x, dy = random_store(layer, rng), rng.standard_normal((B, T, C)), rng.standard_normal((B, T, C))
    shared = Shared(bias=rng.standard_normal((1, 3, T, T)))
    arguments = {"shared": shared} if isinstance(layer, Attention) else {}
    dshared, dshared_again = ([SharedGradients.zeros_like(shared)] if arguments else [] for _ in range(2))
    draws, draws_again = np.random.default_rng(3), np.random.default_rng(3)
    y, cache = layer.forward(p, x, draws, **arguments)
    again, small = recomputed_forward(layer, p, x, draws_again, **arguments)
    np.testing.assert_array_equal(again, y)
    assert isinstance(small, RecomputedCache) and small.x is x and small.p is p and small.arguments == arguments
    assert draws.random() == draws_again.random()
    g, g_again = random_store(layer, np.random.default_rng(4)), random_store(layer, np.random.default_rng(4))
    for _ in range(repeats):
        np.testing.assert_array_equal(
            recomputed_backward(layer, g_again, dy, small, *dshared_again), layer.backward(g, dy, cache, *dshared)
        )
    np.testing.assert_array_equal(g_again.vector, g.vector)
    for one, other in zip(dshared, dshared_again):
        np.testing.assert_array_equal(other.bias, one.bias)


def test_smear_adds_to_what_the_store_holds(rng):
    layer = Smear("f", C)
    p, g = random_store(layer, rng), random_store(layer, rng)
    alone, before = p.zeros_like(), g.vector.copy()
    y, cache = layer.forward(p, rng.standard_normal((B, T, C)))
    for store in (alone, g, g):
        layer.backward(store, y, cache)
    np.testing.assert_allclose(g.vector, before + 2 * alone.vector, rtol=1e-13)
