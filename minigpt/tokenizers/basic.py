"""BERT's basic tokenizer: text to words, before WordPiece cuts them (1810.04805; google-research
bert/tokenization.py; in `tokenizers`: BertNormalizer and BertPreTokenizer).

It normalises:

1. Clean: control characters, U+0000 and U+FFFD go, white space becomes a space.
2. A Chinese character gets a space on both sides, so that it is a word of its own.
3. Accents go: é is taken apart into e and its accent (NFD), and the mark is dropped. As long as
   nobody says otherwise, where letters become small.
4. Letters become small.

It then cuts at white space, and each punctuation character is a word of its own:

>>> Basic().words("L'École de 東京, 1970\u20091")
['l', "'", 'ecole', 'de', '東', '京', ',', '1970', '1']
>>> Basic(lowercase=False).words("L'École")
['L', "'", 'École']
"""

import re
import unicodedata
from typing import NamedTuple

import numpy as np

from minigpt.checks import flag, shortened
from minigpt.errors import MinigptError
from minigpt.tokenizers import unicode_tables as tables
from minigpt.tokenizers.added import pattern
from minigpt.tokenizers.unicode_tables import in_class

ASCII_PUNCTUATION = r"!-/:-@\[-`{-~"  # with + and <, which are symbols in Unicode
NEWER, NEVER = in_class(tables.NEWER), in_class(tables.NEVER_TAKEN_APART)
SPACE = in_class(tables.WHITE_SPACE)

# Patterns of `regex`. Where a character is in a category and not among the newer ones, the category
# is asked first: 4 times as fast as one set made of both.
REMOVED = rf"(?:[\p{{Cc}}\p{{Cf}}\p{{Co}}\uFFFD](?<![\t\n\r{NEWER}]))+"
MARKS = rf"(?:[\p{{Mn}}{in_class(tables.MARKS_ONCE)}](?<![{NEWER}]))+"
NEVER_TAKEN_APART = rf"[\p{{M}}{in_class(tables.LETTERS_NEVER_TAKEN_APART)}](?<=[{NEVER}])"
MANY_MARKS = r"\p{M}{64}"
PUNCTUATION = rf"[\p{{P}}--[{NEWER}]][{ASCII_PUNCTUATION}{in_class(tables.PUNCTUATION_ONCE)}]"
WORDS = rf"(?V1)[^{SPACE}{PUNCTUATION}]+|[{PUNCTUATION}]"

# Patterns of `re`, twice as fast
CHUNKS = re.compile(rf"[^{SPACE}{ASCII_PUNCTUATION}]+|[{ASCII_PUNCTUATION}]")
ASCII_REMOVED = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f]+")
OTHER_SPACE = re.compile(f"[{in_class(tables.WHITE_SPACE.replace(' 20 ', ' '))}]")
CHINESE = re.compile(f"([{in_class(tables.CHINESE)}])")
TAKEN_APART = re.compile(f"[^{NEVER}]+")
LOWER = re.compile("[\u1c89\ua7cb-\ua7dc\U00010d50-\U00010d65\U00016ea0-\U00016eb8]")
BLOCK = 1 << 20  # characters: a list of the words of a gigabyte would take 40 times its size


class Basic(NamedTuple):
    """BERT's basic tokenizer and its four settings. All methods are functions of a text."""

    lowercase: bool = True
    strip_accents: bool | None = None  # None: where lowercase
    clean_text: bool = True
    handle_chinese_chars: bool = True

    @property
    def strips(self):
        """Whether accents go."""
        return self.lowercase if self.strip_accents is None else self.strip_accents

    def normalize(self, text):
        r"""Text -> the text that is cut into words.

        >>> Basic().normalize("Crème\tbrûlée\0")
        'creme brulee'
        """
        return self.steps(text)[0]

    def align(self, text):
        """Text -> its normalised text, and the place in `text` of the character that each of its
        characters comes from, an array; None for it where that is the same place.

        >>> Basic().align("İé x")
        ('ie x', None)
        >>> Basic(strip_accents=False).align("İx")
        ('i̇x', array([0, 0, 1]))
        """
        normal, places = self.steps(text, np.arange(len(text)))
        same = len(normal) == len(text) and (places == np.arange(len(text))).all()
        return normal, None if same else places

    def steps(self, text, places=None):
        """The normalised text, and the places of its characters where they are asked for."""
        if text.isascii():
            if self.clean_text:
                text, places = without(ASCII_REMOVED, text, places)
                text = text.replace("\t", " ").replace("\n", " ").replace("\r", " ")
            return (text.lower() if self.lowercase else text), places
        if self.clean_text:
            text, places = without(pattern(REMOVED), text, places)
            text = OTHER_SPACE.sub(" ", text)
        if self.handle_chinese_chars:
            text, places = spaced(text, places)
        if self.strips:
            text, places = without(pattern(MARKS), *taken_apart(text, places))
        return lower(text, places) if self.lowercase else (text, places)

    def words(self, text):
        """Text -> its words and punctuation, normalised, a list."""
        return [word for chunk in chunks(self.normalize(text)) for word in words_of(chunk)]


def checked_basic(basic):
    """A Basic as it is. MinigptError for what is none, or a setting that is not true or false."""
    if not isinstance(basic, Basic):
        raise MinigptError(f"basic is {shortened(basic)}, it must be a Basic")
    for name, value in basic._asdict().items():
        if not (name == "strip_accents" and value is None):
            flag(name, value)
    return basic


def blocks(text):
    """A normalised text -> parts of about BLOCK characters, cut at a space."""
    start = 0
    while len(text) - start > BLOCK and (end := text.find(" ", start + BLOCK)) >= 0:
        yield text[start:end]
        start = end
    yield text[start:] if start else text


def chunks(text):
    """A normalised text cut at white space and at ASCII punctuation, a list: of ASCII, its words.

    Fast, and what is cut is short enough to be looked up: words_of does the rest.
    """
    return CHUNKS.findall(text)


def words_of(chunk):
    """The words and punctuation in a chunk, a list.

    >>> words_of("«ça»")
    ['«', 'ça', '»']
    """
    return [chunk] if chunk.isascii() else pattern(WORDS).findall(chunk)


# Steps: a text and the places of its characters -> the same of another one; places may be None


def without(found, text, places):
    """Without what a pattern finds."""
    if places is not None:
        places = np.delete(places, [i for match in found.finditer(text) for i in range(*match.span())])
    return found.sub("", text), places


def spaced(text, places):
    """With a space on both sides of each Chinese character."""
    if places is not None:
        counts = np.ones(len(text), np.int64)
        counts[[match.start() for match in CHINESE.finditer(text)]] = 3
        places = np.repeat(places, counts)
    return " ".join(CHINESE.split(text)), places  # it gives them as well as what is between: 4 times as fast as sub


def taken_apart(text, places):
    """Canonically decomposed, NFD: a letter before its accents, these in their canonical order."""
    result = nfd(text)
    if places is None:
        return result, None
    apart = {c: nfd(c) for c in set(text)}
    lengths = [len(apart[c]) for c in text]
    firsts = np.zeros(sum(lengths), np.int64)
    firsts[np.cumsum([0, *lengths])[:-1]] = 1
    if (joined := "".join(map(apart.__getitem__, text))) != result:  # marks changed places
        firsts = firsts[canonical_order(joined)]
    return result, places[np.maximum(np.cumsum(firsts) - 1, 0)]  # what is no first stands where the one before it does


def nfd(text):
    """NFD by the Unicode of `tokenizers`."""
    if pattern(MANY_MARKS).search(text):  # Python sorts them in time growing with their square, 7 minutes for 400,000
        apart = {c: nfd(c) for c in set(text)}
        joined = "".join(map(apart.__getitem__, text))
        return "".join(map(joined.__getitem__, canonical_order(joined).tolist()))
    if pattern(NEVER_TAKEN_APART).search(text):
        return TAKEN_APART.sub(lambda match: unicodedata.normalize("NFD", match.group()), text)
    return unicodedata.normalize("NFD", text)


def canonical_order(text):
    """The order of a decomposed text's characters in which marks are sorted by their class."""
    class_of = {c: 0 if pattern(NEVER_TAKEN_APART).match(c) else unicodedata.combining(c) for c in set(text)}
    classes = np.array([class_of[c] for c in text])
    letters = np.cumsum(classes == 0)  # which letter a mark belongs to
    return np.lexsort((classes, letters))


def lower(text, places):
    """In small letters, each for itself."""
    if places is not None:
        counts = np.ones(len(text), np.int64)
        counts[[match.start() for match in re.finditer("İ", text)]] = 2  # the one that becomes two characters
        places = np.repeat(places, counts)
    if LOWER.search(text):
        text = LOWER.sub(lambda match: chr(tables.LOWER.get(ord(match.group()), ord(match.group()))), text)
    return text.replace("Σ", "σ").lower(), places
