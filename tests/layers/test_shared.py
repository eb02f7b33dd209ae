"""No gradient of what blocks share is lost: it is collected or refused."""

import numpy as np
import pytest
from layer_gradients import random_store

from minigpt.layers import (
    MLP,
    Attention,
    CrossAttention,
    DecoderBlock,
    LayerNorm,
    PostNormBlock,
    PreNormBlock,
    Shared,
    SharedGradients,
    recomputed_backward,
    recomputed_forward,
    stack_backward,
    stack_forward,
)

B, T, S, C, M, H = 2, 5, 7, 6, 8, 3
parts = {
    "ln_1": LayerNorm("ln_1", C),
    "attn": Attention("attn", C, H),
    "ln_2": LayerNorm("ln_2", C),
    "mlp": MLP("mlp", C, 7),
}
cross = CrossAttention("cross", C, H, memory_channels=M)
LAYERS = {
    "attention": (parts["attn"], ["bias"]),
    "pre-norm": (PreNormBlock(**parts), ["bias"]),
    "post-norm": (PostNormBlock(**parts), ["bias"]),
    "cross-attention": (cross, ["memory"]),
    "decoder": (DecoderBlock(**parts, ln_cross=LayerNorm("ln_cross", C), cross=cross), ["bias", "memory"]),
}


@pytest.fixture
def shared(rng):
    return Shared(bias=rng.standard_normal((1, H, T, T)), memory=rng.standard_normal((B, S, M)))


def stack(layer):
    """The same through stack_forward, with and without recomputation."""
    for keep in ("activations", "inputs"):
        yield (
            lambda p, x, shared, keep=keep: stack_forward([layer], p, x, shared=shared, keep=keep),
            lambda g, dy, cache, dshared: stack_backward([layer], g, dy, cache, dshared),
        )


def forms(layer):
    yield lambda p, x, shared: layer.forward(p, x, shared=shared), layer.backward
    yield (
        lambda p, x, shared: recomputed_forward(layer, p, x, shared=shared),
        lambda g, dy, cache, dshared: recomputed_backward(layer, g, dy, cache, dshared),
    )
    yield from stack(layer)


@pytest.mark.parametrize(("layer", "names"), LAYERS.values(), ids=LAYERS)
def test_gradient_is_collected_or_refused(layer, names, shared, rng):
    p, x, dy = random_store(layer, rng), rng.standard_normal((B, T, C)), rng.standard_normal((B, T, C))
    sums = []
    for forward, backward in forms(layer):
        _, cache = forward(p, x, shared)
        for name in names:
            zeros = SharedGradients.zeros_like(shared)
            with pytest.raises(ValueError, match=f"the gradient of {name} has no sum to be added to"):
                backward(p.zeros_like(), dy, cache, zeros._replace(**{name: None}))
        dshared = SharedGradients.zeros_like(shared)
        backward(p.zeros_like(), dy, cache, dshared)
        assert [name for name in dshared._fields if getattr(dshared, name).any()] == names
        sums.append(dshared)
    for dshared in sums[1:]:
        for one, other in zip(sums[0], dshared):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("layer", "names"), LAYERS.values(), ids=LAYERS)
def test_gradients_add_up_over_two_runs(layer, names, shared, rng):
    p, (xs, dys) = random_store(layer, rng), rng.standard_normal((2, 2, B, T, C))
    caches = [layer.forward(p, x, shared=shared)[1] for x in xs]
    together, apart = SharedGradients.zeros_like(shared), [SharedGradients.zeros_like(shared) for _ in xs]
    g, alone = p.zeros_like(), [p.zeros_like() for _ in xs]
    for i in (1, 0):
        layer.backward(g, dys[i], caches[i], together)
        layer.backward(alone[i], dys[i], caches[i], apart[i])
    np.testing.assert_array_equal(g.vector, alone[1].vector + alone[0].vector)
    for name in names:
        np.testing.assert_array_equal(getattr(together, name), getattr(apart[1], name) + getattr(apart[0], name))


def test_zeros_are_for_what_is_there():
    bias = np.ones((1, 1, 2, 3), np.float32)
    zeros = SharedGradients.zeros_like(Shared(bias=bias))
    assert zeros.memory is None and zeros.bias.shape == bias.shape
    assert zeros.bias.dtype == np.float32 and not zeros.bias.any()


def test_nothing_kept_has_no_backward(rng):
    block = PreNormBlock(**parts)
    p, x = random_store(block, rng), rng.standard_normal((B, T, C))
    y, caches = stack_forward([block, block], p, x, keep="nothing")
    np.testing.assert_array_equal(y, stack_forward([block, block], p, x)[0])
    assert caches == [None, None]
    with pytest.raises(ValueError, match='keep="nothing": it has no backward'):
        stack_backward([block, block], p.zeros_like(), y, caches)


def test_a_gradient_is_not_spread_over_a_sum_of_another_shape():
    sums = SharedGradients(bias=np.zeros((B, H, T, T)))
    with pytest.raises(ValueError, match=r"the gradient of bias has shape \(1, 1, 5, 5\), its sum \(2, 3, 5, 5\)"):
        sums.add("bias", np.ones((1, 1, T, T)))
    assert not sums.bias.any()


def test_a_stack_gives_every_block_its_cache_or_raises(rng):
    block = PreNormBlock(**parts)
    p = random_store(block, rng)
    x = rng.standard_normal((B, T, C))
    y, caches = stack_forward([block, block], p, x)
    for blocks, some in (([block], caches), ([block, block], caches[1:])):
        with pytest.raises(ValueError, match=r"is (longer|shorter) than argument 1"):
            stack_backward(blocks, p.zeros_like(), y, some)
    with pytest.raises(ValueError, match=r"keep is 'input', it must be one of activations, inputs, nothing"):
        stack_forward([block], p, x, keep="input")
