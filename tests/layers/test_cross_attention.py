import numpy as np
import pytest
from layer_gradients import check_shared, random_store

from minigpt.layers import MLP, Attention, CrossAttention, DecoderBlock, LayerNorm, Shared, SharedGradients
from minigpt.ops import softmax_forward

B, T, S, C, M, H = 2, 5, 7, 6, 8, 3
SETTINGS = {
    "plain": {},
    "no bias": {"bias": False},
    "scale": {"scale": 1.0},
    "wide heads": {"head_channels": 4},
    "dropout": {"dropout": 0.3},
}


@pytest.fixture(params=["plain", "lean"])
def form(request, take_lean):
    """Both forms of attention, the lean one with several blocks of queries."""
    if request.param == "lean":
        take_lean(1, 2)
    return request.param


def memory_mask():
    """Padding at the right of the second row."""
    return np.arange(S) < np.array([S, 4])[:, None]


@pytest.mark.parametrize("kwargs", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.usefixtures("form")
def test_cross_attention_gradients(kwargs, padded, rng):
    layer = CrossAttention("f", C, H, memory_channels=M, **kwargs)
    inputs = {"memory": rng.standard_normal((B, S, M)), "memory_mask": memory_mask() if padded else None}
    seed = 3 if "dropout" in kwargs else None
    report = check_shared(layer, rng.standard_normal((B, T, C)), seed, collected=["memory"], **inputs)
    assert len(report.rows) == len(layer.parameters()) + 2
    assert report.passed and not report.remarks, report


@pytest.mark.parametrize("kwargs", [{}, {"dropout": 0.3}], ids=str)
@pytest.mark.usefixtures("form")
def test_decoder_block_gradients(kwargs, rng):
    block = DecoderBlock(
        LayerNorm("ln_1", C), Attention("attn", C, H, causal=True, **kwargs), LayerNorm("ln_cross", C),
        CrossAttention("cross", C, H, memory_channels=M, **kwargs), LayerNorm("ln_2", C), MLP("mlp", C, 11, **kwargs),
    )  # fmt: skip
    inputs = {
        "memory": rng.standard_normal((B, S, M)),
        "bias": rng.standard_normal((1, H, T, T)),
        "memory_mask": memory_mask(),
        "key_mask": np.arange(T) >= np.array([0, 1])[:, None],
    }
    seed = 3 if kwargs else None
    report = check_shared(block, rng.standard_normal((B, T, C)), seed, collected=["memory", "bias"], **inputs)
    assert len(report.rows) == len(block.parameters()) + 3
    assert report.passed and not report.remarks, report


@pytest.mark.parametrize("scale", [None, 0.7])
def test_cross_attention_is_heads_side_by_side(scale, rng):
    """One head at a time by plain matrix products on its own columns."""
    layer = CrossAttention("f", C, H, memory_channels=M, scale=scale)
    p, x, memory, D = random_store(layer, rng), rng.standard_normal((B, T, C)), rng.standard_normal((B, S, M)), C // H
    y, cache = layer.forward(p, x, shared=Shared(memory=memory, memory_mask=memory_mask()))
    q = x @ p["f.q_attn.weight"] + p["f.q_attn.bias"]
    kv = memory @ p["f.c_attn.weight"] + p["f.c_attn.bias"]
    heads = []
    for h in range(H):
        columns = slice(h * D, (h + 1) * D)
        k, v = kv[..., :C][..., columns], kv[..., C:][..., columns]
        scores = (scale or 1 / np.sqrt(D)) * q[..., columns] @ k.swapaxes(1, 2)
        weights = softmax_forward(np.where(memory_mask()[:, None], scores, -np.inf))[0]
        np.testing.assert_allclose(cache.weights[:, h], weights, rtol=1e-12, atol=1e-14)
        heads.append(weights @ v)
    np.testing.assert_allclose(
        y, np.concatenate(heads, -1) @ p["f.c_proj.weight"] + p["f.c_proj.bias"], rtol=1e-12, atol=1e-13
    )


def test_memory_is_projected_once_in_decoding(rng):
    """Token by token with a cache as all at once;
    later calls need no memory, and have no backward.
    """
    layer = CrossAttention("f", C, H, memory_channels=M)
    p, x, memory = random_store(layer, rng), rng.standard_normal((B, T, C)), rng.standard_normal((B, S, M))
    whole, _ = layer.forward(p, x, shared=Shared(memory=memory, memory_mask=memory_mask()))
    kv, parts = layer.kv_cache(B, S, np.float64), []
    for t in range(T):
        shared = Shared(memory=memory if t == 0 else None, memory_mask=memory_mask())
        y, cache = layer.forward(p, x[:, t : t + 1], shared=shared, kv=kv)
        parts.append(y)
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, rtol=1e-12, atol=1e-13)
    assert kv.length == S
    with pytest.raises(ValueError, match="it has no backward"):
        layer.backward(p.zeros_like(), y, cache)


@pytest.mark.usefixtures("form")
def test_cross_attention_keeps_float32(rng):
    layer = CrossAttention("f", C, H, memory_channels=M, dropout=0.2)
    p = random_store(layer, rng, np.float32)
    x, memory = rng.standard_normal((B, T, C), np.float32), rng.standard_normal((B, S, M), np.float32)
    shared = Shared(memory=memory, memory_mask=memory_mask())
    y, cache = layer.forward(p, x, rng, shared=shared)
    dshared = SharedGradients.zeros_like(shared)
    dx = layer.backward(p.zeros_like(), y, cache, dshared)
    assert y.dtype == dx.dtype == cache.weights.dtype == dshared.memory.dtype == np.float32


def test_cross_attention_parameters_say_their_spread_and_parts():
    layer = CrossAttention("f", C, H, memory_channels=M, std=0.3, residual_std=0.1, bias=False)
    said = {p.name: (p.shape, p.role, p.std, p.parts) for p in layer.parameters()}
    assert said == {
        "f.q_attn.weight": ((C, C), "hidden", 0.3, 1),
        "f.c_attn.weight": ((M, 2 * C), "hidden", 0.3, 2),
        "f.c_proj.weight": ((C, C), "hidden", 0.1, 1),
    }
    assert layer.dropout == 0.0 and layer.scale is None
    assert [p.std for p in CrossAttention("f", C, H, memory_channels=M).parameters()] == [0.02, 0.0] * 3


def test_cross_attentions_parameters_say_their_spread():
    def stds(**settings):
        return [p.std for p in CrossAttention("f", C, H, memory_channels=M, bias=False, **settings).parameters()]

    assert stds() == [0.02, 0.02, 0.02]
    assert stds(std=0.3) == [0.3, 0.3, 0.02]
    assert stds(std=0.3, q_std=0.1, residual_std=0.5) == [0.1, 0.3, 0.5]


@pytest.mark.parametrize("T", [1, 3])
@pytest.mark.parametrize("padded", [True, False])
def test_rows_side_by_side_share_a_memory(padded, T, rng):
    """As if the memory stood there once for each of them."""
    sources, K, S, C = 2, 3, 4, 6
    layer = CrossAttention("cross", C, 2, memory_channels=5)
    p = random_store(layer, rng)
    x, memory = rng.standard_normal((sources * K, T, C)), rng.standard_normal((sources, S, 5))
    mask = np.array([[1, 1, 1, 0], [0, 1, 1, 1]], bool) if padded else None
    repeated = Shared(memory=memory.repeat(K, axis=0), memory_mask=None if mask is None else mask.repeat(K, axis=0))
    expected, cache = layer.forward(p, x, shared=repeated)
    kv = layer.kv_cache(sources, S, np.float64)
    for _ in range(2):  # the keys and values computed, and there already
        y, shared_cache = layer.forward(p, x, shared=Shared(memory=memory, memory_mask=mask), kv=kv)
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-13)
    assert kv.keys.shape[0] == sources
    weights = shared_cache.weights.reshape(sources, 2, K, T, S).swapaxes(1, 2).reshape(sources * K, 2, T, S)
    np.testing.assert_allclose(weights, cache.weights, rtol=0, atol=1e-13)


def test_rows_that_share_a_memory_read_it_as_if_each_had_its_own(rng):
    """Three rows a memory, of several queries each."""
    layer = CrossAttention("f", C, H, memory_channels=M)
    p, x, memory = random_store(layer, rng), rng.standard_normal((3 * B, T, C)), rng.standard_normal((B, S, M))
    kv = layer.kv_cache(B, S, np.float64)
    layer.forward(p, x[::3], shared=Shared(memory=memory, memory_mask=memory_mask()), kv=kv)
    shared, _ = layer.forward(p, x, shared=Shared(memory_mask=memory_mask()), kv=kv)
    own = Shared(memory=memory.repeat(3, axis=0), memory_mask=memory_mask().repeat(3, axis=0))
    np.testing.assert_allclose(shared, layer.forward(p, x, shared=own)[0], rtol=1e-12)
