"""The observer and every family: caches in their order, an overflow in any op by its name.

No line of the observer knows a family.
"""

import families
import numpy as np
import pytest
from families import CAUSAL, ENCODER_DECODERS, ENCODERS, POSITIONS, VOCABULARY, encoder_batch, pair_batch, random_model
from observers import assert_in_order, assert_planted_overflows_are_named, recorded

from minigpt.models import FAMILIES

B = 3


def step_of(model, *batch, keep="inputs"):
    """A function that computes a model's loss and gradients, with dropout."""
    return lambda: model.add_gradients(model.store.zeros_like(), *batch, rng=np.random.default_rng(0), keep=keep)


def test_no_family_is_left_out():
    assert {family.model_type for family, _ in families.FAMILIES.values()} == set(FAMILIES)


@pytest.mark.parametrize("row", CAUSAL)
def test_cache_stands_in_the_order_of_the_forward(row, rng):
    model = random_model(row, rng, dropout=0.1)
    ids, mask = rng.integers(0, VOCABULARY, (B, POSITIONS)), np.arange(POSITIONS) < 4 + np.zeros((B, 1))
    assert_in_order(lambda: model.forward(ids, rng, attention_mask=mask))


@pytest.mark.parametrize("row", CAUSAL)
def test_overflow_planted_in_any_op_is_named(row, rng):
    ids = rng.integers(0, VOCABULARY, (B, POSITIONS))
    names = assert_planted_overflows_are_named(step_of(random_model(row, rng, dropout=0.1), ids, ids))
    assert {"linear_backward", "attention_backward", "cross_entropy_forward"} <= names


@pytest.mark.parametrize("row", ENCODERS)
def test_cache_of_an_encoder_stands_in_the_order_of_the_forward(row, rng):
    model = random_model(row, rng, dropout=0.1)
    batch = encoder_batch(model, rng)
    assert_in_order(lambda: model.forward(batch["ids"], batch["attention_mask"], batch["token_type_ids"], rng))
    assert_in_order(lambda: (None, loss_caches(model, batch, rng)))


def loss_caches(model, batch, rng):
    """The caches of a loss in the order of its forward, a forward's before the loss's own."""
    _, caches, cache = model.loss_forward(batch, rng)
    return cache, tuple(caches.values())


@pytest.mark.parametrize("row", ENCODERS)
def test_overflow_planted_in_any_op_of_an_encoder_is_named(row, rng):
    model = random_model(row, rng, dropout=0.1)
    names = assert_planted_overflows_are_named(step_of(model, encoder_batch(model, rng)))
    assert {"linear_backward", "attention_backward", "cross_entropy_forward", "layernorm_backward"} <= names


@pytest.mark.parametrize("row", ENCODER_DECODERS)
def test_cache_of_two_stacks_stands_in_the_order_of_the_forward(row, rng):
    model = random_model(row, rng, dropout=0.1)
    batch = pair_batch(model, rng)
    masks = batch["attention_mask"], batch["decoder_attention_mask"]
    assert_in_order(lambda: model.forward(batch["ids"], batch["decoder_input_ids"], *masks, rng))


@pytest.mark.parametrize("row", ENCODER_DECODERS)
@pytest.mark.parametrize("keep", ["activations", "inputs"])
def test_overflow_planted_in_any_op_of_two_stacks_is_named(keep, row, rng):
    model = random_model(row, rng, dropout=0.1)
    names = assert_planted_overflows_are_named(step_of(model, pair_batch(model, rng), keep=keep))
    expected = {"attention", "linear", "rmsnorm", "dropout", "embedding", "relative_bias", "cross_entropy"}
    expected |= {"relu", "unembedding"} if row == "t5" else {"gelu_tanh", "gate"} if row == "t5 1.1" else set()
    assert names >= {f"{op}_{way}" for op in expected for way in ("forward", "backward")}


def test_places_are_those_of_two_stacks(rng):
    model = random_model("t5", rng, np.float32)
    batch = pair_batch(model, rng)
    places = recorded(step_of(model, batch)).places()
    assert {"encoder.bias: relative_bias_forward", "encoder.h.0.attn: attention_forward"} <= set(places)
    assert {"decoder.bias: relative_bias_backward", "decoder.h.1.cross: attention_backward"} <= set(places)
    assert {"decoder.h.1.cross.c_attn: linear_backward", "encoder.ln_f: rmsnorm_forward"} <= set(places)
    model.parameters["decoder.bias.weight"][0, 1] = np.inf  # of each token's own distance, in one head
    assert model.first_not_finite(batch) == "decoder.bias: weight of embedding_forward"
