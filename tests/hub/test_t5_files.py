"""T5's folders: names, joins, what a file decides and what a config does, and what is refused."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hub_folders import assert_equal_numbers, export, of_values, rewrite, shard, silent, small_t5, without
from safetensors.numpy import load_file

import minigpt
from minigpt import MinigptError, T5Config
from minigpt.hub import t5
from minigpt.tokenizers import Tokenizer

V11 = {"feed_forward_proj": "gated-gelu", "tie_embeddings": False}
VERSIONS = {
    "1.0": {},
    "1.1": V11,
    "tied, not scaled": {"scale_decoder_outputs": False, "num_decoder_layers": 3},
    "untied, scaled": {"tie_embeddings": False, "scale_decoder_outputs": True, "feed_forward_proj": "gelu"},
    "gated-relu": {"feed_forward_proj": "gated-relu", "num_decoder_layers": 1},
    "tokens": {"pad_token_id": 3, "eos_token_id": 5, "decoder_start_token_id": 2, "feed_forward_proj": "silu"},
}
ALIASES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
CROSS_BIAS = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"


def refuses(directory, message):
    with pytest.raises(MinigptError, match=message):
        minigpt.from_huggingface(directory, say=lambda text: None)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_t5_is_written_and_read(version, dtype, tmp_path, rng):
    model = small_t5(rng, dtype, dropout=0.25, layer_norm_epsilon=1e-5, **VERSIONS[version])
    minigpt.to_huggingface(model, tmp_path)
    again = minigpt.from_huggingface(tmp_path, say=silent)
    assert_equal_numbers(again, model)
    assert again.fresh == () and again.dtype == dtype
    assert ("lm_head.weight" in load_file(tmp_path / "model.safetensors")) == (not model.config.tie_embeddings)
    shard(tmp_path)
    assert_equal_numbers(minigpt.from_huggingface(tmp_path, say=silent), model)
    values = json.loads((tmp_path / "generation_config.json").read_text())
    names = ("decoder_start_token_id", "eos_token_id", "pad_token_id")
    assert values == {"_from_model_config": True} | {name: getattr(model.config, name) for name in names}


def test_config_says_what_other_readers_need(tmp_path, rng):
    minigpt.to_huggingface(small_t5(rng, **V11), tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    expected = {"is_encoder_decoder": True, "tie_word_embeddings": False, "scale_decoder_outputs": False}
    expected |= {"num_decoder_layers": 2, "architectures": ["T5ForConditionalGeneration"], "dtype": "float64"}
    assert expected.items() <= values.items()


@pytest.mark.parametrize("gated", [True, False])
def test_every_matrix_is_turned_and_joined_as_it_should_be(gated, rng):
    """Each of their tensors by hand, all sizes different: C 6, HD 20, F 11, V 13, buckets 8."""
    model = small_t5(rng, tie_embeddings=False, feed_forward_proj="gated-gelu" if gated else "relu")
    p, expected = model.parameters, {}
    expected["shared.weight"], expected["lm_head.weight"] = p["wte.weight"], p["lm_head.weight"].T
    for stack in ("encoder", "decoder"):
        first = f"{stack}.block.0.layer.0.SelfAttention."
        expected[f"{first}relative_attention_bias.weight"] = p[f"{stack}.bias.weight"]
        expected[f"{stack}.final_layer_norm.weight"] = p[f"{stack}.ln_f.weight"]
        for i in range(2):
            ours, theirs = f"{stack}.h.{i}.", f"{stack}.block.{i}.layer."
            joined, last = p[f"{ours}attn.c_attn.weight"], 2 if stack == "decoder" else 1
            for j, name in enumerate("qkv"):
                expected[f"{theirs}0.SelfAttention.{name}.weight"] = joined[:, 20 * j : 20 * j + 20].T
            expected[f"{theirs}0.SelfAttention.o.weight"] = p[f"{ours}attn.c_proj.weight"].T
            expected[f"{theirs}0.layer_norm.weight"] = p[f"{ours}ln_1.weight"]
            expected[f"{theirs}{last}.layer_norm.weight"] = p[f"{ours}ln_2.weight"]
            wide = f"{theirs}{last}.DenseReluDense."
            expected[f"{wide}{'wi_1' if gated else 'wi'}.weight"] = p[f"{ours}mlp.c_fc.weight"].T
            expected[f"{wide}wo.weight"] = p[f"{ours}mlp.c_proj.weight"].T
            if gated:
                expected[f"{wide}wi_0.weight"] = p[f"{ours}mlp.c_gate.weight"].T
            if stack == "decoder":
                expected[f"{theirs}1.layer_norm.weight"] = p[f"{ours}ln_cross.weight"]
                expected[f"{theirs}1.EncDecAttention.q.weight"] = p[f"{ours}cross.q_attn.weight"].T
                expected[f"{theirs}1.EncDecAttention.k.weight"] = p[f"{ours}cross.c_attn.weight"][:, :20].T
                expected[f"{theirs}1.EncDecAttention.v.weight"] = p[f"{ours}cross.c_attn.weight"][:, 20:].T
                expected[f"{theirs}1.EncDecAttention.o.weight"] = p[f"{ours}cross.c_proj.weight"].T
    found = minigpt.to_huggingface_names(model, p)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
        assert found[name].shape == value.shape and np.shares_memory(found[name], model.store.vector)


def test_every_row_of_the_table_is_of_some_config(rng):
    """And no row stands twice, on either side."""
    theirs = [name for row in t5.TABLE.rows for name in ([row.theirs] if isinstance(row.theirs, str) else row.theirs)]
    assert len(set(theirs)) == len(theirs)
    models = [small_t5(rng, **changes) for changes in ({}, V11)]
    used = {t5.TABLE.chosen(model.config).row(name)[0] for model in models for name in model.parameters}
    assert used == set(t5.TABLE.rows)


# What a file holds


def test_copies_of_the_token_table_are_left_and_serve_in_its_place(tmp_path, rng):
    model = small_t5(rng)
    for copies in (ALIASES, ALIASES[:1], (*ALIASES, "lm_head.weight")):
        export(model, tmp_path, lambda t, copies=copies: t | dict.fromkeys(copies, t["shared.weight"]))
        assert_equal_numbers(minigpt.from_huggingface(tmp_path, say=silent), model)
    for alone in (*ALIASES, "lm_head.weight"):
        export(model, tmp_path, lambda t, alone=alone: t | {alone: t.pop("shared.weight")})
        assert_equal_numbers(minigpt.from_huggingface(tmp_path, say=silent), model)


@pytest.mark.parametrize("alias", ALIASES)
def test_a_copy_that_differs_is_refused_by_name(alias, tmp_path, rng):
    export(small_t5(rng), tmp_path, lambda t: t | {alias: t["shared.weight"] + np.eye(13, 6)})
    refuses(tmp_path, rf"model\.safetensors: tensor {alias} differs from shared\.weight, of which it must be a copy")


def test_two_tables_without_the_shared_one_must_be_equal(tmp_path, rng):
    export(
        small_t5(rng), tmp_path, lambda t: t | {ALIASES[0]: t["shared.weight"] + 1, ALIASES[1]: t.pop("shared.weight")}
    )
    refuses(tmp_path, r"tensor decoder\.embed_tokens\.weight differs from encoder\.embed_tokens\.weight, of which")


def test_the_table_of_cross_attention_in_old_files_is_ignored(tmp_path, rng):
    model = small_t5(rng)
    export(model, tmp_path, lambda t: t | {CROSS_BIAS: np.ones((8, 4))})
    assert_equal_numbers(minigpt.from_huggingface(tmp_path, say=silent), model)
    export(model, tmp_path, lambda t: t | {CROSS_BIAS.replace("0", "1", 1): np.ones((8, 4))})
    refuses(tmp_path, r"tensor decoder\.block\.1\.\S+relative_attention_bias\.weight does not belong")


@pytest.mark.parametrize(
    ("values", "scaled"),
    [
        ({"tie_word_embeddings": None}, True),
        ({"tie_word_embeddings": True}, True),
        ({"tie_word_embeddings": False}, False),
        ({"tie_word_embeddings": False, "scale_decoder_outputs": True}, True),
        ({"tie_word_embeddings": True, "scale_decoder_outputs": False}, False),
        ({"scale_decoder_outputs": False}, False),
        ({}, True),
        ({"model_type": "mt5"}, False),
        ({"model_type": "mt5", "tie_word_embeddings": True, "scale_decoder_outputs": True}, False),
    ],
    ids=str,
)
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_the_files_decide_about_the_tie_and_the_config_about_the_scale(values, scaled, tie_embeddings, tmp_path, rng):
    model, said = small_t5(rng, tie_embeddings=tie_embeddings), []
    minigpt.to_huggingface(model, tmp_path)
    of_values(tmp_path, "tie_word_embeddings", "scale_decoder_outputs")
    rewrite(tmp_path, **values)
    again = minigpt.from_huggingface(tmp_path, say=said.append)
    assert again.config.tie_embeddings == tie_embeddings
    assert again.config.output_scale == (6**-0.5 if scaled else 1)
    np.testing.assert_array_equal(again.store.vector, model.store.vector)
    if tie_embeddings and values.get("tie_word_embeddings") is False:
        assert len(said) == 1 and "tie_word_embeddings is false, the files have no lm_head.weight" in said[0]
    elif not tie_embeddings and scaled and values.get("tie_word_embeddings") is not False:
        assert len(said) == 1 and "lm_head.weight differs from shared.weight, to which the config ties it" in said[0]
    else:
        assert said == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("decoder.block.1.layer.1.EncDecAttention.k"), r"tensor decoder\.block\.1\.\S+\.k\.weight is missing"),
        (without("relative_attention_bias"), r"2 tensors do not fit; missing: encoder\.block\.0\S+relative"),
        (without("shared"), r"tensor shared\.weight is missing"),
        (lambda t: t | {"encoder.block.0.layer.0.SelfAttention.q.bias": np.ones(20)}, r"q\.bias does not belong"),
        (lambda t: t | {"lm_head.bias": np.ones(13)}, r"tensor lm_head\.bias does not belong to this config"),
        (lambda t: t | {"shared.weight": np.ones((6, 13))}, r"tensor shared\.weight has shape \(6, 13\), .*\(13, 6\)"),
        (lambda t: t | {ALIASES[0]: np.ones((6, 13))}, r"encoder\.embed_tokens\.weight differs from shared"),
        (
            lambda t: t | {"decoder.final_layer_norm.weight": np.arange(6)},
            r"final_layer_norm\.weight is I64, it must be",
        ),
        (
            lambda t: t | {"shared.weight": t["shared.weight"] * np.inf},
            r"shared\.weight holds 78 values that are not fin",
        ),
        (without("decoder."), r"28 tensors do not fit; missing: decoder\."),
    ],
)
def test_tensors_that_do_not_fit_are_named(change, message, tmp_path, rng):
    refuses(export(small_t5(rng), tmp_path, change), message)


def test_a_head_beside_a_token_table_under_another_name(tmp_path, rng):
    """It is untied, and scaled as the config says."""
    model, said = small_t5(rng, tie_embeddings=False, scale_decoder_outputs=True), []
    export(model, tmp_path, lambda t: t | {ALIASES[1]: t.pop("shared.weight")})
    assert_equal_numbers(minigpt.from_huggingface(tmp_path, say=said.append), model)
    assert said == []
    export(model, tmp_path, lambda t: t | {"lm_head.weight": t["shared.weight"].copy()})
    again = minigpt.from_huggingface(tmp_path, say=silent)  # a head that is the table, whatever the config says
    assert again.config.tie_embeddings and again.config.output_scale == 6**-0.5


# What a config says


def test_what_a_config_leaves_out_is_as_in_theirs(tmp_path, rng):
    changes = {"d_kv": 64, "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "dropout": 0.1}
    model = small_t5(rng, **changes)
    minigpt.to_huggingface(model, tmp_path)
    of_values(tmp_path, "d_kv", "relative_attention_num_buckets", "relative_attention_max_distance", "dropout_rate")
    of_values(tmp_path, "layer_norm_epsilon", "num_decoder_layers", "feed_forward_proj", "pad_token_id", "eos_token_id")
    assert_equal_numbers(minigpt.from_huggingface(tmp_path, say=silent), model)
    assert T5Config(vocab_size=13).layer_norm_epsilon == 1e-6


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "relu"),
        ({"feed_forward_proj": "gelu"}, "gelu"),
        ({"feed_forward_proj": "silu"}, "silu"),
        ({"feed_forward_proj": "swish"}, "silu"),
        ({"feed_forward_proj": "relu", "dense_act_fn": "silu"}, "silu"),  # in parts, as configs of one time had it
    ],
    ids=str,
)
def test_the_activation_is_read_in_all_its_spellings(values, expected, tmp_path, rng):
    minigpt.to_huggingface(small_t5(rng), tmp_path)
    of_values(tmp_path, "feed_forward_proj", "num_decoder_layers", "is_encoder_decoder")
    rewrite(tmp_path, **values)
    assert minigpt.from_huggingface(tmp_path, say=silent).config.feed_forward_proj == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu_new", "is_gated_act": True}, "gated-gelu"),
        ({"feed_forward_proj": "gated-gelu_new"}, "gated-gelu"),
        ({"feed_forward_proj": "gated-silu"}, "gated-silu"),
        ({"feed_forward_proj": "gelu_new", "is_gated_act": True}, "gated-gelu"),
        ({"model_type": "mt5"}, "gated-gelu"),  # its default
    ],
    ids=str,
)
def test_the_gate_is_read_in_all_its_spellings(values, expected, tmp_path, rng):
    minigpt.to_huggingface(small_t5(rng, **V11), tmp_path)
    of_values(tmp_path, "feed_forward_proj")
    rewrite(tmp_path, **values)
    assert minigpt.from_huggingface(tmp_path, say=silent).config.feed_forward_proj == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"feed_forward_proj": "tanh"},
            r"feed_forward_proj is 'tanh' \(dense_act_fn 'tanh', is_gated_act False\), it m",
        ),
        (
            {"feed_forward_proj": "gelu_new"},
            r"feed_forward_proj is 'gelu_new' .*must be one of relu, gelu, silu, gated-",
        ),
        (
            {"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu"},
            r"is 'gated-gelu' \(dense_act_fn 'gelu', is_gated",
        ),
        ({"feed_forward_proj": "open-relu"}, r"feed_forward_proj is 'open-relu'"),
        ({"feed_forward_proj": "gated-gated-relu"}, r"feed_forward_proj is 'gated-gated-relu'"),
        ({"feed_forward_proj": 3}, r"feed_forward_proj is 3, it must be a string"),
        ({"feed_forward_proj": "gated-relu"}, r"wi_0\.weight"),
        ({"is_gated_act": 1}, r"is_gated_act is 1"),
        (
            {"architectures": ["T5EncoderModel"]},
            r"architectures is \['T5EncoderModel'\], it must name T5ForConditionalG",
        ),
        ({"architectures": ["T5ForSequenceClassification"]}, r"architectures is \['T5ForSequenceClassification'\]"),
        ({"is_encoder_decoder": False}, r"is_encoder_decoder is False, it must be True"),
        ({"model_type": "umt5"}, r"model_type is 'umt5', it must be one of gpt2, gpt_neo, bert, roberta, t5, mt5"),
        ({"scale_decoder_outputs": None}, r"scale_decoder_outputs is None"),
        ({"tie_word_embeddings": "yes"}, r"tie_word_embeddings is 'yes'"),
        ({"num_layers": 10**9}, r"num_layers is 1000000000, the files hold 47 tensors only"),
        ({"num_decoder_layers": 10**9}, r"num_decoder_layers is 1000000000, the files hold 47 tensors only"),
        ({"num_decoder_layers": 0}, r"num_decoder_layers is 0"),
        ({"num_decoder_layers": 1}, r"\d+ tensors do not fit; not of this config: decoder\.block\.1\."),
        ({"num_decoder_layers": 3}, r"\d+ tensors do not fit; missing: decoder\.block\.2\."),
        ({"d_kv": 10}, r"of another shape: \S+SelfAttention\.q\.weight \(20, 6\), not \(40, 6\)"),
        ({"d_ff": 10**30}, r"config\.json: d_ff is a number of 100 bits"),
        ({"d_kv": 10**15, "num_heads": 10**9}, r"q\.weight \(20, 6\), not \(1000000000000000000000000, 6\)"),
        ({"relative_attention_num_buckets": 7}, r"config\.json: relative_attention_num_buckets is 7, it must be even"),
        ({"relative_attention_num_buckets": 10}, r"relative_attention_bias\.weight \(8, 4\), not \(10, 4\)"),
        ({"relative_attention_max_distance": 4}, r"relative_attention_max_distance is 4"),
        ({"layer_norm_epsilon": -1}, r"layer_norm_epsilon is -1"),
        ({"dropout_rate": 1}, r"dropout_rate is 1"),
        ({"eos_token_id": 13}, r"config\.json: eos_token_id is 13, it must be"),
        ({"eos_token_id": ["</s>"]}, r"eos_token_id\[0\] is '</s>'"),
        ({"decoder_start_token_id": 13}, r"config\.json: decoder_start_token_id is 13, it must be"),
        ({"quantization_config": {"bits": 8}}, r"quantization_config is there, quantized weights can't be read"),
    ],
    ids=str,
)
def test_a_t5_config_that_is_not_ours_is_named(values, message, tmp_path, rng):
    minigpt.to_huggingface(small_t5(rng), tmp_path)
    rewrite(tmp_path, **values)
    refuses(tmp_path, message)


def test_an_encoder_alone_is_refused_before_its_tensors_are_counted(tmp_path, rng):
    export(small_t5(rng), tmp_path, without("decoder."))
    rewrite(tmp_path, architectures=["T5EncoderModel"])
    refuses(tmp_path, "our T5 has both stacks and writes text$")


def test_keys_of_a_real_t5_say_nothing_and_others_are_told(tmp_path, rng):
    minigpt.to_huggingface(small_t5(rng), tmp_path)
    rewrite(tmp_path, n_positions=512, output_past=True, initializer_factor=1.0, task_specific_params={"a": {}})
    rewrite(tmp_path, classifier_dropout=0.0, is_decoder=False, use_cache=True, architectures=["T5WithLMHeadModel"])
    rewrite(tmp_path, tokenizer_class="T5Tokenizer", torch_dtype="float32", dense_act_fn="relu")
    minigpt.from_huggingface(tmp_path, say=silent)
    rewrite(tmp_path, scalable_attention=True)
    said = []
    minigpt.from_huggingface(tmp_path, say=said.append)
    assert said == [f"{tmp_path}/config.json: nothing is made of 'scalable_attention'"]


# Tokens


def test_where_the_decoder_begins_is_read_from_either_file(tmp_path, rng):
    def begins():
        return minigpt.from_huggingface(tmp_path, say=silent).config.decoder_start_token_id

    minigpt.to_huggingface(small_t5(rng, pad_token_id=4, decoder_start_token_id=7), tmp_path)
    (tmp_path / "generation_config.json").write_text('{"decoder_start_token_id": 5}')
    assert begins() == 7
    rewrite(tmp_path, decoder_start_token_id=None)
    assert begins() == 5
    of_values(tmp_path, "decoder_start_token_id")
    assert begins() == 5
    (tmp_path / "generation_config.json").write_text("{}")
    assert begins() == 4
    (tmp_path / "generation_config.json").unlink()
    assert begins() == 4
    (tmp_path / "generation_config.json").write_text('{"decoder_start_token_id": "a"}')
    refuses(tmp_path, r"generation_config\.json: decoder_start_token_id is 'a'")


@pytest.mark.parametrize(("value", "expected"), [([5, 6], 5), ([], 1), (None, 1)], ids=str)
def test_of_several_ends_of_a_text_the_first_is_taken(value, expected, tmp_path, rng):
    minigpt.to_huggingface(small_t5(rng, eos_token_id=2), tmp_path)
    rewrite(tmp_path, eos_token_id=value)
    said = []
    assert minigpt.from_huggingface(tmp_path, say=said.append).config.eos_token_id == expected
    assert len(said) == 1 and f"eos_token_id is {value!r}, the model has {expected}" in said[0]


def test_no_padding_token_is_token_0(tmp_path, rng):
    minigpt.to_huggingface(small_t5(rng), tmp_path)
    rewrite(tmp_path, pad_token_id=None)
    assert minigpt.from_huggingface(tmp_path, say=silent).config == T5Config(**small_t5(rng).config.__dict__)


class Words(Tokenizer):
    """What to_huggingface asks of a tokenizer."""

    vocab_size, pad_id, eos_id, bos_id = 13, 0, 1, None

    def save(self, directory):
        (directory / "tokenizer.json").write_text("{}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 14}, "the tokenizer has 14 tokens, the model knows 13"),
        ({"pad_id": 2}, "the tokenizer pads with token 2, the model's pad_token_id is 0"),
        ({"eos_id": 2}, "the tokenizer ends a text with token 2, the model's eos_token_id is 1"),
    ],
    ids=str,
)
def test_a_tokenizer_that_does_not_fit_a_t5_is_refused(changes, message, tmp_path, rng):
    with pytest.raises(MinigptError, match=message):
        minigpt.to_huggingface(small_t5(rng), tmp_path / "out", type("Other", (Words,), changes)())
    assert not (tmp_path / "out").exists()
    minigpt.to_huggingface(small_t5(rng), tmp_path / "out", Words())
    assert "bos_token_id" not in json.loads((tmp_path / "out" / "config.json").read_text())


def test_heads_and_labels_are_no_choice_of_a_t5(tmp_path, rng):
    minigpt.to_huggingface(small_t5(rng), tmp_path)
    with pytest.raises(MinigptError, match="head is 'masked_lm', it must be None: T5 has no choice of heads"):
        minigpt.from_huggingface(tmp_path, "masked_lm")
    with pytest.raises(MinigptError, match="num_labels is 3, it must be None: T5 has no labels"):
        minigpt.from_huggingface(tmp_path, num_labels=3)


def test_describe_tells_a_t5_without_reading_it(tmp_path, rng):
    model = small_t5(rng, **V11)
    minigpt.to_huggingface(model, tmp_path)
    found = SimpleNamespace(**minigpt.hub.describe(tmp_path))
    assert (found.model, found.config, found.notes) == ("T5", model.config, [])
    assert (found.numbers, found.dtypes, found.fresh) == (model.num_parameters, ["F64"], ())
