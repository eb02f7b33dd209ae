"""Properties of layers that benchmarks/mutation_score.py found no other test to hold: defaults, what Parameters say, adding into a full store."""

import numpy as np
import pytest
from layer_gradients import random_store

from minigpt.layers import MLP, Attention, Embedding, LearnedPositions, Linear, TiedHead
from minigpt.ops.lean_attention import LeanAttentionCache

B, T, C, H, V = 2, 3, 6, 3, 11


def named(layer):
    return {p.name: p for p in layer.parameters()}


@pytest.mark.parametrize("repeats", [1, 2])
def test_tied_head_adds_to_what_the_store_holds(repeats, rng):
    """Also where the head's backward is not the first to write: after another micro-batch, say."""
    table = Embedding("wte", V, C)
    head, p = TiedHead("head", table), random_store(table, rng)
    g, alone = random_store(table, rng), p.zeros_like()
    before = g.vector.copy()
    y, cache = head.forward(p, rng.standard_normal((B, T, C)))
    dy = rng.standard_normal(y.shape)
    head.backward(alone, dy, cache)
    for _ in range(repeats):
        head.backward(g, dy, cache)
    np.testing.assert_allclose(g.vector, before + repeats * alone.vector, rtol=1e-13, atol=1e-13)


def test_attention_parameters_say_their_spread_and_parts():
    layer = Attention("f", C, H, std=0.3, residual_std=0.1, bias=False)
    said = {name: (p.role, p.std, p.parts) for name, p in named(layer).items()}
    assert said == {"f.c_attn.weight": ("hidden", 0.3, 3), "f.c_proj.weight": ("hidden", 0.1, 1)}


@pytest.mark.parametrize(("bias", "qkv_bias", "names"), [(True, None, ["c_attn", "c_proj"]), (True, False, ["c_proj"]), (False, True, ["c_attn"]), (False, None, [])])
def test_attention_biases(bias, qkv_bias, names):
    layer = Attention("f", C, H, bias=bias, qkv_bias=qkv_bias)
    assert [name for name in named(layer) if name.endswith("bias")] == [f"f.{name}.bias" for name in names]


def test_attention_defaults():
    layer = Attention("f", C, H)
    assert not layer.causal and layer.window is None and layer.scale is None and layer.dropout == 0.0
    assert {p.std for name, p in named(layer).items() if name.endswith("weight")} == {0.02}
    assert {(p.std, p.role) for name, p in named(layer).items() if name.endswith("bias")} == {(0.0, "vector")}


def test_mlp_parameters_say_their_spread_and_parts():
    parameters = named(MLP("f", C, 7))
    assert {name: (p.role, p.std, p.parts) for name, p in parameters.items() if name.endswith("weight")} == {
        "f.c_fc.weight": ("hidden", 0.02, 1),
        "f.c_proj.weight": ("hidden", 0.02, 1),
    }
    assert MLP("f", C, 7).dropout == 0.0
    assert list(named(MLP("f", C, 7, bias=False, std=0.3))) == ["f.c_fc.weight", "f.c_proj.weight"]
    assert [p.std for p in MLP("f", C, 7, bias=False, std=0.3, residual_std=0.1).parameters()] == [0.3, 0.1]


@pytest.mark.parametrize("table", [Embedding, LearnedPositions])
def test_tables_are_embeddings(table):
    (weight,) = table("f", V, C).parameters()
    assert (weight.shape, weight.role, weight.std, weight.mean, weight.parts) == ((V, C), "embedding", 0.02, 0.0, 1)


def test_linear_parameters_say_their_spread_and_role():
    weight, bias = Linear("f", C, V).parameters()
    assert (weight.role, weight.std, weight.mean, weight.parts) == ("hidden", 0.02, 0.0, 1)
    assert (bias.role, bias.std, bias.mean, bias.parts) == ("vector", 0.0, 0.0, 1)
    weight, bias = Linear("f", C, V, role="head", parts=2).parameters()
    assert (weight.role, weight.parts, bias.role, bias.parts) == ("head", 2, "vector", 1)


@pytest.mark.parametrize("length", [4, 5])
def test_attention_turns_lean_by_its_length_alone(length, rng, take_lean):
    """Channels number more than five in both cases; keys of a cache do not count either."""
    take_lean(5)
    layer = Attention("f", C, H)
    _, cache = layer.forward(random_store(layer, rng), rng.standard_normal((B, length, C)))
    assert (type(cache.attention) is LeanAttentionCache) == (length >= 5)
