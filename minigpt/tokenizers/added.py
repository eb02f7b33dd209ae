"""Added tokens: texts that stand for one token each, found before anything else looks at a text.

`<|endoftext|>`, `[MASK]`, `<s>`: the special ones mark the ends of texts, places to fill and the
like; others are whole words that somebody added to a vocabulary. They are found from the left, the
longest first, those that are not `normalized` in the text as it is, the others in the text as the
tokenizer's normaliser left it.
"""

import functools
import re
from typing import NamedTuple

import numpy as np

from minigpt.checks import shortened, whole
from minigpt.errors import MinigptError

LARGEST_VOCABULARY = 1 << 22  # tokens; the largest in use have 300,000
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
# What the crate of regular expressions that `tokenizers` uses calls \w
WORD = r"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200c\u200d]"


class AddedToken(NamedTuple):
    """One added token, as tokenizer.json has them."""

    content: str
    id: int
    single_word: bool = False  # found only where no letter or digit stands beside it
    lstrip: bool = False  # takes the white space before it along
    rstrip: bool = False  # takes the white space after it along
    normalized: bool = False  # looked for in the normalised text
    special: bool = True  # left out by decode(skip_special=True), and found by encode(special=True) alone


def read_added_tokens(values, key="added_tokens"):
    """The AddedTokens of files.Values, a list under a key. MinigptError where they are none."""
    tokens = []
    for section in values.sections(key, default=None) or []:
        section.refuse_unknown(AddedToken._fields)
        content, number = section.text("content"), section.whole("id", at_least=0)
        if not content:
            raise MinigptError(f"{section.where}: content is '', an added token must have at least 1 character")
        flags = {flag: section.flag(flag, default=False) for flag in FLAGS}
        tokens.append(AddedToken(content, number, **flags))
    refuse_halves((token.content for token in tokens), f"{values.where}: {key}")
    return tokens


def refuse_halves(texts, where):
    """MinigptError for a token with half of a pair of UTF-16, which is no character."""
    for text in texts:
        if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
            raise MinigptError(f"{where}: {shortened(text)} has half of a UTF-16 pair, no character")


def checked_token(token):
    """An AddedToken as it is. MinigptError for what is none."""
    if not isinstance(token, AddedToken):
        raise MinigptError(f"an added token is {shortened(token)}, it must be an AddedToken")
    if not isinstance(token.content, str) or not token.content:
        raise MinigptError(f"an added token is {shortened(token.content)}, it must be a string that is not empty")
    whole(f"the id of the added token {shortened(token.content)}", token.id, at_least=0, at_most=LARGEST_VOCABULARY - 1)
    return token


class AddedTokens:
    """Added tokens, and what finds them in a text.

    >>> added = AddedTokens([AddedToken("<s>", 7), AddedToken("cat", 8, special=False)])
    >>> added.split("a cat<s>", special=True)
    [(None, 0, 2), (8, 2, 5), (7, 5, 8)]
    >>> added.split("a cat<s>", special=False)
    [(None, 0, 2), (8, 2, 5), (None, 5, 8)]
    """

    def __init__(self, tokens):
        """tokens: AddedToken; MinigptError for one that is none, or stands twice."""
        self.tokens = sorted(map(checked_token, tokens), key=lambda token: token.id)
        self.by_content = {token.content: token for token in self.tokens}
        if len(self.by_content) < len(self.tokens):
            twice = next(t.content for t in self.tokens if self.by_content[t.content] is not t)
            raise MinigptError(f"the added token {shortened(twice)} stands twice")
        self.special_ids = np.array([token.id for token in self.tokens if token.special], np.int64)
        self.special_ids.flags.writeable = False  # it is handed out as it is
        self.raw = Finder({token.content: token for token in self.tokens if not token.normalized})
        self.normalized = Finder({})

    def normalize_with(self, normalize):
        """Have the normalized ones found as a normaliser writes them."""
        found = {normalize(token.content): token for token in self.tokens if token.normalized}
        self.normalized = Finder({content: token for content, token in found.items() if content})
        return self

    def split(self, text, special):
        """A text, as it is -> [(id, start, end)] in order, id None for what lies between."""
        return self.raw.split(text, special)


class Finder:
    """Finds added tokens of one sort: those by their spelling -> AddedToken."""

    def __init__(self, tokens):
        self.tokens = tokens
        self.only_special = all(token.special for token in tokens.values())

    @functools.cached_property
    def pattern(self):
        """The tokens, the longest first: at one place the longest is found."""
        return re.compile("|".join(re.escape(content) for content in sorted(self.tokens, key=len, reverse=True)))

    def split(self, text, special):
        """A text -> [(id, start, end)] in order, id None for what lies between; special: whether
        the special ones are found.

        One that isn't, or that is no single word, still hides what overlaps it, as in `tokenizers`.
        """
        if not text:
            return []
        if not self.tokens or (self.only_special and not special):
            return [(None, 0, len(text))]
        parts, done = [], 0
        for match in self.pattern.finditer(text):
            token = self.tokens[match.group()]
            start, end = match.span()
            if (token.special and not special) or (token.single_word and not stands_alone(text, start, end)):
                continue
            if token.lstrip:
                start = max(done, end_of_words(text, start))
            if token.rstrip:
                end = start_of_words(text, end)
            if done < start:
                parts.append((None, done, start))
            parts.append((token.id, start, end))
            done = end
        if done < len(text):
            parts.append((None, done, len(text)))
        return parts


@functools.cache
def pattern(text):
    """A compiled pattern of `regex`, which knows categories and is imported when one is needed."""
    import regex

    return regex.compile(text)


def stands_alone(text, start, end):
    """Whether neither neighbour of text[start:end] is part of a word."""
    word = pattern(WORD)
    before = start > 0 and word.match(text, start - 1)
    return not before and not (end < len(text) and word.match(text, end))


def end_of_words(text, start):
    """Where the white space that ends at `start` begins."""
    space = pattern(r"\s")
    while start > 0 and space.match(text, start - 1):
        start -= 1
    return start


def start_of_words(text, end):
    """Where the white space that begins at `end` ends."""
    return pattern(r"\s*").match(text, end).end()
