"""What every tokenizer is: text to ids and back, in a file, and a token at a time."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minigpt.checks import shortened, whole
from minigpt.errors import MinigptError
from minigpt.files import parse_json, reason, write_atomically
from minigpt.tokenizers.templates import Template

FILE = "tokenizer.json"
ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")  # of special tokens, as transformers names them


class Encoding(NamedTuple):
    """A text, or two, as a model takes it."""

    ids: np.ndarray  # (N,) int64
    token_type_ids: np.ndarray  # (N,) int64, which part of the input a token belongs to
    offsets: np.ndarray  # (N, 2) int64, the characters [start, end) of its own text that a token stands for
    sequences: np.ndarray  # (N,) int64: 0 in the first text, 1 in the second, -1 in neither, as [CLS]


class Tokenizer:
    """Text to ids and back. A kind of tokenizer gives `kind`, `vocab_size`, `encode`, `pieces`,
    `decode`, `id_to_token`, `token_to_id`, `values` and `from_values`.
    """

    kind = None  # its name
    vocab_size = 0  # how many tokens there are
    template = Template()  # what stands around a text
    cut_before = " \n"  # a text may be cut in two before these, behind something else, and encoded in parts
    max_length = None  # tokens that a model's texts are cut to, where its folder says so
    roles = {}  # role -> the special token that has it  # noqa: RUF012 nobody writes into it

    def encode(self, text, special=False):
        """Text -> ids (N,) int64. MinigptError for a text that can't be encoded.

        special=False: the text alone, in which the spelling of a special token is text like any
        other, so that nobody can write one into a prompt. special=True: special tokens in it are
        found, and those that a model expects around a text are put there.
        """
        raise NotImplementedError

    def pieces(self, text, special=False):
        """A text alone -> ids (N,) and offsets (N, 2) into its characters; special: whether the
        special tokens in it are found.
        """
        raise NotImplementedError

    def decode(self, ids, skip_special=False):
        """Ids (N,) -> text, without the special tokens where they are to be skipped. MinigptError
        for an id out of range.
        """
        raise NotImplementedError

    def stream(self):
        """A decoder for ids that come a few at a time: see Stream."""
        return Stream(self)

    # Tokens

    def id_to_token(self, token_id):
        """The token of an id, as text; None where there is no such id."""
        raise NotImplementedError

    def token_to_id(self, token):
        """The id of a token; None where there is no such token."""
        raise NotImplementedError

    def tokens(self, text, special=False):
        """The tokens of a text, as the vocabulary spells them."""
        return [self.id_to_token(i) for i in self.encode(text, special).tolist()]

    def spelled(self, token_id):
        """The text of a token, to be shown; a byte that is no character by itself is a lone
        surrogate, as of surrogateescape.
        """
        return self.id_to_token(token_id)

    @property
    def special_ids(self):
        """Ids of the special tokens, sorted, (K,) int64."""
        return np.zeros(0, np.int64)

    @property
    def sentinel_ids(self):
        """Ids of <extra_id_0>, <extra_id_1>, ... in this order, (K,) int64: they stand for spans
        that are left out of a text; T5 alone has them.
        """
        return np.zeros(0, np.int64)

    @property
    def continues(self):
        """(vocab_size,) bool: whether a token goes on with a word that another one began."""
        return np.zeros(self.vocab_size, bool)

    def _role(self, role):
        token = self.roles.get(role)
        return None if token is None else self.token_to_id(token)

    bos_id = property(lambda self: self._role("bos"), doc="Id of the token that begins a text, None for none.")
    eos_id = property(lambda self: self._role("eos"), doc="Id of the token that ends a text, None for none.")
    unk_id = property(lambda self: self._role("unk"), doc="Id of the unknown token, None for none.")
    sep_id = property(lambda self: self._role("sep"), doc="Id of the token between texts, None for none.")
    pad_id = property(lambda self: self._role("pad"), doc="Id of the token that fills a row, None for none.")
    cls_id = property(lambda self: self._role("cls"), doc="Id of the token for the whole text, None for none.")
    mask_id = property(lambda self: self._role("mask"), doc="Id of the token that hides another, None for none.")

    # Texts, pairs and batches

    def encoding(self, text, pair=None, *, special=True, max_length=None):
        """A text, or two -> Encoding, cut to max_length tokens, those around it included.

        Of two texts the longer one is cut first, until both are as long, as in transformers
        ("longest_first"). MinigptError for a max_length that leaves less than the tokens around.
        """
        texts = [text] if pair is None else [text, pair]
        texts = [self.pieces(t, special) for t in texts]
        kept = self.kept_lengths([len(ids) for ids, _ in texts], special, max_length)
        texts = [(ids[:n], offsets[:n], t) for (ids, offsets), n, t in zip(texts, kept, (text, pair))]
        rows = []
        for part in self.template.single if pair is None else self.template.pair:
            if part.text:
                sequence = "AB".index(part.text)
                ids, offsets, source = texts[sequence]
                offsets = self.finish_offsets(ids, offsets, source)
            else:
                ids, sequence = np.array(part.ids if special else [], np.int64), -1
                offsets = np.zeros((len(ids), 2), np.int64)
            rows.append((ids, np.full(len(ids), part.token_type), offsets, np.full(len(ids), sequence)))
        return Encoding(*(np.concatenate(column) for column in zip(*rows)))

    def finish_offsets(self, ids, offsets, text):
        """Offsets as encoding gives them, of what `pieces` gave: a kind may leave out spaces."""
        return offsets

    def kept_lengths(self, lengths, special, max_length):
        """How many tokens of each text are kept, of their lengths."""
        around = self.template.special_count(len(lengths) > 1) if special else 0
        if max_length is None:
            return lengths
        whole("max_length", max_length, at_least=max(around, 1))
        return truncated(lengths, max_length - around)

    def batch(self, texts, pairs=None, *, max_length=None, pad_to=None):
        """Texts, or pairs of them -> dict of ids, attention_mask and token_type_ids, (B, T) int64
        each, ready for a model.

        Rows are filled up with the padding token, of type 0 and mask 0, to the longest of them or
        to pad_to. MinigptError where there is no such token, no text, or one longer than pad_to.
        """
        for name, value in (("texts", texts), ("pairs", () if pairs is None else pairs)):
            if isinstance(value, str) or not hasattr(value, "__iter__"):
                what = "a string" if isinstance(value, str) else shortened(value)
                raise MinigptError(f"{name} is {what}, it must be a list of strings")
        texts, pairs = list(texts), None if pairs is None else list(pairs)
        if not texts:
            raise MinigptError("texts is empty, a batch must have at least 1 text")
        if pairs is not None and len(pairs) != len(texts):
            raise MinigptError(f"there are {len(texts)} texts and {len(pairs)} pairs, there must be as many of both")
        rows = [self.row(text, pair, max_length) for text, pair in zip(texts, pairs or [None] * len(texts))]
        longest = max(len(ids) for ids, _ in rows)
        if pad_to is not None and whole("pad_to", pad_to, at_least=1) < longest:
            raise MinigptError(f"pad_to is {pad_to}, a text has {longest} tokens: max_length cuts it")
        width = pad_to or longest
        pad = self.pad_id
        if pad is None:
            if any(len(ids) < width for ids, _ in rows):
                raise MinigptError("texts of different lengths need a padding token, this tokenizer has none")
            pad = 0
        batch = {"ids": np.full((len(rows), width), pad, np.int64)}
        batch |= {name: np.zeros((len(rows), width), np.int64) for name in ("attention_mask", "token_type_ids")}
        for i, (ids, types) in enumerate(rows):
            batch["ids"][i, : len(ids)] = ids
            batch["attention_mask"][i, : len(ids)] = 1
            batch["token_type_ids"][i, : len(ids)] = types
        return batch

    def row(self, text, pair=None, max_length=None):
        """ids and token types (N,) of `encoding`, without the offsets, which take longer."""
        texts = [self.text_ids(t, True) for t in ([text] if pair is None else [text, pair])]
        kept = self.kept_lengths([len(ids) for ids in texts], True, max_length)
        parts = self.template.single if pair is None else self.template.pair
        ids = [texts["AB".index(p.text)][: kept["AB".index(p.text)]] if p.text else p.ids for p in parts]
        types = [np.full(len(row), part.token_type) for row, part in zip(ids, parts)]
        return np.concatenate([np.asarray(row, np.int64) for row in ids]), np.concatenate(types)

    def text_ids(self, text, special):
        """A text alone -> ids (N,); special: whether the special tokens in it are found."""
        return self.pieces(text, special)[0]

    # Files

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

    def files(self):
        """name -> text of the files that `save` writes."""
        return {FILE: self.to_json()}

    def save(self, directory):
        """Write tokenizer.json into a folder, which is made where it is missing;
        `minigpt.load_tokenizer` reads it.

        Beside a model that was saved without a tokenizer, or before one is. MinigptError where it
        can't be written.
        """
        path, files = Path(directory) / FILE, self.files()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                write_atomically(path.with_name(name), text)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name itself
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


def truncated(lengths, room):
    """Lengths of one text or two, of which the longer is cut first -> those that fit into room.

    >>> truncated([9], 4), truncated([2, 9], 6), truncated([9, 2], 6), truncated([9, 8], 7)
    ([4], [2, 4], [4, 2], [4, 3])
    """
    if sum(lengths) <= room:
        return lengths
    if len(lengths) == 1:
        return [room]
    short, long = sorted(lengths)
    long = max(short, room - short)
    if short + long > room:
        short = room // 2
        long = room - short
    return [long, short] if lengths[0] > lengths[1] else [short, long]


def checked_ids(ids, vocab_size):
    """Ids (N,) as an array. MinigptError for an id out of range, or what is no whole number."""
    try:
        ids = np.asarray(ids).ravel()
    except ValueError:  # rows of different lengths
        raise MinigptError(f"token ids are {shortened(ids)}, they must be whole numbers in one row") from None
    if ids.size and ids.dtype.kind not in "iu":
        raise MinigptError(f"token ids are {ids.dtype}, they must be whole numbers")
    if ids.size and not (ids.min() >= 0 and ids.max() < vocab_size):
        wrong = ids[(ids < 0) | (ids >= vocab_size)][0]
        raise MinigptError(f"token id {wrong} is out of range, it must be 0 to {vocab_size - 1}")
    return ids


def checked_text(text):
    """A text as it is. MinigptError for anything else, and for half of a pair of UTF-16, which no
    UTF-8 has.
    """
    if not isinstance(text, str):
        raise MinigptError(f"text is {shortened(text)}, it must be a string")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            half = f"{text[error.start]!r} at position {error.start}"
            raise MinigptError(f"the text has {half}, half of a UTF-16 pair: no character") from None
    return text
