"""Small models and folders of theirs, for the tests of hub/."""

import json

import numpy as np
from safetensors.numpy import load_file, save_file
from small_gpt import small_gpt as any_small_gpt

import minigpt

SIZES = {"vocab_size": 11, "block_size": 7, "n_layer": 2, "n_head": 2, "n_embd": 6}


def small_gpt(rng, dtype=np.float64, **changes):
    """A small GPT with O(1) weights, smaller than that of other tests."""
    return any_small_gpt(rng, dtype=dtype, **SIZES | changes)


def rewrite(directory, **values):
    """Change values of a folder's config.json."""
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def export(model, directory, change=lambda tensors: tensors):
    """Write a model as transformers does, with its tensors changed."""
    minigpt.to_huggingface(model, directory)
    tensors = load_file(directory / "model.safetensors")
    save_file(change(dict(tensors)), directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def shard(directory, files=3):
    """Split a folder's model.safetensors into shards with an index, as save_pretrained does."""
    tensors = load_file(directory / "model.safetensors")
    places = {name: f"model-{i % files + 1:05}-of-{files:05}.safetensors" for i, name in enumerate(sorted(tensors))}
    for file in set(places.values()):
        save_file({n: v for n, v in tensors.items() if places[n] == file}, directory / file, metadata={"format": "pt"})
    size = sum(v.nbytes for v in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": places}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    (directory / "model.safetensors").unlink()
    return places


def silent(message):
    """A `say` for loads that must have nothing to say."""
    raise AssertionError(message)


def small_encoder(family, config_class, rng, dtype=np.float64, **changes):
    """A small encoder with O(1) weights; changes: of its config."""
    sizes = {"vocab_size": 13, "max_position_embeddings": 9, "hidden_size": 6, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2, "intermediate_size": 10, "type_vocab_size": 3}
    model = family(config_class(**sizes | changes), dtype=dtype)
    model.store.vector[:] = 0.5 * rng.standard_normal(model.num_parameters)
    return model


def without(*parts):
    """A change of tensors that leaves out those whose names contain one of the parts."""
    return lambda tensors: {n: v for n, v in tensors.items() if not any(part in n for part in parts)}


def of_values(directory, *names):
    """Take values out of a folder's config.json."""
    path = directory / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in values.items() if key not in names}))


def assert_equal_numbers(a, b):
    """Two models of one config hold the same numbers."""
    assert a.config == b.config
    np.testing.assert_array_equal(a.store.vector, b.store.vector)


def small_t5(rng, dtype=np.float64, **changes):
    """A small T5 with O(1) weights, all sizes different; changes: of its config."""
    sizes = {"vocab_size": 13, "d_model": 6, "d_kv": 5, "d_ff": 11, "num_layers": 2, "num_heads": 4}
    sizes |= {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 7}
    model = minigpt.T5(minigpt.T5Config(**sizes | changes), dtype=dtype)
    model.store.vector[:] = 0.5 * rng.standard_normal(model.num_parameters)
    return model
