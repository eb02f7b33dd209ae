"""Folders of T5, ours and theirs, against `transformers`: what it makes of a file, we make of
it.
"""

import json

import numpy as np
import pytest
from hub_folders import assert_equal_numbers, export, of_values, rewrite, silent, small_t5
from lifted_casts import lift_casts
from safetensors.numpy import load_file

import minigpt

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from transformers.models.mt5 import modeling_mt5  # noqa: E402
from transformers.models.t5 import modeling_t5  # noqa: E402

CASTS = ("variance = hidden_states.to(torch.float32).pow(2)",)
V11 = {"feed_forward_proj": "gated-gelu", "tie_embeddings": False}
VERSIONS = {
    "1.0": {},
    "1.1": V11,
    "tied, not scaled": {"scale_decoder_outputs": False, "num_decoder_layers": 3, "feed_forward_proj": "gated-silu"},
    "untied, scaled": {"tie_embeddings": False, "scale_decoder_outputs": True, "feed_forward_proj": "gelu"},
    "tokens": {"pad_token_id": 3, "eos_token_id": 5, "decoder_start_token_id": 2, "num_decoder_layers": 1},
}
EVERY = pytest.mark.parametrize("version", VERSIONS)
ALIASES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")


@pytest.fixture(autouse=True)
def _without_casts(monkeypatch):
    for module in (modeling_t5, modeling_mt5):
        lift_casts(monkeypatch, module, *CASTS)


def theirs_of(directory, dtype=torch.float64, family="T5ForConditionalGeneration"):
    """Their model, which must find all that it asks for, and nothing else."""
    model, info = getattr(transformers, family).from_pretrained(directory, dtype=dtype, output_loading_info=True)
    assert {key: value for key, value in info.items() if value} == {}
    return model.eval()


def assert_same(model, theirs, rng, limit=1e-10):
    """The same logits, of a padded source."""
    ids, decoder_ids = rng.integers(4, 13, (4, 6)), rng.integers(4, 13, (4, 9))
    mask = np.ones_like(ids)
    mask[1, 4:] = mask[2, :1] = 0
    with torch.no_grad():
        found = theirs(
            torch.tensor(ids), attention_mask=torch.tensor(mask), decoder_input_ids=torch.tensor(decoder_ids)
        )
    expected = found.logits.to(torch.float64).numpy()
    ours = model.logits(ids, decoder_ids, mask)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=limit * np.abs(expected).max())


@EVERY
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_transformers_reads_our_t5_and_we_read_theirs(version, dtype, tmp_path, rng, monkeypatch):
    if dtype == np.float32:
        monkeypatch.undo()  # their casts stay
    model, said = small_t5(rng, dtype, dropout=0.25, layer_norm_epsilon=1e-5, **VERSIONS[version]), []
    minigpt.to_huggingface(model, tmp_path / "ours")
    theirs = theirs_of(tmp_path / "ours", getattr(torch, np.dtype(dtype).name))
    assert_same(model, theirs, rng, 1e-5 if dtype == np.float32 else 1e-10)
    theirs.save_pretrained(tmp_path / "theirs")
    assert_equal_numbers(minigpt.from_huggingface(tmp_path / "theirs", say=said.append), model)
    assert len(said) == (version == "untied, scaled")  # their config then says that the head is tied
    state = theirs.state_dict()
    for key, value in minigpt.to_huggingface_names(model, model.parameters).items():
        np.testing.assert_array_equal(state[key].numpy(), value)
    files = [set(load_file(tmp_path / side / "model.safetensors")) for side in ("ours", "theirs")]
    assert files[0] == files[1]


@EVERY
def test_what_we_write_of_a_t5_is_what_their_config_says(version, tmp_path, rng):
    """Every setting that we write is one of theirs and comes back as it was written; none lacks."""
    minigpt.to_huggingface(small_t5(rng, **VERSIONS[version]), tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    config.save_pretrained(tmp_path / "theirs")
    theirs = json.loads((tmp_path / "theirs" / "config.json").read_text())
    for written in (values, theirs):
        del written["tie_word_embeddings"]  # always True there
    assert {key: theirs.get(key) for key in values} == values
    left = {"transformers_version", "use_cache", "initializer_factor", "is_decoder", "classifier_dropout"}
    assert theirs.keys() - values.keys() <= left | {"dense_act_fn", "is_gated_act"}
    generation = transformers.GenerationConfig.from_pretrained(tmp_path)
    for key in ("decoder_start_token_id", "eos_token_id", "pad_token_id"):
        assert getattr(generation, key) == values[key]


@EVERY
def test_gradients_of_a_t5_have_their_names_and_layout(version, tmp_path, rng):
    model = small_t5(rng, **VERSIONS[version])
    minigpt.to_huggingface(model, tmp_path)
    theirs = theirs_of(tmp_path)
    ids, targets = rng.integers(4, 13, (3, 6)), rng.integers(4, 13, (3, 8))
    targets[0, 5:] = -100
    theirs(torch.tensor(ids), labels=torch.tensor(targets)).loss.backward()
    _, grads = model.loss_and_grads({"ids": ids, "targets": targets})
    named = minigpt.to_huggingface_names(model, grads)
    expected = {key: p.grad.numpy() for key, p in theirs.named_parameters()}
    assert named.keys() == expected.keys()
    largest = max(np.abs(value).max() for value in expected.values())
    for key, value in named.items():
        np.testing.assert_allclose(value, expected[key], rtol=0, atol=1e-10 * largest, err_msg=key)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_half_precision_and_shards_of_a_t5_are_read(version, dtype, tmp_path, rng):
    minigpt.to_huggingface(small_t5(rng, **VERSIONS[version]), tmp_path / "ours")
    theirs_of(tmp_path / "ours", dtype).save_pretrained(tmp_path / "theirs", max_shard_size="1KB")
    assert len(list((tmp_path / "theirs").glob("model-*.safetensors"))) > 1
    model = minigpt.from_huggingface(tmp_path / "theirs", say=silent)
    assert model.dtype == np.float32
    assert_same(model.astype(np.float64), theirs_of(tmp_path / "theirs"), rng)


def copies(tensors, *names):
    """Tensors with the token table once more under other names."""
    return tensors | dict.fromkeys(names, tensors["shared.weight"])


CHANGES = {
    "copies": lambda t, new: copies(t, *ALIASES),
    "a copy of the head": lambda t, new: copies(t, "lm_head.weight"),
    "another head": lambda t, new: t | {"lm_head.weight": new},
    "no shared table, encoder": lambda t, new: t | {ALIASES[0]: t.pop("shared.weight")},
    "no shared table, decoder": lambda t, new: t | {ALIASES[1]: t.pop("shared.weight")},
    "no shared table, head": lambda t, new: t | {"lm_head.weight": t.pop("shared.weight")},
    "no shared table, another head": lambda t, new: t | {ALIASES[0]: t.pop("shared.weight"), "lm_head.weight": new},
    "a table for cross-attention": lambda t, new: (
        t | {"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": np.ones((8, 4))}
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_they_make_of_copies_and_old_names_of_a_t5(case, tmp_path, rng):
    new = rng.standard_normal((13, 6))
    export(small_t5(rng), tmp_path, lambda tensors: CHANGES[case](tensors, new))
    assert_same(minigpt.from_huggingface(tmp_path, say=lambda text: None), theirs_of(tmp_path), rng)


@pytest.mark.parametrize("alias", ALIASES)
def test_a_table_of_its_own_for_a_stack_is_computed_there_and_refused_here(alias, tmp_path, rng):
    export(small_t5(rng), tmp_path, lambda t: t | {alias: rng.standard_normal((13, 6))})
    theirs = theirs_of(tmp_path)
    assert theirs.get_parameter(alias) is not theirs.shared.weight
    with pytest.raises(minigpt.MinigptError, match=f"{alias} differs from shared.weight"):
        minigpt.from_huggingface(tmp_path)


SETTINGS = [{"tie_word_embeddings": value} for value in (True, False, None)]
SETTINGS += [{"tie_word_embeddings": False, "scale_decoder_outputs": True}, {"scale_decoder_outputs": False}, {}]
SETTINGS += [{"feed_forward_proj": name} for name in ("relu", "gelu", "silu", "swish")]
SETTINGS += [{"dense_act_fn": "silu"}, {"num_decoder_layers": None}, {"layer_norm_epsilon": 0.1}]


@pytest.mark.parametrize("values", SETTINGS, ids=str)
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_a_config_of_a_t5_means_what_it_means_to_them(values, tie_embeddings, tmp_path, rng):
    minigpt.to_huggingface(small_t5(rng, tie_embeddings=tie_embeddings), tmp_path)
    of_values(tmp_path, "tie_word_embeddings", "scale_decoder_outputs", "num_decoder_layers")
    rewrite(tmp_path, **values)
    assert_same(minigpt.from_huggingface(tmp_path, say=lambda text: None), theirs_of(tmp_path), rng)


@pytest.mark.parametrize("values", [{"feed_forward_proj": f"gated-{x}"} for x in ("relu", "gelu", "silu", "gelu_new")])
def test_a_gate_means_what_it_means_to_them(values, tmp_path, rng):
    minigpt.to_huggingface(small_t5(rng, **V11), tmp_path)
    rewrite(tmp_path, **values)
    assert_same(minigpt.from_huggingface(tmp_path, say=silent), theirs_of(tmp_path), rng)


def test_files_of_the_bare_t5_are_read(tmp_path, rng):
    model = small_t5(rng)
    minigpt.to_huggingface(model, tmp_path / "ours")
    theirs_of(tmp_path / "ours", family="T5Model").save_pretrained(tmp_path / "theirs")
    assert_equal_numbers(minigpt.from_huggingface(tmp_path / "theirs", say=silent), model)


@pytest.mark.parametrize("untied", [True, False])
def test_an_mt5_is_a_t5_without_the_scale(untied, tmp_path, rng):
    sizes = {"vocab_size": 13, "d_model": 6, "d_kv": 5, "d_ff": 11, "num_layers": 2, "num_heads": 4}
    theirs = transformers.MT5ForConditionalGeneration(transformers.MT5Config(**sizes)).double().eval()
    if untied:
        theirs.lm_head.weight = torch.nn.Parameter(torch.zeros(13, 6, dtype=torch.float64))
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.tensor(0.5 * rng.standard_normal(tuple(parameter.shape))))
    theirs.save_pretrained(tmp_path / "mt5")
    model = minigpt.from_huggingface(tmp_path / "mt5", say=silent)
    assert model.config.output_scale == 1 and model.config.tie_embeddings == (not untied)
    assert_same(model, theirs, rng)
    minigpt.to_huggingface(model, tmp_path / "t5")
    assert_same(model, theirs_of(tmp_path / "t5"), rng)


@pytest.mark.parametrize("name", ["T5EncoderModel", "T5ForSequenceClassification", "T5ForTokenClassification"])
def test_their_models_of_one_stack_or_another_head_are_refused(name, tmp_path):
    sizes = {"vocab_size": 13, "d_model": 6, "d_kv": 5, "d_ff": 11, "num_layers": 1, "num_heads": 4}
    getattr(transformers, name)(transformers.T5Config(**sizes)).save_pretrained(tmp_path)
    with pytest.raises(minigpt.MinigptError, match=rf"architectures is \['{name}'\], it must name T5ForCond"):
        minigpt.from_huggingface(tmp_path)


def test_a_t5_that_does_not_say_where_its_decoder_begins_is_read(tmp_path):
    """Their T5Config has no such token by itself, and their generate then refuses."""
    sizes = {"vocab_size": 13, "d_model": 6, "d_kv": 5, "d_ff": 11, "num_layers": 1, "num_heads": 4}
    transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes)).save_pretrained(tmp_path)
    assert minigpt.from_huggingface(tmp_path, say=silent).config.decoder_start_token_id == 0


# Generation

WRITING = {
    "greedy": ({"temperature": 0}, {"do_sample": False}),
    "beams": ({"num_beams": 3}, {"num_beams": 3, "do_sample": False}),
    "penalised": ({"temperature": 0, "repetition_penalty": 1.3}, {"do_sample": False, "repetition_penalty": 1.3}),
    "two of four beams": (
        {"num_beams": 4, "num_return_sequences": 2, "length_penalty": 2.0, "early_stopping": True},
        {"num_beams": 4, "num_return_sequences": 2, "length_penalty": 2.0, "early_stopping": True, "do_sample": False},
    ),
}


@EVERY
@pytest.mark.parametrize("how", WRITING)
def test_their_generate_writes_what_ours_writes(version, how, tmp_path, rng):
    """By the settings of the folder alone: where the decoder begins, where a text ends, what fills
    it up. Both ways: from ours, and from what they write of it.
    """
    model = small_t5(rng, **VERSIONS[version])
    minigpt.to_huggingface(model, tmp_path / "ours")
    theirs = theirs_of(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    again = minigpt.from_huggingface(tmp_path / "theirs", say=lambda text: None)
    ids, mask = rng.integers(6, 13, (5, 6)), np.ones((5, 6), np.int64)
    mask[1, 4:] = mask[2, :2] = 0
    ids[mask == 0] = model.config.pad_token_id
    ours, settings = WRITING[how]
    if model.config.decoder_layers > model.config.num_layers:  # their cache has room for the encoder's layers alone
        settings = settings | {"use_cache": False}
    expected = theirs.generate(torch.tensor(ids), attention_mask=torch.tensor(mask), max_new_tokens=9, **settings)
    for written in (model, again):
        found = written.generate(ids, 9, attention_mask=mask, **ours)
        np.testing.assert_array_equal(found, expected.numpy())
