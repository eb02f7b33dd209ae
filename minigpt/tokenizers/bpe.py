r"""Byte-level byte pair encoding: GPT-2's tokenizer, and RoBERTa's.

A word starts as its bytes. A list of merges, made by training, says which two neighbours become one
token; the merge that stands first in the list is done first, wherever it occurs, until none is
left. With these four merges

>>> merges = [("l", "o"), ("lo", "w"), ("e", "r"), ("Ġ", "low")]
>>> for word in (" low", " lower", "slow"):
...     print(*steps(word, merges), sep="  ->  ")
Ġ l o w  ->  Ġ lo w  ->  Ġ low  ->  Ġlow
Ġ l o w e r  ->  Ġ lo w e r  ->  Ġ low e r  ->  Ġ low er  ->  Ġlow er
s l o w  ->  s lo w  ->  s low

("Ġ" is how the files write a space: see byte_level.) A text is cut into words before, and no merge
crosses their ends, so that each different word is merged once and then looked up:

>>> vocab = {token: i for i, token in enumerate(ALPHABET + ["".join(pair) for pair in merges])}
>>> tokenizer = BPETokenizer(vocab, merges)
>>> tokenizer.tokens("slow lower low")
['s', 'low', 'Ġlow', 'er', 'Ġlow']
>>> tokenizer.decode(tokenizer.encode("slöw 🐌"))
'slöw 🐌'

Sources: Sennrich, Haddow and Birch 2016 (arXiv 1508.07909, section 3.2); Radford et al. 2019,
section 2.2, for bytes.
"""

import codecs
import functools
import heapq
import json
from itertools import accumulate, chain, pairwise, repeat

import numpy as np

from minigpt.checks import shortened
from minigpt.errors import MinigptError
from minigpt.files import read_json, read_text
from minigpt.tokenizers.base import Stream, checked_ids
from minigpt.tokenizers.bpe_files import ANY_CLASS, GPT2, ROBERTA, around_roberta, config_of, parse_merges, read_bpe
from minigpt.tokenizers.bpe_training import learn_bpe
from minigpt.tokenizers.byte_level import ALPHABET, CHARACTERS, blocks, to_bytes, to_characters, words  # noqa: F401
from minigpt.tokenizers.pieces import PieceTokenizer, checked_vocab, with_more

NONE = 1 << 40  # the rank of a pair that is not merged: above all others
LONG_WORD = 400  # bytes: from here on a heap is faster than a scan
CACHED_WORDS, CACHED_LENGTH = 1 << 17, 100  # words remembered, and characters of the longest


class BPETokenizer(PieceTokenizer):
    """Byte-level BPE, see the top of this file."""

    kind, model_type = "bpe", "BPE"
    FILES = ("vocab.json", "merges.txt")

    def __init__(self, vocab, merges, *, added=(), add_prefix_space=False, use_regex=True, ignore_merges=False,
                 unk_token=None, post_processor=None, roles=None):  # fmt: skip
        """vocab: token -> id; merges: pairs of tokens, the first ones first; added: AddedToken in a
        list; add_prefix_space: whether a text that begins without a space is given one; use_regex:
        whether a text is cut into words; ignore_merges: whether a word that is a token is not
        merged; unk_token: for bytes that the vocabulary lacks; the others as PieceTokenizer has
        them. MinigptError where they don't go together.
        """
        self.merges = merges = [tuple(pair) for pair in merges]
        self.add_prefix_space, self.use_regex = add_prefix_space, use_regex
        self.ignore_merges, self.unk_token = ignore_merges, unk_token
        super().__init__(vocab, added, post_processor=post_processor, roles=roles)
        self._ranks, self._merged = ranked(merges, vocab)
        unknown = None if unk_token is None else vocab.get(unk_token)
        if unk_token is not None and unknown is None:
            raise MinigptError(f"unk_token is {shortened(unk_token)}, it must be in the vocabulary")
        self._byte_ids = [vocab.get(character, unknown) for character in CHARACTERS]
        self._lacking = None in self._byte_ids
        self._bytes = [self.added_texts.get(i, "").encode() or to_bytes(token) for i, token in enumerate(self._tokens)]
        self._cache = {}  # word -> ids, of one encode and the next

    @classmethod
    def train(cls, text, vocab_size, special_tokens=GPT2, *, min_frequency=0, add_prefix_space=False):
        """A tokenizer that is made for a text, or an iterable of texts.

        vocab_size: at most so many tokens: the special ones, the 256 bytes, and as many merges as
        the text gives, the most frequent pair first (of equal ones the smaller pair of ids), none
        rarer than min_frequency. special_tokens: ("<|endoftext|>",) for a GPT; with <s> and </s>
        among them, as in ROBERTA, they are put around a text. MinigptError for settings out of
        range.
        """
        vocab, merges, added = learn_bpe(text, vocab_size, special_tokens, min_frequency, add_prefix_space)
        around = around_roberta({token.content: token.id for token in added}, {}, add_prefix_space)
        return cls(vocab, merges, added=added, add_prefix_space=add_prefix_space, post_processor=around)

    # Text to ids

    def segment_ids(self, text, first=0):
        """Ids of a text without added tokens."""
        text = self.prefixed(text)
        if not self.use_regex:
            return np.array(self.word_ids(text), np.int64)
        return np.concatenate([self.block_ids(words(block)) for block in blocks(text)])

    @property
    def cut_before(self):
        """Where a text may be cut, see Tokenizer: a part that begins with no space is given one."""
        return " " if self.add_prefix_space else " \n"

    def prefixed(self, text):
        """A text with a space before it where the tokenizer puts one."""
        return f" {text}" if self.add_prefix_space and not text.startswith(" ") else text

    def block_ids(self, found):
        """Words -> their ids, (N,) int64. Other threads may use the cache too, so what is needed
        here is in a dict of its own.
        """
        cache, ids = self._cache, {}
        for word in set(found):
            if (known := cache.get(word)) is None:
                known = self.word_ids(word)
                if len(word) <= CACHED_LENGTH:
                    cache[word] = known
            ids[word] = known
        if len(cache) > CACHED_WORDS:
            self._cache = {}
        return np.fromiter(chain.from_iterable(map(ids.__getitem__, found)), np.int64)

    def word_ids(self, word):
        """Ids of one word, a list."""
        data = word.encode()
        if self.ignore_merges and (whole := self.model_vocab.get(to_characters(data))) is not None:
            return [whole]
        ids = list(map(self._byte_ids.__getitem__, data))
        if self._lacking and None in ids:
            byte = data[ids.index(None)]
            missing = f"byte 0x{byte:02x} of {shortened(word)} is not in the vocabulary"
            raise MinigptError(f"{missing}, which has no unk_token either")
        return (merge if len(ids) < LONG_WORD else merge_long)(ids, self._ranks, self._merged)

    def segment_pieces(self, text, first=0):
        """Ids of a text without added tokens, and the characters [(start, end)] of each; a token
        with a part of a character has the whole of it.
        """
        full = self.prefixed(text)
        ids, spans, known = [], [], {}
        start = len(text) - len(full)  # of a word: -1 for the space that was put there
        for word in words(full) if self.use_regex else [full]:
            if word not in known:
                known[word] = self.word_ids(word)
            at = [max(i, 0) for i, c in enumerate(word, start) for _ in c.encode()]  # byte -> character
            ends = list(accumulate(map(self._lengths.__getitem__, known[word]), initial=0))
            spans += [(at[begin], at[end - 1] + 1) for begin, end in pairwise(ends)]
            ids += known[word]
            start += len(word)
        return ids, spans

    @functools.cached_property
    def _lengths(self):
        """Bytes of each token; the unknown one stands for one byte."""
        lengths = [len(data) for data in self._bytes]
        if self.unk_token is not None:
            lengths[self.model_vocab[self.unk_token]] = 1
        return lengths

    def finish_offsets(self, ids, offsets, text):
        """Offsets without the spaces around words, where the post-processor says so."""
        if not self.template.trim_offsets:
            return offsets
        trimmed = offsets.copy()
        for i, (token, (start, end)) in enumerate(zip(ids.tolist(), offsets.tolist())):
            # an added token with the spaces that it took along
            token = text[start:end] if token in self.added_texts else self._tokens[token]
            before, after = len(token) - len(token.lstrip(SPACES)), len(token) - len(token.rstrip(SPACES))
            if before:
                before -= (i == 0 or start == 0) and self.template.add_prefix_space
                start = min(start + before, end)
            if after and end >= after:
                end = max(end - after, start)
            trimmed[i] = start, end
        return trimmed

    # Ids to text

    def text_of(self, ids):
        """Ids, a list, in range -> their text; bytes that are no UTF-8 are U+FFFD."""
        return self.bytes_of(ids).decode("utf-8", "replace")

    def bytes_of(self, ids):
        """Ids, a list, in range -> their bytes."""
        return b"".join([self._bytes[i] for i in ids])

    def spelled(self, token_id):
        """The text of a token, to be shown, see Tokenizer.spelled."""
        return self._bytes[token_id].decode("utf-8", "surrogateescape")

    def stream(self):
        """A Stream that holds back the first bytes of a character until the others come."""
        return ByteStream(self)

    @property
    def continues(self):
        """(vocab_size,) bool: whether a token goes on with the word before it, as it begins with no
        white space.
        """
        starts = np.array([data[:1].isspace() for data in self._bytes])
        starts[[token.id for token in self.added.tokens]] = True
        return ~starts

    # Files

    def model_values(self):
        """pre_tokenizer, decoder and model of tokenizer.json."""
        level = {"type": "ByteLevel", "add_prefix_space": self.add_prefix_space, "trim_offsets": True}
        level["use_regex"] = self.use_regex
        model = {"type": "BPE", "dropout": None, "unk_token": self.unk_token, "continuing_subword_prefix": ""}
        model |= {"end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False}
        model |= {"ignore_merges": self.ignore_merges, "vocab": self.model_vocab}
        model["merges"] = [list(pair) for pair in self.merges]
        decoder = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
        return {"pre_tokenizer": level, "decoder": decoder, "model": model}

    @classmethod
    def read_model(cls, values, model):
        """files.Values of tokenizer.json and of its model -> (vocab, arguments of the class)."""
        return read_bpe(values, model)

    def files(self):
        """name -> text of the files that `save` writes."""
        merges = "".join(f"{a} {b}\n" for a, b in self.merges)
        older = (json.dumps(self.model_vocab, ensure_ascii=False), f"#version: 0.2\n{merges}")
        files = super().files()
        config = json.loads(files["tokenizer_config.json"]) | config_of(self)
        files["tokenizer_config.json"] = json.dumps(config, indent=1)
        return files | dict(zip(self.FILES, older))

    def check_config(self, config):
        """MinigptError where a tokenizer_config.json disagrees, of a class that goes by it."""
        name = config.text("tokenizer_class", default=None) or ""
        prefix = config.flag("add_prefix_space", default=self.add_prefix_space)
        if name.startswith(("GPT2", "Roberta")) and prefix != self.add_prefix_space:
            raise MinigptError(f"{config.where}: add_prefix_space is {prefix}, tokenizer.json says otherwise")

    @classmethod
    def from_files(cls, vocab, merges, **arguments):
        """A tokenizer of two files, GPT-2's encoder.json and vocab.bpe, which are called vocab.json
        and merges.txt today; the arguments are those of the class.
        """
        pairs = parse_merges(read_text(merges), merges)
        return cls(checked_vocab(read_json(vocab)), pairs, **arguments)

    @classmethod
    def from_folder(cls, directory, config, roles, tokens):
        """A tokenizer of a folder with vocab.json and merges.txt alone: GPT-2's kind or RoBERTa's,
        as tokenizer_config.json says or else the vocabulary shows; see folder.read_folder.
        """
        vocab, merges = (directory / name for name in cls.FILES)
        values = read_json(vocab)
        ids, name = checked_vocab(values), config and config.text("tokenizer_class", default=None)
        said = name and name not in ANY_CLASS
        roberta = name.startswith("Roberta") if said else "<s>" in ids and "</s>" in ids
        tokens = with_more([], [*tokens, *(token for token in (ROBERTA if roberta else GPT2) if token in ids)], ids)
        prefix = bool(config) and bool(config.flag("add_prefix_space", default=False))
        try:
            around = around_roberta(ids, roles, prefix) if roberta else None
            pairs = parse_merges(read_text(merges), merges)
            return cls(ids, pairs, added=tokens, add_prefix_space=prefix, post_processor=around, roles=roles)
        except MinigptError as error:
            raise MinigptError(f"{directory}: {error}") from None


SPACES = CHARACTERS[ord(" ")] + " \t\n\v\f\r\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000"
SPACES += "".join(map(chr, range(0x2000, 0x200B)))


class ByteStream(Stream):
    """Decodes ids as they come: a character whose last bytes are still to come is held back."""

    def __init__(self, tokenizer):
        super().__init__(tokenizer)
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, ids):
        """Ids (N,) -> the text that they finish."""
        ids = checked_ids(ids, self.tokenizer.vocab_size)
        return self.decoder.decode(self.tokenizer.bytes_of(ids.tolist()))

    def end(self):
        """What was held back: U+FFFD, or nothing."""
        return self.decoder.decode(b"", True)


# Merging


def steps(word, merges):
    """A word -> its tokens after each merge, as texts with spaces between: the algorithm as its
    papers tell it, for reading.
    """
    tokens = list(to_characters(word.encode()))
    yield " ".join(tokens)
    while pairs := set(pairwise(tokens)) & set(merges):
        pair = min(pairs, key=merges.index)
        at = next(i for i in range(len(tokens)) if tuple(tokens[i : i + 2]) == pair)
        tokens[at : at + 2] = ["".join(pair)]
        yield " ".join(tokens)


def merge(ids, ranks, merged):
    """Ids of bytes -> ids of tokens, a list, of which it makes use; ranks: (id, id) -> rank of
    their merge; merged: rank -> the id of what they become.

    Each turn does the first of the merges with the lowest rank: min and index of a list are quick.
    """
    get = ranks.get
    found = list(map(get, pairwise(ids), repeat(NONE)))
    while found and (rank := min(found)) < NONE:
        i = found.index(rank)
        new = ids[i] = merged[rank]
        del ids[i + 1], found[i]
        if i:
            found[i - 1] = get((ids[i - 1], new), NONE)
        if i < len(found):
            found[i] = get((new, ids[i + 1]), NONE)
    return ids


def merge_long(ids, ranks, merged):
    """The same as `merge` for a long word: a heap of (rank, place) in place of a scan, and links to
    the neighbours in place of a list that closes up.
    """
    size = len(ids)
    before, after = list(range(-1, size - 1)), list(range(1, size + 1))
    found = [ranks.get(pair, NONE) for pair in pairwise(ids)] + [NONE]  # NONE as well for a place that is gone
    heap = [rank * size + i for i, rank in enumerate(found) if rank < NONE]
    heapq.heapify(heap)
    while heap:
        rank, i = divmod(heapq.heappop(heap), size)
        if found[i] != rank:  # it was merged otherwise
            continue
        gone = after[i]
        ids[i], after[i] = merged[rank], after[gone]
        ids[gone], found[gone], found[i] = None, NONE, NONE
        pairs = [before[i]]
        if after[i] < size:
            before[after[i]] = i
            pairs.append(i)
        for j in pairs:
            if j >= 0:
                found[j] = ranks.get((ids[j], ids[after[j]]), NONE)
                if found[j] < NONE:
                    heapq.heappush(heap, found[j] * size + j)
    return [token for token in ids if token is not None]


def ranked(merges, vocab):
    """Merges as `merge` takes them: (id, id) -> rank, and rank -> id. MinigptError names one whose
    tokens or result the vocabulary lacks, and one that stands twice.
    """
    ranks, merged = {}, []
    for rank, (a, b) in enumerate(merges):
        ids = tuple(vocab.get(token) for token in (a, b, a + b))
        wrong = "a merge has two tokens, none empty" if not a or not b else ""
        if None in ids:
            wrong = f"{shortened((a, b, a + b)[ids.index(None)])} is not in the vocabulary"
        elif ranks.setdefault(ids[:2], rank) != rank:
            wrong = f"it stands twice, as merge {ranks[ids[:2]]} too"
        if wrong:
            raise MinigptError(f"merge {rank}, {shortened(a)} and {shortened(b)}: {wrong}")
        merged.append(ids[2])
    return ranks, merged
