"""minigpt: transformers in NumPy, every gradient written by hand and proved right."""

import importlib

from minigpt.checkpoint import load
from minigpt.errors import MinigptError
from minigpt.layers.store import Store
from minigpt.models.gpt import GPT, GPTConfig
from minigpt.tokenizers.char import CharTokenizer

__version__ = "0.1.0"
__all__ = [
    "GPT",
    "CharTokenizer",
    "GPTConfig",
    "MinigptError",
    "Store",
    "check_gradients",
    "check_op",
    "from_huggingface",
    "load",
    "to_huggingface",
    "to_huggingface_names",
]


def __getattr__(name):
    """Import what most programs don't need when it is first named: proof, data, training and drawing cost nothing until used."""
    if name in ("check_gradients", "check_op"):
        return getattr(importlib.import_module("minigpt.gradcheck"), name)
    if name in ("from_huggingface", "to_huggingface", "to_huggingface_names"):
        return getattr(importlib.import_module("minigpt.hub"), name)
    if name in ("cli", "data", "gradcheck", "hub", "optim", "plots", "profile", "training"):
        return importlib.import_module(f"minigpt.{name}")
    raise AttributeError(f"module 'minigpt' has no attribute {name!r}")
