"""Hugging Face files in and out: config.json and model.safetensors of `transformers`, one name table a family.

GPT-2's names and layout are ours but for a prefix: its Conv1D weights are (in, out) like all of ours. Only the head, a Linear, is (out, in).
"""

import json
import re
from pathlib import Path

import numpy as np

from minigpt.errors import MinigptError
from minigpt.files import read_json, write_atomically
from minigpt.layers.store import Store
from minigpt.models.gpt import GPT, GPTConfig
from minigpt.tensors import check_finite, open_tensors, write_tensors

ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu", "silu": "silu", "swish": "silu"}
PREFIX = "transformer."
BUFFER = re.compile(r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)")  # causal masks that old files carry along
FIXED = {  # of a GPT2Config: what our GPT computes
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}


def from_huggingface(directory):
    """A model from a folder with config.json and model.safetensors of `transformers`, in the dtype of the file (half precision becomes float32).

    model_type picks the family: gpt2 -> GPT. MinigptError for a model type, config or tensor that is not ours to compute, named with its value.
    """
    directory = Path(directory)
    values = read_json(directory / "config.json")
    values.one_of("model_type", ("gpt2",))
    config = gpt_config(values)
    path = directory / "model.safetensors"
    with open_tensors(path) as file:
        if config.n_layer > len(file.keys()):  # before a billion layers are wired
            raise MinigptError(f"{path}: {len(file.keys())} tensors, too few for n_layer = {config.n_layer}")
        shapes = GPT.parameter_shapes(config)
        names = {ours(name): name for name in file.keys() if not BUFFER.fullmatch(name)}  # noqa: SIM118 it is no mapping
        if config.tie_embeddings:
            names.pop("lm_head.weight", None)  # the token table once more
        for name in [*shapes, *names]:
            if name not in names or name not in shapes:
                raise MinigptError(f"{path}: tensor {names.get(name, name)} {'is missing' if name in shapes else 'does not belong to this config'}")
        for name, shape in shapes.items():
            part = file.get_slice(names[name])
            expected = shape[::-1] if name == "lm_head.weight" else shape
            if tuple(part.get_shape()) != expected:
                raise MinigptError(f"{path}: tensor {names[name]} has shape {tuple(part.get_shape())}, the config asks for {expected}")
            if part.get_dtype() not in ("F16", "F32", "F64"):
                raise MinigptError(f"{path}: tensor {names[name]} is {part.get_dtype()}, it must be F16, F32 or F64")
        double = file.get_slice(names["wte.weight"]).get_dtype() == "F64"
        store = Store(shapes, dtype=np.float64 if double else np.float32)
        for name, value in store.items():
            tensor = file.get_tensor(names[name])
            value[...] = tensor.T if name == "lm_head.weight" else tensor
    check_finite(path, store)
    return GPT(config, store=store)


def to_huggingface(model, directory):
    """Write a model as `transformers` reads it: config.json and model.safetensors. Biases that it lacks are written as zeros.

    MinigptError where the folder can't be written, and for a model with rotary positions, qk_norm or smear, which a GPT-2 has not.
    """
    config, directory = model.config, Path(directory)
    if config.positions != "learned":
        raise MinigptError(f"positions is {config.positions!r}, it must be 'learned': transformers' GPT-2 has no other")
    for field in ("qk_norm", "smear"):
        if getattr(config, field):
            raise MinigptError(f"{field} is True, it must be False: transformers' GPT-2 has none")
    tensors = to_huggingface_names(model, model.parameters)
    if not config.bias:  # GPT2LMHeadModel has them always
        for name, value in list(tensors.items()):
            if re.search(r"\.(ln_\w+|c_attn|c_proj|c_fc)\.weight$", name):
                tensors[name.removesuffix("weight") + "bias"] = np.zeros(value.shape[-1], value.dtype)
    values = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": config.vocab_size,
        "n_positions": config.block_size,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_embd": config.n_embd,
        "activation_function": next(theirs for theirs, mine in ACTIVATIONS.items() if mine == config.activation),
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "tie_word_embeddings": config.tie_embeddings,
        "dtype": str(model.dtype),
    } | FIXED
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_tensors(directory / "model.safetensors", {name: np.ascontiguousarray(value) for name, value in tensors.items()})
        write_atomically(directory / "config.json", json.dumps(values, indent=1) + "\n")
    except OSError as error:
        raise MinigptError(f"{directory} can't be written: {error.strerror or error}") from None


def to_huggingface_names(model, tensors):
    """Any dict shaped like model.parameters (weights, gradients, moments) under `transformers`' names and in its layout. -> dict name -> array"""
    return {name if name == "lm_head.weight" else PREFIX + name: value.T if name == "lm_head.weight" else value for name, value in tensors.items()}


def ours(name):
    """Our name of a tensor in a GPT-2 file; files of the bare model have no prefix."""
    return name.removeprefix(PREFIX)


def gpt_config(values):
    """A GPTConfig from the Values of a GPT2Config. MinigptError for a setting that our GPT does not compute."""
    for key, expected in FIXED.items():
        values.one_of(key, (expected,), default=expected)
    n_embd = values.whole("n_embd", at_least=1)
    values.one_of("n_inner", (4 * n_embd,), default=None)
    dropouts = [values.number(key, at_least=0, below=1, default=0.1) for key in ("resid_pdrop", "embd_pdrop", "attn_pdrop")]
    if len(set(dropouts)) > 1:
        raise MinigptError(f"{values.where}: resid_pdrop, embd_pdrop and attn_pdrop are {', '.join(map(str, dropouts))}, they must be equal")
    fields = {
        "vocab_size": values.whole("vocab_size"),
        "block_size": values.whole("n_positions"),
        "n_layer": values.whole("n_layer"),
        "n_head": values.whole("n_head"),
        "n_embd": n_embd,
        "dropout": dropouts[0],
        "tie_embeddings": values.flag("tie_word_embeddings", default=True),
        "activation": ACTIVATIONS[values.one_of("activation_function", tuple(ACTIVATIONS), default="gelu_new")],
    }
    try:
        return GPTConfig(**fields)
    except MinigptError as error:
        raise MinigptError(f"{values.where}: {error}") from None
