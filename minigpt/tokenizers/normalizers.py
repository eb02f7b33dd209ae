"""The normalizers of tokenizer.json that Unigram's tokenizers have.

A normalizer is a list of steps, each a function of a text and the places of its characters in the
original, an array or None, that gives both anew:

>>> step = Form("NFKC")
>>> step("ﬁne", np.arange(3))
('fine', array([0, 0, 1, 2]))

As in `tokenizers`, a character that became several has its place for each of them, and of several
that became one the first one's.
"""

import re
import unicodedata

import numpy as np

from minigpt.checks import shortened
from minigpt.errors import MinigptError
from minigpt.files import Values
from minigpt.tokenizers import unicode_tables as tables
from minigpt.tokenizers.added import pattern
from minigpt.tokenizers.basic import canonical_order, lower
from minigpt.tokenizers.charsmap import from_base64

FORMS = ("NFC", "NFD", "NFKC", "NFKD")
NEVER = tables.in_class(tables.NEVER_TAKEN_APART + tables.NEVER_COMPATIBLE)
OTHERS = re.compile(f"[^{NEVER}]+")
MANY_MARKS = r"\p{M}{64}"
# A character and what may join it: marks, and the later parts of a syllable of Hangul
CLUSTER = r"(?s).[\p{M}\u1161-\u1175\u11a8-\u11c2]*"
SPACES = re.compile(f"[{tables.in_class(tables.WHITE_SPACE)}]*")


def normalize(steps, text):
    """A text after all steps."""
    for step in steps:
        text, _ = step(text)
    return text


def align(steps, text):
    """A text after all steps, and the place in `text` of each of its characters; None for that
    where nothing changed.
    """
    normal, places = text, np.arange(len(text))
    for step in steps:
        normal, places = step(normal, places)
    return (text, None) if normal == text else (normal, places)


class Form:
    """One of Unicode's normal forms, by the Unicode of `tokenizers`."""

    def __init__(self, name):
        self.name = name

    def __call__(self, text, places=None):
        """See the top of this file."""
        if text.isascii():
            return text, places
        normal = OTHERS.sub(lambda match: self.form(match.group()), text)
        if places is None or normal == text:
            return normal, places
        found, start = [], 0
        for cluster in pattern(CLUSTER).findall(text):
            new = OTHERS.sub(lambda match: self.form(match.group()), cluster)
            sources = [start + i for i, c in enumerate(cluster) for _ in self.apart(c)]
            done = 0  # characters taken apart that those before stand for
            for c in new:
                found.append(sources[min(done, len(sources) - 1)])
                done += len(self.apart(c))
            start += len(cluster)
        return normal, places[found]

    def apart(self, c):
        """A character taken apart."""
        return unicodedata.normalize("NFKD" if "K" in self.name else "NFD", c) if OTHERS.match(c) else c

    def form(self, text):
        """A text that this Unicode knows."""
        if not pattern(MANY_MARKS).search(text):
            return unicodedata.normalize(self.name, text)
        # Python sorts marks in time growing with their square
        apart = {c: self.apart(c) for c in set(text)}
        joined = "".join(map(apart.__getitem__, text))
        ordered = "".join(map(joined.__getitem__, canonical_order(joined).tolist()))
        return unicodedata.normalize("NFC", ordered) if self.name.endswith("C") else ordered


class Precompiled:
    """A charsmap, grapheme by grapheme."""

    def __init__(self, charsmap):
        self.charsmap = charsmap

    def __call__(self, text, places=None):
        """See the top of this file."""
        normal = self.charsmap.by_grapheme(text)
        if places is None or normal == text:
            return normal, places
        return normal, places[places_of(self.charsmap.grapheme_parts(text))]


def places_of(parts):
    """[(length of a part of a text, what it becomes)] -> a place in the text for each character
    that is left.

    >>> places_of([(1, "a"), (1, ""), (2, "é"), (1, "fi")])
    [0, 2, 4, 4]
    """
    places, start = [], 0
    for size, new in parts:
        places += [start + min(i, size - 1) for i in range(len(new))]
        start += size
    return places


class Lowercase:
    """Small letters, each for itself."""

    def __call__(self, text, places=None):
        """See the top of this file."""
        return lower(text, places)


class Strip:
    """Without white space at the ends."""

    def __init__(self, left, right):
        self.left, self.right = left, right

    def __call__(self, text, places=None):
        """See the top of this file."""
        start = SPACES.match(text).end() if self.left else 0
        end = len(text)
        while self.right and end > start and SPACES.match(text, end - 1, end).end() == end:
            end -= 1
        return text[start:end], places if places is None else places[start:end]


class Replace:
    """What a pattern finds, for a text; this stands at the last character that it replaces."""

    def __init__(self, found, content):
        self.found, self.content = found, content

    def __call__(self, text, places=None):
        """See the top of this file."""
        if places is None:
            return self.found.sub(lambda match: self.content, text), None
        parts, kept, done = [], [], 0
        for match in self.found.finditer(text):
            start, end = match.span()
            parts += [text[done:start], self.content]
            kept += [*range(done, start), *[end - 1] * len(self.content)]
            done = end
        parts.append(text[done:])
        kept += range(done, len(text))
        return "".join(parts), places[kept]


# tokenizer.json

KEYS = {
    "Precompiled": ("precompiled_charsmap",),
    "Strip": ("strip_left", "strip_right"),
    "Replace": ("pattern", "content"),
    "Lowercase": (),
    **dict.fromkeys(FORMS, ()),
    "Sequence": ("normalizers",),
}
# Regular expressions that mean the same everywhere: a character, or a class of them, and how often
ESCAPE = r"\\u[0-9A-Fa-f]{4}|\\x\{[0-9A-Fa-f]{1,6}\}|\\p\{Z[slp]\}|\\[-\\.+*?()\[\]{}^$|/]"
ONE = rf"(?:{ESCAPE}|[^\\\[\](){{}}.+*?^$|\n\r&~])"
SIMPLE = re.compile(rf"(?:{ONE}|\[(?:{ONE}(?:-{ONE})?)+\])(?:\+|\{{[1-9][0-9]{{0,2}}(?:,[0-9]{{0,3}})?\}})?")


def normalizer_from(source):
    """The steps of a normalizer of tokenizer.json, a dict or None. MinigptError names what isn't
    computed.
    """
    return [] if source is None else steps_of(Values(source, "normalizer"))


def steps_of(section):
    """The steps of one normalizer in files.Values."""
    name = section.one_of("type", tuple(KEYS))
    section.refuse_unknown({"type", *KEYS[name]})
    if name == "Sequence":
        parts = section.sections("normalizers")
        for part in parts:
            part.one_of("type", tuple(KEYS)[:-1])
        return [step for part in parts for step in steps_of(part)]
    if name == "Precompiled":
        charsmap = from_base64(section.text("precompiled_charsmap"), section.where)
        return [] if charsmap is None else [Precompiled(charsmap)]
    if name == "Strip":
        return [Strip(section.flag("strip_left"), section.flag("strip_right"))]
    if name == "Replace":
        return [Replace(read_pattern(section), section.text("content"))]
    return [Lowercase() if name == "Lowercase" else Form(name)]


def read_pattern(section):
    """The pattern of a Replace, a text or a simple regular expression, compiled."""
    given = section.section("pattern")
    given.refuse_unknown({"String", "Regex"})
    if "String" in given:
        if not (text := given.text("String")):
            raise MinigptError(f"{given.where} is '', it must have at least 1 character")
        return re.compile(re.escape(text))
    text = given.text("Regex")
    if not SIMPLE.fullmatch(text):
        simple = "computed is one character or class of them, and how often"
        raise MinigptError(f"{given.where}: the regular expression {shortened(text)} is not computed, {simple}")
    import regex

    text = re.sub(r"\\x\{([0-9A-Fa-f]+)\}", lambda match: rf"\U{int(match[1], 16):08X}", text)
    try:
        return regex.compile(text)
    except (regex.error, OverflowError, ValueError) as error:
        raise MinigptError(f"{given.where}: the regular expression {shortened(text)}: {error}") from None
