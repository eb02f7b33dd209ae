import numpy as np
import pytest
from layer_gradients import check_shared, random_store

from minigpt.layers import MLP, Attention, KVCache, LayerNorm, PostNormBlock, PreNormBlock, RMSNorm

B, T, C, H, F = 2, 5, 6, 3, 7


@pytest.fixture(params=[PreNormBlock, PostNormBlock])
def block_class(request):
    return request.param


@pytest.fixture(params=[LayerNorm, RMSNorm])
def norm(request):
    return request.param


def make_block(block_class, norm, causal=True, **kwargs):
    return block_class(
        norm("ln_1", C), Attention("attn", C, H, causal=causal, **kwargs), norm("ln_2", C), MLP("mlp", C, F, **kwargs)
    )


@pytest.mark.parametrize("kwargs", [{}, {"bias": False}, {"dropout": 0.3}], ids=str)
def test_block_gradients(block_class, norm, kwargs, rng):
    block = make_block(block_class, norm, **kwargs)
    report = check_shared(block, rng.standard_normal((B, T, C)), 5 if "dropout" in kwargs else None)
    assert len(report.rows) == len(block.parameters()) + 1
    assert report.passed and not report.remarks, report


def test_block_gradients_with_bias_and_padding(block_class, norm, rng):
    inputs = {"bias": rng.standard_normal((1, H, T, T)), "key_mask": np.arange(T) < np.array([T, 3])[:, None]}
    report = check_shared(
        make_block(block_class, norm, causal=False), rng.standard_normal((B, T, C)), collected=["bias"], **inputs
    )
    assert report.passed and not report.remarks, report


def test_block_is_its_formula(block_class, rng):
    block = make_block(block_class, LayerNorm)
    p, x = random_store(block, rng), rng.standard_normal((B, T, C))

    def run(part, x):
        return part.forward(p, x)[0]

    if block_class is PreNormBlock:
        h = x + run(block.attn, run(block.ln_1, x))
        expected = h + run(block.mlp, run(block.ln_2, h))
    else:
        h = run(block.ln_1, x + run(block.attn, x))
        expected = run(block.ln_2, h + run(block.mlp, h))
    np.testing.assert_array_equal(run(block, x), expected)


def test_block_cache_has_the_name_of_each_part(block_class, rng):
    block = make_block(block_class, LayerNorm)
    _, cache = block.forward(random_store(block, rng), rng.standard_normal((B, T, C)))
    assert cache.attn.weights.shape == (B, H, T, T)
    assert cache.ln_1.xhat.shape == cache.ln_2.xhat.shape == (B, T, C)
    assert cache.mlp.activation.x.shape == (B, T, F)


def test_block_arguments_and_cache_are_not_mutated(block_class, norm, rng):
    block = make_block(block_class, norm)
    p, x, dy = random_store(block, rng), *rng.standard_normal((2, B, T, C))
    before = p.vector.copy(), x.copy(), dy.copy()
    _, cache = block.forward(p, x)
    g, again = p.zeros_like(), p.zeros_like()
    np.testing.assert_array_equal(block.backward(g, dy, cache), block.backward(again, dy, cache))
    np.testing.assert_array_equal(g.vector, again.vector)
    for now, then in zip((p.vector, x, dy), before):
        np.testing.assert_array_equal(now, then)


def test_block_with_kv_cache_equals_the_whole(block_class, norm, rng):
    block = make_block(block_class, norm)
    p, x = random_store(block, rng), rng.standard_normal((B, T, C))
    kv = KVCache(B, H, T, C // H, np.float64)
    parts = [block.forward(p, x[:, t : t + 1], kv=kv)[0] for t in range(T)]
    np.testing.assert_allclose(np.concatenate(parts, 1), block.forward(p, x)[0], rtol=1e-12, atol=1e-12)
