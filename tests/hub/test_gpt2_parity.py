"""Folders of GPT-2, ours and theirs, against `transformers`: what it makes of a file, we make of
it.
"""

import json

import numpy as np
import pytest
from hub_folders import export, rewrite, silent, small_gpt
from safetensors.numpy import load_file

import minigpt

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture
def ids(rng):
    return rng.integers(0, 11, (3, 5))


def theirs_of(directory, **settings):
    return transformers.GPT2LMHeadModel.from_pretrained(directory, **{"dtype": torch.float64, **settings}).eval()


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor(ids)).logits.to(torch.float64).numpy()


def assert_same(model, theirs, ids, limit=1e-12):
    expected = logits_of(theirs, ids)
    np.testing.assert_allclose(model.logits(ids), expected, rtol=0, atol=limit * np.abs(expected).max())


@pytest.mark.parametrize("activation", ["gelu_tanh", "gelu", "relu", "silu"])
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_transformers_reads_ours_and_we_read_theirs(activation, tie_embeddings, tmp_path, rng, ids):
    model = small_gpt(rng, tie_embeddings=tie_embeddings, activation=activation)
    minigpt.to_huggingface(model, tmp_path / "ours")
    theirs = theirs_of(tmp_path / "ours")
    assert_same(model, theirs, ids)
    theirs.save_pretrained(tmp_path / "theirs")
    again = minigpt.from_huggingface(tmp_path / "theirs", say=silent)
    np.testing.assert_array_equal(again.store.vector, model.store.vector)
    state = theirs.state_dict()
    for name, value in minigpt.to_huggingface_names(model, model.parameters).items():
        np.testing.assert_array_equal(state[name].numpy(), value)


def test_gradients_have_their_names_and_layout(tmp_path, rng, ids):
    model = small_gpt(rng, tie_embeddings=False)
    minigpt.to_huggingface(model, tmp_path)
    theirs, targets = theirs_of(tmp_path), rng.integers(0, 11, ids.shape)
    logits = theirs(torch.tensor(ids)).logits
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(targets).flatten()).backward()
    _, grads = model.loss_and_grads(ids, targets)
    for name, value in minigpt.to_huggingface_names(model, grads).items():
        expected = theirs.get_parameter(name).grad.numpy()
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-11 * np.abs(expected).max(), err_msg=name)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_files_are_read(dtype, tmp_path, rng, ids):
    minigpt.to_huggingface(small_gpt(rng), tmp_path / "ours")
    theirs_of(tmp_path / "ours", dtype=dtype).save_pretrained(tmp_path / "theirs")
    model = minigpt.from_huggingface(tmp_path / "theirs", say=silent)
    assert model.dtype == np.float32
    assert_same(model.astype(np.float64), theirs_of(tmp_path / "theirs"), ids)


def test_shards_are_read(tmp_path, rng, ids):
    model = small_gpt(rng)
    minigpt.to_huggingface(model, tmp_path / "ours")
    theirs_of(tmp_path / "ours").save_pretrained(tmp_path / "theirs", max_shard_size="1KB")
    assert len(list((tmp_path / "theirs").glob("model-*.safetensors"))) > 3
    again = minigpt.from_huggingface(tmp_path / "theirs", say=silent)
    np.testing.assert_array_equal(again.store.vector, model.store.vector)


def test_a_head_that_differs_is_untied_as_theirs_is(tmp_path, rng, ids):
    head = rng.standard_normal((11, 6))
    directory = export(small_gpt(rng), tmp_path, lambda t: t | {"lm_head.weight": head})
    model, theirs = minigpt.from_huggingface(directory, say=lambda message: None), theirs_of(directory)
    assert theirs.lm_head.weight is not theirs.transformer.wte.weight
    assert_same(model, theirs, ids)


def test_a_head_without_a_token_table_is_both_as_in_theirs(tmp_path, rng, ids):
    directory = export(small_gpt(rng), tmp_path, lambda t: t | {"lm_head.weight": t.pop("transformer.wte.weight")})
    theirs = theirs_of(directory)
    assert theirs.lm_head.weight is theirs.transformer.wte.weight
    assert_same(minigpt.from_huggingface(directory, say=silent), theirs, ids)


def test_files_of_the_bare_model_are_read(tmp_path, rng, ids):
    model = small_gpt(rng)
    minigpt.to_huggingface(model, tmp_path / "ours")
    theirs_of(tmp_path / "ours").transformer.save_pretrained(tmp_path / "theirs")
    assert "wte.weight" in load_file(tmp_path / "theirs" / "model.safetensors")
    again = minigpt.from_huggingface(tmp_path / "theirs", say=silent)
    np.testing.assert_array_equal(again.store.vector, model.store.vector)


def test_unequal_dropouts_do_not_matter_for_inference(tmp_path, rng, ids):
    minigpt.to_huggingface(small_gpt(rng), tmp_path)
    rewrite(tmp_path, attn_pdrop=0.5, embd_pdrop=0.1)
    assert_same(minigpt.from_huggingface(tmp_path, say=lambda message: None), theirs_of(tmp_path), ids)


def test_their_generate_knows_no_end_of_text(tmp_path, rng):
    """Token 50256 is none of ours; and a folder that a real GPT-2 stood in does not pass it on."""
    transformers.GenerationConfig(bos_token_id=50256, eos_token_id=50256).save_pretrained(tmp_path)
    model = small_gpt(rng)
    minigpt.to_huggingface(model, tmp_path)
    theirs = theirs_of(tmp_path)
    for config in (theirs.config, theirs.generation_config):
        assert config.bos_token_id is None and config.eos_token_id is None
    new = theirs.generate(torch.tensor([[1, 2]]), attention_mask=torch.ones(1, 2), max_new_tokens=5, do_sample=False)
    np.testing.assert_array_equal(new.numpy(), model.generate([[1, 2]], 5, temperature=0))


def test_what_we_write_is_what_their_config_says(tmp_path, rng):
    """Every setting that we write is one of a GPT2Config, and comes back as it was written."""
    minigpt.to_huggingface(small_gpt(rng), tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    theirs = transformers.AutoConfig.from_pretrained(tmp_path).to_dict()
    assert {key: theirs[key] for key in values} == values
