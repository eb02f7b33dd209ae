r"""sentencepiece's table of what characters become: the precompiled charsmap, as a rule NFKC.

It is made of a trie of byte strings, and of a text with all that they become, each ended by a zero
byte. The trie is a double array (Aoe 1989; Yata's darts-clone): from a node whose children begin at
`base`, byte c leads to unit base ^ c, if the label of that unit is c. A unit of 32 bits holds its
label, whether a string ends there, and how far off the base of its children is; where a string
ends, the unit at that base holds the place of what it becomes. Nodes are shared: the 60,000 units
of NFKC spell 225,000 strings, which are therefore never listed.

There are two ways to apply it. `tokenizers` goes from grapheme to grapheme: one of less than six
bytes is looked up whole, where the shortest string that it begins with says what all of it becomes,
else each of its characters. sentencepiece takes the longest string at each place. With a table of
"e\u0301" to "é" alone, "e\u0301\u0302" is "é" by the first, which drops the second accent, and
"é\u0302" by the second.
"""

import base64
import binascii
import re
from itertools import accumulate, pairwise

import numpy as np

from minigpt.errors import MinigptError
from minigpt.tokenizers.added import pattern
from minigpt.tokenizers.unicode_tables import JOINING_LATE, NEVER_JOINING, code_points, in_class

LABEL, ENDS, FAR, VALUE = 0x800000FF, 0x100, 0x200, 0x7FFFFFFF  # bits of a unit
REMEMBERED = 1 << 16  # characters and graphemes of which what they become is kept
LARGEST, DEEPEST = 1 << 23, 256  # bytes of a charsmap, and of a string in it: NFKC has 240,000, and 12
SHORT = 6  # bytes: graphemes of so many are not looked up whole
# What graphemes of several characters have, of those that may be short
JOINING = rf"[\p{{GCB=Extend}}\p{{GCB=Prepend}}\p{{GCB=SpacingMark}}\u200d{in_class(JOINING_LATE)}]|\r\n"

PAIRS = re.compile(r"(?s)(?=(.[^\0-\x7f]))")
ALL_PAIRS = re.compile(r"(?s)(?=(..))")
OTHER_UNICODE = re.compile(f"[{in_class(NEVER_JOINING + JOINING_LATE)}]")
# For these, characters of as many bytes of which every version says the same: letters, and marks
STAND_INS = {code: "\u05d0\u3042\U00010000"[len(chr(code).encode()) - 2] for code in code_points(NEVER_JOINING)}
STAND_INS |= {code: "\u1ab0" if code < 0x10000 else "\U00010a01" for code in code_points(JOINING_LATE)}


class Charsmap:
    """A charsmap, in which texts are looked up."""

    def __init__(self, data, where):
        """data: bytes of the file's form; where: what a complaint begins with. MinigptError where
        they are damaged.
        """
        units, self.texts = read_arrays(data, where)
        inner = check_trie(units, self.texts, where)
        self.units = units.tolist()
        self.known = Known(self.short)
        self.single = Known(self.single_character)  # for str.translate
        self.pairs = Known(self.has_pair)
        self.pairs_of_ascii = bool((units[inner] & LABEL < 0x80).any())  # whether a string goes on with such a one

    def ends(self, text, start=0):
        """[(end, place of what it becomes)] of all strings that a text has at a place, the shortest
        first.
        """
        units, found = self.units, []
        node = below(units[0])
        for at in range(start, min(len(text), start + DEEPEST)):
            for byte in text[at].encode():
                node ^= byte
                if not byte or node >= len(units) or units[node] & LABEL != byte:
                    return found
                unit = units[node]
                node ^= below(unit)
            if unit & ENDS:
                found.append((at + 1, units[node] & VALUE))
        return found

    def becomes(self, place):
        """The text at a place."""
        return self.texts[place : self.texts.index(0, place)].decode()

    def short(self, text):
        """What a text becomes by the shortest string that it begins with, itself for no string."""
        found = self.ends(text)
        return self.becomes(found[0][1]) if found else text

    def single_character(self, code):
        """What the character of a code point becomes."""
        return self.known[chr(code)]

    def longest(self, text, start):
        """Where the longest string ends that a text has at a place, and what it becomes; for no
        string that is the next character.
        """
        found = self.ends(text, start)
        return (found[-1][0], self.becomes(found[-1][1])) if found else (start + 1, text[start])

    def has_pair(self, pair):
        """Whether a string of several characters may begin with these two."""
        units, node = self.units, below(self.units[0])
        for byte in pair.encode():
            node ^= byte
            if not byte or node >= len(units) or units[node] & LABEL != byte:
                return False
            node ^= below(units[node])
        return True

    def by_longest(self, text):
        """What a text becomes in sentencepiece."""
        if text.isascii() and not self.pairs_of_ascii:
            return text.translate(self.single)
        parts, done = [], 0
        for match in (ALL_PAIRS if self.pairs_of_ascii else PAIRS).finditer(text):
            start = match.start()
            if start >= done and self.pairs[match[1]]:
                end, new = self.longest(text, start)
                parts += [text[done:start].translate(self.single), new]
                done = end
        return "".join(parts) + text[done:].translate(self.single)

    def by_grapheme(self, text):
        """What a text becomes in `tokenizers`."""
        if not pattern(JOINING).search(text):
            return text.translate(self.single)
        return "".join([new for _, new in self.grapheme_parts(text)])

    def grapheme_parts(self, text):
        """The same as [(length of a part of the text, what it becomes)]."""
        parts, known, single = [], self.known, self.single
        for grapheme in graphemes(text):
            if len(grapheme) == 1:
                parts.append((1, known[grapheme]))
            elif len(grapheme) < SHORT and len(grapheme.encode()) < SHORT and self.ends(grapheme):
                parts.append((len(grapheme), known[grapheme]))
            else:
                parts += [(1, c.translate(single)) for c in grapheme]
        return parts


def graphemes(text):
    r"""The graphemes of a text, a list, by the Unicode of `tokenizers`.

    >>> [len(grapheme) for grapheme in graphemes("e\u0301a\u200d\u0302\r\n\u05c8")]
    [2, 3, 2, 1]
    """
    if not OTHER_UNICODE.search(text):
        return pattern(r"\X").findall(text)
    cuts = [0, *accumulate(map(len, pattern(r"\X").findall(text.translate(STAND_INS))))]
    return [text[start:end] for start, end in pairwise(cuts)]


class Known(dict):
    """What was found out, by what it was asked for; emptied when it is full. Threads may share
    it.
    """

    def __init__(self, find):
        super().__init__()
        self.find = find

    def __missing__(self, key):
        found = self.find(key)
        if len(self) >= REMEMBERED:
            self.clear()
        self[key] = found
        return found


def below(unit):
    """How far off the base of a node's children is."""
    return unit >> 10 << ((unit & FAR) >> 6)


# Reading


def from_base64(text, where):
    """The Charsmap in tokenizer.json; None for an empty one. MinigptError where it is damaged."""
    try:
        data = base64.b64decode(text.encode(), validate=True)
    except (binascii.Error, ValueError):
        raise MinigptError(f"{where}: precompiled_charsmap is not base64") from None
    return Charsmap(data, where) if data else None


def read_arrays(data, where):
    """The units (N,) and the texts, bytes, of a charsmap's bytes."""
    size = int.from_bytes(data[:4], "little")
    if len(data) > LARGEST:
        raise MinigptError(f"{where}: the charsmap has {len(data):,} bytes, it may have at most {LARGEST:,}")
    if len(data) <= 4 or size % 4 or not 4 <= size < len(data) - 4:
        raise MinigptError(f"{where}: the charsmap has {len(data):,} bytes, its trie would have {size:,}")
    if data[-1]:
        raise MinigptError(f"{where}: the charsmap is cut off, it must end with a zero byte")
    return np.frombuffer(data[4 : 4 + size], "<u4").astype(np.int64), data[4 + size :]


def check_trie(units, texts, where):
    """The nodes of a trie of units (N,), but for those that strings begin with. MinigptError where
    they point to where nothing is, or its texts, bytes, are not UTF-8.
    """
    try:
        texts.decode()
    except UnicodeDecodeError as error:
        raise MinigptError(f"{where}: the charsmap's texts are not UTF-8, at byte {error.start:,}") from None
    labels, places = units & LABEL, np.arange(len(units))
    children = np.flatnonzero((labels > 0) & (labels < 256))
    bases = places[children] ^ labels[children]  # of their parents
    order = np.argsort(bases, kind="stable")
    bases, children = bases[order], children[order]
    own = places ^ (units >> 10 << ((units & FAR) >> 6))
    reached, nodes = np.zeros(len(units), bool), np.zeros(1, np.int64)
    for _ in range(DEEPEST + 2):  # nodes as far from the root as each other
        if not len(nodes):
            break
        reached[nodes] = True
        first, last = np.searchsorted(bases, own[nodes], "left"), np.searchsorted(bases, own[nodes], "right")
        counts = last - first
        nodes = np.unique(children[np.repeat(last - np.cumsum(counts), counts) + np.arange(counts.sum())])
        nodes = nodes[~reached[nodes]]
    else:
        raise MinigptError(f"{where}: the charsmap has strings of more than {DEEPEST} bytes")
    ends = own[reached & (units & ENDS > 0)]
    if ends.size and ends.max() >= len(units):
        raise MinigptError(f"{where}: the charsmap's trie points at unit {ends.max():,}, it has {len(units):,}")
    values = units[ends] & VALUE
    if values.size and values.max() >= len(texts):
        raise MinigptError(f"{where}: the charsmap's trie points at byte {values.max():,}, it has {len(texts):,}")
    if (np.frombuffer(texts, np.uint8)[values] & 0xC0 == 0x80).any():
        raise MinigptError(f"{where}: the charsmap's trie points into the middle of a character")
    reached[0] = False
    reached &= places ^ labels != own[0]
    return np.flatnonzero(reached)
