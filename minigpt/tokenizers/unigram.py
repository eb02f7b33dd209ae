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
from array import array
from itertools import islice, pairwise

import numpy as np

from minigpt.checks import flag, shortened, whole
from minigpt.errors import MinigptError
from minigpt.tokenizers.basic import blocks
from minigpt.tokenizers.decoders import BYTE, Decoding, DecodingStream, decoder_from
from minigpt.tokenizers.many_words import FEW, LONGEST, MANY, Cut, cut_words, make_trie
from minigpt.tokenizers.metaspace import metaspace_from
from minigpt.tokenizers.normalizers import Strip, align, normalize, normalizer_from
from minigpt.tokenizers.pieces import PieceTokenizer
from minigpt.tokenizers.unigram_files import BYTES, METASPACE, T5_SPECIAL, checked_pieces, learn_unigram, read_unigram
from minigpt.tokenizers.viterbi import best_cut, independent, table, whole_text

UNKNOWN_PENALTY = 10.0  # below the least score of all pieces
CACHED_WORDS, CACHED_LENGTH = 1 << 16, 100  # words remembered, and characters of the longest


class UnigramTokenizer(PieceTokenizer):
    """Unigram, see the top of this file."""

    kind, model_type = "unigram", "Unigram"
    float_code = "d"  # of an array: the floats that the scores of a text that is not cut are added in

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
        scores, unknown = self.lattice()
        self._table = table(scores, unknown)
        self._cut = independent(scores, self.metaspace.replacement)
        self._cache = {}  # word -> Cut, of one encode and the next

    def lattice(self):
        """piece -> score of those that a text is cut into, and an unknown character's. Special
        tokens are none of them: they are found before, or are text like any other.
        """
        special = {token.content for token in self.added.tokens if token.special}
        scores = {piece: score for piece, score in self.pieces_and_scores if piece not in special}
        return scores, min(score for _, score in self.pieces_and_scores) - UNKNOWN_PENALTY

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
        ids = [np.zeros(0, np.int64)]
        if self.metaspace.split:
            for i, block in enumerate(blocks(text)):  # of a long text all words would take much memory
                words = self.metaspace.words(block, 0 if i else first)
                found = self.cuts_of(words)
                ids.append(np.frombuffer(b"".join([found[word].ids for word in words]), np.int64))
        else:
            ids += map(self.uncut_ids, self.metaspace.words(text, first))
        return np.concatenate(ids)

    def uncut_ids(self, text):
        """Ids of a text that is not cut into words, (N,) int64."""
        parts = self._cut(text)
        found = self.cuts_of(parts)
        cuts = [found[part] for part in parts]
        ids = [cut.ids for cut in cuts]
        for at, ends in whole_text(parts, cuts, self._table, self.float_code).items():
            ids[at] = self.id_bytes(parts[at], ends)
        ids = np.frombuffer(b"".join(ids), np.int64)
        if self.unknown is None or self.byte_fallback or len(ids) < 2:
            return ids
        return ids[np.append(True, (ids[1:] != self.unknown) | (ids[:-1] != self.unknown))]

    def cuts_of(self, words):
        """Words -> {word: Cut}. Other threads may use the cache too, so what is needed here is in a
        dict of its own.
        """
        cache, found, missing = self._cache, {}, []
        for word in set(words):
            cut = cache.get(word)
            if cut is None:
                missing.append(word)
            else:
                found[word] = cut
        new = self.cut_all(missing)
        if len(cache) + len(new) > CACHED_WORDS:
            self._cache = cache = {}
        cache |= islice(((word, cut) for word, cut in new.items() if len(word) <= CACHED_LENGTH), CACHED_WORDS)
        return found | new

    def cut_all(self, words):
        """Different words -> {word: Cut}."""
        short = [word for word in words if len(word) <= LONGEST]
        new = {}
        for i in range(0, len(short) if len(short) >= FEW else 0, MANY):
            some = short[i : i + MANY]
            cuts, unknown = cut_words(some, self._trie)
            for at, ends in unknown.items():
                cuts[at] = cuts[at]._replace(ids=self.id_bytes(some[at], ends))
            new |= zip(some, cuts)
        for word in words if len(new) < len(words) else ():
            if word not in new:
                best = best_cut(word, self._table)
                new[word] = Cut(self.id_bytes(word, best.ends), best.scores, best.total, best.gap)
        return new

    @functools.cached_property
    def _trie(self):
        table = self._table
        # Several characters without a piece are never worth more than a piece of them all
        plain = not self.byte_fallback and table.unknown < UNKNOWN_PENALTY
        return make_trie(table.scores, self.model_vocab, table.unknown, self.unknown if plain else None)

    def id_bytes(self, word, ends):
        """Ids of one word, and where its pieces end -> ids as bytes of int64."""
        return array("q", [i for i, *_ in self.word_pieces(word, ends)]).tobytes()

    def word_pieces(self, word, ends):
        """One word, and where its pieces end -> [(id, start, end)]: where in it each stands."""
        ids, scores, unknown, found = self.model_vocab, self._table.scores, self.unknown, []
        held = None  # where the unknown characters begin that come together
        for start, end in pairwise([0, *ends]):
            i = ids[word[start:end]] if word[start:end] in scores else unknown
            if i == unknown:
                held = start if held is None else held
                continue
            if held is not None:
                found += self.unknown_pieces(word, held, start)
                held = None
            found.append((i, start, end))
        return found if held is None else found + self.unknown_pieces(word, held, len(word))

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
            for part, ends in self.cut_word(word):
                for i, start, stop in self.word_pieces(part, ends):
                    if len(ids) > known and i == ids[-1] == self.unknown:
                        spans[-1] = spans[-1][0], at + stop
                    else:
                        ids.append(i)
                        spans.append((max(at + start, begin), max(at + stop, begin + 1)))
                at += len(part)
        return ids, spans

    def cut_word(self, word):
        """A word, or a text that is not cut into words -> [(part of it, where its pieces end)]."""
        if self.metaspace.split:
            return [(word, best_cut(word, self._table).ends)]
        parts = self._cut(word)
        found = self.cuts_of(parts)
        anew = whole_text(parts, [found[part] for part in parts], self._table, self.float_code)
        return [(part, anew[at] if at in anew else best_cut(part, self._table).ends) for at, part in enumerate(parts)]

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
        its bytes, as which "<0x41>" in a text is read, too; keep_spaces: whether lines, all spaces
        and compatible characters (ﬁ, ½) stay what they are, all but "▁", which is a space, where T5
        has one space between words, none at either end, and NFKC; mixed: whether a piece may hold
        letters, digits and punctuation side by side, for fewer tokens (4% to 12%), of which "you",
        "you," and "you." are three. MinigptError for a vocabulary that is too small for the
        characters, or larger than the text has a use for.
        """
        settings = {"byte_fallback": byte_fallback, "keep_spaces": keep_spaces, "mixed": mixed}
        settings = {name: flag(name, value) for name, value in settings.items()}
        return cls(**learn_unigram(text, vocab_size, special_tokens, extra_ids, **settings))


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
