"""One token a character: the simplest way from text to numbers and back."""

import json

import numpy as np

from minigpt.errors import MinigptError


class CharTokenizer:
    """A list of characters; a character's id is its place in the list.

    >>> tokenizer = CharTokenizer.from_text("hello")
    >>> tokenizer.encode("hole")
    array([1, 3, 2, 0])
    >>> tokenizer.decode([1, 3, 2, 0])
    'hole'
    """

    def __init__(self, characters):
        """characters: a string or list of distinct single characters, in the order of their ids. MinigptError where they are not."""
        self.characters = list(characters)
        if not self.characters:
            raise MinigptError("the vocabulary is empty, it must have at least 1 character")
        for i, c in enumerate(self.characters):
            if not isinstance(c, str) or len(c) != 1:
                raise MinigptError(f"vocabulary entry {i} is {c!r}, it must be a single character")
        self._ids = {c: i for i, c in enumerate(self.characters)}
        if len(self._ids) != len(self.characters):
            twice = next(c for i, c in enumerate(self.characters) if self._ids[c] != i)
            raise MinigptError(f"the character {twice!r} stands twice in the vocabulary")

    @classmethod
    def from_text(cls, text):
        """The tokenizer of all characters of a text, sorted by code point."""
        return cls(sorted(set(text)))

    @property
    def vocab_size(self):
        """How many tokens there are."""
        return len(self.characters)

    def encode(self, text):
        """Text -> ids, a 1-d int64 array. MinigptError names the first character that is not in the vocabulary, and its position."""
        try:
            return np.array([self._ids[c] for c in text], np.int64)
        except KeyError:
            at, c = next((i, c) for i, c in enumerate(text) if c not in self._ids)
            raise MinigptError(f"character {c!r} at position {at} is not in the vocabulary of {self.vocab_size} characters") from None

    def decode(self, ids):
        """Ids, 1-d -> text. MinigptError for an id out of range."""
        ids = np.asarray(ids, np.int64).ravel()
        if ids.size and not (ids.min() >= 0 and ids.max() < self.vocab_size):
            wrong = ids[(ids < 0) | (ids >= self.vocab_size)][0]
            raise MinigptError(f"token id {wrong} is out of range, it must be 0 to {self.vocab_size - 1}")
        return "".join(self.characters[i] for i in ids)

    def to_json(self):
        """The tokenizer as JSON text."""
        return json.dumps({"type": "char", "characters": "".join(self.characters)}, ensure_ascii=True, indent=1)

    @classmethod
    def from_json(cls, text):
        """A tokenizer from to_json's text. MinigptError where it is not one."""
        try:
            values = json.loads(text)
            characters = values["characters"]
            if values["type"] != "char" or not isinstance(characters, str):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise MinigptError('not a character tokenizer: expected JSON with "type": "char" and a string "characters"') from None
        return cls(characters)
