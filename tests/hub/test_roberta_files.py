"""RoBERTa's folders, as far as they are not BERT's under other names."""

import json

import numpy as np
import pytest
from hub_folders import assert_equal_numbers, export, of_values, rewrite, shard, silent, small_encoder, without

import minigpt
from minigpt import MinigptError, RoBERTa, RoBERTaConfig
from minigpt.hub import bert, roberta

EVERY_HEAD = pytest.mark.parametrize("head", roberta.HEADS)


def small_roberta(rng, dtype=np.float64, **changes):
    return small_encoder(RoBERTa, RoBERTaConfig, rng, dtype, **changes)


@EVERY_HEAD
@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": False, "num_labels": 4, "pad_token_id": 2}], ids=str)
def test_roberta_is_written_and_read(head, changes, tmp_path, rng):
    if head == "question_answering":
        changes = changes | {"num_labels": 2}  # of no meaning there
    model = small_roberta(rng, head=head, **changes)
    minigpt.to_huggingface(model, tmp_path)
    again = minigpt.from_huggingface(tmp_path, say=silent)
    assert type(again) is RoBERTa and again.fresh == ()
    assert_equal_numbers(again, model)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    rewrite(tmp_path, architectures=None)  # the tensors show the head
    assert_equal_numbers(minigpt.from_huggingface(tmp_path, say=silent), model)


def old(tensors):
    copies = {
        "lm_head.decoder.weight": tensors["roberta.embeddings.word_embeddings.weight"].copy(),
        "lm_head.decoder.bias": tensors["lm_head.bias"].copy(),
        "roberta.embeddings.position_ids": np.arange(9)[None],
    }
    return tensors | copies


def bare(tensors):
    return {name.removeprefix("roberta."): value for name, value in tensors.items()}


@pytest.mark.parametrize("change", [old, bare, lambda tensors: bare(old(tensors))])
def test_copies_buffers_prefixes_and_shards(change, tmp_path, rng):
    model = small_roberta(rng)
    export(model, tmp_path, change)
    assert_equal_numbers(minigpt.from_huggingface(tmp_path, say=silent), model)
    shard(tmp_path)
    assert_equal_numbers(minigpt.from_huggingface(tmp_path, say=silent), model)


def test_a_decoder_or_a_bias_that_differs_is_loaded_and_told(tmp_path, rng):
    model, decoder, bias, said = small_roberta(rng), rng.standard_normal((13, 6)), rng.standard_normal(13), []
    export(model, tmp_path, lambda t: t | {"lm_head.decoder.weight": decoder, "lm_head.decoder.bias": bias})
    again = minigpt.from_huggingface(tmp_path, say=said.append)
    assert not again.config.tie_embeddings
    np.testing.assert_array_equal(again.parameters["head.weight"], decoder.T)
    np.testing.assert_array_equal(again.parameters["head.bias"], bias)
    assert ["differs from" in message for message in said] == [True, True]


POOLER = ("pooler.weight", "pooler.bias")
NEEDS = {
    "masked_lm": ("transform.weight", "transform.bias", "ln_t.weight", "ln_t.bias", "head.bias"),
    "sequence_classification": tuple(
        f"classifier.{x}" for x in ("dense.weight", "dense.bias", "out.weight", "out.bias")
    ),
    "token_classification": ("classifier.weight", "classifier.bias"),
    "question_answering": ("spans.weight", "spans.bias"),
    None: POOLER,
}


@EVERY_HEAD
@pytest.mark.parametrize("asked", roberta.HEADS)
def test_a_file_read_with_another_head_says_what_is_new(head, asked, tmp_path, rng):
    model, said = small_roberta(rng, head=head), []
    minigpt.to_huggingface(model, tmp_path)
    again = minigpt.from_huggingface(tmp_path, asked or "base", say=said.append)
    assert again.config.head == asked
    assert again.fresh == (() if head == asked else NEEDS[asked])
    assert bool(said) == (head != asked)
    for name in again.parameters.keys() - set(again.fresh):
        np.testing.assert_array_equal(again.parameters[name], model.parameters[name])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pad_token_id": None}, "pad_token_id is None, it must be a whole number"),
        ({"pad_token_id": 9}, r"max_position_embeddings is 9, it must be at least pad_token_id \+ 2, which is 11"),
        ({"position_embedding_type": "relative_key_query"}, "position_embedding_type is 'relative_key_query'"),
        ({"is_decoder": True}, "is_decoder is True, it must be False"),
        (
            {"architectures": ["RobertaForCausalLM"]},
            r"architectures is \['RobertaForCausalLM'\]; known are RobertaForM",
        ),
        ({"max_position_embeddings": 11}, r"position_embeddings\.weight has shape \(9, 6\), the config asks for \(11"),
        ({"model_type": "xlm-roberta"}, "model_type is 'xlm-roberta', it must be one of gpt2, gpt_neo, bert, roberta"),
    ],
)
def test_a_config_that_is_not_ours_is_named(changes, message, tmp_path, rng):
    minigpt.to_huggingface(small_roberta(rng), tmp_path)
    rewrite(tmp_path, **changes)
    with pytest.raises(MinigptError, match=message):
        minigpt.from_huggingface(tmp_path)


def test_pretraining_is_no_head_of_a_roberta(tmp_path, rng):
    minigpt.to_huggingface(small_roberta(rng), tmp_path)
    with pytest.raises(MinigptError, match="head is 'pretraining', it must be one of base, masked_lm, sequence_class"):
        minigpt.from_huggingface(tmp_path, head="pretraining")


def test_a_config_of_sizes_alone_has_the_defaults_of_theirs(tmp_path, rng):
    model = small_roberta(rng, dropout=0.1, type_vocab_size=2, layer_norm_eps=1e-12)
    minigpt.to_huggingface(model, tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    kept = {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"}
    of_values(tmp_path, *values.keys() - kept - {"max_position_embeddings", "model_type"})
    assert_equal_numbers(minigpt.from_huggingface(tmp_path, say=silent), model)


def test_tensors_that_are_missing_are_named_in_one_message(tmp_path, rng):
    export(small_roberta(rng), tmp_path, without("layer.1."))
    with pytest.raises(MinigptError, match=r"16 tensors do not fit; missing: roberta\.encoder\.\S+, .* and 6 more$"):
        minigpt.from_huggingface(tmp_path)


@pytest.mark.parametrize("family", [bert, roberta])
def test_every_parameter_of_every_head_has_one_row(family):
    """And no row stands twice, on either side, or is of no use."""
    rows, used = family.TABLE.rows, set()
    theirs = [name for row in rows for name in ([row.theirs] if isinstance(row.theirs, str) else row.theirs)]
    assert len(set(theirs)) == len(theirs) and len({row.ours for row in rows}) == len(rows)
    for head in family.HEADS:
        config = family.MODEL.config_class(7, 5, 4, 2, 1, head=head, tie_embeddings=False)
        used |= {family.TABLE.row(name)[0] for name in family.MODEL.parameter_shapes(config)}
    assert used == set(rows)
