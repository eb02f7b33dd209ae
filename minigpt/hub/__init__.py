"""Models from and for `transformers`: folders of config.json and model.safetensors.

A family is one module: MODEL, its class; TABLE, how their tensors are named and laid out;
read_config and config_values, from their config to ours and back; written_as, the config of what
its files hold.
"""

import importlib
import sys
from pathlib import Path

import numpy as np

from minigpt.errors import MinigptError
from minigpt.files import parse_json, read_bytes, read_json
from minigpt.hub.files import CONFIG, read_tensors, write_folder
from minigpt.hub.weights import name_tensors, parameter_shapes, read_model, settle_ties

__all__ = ["describe", "from_huggingface", "is_huggingface", "to_huggingface", "to_huggingface_names"]

FAMILIES = {  # model_type in their config.json -> module of ours, imported when it is used
    "gpt2": "minigpt.hub.gpt2",
    "gpt_neo": "minigpt.hub.gpt_neo",
}
CALLED = {"gpt": "gpt2", "recipe_gpt": "gpt2"}  # our model_type -> theirs, where they differ


def to_standard_error(message):
    """Where from_huggingface says how a model differs from its file, unless told otherwise."""
    print(message, file=sys.stderr)


def from_huggingface(directory, head=None, *, say=to_standard_error):
    """A model from a folder of `transformers`: config.json, and model.safetensors or the shards of
    its index.

    model_type picks the family. Half precision (F16, BF16) becomes float32; where a tensor is
    float64, so is the model. model.fresh: names of the parameters that the file did not have, drawn
    anew (in a decoder none may lack). Where the config contradicts itself or the tensors, the model
    is what transformers makes of them, or as near as it can be, and `say` is told: a head that
    differs from the token table is loaded although the config ties them, and tie_embeddings is
    False; of three dropouts that differ the first is taken for all.

    head: what stands on top, in families that have a choice. MinigptError, before memory is taken,
    for files, settings or tensors that are missing, damaged, or not ours to compute, named with
    their value; and after reading, for numbers that are not finite.
    """
    directory = Path(directory)
    family, config, tensors = read_folder(directory, say)
    if head is not None:
        raise MinigptError(f"head is {head!r}, it must be None: {family.MODEL.__name__} has no choice of heads")
    config, tensors = settle_ties(family.TABLE, config, tensors, say)
    return read_model(family, config, tensors, directory)


def to_huggingface(model, directory):
    """Write a model as `transformers` reads it: config.json, generation_config.json and
    model.safetensors.

    Biases that it lacks are written as zeros. MinigptError where the folder can't be written or is
    a checkpoint of ours, and for a model that transformers does not have.
    """
    family = family_of(model)
    if model.dtype not in (np.float32, np.float64):
        raise MinigptError(f"the model is {model.dtype}, it must be float32 or float64 (use astype)")
    config = family.written_as(model.config)
    tensors = to_huggingface_names(model, model.parameters)
    for name, shape in parameter_shapes(family, config).items():
        if name not in model.parameters:
            tensors |= family.TABLE.views(name, np.zeros(shape, model.dtype))
    write_folder(Path(directory), family.config_values(config) | {"dtype": str(model.dtype)}, tensors)


def to_huggingface_names(model, tensors):
    """Arrays under the names of model.parameters (weights, gradients, moments) -> a dict of views
    under transformers' names, in its layout.

    MinigptError for a model that transformers does not have, and for a name or shape that is none
    of the model's.
    """
    table, found = family_of(model).TABLE, {}
    for name, value in tensors.items():
        if name not in model.parameters or np.shape(value) != model.parameters[name].shape:
            raise MinigptError(f"tensor {name!r} of shape {np.shape(value)} is none of the model's parameters")
        found |= table.views(name, np.asarray(value))
    return found


def is_huggingface(directory):
    """Whether a folder holds a model of `transformers`, of whatever family, and not one of ours: by
    its config.json alone.
    """
    try:
        values = read_json(Path(directory) / CONFIG)
    except MinigptError:
        return False
    return "format_version" not in values and ("model_type" in values or "architectures" in values)


def describe(directory):
    """What a folder of `transformers` holds, without reading the numbers: a dict of model type,
    tensors, dtypes, parameters and our config.

    MinigptError as for from_huggingface.
    """
    notes = []
    family, config, tensors = read_folder(Path(directory), notes.append)
    return {
        "model": family.MODEL.__name__,
        "config": config,
        "tensors": len(tensors),
        "numbers": sum(tensor.size for tensor in tensors.values()),
        "dtypes": sorted({tensor.dtype for tensor in tensors.values()}),
        "files": sorted({tensor.path.name for tensor in tensors.values()}),
        "notes": notes,
    }


def read_folder(directory, say):
    """The family's module, config and tensors of a folder; errors as for from_huggingface."""
    path = directory / CONFIG
    before = read_bytes(path)
    values = parse_json(before, path)
    if "format_version" in values:
        raise MinigptError(f"{directory} is a checkpoint of minigpt: minigpt.load reads it")
    family = importlib.import_module(FAMILIES[values.one_of("model_type", list(FAMILIES))])
    tensors = read_tensors(directory)
    if read_bytes(path) != before:  # to_huggingface takes it away before it replaces the tensors
        raise MinigptError(f"{directory} was written to while it was read")
    config = family.read_config(values, len(tensors), say)
    return family, config, name_tensors(family, config, tensors)


def family_of(model):
    """The module that knows a model. MinigptError where there is none."""
    ours = getattr(model, "model_type", None)
    theirs = CALLED.get(ours, ours)
    if theirs not in FAMILIES:
        raise MinigptError(f"transformers has no {type(model).__name__}")
    return importlib.import_module(FAMILIES[theirs])
