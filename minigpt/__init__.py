"""minigpt: transformers in NumPy, every gradient written by hand and proved right."""

import importlib
import importlib.util

from minigpt.errors import MinigptError
from minigpt.layers.store import Store
from minigpt.models.gpt import GPT, GPTConfig

__version__ = "0.1.0"
__all__ = [
    "BERT",
    "GPT",
    "T5",
    "BERTConfig",
    "BPETokenizer",
    "CharTokenizer",
    "EncoderOutput",
    "GPTConfig",
    "GPTNeo",
    "GPTNeoConfig",
    "MinigptError",
    "RecipeGPT",
    "RecipeGPTConfig",
    "RoBERTa",
    "RoBERTaConfig",
    "Store",
    "T5Config",
    "UnigramTokenizer",
    "WordPieceTokenizer",
    "check_gradients",
    "check_layer",
    "check_op",
    "embed",
    "from_huggingface",
    "load",
    "load_tokenizer",
    "to_huggingface",
    "to_huggingface_names",
]


WHEN_NAMED = {  # what most programs don't need, and the module that is imported when it is first named
    "BERT": "models.bert",
    "BERTConfig": "models.bert",
    "EncoderOutput": "models.encoder",
    "check_gradients": "gradcheck",
    "check_layer": "gradcheck",
    "check_op": "gradcheck",
    "embed": "sentences",
    "BPETokenizer": "tokenizers",
    "CharTokenizer": "tokenizers",
    "UnigramTokenizer": "tokenizers",
    "WordPieceTokenizer": "tokenizers",
    "GPTNeo": "models.gpt_neo",
    "GPTNeoConfig": "models.gpt_neo",
    "from_huggingface": "hub",
    "RecipeGPT": "models.recipe_gpt",
    "RecipeGPTConfig": "models.recipe_gpt",
    "RoBERTa": "models.roberta",
    "RoBERTaConfig": "models.roberta",
    "T5": "models.t5",
    "T5Config": "models.t5",
    "load": "models",
    "load_tokenizer": "checkpoint",
    "to_huggingface": "hub",
    "to_huggingface_names": "hub",
}


def __getattr__(name):
    """Import proof, files, data, training and drawing when they are first named: they cost nothing
    until used.
    """
    if name in WHEN_NAMED:
        return getattr(importlib.import_module(f"minigpt.{WHEN_NAMED[name]}"), name)
    if not name.startswith("_") and importlib.util.find_spec(f"minigpt.{name}"):
        return importlib.import_module(f"minigpt.{name}")
    raise AttributeError(f"module 'minigpt' has no attribute {name!r}")
