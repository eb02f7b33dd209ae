"""Properties of layers that benchmarks/mutation_score.py found no other test to hold: defaults, what Parameters say, adding into a full store."""

import numpy as np
import pytest
from layer_gradients import random_store

from minigpt.layers import MLP, Attention, Embedding, LearnedPositions, Linear, Store, TiedHead
from minigpt.ops.lean_attention import LeanAttentionCache

B, T, C, H, M, V = 2, 3, 6, 3, 8, 11


def named(layer):
    return {p.name: p for p in layer.parameters()}


@pytest.mark.parametrize("repeats", [1, 2])
def test_tied_head_adds_to_what_the_store_holds(repeats, rng):
    """Also where the head's backward is not the first to write: after another micro-batch, say."""
    table = Embedding("wte", V, C)
    head, p = TiedHead(table), random_store(table, rng)
    g, alone = random_store(table, rng), p.zeros_like()
    before = g.vector.copy()
    y, cache = head.forward(p, rng.standard_normal((B, T, C)))
    dy = rng.standard_normal(y.shape)
    head.backward(alone, dy, cache)
    for _ in range(repeats):
        head.backward(g, dy, cache)
    np.testing.assert_allclose(g.vector, before + repeats * alone.vector, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("memory_channels", [None, M])
def test_attention_parameters_say_their_spread_and_matrices(memory_channels):
    layer = Attention("f", C, H, memory_channels=memory_channels, std=0.3, residual_std=0.1, bias=False)
    parameters = named(layer)
    parts = {"f.c_attn.weight": (0.3, 3), "f.c_proj.weight": (0.1, 1)}
    if memory_channels:
        parts = {"f.q_attn.weight": (0.3, 1), "f.c_attn.weight": (0.3, 2), "f.c_proj.weight": (0.1, 1)}
    assert {name: (p.std, p.matrices) for name, p in parameters.items()} == parts


@pytest.mark.parametrize("memory_channels", [None, M])
def test_attention_defaults(memory_channels, rng):
    layer = Attention("f", C, H, memory_channels=memory_channels)
    assert not layer.causal and layer.window is None and layer.scale is None and layer.dropout == 0.0
    assert {p.std for name, p in named(layer).items() if name.endswith("weight")} == {0.02}
    assert {p.std for name, p in named(layer).items() if name.endswith("bias")} == {0.0}


def test_mlp_parameters_say_their_spread_and_matrices():
    parameters = named(MLP("f", C, 7))
    assert {name: (p.std, p.matrices) for name, p in parameters.items() if name.endswith("weight")} == {
        "f.c_fc.weight": (0.02, 1),
        "f.c_proj.weight": (0.02, 1),
    }
    assert MLP("f", C, 7).dropout == 0.0
    assert list(named(MLP("f", C, 7, bias=False, std=0.3))) == ["f.c_fc.weight", "f.c_proj.weight"]
    assert [p.std for p in MLP("f", C, 7, bias=False, std=0.3, residual_std=0.1).parameters()] == [0.3, 0.1]


@pytest.mark.parametrize("table", [Embedding, LearnedPositions])
def test_tables_are_no_hidden_matrices(table):
    (weight,) = table("f", V, C).parameters()
    assert (weight.shape, weight.std, weight.mean, weight.matrices) == ((V, C), 0.02, 0.0, 0)


def test_linear_parameters_say_their_spread_and_matrices():
    weight, bias = Linear("f", C, V).parameters()
    assert (weight.std, weight.mean, weight.matrices) == (0.02, 0.0, 1)
    assert (bias.std, bias.mean, bias.matrices) == (0.0, 0.0, 0)


def test_store_holds_float32_unless_told():
    assert Store({"a": (2, 3)}).vector.dtype == np.float32


@pytest.mark.parametrize("length", [4, 5])
def test_attention_turns_lean_by_its_length_alone(length, rng, take_lean):
    """Channels number more than five in both cases; keys of a cache do not count either."""
    take_lean(5)
    layer = Attention("f", C, H)
    _, cache = layer.forward(random_store(layer, rng), rng.standard_normal((B, length, C)))
    assert (type(cache.attention) is LeanAttentionCache) == (length >= 5)
