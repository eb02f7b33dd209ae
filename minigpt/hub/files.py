"""A folder of `transformers`: config.json, and model.safetensors or shards of it. What is read from
it is checked once: here, and by Values.
"""

import json
import math
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minigpt.checks import shortened
from minigpt.errors import MinigptError
from minigpt.files import Missing, read_bytes, read_json, reason, remove, write_atomically
from minigpt.tensors import map_bytes, open_tensors, short, write_tensors

CONFIG, GENERATION = "config.json", "generation_config.json"
TENSORS, INDEX = "model.safetensors", "model.safetensors.index.json"
FORMATS = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}  # of tensors that we read; NumPy has no bfloat16
SHARD = re.compile(r"[^/\\:\0]+\.safetensors")  # a plain name: no other folder, no drive
OTHER_WEIGHTS = re.compile(r".*\.(bin|bin\.index\.json|h5|msgpack|gguf|onnx|ckpt|pt|pth)", re.IGNORECASE)
PICKLE = re.compile(r".*\.(bin|bin\.index\.json|ckpt|pt|pth)", re.IGNORECASE)


class Tensor(NamedTuple):
    """A tensor in a mapped file, of which nothing has been read yet."""

    path: Path
    name: str  # in the file
    dtype: str  # safetensors' name of it
    shape: tuple
    data: np.ndarray  # its bytes

    @property
    def size(self):
        """How many numbers it holds."""
        return math.prod(self.shape)

    def numbers(self, start, stop):
        """Its numbers from start to stop, in a row; those of bfloat16, which are the upper halves
        of float32's, as float32.
        """
        values = self.data.view(FORMATS[self.dtype])[start:stop]
        return (values.astype(np.uint32) << 16).view(np.float32) if self.dtype == "BF16" else values

    def __str__(self):
        return f"{self.path}: tensor {short(self.name)}"


def read_tensors(directory):
    """Name -> Tensor of model.safetensors, else of all shards that the index names.

    MinigptError for a file that is missing (which says what other weights are there), truncated or
    not safetensors; for an index that names a file outside of the folder; for a tensor that is in
    two files, or not in that which the index says.
    """
    try:
        return map_file(directory / TENSORS)
    except Missing:
        pass
    try:
        places = read_index(directory / INDEX)
    except Missing:
        raise MinigptError(f"{directory / TENSORS} is missing{other_weights(directory)}") from None
    found = {}
    for shard in sorted(set(places.values())):
        for name, tensor in map_file(directory / shard).items():
            if name in found:
                raise MinigptError(f"{tensor} is in {found[name].path.name} as well, it must be in one file")
            found[name] = tensor
    for name, shard in places.items():
        if name not in found or found[name].path.name != shard:
            raise MinigptError(f"{directory / INDEX}: tensor {shortened(name)} is not in {shard}")
    return found


def read_index(path):
    """Name -> file of the tensors in shards. MinigptError for one that isn't a plain name; Missing
    where there is no index.
    """
    places = read_json(path).section("weight_map")
    found = {name: places.text(name) for name in places}
    for name, shard in found.items():
        if not SHARD.fullmatch(shard):
            found = f"the file of {shortened(name)} is {shortened(shard)}"
            raise MinigptError(f"{path}: {found}, it must be one of this folder, *.safetensors")
    if not found:
        raise MinigptError(f"{path}: weight_map is empty")
    return found


def other_weights(directory):
    """What to say of files in formats that we don't read."""
    names = sorted(path.name for path in directory.iterdir() if OTHER_WEIGHTS.fullmatch(path.name))
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    pickle = " (a pickle, which runs code of others when it is opened)" if any(map(PICKLE.fullmatch, names)) else ""
    convert = "load it with transformers, whose save_pretrained writes safetensors"
    return f"; there is {', '.join(names[:3])}{more}{pickle}: {convert}"


def map_file(path):
    """Name -> Tensor of a safetensors file, whose header the library checks."""
    with open_tensors(path):
        return {name: Tensor(path, name, *part) for name, part in map_bytes(path).items()}


def write_folder(directory, config, tensors, *, generates, save_tokenizer=None):
    """Write config.json and model.safetensors, for a model that generates generation_config.json
    too, each whole or not at all; generates: the keys of a config that belong in there, none where
    a model doesn't; save_tokenizer() writes a tokenizer's files.

    From the moment that the tensors are replaced, until config.json is there anew, a reader finds
    no config.json rather than that of another model. MinigptError where they can't be written, or
    where the folder is a checkpoint of ours.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        before = config_before(directory)

        def write_new(path):
            write_tensors(path, tensors, made_for="pt")
            remove([directory / CONFIG])

        try:
            write_atomically(directory / TENSORS, write_new)
        except BaseException:
            if before is not None:
                write_atomically(directory / CONFIG, before)
            raise
        if generates:
            tokens = {key: config[key] for key in generates}
            write_atomically(directory / GENERATION, json.dumps({"_from_model_config": True} | tokens, indent=1) + "\n")
        else:
            remove([directory / GENERATION])  # that of another model
        if save_tokenizer is not None:
            save_tokenizer()
        write_atomically(directory / CONFIG, json.dumps(config, indent=1) + "\n")
    except OSError as error:
        raise MinigptError(f"{directory} can't be written: {reason(error)}") from None


def config_before(directory):
    """The bytes of a folder's config.json, None where there is none. MinigptError for one of our
    own checkpoints.
    """
    try:
        before = read_bytes(directory / CONFIG)
        ours = "format_version" in read_json(directory / CONFIG)
    except Missing:
        return None
    except MinigptError:  # not even JSON
        return before
    if ours:
        raise MinigptError(
            f"{directory} is a checkpoint of minigpt, whose config.json would be lost: take another folder"
        )
    return before
