"""One token a character: the simplest way from text to numbers and back."""

import numpy as np

from minigpt.checks import shortened
from minigpt.errors import MinigptError
from minigpt.tokenizers.base import Tokenizer, checked_ids


class CharTokenizer(Tokenizer):
    """A list of characters; a character's id is its place in the list.

    >>> tokenizer = CharTokenizer.from_text("hello")
    >>> tokenizer.encode("hole")
    array([1, 3, 2, 0])
    >>> tokenizer.decode([1, 3, 2, 0])
    'hole'
    """

    kind = "char"

    def __init__(self, characters):
        """characters: a string or list of distinct single characters, in the order of their ids.
        MinigptError where they are not.
        """
        self.characters = list(characters)
        if not self.characters:
            raise MinigptError("the vocabulary is empty, it must have at least 1 character")
        for i, c in enumerate(self.characters):
            if not isinstance(c, str) or len(c) != 1 or "\ud800" <= c <= "\udfff":  # half of a pair of UTF-16 is none
                raise MinigptError(f"vocabulary entry {i} is {shortened(c)}, it must be a single character")
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

    def encode(self, text, special=False):
        """Text -> ids (N,) int64; there are no special ones. MinigptError names the first character
        that is not in the vocabulary, and where.
        """
        if not isinstance(text, str):
            raise MinigptError(f"text is {shortened(text)}, it must be a string")
        try:
            return np.array([self._ids[c] for c in text], np.int64)
        except KeyError:
            at, c = next((i, c) for i, c in enumerate(text) if c not in self._ids)
            raise MinigptError(
                f"character {c!r} at position {at} is not in the vocabulary of {self.vocab_size} characters"
            ) from None

    def pieces(self, text, special=False):
        """A text -> ids (N,) and offsets (N, 2): one character each."""
        ids = self.encode(text)
        return ids, np.arange(len(ids))[:, None] + np.arange(2)

    def decode(self, ids, skip_special=False):
        """Ids (N,) -> text. MinigptError for an id out of range, or what is no whole number."""
        return "".join(self.characters[i] for i in checked_ids(ids, self.vocab_size))

    def id_to_token(self, token_id):
        """The character of an id; None where there is no such id."""
        return self.characters[token_id] if 0 <= token_id < self.vocab_size else None

    def token_to_id(self, token):
        """The id of a character; None where there is no such character."""
        return self._ids.get(token)

    def values(self):
        """The characters as one string."""
        return {"characters": "".join(self.characters)}

    @classmethod
    def from_values(cls, values):
        """A tokenizer from files.Values with "characters", a string. MinigptError where it is none,
        or no vocabulary.
        """
        characters = values.text("characters")
        try:
            return cls(characters)
        except MinigptError as error:
            raise MinigptError(f"{values.where}: {error}") from None
