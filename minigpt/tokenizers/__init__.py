"""Text to token ids and back."""

from minigpt.tokenizers.char import CharTokenizer

__all__ = ["CharTokenizer"]
