"""What every model of two stacks is held to, whatever is in it: gradients, parts of a batch,
padding, decoding, files, and what it says of a batch that is none.
"""

from dataclasses import replace

import numpy as np
import pytest
from families import ENCODER_DECODERS, FAMILIES, VOCABULARY, pair_batch, random_model

import minigpt
from minigpt import MinigptError
from minigpt.models import seq2seq
from minigpt.models.encoder_decoder import shift_right
from minigpt.models.generation import DecodingState
from minigpt.objectives import Batch
from minigpt.observe import Observer, observing

B, S, T = 3, 8, 6
ROWS = list(ENCODER_DECODERS)
FIRST = [row for row in ROWS if " " not in row]  # one of each family


def every(rows=ROWS):
    return pytest.mark.parametrize("row", list(rows))


def inputs(batch):
    """What forward takes of a batch."""
    return [batch[name] for name in ("ids", "decoder_input_ids", "attention_mask", "decoder_attention_mask")]


class Products(Observer):
    """Notes the layers that computed a dweight product."""

    def __init__(self):
        self.layers = []

    def leave(self, call, outputs):
        if call.name in ("linear_backward", "unembedding_backward") and outputs[1] is not None:
            self.layers.append(call.place.partition(":")[0])


@pytest.mark.parametrize(("row", "dropout_seed"), [*((row, 3) for row in ROWS), (FIRST[0], None)])
def test_gradients_of_two_stacks(row, dropout_seed, rng):
    """The relative biases' gradients are sums over blocks and batch, the encoder's come through the
    memory. One row has several blocks of both stacks.
    """
    layers = {} if (row, dropout_seed) == (FIRST[0], 3) else {"num_layers": 1, "num_decoder_layers": 1}
    model = random_model(row, rng, dropout=0.2, **layers)
    report = minigpt.check_gradients(model, pair_batch(model, rng), dropout_seed=dropout_seed)
    assert [r.name for r in report.rows] == list(model.parameters)
    assert report.max_error < 1e-13, report


@every(FIRST)
def test_gradients_of_two_stacks_with_lean_attention(row, rng, take_lean):
    take_lean(4, 2)
    model = random_model(row, rng, dropout=0.2, num_layers=1, num_decoder_layers=1)
    report = minigpt.check_gradients(model, pair_batch(model, rng), dropout_seed=3)
    assert report.max_error < 1e-13, report


@every()
@pytest.mark.parametrize("lean", [False, True])
def test_gradients_of_recomputed_stacks_have_the_same_bits(lean, row, rng, take_lean):
    if lean:
        take_lean(4, 2)
    model = random_model(row, rng, dropout=0.2)
    batch, found = pair_batch(model, rng), []
    for keep in ("activations", "inputs"):
        g = model.store.zeros_like()
        loss = model.add_gradients(g, batch, rng=np.random.default_rng(3), keep=keep)
        logits, cache = model.forward(*inputs(batch), np.random.default_rng(4), keep=keep)
        found.append([np.array(loss), g.vector, *model.backward(np.cos(logits), cache).values()])
    for kept, computed in zip(*found, strict=True):
        np.testing.assert_array_equal(kept, computed)
    _, cache = model.forward(*inputs(batch), keep="nothing")
    assert {block for stack in (cache.encoder, cache.decoder) for block in stack.blocks} == {None}
    with pytest.raises(ValueError, match="it has no backward"):
        model.backward(logits, cache)


@every(FIRST)
def test_what_no_backward_follows_keeps_nothing_of_two_stacks(row, rng, monkeypatch):
    model, kept = random_model(row, rng), []
    batch, encode = pair_batch(model, rng), type(model).encode
    monkeypatch.setattr(
        type(model), "encode", lambda *args, keep, **more: kept.append(keep) or encode(*args, keep=keep, **more)
    )
    model.logits(*inputs(batch))
    model.loss(batch)
    model.loss_terms(batch)
    model.generate(batch["ids"], 2)
    assert kept == ["nothing"] * 4
    model.loss_and_grads(batch)
    assert kept[4:] == ["activations"]


@every(FIRST)
def test_room_for_a_target_is_doubled(row, rng, monkeypatch):
    """A token more each time would copy all before it each time."""
    sizes, make_room = [], DecodingState.make_room
    monkeypatch.setattr(seq2seq, "ROOM", 3)
    monkeypatch.setattr(DecodingState, "make_room", lambda self, size: sizes.append(size) or make_room(self, size))
    model = random_model(row, rng)
    kept, computed = (
        model.generate(rng.integers(0, VOCABULARY, (B, S)), 20, stop=[], seed=1, use_cache=use_cache)
        for rng, use_cache in ((np.random.default_rng(2), True), (np.random.default_rng(2), False))
    )
    np.testing.assert_array_equal(kept, computed)
    assert sizes == [6, 12, 24]


@every(FIRST)
def test_several_texts_of_a_source_are_drawn_apart(row, rng):
    model, ids = random_model(row, rng), rng.integers(0, VOCABULARY, (B, S))
    found = model.generate(ids, 6, stop=[], seed=1, num_return_sequences=2)
    np.testing.assert_array_equal(found, model.generate(ids.repeat(2, axis=0), 6, stop=[], seed=1))
    assert found.shape == (2 * B, 7) and (found[::2] != found[1::2]).any(axis=1).all()


@every(FIRST)
def test_repetition_penalty_counts_what_was_written(row, rng):
    model, ids = random_model(row, rng), rng.integers(0, VOCABULARY, (1, S))
    target = [model.config.decoder_start_token_id]
    for _ in range(6):
        logits = model.logits(ids, [target])[0, -1]
        for token in set(target):
            logits[token] = logits[token] / 1.5 if logits[token] > 0 else logits[token] * 1.5
        target.append(int(logits.argmax()))
    assert model.generate(ids, 6, temperature=0, stop=[], repetition_penalty=1.5)[0].tolist() == target
    assert model.generate(ids, 6, temperature=0, stop=[])[0].tolist() != target


@every()
def test_loss_of_two_stacks_is_the_mean_of_what_forward_gives(row, rng):
    model = random_model(row, rng)
    batch = pair_batch(model, rng)
    logits, cache = model.forward(*inputs(batch))
    np.testing.assert_array_equal(model.logits(*inputs(batch)), logits)
    p, counted = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), batch["targets"] != -100
    index = (*np.nonzero(counted), batch["targets"][counted])
    loss, grads = model.loss_and_grads(batch)
    assert loss == model.loss(batch) == pytest.approx(-np.log(p[index]).mean(), rel=1e-12)
    assert model.loss_terms(batch) == {"targets": loss}
    dlogits = np.where(counted[..., None], p, 0)
    dlogits[index] -= 1
    largest = max(np.abs(value).max() for value in grads.values())
    for name, value in model.backward(dlogits / counted.sum(), cache).items():
        np.testing.assert_allclose(grads[name], value, rtol=1e-10, atol=1e-13 * largest, err_msg=name)


@every()
def test_parts_of_two_stacks_batch_add_up_to_the_whole(row, rng):
    model = random_model(row, rng)
    batch = {**pair_batch(model, rng)}
    batch["targets"] = batch["targets"].copy()
    batch["targets"][0] = -100  # the first part has none that counts
    batch = Batch(batch)
    loss, grads = model.loss_and_grads(batch)
    g, parts = model.store.zeros_like(), batch.split(B)
    assert parts[0].counts == {"targets": 0}
    total = sum(model.add_gradients(g, part, counts=batch.counts) for part in parts)
    assert total == pytest.approx(loss, rel=1e-13)
    assert sum(model.loss_terms(part, counts=batch.counts)["targets"] for part in parts) == pytest.approx(loss, 1e-13)
    largest = max(np.abs(value).max() for value in grads.values())
    for name, value in grads.items():
        np.testing.assert_allclose(g[name], value, rtol=0, atol=1e-12 * largest, err_msg=name)


@every()
def test_gradients_of_chosen_parameters_of_two_stacks_are_those_of_all(row, rng):
    model = random_model(row, rng)
    batch = pair_batch(model, rng)
    loss, grads = model.loss_and_grads(batch, rng=None)
    for name in grads:
        again, only = model.loss_and_grads(batch, only=[name])
        assert list(only) == [name] and again == loss
        np.testing.assert_array_equal(only[name], grads[name])


@every()
def test_no_dweight_product_is_computed_for_parameters_of_two_stacks_that_are_not_chosen(row, rng):
    model = random_model(row, rng)
    batch = pair_batch(model, rng)
    weights = [name for name, p in model.store.parameters.items() if p.role in ("hidden", "head")]
    for only in (weights, weights[-1:], weights[:1], ["encoder.bias.weight"], []):
        products = Products()
        with observing(products):
            model.loss_and_grads(batch, only=only)
        expected = [name.removesuffix(".weight") for name in only if name in weights]
        assert sorted(products.layers) == sorted(expected)


@every()
def test_where_numbers_of_two_stacks_go_wrong_is_told(row, rng):
    model = random_model(row, rng, np.float32, dropout=0.2)
    batch = pair_batch(model, rng)
    assert model.first_not_finite(batch, rng=np.random.default_rng(1), counts=batch.counts) is None
    model.parameters["decoder.h.1.cross.c_attn.weight"][...] = 3e38
    assert model.first_not_finite(batch) == "decoder.h.1.cross.c_attn: linear_forward"


@every()
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_of_either_text_changes_nothing(side, row, rng):
    """Whatever tokens it has."""
    model = random_model(row, rng)
    batch = pair_batch(model, rng)
    ids, decoder_ids = batch["ids"], batch["decoder_input_ids"]
    logits, loss = model.logits(ids, decoder_ids), model.loss(
        {"ids": ids, "decoder_input_ids": decoder_ids, "targets": batch["targets"]}
    )  # fmt: skip
    width = (2, 0) if side == "left" else (0, 2)
    pad = lambda x, value: np.pad(x, ((0, 0), width), constant_values=value)  # noqa: E731
    for more_source, more_target in ((True, False), (False, True), (True, True)):
        source, mask = (pad(ids, 5), pad(np.ones((B, S)), 0)) if more_source else (ids, None)
        padded = (pad(decoder_ids, 6), pad(np.ones((B, T)), 0)) if more_target else (decoder_ids, None)
        cut = slice(width[0], width[0] + T) if more_target else slice(None)
        again = model.logits(source, padded[0], mask, padded[1])[:, cut]
        np.testing.assert_allclose(again, logits, rtol=1e-10, atol=1e-12)
        targets = pad(batch["targets"], -100) if more_target else batch["targets"]
        arrays = {"ids": source, "attention_mask": mask, "decoder_input_ids": padded[0], "targets": targets}
        assert model.loss(arrays | {"decoder_attention_mask": padded[1]}) == pytest.approx(loss, rel=1e-12)


@every(FIRST)
@pytest.mark.parametrize("name", ["attention_mask", "decoder_attention_mask"])
def test_a_row_of_padding_alone_gives_zeros_and_no_gradient(name, row, rng):
    model = random_model(row, rng)
    batch = {**pair_batch(model, rng)}
    batch[name] = batch[name].copy()
    batch[name][1] = 0
    logits, cache = model.forward(*inputs(batch))
    assert not logits[1].any() and logits[0].any() and logits[2].any()
    dlogits = rng.standard_normal(logits.shape)
    before = dlogits.copy()
    grads = model.backward(dlogits, cache)
    np.testing.assert_array_equal(dlogits, before)
    _, rest = model.forward(*(x[[0, 2]] for x in inputs(batch)))
    for parameter, value in model.backward(dlogits[[0, 2]], rest).items():
        np.testing.assert_allclose(grads[parameter], value, rtol=1e-10, atol=1e-12, err_msg=parameter)
    for call in (model.loss, model.loss_and_grads):
        with pytest.raises(MinigptError, match=f"{name}: row 1 is padding alone, a loss needs at least 1 token"):
            call(batch)
    assert model.astype(np.float32).logits(*inputs(batch)).dtype == np.float32


@every()
def test_no_token_of_the_target_sees_a_later_one_and_each_sees_the_whole_source(row, rng):
    model = random_model(row, rng)
    ids, decoder_ids = rng.integers(0, VOCABULARY, (B, S)), rng.integers(0, VOCABULARY, (B, T))
    logits, changed = model.logits(ids, decoder_ids), decoder_ids.copy()
    changed[:, 3:] = (changed[:, 3:] + 1) % VOCABULARY
    after = model.logits(ids, changed)
    np.testing.assert_array_equal(logits[:, :3], after[:, :3])
    assert (logits[:, 3:] != after[:, 3:]).any(axis=(0, 2)).all()
    for place in range(S):
        changed = ids.copy()
        changed[:, place] = (changed[:, place] + 1) % VOCABULARY
        assert (model.logits(changed, decoder_ids) != logits).any(axis=(0, 2)).all()


@every()
@pytest.mark.parametrize("padded", [False, True])
def test_a_target_written_from_a_state_is_that_of_the_full_forward(padded, row, rng):
    """Two tokens, then one at a time; the memory's keys and values are made at the first call and
    never again.
    """
    model = random_model(row, rng)
    batch = pair_batch(model, rng)
    mask = batch["attention_mask"].astype(bool) if padded else None
    seen = np.arange(T) >= np.array([0, 2, 1])[:, None] if padded else None
    logits = model.logits(batch["ids"], batch["decoder_input_ids"], mask, seen)
    memory, _ = model.encode(batch["ids"], mask, keep="nothing")
    state = model.decoding_state(B, S, T)
    for start, stop in ((0, 2), (2, 3), (3, 4), (4, T)):
        more = {"memory_mask": mask, "key_mask": seen[:, :stop] if padded else None}
        ids = batch["decoder_input_ids"][:, :stop]
        for found in (
            model.next_logits(ids[:, start:], state, memory=memory if start == 0 else None, **more),
            model.next_logits(ids, memory=memory, **more),
        ):
            np.testing.assert_allclose(found, logits[:, stop - 1], rtol=1e-11, atol=1e-12)
    assert state.length == T and {kv.length for kv in state.memory_kv} == {S}
    assert {kv.keys.shape[2] for kv in state.kv} == {T} and {kv.keys.dtype for kv in state.kv} == {np.dtype(float)}
    state.forget()
    again = model.next_logits(batch["decoder_input_ids"], state, memory_mask=mask, key_mask=seen)
    np.testing.assert_allclose(again, logits[:, -1], rtol=1e-11, atol=1e-12)


@every(FIRST)
def test_a_decoder_without_a_memory_is_refused(row, rng):
    model = random_model(row, rng, num_decoder_layers=1)
    ids = rng.integers(0, VOCABULARY, (B, T))
    for state in (None, model.decoding_state(B, S, T)):
        with pytest.raises(MinigptError, match="memory is missing: a decoder reads what encode makes of the source"):
            model.next_logits(ids, state)
    with pytest.raises(MinigptError, match="ids are missing: a decoder reads what the encoder makes of them"):
        model.forward(None, ids)
    with pytest.raises(MinigptError, match="decoder_input_ids are missing: the target so far, its first id the start"):
        model.forward(ids, None)
    with pytest.raises(MinigptError, match="batch: ids is missing"):
        model.loss({"targets": ids})


@every(ROWS[:2])
def test_decoder_inputs_are_the_targets_moved_to_the_right_unless_given(row, rng):
    model = random_model(row, rng)
    start, pad = model.config.decoder_start_token_id, model.config.pad_token_id
    targets = np.array([[4, 5, -100, -100], [6, -100, 7, 8]])
    moved = np.array([[start, 4, 5, pad], [start, 6, pad, 7]])
    np.testing.assert_array_equal(shift_right(targets, start, pad), moved)
    assert targets[0, 3] == -100
    batch = {"ids": rng.integers(0, VOCABULARY, (2, S)), "targets": targets}
    expected = model.loss(batch | {"decoder_input_ids": moved})
    assert model.loss(batch) == expected == model.loss(Batch(batch))
    loss, grads = model.loss_and_grads(batch)
    again, same = model.loss_and_grads(batch | {"decoder_input_ids": moved.tolist()})
    assert loss == again == expected
    for name, value in grads.items():
        np.testing.assert_array_equal(same[name], value)


@every(FIRST)
def test_a_gradient_of_another_shape_than_the_targets_logits_is_refused(row, rng):
    model = random_model(row, rng)
    logits, cache = model.forward(*inputs(pair_batch(model, rng)))
    for wrong in (logits.swapaxes(0, 1), logits[:, :-1], logits.reshape(-1, VOCABULARY)):
        with pytest.raises(MinigptError, match=r"dlogits: shape is .* that of the logits, \(3, 6, 'V'\)"):
            model.backward(wrong, cache)
    grads = model.backward(logits.tolist(), cache)
    for name, expected in model.backward(logits, cache).items():
        np.testing.assert_array_equal(grads[name], expected)


@every()
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_saved_model_of_two_stacks_is_loaded(dtype, row, tmp_path, rng):
    model = random_model(row, rng, dtype)
    model.save(tmp_path)
    again = minigpt.load(tmp_path)
    assert type(again) is type(model) and again.config == model.config and again.dtype == dtype
    np.testing.assert_array_equal(again.store.vector, model.store.vector)


@every()
def test_two_stacks_in_float32_are_near_float64(row, rng):
    model = random_model(row, rng, np.float32)
    batch = pair_batch(model, rng)
    loss, low = model.loss_and_grads(batch)
    _, high = model.astype(np.float64).loss_and_grads(batch)
    assert loss.dtype == np.float32 and {value.dtype for value in low.values()} == {np.dtype(np.float32)}
    assert model.logits(*inputs(batch)).dtype == np.float32
    largest = max(np.abs(value).max() for value in high.values())
    for name, value in high.items():
        assert np.abs(low[name] - value).max() < 2e-4 * max(np.abs(value).max(), 1e-2 * largest), name


@every()
def test_a_config_of_two_stacks_counts_its_parameters(row, rng):
    model = random_model(row, rng)
    assert model.config.num_parameters == model.num_parameters == sum(v.size for v in model.parameters.values())
    family, config = FAMILIES[row]
    for name in ("num_layers", "num_decoder_layers"):
        with pytest.raises(MinigptError, match="of memory"):
            family(replace(config, **{name: 10**9}))


@every(FIRST)
def test_a_random_batch_suits_two_stacks(row, rng):
    model = random_model(row, rng)
    batch = model.random_batch(rng, 3, 9)
    shapes = {"ids": (3, 9), "attention_mask": (3, 9), "targets": (3, 6)}
    assert {name: x.shape for name, x in batch.items()} == shapes
    np.testing.assert_array_equal(batch["attention_mask"], [[1] * 5 + [0] * 4, [1] * 9, [1] * 9])
    np.testing.assert_array_equal(batch["targets"] == -100, [[False] * 4 + [True] * 2, [False] * 6, [False] * 6])
    longer = model.random_batch(rng, 2, 12)["targets"]
    np.testing.assert_array_equal(longer == -100, [[False] * 5 + [True] * 4, [False] * 9])
    assert np.isfinite(model.loss(batch)) and model.random_batch(rng)["ids"].shape == (2, 16)
    assert model.random_batch(rng, 2, 1)["targets"].shape == (2, 1) and model.loss(model.random_batch(rng, 2, 1)) > 0
    many = model.random_batch(rng, 300)
    assert set(many["ids"].flat) == set(range(VOCABULARY)) and set(many["targets"].flat) == {-100, *range(VOCABULARY)}


WRONG = [  # changes to a batch, message
    ({"targets": None}, "batch: targets is missing"),
    ({"labels": np.zeros(B, int)}, "batch: 'labels' is not read by this model, it takes ids, targets, attention_mask,"),
    ({"targets": [[-100] * T] * B}, "targets: all 18 are -100 .ignored., at least 1 must count"),
    ({"targets": [[11] * T] * B}, r"targets: value 11 at \(0, 0\) is out of range, it must be 0 to 10, or -100"),
    ({"targets": np.zeros((B, T))}, "targets: dtype is float64, they must be integers"),
    ({"targets": np.zeros(B, int)}, r"targets: shape is \(3,\), it must be \(batch, time\) with at least one of each"),
    ({"targets": np.zeros((B, 0), int)}, r"targets: shape is \(3, 0\), it must be \(batch, time\) with at least one"),
    ({"targets": np.zeros((2, T), int)}, "targets: 2 rows, ids have 3"),
    ({"targets": [[1, 2], [3], [4]]}, "targets: the rows have unequal lengths"),
    ({"targets": np.zeros((B, T - 1), int)}, r"decoder_input_ids: shape is \(3, 6\), that of targets is \(3, 5\)"),
    ({"decoder_input_ids": np.full((B, T), 11)}, r"decoder_input_ids: value 11 at \(0, 0\) is out of range"),
    ({"decoder_input_ids": np.full((B, T), -100)}, r"decoder_input_ids: value -100 at \(0, 0\) is out of range"),
    ({"decoder_input_ids": np.zeros((B, T))}, "decoder_input_ids: dtype is float64, token ids must be integers"),
    ({"decoder_input_ids": np.zeros((4, T), int)}, "decoder_input_ids: 4 rows, ids have 3"),
    ({"ids": np.full((B, S), 11)}, "ids: value 11 at"),
    ({"ids": np.zeros((B, 0), int)}, r"ids: shape is \(3, 0\)"),
    ({"attention_mask": np.ones((B, S + 1))}, r"attention_mask: shape is \(3, 9\), that of ids is \(3, 8\)"),
    (
        {"decoder_attention_mask": np.ones((B, S))},
        r"decoder_attention_mask: shape is \(3, 8\), that of decoder_input_ids is \(3, 6\)",
    ),
    ({"attention_mask": np.full((B, S), -1e4)}, r"attention_mask: value -10000.0 at \(0, 0\), it must be 0 at padding"),
    ({"decoder_attention_mask": np.full((B, T), 2)}, r"decoder_attention_mask: value 2 at \(0, 0\), it must be 0 at"),
]


@every(FIRST)
@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_what_is_no_batch_of_two_stacks_is_refused(row, changes, message, rng):
    model = random_model(row, rng)
    batch = {**pair_batch(model, rng), **changes}
    for call in (model.loss, model.loss_and_grads, model.loss_terms):
        with pytest.raises(MinigptError, match=message):
            call({name: value for name, value in batch.items() if value is not None})


@every(FIRST)
def test_other_arguments_of_two_stacks_that_are_none_are_refused(row, rng):
    model = random_model(row, rng)
    batch = pair_batch(model, rng)
    with pytest.raises(MinigptError, match="targets: a batch of named arrays holds its own"):
        model.add_gradients(model.store.zeros_like(), batch, batch["targets"])
    loss, grads = model.loss_and_grads(batch, None, ["wte.weight"])
    assert loss == model.loss(batch) and list(grads) == ["wte.weight"]
    with pytest.raises(MinigptError, match=r"batch is .*, it must be a mapping of named arrays"):
        model.loss(batch["ids"])
    with pytest.raises(MinigptError, match="counts: targets is missing"):
        model.loss(batch, counts={})
    with pytest.raises(MinigptError, match=r"counts\['targets'\] is 0, it must be a whole number of at least 1"):
        model.loss(batch, counts={"targets": 0})
    for call in (model.loss, model.loss_and_grads):
        with pytest.raises(MinigptError, match="rng is 3, it must be a numpy Generator"):
            call(batch, rng=3)
    with pytest.raises(MinigptError, match="rng is 3"):
        model.forward(*inputs(batch), rng=3)
    with pytest.raises(MinigptError, match=r"ids: value .* is out of range"):
        model.logits(batch["ids"] + VOCABULARY, batch["decoder_input_ids"])
    with pytest.raises(MinigptError, match="decoder_input_ids: 1 rows, ids have 3"):
        model.logits(batch["ids"], batch["decoder_input_ids"][:1])
    dropped = random_model(row, rng, dropout=0.4)
    losses = [dropped.loss(batch, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2] != dropped.loss(batch)


@every(FIRST)
def test_what_is_written_unless_told(row, rng):
    """A hundred tokens at most, drawn as they are likely, with seed 0, up to the end."""
    model, ids = random_model(row, rng), rng.integers(0, VOCABULARY, (2, S))
    plain = {"temperature": 1.0, "seed": 0, "repetition_penalty": 1.0}
    assert model.generate(ids, stop=[]).shape == (2, 101) and len(list(model.stream(ids, stop=[]))) == 100
    np.testing.assert_array_equal(model.generate(ids, stop=[]), model.generate(ids, 100, stop=[], **plain))
    np.testing.assert_array_equal(model.generate(ids, stop=[])[:, 1:], np.array(list(model.stream(ids, stop=[]))).T)
    np.testing.assert_array_equal(model.generate(ids), model.generate(ids, stop=model.config.eos_token_id, num_beams=1))
    for chosen in ({"top_k": 3}, {"top_p": 0.6}):
        steps = list(model.stream(ids, 20, stop=[], **chosen))
        np.testing.assert_array_equal(model.generate(ids, 20, stop=[], **chosen)[:, 1:], np.array(steps).T)


@every(FIRST)
def test_beams_of_two_stacks_unless_told(row):
    """On texts for which each of the settings matters."""
    rng = np.random.default_rng(13)
    model, ids = random_model(row, rng), rng.integers(0, VOCABULARY, (6, S))
    settings = {"length_penalty": 1.0, "early_stopping": False, "repetition_penalty": 1.0, "num_return_sequences": 1}
    found = model.generate(ids, 12, num_beams=4)
    np.testing.assert_array_equal(found, model.generate(ids, 12, num_beams=4, **settings))
    for name, other in (("length_penalty", 2.0), ("early_stopping", True), ("repetition_penalty", 2.0)):
        assert not np.array_equal(found, model.generate(ids, 12, num_beams=4, **settings | {name: other})), name


@every(FIRST)
def test_texts_are_written_with_a_cache_unless_told(row, rng, monkeypatch):
    model, ids = random_model(row, rng), rng.integers(0, VOCABULARY, (2, S))
    monkeypatch.setattr(seq2seq, "UncachedTarget", None)  # which nothing calls
    assert len(model.generate(ids, 3)) == 2 and len(list(model.stream(ids, 3, stop=[]))) == 3
    for call in (model.generate, lambda *args, **more: list(model.stream(*args, **more))):
        with pytest.raises(TypeError):
            call(ids, 3, use_cache=False)


@every(FIRST)
def test_ids_and_targets_of_any_integers(row, rng):
    """Unsigned ones of 64 bits, which NumPy joins with others to floats; and of 8, where the start
    and padding tokens are ids that these do not reach.
    """
    model, ids = random_model(row, rng), rng.integers(0, VOCABULARY, (2, S))
    for settings in ({"temperature": 0}, {"num_beams": 3}):
        expected = model.generate(ids, 5, **settings)
        for dtype in (np.uint64, np.int8):
            np.testing.assert_array_equal(model.generate(ids.astype(dtype), 5, **settings), expected)
    large = random_model(row, rng, vocab_size=400, pad_token_id=301, decoder_start_token_id=302)
    targets = rng.integers(0, 100, (2, 4))
    targets[1, 1] = -100
    expected = large.loss({"ids": ids, "targets": targets})
    assert large.loss({"ids": ids, "targets": targets.astype(np.int8)}) == expected
    assert shift_right(targets.astype(np.int8), 302, 301).tolist()[1][:3] == [302, targets[1, 0], 301]


@every(FIRST)
def test_sources_that_are_nested_unevenly(row, rng):
    with pytest.raises(MinigptError, match="the rows have unequal lengths"):
        random_model(row, rng).generate([[3], [4, [5]]], 2)
