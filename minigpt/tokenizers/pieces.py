"""Tokenizers of pieces of words, in the files of Hugging Face's `tokenizers`: BPE, WordPiece,
Unigram.

A text goes through: added tokens are found and stand for themselves; what lies between them is
normalised, cut into words, and each word into pieces of the vocabulary. A kind says how in three
plain functions, and what components of tokenizer.json it computes.
"""

import functools
import json

import numpy as np

from minigpt.checks import shortened, whole
from minigpt.errors import MinigptError
from minigpt.files import parse_json
from minigpt.tokenizers.added import LARGEST_VOCABULARY, AddedToken, AddedTokens, read_added_tokens, refuse_halves
from minigpt.tokenizers.base import ROLES, Tokenizer, checked_ids, checked_text
from minigpt.tokenizers.templates import template_from

KEYS = ("version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor")
KEYS += ("decoder", "model")
# Roles of special tokens by their usual spelling, for tokenizer.json doesn't say them
USUAL = {
    "bos": ("<s>", "<bos>", "[BOS]", "<|startoftext|>", "<|begin_of_text|>", "<|endoftext|>"),
    "eos": ("</s>", "<eos>", "[EOS]", "<|endoftext|>", "<|end_of_text|>"),
    "unk": ("<unk>", "[UNK]"),
    "sep": ("[SEP]", "<sep>", "</s>"),
    "pad": ("<pad>", "[PAD]", "<|pad|>"),
    "cls": ("[CLS]", "<cls>", "<s>"),
    "mask": ("<mask>", "[MASK]"),
}


class PieceTokenizer(Tokenizer):
    """A vocabulary, added tokens and a template around what a kind of model makes of a text. A
    kind's own settings are made before this class's __init__, which normalises the added tokens.

    A kind gives `model_type`, `components`, `model_values`, `read_model` and

    - `segment_ids(text, first)`: ids of a normalised text without added tokens, a list or array;
      first: how many of its characters stand for the very first one of the text, as a rule 0 or 1;
    - `segment_pieces(text, first)`: the same, and for each the [start, end) in it;
    - `text_of(ids)`: the text of checked ids, a list;

    where it normalises, also `normalize(text)` and `align(text)`.
    """

    model_type = None  # "BPE": of the model in tokenizer.json
    FILES = ()  # names of the older files of which a folder may have it
    tokenizer_class = "PreTrainedTokenizerFast"  # of transformers, which reads tokenizer.json as it is

    def __init__(self, vocab, added=(), *, post_processor=None, roles=None):
        """vocab: token -> id, 0, 1, ... without a gap, those of added tokens left out or not;
        added: AddedToken in a list; post_processor: tokenizer.json's, a dict;
        roles: role -> special token, those that are not named by their usual spelling. MinigptError
        where they don't go together.
        """
        self.model_vocab = vocab = own_vocab(vocab)
        self.added = AddedTokens(added)
        self.vocab = merged_vocab(vocab, self.added)
        self.added.normalize_with(self.normalize)
        self._tokens = list(self.vocab)  # in the order of their ids
        self.template = template_from(post_processor, self.vocab.get)
        self.roles = usual_roles(self.added) | (roles or {})

    # What a kind says

    def normalize(self, text):
        """The normalised text."""
        return text

    def align(self, text):
        """The normalised text, and for each of its characters the [start, end) that it stands for
        in `text`, two arrays of NumPy; None for both where it is the text itself.
        """
        return text, None, None

    def segment_ids(self, text, first=0):
        """Ids of a normalised text without added tokens."""
        raise NotImplementedError

    def segment_pieces(self, text, first=0):
        """Ids of a normalised text without added tokens, and [(start, end)] in it."""
        raise NotImplementedError

    def text_of(self, ids):
        """Ids, a list, in range -> their text."""
        raise NotImplementedError

    def model_values(self):
        """The components of tokenizer.json that are the kind's own, a dict."""
        raise NotImplementedError

    @classmethod
    def read_model(cls, values, model):
        """files.Values of tokenizer.json and of its model -> (vocab, arguments of the class)."""
        raise NotImplementedError

    @staticmethod
    def ids_of(vocab):
        """token -> id, of what `read_model` gives as vocab."""
        return vocab

    # Text to ids

    @property
    def vocab_size(self):
        """How many tokens there are, added ones included."""
        return len(self._tokens)

    def encode(self, text, special=False):
        """Text -> ids (N,) int64, see Tokenizer.encode."""
        ids = self.text_ids(text, special)
        if not special or not self.template.special_count(False):
            return ids
        parts = [ids if part.text else np.array(part.ids, np.int64) for part in self.template.single]
        return np.concatenate(parts)

    def text_ids(self, text, special):
        """A text alone -> ids (N,); special: whether the special tokens in it are found."""
        text, parts = checked_text(text), []
        for found, begin, end in self.added.split(text, special):
            if found is not None:
                parts.append([found])
                continue
            segment = self.normalize(text[begin:end])
            for found, start, end in self.added.normalized.split(segment, special):
                first = int(begin == start == 0)
                parts.append(self.segment_ids(segment[start:end], first) if found is None else [found])
        if len(parts) == 1:
            return np.asarray(parts[0], np.int64)
        return np.concatenate([np.zeros(0, np.int64), *(np.asarray(part, np.int64) for part in parts)])

    def pieces(self, text, special=False):
        """A text alone -> ids (N,) and offsets (N, 2), see Tokenizer.pieces."""
        text, ids, offsets = checked_text(text), [], []
        for found, first, last in self.added.split(text, special):
            if found is not None:
                ids.append(found)
                offsets.append((first, last))
                continue
            segment, starts, ends = self.align(text[first:last])
            for found, start, end in self.added.normalized.split(segment, special):
                part = segment[start:end]
                at_start = int(first == start == 0)
                if starts is not None:
                    at_start = int(first == 0) * np.count_nonzero(starts[start:end] == 0)
                new, spans = self.segment_pieces(part, at_start) if found is None else ([found], [(0, len(part))])
                ids += new
                if starts is None:
                    offsets += [(first + start + a, first + start + b) for a, b in spans]
                else:
                    offsets += [(first + starts[start + a], first + ends[start + b - 1]) for a, b in spans]
        return np.array(ids, np.int64), np.array(offsets, np.int64).reshape(-1, 2)

    # Ids to text

    def decode(self, ids, skip_special=False):
        """Ids (N,) -> text, see Tokenizer.decode."""
        ids = checked_ids(ids, self.vocab_size)
        if skip_special:
            ids = ids[~np.isin(ids, self.special_ids)]
        return self.text_of(ids.tolist())

    def id_to_token(self, token_id):
        """The token of an id, as the vocabulary spells it; None where there is no such id."""
        return self._tokens[token_id] if 0 <= token_id < len(self._tokens) else None

    def token_to_id(self, token):
        """The id of a token; None where there is no such token."""
        return self.vocab.get(token)

    @property
    def special_ids(self):
        """Ids of the special tokens, sorted, (K,) int64."""
        return self.added.special_ids

    @functools.cached_property
    def added_texts(self):
        """id -> text, of the added tokens."""
        return {token.id: token.content for token in self.added.tokens}

    # Files

    def values(self):
        """tokenizer.json as a dict: Hugging Face's format."""
        own = self.model_values()
        added = [{"id": token.id} | token._asdict() for token in self.added.tokens]
        values = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added}
        values |= {"normalizer": None} | {"pre_tokenizer": None, "post_processor": self.template.source}
        return values | {"decoder": None} | own

    def to_json(self):
        """The tokenizer as JSON text, which `tokenizers` reads as well."""
        return json.dumps(self.values(), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text, where="tokenizer"):
        """A tokenizer of this kind from to_json's text. MinigptError, which begins with `where`,
        for anything else.
        """
        return cls.from_values(parse_json(text, where))

    @classmethod
    def from_values(cls, values, roles=None, more=()):
        """A tokenizer from the files.Values of a tokenizer.json; roles: role -> special token;
        more: contents, or AddedToken without an id, of special tokens that another file names.

        Its truncation and padding are settings of those who made it, and not applied: max_length
        and pad_to say them here. MinigptError names a component that is not computed, and whatever
        is wrong.
        """
        values.refuse_unknown(KEYS)
        values.text("version", default=None)
        for key in ("truncation", "padding"):
            values.section(key, default=None)
        model = values.section("model")
        vocab, arguments = cls.read_model(values, model)
        added = with_more(read_added_tokens(values), more, cls.ids_of(vocab))
        try:
            processor = values.section("post_processor", default=None)
            processor = None if processor is None else dict(processor.items())
            return cls(vocab, added=added, post_processor=processor, roles=roles, **arguments)
        except MinigptError as error:
            text = str(error)
            raise MinigptError(text if text.startswith(str(values.where)) else f"{values.where}: {text}") from None

    @classmethod
    def is_in(cls, directory):
        """Whether a folder has its older files."""
        return bool(cls.FILES) and (directory / cls.FILES[0]).exists()

    def check_config(self, config):
        """MinigptError where files.Values of a tokenizer_config.json want another tokenizer than
        the tokenizer.json beside it.
        """

    def files(self):
        """name -> text of the files that `save` writes."""
        config = {"tokenizer_class": self.tokenizer_class}
        config |= {f"{role}_token": self.roles[role] for role in ROLES if role in self.roles}
        config |= {"clean_up_tokenization_spaces": False}
        if self.max_length is not None:
            config["model_max_length"] = self.max_length
        return {"tokenizer.json": self.to_json(), "tokenizer_config.json": json.dumps(config, indent=1)}


def own_vocab(vocab):
    """token -> id as it is, ids as plain ints. MinigptError for a token that is no text, or an id
    that is no whole number.
    """
    if not isinstance(vocab, dict):
        raise MinigptError(f"vocab is {shortened(vocab)}, it must be a dict, token -> id")
    if all(type(token) is str and type(number) is int and number >= 0 for token, number in vocab.items()):
        return vocab
    for token in vocab:
        if not isinstance(token, str):
            raise MinigptError(f"a token of vocab is {shortened(token)}, it must be a string")
    return {token: whole(f"the id of {shortened(token)}", number, at_least=0) for token, number in vocab.items()}


def merged_vocab(vocab, added):
    """token -> id of a model's vocabulary and AddedTokens, in the order of ids. MinigptError where
    a token has two ids, an id two tokens, or none.
    """
    merged = dict(vocab)
    for token in added.tokens:
        if merged.setdefault(token.content, token.id) != token.id:
            ids = f"{token.id} among the added tokens and {merged[token.content]} in the vocabulary"
            raise MinigptError(f"the token {shortened(token.content)} has two ids, {ids}")
    if len(merged) > LARGEST_VOCABULARY:
        raise MinigptError(f"there are {len(merged):,} tokens, there may be at most {LARGEST_VOCABULARY:,}")
    by_id = [None] * len(merged)
    for token, number in merged.items():
        if number >= len(merged):
            missing = min(set(range(len(merged))) - set(merged.values()), default=None)
            raise MinigptError(f"no token has the id {missing}, although {shortened(token)} has the id {number}")
        if by_id[number] is not None:
            raise MinigptError(f"{shortened(by_id[number])} and {shortened(token)} have the same id, {number}")
        by_id[number] = token
    return {token: number for number, token in enumerate(by_id)}


def usual_roles(added):
    """role -> special token, of the special ones by their usual spelling."""
    special = {token.content for token in added.tokens if token.special}
    roles = {role: next((name for name in names if name in special), None) for role, names in USUAL.items()}
    return {role: name for role, name in roles.items() if name is not None}


def with_more(added, more, vocab):
    """AddedToken in a list, and after them those of `more`, contents or AddedToken, that are not
    among them: with the id that the vocabulary gives, or the next.
    """
    known, size = {token.content for token in added}, len(vocab.keys() | {token.content for token in added})
    for token in more:
        token = token if isinstance(token, AddedToken) else AddedToken(token, 0)
        if token.content not in known:
            known.add(token.content)
            number = vocab.get(token.content)
            added.append(token._replace(id=size if number is None else number))
            size += number is None
    return added


def read_vocab(values, key="vocab"):
    """token -> id in files.Values, under a key. MinigptError for an id that is no whole number."""
    section = values.section(key)
    return checked_vocab(section)


def checked_vocab(section):
    """token -> id of files.Values. MinigptError for an id that is no whole number, a token that is
    no text, or too many.
    """
    if len(section) > LARGEST_VOCABULARY:
        raise MinigptError(f"{section.where} has {len(section):,} tokens, there may be {LARGEST_VOCABULARY:,}")
    vocab = dict(section.items())
    for token, number in vocab.items():
        if type(number) is not int or not 0 <= number < LARGEST_VOCABULARY:
            section.whole(token, at_least=0, at_most=LARGEST_VOCABULARY - 1)
    refuse_halves(vocab, section.where)
    return vocab


def component(values, key, known):
    """One component of tokenizer.json, its files.Values, None where it is null; known: its type ->
    the keys that it may have. MinigptError names a type that is not computed.
    """
    section = values.section(key, default=None)
    if section is None:
        return None
    name = section.one_of("type", tuple(known))
    section.refuse_unknown({"type", *known[name]})
    return section
