"""What the families of one stack can't show:
cross-attention, one relative bias for a stack's layers, a padded memory.
"""

import numpy as np
import pytest
from two_stacks import TwoStacks, TwoStacksConfig

import minigpt
from minigpt.layers import Shared
from minigpt.objectives import Batch

V, S, T, B = 11, 7, 5, 3


@pytest.fixture
def model(rng):
    model = TwoStacks(TwoStacksConfig(), dtype=np.float64)
    model.store.vector[:] = 0.5 * rng.standard_normal(model.num_parameters)
    return model


@pytest.fixture
def batch(rng):
    ids, (inputs, targets) = rng.integers(0, V, (B, S)), rng.integers(0, V, (2, B, T))
    targets[0, 1] = targets[2, 3:] = -100
    mask = np.arange(S) < np.array([S, 4, 6])[:, None]
    return Batch({"ids": ids, "decoder_input_ids": inputs, "targets": targets, "attention_mask": mask})


def gradients(model, batch, keep="activations", seed=3, counts=None):
    g = model.store.zeros_like()
    loss = model.add_gradients(g, batch, rng=np.random.default_rng(seed), keep=keep, counts=counts)
    return loss, g


@pytest.mark.parametrize("keep", ["activations", "inputs"])
@pytest.mark.parametrize("dropout_seed", [None, 5])
def test_every_parameter_agrees_with_the_complex_step(model, batch, keep, dropout_seed, monkeypatch):
    """The relative biases' gradients are sums over layers and batch,
    the encoder's come through the memory.
    """
    add = TwoStacks.add_gradients
    monkeypatch.setattr(TwoStacks, "add_gradients", lambda *args, **more: add(*args, **{"keep": keep} | more))
    report = minigpt.check_gradients(model, batch, dropout_seed=dropout_seed)
    assert [row.name for row in report.rows] == list(model.parameters)
    assert report.max_error < 1e-13, report


def test_recomputed_gradients_have_the_same_bits(model, batch):
    kept, computed = (gradients(model, batch, keep)[1].vector for keep in ("activations", "inputs"))
    np.testing.assert_array_equal(computed, kept)


@pytest.mark.parametrize("shards", [2, 3])
def test_shards_add_up_to_the_whole(model, batch, shards):
    model = TwoStacks(TwoStacksConfig(dropout=0.0), store=model.store)
    loss, whole = gradients(model, batch)
    parts = [gradients(model, part, counts=batch.counts) for part in batch.split(shards)]
    assert sum(part for part, _ in parts) == pytest.approx(loss, rel=1e-14)
    total = sum(g.vector for _, g in parts)
    np.testing.assert_allclose(total, whole.vector, rtol=0, atol=1e-14 * np.abs(whole.vector).max())


def test_decoded_from_a_state_as_the_full_forward(model, batch):
    """A prompt of two tokens, then one at a time;
    the memory's keys and values are made at the first call and never again.
    """
    mask, inputs = batch["attention_mask"], batch["decoder_input_ids"]
    memory, _ = model.run(0, batch["ids"], None, Shared(key_mask=mask), keep="nothing")
    whole, _ = model.run(1, inputs, None, Shared(memory=memory, memory_mask=mask), keep="nothing")
    state, parts = model.decoding_state(B, S, T), []
    for start, stop in ((0, 2), (2, 3), (3, 4), (4, 5)):
        shared = Shared(memory=memory if start == 0 else None, memory_mask=mask)
        parts.append(model.run(1, inputs[:, start:stop], None, shared, state=state, keep="nothing")[0])
    assert state.length == T and {kv.length for kv in state.memory_kv} == {S}
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=1e-12, atol=1e-12)


def test_config_counts_without_wiring_all(model):
    assert model.num_parameters == model.config.num_parameters
    assert TwoStacksConfig(layers=10**9).num_parameters > 10**11
