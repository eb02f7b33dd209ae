import json

import numpy as np
import pytest

import minigpt
from minigpt import GPT, GPTConfig, MinigptError

SIZES = {"vocab_size": 11, "block_size": 7, "n_layer": 2, "n_head": 2, "n_embd": 6}


def make(rng, **changes):
    """A small GPT with O(1) weights in float64."""
    model = GPT(GPTConfig(**SIZES, **changes), dtype=np.float64)
    model.store.vector[:] = 0.5 * rng.standard_normal(model.num_parameters)
    return model


@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": False, "activation": "gelu", "dropout": 0.1}])
def test_export_and_import_give_the_same_model(tmp_path, rng, changes):
    model = make(rng, **changes)
    minigpt.to_huggingface(model, tmp_path)
    again = minigpt.from_huggingface(tmp_path)
    assert again.config == model.config
    np.testing.assert_array_equal(again.store.vector, model.store.vector)


def test_biases_that_a_model_lacks_are_written_as_zeros(tmp_path, rng):
    model = make(rng, bias=False)
    minigpt.to_huggingface(model, tmp_path)
    ids = rng.integers(0, 11, (2, 5))
    np.testing.assert_allclose(minigpt.from_huggingface(tmp_path).logits(ids), model.logits(ids), rtol=1e-12)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model_type", "llama", "model_type is 'llama'"),
        ("n_inner", 7, "n_inner is 7, it must be 24"),
        ("attn_pdrop", 0.5, "attn_pdrop"),
        ("activation_function", "mish", "activation_function is 'mish'"),
        ("layer_norm_epsilon", 1e-3, "layer_norm_epsilon is 0.001"),
        ("n_layer", 3, r"h\.2\.ln_1\.weight is missing"),
        ("n_layer", 1, r"h\.1\..* does not belong"),
        ("n_layer", 10**9, "too few for n_layer = 1000000000"),
        ("vocab_size", 12, r"wte\.weight has shape \(11, 6\), the config asks for \(12, 6\)"),
        ("n_embd", None, "n_embd is missing"),
    ],
)
def test_config_that_is_not_ours_is_named(tmp_path, rng, key, value, message):
    minigpt.to_huggingface(make(rng), tmp_path)
    values = json.loads((tmp_path / "config.json").read_text()) | {key: value}
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in values.items() if v is not None}))
    with pytest.raises(MinigptError, match=message):
        minigpt.from_huggingface(tmp_path)


@pytest.mark.parity
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_transformers_reads_ours_and_we_read_theirs(tmp_path, rng, tie_embeddings):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    model = make(rng, tie_embeddings=tie_embeddings)
    minigpt.to_huggingface(model, tmp_path / "ours")
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "ours", dtype=torch.float64).eval()
    ids = rng.integers(0, 11, (3, 5))
    logits = theirs(torch.tensor(ids)).logits.detach().numpy()
    np.testing.assert_allclose(model.logits(ids), logits, rtol=1e-10, atol=1e-12)
    theirs.save_pretrained(tmp_path / "theirs")
    np.testing.assert_array_equal(minigpt.from_huggingface(tmp_path / "theirs").store.vector, model.store.vector)
    state = theirs.state_dict()
    for name, value in minigpt.to_huggingface_names(model, model.parameters).items():
        np.testing.assert_array_equal(state[name].numpy(), value)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"positions": "rotary"}, "positions is 'rotary', it must be 'learned'"),
        ({"qk_norm": True}, "qk_norm is True, it must be False"),
        ({"smear": True}, "smear is True, it must be False"),
    ],
)
def test_what_a_gpt2_has_not_is_refused(tmp_path, settings, error):
    model = GPT(GPTConfig(vocab_size=5, block_size=4, n_layer=1, n_head=1, n_embd=4, **settings))
    with pytest.raises(MinigptError, match=error):
        minigpt.to_huggingface(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
