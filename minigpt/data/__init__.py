"""Texts, token files and batches."""

from minigpt.data.batches import check_length, consecutive_batches, draw_batch, open_tokens, save_tokens, split
from minigpt.data.documents import Documents, plays, split_each
from minigpt.data.shakespeare import tiny_shakespeare
from minigpt.data.text import Corpus, read_text
from minigpt.data.text_pairs import TextPairs

__all__ = [
    "Corpus",
    "Documents",
    "TextPairs",
    "check_length",
    "consecutive_batches",
    "draw_batch",
    "open_tokens",
    "plays",
    "read_text",
    "save_tokens",
    "split",
    "split_each",
    "tiny_shakespeare",
]
