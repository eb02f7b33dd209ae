"""Text to token ids and back."""

import importlib

from minigpt.tokenizers.base import Encoding, Stream, Tokenizer
from minigpt.tokenizers.char import CharTokenizer

__all__ = [
    "TOKENIZERS",
    "AddedToken",
    "BPETokenizer",
    "CharTokenizer",
    "Encoding",
    "Stream",
    "Tokenizer",
    "UnigramTokenizer",
    "WordPieceTokenizer",
    "is_tokenizer",
    "read_tokenizer",
    "read_tokenizer_folder",
]

TOKENIZERS = {"char": CharTokenizer}  # "type" in a tokenizer.json of our own -> class
WHEN_NAMED = {"AddedToken": "added", "BPETokenizer": "bpe", "UnigramTokenizer": "unigram"}
WHEN_NAMED |= {"WordPieceTokenizer": "wordpiece"}


def __getattr__(name):
    """Import a kind of tokenizer when it is first named."""
    if name in WHEN_NAMED:
        return getattr(importlib.import_module(f"minigpt.tokenizers.{WHEN_NAMED[name]}"), name)
    raise AttributeError(f"module 'minigpt.tokenizers' has no attribute {name!r}")


def kinds():
    """type of the model in Hugging Face's tokenizer.json -> class."""
    from minigpt.tokenizers.bpe import BPETokenizer
    from minigpt.tokenizers.unigram import UnigramTokenizer
    from minigpt.tokenizers.wordpiece import WordPieceTokenizer

    return {"BPE": BPETokenizer, "WordPiece": WordPieceTokenizer, "Unigram": UnigramTokenizer}


def older_kinds():
    """Classes of the files that there were before it, by the names of these."""
    from minigpt.tokenizers.spiece import SentencePieceTokenizer

    return [*(kind for kind in kinds().values() if kind.FILES), SentencePieceTokenizer]


def is_tokenizer(values):
    """Whether files.Values are a tokenizer.json, of ours or Hugging Face's; if it is a good one is
    another question.
    """
    if "type" in values:
        return any(dict(values.items())["type"] == name for name in (*TOKENIZERS, "sentencepiece"))
    return "model" in values


def read_tokenizer(values):
    """The tokenizer of files.Values, by their "type", or by their "model" in Hugging Face's format.
    MinigptError where they are none of these.
    """
    if "type" not in values and "model" in values:
        from minigpt.tokenizers.folder import read_huggingface

        return read_huggingface(values, kinds())
    name = values.one_of("type", (*TOKENIZERS, "sentencepiece"))
    return (TOKENIZERS.get(name) or older_kinds()[-1]).from_values(values)


def read_tokenizer_folder(directory):
    """The tokenizer in a folder of Hugging Face; see folder.read_folder."""
    from minigpt.tokenizers.folder import read_folder

    return read_folder(directory, kinds(), older_kinds())
