import json

import numpy as np
import pytest
from hub_folders import rewrite, silent
from safetensors.numpy import load_file

import minigpt
from minigpt import GPTNeo, GPTNeoConfig, MinigptError

KINDS = ("local", "global", "global")
SIZES = {"vocab_size": 11, "max_position_embeddings": 9, "hidden_size": 6, "num_layers": 3, "num_heads": 2}


def small_gpt_neo(rng, **changes):
    model = GPTNeo(GPTNeoConfig(**SIZES | {"attention_layers": KINDS, "window_size": 3} | changes), dtype=np.float64)
    model.store.vector[:] = 0.5 * rng.standard_normal(model.num_parameters)
    return model


@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": False, "intermediate_size": 7, "dropout": 0.25}], ids=str)
def test_gpt_neo_is_written_and_read(changes, tmp_path, rng):
    model = small_gpt_neo(rng, **changes)
    minigpt.to_huggingface(model, tmp_path)
    again = minigpt.from_huggingface(tmp_path, say=silent)
    assert type(again) is GPTNeo and again.config == model.config and again.fresh == ()
    np.testing.assert_array_equal(again.store.vector, model.store.vector)


def test_gpt_neo_has_three_projections_turned_and_no_biases_of_theirs(rng):
    model = small_gpt_neo(rng)
    found = minigpt.to_huggingface_names(model, model.parameters)
    attention = "transformer.h.1.attn.attention"
    for i, name in enumerate("qkv"):
        expected = model.parameters["h.1.attn.c_attn.weight"][:, 6 * i : 6 * i + 6].T
        np.testing.assert_array_equal(found[f"{attention}.{name}_proj.weight"], expected)
        assert f"{attention}.{name}_proj.bias" not in found
    np.testing.assert_array_equal(found[f"{attention}.out_proj.bias"], model.parameters["h.1.attn.c_proj.bias"])


def test_gpt_neo_reads_attention_types(tmp_path, rng):
    minigpt.to_huggingface(small_gpt_neo(rng), tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    del values["attention_layers"]
    path.write_text(json.dumps(values))
    assert minigpt.from_huggingface(tmp_path).config.attention_layers == KINDS
    rewrite(tmp_path, attention_types=[[["local"], 1], [["global"], 2]])
    assert minigpt.from_huggingface(tmp_path).config.attention_layers == KINDS
    rewrite(tmp_path, attention_types=[[["local"], 3]], attention_layers=list(KINDS))  # the second wins
    assert minigpt.from_huggingface(tmp_path).config.attention_layers == KINDS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"attention_layers": ["local"]},
            r"config\.json: attention_layers is \['local'\], it must be a list of num_layers = 3",
        ),
        ({"attention_layers": [1, 2, 3]}, r"attention_layers\[0\] is 1, it must be a string"),
        (
            {"attention_layers": ["local", "near", "local"]},
            r"attention_layers\[1\] is 'near', it must be one of global, local",
        ),
        ({"attention_types": [[["global", "local"], 2]]}, r"attention_types\[0\] ends after 4 layers, num_layers is 3"),
        ({"attention_types": [[["local"], 2**70]]}, r"attention_types\[0\]\[1\] is 1180591620717411303424, it must be"),
        ({"attention_types": [[["local"], True]]}, r"attention_types\[0\]\[1\] is True"),
        ({"attention_types": ["local"]}, r"attention_types\[0\] is 'local', it must be a list of words and how many"),
        ({"attention_types": [[[], 3]]}, r"attention_types\[0\] is \[\[\], 3\]"),
        ({"attention_types": [[[["local"]], 3]]}, r"attention_layers\[0\] is \['local'\], it must be one of"),
        ({"attention_types": 3}, r"attention_types is 3, it must be a list"),
        ({"window_size": 0}, r"config\.json: window_size is 0"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon is 1e-06, it must be 1e-05"),
        ({"num_layers": 10**9}, "num_layers is 1000000000, the files hold 43 tensors only"),
        ({"intermediate_size": 8}, r"of another shape: \S+c_fc\.weight \(24, 6\), not \(8, 6\), "),
    ],
)
def test_gpt_neo_config_that_is_not_ours_is_named(changes, message, tmp_path, rng):
    minigpt.to_huggingface(small_gpt_neo(rng), tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    if "attention_types" in changes:
        del values["attention_layers"]
    path.write_text(json.dumps(values | changes))
    with pytest.raises(MinigptError, match=message):
        minigpt.from_huggingface(tmp_path)


@pytest.mark.parity
@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": False, "intermediate_size": 7}], ids=str)
def test_transformers_reads_our_gpt_neo_and_we_read_theirs(changes, tmp_path, rng):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    model = small_gpt_neo(rng, **changes)
    minigpt.to_huggingface(model, tmp_path / "ours")
    theirs = transformers.GPTNeoForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.float64)
    assert theirs.config.attention_layers == list(KINDS)
    assert theirs.config.eos_token_id is None and theirs.generation_config.eos_token_id is None
    theirs.save_pretrained(tmp_path / "theirs")
    again = minigpt.from_huggingface(tmp_path / "theirs", say=silent)
    assert again.config == model.config
    np.testing.assert_array_equal(again.store.vector, model.store.vector)
    theirs.transformer.save_pretrained(tmp_path / "bare")
    assert "wte.weight" in load_file(tmp_path / "bare" / "model.safetensors")
    if model.config.tie_embeddings:
        again = minigpt.from_huggingface(tmp_path / "bare", say=silent)
        np.testing.assert_array_equal(again.store.vector, model.store.vector)
    new = theirs.eval().generate(
        torch.tensor([[1, 2]]), attention_mask=torch.ones(1, 2), max_new_tokens=6, do_sample=False
    )
    np.testing.assert_array_equal(new.numpy(), model.generate([[1, 2]], 6, temperature=0))
