r"""WordPiece: BERT's tokenizer.

A text is cut into words (see basic). From the left, the longest piece of the vocabulary that the
word begins with is taken, then the longest that goes on from there, until nothing is left. Pieces
that go on with a word are written with "##" before them. With these of BERT's pieces

>>> pieces = ["[UNK]", "una", "##ff", "##ffa", "##able", "##ble", "##b", "un", "a", "the", "##l"]
>>> tokenizer = WordPieceTokenizer({piece: i for i, piece in enumerate(pieces)})
>>> tokenizer.tokens("unaffable")
['una', '##ffa', '##ble']

"una" is taken and not "un", "##ffa" and not "##ff", so that "##able" doesn't come into question any
more: what is longest is right by definition, and never taken back. A word which can't be finished
so, or has more than 100 characters, is unknown as a whole:

>>> tokenizer.tokens("The unaffected: a")
['the', '[UNK]', '[UNK]', 'a']
>>> tokenizer.decode(tokenizer.encode("The unaffable"))
'the unaffable'

Sources: Schuster and Nakajima 2012 (Japanese and Korean voice search), section 3; Devlin et al.
2019 (1810.04805), section 3; google-research bert/tokenization.py. Decoding is that of
`tokenizers`: small letters stay small, and spaces are guessed.
"""

import functools
import json
from array import array

import numpy as np

from minigpt.checks import shortened, whole
from minigpt.errors import MinigptError
from minigpt.files import kind
from minigpt.tokenizers.added import pattern
from minigpt.tokenizers.base import Stream, checked_ids
from minigpt.tokenizers.basic import CHUNKS, WORDS, Basic, blocks, checked_basic, chunks, words_of
from minigpt.tokenizers.pieces import PieceTokenizer
from minigpt.tokenizers.wordpiece_files import folder_arguments, older_files, read_vocab_text, read_wordpiece
from minigpt.tokenizers.wordpiece_training import SPECIAL, train

CACHED_CHUNKS, CACHED_LENGTH = 1 << 17, 100  # chunks remembered, and characters of the longest


class WordPieceTokenizer(PieceTokenizer):
    """WordPiece, see the top of this file."""

    kind, model_type = "wordpiece", "WordPiece"
    FILES = ("vocab.txt",)

    def __init__(self, vocab, *, basic=None, unk_token="[UNK]", prefix="##", max_input_chars_per_word=100,
                 cleanup=True, added=(), post_processor=None, roles=None):  # fmt: skip
        """vocab: token -> id; basic: the settings of BERT's basic tokenizer, a Basic; unk_token:
        what an unknown word becomes; prefix: of pieces that go on with a word;
        max_input_chars_per_word: a longer one is unknown; cleanup: whether decoding leaves out
        spaces before punctuation, None: tokens as they are, with spaces between; the others as
        PieceTokenizer has them. MinigptError where they don't go together.
        """
        self.basic = checked_basic(basic or Basic())
        self.unk_token = kind("unk_token", unk_token, str, words="a string")
        self.prefix = kind("prefix", prefix, str, words="a string")
        self.cleanup = cleanup
        self.longest_word = whole("max_input_chars_per_word", max_input_chars_per_word, at_least=0)
        super().__init__(vocab, added, post_processor=post_processor, roles=roles)
        vocab = self.model_vocab
        if unk_token not in vocab:
            raise MinigptError(f"unk_token is {shortened(unk_token)}, it must be in the vocabulary")
        self._unknown = vocab[unk_token]
        n = len(prefix)
        self._later = {token[n:]: i for token, i in vocab.items() if token.startswith(prefix) and len(token) > n}
        self._first_lengths, self._later_lengths = lengths(vocab), lengths(self._later)
        self._cache = ChunkCache(self.chunk_ids)

    # Text to ids

    def normalize(self, text):
        """The text that is cut into words, see basic."""
        return self.basic.normalize(text)

    def align(self, text):
        """The same, and the [start, end) in `text` that each of its characters stands for."""
        text, places = self.basic.align(text)
        return (text, None, None) if places is None else (text, places, places + 1)

    def segment_ids(self, text, first=0):
        """Ids of a normalised text without added tokens, (N,) int64."""
        ids = bytearray()
        for block in blocks(text):
            ids += b"".join(map(self._cache.__getitem__, chunks(block)))
        return np.frombuffer(ids, np.int64)

    def chunk_ids(self, chunk):
        """Ids of one of basic's chunks, as bytes of int64."""
        return array("q", [i for word in words_of(chunk) for i, _ in self.word_pieces(word)]).tobytes()

    def word_pieces(self, word):
        """One word -> [(id, where in the word the piece ends)]."""
        size = len(word)
        if size > self.longest_word:
            return [(self._unknown, size)]
        found, start, end = [], 0, 0
        known, sizes = self.model_vocab, self._first_lengths
        while start < size:
            for length in sizes:  # the longest first
                end = start + length
                if end <= size and (i := known.get(word[start:end])) is not None:
                    break
            else:
                return [(self._unknown, size)]
            found.append((i, end))
            start, known, sizes = end, self._later, self._later_lengths
        return found

    def segment_pieces(self, text, first=0):
        """Ids of a normalised text without added tokens, and [(start, end)] in it."""
        ids, spans = [], []
        for chunk in CHUNKS.finditer(text):
            for word in [chunk] if chunk.group().isascii() else pattern(WORDS).finditer(text, *chunk.span()):
                begin, start = word.start(), 0
                for i, end in self.word_pieces(word.group()):
                    ids.append(i)
                    spans.append((begin + start, begin + end))
                    start = end
        return ids, spans

    @functools.cached_property
    def continues(self):
        """(vocab_size,) bool: whether a token goes on with a word that another one began."""
        own = np.array([token.startswith(self.prefix) for token in self._tokens])
        own[[token.id for token in self.added.tokens]] = False
        own.flags.writeable = False
        return own

    # Ids to text

    def text_of(self, ids, begun=False):
        """Ids, a list, in range -> their text; begun: whether others came before them."""
        if begun:
            return "".join(map(self._spelled.__getitem__, ids))
        return "".join([*map(self._spelled_first.__getitem__, ids[:1]), *map(self._spelled.__getitem__, ids[1:])])

    @functools.cached_property
    def _spelled_first(self):
        """The text of each token where it is the first."""
        return [cleaned(token) if self.cleanup else token for token in self._tokens]

    @functools.cached_property
    def _spelled(self):
        """The text of each token where it is not: a piece goes on, another token gets a space."""
        if self.cleanup is None:
            return [f" {token}" for token in self._tokens]
        n = len(self.prefix)
        spelled = [token[n:] if token.startswith(self.prefix) else f" {token}" for token in self._tokens]
        return [cleaned(token) for token in spelled] if self.cleanup else spelled

    def stream(self):
        """A Stream in which a piece goes on with what was there before."""
        return PieceStream(self)

    # Files

    def model_values(self):
        """normalizer, pre_tokenizer, decoder and model of tokenizer.json."""
        normalizer = {"type": "BertNormalizer"} | self.basic._asdict()
        model = {"type": "WordPiece", "unk_token": self.unk_token, "continuing_subword_prefix": self.prefix}
        model |= {"max_input_chars_per_word": self.longest_word, "vocab": self.model_vocab}
        decoder = {"type": "WordPiece", "prefix": self.prefix, "cleanup": self.cleanup}
        components = {"normalizer": normalizer, "pre_tokenizer": {"type": "BertPreTokenizer"}}
        return components | {"decoder": None if self.cleanup is None else decoder, "model": model}

    @classmethod
    def read_model(cls, values, model):
        """files.Values of tokenizer.json and of its model -> (vocab, arguments of the class)."""
        return read_wordpiece(values, model)

    def files(self):
        """name -> text of the files that `save` writes: also vocab.txt, where it can hold the
        vocabulary.
        """
        files = super().files()
        config, older = older_files(self)
        files["tokenizer_config.json"] = json.dumps(json.loads(files["tokenizer_config.json"]) | config, indent=1)
        return files | older

    @classmethod
    def from_files(cls, vocab, **arguments):
        """A tokenizer of vocab.txt, a token a line; the arguments are those of the class."""
        return cls(read_vocab_text(vocab), **arguments)

    @classmethod
    def from_folder(cls, directory, config, roles, tokens):
        """A tokenizer of a folder with vocab.txt and perhaps tokenizer_config.json, as
        `transformers` reads it; see folder.read_folder.
        """
        vocab = read_vocab_text(directory / cls.FILES[0])
        try:
            return cls(vocab, **folder_arguments(vocab, config, roles, tokens))
        except MinigptError as error:
            text = str(error)
            raise MinigptError(text if text.startswith(str(directory)) else f"{directory}: {text}") from None

    # Training

    @classmethod
    def train(cls, text, vocab_size, special_tokens=SPECIAL, *, lowercase=True, strip_accents=None,
              handle_chinese_chars=True, min_frequency=1, limit_alphabet=None):  # fmt: skip
        """The tokenizer of a text, or an iterable of texts, with vocab_size tokens, or less where
        the text has no more pairs of pieces to join, see wordpiece_training.

        special_tokens: they come first, with those for what BERT has roles for by their usual
        spelling; lowercase, strip_accents, handle_chinese_chars: as Basic has them; min_frequency:
        how often a pair must occur; limit_alphabet: how many different characters are kept, the
        most frequent, None for all. MinigptError for a vocabulary that is too small for the
        characters.
        """
        basic = checked_basic(Basic(lowercase, strip_accents, handle_chinese_chars=handle_chinese_chars))
        limits = {"min_frequency": min_frequency, "limit_alphabet": limit_alphabet}
        return cls(**train(text, vocab_size, special_tokens, basic, **limits), basic=basic)


class ChunkCache(dict):
    """chunk -> its ids as bytes, made where they are missing; emptied when it is full. Threads may
    share it: what they find or write in it is always right.
    """

    def __init__(self, make):
        super().__init__()
        self.make = make

    def __missing__(self, chunk):
        ids = self.make(chunk)
        if len(chunk) <= CACHED_LENGTH:
            if len(self) >= CACHED_CHUNKS:
                self.clear()
            self[chunk] = ids
        return ids


class PieceStream(Stream):
    """Decodes ids as they come. A piece with "##" shows that it goes on with what was before, and
    anything else that a space is between them, so that nothing is ever held back.
    """

    def __init__(self, tokenizer):
        super().__init__(tokenizer)
        self.begun = False

    def push(self, ids):
        """Ids (N,) -> the text that they add."""
        ids = checked_ids(ids, self.tokenizer.vocab_size).tolist()
        text = self.tokenizer.text_of(ids, self.begun)
        self.begun = self.begun or bool(ids)
        return text


def lengths(tokens):
    """The lengths of tokens, each once, the longest first."""
    return sorted(set(map(len, tokens)) - {0}, reverse=True)


# What a token's text loses in decoding, one after another: "do not" becomes "don't" (sic)
CLEANED = [(" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m")]
CLEANED += [(" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re")]


def cleaned(text):
    """The text of one token without the spaces before punctuation and English endings."""
    for before, after in CLEANED:
        text = text.replace(before, after)
    return text
