"""The fields of every cache stand in the order in which its forward makes them; none is missing.

The observer sees the ops' caches come into being; a walk of the cache's fields meets them, by
identity, in the same order.
"""

import inspect

import numpy as np
import pytest
from observers import assert_in_order

from minigpt import observe, ops
from minigpt.layers import (
    MLP,
    Attention,
    Classifier,
    CrossAttention,
    DecoderBlock,
    Embedding,
    FirstTokenClassifier,
    GatedMLP,
    LayerNorm,
    LearnedPositions,
    Linear,
    MaskedLMHead,
    Pooler,
    PostNormBlock,
    PreNormBlock,
    RelativeBias,
    RMSNorm,
    Shared,
    Smear,
    Store,
    TiedHead,
)

V, T, S, C, M, H, F, LAYERS, B = 11, 6, 7, 8, 10, 2, 12, 3, 5
# vocabulary, time, memory's tokens, channels, memory's channels, heads, hidden, blocks, batch


def block_parts(name="h"):
    """What a block is made of: norm, attention, norm, MLP."""
    attn = Attention(f"{name}.attn", C, H, causal=True, qk_norm=True, dropout=0.1)
    return LayerNorm(f"{name}.ln_1", C), attn, RMSNorm(f"{name}.ln_2", C), MLP(f"{name}.mlp", C, F, dropout=0.1)


CROSS = CrossAttention("cross", C, H, memory_channels=M, dropout=0.1)
LN_1, ATTN, LN_2, FEED_FORWARD = block_parts()
LAYERS_OF_ALL_KINDS = [
    Linear("linear", C, F),
    LayerNorm("ln", C),
    RMSNorm("rms", C),
    LearnedPositions("wpe", T, C),
    Smear("smear", C),
    TiedHead("head", Embedding("wte", V, C)),
    Pooler("pooler", C),
    Classifier("classifier", C, F, dropout=0.1),
    FirstTokenClassifier("classifier", C, F, dropout=0.1),
    MaskedLMHead("lm", Linear("dense", C, C), LayerNorm("ln", C), Linear("head", C, V)),
    Embedding("wte", V, C),
    RelativeBias("bias", H, buckets=4, max_distance=3),
    *(MLP("mlp", C, F, activation=name, dropout=0.1) for name in ops.ACTIVATIONS),
    *(GatedMLP("mlp", C, F, activation=name, dropout=0.1, inner_dropout=0.2) for name in ops.ACTIVATIONS),
    MLP("mlp", C, F, dropout=0.1, inner_dropout=0.2),
    ATTN,
    CROSS,
    PreNormBlock(LN_1, ATTN, LN_2, FEED_FORWARD),
    PostNormBlock(LN_1, ATTN, LN_2, FEED_FORWARD),
    DecoderBlock(LN_1, ATTN, LayerNorm("ln_cross", C), CROSS, LN_2, FEED_FORWARD),
]


def shared(rng):
    """All that blocks may share."""
    rotary = tuple(table[:T] for table in ops.rotary_table(T, C // H))
    padding = np.arange(T) < rng.integers(3, T + 1, (B, 1))
    memory, memory_padding = rng.standard_normal((B, S, M)), np.arange(S) < rng.integers(3, S + 1, (B, 1))
    return Shared(padding, rng.standard_normal((1, H, T, T)), memory, memory_padding, rotary)


@pytest.mark.parametrize("layer", LAYERS_OF_ALL_KINDS, ids=lambda layer: type(layer).__name__)
def test_cache_of_a_layer_stands_in_the_order_of_its_forward(layer, rng):
    parameters = layer.parameters() or [layer.weight]
    p = Store.initialised(parameters, rng, np.float64)
    x = rng.integers(0, V, (B, T)) if isinstance(layer, Embedding) else rng.standard_normal((B, T, C))
    x = T if isinstance(layer, RelativeBias) else x  # it is given numbers of queries and keys
    given = {"rng": rng, "shared": shared(rng), "keys": S}
    given = {name: given[name] for name in inspect.signature(layer.forward).parameters if name in given}
    assert_in_order(lambda: layer.forward(p, x, **given))


def test_no_kind_of_layer_is_left_out():
    library = {owner for owner in observe.layer_classes() if owner.__module__.startswith("minigpt.layers")}
    assert {type(layer) for layer in LAYERS_OF_ALL_KINDS} == library


@pytest.mark.parametrize("spoil", [lambda cache: cache[::-1], lambda cache: cache[:-1]], ids=["reversed", "cut"])
def test_cache_out_of_order_or_with_a_part_missing_is_seen(spoil, rng):
    p = Store.initialised(FEED_FORWARD.parameters(), rng, np.float64)

    def run():
        y, cache = FEED_FORWARD.forward(p, rng.standard_normal((B, T, C)), rng)
        return y, spoil(tuple(cache))

    with pytest.raises(AssertionError):
        assert_in_order(run)
