"""Models from and for `transformers`: folders of config.json and model.safetensors.

A family is one module: MODEL, its class; TABLE, how their tensors are named and laid out; HEADS,
our name of a head -> their architecture, where there is a choice; GENERATES, keys of its
generation_config.json, none where it writes no text; read_config and config_values, from their
config to ours and back; written_as, the config of what its files hold.
"""

import importlib
import sys
from pathlib import Path

import numpy as np

from minigpt.errors import MinigptError
from minigpt.files import parse_json, read_bytes, read_json
from minigpt.hub.encoders import check_choice, choose_head
from minigpt.hub.files import CONFIG, read_tensors, write_folder
from minigpt.hub.weights import fit, parameter_shapes, read_model
from minigpt.tokenizers import CharTokenizer, Tokenizer

__all__ = ["describe", "from_huggingface", "is_huggingface", "to_huggingface", "to_huggingface_names"]

FAMILIES = {  # model_type in their config.json -> module of ours, imported when it is used
    "gpt2": "minigpt.hub.gpt2",
    "gpt_neo": "minigpt.hub.gpt_neo",
    "bert": "minigpt.hub.bert",
    "roberta": "minigpt.hub.roberta",
    "t5": "minigpt.hub.t5",
    "mt5": "minigpt.hub.t5",
}
CALLED = {"gpt": "gpt2", "recipe_gpt": "gpt2"}  # our model_type -> theirs, where they differ


def to_standard_error(message):
    """Where from_huggingface says how a model differs from its file, unless told otherwise."""
    print(message, file=sys.stderr)


def from_huggingface(directory, head=None, *, num_labels=None, seed=0, say=to_standard_error):
    """A model from a folder of `transformers`: config.json, and model.safetensors or the shards of
    its index.

    model_type picks the family. Half precision (F16, BF16) becomes float32; where a tensor is
    float64, so is the model. model.fresh: names of the parameters that the file did not have, drawn
    anew from `seed` (in a decoder none may lack). Where the config contradicts itself or the
    tensors, the model is what transformers makes of them, or as near as it can be, and `say` is
    told: a head that differs from the token table is loaded although the config ties them, and
    tie_embeddings is False; of three dropouts that differ the first is taken for all.

    head: what stands on top, in families that have a choice (hub.bert.HEADS, hub.roberta.HEADS):
    one of theirs by name, "base" for none, None for that which config.json names in
    `architectures`, else for what the tensors show; num_labels: of a classifier, None for that of
    config.json. MinigptError, before memory is taken, for files, settings or tensors that are
    missing, damaged, or not ours to compute, named with their value; and after reading, for numbers
    that are not finite.
    """
    directory = Path(directory)
    family, fitted = read_folder(directory, say, head, num_labels)
    return read_model(family, fitted, directory, seed)


def to_huggingface(model, directory, tokenizer=None):
    """Write a model as `transformers` reads it: config.json, model.safetensors, for a decoder
    generation_config.json, and a tokenizer's files where one is given.

    Biases that a GPT lacks are written as zeros. MinigptError where the folder can't be written or
    is a checkpoint of ours, for a model or tokenizer that transformers does not have, and for a
    tokenizer with more tokens than the model knows.
    """
    directory, family = Path(directory), family_of(model)
    if model.dtype not in (np.float32, np.float64):
        raise MinigptError(f"the model is {model.dtype}, it must be float32 or float64 (use astype)")
    config = family.written_as(model.config)
    values = family.config_values(config) | {"dtype": str(model.dtype)}
    if tokenizer is not None:
        check_tokenizer(tokenizer, config)
        values |= {key: id for key, id in special_ids(tokenizer).items() if key in values and id is not None}
    table, tensors = family.TABLE.written(config), to_huggingface_names(model, model.parameters)
    for name, shape in parameter_shapes(family, config).items():
        if name not in model.parameters:
            tensors |= table.views(name, np.zeros(shape, model.dtype))
    for first, second in table.twins.items():
        if second in tensors:
            tensors[first] = tensors[second]
    save_tokenizer = None if tokenizer is None else lambda: tokenizer.save(directory)
    write_folder(directory, values, tensors, generates=family.GENERATES, save_tokenizer=save_tokenizer)


def to_huggingface_names(model, tensors):
    """Arrays under the names of model.parameters (weights, gradients, moments) -> a dict of views
    under transformers' names, in its layout.

    MinigptError for a model that transformers does not have, and for a name or shape that is none
    of the model's.
    """
    table, found = family_of(model).TABLE.written(model.config), {}
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
    tensors, dtypes, parameters, our config and the parameters that it lacks.

    MinigptError as for from_huggingface.
    """
    notes = []
    family, fitted = read_folder(Path(directory), notes.append)
    tensors = fitted.tensors.values()
    return {
        "model": family.MODEL.__name__,
        "config": fitted.config,
        "tensors": len(tensors),
        "numbers": sum(tensor.size for tensor in tensors),
        "dtypes": sorted({tensor.dtype for tensor in tensors}),
        "files": sorted({tensor.path.name for tensor in tensors}),
        "fresh": fitted.fresh,
        "notes": notes,
    }


def read_folder(directory, say, head=None, num_labels=None):
    """The family's module, and the tensors of a folder compared with its config: weights.Fitted.
    Arguments and errors as for from_huggingface.
    """
    path = directory / CONFIG
    before = read_bytes(path)
    values = parse_json(before, path)
    if "format_version" in values:
        raise MinigptError(f"{directory} is a checkpoint of minigpt: minigpt.load reads it")
    family = importlib.import_module(FAMILIES[values.one_of("model_type", list(FAMILIES))])
    check_choice(family, head, num_labels)
    tensors = read_tensors(directory)
    if read_bytes(path) != before:  # to_huggingface takes it away before it replaces the tensors
        raise MinigptError(f"{directory} was written to while it was read")
    choice = {}
    if family.HEADS:
        choice = {"head": choose_head(family, values, tensors, head, say), "num_labels": num_labels}
    config = family.read_config(values, tensors, say, **choice)
    return family, fit(family, config, tensors, directory, say)


def check_tokenizer(tokenizer, config):
    """MinigptError for a tokenizer that transformers does not have, that has more tokens than a
    model knows, or another token for padding or for the end than the model computes with.
    """
    if not isinstance(tokenizer, Tokenizer) or isinstance(tokenizer, CharTokenizer):
        raise MinigptError(f"transformers has no {type(tokenizer).__name__}: write the model without it")
    if tokenizer.vocab_size > config.vocab_size:
        raise MinigptError(f"the tokenizer has {tokenizer.vocab_size:,} tokens, the model knows {config.vocab_size:,}")
    ends = (("pad_token_id", tokenizer.pad_id, "pads with"), ("eos_token_id", tokenizer.eos_id, "ends a text with"))
    for key, theirs, what in ends:
        ours = getattr(config, key, None)
        if None not in (ours, theirs) and ours != theirs:
            raise MinigptError(f"the tokenizer {what} token {theirs}, the model's {key} is {ours}")


def special_ids(tokenizer):
    """The keys of a config that name special tokens, and their ids by a tokenizer, None where it
    has none.
    """
    return {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}


def family_of(model):
    """The module that knows a model. MinigptError where there is none."""
    ours = getattr(model, "model_type", None)
    theirs = CALLED.get(ours, ours)
    if theirs not in FAMILIES:
        raise MinigptError(f"transformers has no {type(model).__name__}")
    return importlib.import_module(FAMILIES[theirs])
