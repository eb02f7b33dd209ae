"""What every tokenizer is: text to ids and back, in a file, and a token at a time."""

import json
from pathlib import Path

from minigpt.errors import MinigptError
from minigpt.files import parse_json, reason, write_atomically

FILE = "tokenizer.json"


class Tokenizer:
    """Text to ids and back. A kind of tokenizer gives `kind`, `vocab_size`, `encode`, `decode`,
    `values` and `from_values`.
    """

    kind = None  # its name in the file, "type"
    vocab_size = 0  # how many tokens there are

    def encode(self, text, special=False):
        """Text -> ids (N,) int64; special: with the tokens that a model expects around a text,
        where there are such. MinigptError for a text that can't be encoded.
        """
        raise NotImplementedError

    def decode(self, ids):
        """Ids (N,) -> text. MinigptError for an id out of range."""
        raise NotImplementedError

    def stream(self):
        """A decoder for ids that come a few at a time: see Stream."""
        return Stream(self)

    def values(self):
        """What `from_values` needs, as a dict for JSON."""
        raise NotImplementedError

    @classmethod
    def from_values(cls, values):
        """A tokenizer from files.Values. MinigptError where they are not such a one's."""
        raise NotImplementedError

    def to_json(self):
        """The tokenizer as JSON text."""
        return json.dumps({"type": self.kind} | self.values(), ensure_ascii=True, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text, where="tokenizer"):
        """A tokenizer of this kind from to_json's text. MinigptError, which begins with `where`,
        for anything else.
        """
        values = parse_json(text, where)
        values.one_of("type", (cls.kind,))
        return cls.from_values(values)

    def save(self, directory):
        """Write tokenizer.json into a folder, which is made where it is missing;
        `minigpt.load_tokenizer` reads it.

        Beside a model that was saved without a tokenizer, or before one is. MinigptError where it
        can't be written.
        """
        path = Path(directory) / FILE
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, self.to_json())
        except OSError as error:
            raise MinigptError(f"tokenizer {path} can't be written: {reason(error)}") from None


class Stream:
    """Decodes ids as they come: push(ids) gives the text that is certain by now, end() what is
    left.

    This one is for tokenizers that decode each id by itself. Where a token may be a part of a
    character, or of a word whose spaces depend on its neighbours, `stream` gives another one, which
    holds back what is not finished.
    """

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def push(self, ids):
        """Ids (N,) -> the text that they add."""
        return self.tokenizer.decode(ids)

    def end(self):
        """The text of what was held back, after the last ids."""
        return ""
