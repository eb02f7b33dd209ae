"""The observer and every family: caches in their order, an overflow in any op by its name.

No line of the observer knows a family; a model of two stacks is seen as well.
"""

import families
import numpy as np
import pytest
from families import CAUSAL, ENCODERS, POSITIONS, VOCABULARY, encoder_batch, random_model
from observers import OpCaches, assert_in_order, assert_planted_overflows_are_named, recorded, walked
from two_stacks import TwoStacks, TwoStacksConfig

from minigpt.layers import Shared
from minigpt.models import FAMILIES
from minigpt.observe import observing

S, T, B = 7, 5, 3  # source, target, batch


@pytest.fixture
def two_stacks():
    return TwoStacks(TwoStacksConfig(VOCABULARY), seed=0)


@pytest.fixture
def batch(rng):
    ids, (inputs, targets) = rng.integers(0, VOCABULARY, (B, S)), rng.integers(0, VOCABULARY, (2, B, T))
    mask = np.arange(S) < rng.integers(3, S + 1, (B, 1))
    return {"ids": ids, "attention_mask": mask, "decoder_input_ids": inputs, "targets": targets}


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


def test_caches_of_two_stacks_stand_in_the_order_of_the_forward(two_stacks, batch, rng):
    mask = batch["attention_mask"]
    with observing(OpCaches()) as caches:
        memory, encoder = two_stacks.run(0, batch["ids"], rng, Shared(key_mask=mask))
        shared = Shared(memory=memory, memory_mask=mask)
        _, decoder = two_stacks.run(1, batch["decoder_input_ids"], rng, shared)
    met = list(walked((encoder, decoder), caches.made))
    assert len(met) == len(caches.made) > 20
    assert all(a is b for a, b in zip(met, caches.made))


@pytest.mark.parametrize("keep", ["activations", "inputs"])
def test_overflow_planted_in_any_op_of_two_stacks_is_named(two_stacks, batch, keep):
    names = assert_planted_overflows_are_named(step_of(two_stacks, batch, keep=keep))
    expected = {"attention", "linear", "rmsnorm", "dropout", "embedding", "unembedding", "gelu_tanh", "cross_entropy"}
    assert names == {f"{op}_{way}" for op in expected for way in ("forward", "backward")}


def test_places_are_those_of_two_stacks(two_stacks, batch):
    places = recorded(step_of(two_stacks, batch)).places()
    assert {"encoder.bias: embedding_forward", "encoder.0.attn: attention_forward"} <= set(places)
    assert {"decoder.1.cross: attention_backward", "decoder.1.cross.c_attn: linear_backward"} <= set(places)
    assert two_stacks.first_not_finite(batch) is None
    two_stacks.parameters["decoder.1.cross.c_attn.weight"][...] = 3e38
    assert two_stacks.first_not_finite(batch) == "decoder.1.cross.c_attn: linear_forward"
