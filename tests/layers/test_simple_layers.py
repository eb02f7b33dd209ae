"""The layers without attention: their gradients, and what their parameters say."""

from types import SimpleNamespace

import numpy as np
import pytest
from layer_gradients import random_store

from minigpt import check_layer
from minigpt.layers import (
    MLP,
    Classifier,
    Embedding,
    FirstTokenClassifier,
    GatedMLP,
    LayerNorm,
    LearnedPositions,
    Linear,
    MaskedLMHead,
    Pooler,
    RelativeBias,
    RMSNorm,
    Smear,
    Store,
    TiedHead,
)
from minigpt.ops import ACTIVATIONS, relative_bias_forward, smear_forward

B, T, C, F, V = 2, 3, 5, 7, 11

LAYERS = {
    "linear": Linear("f", C, F),
    "linear no bias": Linear("f", C, F, bias=False),
    "layernorm": LayerNorm("f", C),
    "layernorm no bias": LayerNorm("f", C, bias=False),
    "layernorm eps": LayerNorm("f", C, eps=0.5),
    "rmsnorm": RMSNorm("f", C),
    "rmsnorm eps": RMSNorm("f", C, eps=0.5),
    "positions": LearnedPositions("f", V, C),
    "smear": Smear("f", C),
    "mlp no bias": MLP("f", C, F, bias=False),
    "pooler": Pooler("f", C),
    "classifier": Classifier("f", C, V),
    "first token": FirstTokenClassifier("f", C, V),
    **{
        f"masked_lm {activation}": MaskedLMHead(
            "m", Linear("f", C, C), LayerNorm("n", C), Linear("h", C, V), activation=activation
        )
        for activation in ACTIVATIONS
    },
    **{f"mlp {activation}": MLP("f", C, F, activation=activation) for activation in ACTIVATIONS},
    **{f"gated mlp {activation}": GatedMLP("f", C, F, activation=activation) for activation in ACTIVATIONS},
}


@pytest.fixture(params=LAYERS.values(), ids=LAYERS.keys())
def layer(request):
    return request.param


def test_layer_gradients(layer, rng):
    report = check_layer(layer, rng.standard_normal((B, T, C)))
    assert len(report.rows) == len(layer.parameters()) + 1
    assert report.passed and not report.remarks, report


@pytest.mark.parametrize("inner", [0.0, 0.3])
@pytest.mark.parametrize("kind", [MLP, GatedMLP])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp_gradients_with_dropout(activation, kind, inner, rng):
    layer = kind("f", C, F, activation=activation, dropout=0.4, inner_dropout=inner)
    x = rng.standard_normal((B, T, C))
    assert check_layer(layer, x, dropout_seed=1).passed
    p = random_store(layer, rng)
    dropped = (layer.forward(p, x, rng)[0] == 0).mean()
    assert 0.1 < dropped < 0.7
    assert layer.forward(p, x)[0].all()


def test_embedding_gradients(rng):
    layer = Embedding("f", V, C)
    assert check_layer(layer, rng.integers(0, V, (B, T))).passed


@pytest.mark.parametrize("position_ids", [[4, 0, 4], [[4, 0, 4], [0, 9, 6]]])
def test_learned_positions_gradients_with_ids(position_ids, rng):
    layer = LAYERS["positions"]
    placed = SimpleNamespace(
        parameters=layer.parameters,
        forward=lambda p, x: layer.forward(p, x, np.array(position_ids)),
        backward=layer.backward,
    )
    report = check_layer(placed, rng.standard_normal((B, T, C)))
    assert report.passed and not report.remarks, report


class TiedEnds:
    """A head after the embedding that it shares its table with."""

    def __init__(self, bias):
        self.wte = Embedding("wte", V, C)
        self.head = TiedHead("head", self.wte, bias=bias)

    def parameters(self):
        return self.wte.parameters() + self.head.parameters()

    def forward(self, p, ids):
        x, c1 = self.wte.forward(p, ids)
        y, c2 = self.head.forward(p, x * x)
        return y, (x, c1, c2)

    def backward(self, g, dy, cache):
        x, c1, c2 = cache
        self.wte.backward(g, 2 * x * self.head.backward(g, dy, c2), c1)


@pytest.mark.parametrize("bias", [False, True])
def test_tied_head_adds_to_the_gradient_of_its_table(bias, rng):
    layer = TiedEnds(bias)
    assert [p.name for p in layer.parameters()] == ["wte.weight", "head.bias"][: 1 + bias]
    assert check_layer(layer, rng.integers(0, V, (B, T))).passed


def test_tied_heads_bias_adds_to_what_the_store_holds(rng):
    """And is left alone where the store has none."""
    table = Embedding("wte", V, C)
    head = TiedHead("head", table, bias=True)
    (bias,) = head.parameters()
    assert (bias.shape, bias.role, bias.std, bias.mean) == ((V,), "vector", 0.0, 0.0)
    p = random_store(TiedEnds(True), rng)
    y, cache = head.forward(p, rng.standard_normal((B, T, C)))
    g, without = p.zeros_like(), p.zeros_like(["wte.weight"])
    for _ in range(2):
        head.backward(g, y, cache)
    np.testing.assert_allclose(g["head.bias"], 2 * y.sum((0, 1)), rtol=1e-12)
    head.backward(without, y, cache)
    np.testing.assert_allclose(2 * without["wte.weight"], g["wte.weight"], rtol=1e-12)


def test_masked_lm_head_at_some_tokens_is_that_of_all_tokens(rng):
    """Also at none; their gradients are those of zeros elsewhere."""
    layer, x = LAYERS["masked_lm gelu"], rng.standard_normal((B, T, C))
    p = random_store(layer, rng)
    whole, cache = layer.forward(p, x)
    for at in ([1, 4, 5], []):
        some, own = layer.forward(p, x, np.array(at, int))
        np.testing.assert_allclose(some, whole.reshape(-1, V)[at], rtol=1e-12, atol=1e-13)
        dy, everywhere, g, expected = (
            rng.standard_normal(some.shape),
            np.zeros((B * T, V)),
            p.zeros_like(),
            p.zeros_like(),
        )
        everywhere[at] = dy
        dx = layer.backward(g, dy, own)
        np.testing.assert_allclose(dx, layer.backward(expected, everywhere.reshape(B, T, V), cache), atol=1e-12)
        np.testing.assert_allclose(g.vector, expected.vector, rtol=1e-12, atol=1e-12)
    assert MaskedLMHead("m", Linear("f", C, C), LayerNorm("n", C), Linear("h", C, V)).activation == "gelu"


@pytest.mark.parametrize("kind", [Classifier, FirstTokenClassifier])
def test_classifier_gradients_with_dropout(kind, rng):
    layer, x = kind("f", C, V, dropout=0.4), rng.standard_normal((B, T, C))
    assert check_layer(layer, x, dropout_seed=1).passed
    p = random_store(layer, rng)
    assert np.array_equal(layer.forward(p, x)[0], kind("f", C, V).forward(p, x, rng)[0])
    assert not np.array_equal(layer.forward(p, x)[0], layer.forward(p, x, rng)[0])


def test_heads_parameters_say_their_spread_and_role():
    found = {
        p.name: (p.shape, p.role, p.std)
        for layer in (Pooler("p", C), Classifier("c", C, V))
        for p in layer.parameters()
    }
    assert found == {
        "p.weight": ((C, C), "hidden", 0.02),
        "p.bias": ((C,), "vector", 0.0),
        "c.weight": ((C, V), "head", 0.02),
        "c.bias": ((V,), "vector", 0.0),
    }
    found = {p.name: (p.shape, p.role) for p in FirstTokenClassifier("c", C, V).parameters()}
    assert found == {
        "c.dense.weight": ((C, C), "hidden"),
        "c.dense.bias": ((C,), "vector"),
        "c.out.weight": ((C, V), "head"),
        "c.out.bias": ((V,), "vector"),
    }


def test_layer_run_twice_gives_the_sum_of_gradients(layer, rng):
    p, xs = random_store(layer, rng), rng.standard_normal((2, B, T, C))
    caches = [layer.forward(p, x)[1] for x in xs]
    dys = rng.standard_normal((2, *layer.forward(p, xs[0])[0].shape))
    g, apart = p.zeros_like(), [p.zeros_like() for _ in xs]
    for i in (1, 0):  # in reverse order, on one store and on one each
        dx = layer.backward(g, dys[i], caches[i])
        np.testing.assert_array_equal(dx, layer.backward(apart[i], dys[i], caches[i]))
    np.testing.assert_array_equal(g.vector, apart[0].vector + apart[1].vector)


def test_layer_keeps_float32(layer, rng):
    p = random_store(layer, rng, np.float32)
    y, cache = layer.forward(p, rng.standard_normal((B, T, C), np.float32))
    assert y.dtype == layer.backward(p.zeros_like(), y, cache).dtype == np.float32


@pytest.mark.parametrize(("norm", "eps"), [(LayerNorm, 1e-5), (RMSNorm, 1e-6)])
def test_norm_layers_use_their_eps(norm, eps, rng):
    x, p = rng.standard_normal((T, C)), random_store(norm("f", C), rng)
    spread = x.var(-1) if norm is LayerNorm else (x * x).mean(-1)
    for layer, expected in ((norm("f", C), eps), (norm("f", C, eps=0.5), 0.5)):
        np.testing.assert_allclose(layer.forward(p, x)[1].rstd[:, 0], 1 / np.sqrt(spread + expected), rtol=1e-13)


def test_layers_start_as_documented():
    def start(layer):
        return Store.initialised(layer.parameters(), 0, np.float64)

    assert (start(LayerNorm("f", C))["f.weight"] == 1).all() and not start(LayerNorm("f", C))["f.bias"].any()
    assert (start(RMSNorm("f", C))["f.weight"] == 1).all()
    linear = start(Linear("f", 300, 70, std=0.3))
    assert (
        linear["f.weight"].shape == (300, 70)
        and linear["f.weight"].std() == pytest.approx(0.3, rel=0.02)
        and not linear["f.bias"].any()
    )
    mlp = start(MLP("f", 100, 300, std=0.3, residual_std=0.1))
    assert list(mlp) == ["f.c_fc.weight", "f.c_fc.bias", "f.c_proj.weight", "f.c_proj.bias"]
    assert mlp["f.c_fc.weight"].std() == pytest.approx(0.3, rel=0.02)
    assert mlp["f.c_proj.weight"].std() == pytest.approx(0.1, rel=0.02)


def test_gated_mlp_is_its_formula(rng):
    """And drops what is activated and multiplied, and what comes out, each at its own rate."""
    layer, x = GatedMLP("f", C, F, activation="relu", dropout=0.9, inner_dropout=0.2), rng.standard_normal((B, T, C))
    p = random_store(layer, rng)
    gate, value, out = (p[f"f.{name}.weight"] for name in ("c_gate", "c_fc", "c_proj"))
    activated = np.maximum(x @ gate, 0) * (x @ value)
    np.testing.assert_allclose(layer.forward(p, x)[0], activated @ out, rtol=1e-12, atol=1e-13)
    draws = []

    class Draws:
        def random(self, shape, dtype=None):
            draws.append(rng.random(shape, dtype=dtype))
            return draws[-1]

    y, _ = layer.forward(p, x, Draws())
    inner, outer = ((draw >= rate) / (1 - rate) for draw, rate in zip(draws, (0.2, 0.9), strict=True))
    np.testing.assert_allclose(y, (activated * inner) @ out * outer, rtol=1e-12, atol=1e-13)
    plain, p = MLP("f", C, F, bias=False, activation="relu", inner_dropout=0.2), random_store(layer, rng)
    draws.clear()
    y, _ = plain.forward(p, x, Draws())
    a = np.maximum(x @ p["f.c_fc.weight"], 0) * ((draws[0] >= 0.2) / 0.8)
    np.testing.assert_allclose(y, a @ p["f.c_proj.weight"], rtol=1e-12, atol=1e-13)


def test_gated_mlp_parameters_say_their_spread_and_role():
    for sizes, stds in ({}, (0.02, 0.02, 0.02)), ({"std": 0.3, "residual_std": 0.1}, (0.3, 0.3, 0.1)):
        layer = GatedMLP("f", C, F, **sizes)
        found = {name: (p.shape, p.role, p.std) for name, p in named(layer).items()}
        shapes = {"f.c_gate.weight": (C, F), "f.c_fc.weight": (C, F), "f.c_proj.weight": (F, C)}
        assert found == {name: (shape, "hidden", std) for (name, shape), std in zip(shapes.items(), stds)}
        assert list(found) == list(shapes)
    assert (layer.activation, layer.dropout, layer.inner_dropout) == ("gelu_tanh", 0.0, 0.0)


def test_relative_bias_layer_is_its_op_and_adds_to_what_the_store_holds(rng):
    (weight,) = RelativeBias("f", 3).parameters()
    assert (weight.name, weight.shape, weight.role, weight.std) == ("f.weight", (32, 3), "embedding", 0.02)
    default = RelativeBias("f", 3)
    assert (default.max_distance, default.bidirectional) == (128, True)
    layer = RelativeBias("f", 3, buckets=8, max_distance=6, bidirectional=False, std=0.3)
    (weight,) = layer.parameters()
    assert (weight.shape, weight.std) == ((8, 3), 0.3)
    p = random_store(layer, rng)
    bias, cache = layer.forward(p, 4, 7)
    np.testing.assert_array_equal(bias, relative_bias_forward(p["f.weight"], 4, 7, 6, False)[0])
    g, without = p.zeros_like(), p.zeros_like([])
    dbias = rng.standard_normal(bias.shape)
    for _ in range(2):
        assert layer.backward(g, dbias, cache) is None
    layer.backward(without, dbias, cache)
    np.testing.assert_allclose(g["f.weight"].sum(0), 2 * dbias.sum((0, 2, 3)), rtol=1e-12)


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


def test_smear_layer_takes_the_mask_and_the_token_before(rng):
    layer, x = LAYERS["smear"], rng.standard_normal((B, T, C))
    p, visible, previous = random_store(layer, rng), rng.random((B, T)) < 0.5, rng.standard_normal((B, 1, C))
    y, _ = layer.forward(p, x, visible, previous)
    np.testing.assert_array_equal(y, smear_forward(x, p["f.weight"], visible=visible, previous=previous)[0])
