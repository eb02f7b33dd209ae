"""What every encoder is held to, whatever is in it and whatever stands on it: gradients, parts of a
batch, padding, files, and what it says of a batch that is none.
"""

from dataclasses import replace

import numpy as np
import pytest
from families import ENCODERS, POSITIONS, VOCABULARY, encoder_batch, random_model

import minigpt
from minigpt import EncoderOutput, MinigptError
from minigpt.models.encoder import HEADS, OUTPUTS
from minigpt.observe import Observer, observing

B, T, C = 3, 8, 6
FIRST = [row for row in ENCODERS if " " not in row]  # one of each family


def every(rows=ENCODERS):
    return pytest.mark.parametrize("row", list(rows))


class Products(Observer):
    """Notes the layers that computed a dweight product."""

    def __init__(self):
        self.layers = []

    def leave(self, call, outputs):
        if call.name in ("linear_backward", "unembedding_backward") and outputs[1] is not None:
            self.layers.append(call.place.partition(":")[0])


def inputs(batch):
    """What forward takes of a batch."""
    return batch["ids"], batch["attention_mask"], batch["token_type_ids"]


def zero_in_theory(model):
    """Parameters that add the same number to the logits of all tokens as the start or the end of an
    answer: the softmax over them does not change. What the complex step finds is rounding, which
    1e-3 of the other gradients is not always large enough to measure against.
    """
    last = model.config.num_hidden_layers - 1
    return {"spans.bias", f"h.{last}.ln_2.bias"} if model.config.head == "question_answering" else set()


@pytest.mark.parametrize(("row", "dropout_seed"), [*((row, 3) for row in ENCODERS), (FIRST[0], None)])
def test_gradients_of_encoders(row, dropout_seed):
    rng = np.random.default_rng(2)  # of the fixture's numbers, a LayerNorm of six channels has nearly equal ones
    model = random_model(row, rng, dropout=0.2, num_hidden_layers=2 if row in FIRST else 1)
    report = minigpt.check_gradients(model, encoder_batch(model, rng), dropout_seed=dropout_seed)
    assert [r.name for r in report.rows] == list(model.parameters)
    zero = zero_in_theory(model)
    assert max(r.error for r in report.rows if r.name not in zero) < 1e-13, report
    assert max((r.norm for r in report.rows if r.name in zero), default=0) < 1e-15, report


@every(FIRST[:1])
def test_gradients_of_encoders_with_lean_attention(row, rng, take_lean):
    take_lean(4, 2)
    model = random_model(row, rng, dropout=0.2)
    report = minigpt.check_gradients(model, encoder_batch(model, rng), dropout_seed=3)
    assert max(r.error for r in report.rows if r.name not in zero_in_theory(model)) < 1e-13, report


@every()
def test_gradients_of_a_recomputed_encoder_have_the_same_bits(row, rng):
    model = random_model(row, rng, dropout=0.2)
    batch, found = encoder_batch(model, rng), []
    for keep in ("activations", "inputs"):
        g = model.store.zeros_like()
        loss = model.add_gradients(g, batch, rng=np.random.default_rng(3), keep=keep)
        out, cache = model.forward(*inputs(batch), np.random.default_rng(4), keep=keep)
        dout = EncoderOutput(*(None if x is None else np.cos(x) for x in out))
        found.append([np.array(loss), g.vector, *model.backward(dout, cache).values()])
    for kept, computed in zip(*found, strict=True):
        np.testing.assert_array_equal(kept, computed)


@every()
def test_loss_is_the_mean_of_what_forward_gives(row, rng):
    """Its head runs at the tokens with a target alone, forward's at all: the same numbers."""
    model = random_model(row, rng)
    batch = encoder_batch(model, rng)
    out, cache = model.forward(*inputs(batch))
    terms, dout = {}, {}
    for name in HEADS[model.config.head]:
        logits, counted = getattr(out, OUTPUTS[name]), batch[name] != -100
        p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        index = (*np.nonzero(counted), batch[name][counted])
        share = counted.sum() * (2 if name in ("starts", "ends") else 1)
        terms[name] = -np.log(p[index]).sum() / share
        dlogits = np.where(counted[..., None], p, 0)
        dlogits[index] -= 1
        dout[OUTPUTS[name]] = dlogits / share
    found = model.loss_terms(batch)
    assert list(found) == list(terms) and found == pytest.approx(terms, rel=1e-12)
    loss, grads = model.loss_and_grads(batch)
    assert loss == model.loss(batch) == pytest.approx(sum(terms.values()), rel=1e-12)
    largest = max(np.abs(value).max() for value in grads.values())
    for name, value in model.backward(EncoderOutput(**dout), cache).items():
        np.testing.assert_allclose(grads[name], value, rtol=1e-10, atol=1e-13 * largest, err_msg=name)


@every()
def test_parts_of_an_encoders_batch_add_up_to_the_whole(row, rng):
    """The first part of three has no target that counts."""
    model = random_model(row, rng)
    batch = encoder_batch(model, rng)
    loss, grads = model.loss_and_grads(batch)
    g = model.store.zeros_like()
    parts = batch.split(B)
    assert set(parts[0].counts.values()) == {0}
    total = sum(model.add_gradients(g, part, counts=batch.counts) for part in parts)
    assert total == pytest.approx(loss, rel=1e-13)
    assert sum(model.loss(part, counts=batch.counts) for part in parts) == pytest.approx(loss, rel=1e-13)
    largest = max(np.abs(value).max() for value in grads.values())
    for name, value in grads.items():
        np.testing.assert_allclose(g[name], value, rtol=0, atol=1e-12 * largest, err_msg=name)


@every()
def test_gradients_of_chosen_parameters_of_an_encoder_are_those_of_all(row, rng):
    model = random_model(row, rng)
    batch = encoder_batch(model, rng)
    loss, grads = model.loss_and_grads(batch, rng=None)
    for name in grads:
        again, only = model.loss_and_grads(batch, only=[name])
        assert list(only) == [name] and again == loss
        np.testing.assert_array_equal(only[name], grads[name])


@every()
def test_no_dweight_product_is_computed_for_an_encoders_parameters_that_are_not_chosen(row, rng):
    model = random_model(row, rng)
    batch = encoder_batch(model, rng)
    weights = [name for name, p in model.store.parameters.items() if p.role in ("hidden", "head")]
    for only in (weights, weights[-1:], [name for name in model.parameters if name.endswith("bias")], []):
        products = Products()
        with observing(products):
            model.loss_and_grads(batch, only=only)
        expected = [name.removesuffix(".weight") for name in only if name in weights]
        assert sorted(products.layers) == sorted(expected)


@every()
def test_where_an_encoders_numbers_go_wrong_is_told(row, rng):
    model = random_model(row, rng, np.float32, dropout=0.2)
    batch = encoder_batch(model, rng)
    assert model.first_not_finite(batch, rng=np.random.default_rng(1), counts=batch.counts) is None
    model.parameters["h.1.mlp.c_fc.weight"][...] = 3e38
    assert model.first_not_finite(batch) == "h.1.mlp.c_fc: linear_forward"


@every()
def test_padding_changes_nothing_for_an_encoder(row, rng):
    """At the right of BERT's texts, at either side of RoBERTa's, with any ids for BERT's."""
    model = random_model(row, rng)
    ids = rng.integers(2, VOCABULARY, (B, T))
    types = rng.integers(0, model.config.type_vocab_size, (B, T))
    out, _ = model.forward(ids, token_type_ids=types)
    for side in ("right", "left") if model.model_type == "roberta" else ("right",):
        shape = (0, 1) if side == "right" else (1, 0)
        padded, wide = (np.pad(x, ((0, 0), shape), constant_values=c) for x, c in ((ids, 1), (types, 0)))
        mask = np.pad(np.ones((B, T)), ((0, 0), shape))
        again, _ = model.forward(padded, mask, wide)
        cut = slice(0, T) if side == "right" else slice(1, None)
        for name, value in out._asdict().items():
            if value is not None:
                found = getattr(again, name)
                if side == "left" and (name == "pooled" or (name == "logits" and value.ndim == 2)):
                    continue  # they are of the first token, whatever it is
                found = found[:, cut] if found.ndim > 1 and found.shape[1] == T + 1 else found
                np.testing.assert_allclose(found, value, rtol=1e-10, atol=1e-12, err_msg=name)


@every()
def test_a_text_of_padding_alone_gives_zeros_and_no_gradient(row, rng):
    model = random_model(row, rng)
    batch = encoder_batch(model, rng)
    ids, mask, types = inputs(batch)
    mask = mask.copy()
    mask[1] = 0
    out, cache = model.forward(ids, mask, types)
    for value in out:
        if value is not None:
            assert not value[1].any() and value[0].any() and value[2].any()
    dout = EncoderOutput(*(None if x is None else rng.standard_normal(x.shape) for x in out))
    before = EncoderOutput(*(None if x is None else x.copy() for x in dout))
    grads = model.backward(dout, cache)
    rest = model.forward(*(x[[0, 2]] for x in (ids, mask, types)))[1]
    expected = model.backward(EncoderOutput(*(None if x is None else x[[0, 2]] for x in dout)), rest)
    for name, value in expected.items():
        np.testing.assert_allclose(grads[name], value, rtol=1e-10, atol=1e-12, err_msg=name)
    for a, b in zip(dout, before):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(MinigptError, match="attention_mask: row 1 is padding alone, a loss needs at least 1 token"):
        model.loss({**batch, "attention_mask": mask})


@every()
def test_a_part_of_the_gradients_is_enough(row, rng):
    """None stands for zeros; a gradient of another shape or of another head's output is refused."""
    model = random_model(row, rng)
    out, cache = model.forward(*inputs(encoder_batch(model, rng)))
    given = {name: rng.standard_normal(x.shape) for name, x in out._asdict().items() if x is not None}
    assert {"hidden", *(OUTPUTS[name] for name in HEADS[model.config.head])} <= given.keys()
    whole, sums = model.backward(EncoderOutput(**given), cache), model.store.zeros_like()
    for name, value in given.items():
        for parameter, gradient in model.backward(EncoderOutput(**{name: value.tolist()}), cache).items():
            sums[parameter] += gradient
        with pytest.raises(MinigptError, match=rf"dout.{name}: shape is .*, it must be that of the output, \(3, "):
            model.backward(EncoderOutput(**{name: value[:, :-1]}), cache)
    for name, value in whole.items():
        np.testing.assert_allclose(sums[name], value, rtol=1e-10, atol=1e-12, err_msg=name)
    for name in set(EncoderOutput._fields) - given.keys():
        with pytest.raises(MinigptError, match=f"dout: a gradient of {name}, which a model with head .* does not give"):
            model.backward(EncoderOutput(**{name: np.ones((B, T))}), cache)
    assert not any(value.any() for value in model.backward(EncoderOutput(), cache).values())


@every()
def test_what_is_written_into_outputs_changes_no_gradient(row, rng):
    model = random_model(row, rng)
    out, cache = model.forward(*inputs(encoder_batch(model, rng)))
    dout = EncoderOutput(*(None if x is None else rng.standard_normal(x.shape) for x in out))
    before = model.backward(dout, cache)
    for value in out:
        if value is not None:
            value[...] = 9
    for name, value in model.backward(dout, cache).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


@every(FIRST)
def test_a_model_without_a_head_gives_hidden_states_and_pooled(row, rng):
    model = random_model(row, rng, head=None)
    batch = encoder_batch(model, rng)
    out, cache = model.forward(*inputs(batch))
    assert [name for name, x in out._asdict().items() if x is not None] == ["hidden", "pooled"]
    with_head = random_model(row, rng)
    for name in model.parameters.keys() & with_head.parameters.keys():
        with_head.parameters[name][...] = model.parameters[name]
    np.testing.assert_array_equal(with_head.forward(*inputs(batch))[0].hidden, out.hidden)
    p = model.parameters
    pooled = np.tanh(out.hidden[:, 0] @ p["pooler.weight"] + p["pooler.bias"])
    np.testing.assert_allclose(out.pooled, pooled, rtol=1e-13, atol=1e-14)
    with pytest.raises(MinigptError, match="head is None: the model gives hidden states and has no loss"):
        model.loss(batch)
    v = {name: rng.standard_normal(x.shape) for name, x in model.parameters.items()}
    dout = EncoderOutput(hidden=rng.standard_normal(out.hidden.shape), pooled=rng.standard_normal(out.pooled.shape))
    stepped = model.astype(np.complex128)
    for name, value in v.items():
        stepped.parameters[name] += 1e-30j * value
    moved = stepped.forward(*inputs(batch))[0]
    slope = sum((getattr(moved, name).imag / 1e-30 * getattr(dout, name)).sum() for name in ("hidden", "pooled"))
    assert sum((g * v[name]).sum() for name, g in model.backward(dout, cache).items()) == pytest.approx(
        slope, rel=1e-12
    )


@every()
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_saved_encoder_is_loaded(dtype, row, tmp_path, rng):
    model = random_model(row, rng, dtype)
    model.save(tmp_path)
    again = minigpt.load(tmp_path)
    assert type(again) is type(model) and again.config == model.config and again.dtype == dtype
    np.testing.assert_array_equal(again.store.vector, model.store.vector)


@every()
def test_an_encoder_in_float32_is_near_float64(row, rng):
    model = random_model(row, rng, np.float32)
    batch = encoder_batch(model, rng)
    loss, low = model.loss_and_grads(batch)
    _, high = model.astype(np.float64).loss_and_grads(batch)
    assert loss.dtype == np.float32 and {value.dtype for value in low.values()} == {np.dtype(np.float32)}
    assert {x.dtype for x in model.forward(*inputs(batch))[0] if x is not None} == {np.dtype(np.float32)}
    largest = max(np.abs(value).max() for value in high.values())
    for name, value in high.items():
        assert np.abs(low[name] - value).max() < 2e-4 * max(np.abs(value).max(), 1e-2 * largest), name


@every()
def test_an_encoders_config_counts_its_parameters(row, rng):
    model = random_model(row, rng)
    assert model.config.num_parameters == model.num_parameters == sum(v.size for v in model.parameters.values())


@every()
def test_a_billion_layers_of_an_encoder_are_counted_and_refused(row):
    family, config = ENCODERS[row]
    with pytest.raises(MinigptError, match="of memory"):
        family(replace(config, num_hidden_layers=10**9))


@every()
def test_encoders_start_as_documented(row):
    """normal(0, 0.02) for every matrix, norms at 1, biases at 0."""
    family, config = ENCODERS[row]
    for parameter in family.parameters_of(config):
        norm = ".ln_" in f".{parameter.name}"
        expected = ("vector", 0.0, 1.0 if norm and parameter.name.endswith("weight") else 0.0)
        if len(parameter.shape) == 2:
            kinds = {"wte": "embedding", "wpe": "embedding", "token_types": "embedding", "classifier": "head"}
            kinds |= {"next_sentence": "head", "spans": "head", "head": "head", "classifier.out": "head"}
            expected = (kinds.get(parameter.name.removesuffix(".weight"), "hidden"), 0.02, 0.0)
        assert (parameter.role, parameter.std, parameter.mean) == expected, parameter.name
        assert parameter.parts == (3 if "c_attn.weight" in parameter.name else 1)


@every(FIRST)
def test_memory_of_an_encoder_grows_with_its_layers(row, rng):
    model = random_model(row, rng)
    assert model.activation_memory(10) == 8 * 10 * 2 * 22 * C
    assert model.activation_memory(10, keep="inputs") == 8 * 10 * (2 + 22) * C
    assert model.astype(np.float32).activation_memory(30) == 3 * model.activation_memory(10) / 2


WRONG = [  # head, changes to a batch, message
    ("masked_lm", {"targets": None}, "batch: targets is missing"),
    ("masked_lm", {"labels": [0, 1, 1]}, "batch: 'labels' is not read by this model, it takes ids, targets, att"),
    ("masked_lm", {"targets": [[-100] * T] * B}, "targets: all 24 are -100 .ignored., at least 1 must count"),
    (
        "masked_lm",
        {"targets": [[11] * T] * B},
        r"targets: value 11 at \(0, 0\) is out of range, it must be 0 to 10, or -100",
    ),
    ("masked_lm", {"targets": [[0] * (T - 1)] * B}, r"targets: shape is \(3, 7\), it must be \(3, 8\)"),
    ("masked_lm", {"targets": np.zeros((B, T))}, "targets: dtype is float64, they must be integers"),
    ("masked_lm", {"ids": np.zeros((B, POSITIONS + 1), int)}, "ids: 10 tokens in a row, the model's block_size is 9"),
    ("masked_lm", {"ids": np.full((B, T), 11)}, "ids: value 11 at"),
    ("masked_lm", {"attention_mask": np.ones((B, T + 1))}, "attention_mask: shape is"),
    (  # a mask that is added to scores means the opposite
        "masked_lm",
        {"attention_mask": np.where(np.arange(B * T) < 9, 0.0, -1e4).reshape(B, T)},
        r"attention_mask: value -10000.0 at \(1, 1\), it must be 0 at padding and 1 elsewhere",
    ),
    ("masked_lm", {"attention_mask": np.full((B, T), np.nan)}, r"attention_mask: value nan at \(0, 0\), it must be 0"),
    ("masked_lm", {"attention_mask": np.full((B, T), "0")}, "attention_mask: dtype is <U1, a mask holds 0 at pad"),
    ("masked_lm", {"token_type_ids": np.full((B, T), 3)}, r"token_type_ids: value 3 at \(0, 0\) is out of range"),
    ("masked_lm", {"token_type_ids": np.zeros((B, T))}, "token_type_ids: dtype is float64, token types must be int"),
    (
        "masked_lm",
        {"token_type_ids": np.zeros((T, B), int)},
        r"token_type_ids: shape is \(8, 3\), that of ids is \(3, 8\)",
    ),
    (
        "sequence_classification",
        {"labels": [0, 4, 1]},
        r"labels: value 4 at \(1,\) is out of range, it must be 0 to 3, or -100",
    ),
    ("sequence_classification", {"labels": [0, -1, 1]}, "labels: value -1 at"),
    ("sequence_classification", {"labels": [[0], [1], [1]]}, r"labels: shape is \(3, 1\), it must be \(3,\)"),
    ("token_classification", {"labels": [0, 2, 1]}, r"labels: shape is \(3,\), it must be \(3, 8\)"),
    (
        "question_answering",
        {"starts": [0, 8, 1]},
        r"starts: value 8 at \(1,\) is out of range, it must be 0 to 7, or -100",
    ),
    ("question_answering", {"ends": [0, -1, 1]}, "ends: value -1 at"),
    ("question_answering", {"ends": None}, "batch: ends is missing"),
    ("question_answering", {"starts": [-100] * B}, "starts: all 3 are -100"),
]


@every(FIRST)
@pytest.mark.parametrize(("head", "changes", "message"), WRONG)
def test_what_is_no_batch_is_refused(row, head, changes, message, rng):
    model = random_model(row, rng, head=head)
    batch = {**encoder_batch(model, rng), **changes}
    for call in (model.loss, model.loss_and_grads, model.loss_terms):
        with pytest.raises(MinigptError, match=message):
            call({name: value for name, value in batch.items() if value is not None})


@every(FIRST)
def test_other_arguments_that_are_none_are_refused(row, rng):
    model = random_model(row, rng)
    batch = encoder_batch(model, rng)
    with pytest.raises(MinigptError, match="targets: a batch of named arrays holds its own"):
        model.add_gradients(model.store.zeros_like(), batch, batch["targets"])
    loss, grads = model.loss_and_grads(batch, None, ["wte.weight"])
    assert loss == model.loss(batch) and list(grads) == ["wte.weight"]
    with pytest.raises(MinigptError, match=r"batch is .*, it must be a mapping of named arrays"):
        model.loss(batch["ids"])
    with pytest.raises(MinigptError, match="counts: targets is missing"):
        model.loss(batch, counts={})
    with pytest.raises(MinigptError, match=r"counts\['targets'\] is 0, it must be a whole number of at least 1"):
        model.loss(batch, counts=dict.fromkeys(batch, 0))
    for call in (model.loss, model.loss_and_grads):
        with pytest.raises(MinigptError, match="rng is 3, it must be a numpy Generator"):
            call(batch, rng=3)
    with pytest.raises(MinigptError, match="rng is 3"):
        model.forward(batch["ids"], rng=3)
    out, cache = model.forward(*inputs(batch))
    for dout in (None, out.hidden, {"hidden": out.hidden}):
        with pytest.raises(MinigptError, match=r"dout is .*, it must be an EncoderOutput of gradients, None for zero"):
            model.backward(dout, cache)
    assert model.loss(batch, np.random.default_rng(0)) == model.loss(batch, rng=np.random.default_rng(0))
    assert not hasattr(model, "generate")


@every(FIRST)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": "span"}, "head is 'span', it must be one of pretraining, masked_lm, sequence_classification"),
        ({"num_attention_heads": 4}, "hidden_size is 6, it must be a multiple of num_attention_heads, which is 4"),
        ({"num_labels": 1}, "num_labels is 1, it must be at least 2: regression, as in transformers, is not here"),
        ({"num_labels": 0}, "num_labels is 0, it must be a whole number of at least 2"),
        ({"num_labels": "3"}, "num_labels is '3'"),
        ({"intermediate_size": 0}, "intermediate_size is 0"),
        ({"type_vocab_size": 0}, "type_vocab_size is 0"),
        ({"layer_norm_eps": 0}, "layer_norm_eps is 0, it must be more than 0"),
        ({"layer_norm_eps": -1e-5}, "layer_norm_eps is -1e-05"),
        ({"pad_token_id": VOCABULARY}, "pad_token_id is 11, it must be a whole number from 0 to 10"),
        ({"pad_token_id": None}, "pad_token_id is None"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"activation": "mish"}, "activation is 'mish'"),
        ({"tie_embeddings": 1}, "tie_embeddings is 1"),
    ],
)
def test_an_encoders_config_says_what_is_wrong(row, changes, message):
    with pytest.raises(MinigptError, match=message):
        replace(ENCODERS[row][1], **changes)
