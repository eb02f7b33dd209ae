import numpy as np
import pytest
from layer_gradients import check_shared, random_store

from minigpt.layers import Attention, KVCache, Shared
from minigpt.ops import rotary_table, softmax_forward
from minigpt.ops.attention import AttentionCache
from minigpt.ops.lean_attention import LeanAttentionCache
from minigpt.ops.newest_attention import NewestAttentionCache

B, T, C, H = 2, 5, 6, 3

SETTINGS = {
    "plain": {},
    "causal": {"causal": True},
    "window": {"window": 2},
    "causal window": {"causal": True, "window": 3},
    "no bias": {"bias": False},
    "scale": {"scale": 1.0},
    "wide heads": {"head_channels": 4},
    "narrow heads": {"head_channels": 1, "causal": True},
    "dropout": {"dropout": 0.3},
}
settings = pytest.mark.parametrize("kwargs", SETTINGS.values(), ids=SETTINGS.keys())


@pytest.fixture(params=["plain", "lean"])
def form(request, take_lean):
    """Both forms of attention, the lean one with several blocks of queries."""
    if request.param == "lean":
        take_lean(1, 2)
    return request.param


def key_mask(S):
    """Padding at the left of the second row."""
    return np.arange(S) >= np.array([0, 2])[:, None]


def seed_for(kwargs):
    return 3 if "dropout" in kwargs else None


@settings
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.usefixtures("form")
def test_self_attention_gradients(kwargs, padded, biased, rng):
    layer = Attention("f", C, H, **kwargs)
    inputs = {
        "key_mask": key_mask(T) if padded else None,
        "bias": rng.standard_normal((1, H, T, T)) if biased else None,
    }
    report = check_shared(
        layer, rng.standard_normal((B, T, C)), seed_for(kwargs), collected=["bias"] if biased else [], **inputs
    )
    assert len(report.rows) == len(layer.parameters()) + 1 + biased
    assert report.passed and not report.remarks, report


@settings
@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.usefixtures("form")
def test_self_attention_gradients_with_rotary_positions(kwargs, qk_norm, rng):
    if kwargs.get("head_channels") == 1:
        kwargs = {"causal": True, "head_channels": 2}
    layer = Attention("f", C, H, **kwargs, qk_norm=qk_norm)
    rotary = [table[[4, 0, 9, 2, 2]] for table in rotary_table(10, layer.head_channels)]
    report = check_shared(layer, rng.standard_normal((B, T, C)), seed_for(kwargs), rotary=rotary)
    assert report.passed and not report.remarks, report


@pytest.mark.usefixtures("form")
def test_qk_norm_alone(rng):
    """Gradients, and scores that do not change with the scale of the matrices that make q and k."""
    layer = Attention("f", C, H, causal=True, qk_norm=True)
    assert check_shared(layer, rng.standard_normal((B, T, C))).passed
    p, x = random_store(layer, rng), rng.standard_normal((B, T, C))
    y, _ = layer.forward(p, x)
    for name in ("f.c_attn.weight", "f.c_attn.bias"):
        p[name][..., : 2 * C] *= 7
    np.testing.assert_allclose(layer.forward(p, x)[0], y, rtol=0, atol=1e-4)  # eps counts where a row is short


@pytest.mark.parametrize(
    ("scale", "qk_norm", "rotary"), [(None, False, False), (0.4, False, True), (None, True, False), (None, True, True)]
)
def test_attention_is_heads_side_by_side(scale, qk_norm, rotary, form, rng):
    """One head at a time by plain matrix products on its own columns."""
    layer = Attention("f", C, H, causal=True, scale=scale, qk_norm=qk_norm)
    cos, sin = rotary_table(T, C // H)
    p, x, D = random_store(layer, rng), rng.standard_normal((B, T, C)), C // H
    y, cache = layer.forward(p, x, shared=Shared(rotary=(cos, sin) if rotary else None))
    qkv = x @ p["f.c_attn.weight"] + p["f.c_attn.bias"]
    heads, maps = [], []
    for h in range(H):
        q, k, v = (qkv[..., part * C + h * D : part * C + (h + 1) * D] for part in range(3))
        if qk_norm:
            q, k = (a / np.sqrt((a * a).mean(-1, keepdims=True) + 1e-6) for a in (q, k))
        if rotary:
            q, k = (a * cos + np.concatenate([-a[..., D // 2 :], a[..., : D // 2]], -1) * sin for a in (q, k))
        scores = np.where(np.tri(T, dtype=bool), (scale or 1 / np.sqrt(D)) * q @ k.swapaxes(1, 2), -np.inf)
        maps.append(softmax_forward(scores)[0])
        heads.append(maps[-1] @ v)
    np.testing.assert_allclose(
        y, np.concatenate(heads, -1) @ p["f.c_proj.weight"] + p["f.c_proj.bias"], rtol=1e-12, atol=1e-13
    )
    np.testing.assert_allclose(cache.weights, np.stack(maps, 1), rtol=1e-12, atol=1e-14)
    assert hasattr(cache.attention, "log_total") == (form == "lean")


@pytest.mark.usefixtures("form")
def test_attention_keeps_float32(rng):
    layer = Attention("f", C, H, dropout=0.2, qk_norm=True)
    p, x = random_store(layer, rng, np.float32), rng.standard_normal((B, T, C), np.float32)
    y, cache = layer.forward(p, x, rng, shared=Shared(key_mask=key_mask(T), rotary=rotary_table(T, C // H)))
    assert y.dtype == layer.backward(p.zeros_like(), y, cache).dtype == cache.weights.dtype == np.float32


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("steps", [[1] * 9, [4, 1, 1, 2, 1], [9]])
def test_kv_cache_equals_the_whole(steps, padded, window, rng):
    """Token by token, or several at a time, as the whole text at once."""
    n = sum(steps)
    layer = Attention("f", C, H, causal=True, window=window, head_channels=4)
    p, x = random_store(layer, rng), rng.standard_normal((B, n, C))
    mask = key_mask(n) if padded else None
    whole, _ = layer.forward(p, x, shared=Shared(key_mask=mask))
    kv, parts, at = KVCache(B, H, n, 4, np.float64), [], 0
    for step in steps:
        seen = None if mask is None else mask[:, : at + step]
        parts.append(layer.forward(p, x[:, at : at + step], shared=Shared(key_mask=seen), kv=kv)[0])
        at += step
    assert kv.length == n
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, rtol=1e-12, atol=1e-12)


def test_kv_cache_with_dropout(rng):
    """In training mode the newest query's weights are dropped as any others."""
    layer = Attention("f", C, H, causal=True, dropout=0.5)
    p, x = random_store(layer, rng), rng.standard_normal((B, 1, C))
    y, _ = layer.forward(p, x, np.random.default_rng(1))
    cached, _ = layer.forward(p, x, np.random.default_rng(1), kv=KVCache(B, H, 1, C // H, np.float64))
    np.testing.assert_allclose(cached, y, rtol=1e-13)


@pytest.mark.parametrize(("T", "kind"), [(1, NewestAttentionCache), (2, AttentionCache)])
def test_one_token_with_a_kv_cache_takes_newest_attention(T, kind, rng):
    layer = Attention("f", C, H, causal=True)
    p, kv = random_store(layer, rng), layer.kv_cache(B, 5, np.float64)
    layer.forward(p, rng.standard_normal((B, 3, C)), kv=kv)
    assert type(layer.forward(p, rng.standard_normal((B, T, C)), kv=kv)[1].attention) is kind


def test_kv_cache_overflow_is_an_error(rng):
    kv = KVCache(B, H, 5, 4, np.float32)
    k = rng.standard_normal((B, H, 3, 4))
    keys, values = kv.append(k, -k)
    assert keys.shape == (B, H, 3, 4) and keys.dtype == np.float32
    np.testing.assert_array_equal(values, -keys)
    with pytest.raises(ValueError, match=r"room for 5 tokens, 6"):
        kv.append(k, k)


def named(layer):
    return {p.name: p for p in layer.parameters()}


def test_attention_parameters_say_their_spread_and_parts():
    layer = Attention("f", C, H, std=0.3, residual_std=0.1, bias=False)
    said = {name: (p.role, p.std, p.parts) for name, p in named(layer).items()}
    assert said == {"f.c_attn.weight": ("hidden", 0.3, 3), "f.c_proj.weight": ("hidden", 0.1, 1)}


@pytest.mark.parametrize(
    ("bias", "qkv_bias", "names"),
    [(True, None, ["c_attn", "c_proj"]), (True, False, ["c_proj"]), (False, True, ["c_attn"]), (False, None, [])],
)
def test_attention_biases(bias, qkv_bias, names):
    layer = Attention("f", C, H, bias=bias, qkv_bias=qkv_bias)
    assert [name for name in named(layer) if name.endswith("bias")] == [f"f.{name}.bias" for name in names]


def test_attention_defaults():
    layer = Attention("f", C, H)
    assert not layer.causal and layer.window is None and layer.scale is None
    assert layer.dropout == 0.0 and not layer.qk_norm
    assert {p.std for name, p in named(layer).items() if name.endswith("weight")} == {0.02}
    assert {(p.std, p.role) for name, p in named(layer).items() if name.endswith("bias")} == {(0.0, "vector")}


@pytest.mark.parametrize("length", [4, 5])
def test_attention_turns_lean_by_its_length_alone(length, rng, take_lean):
    """Channels number more than five in both cases; keys of a cache do not count either."""
    take_lean(5)
    layer = Attention("f", C, H)
    _, cache = layer.forward(random_store(layer, rng), rng.standard_normal((B, length, C)))
    assert (type(cache.attention) is LeanAttentionCache) == (length >= 5)
