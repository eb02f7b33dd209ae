"""BERT's folders, both ways; test_encoder_folders_parity.py: what `transformers` makes of them."""

import json
import tracemalloc

import numpy as np
import pytest
from hub_folders import assert_equal_numbers, export, of_values, rewrite, shard, silent, small_encoder, without
from safetensors.numpy import load_file, save_file

import minigpt
from minigpt import BERT, BERTConfig, CharTokenizer, MinigptError, hub
from minigpt.hub import bert
from minigpt.tokenizers import Tokenizer

LM = "cls.predictions"
EVERY_HEAD = pytest.mark.parametrize("head", bert.HEADS)


def small_bert(rng, dtype=np.float64, **changes):
    return small_encoder(BERT, BERTConfig, rng, dtype, **changes)


# Both ways


@EVERY_HEAD
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "changes", [{}, {"tie_embeddings": False, "activation": "relu", "dropout": 0.25, "num_labels": 4}], ids=str
)
def test_bert_is_written_and_read(head, dtype, changes, tmp_path, rng):
    if head == "question_answering":
        changes = changes | {"num_labels": 2}  # of no meaning there
    model = small_bert(rng, dtype, head=head, layer_norm_eps=1e-6, pad_token_id=3, **changes)
    minigpt.to_huggingface(model, tmp_path)
    again = minigpt.from_huggingface(tmp_path, say=silent)
    assert type(again) is BERT and again.dtype == dtype and again.fresh == ()
    assert_equal_numbers(again, model)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_bert_has_three_projections_turned(rng):
    model = small_bert(rng)
    found = minigpt.to_huggingface_names(model, model.parameters)
    for i, part in enumerate(("query", "key", "value")):
        name, columns = f"bert.encoder.layer.1.attention.self.{part}", slice(6 * i, 6 * i + 6)
        np.testing.assert_array_equal(found[f"{name}.weight"], model.parameters["h.1.attn.c_attn.weight"][:, columns].T)
        np.testing.assert_array_equal(found[f"{name}.bias"], model.parameters["h.1.attn.c_attn.bias"][columns])
    assert found["cls.seq_relationship.weight"].shape == (2, 6)


@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_every_parameter_has_a_name_and_the_tied_table_has_one(tie_embeddings, rng):
    model = small_bert(rng, tie_embeddings=tie_embeddings)
    names = set(minigpt.to_huggingface_names(model, model.parameters))
    assert {"bert.embeddings.word_embeddings.weight", f"{LM}.transform.LayerNorm.bias"} <= names
    untied = {f"{LM}.decoder.weight", f"{LM}.decoder.bias"}
    assert names & {*untied, f"{LM}.bias"} == ({f"{LM}.bias"} if tie_embeddings else untied)


@EVERY_HEAD
def test_a_model_without_a_head_is_written_without_the_prefix_as_theirs(head, rng):
    model = small_bert(rng, head=head)
    names = minigpt.to_huggingface_names(model, model.parameters)
    assert any(name.startswith("bert.") for name in names) == (head is not None)
    assert ("pooler.dense.bias" in names) == (head is None)


def test_a_generation_config_of_another_model_does_not_stay(tmp_path, rng):
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 50256}')
    minigpt.to_huggingface(small_bert(rng), tmp_path)
    assert not (tmp_path / "generation_config.json").exists()


# What files hold


def old(tensors):
    """As a file of 2019 has them: gamma and beta, buffers, and the copies of what is tied."""
    names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    renamed = {}
    for name, value in tensors.items():
        for new, before in names.items():
            name = name.replace(new, before)
        renamed[name] = value
    renamed["bert.embeddings.position_ids"] = np.arange(9)[None]
    renamed["bert.embeddings.token_type_ids"] = np.zeros((1, 9), np.int64)
    copies = {f"{LM}.decoder.weight": "bert.embeddings.word_embeddings.weight", f"{LM}.decoder.bias": f"{LM}.bias"}
    return renamed | {copy: tensors[name].copy() for copy, name in copies.items()}


def bare(tensors):
    return {name.removeprefix("bert."): value for name, value in tensors.items()}


def only_copies(tensors):
    tensors = old(tensors)
    del tensors["bert.embeddings.word_embeddings.weight"], tensors[f"{LM}.bias"]
    return tensors


@pytest.mark.parametrize("change", [old, bare, lambda tensors: bare(old(tensors)), only_copies])
@pytest.mark.parametrize("shards", [False, True])
def test_old_names_copies_buffers_prefixes_and_shards(change, shards, tmp_path, rng):
    model = small_bert(rng)
    export(model, tmp_path, change)
    if shards:
        shard(tmp_path)
    assert_equal_numbers(minigpt.from_huggingface(tmp_path, say=silent), model)


def test_a_name_and_its_old_spelling_are_one_tensor_too_many(tmp_path, rng):
    gamma = {"bert.embeddings.LayerNorm.gamma": np.ones(6)}
    export(small_bert(rng), tmp_path, lambda tensors: tensors | gamma)
    with pytest.raises(MinigptError, match=r"LayerNorm\.\w+ is bert\.embeddings\.LayerNorm\.\w+ once more"):
        minigpt.from_huggingface(tmp_path)


def test_a_decoder_that_differs_from_the_token_table_is_loaded_untied_and_told(tmp_path, rng):
    model, decoder, said = small_bert(rng), rng.standard_normal((13, 6)), []
    export(model, tmp_path, lambda tensors: tensors | {f"{LM}.decoder.weight": decoder})
    again = minigpt.from_huggingface(tmp_path, say=said.append)
    assert not again.config.tie_embeddings and again.fresh == ()
    np.testing.assert_array_equal(again.parameters["head.weight"], decoder.T)
    for name, value in model.parameters.items():
        np.testing.assert_array_equal(again.parameters[name], value)
    assert len(said) == 1 and "decoder.weight differs from bert.embeddings.word_embeddings.weight" in said[0]
    minigpt.from_huggingface(tmp_path, head="token_classification", say=said.append)
    assert "differs from" not in "".join(said[1:])  # a model without that head has no use for it


def test_of_two_biases_that_differ_the_decoders_is_taken_and_told(tmp_path, rng):
    model, bias, said = small_bert(rng), rng.standard_normal(13), []
    export(model, tmp_path, lambda tensors: tensors | {f"{LM}.decoder.bias": bias})
    again = minigpt.from_huggingface(tmp_path, say=said.append)
    assert again.config == model.config
    np.testing.assert_array_equal(again.parameters["head.bias"], bias)
    assert len(said) == 1 and "decoder.bias differs from cls.predictions.bias" in said[0]


@pytest.mark.parametrize("name", [f"{LM}.bias", f"{LM}.decoder.bias"])
def test_an_untied_head_has_its_bias_under_either_name(name, tmp_path, rng):
    model = small_bert(rng, tie_embeddings=False)
    assert {f"{LM}.bias", f"{LM}.decoder.bias"} <= set(load_file(export(model, tmp_path) / "model.safetensors"))
    export(model, tmp_path, without(name))
    assert_equal_numbers(minigpt.from_huggingface(tmp_path, say=silent), model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("query.bias"), r"2 tensors do not fit; missing: bert\.\S+0\.attention\.self\.query\.bias, bert\.\S+$"),
        (lambda t: t | {"bert.encoder.layer.2.output.dense.bias": np.zeros(6)}, r"2\.output\.dense\.bias does not bel"),
        (lambda t: t | {"bert.pooler.dense.bias": np.zeros(7)}, r"has shape \(7,\), the config asks for \(6,\)"),
        (
            lambda t: t | {f"{LM}.decoder.weight": np.zeros((13, 7))},
            r"has shape \(13, 7\), the config asks for \(13, 6",
        ),
        (lambda t: t | {"bert.embeddings.position_ids.x": np.zeros(2)}, r"position_ids\.x does not belong"),
        (lambda t: t | {"bert.pooler.dense.bias": np.full(6, np.inf)}, "holds 6 values that are not finite"),
        (without("word_embeddings"), r"tensor bert\.embeddings\.word_embeddings\.weight is missing"),
    ],
)
def test_tensors_that_do_not_fit_are_named(change, message, tmp_path, rng):
    export(small_bert(rng), tmp_path, change)
    with pytest.raises(MinigptError, match=message):
        minigpt.from_huggingface(tmp_path, say=lambda message: None)


# Heads

POOLER, NEXT = ("pooler.weight", "pooler.bias"), ("next_sentence.weight", "next_sentence.bias")
TRANSFORM = ("transform.weight", "transform.bias", "ln_t.weight", "ln_t.bias", "head.bias")
CLASSIFIER, SPANS = ("classifier.weight", "classifier.bias"), ("spans.weight", "spans.bias")
NEEDS = {
    "pretraining": POOLER + TRANSFORM + NEXT,
    "masked_lm": TRANSFORM,
    "sequence_classification": POOLER + CLASSIFIER,
    "token_classification": CLASSIFIER,
    "question_answering": SPANS,
    None: POOLER,
}


@EVERY_HEAD
@pytest.mark.parametrize("asked", bert.HEADS)
def test_a_file_read_with_another_head_says_what_is_new(head, asked, tmp_path, rng):
    model, said = small_bert(rng, head=head), []
    minigpt.to_huggingface(model, tmp_path)
    again = minigpt.from_huggingface(tmp_path, head=asked or "base", say=said.append)
    assert again.config.head == asked
    assert again.fresh == tuple(name for name in again.parameters if name in set(NEEDS[asked]) - set(NEEDS[head]))
    for name in again.parameters.keys() - set(again.fresh):
        np.testing.assert_array_equal(again.parameters[name], model.parameters[name])
    unused = set(NEEDS[head]) - set(NEEDS[asked])
    assert [bool(again.fresh), bool(unused)] == [any(part in "".join(said) for part in p) for p in (FRESH, UNUSED)]
    for name in again.fresh:
        assert np.ptp(again.parameters[name]) > 0 if name.endswith("weight") and "ln" not in name else True


FRESH, UNUSED = ("drawn anew (model.fresh)",), ("this model has no use for",)


def test_fresh_parameters_come_from_the_seed(tmp_path, rng):
    minigpt.to_huggingface(small_bert(rng, head=None), tmp_path)
    first, same, other = (
        minigpt.from_huggingface(tmp_path, "question_answering", seed=seed, say=lambda message: None)
        for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first.store.vector, same.store.vector)
    assert first.fresh == ("spans.weight", "spans.bias")
    assert np.all(first.parameters["spans.weight"] != other.parameters["spans.weight"])
    assert 0.01 < first.parameters["spans.weight"].std() < 0.04 and not first.parameters["spans.bias"].any()


@EVERY_HEAD
@pytest.mark.parametrize("architectures", [None, []])
def test_without_architectures_the_tensors_show_the_head(head, architectures, tmp_path, rng):
    model = small_bert(rng, head=head)
    minigpt.to_huggingface(model, tmp_path)
    rewrite(tmp_path, architectures=architectures)
    assert_equal_numbers(minigpt.from_huggingface(tmp_path, say=silent), model)
    export(model, tmp_path, bare)
    of_values(tmp_path, "architectures")
    assert_equal_numbers(minigpt.from_huggingface(tmp_path, say=silent), model)


def test_of_several_architectures_the_first_is_taken(tmp_path, rng):
    export(small_bert(rng), tmp_path)
    rewrite(tmp_path, architectures=["BertForMaskedLM", "BertForPreTraining"])
    assert minigpt.from_huggingface(tmp_path, say=lambda message: None).config.head == "masked_lm"


def test_an_architecture_that_is_not_ours_wants_a_head(tmp_path, rng):
    """Next sentence alone is read as pretraining: its masked-LM head is new."""
    export(small_bert(rng), tmp_path, without("predictions"))
    rewrite(tmp_path, architectures=["BertForNextSentencePrediction"])
    with pytest.raises(
        MinigptError, match=r"architectures is \['BertForNextSentencePrediction'\]; known are BertForPre"
    ):
        minigpt.from_huggingface(tmp_path)
    again = minigpt.from_huggingface(tmp_path, head="pretraining", say=lambda message: None)
    assert again.fresh == TRANSFORM


def test_a_classifier_read_for_something_else_is_told(tmp_path, rng):
    model, said = small_bert(rng, head="sequence_classification"), []
    minigpt.to_huggingface(model, tmp_path)
    again = minigpt.from_huggingface(tmp_path, head="token_classification", say=said.append)
    np.testing.assert_array_equal(again.parameters["classifier.weight"], model.parameters["classifier.weight"])
    assert "its classifier is for sequence_classification, it is read for token_classification" in said[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"head": "lm"}, "head is 'lm', it must be one of base, pretraining, masked_lm, sequence_cl"),
        ({"head": []}, r"head is \[\], it must be one of"),
        ({"num_labels": 1}, "num_labels is 1, it must be a whole number of at least 2"),
        ({"num_labels": 2.5}, "num_labels is 2.5"),
    ],
)
def test_a_choice_that_is_none_is_refused(arguments, message, tmp_path, rng):
    minigpt.to_huggingface(small_bert(rng), tmp_path)
    with pytest.raises(MinigptError, match=message):
        minigpt.from_huggingface(tmp_path, **arguments)


def test_the_number_of_labels_is_asked_for_or_the_files(tmp_path, rng):
    def labels(head="token_classification", **arguments):
        return minigpt.from_huggingface(tmp_path, head, say=said.append, **arguments).config.num_labels

    said = []
    minigpt.to_huggingface(small_bert(rng, head=None), tmp_path)
    assert (labels(), labels(num_labels=5)) == (2, 5)
    rewrite(tmp_path, num_labels=4)
    assert labels() == 4
    rewrite(tmp_path, id2label={"0": "O", "1": "B", "2": "I"})
    assert labels() == 4
    assert any("num_labels is 4, id2label has 3; the model has 4" in message for message in said)
    of_values(tmp_path, "num_labels")
    assert labels() == 3
    rewrite(tmp_path, num_labels=1, id2label={"0": "score"}, problem_type="regression")
    assert labels("masked_lm") == 2  # of no meaning there
    with pytest.raises(MinigptError, match="num_labels is 1, it must be at least 2"):
        labels()


# Config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"position_embedding_type": "relative_key"},
            "position_embedding_type is 'relative_key', it must be 'absolute'",
        ),
        ({"is_decoder": True}, "is_decoder is True, it must be False"),
        ({"add_cross_attention": True}, "add_cross_attention is True"),
        ({"hidden_act": "gelu_fast"}, "hidden_act is 'gelu_fast', it must be one of gelu_new"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads is not empty"),
        ({"embedding_size": 3}, "embedding_size is 3, it must be 6"),
        ({"quantization_config": {"bits": 8}}, "quantization_config is there"),
        ({"problem_type": "regression"}, "problem_type is 'regression', it must be 'single_label_classification'"),
        ({"problem_type": "multi_label_classification"}, "problem_type is 'multi_label_classification'"),
        ({"num_labels": 1}, "num_labels is 1, it must be at least 2"),
        ({"id2label": ["a"]}, r"id2label is \['a'\], it must be a JSON object"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000, the files hold 41 tensors only"),
        ({"vocab_size": 12}, r"embeddings\.word_embeddings\.weight has shape \(13, 6\), the config asks for \(12, 6\)"),
        ({"type_vocab_size": 2}, r"token_type_embeddings\.weight has shape \(3, 6\)"),
        ({"max_position_embeddings": 8}, r"position_embeddings\.weight has shape \(9, 6\)"),
        ({"num_attention_heads": 4}, r"config\.json: hidden_size is 6, it must be a multiple of num_attention_heads"),
        ({"pad_token_id": 13}, "pad_token_id is 13, it must be a whole number from 0 to 12"),
        ({"layer_norm_eps": -1}, "layer_norm_eps is -1"),
        ({"hidden_dropout_prob": 1}, "hidden_dropout_prob is 1, it must be a number of at least 0 and less than 1"),
        ({"architectures": "BertModel"}, "architectures is 'BertModel', it must be a list"),
        ({"tie_word_embeddings": None}, "tie_word_embeddings is None, it must be true or false"),
    ],
)
def test_a_config_that_is_not_ours_is_named(changes, message, tmp_path, rng):
    minigpt.to_huggingface(small_bert(rng, head="sequence_classification"), tmp_path)
    rewrite(tmp_path, **changes)
    with pytest.raises(MinigptError, match=message):
        minigpt.from_huggingface(tmp_path, say=lambda message: None)


REQUIRED = ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"]


@pytest.mark.parametrize("key", [*REQUIRED, "max_position_embeddings"])
def test_a_config_without_a_size_is_refused(key, tmp_path, rng):
    minigpt.to_huggingface(small_bert(rng), tmp_path)
    of_values(tmp_path, key)
    with pytest.raises(MinigptError, match=rf"config\.json: {key} is missing"):
        minigpt.from_huggingface(tmp_path)


def test_a_config_of_sizes_alone_has_the_defaults_of_theirs(tmp_path, rng):
    model = small_bert(rng, dropout=0.1, type_vocab_size=2)
    minigpt.to_huggingface(model, tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    of_values(tmp_path, *values.keys() - {*REQUIRED, "max_position_embeddings", "model_type"})
    assert_equal_numbers(minigpt.from_huggingface(tmp_path, say=silent), model)
    rewrite(tmp_path, pad_token_id=None)  # which nothing is computed with
    assert_equal_numbers(minigpt.from_huggingface(tmp_path, say=silent), model)


def test_dropouts_that_differ_and_keys_without_a_meaning_here_are_told(tmp_path, rng):
    said = []

    def told(**changes):
        said = []
        rewrite(tmp_path, **changes)
        assert minigpt.from_huggingface(tmp_path, say=said.append).config.dropout == 0.25
        return said

    minigpt.to_huggingface(small_bert(rng, head="token_classification", dropout=0.25), tmp_path)
    assert told(classifier_dropout=0.25) == []
    (message,) = told(classifier_dropout=0.5)
    dropouts = "hidden_dropout_prob 0.25, attention_probs_dropout_prob 0.25, classifier_dropout 0.5"
    assert f"{dropouts}; the model has one dropout, 0.25" in message
    assert minigpt.from_huggingface(tmp_path, "question_answering", say=said.append).config.dropout == 0.25
    assert not any("one dropout" in message for message in said)  # it has no classifier
    rewrite(tmp_path, classifier_dropout=None, gradient_checkpointing=True, sep_token_id=3, chunk_size_feed_forward=2)
    (message,) = told(rope_theta=10.0, alibi=True)
    assert message.endswith("config.json: nothing is made of 'rope_theta', 'alibi'")


# Tokenizers


class Words(Tokenizer):
    """As much of a tokenizer as to_huggingface asks."""

    vocab_size, pad_id, bos_id, eos_id = 13, 0, 4, 5

    def save(self, directory):
        (directory / "tokenizer.json").write_text('{"model": {"type": "WordLevel"}}')


def test_a_tokenizer_is_written_along(tmp_path, rng):
    minigpt.to_huggingface(small_bert(rng), tmp_path, Words())
    assert (tmp_path / "tokenizer.json").exists()
    values = json.loads((tmp_path / "config.json").read_text())
    assert (values["bos_token_id"], values["eos_token_id"]) == (4, 5)
    assert_equal_numbers(*(minigpt.from_huggingface(tmp_path, say=silent) for _ in range(2)))


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        (type("Large", (Words,), {"vocab_size": 14})(), "the tokenizer has 14 tokens, the model knows 13"),
        (type("Other", (Words,), {"pad_id": 2})(), "the tokenizer pads with token 2, the model's pad_token_id is 0"),
        (CharTokenizer.from_text("abc"), "transformers has no CharTokenizer"),
        ("bert-base-uncased", "transformers has no str"),
    ],
    ids=["large", "other padding", "characters", "name"],
)
def test_a_tokenizer_that_does_not_fit_is_refused_before_anything_is_written(tokenizer, message, tmp_path, rng):
    with pytest.raises(MinigptError, match=message):
        minigpt.to_huggingface(small_bert(rng), tmp_path / "out", tokenizer)
    assert not (tmp_path / "out").exists()


# Looking


def test_a_folder_is_described(tmp_path, rng):
    model = small_bert(rng, np.float32)
    minigpt.to_huggingface(model, tmp_path)
    found = hub.describe(tmp_path)
    assert (
        found["model"] == "BERT" and found["config"] == model.config and found["fresh"] == () == tuple(found["notes"])
    )
    assert (found["tensors"], found["numbers"]) == (46, model.num_parameters)
    rewrite(tmp_path, architectures=["BertForQuestionAnswering"])
    found = hub.describe(tmp_path)
    assert found["fresh"] == SPANS and len(found["notes"]) == 2


# Memory


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_reading_takes_little_memory_beside_the_model(dtype, tmp_path):
    """A block of numbers a thread, whatever is turned, converted, compared and checked."""
    config = BERTConfig(20_000, 8, 128, 2, 2, head="masked_lm")
    tensors = {}
    for name, value in minigpt.to_huggingface_names(model := BERT(config), model.parameters).items():
        tensors[name] = np.ascontiguousarray(value, dtype)
    tensors[f"{LM}.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"]
    minigpt.to_huggingface(model, tmp_path)
    save_file(tensors, tmp_path / "model.safetensors")
    del model, tensors
    tracemalloc.start()
    try:
        read = minigpt.from_huggingface(tmp_path, say=silent)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 1.3 * read.store.vector.nbytes
