import json
import os

import numpy as np
import pytest
from hub_folders import SIZES, export, rewrite, shard, silent, small_gpt
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import minigpt
from minigpt import GPT, GPTNeo, GPTNeoConfig, MinigptError, hub
from minigpt.hub import reading
from minigpt.hub.files import FORMATS, map_file
from minigpt.models.recipe_gpt import RecipeGPT, RecipeGPTConfig

# Both ways


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": False, "activation": "gelu", "dropout": 0.1}], ids=str)
def test_export_and_import_give_the_same_model(changes, dtype, tmp_path, rng):
    model = small_gpt(rng, dtype, **changes)
    minigpt.to_huggingface(model, tmp_path)
    again = minigpt.from_huggingface(tmp_path, say=silent)
    assert again.config == model.config and again.dtype == dtype
    assert again.fresh == ()
    with safe_open(tmp_path / "model.safetensors", framework="np") as file:
        assert file.metadata() == {"format": "pt"}  # which older versions of transformers ask for
    np.testing.assert_array_equal(again.store.vector, model.store.vector)


def test_biases_that_a_model_lacks_are_written_as_zeros(tmp_path, rng):
    model = small_gpt(rng, bias=False)
    minigpt.to_huggingface(model, tmp_path)
    ids = rng.integers(0, 11, (2, 5))
    np.testing.assert_allclose(minigpt.from_huggingface(tmp_path).logits(ids), model.logits(ids), rtol=1e-12)


def test_names_are_of_any_dict_like_the_parameters(rng):
    model = small_gpt(rng, tie_embeddings=False)
    _, grads = model.loss_and_grads([[1, 2]], [[2, 3]])
    named = minigpt.to_huggingface_names(model, grads)
    assert named["lm_head.weight"].shape == (11, 6)
    np.testing.assert_array_equal(named["lm_head.weight"], grads["lm_head.weight"].T)
    np.testing.assert_array_equal(named["transformer.h.1.mlp.c_fc.weight"], grads["h.1.mlp.c_fc.weight"])
    assert list(minigpt.to_huggingface_names(model, {"wpe.weight": grads["wpe.weight"]})) == ["transformer.wpe.weight"]


@pytest.mark.parametrize(("name", "shape"), [("wte.bias", (6,)), ("wte.weight", (6, 11)), ("h.2.ln_1.bias", (6,))])
def test_names_of_what_is_no_parameter_are_refused(name, shape, rng):
    with pytest.raises(MinigptError, match=name):
        minigpt.to_huggingface_names(small_gpt(rng), {name: np.zeros(shape)})


@pytest.mark.parametrize(
    "write", [lambda m, path: minigpt.to_huggingface(m, path), lambda m, _: minigpt.to_huggingface_names(m, {})]
)
def test_a_model_that_transformers_does_not_have_is_refused(write, tmp_path):
    with pytest.raises(MinigptError, match="transformers has no dict"):
        write({}, tmp_path)


def test_complex_weights_are_refused(tmp_path, rng):
    with pytest.raises(MinigptError, match="complex128, it must be float32 or float64"):
        minigpt.to_huggingface(small_gpt(rng).astype(np.complex128), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Config


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model_type", "llama", "model_type is 'llama', it must be "),
        ("model_type", ["gpt2"], r"model_type is \['gpt2'\]"),
        ("n_inner", 7, "n_inner is 7, it must be 24"),
        ("n_inner", {}, "n_inner is {}, it must be 24"),
        ("activation_function", "mish", "activation_function is 'mish'"),
        ("activation_function", ["gelu"], r"activation_function is \['gelu'\], it must be one of gelu_new, "),
        ("layer_norm_epsilon", 1e-3, "layer_norm_epsilon is 0.001, it must be 1e-05"),
        ("scale_attn_weights", 1, "scale_attn_weights is 1, it must be True"),
        ("n_layer", 3, r"12 tensors do not fit; missing: transformer\.h\.2\.ln_1\.weight, .* and 2 more$"),
        ("n_layer", 1, r"12 tensors do not fit; not of this config: transformer\.h\.1\.\S+, .* and 2 more$"),
        ("n_layer", 10**9, "n_layer is 1000000000, the files hold 28 tensors only"),
        ("vocab_size", 12, r"wte\.weight has shape \(11, 6\), the config asks for \(12, 6\)"),
        ("vocab_size", 2**70, r"config\.json: vocab_size is a number of 71 bits"),
        ("n_head", 4, r"config\.json: n_embd is 6, it must be a multiple of n_head, which is 4"),
        ("n_embd", {"a": 1}, r"config\.json: n_embd is {'a': 1}, it must be a whole number"),
        ("n_embd", None, "n_embd is None"),
        ("resid_pdrop", [0.1], r"resid_pdrop is \[0.1\], it must be a number"),
        ("attn_pdrop", 1.0, "attn_pdrop is 1.0, it must be a number of at least 0 and less than 1"),
        ("tie_word_embeddings", "no", "tie_word_embeddings is 'no', it must be true or false"),
        ("activation_function", "x" * 5000, r"activation_function is 'x{80}.* \(5,000 characters\)"),
    ],
)
def test_config_that_is_not_ours_is_named(tmp_path, rng, key, value, message):
    minigpt.to_huggingface(small_gpt(rng), tmp_path)
    rewrite(tmp_path, **{key: value})
    with pytest.raises(MinigptError, match=message) as error:
        minigpt.from_huggingface(tmp_path)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("key", ["model_type", "n_embd", "n_head", "n_layer", "n_positions", "vocab_size"])
def test_config_without_a_size_is_refused(key, tmp_path, rng):
    minigpt.to_huggingface(small_gpt(rng), tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    del values[key]
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(MinigptError, match=rf"config\.json: {key} is missing"):
        minigpt.from_huggingface(tmp_path)


def test_unequal_dropouts_are_loaded_and_told(tmp_path, rng):
    """For inference they are all the same; for training there is one number: resid_pdrop's."""
    model = small_gpt(rng, dropout=0.25)
    minigpt.to_huggingface(model, tmp_path)
    rewrite(tmp_path, attn_pdrop=0.5)
    said = []
    again = minigpt.from_huggingface(tmp_path, say=said.append)
    assert again.config.dropout == 0.25
    (message,) = said
    assert "resid_pdrop 0.25, embd_pdrop 0.25, attn_pdrop 0.5; the model has one dropout, 0.25" in message


def test_keys_without_a_meaning_here_are_told_and_quantized_weights_refused(tmp_path, rng):
    said = []
    minigpt.to_huggingface(small_gpt(rng), tmp_path)
    rewrite(tmp_path, n_ctx=7, task_specific_params={}, rope_theta=1.0)
    minigpt.from_huggingface(tmp_path, say=said.append)
    assert len(said) == 1 and said[0].endswith("config.json: nothing is made of 'rope_theta'")
    rewrite(tmp_path, quantization_config={"bits": 8})
    with pytest.raises(MinigptError, match="quantization_config is there, quantized weights can't be read"):
        minigpt.from_huggingface(tmp_path)


def test_without_say_it_is_told_on_standard_error(tmp_path, rng, capsys):
    minigpt.to_huggingface(small_gpt(rng), tmp_path)
    rewrite(tmp_path, attn_pdrop=0.5)
    minigpt.from_huggingface(tmp_path)
    out, err = capsys.readouterr()
    assert out == "" and "attn_pdrop 0.5" in err


def test_a_head_is_not_to_be_chosen(tmp_path, rng):
    minigpt.to_huggingface(small_gpt(rng), tmp_path)
    with pytest.raises(MinigptError, match="head is 'masked_lm', it must be None: GPT has no choice of heads"):
        minigpt.from_huggingface(tmp_path, head="masked_lm")
    with pytest.raises(MinigptError, match="head is"):
        minigpt.from_huggingface(tmp_path, head="x" * 5000)


# Tied heads


def test_a_head_that_differs_from_the_token_table_is_loaded_untied_and_told(tmp_path, rng):
    model, head = small_gpt(rng), rng.standard_normal((11, 6))
    said = []
    again = minigpt.from_huggingface(export(model, tmp_path, lambda t: t | {"lm_head.weight": head}), say=said.append)
    assert not again.config.tie_embeddings
    np.testing.assert_array_equal(again.parameters["lm_head.weight"], head.T)
    np.testing.assert_array_equal(again.parameters["wte.weight"], model.parameters["wte.weight"])
    (message,) = said
    assert "lm_head.weight differs from transformer.wte.weight" in message and "tie_embeddings is False" in message


def test_a_head_that_equals_the_token_table_is_tied(tmp_path, rng):
    model = small_gpt(rng)
    export(model, tmp_path, lambda t: t | {"lm_head.weight": t["transformer.wte.weight"].copy()})
    again = minigpt.from_huggingface(tmp_path, say=silent)
    assert again.config == model.config
    np.testing.assert_array_equal(again.store.vector, model.store.vector)


def test_a_head_without_a_token_table_is_both(tmp_path, rng):
    model = small_gpt(rng)
    export(model, tmp_path, lambda t: t | {"lm_head.weight": t.pop("transformer.wte.weight")})
    again = minigpt.from_huggingface(tmp_path, say=silent)
    assert again.config == model.config
    np.testing.assert_array_equal(again.store.vector, model.store.vector)


def test_an_untied_head_that_is_missing_is_refused(tmp_path, rng):
    minigpt.to_huggingface(small_gpt(rng), tmp_path)
    rewrite(tmp_path, tie_word_embeddings=False)
    with pytest.raises(MinigptError, match=r"tensor lm_head\.weight is missing"):
        minigpt.from_huggingface(tmp_path)


def test_a_head_of_another_shape_is_refused(tmp_path, rng):
    export(small_gpt(rng), tmp_path, lambda t: t | {"lm_head.weight": np.zeros((12, 6))})
    with pytest.raises(MinigptError, match=r"lm_head\.weight has shape \(12, 6\), the config asks for \(11, 6\)"):
        minigpt.from_huggingface(tmp_path, say=lambda message: None)


# Tensors


def bare(tensors):
    return {name.removeprefix("transformer."): value for name, value in tensors.items()}


def with_buffers(tensors):
    masks = {f"transformer.h.{i}.attn.bias": np.tril(np.ones((1, 1, 7, 7), np.uint8)) for i in range(2)}
    return tensors | masks | {f"transformer.h.{i}.attn.masked_bias": np.float32([-1e4]) for i in range(2)}


def without(name):
    return lambda tensors: {n: v for n, v in tensors.items() if n != name}


@pytest.mark.parametrize("change", [bare, with_buffers, lambda t: bare(with_buffers(t))])
def test_files_of_the_bare_model_and_of_old_with_buffers_are_read(change, tmp_path, rng):
    model = small_gpt(rng)
    again = minigpt.from_huggingface(export(model, tmp_path, change), say=silent)
    np.testing.assert_array_equal(again.store.vector, model.store.vector)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t | {"score.weight": np.zeros((2, 6))}, r"tensor score\.weight does not belong to this config"),
        (lambda t: t | {"x" * 5000: np.zeros(1)}, r"\(5,000 characters\) does not belong"),
        (lambda t: t | {"transformer.h.x.attn.bias": np.zeros(1)}, r"transformer\.h\.x\.attn\.bias does not belong"),
        (lambda t: t | {"wte.weight": np.zeros((11, 6))}, "wte.weight once more, under another name"),
        (
            lambda t: t | {"transformer.wpe.weight": np.zeros((7, 6), np.int64)},
            r"wpe\.weight is I64, it must be one of F16, ",
        ),
        (lambda t: t | {"transformer.ln_f.bias": np.full(6, np.nan)}, r"ln_f\.bias holds 6 values that are not finite"),
        (lambda t: t | {"transformer.ln_f.bias": np.zeros((6, 1))}, r"has shape \(6, 1\), the config asks for \(6,\)"),
        (lambda t: t | {"transformer.h.1.ln_1.weight": np.array(1.0)}, r"ln_1\.weight has shape \(\)"),
        (without("transformer.ln_f.bias"), r"tensor transformer\.ln_f\.bias is missing"),
    ],
)
def test_tensors_that_do_not_fit_are_named(change, message, tmp_path, rng):
    export(small_gpt(rng), tmp_path, change)
    with pytest.raises(MinigptError, match=message):
        minigpt.from_huggingface(tmp_path, say=silent)


def write_bfloat16(path, tensors):
    """A safetensors file by hand: NumPy has no bfloat16. -> the numbers as float32"""
    header, data, kept = {"__metadata__": {"format": "pt"}}, b"", {}
    for name, value in tensors.items():
        upper = (np.asarray(value, "<f4").view("<u4") >> 16).astype("<u2")
        kept[name] = (upper.astype("<u4") << 16).view("<f4")
        header[name] = {"dtype": "BF16", "shape": value.shape, "data_offsets": [len(data), len(data) + upper.nbytes]}
        data += upper.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)  # where the numbers begin is up to chance
    return kept


def test_bfloat16_is_read_as_float32(tmp_path, rng):
    model = small_gpt(rng, np.float32)
    minigpt.to_huggingface(model, tmp_path)
    path = tmp_path / "model.safetensors"
    kept = write_bfloat16(path, load_file(path))
    again = minigpt.from_huggingface(tmp_path, say=silent)
    assert again.dtype == np.float32
    for name, value in minigpt.to_huggingface_names(again, again.parameters).items():
        np.testing.assert_array_equal(value, kept[name])
    np.testing.assert_allclose(again.store.vector, model.store.vector, rtol=2**-7)


def test_float16_is_read_as_float32_and_mixed_with_float64_as_float64(tmp_path, rng):
    model = small_gpt(rng)
    export(model, tmp_path, lambda t: {name: value.astype(np.float16) for name, value in t.items()})
    again = minigpt.from_huggingface(tmp_path)
    assert again.dtype == np.float32
    np.testing.assert_array_equal(again.store.vector, model.store.vector.astype(np.float16))
    export(model, tmp_path, lambda t: t | {"transformer.wte.weight": t["transformer.wte.weight"].astype(np.float16)})
    again = minigpt.from_huggingface(tmp_path)
    assert again.dtype == np.float64
    np.testing.assert_array_equal(again.parameters["ln_f.bias"], model.parameters["ln_f.bias"])


# Shards, and other files


def test_shards_are_read(tmp_path, rng):
    model = small_gpt(rng)
    minigpt.to_huggingface(model, tmp_path)
    shard(tmp_path)
    np.testing.assert_array_equal(minigpt.from_huggingface(tmp_path, say=silent).store.vector, model.store.vector)


INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    "name",
    [
        "../x.safetensors",
        "/x.safetensors",
        "a/x.safetensors",
        "..\\x.safetensors",
        "C:x.safetensors",
        "x.bin",
        "x.safetensors/../../x.bin",
        "..",
    ],
)
def test_an_index_names_files_of_its_folder_only(name, tmp_path, rng):
    minigpt.to_huggingface(small_gpt(rng), tmp_path / "in")
    (tmp_path / "x.safetensors").write_bytes((tmp_path / "in" / "model.safetensors").read_bytes())
    places = shard(tmp_path / "in")
    (tmp_path / "in" / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(places, name)}))
    with pytest.raises(
        MinigptError, match=r"index\.json: the file of '\S+' is .*, it must be one of this folder, \*\.safetensors"
    ):
        minigpt.from_huggingface(tmp_path / "in")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m | {"transformer.ln_f.bias": "gone.safetensors"}, r"gone\.safetensors is missing"),
        (lambda m: m | {"nobody": "model-00001-of-00003.safetensors"}, "tensor 'nobody' is not in model-00001"),
        (
            lambda m: m | {"transformer.ln_f.bias": m["transformer.wpe.weight"]},
            r"tensor 'transformer\.ln_f\.bias' is not in",
        ),
        (lambda m: m | {"transformer.ln_f.bias": 3}, r"ln_f\.bias is 3, it must be a string"),
        (lambda m: {}, "weight_map is empty"),
        (lambda m: list(m), r"weight_map is \[.*\.\.\. \(28 entries\), it must be a JSON object"),
    ],
)
def test_an_index_that_is_wrong_is_named(change, message, tmp_path, rng):
    minigpt.to_huggingface(small_gpt(rng), tmp_path)
    places = shard(tmp_path)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": change(places)}))
    with pytest.raises(MinigptError, match=message):
        minigpt.from_huggingface(tmp_path)


def test_a_tensor_in_two_shards_is_refused(tmp_path, rng):
    minigpt.to_huggingface(small_gpt(rng), tmp_path)
    file = shard(tmp_path)["transformer.ln_f.bias"]
    other = next(path for path in sorted(tmp_path.glob("model-*.safetensors")) if path.name != file)
    save_file(load_file(other) | {"transformer.ln_f.bias": np.zeros(6)}, other)
    with pytest.raises(MinigptError, match=r"tensor transformer\.ln_f\.bias is in .* as well, it must be in one file"):
        minigpt.from_huggingface(tmp_path)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack", "gpt2-Q4_0.gguf"]
)
def test_weights_of_another_format_are_named(name, tmp_path, rng):
    minigpt.to_huggingface(small_gpt(rng), tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / name)
    pickle = r" \(a pickle, which runs code of others when it is opened\)" if ".bin" in name else ""
    found = rf"model\.safetensors is missing; there is {name}{pickle}: load it with transformers, .* writes safetensors"
    with pytest.raises(MinigptError, match=found):
        minigpt.from_huggingface(tmp_path)


def test_a_folder_without_weights_or_config_says_so(tmp_path, rng):
    with pytest.raises(MinigptError, match=r"config\.json is missing"):
        minigpt.from_huggingface(tmp_path)
    with pytest.raises(MinigptError, match=r"config\.json is missing"):
        minigpt.from_huggingface(tmp_path / "nowhere")
    minigpt.to_huggingface(small_gpt(rng), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(MinigptError, match=r"model\.safetensors is missing$"):
        minigpt.from_huggingface(tmp_path)


# Writing whole


def test_a_checkpoint_of_ours_is_neither_read_nor_overwritten(tmp_path, rng):
    model = small_gpt(rng)
    model.save(tmp_path)
    with pytest.raises(MinigptError, match=r"is a checkpoint of minigpt, whose config\.json would be lost"):
        minigpt.to_huggingface(model, tmp_path)
    with pytest.raises(MinigptError, match=r"is a checkpoint of minigpt: minigpt\.load reads it"):
        minigpt.from_huggingface(tmp_path)
    np.testing.assert_array_equal(minigpt.load(tmp_path).store.vector, model.store.vector)


def test_what_is_written_over_is_there_whole_or_not_at_all(tmp_path, rng, monkeypatch):
    """A reader sees the old folder, no config.json, or the new one; and no file half written."""
    minigpt.to_huggingface(small_gpt(rng), tmp_path)
    old, model, seen, replace = (
        (tmp_path / "config.json").read_bytes(),
        small_gpt(rng, activation="relu"),
        [],
        os.replace,
    )

    def watched(source, target):
        config = tmp_path / "config.json"
        seen.append((os.path.basename(target), config.read_bytes() == old if config.exists() else None))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    minigpt.to_huggingface(model, tmp_path)
    assert seen == [("model.safetensors", None), ("generation_config.json", None), ("config.json", None)]
    assert sorted(os.listdir(tmp_path)) == ["config.json", "generation_config.json", "model.safetensors"]
    np.testing.assert_array_equal(minigpt.from_huggingface(tmp_path).store.vector, model.store.vector)


def test_tensors_that_cannot_be_replaced_leave_the_old_model(tmp_path, rng, monkeypatch):
    old = small_gpt(rng)
    minigpt.to_huggingface(old, tmp_path)
    replace = os.replace

    def in_use(source, target):
        if str(target).endswith("model.safetensors"):
            raise OSError(13, "in use")
        replace(source, target)

    monkeypatch.setattr(os, "replace", in_use)
    with pytest.raises(MinigptError, match="can't be written: in use"):
        minigpt.to_huggingface(small_gpt(rng, activation="relu"), tmp_path)
    again = minigpt.from_huggingface(tmp_path)
    assert again.config == old.config
    np.testing.assert_array_equal(again.store.vector, old.store.vector)
    assert len(os.listdir(tmp_path)) == 3


def test_a_folder_that_is_written_to_meanwhile_is_refused(tmp_path, rng, monkeypatch):
    minigpt.to_huggingface(small_gpt(rng), tmp_path)
    read = hub.read_tensors

    def slow(directory):
        rewrite(directory, activation_function="relu")
        return read(directory)

    monkeypatch.setattr(hub, "read_tensors", slow)
    with pytest.raises(MinigptError, match="was written to while it was read"):
        minigpt.from_huggingface(tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_named(tmp_path, rng):
    tmp_path.chmod(0o500)
    with pytest.raises(MinigptError, match="can't be written"):
        minigpt.to_huggingface(small_gpt(rng), tmp_path)


def test_a_file_in_the_way_is_named(tmp_path, rng):
    (tmp_path / "out").write_text("")
    with pytest.raises(MinigptError, match="out can't be written: File exists"):
        minigpt.to_huggingface(small_gpt(rng), tmp_path / "out")


# Looking


def test_a_folder_is_described(tmp_path, rng):
    assert not hub.is_huggingface(tmp_path)
    model = small_gpt(rng, np.float32)
    model.save(tmp_path / "ours")
    assert not hub.is_huggingface(tmp_path / "ours")
    minigpt.to_huggingface(model, tmp_path / "theirs")
    assert hub.is_huggingface(tmp_path / "theirs")
    found = hub.describe(tmp_path / "theirs")
    assert found["model"] == "GPT" and found["config"] == model.config and found["notes"] == []
    assert (found["tensors"], found["numbers"]) == (28, model.num_parameters)
    assert (found["dtypes"], found["files"]) == (["F32"], ["model.safetensors"])


# A RecipeGPT

PLAIN = {"positions": "learned", "qk_norm": False, "smear": False}


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"positions": "rotary"}, "positions is 'rotary', it must be 'learned'"),
        ({"qk_norm": True}, "qk_norm is True, it must be False"),
        ({"smear": True}, "smear is True, it must be False"),
    ],
)
def test_what_a_gpt2_has_not_is_refused(settings, error, tmp_path):
    model = RecipeGPT(RecipeGPTConfig(**SIZES | {"n_embd": 8} | PLAIN | settings))
    with pytest.raises(MinigptError, match=error):
        minigpt.to_huggingface(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_recipe_gpt_with_all_switched_off_is_a_gpt2(tmp_path, rng):
    model = RecipeGPT(RecipeGPTConfig(**SIZES, **PLAIN, bias=False), dtype=np.float64)
    minigpt.to_huggingface(model, tmp_path)
    ids = rng.integers(0, 11, (2, 5))
    again = minigpt.from_huggingface(tmp_path, say=silent)
    assert type(again) is GPT
    np.testing.assert_allclose(again.logits(ids), model.logits(ids), rtol=1e-12)


# Much that is wrong at once


def test_all_that_is_wrong_is_named_at_once_ten_at_most(tmp_path, rng):
    def change(tensors):
        for name in [name for name in tensors if ".h.1." in name]:
            del tensors[name]
        extra = {f"extra.{i}": np.zeros(2) for i in range(7)}
        return tensors | extra | {"transformer.ln_f.bias": np.zeros(5), "transformer.wpe.weight": np.zeros((7, 6), int)}

    export(small_gpt(rng), tmp_path, change)
    with pytest.raises(MinigptError) as error:
        minigpt.from_huggingface(tmp_path, say=silent)
    message = str(error.value)
    assert message.startswith(f"{tmp_path}: 21 tensors do not fit; missing: transformer.h.1.ln_1.weight, ")
    for part in (
        "h.1.ln_1.bias and 10 more; of another shape: transformer.ln_f.bias (5,), not (6,); ",
        "not of floating point: transformer.wpe.weight; not of this config: extra.0, extra.1 and 5 more",
    ):
        assert part in message


def test_all_tensors_that_are_not_finite_are_named(tmp_path, rng):
    export(small_gpt(rng), tmp_path, lambda t: {name: np.full_like(value, np.inf) for name, value in t.items()})
    with pytest.raises(MinigptError, match=r"28 tensors do not fit; with values that are not finite: .* and 18 more$"):
        minigpt.from_huggingface(tmp_path)


def test_a_message_names_as_many_as_it_has_room_for(tmp_path, rng):
    export(small_gpt(rng), tmp_path, lambda t: t | {"x" * 79 + f".{i}": np.zeros(1) for i in range(10, 40)})
    with pytest.raises(MinigptError, match=r"not of this config: 'x.*\(82 characters\) and 2\d more$"):
        minigpt.from_huggingface(tmp_path)


# Numbers in blocks


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_blocks_of_any_size_hold_the_same_numbers(dtype, tmp_path, rng, monkeypatch):
    """Sizes that no block divides, several threads, (out, in) matrices and NaNs at their ends."""
    for name, size in {"BLOCK": 7, "ROWS": 4, "COLUMNS": 5, "PAD": 1, "THREADED": 1}.items():
        monkeypatch.setattr(reading, name, size)
    model = GPTNeo(GPTNeoConfig(13, max_position_embeddings=9, hidden_size=6, num_layers=2, num_heads=2))
    model.store.vector[:] = rng.standard_normal(model.num_parameters).astype(np.float16)
    export(model, tmp_path, lambda t: {name: value.astype(dtype) for name, value in t.items()})
    again = minigpt.from_huggingface(tmp_path, say=silent)
    np.testing.assert_array_equal(again.store.vector, model.store.vector)
    for at in (0, -1):
        tensors = load_file(tmp_path / "model.safetensors")
        for value in tensors.values():
            value.reshape(-1)[at] = np.nan
        save_file(tensors, tmp_path / "bad.safetensors")
        named = map_file(tmp_path / "bad.safetensors")
        jobs = [(np.empty(tensor.shape, order=order), tensor) for tensor in named.values() for order in "CF"]
        assert reading.read_all(jobs) == [1] * len(jobs)
        jobs = [(view, tensor._replace(data=tensor.data.copy())) for view, tensor in jobs]
        for i, (_, tensor) in enumerate(jobs):  # each finds its own, in whatever order they are read
            tensor.data.view(FORMATS[tensor.dtype])[: min(i, tensor.size)] = np.inf
        expected = [np.count_nonzero(~np.isfinite(tensor.numbers(0, tensor.size))) for _, tensor in jobs]
        assert reading.read_all(jobs) == expected and len(set(expected)) > 5
        assert all(reading.same(a, a) == (not np.isnan(a.numbers(0, a.size)).any()) for a in named.values())
