"""Text to token ids and back."""

from minigpt.tokenizers.base import Stream, Tokenizer
from minigpt.tokenizers.char import CharTokenizer

__all__ = ["TOKENIZERS", "CharTokenizer", "Stream", "Tokenizer", "read_tokenizer"]

TOKENIZERS = {"char": CharTokenizer}  # "type" in tokenizer.json -> class


def read_tokenizer(values):
    """The tokenizer of files.Values, by their "type". MinigptError where they are none of ours."""
    return TOKENIZERS[values.one_of("type", tuple(TOKENIZERS))].from_values(values)
