r"""Unigram: T5's tokenizer, the pieces of a text that are the most probable together.

Each piece of the vocabulary has a score, the logarithm of its probability. A text can be cut into
pieces in many ways; each has the sum of its pieces' scores, and the largest sum is right. Viterbi's
algorithm finds it without trying all: the best way to write the first n characters ends with some
piece, and what is before this is written in the best way as well. With these pieces

>>> pieces = [("<unk>", 0.0), ("▁", -2.0), ("▁h", -4.0), ("▁hu", -6.0), ("h", -3.5), ("u", -3.0)]
>>> pieces += [("g", -3.0), ("s", -2.5), ("gs", -4.0), ("ug", -4.5), ("hug", -5.0), ("hugs", -8.5)]
>>> for row in steps("▁hugs", dict(pieces)):
...     print(row)
▁ -2.0
▁h -4.0
▁hu -6.0
▁ hug -7.0
▁ hug s -9.5

"▁hugs" is "▁ hug s" (-2 - 5 - 2.5 = -9.5) and not "▁ hugs" (-10.5), "▁hu gs" (-10), or "▁h ug s".
The longest piece is not always right, nor are the fewest.

>>> tokenizer = UnigramTokenizer(pieces, unk_id=0)
>>> tokenizer.tokens("hugs hugx")
['▁', 'hug', 's', '▁', 'hug', '<unk>']
>>> tokenizer.decode(tokenizer.encode("hugs  hug"))
'hugs  hug'

A character that is no piece by itself has the least score of all minus 10, and several in a row are
one unknown token, or their bytes <0x00> to <0xFF> where the vocabulary has them.

Sources: Kudo 2018 (1804.10959, section 3.2, Viterbi 1967); Kudo and Richardson 2018 (1808.06226),
for "▁" and bytes.
"""

import functools
import re
from array import array
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from minigpt.checks import flag, shortened, whole
from minigpt.errors import MinigptError
from minigpt.tokenizers.decoders import BYTE, Decoding, DecodingStream, decoder_from
from minigpt.tokenizers.metaspace import cutter, metaspace_from
from minigpt.tokenizers.normalizers import Strip, align, normalize, normalizer_from
from minigpt.tokenizers.pieces import PieceTokenizer
from minigpt.tokenizers.unigram_files import BYTES, METASPACE, T5_SPECIAL, checked_pieces, learn_unigram, read_unigram

UNKNOWN_PENALTY = 10.0  # below the least score of all pieces
MOST_INNER = 1000  # characters before a mark within a piece: of more, a text is not cut
CACHED_WORDS, CACHED_LENGTH = 1 << 17, 100  # words remembered, and characters of the longest


class UnigramTokenizer(PieceTokenizer):
    """Unigram, see the top of this file."""

    kind, model_type = "unigram", "Unigram"

    def __init__(self, vocab, *, unk_id=None, byte_fallback=False, normalizer=None, pre_tokenizer=METASPACE,
                 decoder=METASPACE, added=(), post_processor=None, roles=None):  # fmt: skip
        """vocab: [(piece, score)] in the order of their ids; unk_id: of the unknown token, None for
        none; byte_fallback: whether an unknown character becomes its bytes; normalizer,
        pre_tokenizer, decoder: tokenizer.json's, dicts or None; the others as PieceTokenizer has
        them. MinigptError where they don't go together.
        """
        self.pieces_and_scores = checked_pieces(vocab)
        self.byte_fallback = flag("byte_fallback", byte_fallback)
        self.sources = {"normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "decoder": decoder}
        self.normalizer_steps, self.decoder_steps = normalizer_from(normalizer), decoder_from(decoder)
        self.metaspace = metaspace_from(pre_tokenizer)
        self.unknown = None if unk_id is None else whole("unk_id", unk_id, at_least=0, at_most=len(vocab) - 1)
        ids = self.ids_of(self.pieces_and_scores)
        super().__init__(ids, added, post_processor=post_processor, roles=roles)
        if unk_id is not None:
            self.roles.setdefault("unk", self._tokens[unk_id])
        if "cls" not in self.roles and "sep" not in (roles or {}):
            self.roles.pop("sep", None)  # T5's </s> ends a text, and nothing more
        if byte_fallback and (missing := [byte for byte in BYTES if byte not in ids]):
            raise MinigptError(f"byte_fallback is true, the piece {missing[0]} is missing")
        # Special tokens are found before, or are text like any other
        special = {token.content for token in self.added.tokens if token.special}
        scores = {piece: score for piece, score in self.pieces_and_scores if piece not in special}
        unknown = min(score for _, score in self.pieces_and_scores) - UNKNOWN_PENALTY
        self._table = table(scores, unknown)
        self._cut = independent(scores, self.metaspace.replacement)
        self._cache = WordCache(self.word_bytes)

    # Text to ids

    def normalize(self, text):
        """The text that is cut into words, see normalizers."""
        return normalize(self.normalizer_steps, text)

    def align(self, text):
        """The same, and the [start, end) in `text` that each of its characters stands for."""
        text, places = align(self.normalizer_steps, text)
        return (text, None, None) if places is None else (text, places, places + 1)

    @property
    def cut_before(self):
        """Where a text may be cut, see Tokenizer: at a space, where that begins a word."""
        strips = any(isinstance(step, Strip) and step.left for step in self.normalizer_steps)
        return " " if self.metaspace.split and not strips else ""

    def text_ids(self, text, special):
        """A text alone -> ids (N,), see PieceTokenizer."""
        if self.metaspace.prepend_scheme == "first" and self.normalizer_steps:
            return self.pieces(text, special)[0]  # which knows what stands first in the original
        return super().text_ids(text, special)

    def segment_ids(self, text, first=0):
        """Ids of a normalised text without added tokens, (N,) int64."""
        words = self.metaspace.words(text, first)
        if self.metaspace.split:
            return np.frombuffer(b"".join(map(self._cache.__getitem__, words)), np.int64)
        return np.concatenate([np.zeros(0, np.int64), *map(self.long_ids, words)])

    def long_ids(self, text):
        """The same of a part of it that was not cut into words."""
        ids = np.frombuffer(b"".join(map(self._cache.__getitem__, self._cut(text))), np.int64)
        if self.unknown is None or self.byte_fallback or len(ids) < 2:
            return ids
        return ids[np.append(True, (ids[1:] != self.unknown) | (ids[:-1] != self.unknown))]

    def word_pieces(self, word):
        """One word -> [(id, start, end)], where in the word the piece stands."""
        ids, scores, unknown, found = self.model_vocab, self._table.scores, self.unknown, []
        held = None  # where the unknown characters begin that come together
        for start, end in pairwise([0, *best_ends(word, self._table)]):
            i = ids[word[start:end]] if word[start:end] in scores else unknown
            if i == unknown:
                held = start if held is None else held
                continue
            if held is not None:
                found += self.unknown_pieces(word, held, start)
                held = None
            found.append((i, start, end))
        return found if held is None else found + self.unknown_pieces(word, held, len(word))

    def word_bytes(self, word):
        """Ids of one word, as bytes of int64."""
        return array("q", [i for i, *_ in self.word_pieces(word)]).tobytes()

    def unknown_pieces(self, word, start, end):
        """The same of characters without a piece, word[start:end]."""
        text = word[start:end]
        if text in self._table.scores:
            return [(self.model_vocab[text], start, end)]
        if self.byte_fallback:
            return [(self.model_vocab[BYTES[byte]], start, end) for byte in text.encode()]
        if self.unknown is None:
            raise MinigptError(f"{shortened(text)} is not in the vocabulary, which has no unknown token either")
        return [(self.unknown, start, end)]

    def segment_pieces(self, text, first=0):
        """Ids of a normalised text without added tokens, and [(start, end)] in it."""
        ids, spans = [], []
        for word, begin, end in self.metaspace.places(text, first):
            at, known = begin - (len(word) - (end - begin)), len(ids)  # one before, of a replacement put there
            for part in [word] if self.metaspace.split else self._cut(word):
                for i, start, stop in self.word_pieces(part):
                    if len(ids) > known and i == ids[-1] == self.unknown:
                        spans[-1] = spans[-1][0], at + stop
                    else:
                        ids.append(i)
                        spans.append((max(at + start, begin), max(at + stop, begin + 1)))
                at += len(part)
        return ids, spans

    @property
    def sentinel_ids(self):
        """Ids of <extra_id_0>, <extra_id_1>, ..., see Tokenizer."""
        found = []
        while (i := self.vocab.get(f"<extra_id_{len(found)}>")) is not None:
            found.append(i)
        return np.array(found, np.int64)

    @functools.cached_property
    def continues(self):
        """(vocab_size,) bool: whether a token goes on with a word that another one began."""
        own = np.array([not token.startswith(self.metaspace.replacement) for token in self._tokens])
        own[[token.id for token in self.added.tokens]] = False
        own.flags.writeable = False
        return own

    # Ids to text

    def text_of(self, ids):
        """Ids, a list, in range -> their text."""
        return Decoding(self.decoder_steps).all(list(map(self._tokens.__getitem__, ids)))

    def spelled(self, token_id):
        """The text of a token, to be shown, see Tokenizer.spelled."""
        token = self._tokens[token_id]
        if self.byte_fallback and BYTE.fullmatch(token):
            return bytes([int(token[3:5], 16)]).decode("utf-8", "surrogateescape")
        return token if token_id in self.added_texts else token.replace(self.metaspace.replacement, " ")

    def stream(self):
        """A Stream that holds back bytes until no more of them can follow."""
        return DecodingStream(self)

    # Files

    @staticmethod
    def ids_of(vocab):
        """piece -> id, of pieces with scores."""
        return {piece: i for i, (piece, _) in enumerate(vocab)}

    def model_values(self):
        """The components of tokenizer.json that are the kind's own, a dict."""
        model = {"type": "Unigram", "unk_id": self.unknown, "vocab": [list(pair) for pair in self.pieces_and_scores]}
        return self.sources | {"model": model | {"byte_fallback": self.byte_fallback}}

    @classmethod
    def read_model(cls, values, model):
        """files.Values of tokenizer.json and of its model -> (pieces, arguments of the class)."""
        return read_unigram(values, model)

    # Training

    @classmethod
    def train(cls, text, vocab_size, *, special_tokens=T5_SPECIAL, extra_ids=100, byte_fallback=False,
              keep_spaces=False, mixed=False):  # fmt: skip
        """The tokenizer of a text, or an iterable of texts, with vocab_size tokens, laid out as
        T5's: the special tokens, bytes, pieces by falling score, and <extra_id_...> from the last
        down to 0; see unigram_training.

        special_tokens: they come first, the unknown one and the end of a text among them;
        extra_ids: how many sentinels there are; byte_fallback: whether an unknown character becomes
        its bytes; keep_spaces: whether lines, several spaces and compatible characters (ﬁ, ½) stay
        what they are, where T5 has one space between words, and NFKC; mixed: whether a piece may
        hold letters, digits and punctuation side by side, for fewer tokens (4% to 12%), of which
        "you", "you," and "you." are three. MinigptError for a vocabulary that is too small for the
        characters, or larger than the text has a use for.
        """
        settings = {"byte_fallback": byte_fallback, "keep_spaces": keep_spaces, "mixed": mixed}
        settings = {name: flag(name, value) for name, value in settings.items()}
        return cls(**learn_unigram(text, vocab_size, special_tokens, extra_ids, **settings))


class WordCache(dict):
    """word -> its ids as bytes, made where they are missing; emptied when it is full. Threads may
    share it: what they find or write in it is always right.
    """

    def __init__(self, make):
        super().__init__()
        self.make = make

    def __missing__(self, word):
        ids = self.make(word)
        if len(word) <= CACHED_LENGTH:
            if len(self) >= CACHED_WORDS:
                self.clear()
            self[word] = ids
        return ids


# Viterbi


def steps(text, scores):
    """A text -> the best way to write its first 1, 2, ... characters, and the sum of its scores:
    the algorithm as its papers tell it, for reading. scores: piece -> score.
    """
    best = [([], 0.0)]
    for end in range(1, len(text) + 1):
        ways = [
            ([*best[start][0], text[start:end]], best[start][1] + scores[text[start:end]])
            for start in range(end)
            if text[start:end] in scores
        ]
        best.append(max(ways, key=lambda way: way[1]))
        yield f"{' '.join(best[-1][0])} {best[-1][1]}"


class Table(NamedTuple):
    """Pieces and scores, as best_ends needs them."""

    scores: dict  # piece -> score
    lengths: dict  # the first two characters of pieces -> how long these are, rising
    unknown: float  # score of a character that is no piece


def table(scores, unknown):
    """The Table of piece -> score."""
    lengths = {}
    for piece in scores:
        if len(piece) > 1:
            lengths.setdefault(piece[:2], set()).add(len(piece))
    return Table(scores, {start: tuple(sorted(found)) for start, found in lengths.items()}, unknown)


def best_ends(text, table):
    """Where the pieces end that a text is best made of, a list. Of two ways as good as each other
    it is the one whose last piece is longer, as in `tokenizers`.
    """
    size = len(text)
    best, start_of = [-np.inf] * (size + 1), [0] * (size + 1)
    best[0] = 0.0
    score_of, lengths_of, unknown = table.scores.get, table.lengths.get, table.unknown
    for start in range(size):
        here = best[start]
        score = here + score_of(text[start], unknown)
        if score > best[start + 1]:
            best[start + 1], start_of[start + 1] = score, start
        for length in lengths_of(text[start : start + 2], ()):
            end = start + length
            if end > size:
                break
            if (score := score_of(text[start:end])) is not None and (score := score + here) > best[end]:
                best[end], start_of[end] = score, start
    ends = []
    while size:
        ends.append(size)
        size = start_of[size]
    return ends[::-1]


def whole_text(text):
    """A text as its only part."""
    return [text]


def independent(pieces, mark):
    """What cuts a text into parts that no piece crosses, a function: before each mark, except
    behind characters that some piece has before one.
    """
    inner = {c for piece in pieces for c, after in pairwise(piece) if after == mark}
    if not inner:
        return cutter(mark).findall
    if len(inner) > MOST_INNER:
        return whole_text
    found = re.compile(f"(?<=[^{re.escape(''.join(sorted(inner)))}])(?={re.escape(mark)})")
    return found.split
