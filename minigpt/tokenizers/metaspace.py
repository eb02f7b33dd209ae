"""Spaces as a character of their own, "▁": how Unigram's tokenizers cut a text into words
(sentencepiece, 1808.06226, section 3.2; in `tokenizers`: Metaspace).

>>> metaspace = Metaspace()
>>> metaspace.words("Hello to  you")
['▁Hello', '▁to', '▁', '▁you']

A piece of a vocabulary that begins with it begins a word. The way back is in decoders.
"""

import functools
import re
from typing import NamedTuple

from minigpt.checks import shortened
from minigpt.errors import MinigptError
from minigpt.files import Values
from minigpt.tokenizers.unicode_tables import WHITE_SPACE, in_class

MARK = "▁"  # U+2581
SCHEMES = ("always", "first", "never")
SPACES = re.compile(f"[{in_class(WHITE_SPACE)}]+")
NO_SPACES = re.compile(f"[^{in_class(WHITE_SPACE)}]+")
NOT_ONLY_OURS = re.compile("[\x1c-\x1f]")  # white space for Python's split, not for Unicode


class Metaspace(NamedTuple):
    """How a normalised text becomes words. All methods are functions of a text."""

    replacement: str = MARK  # stands for a space
    prepend_scheme: str = "always"  # which parts of a text get one before them, where they don't begin with one
    split: bool = True  # whether the text is cut before each
    whitespace_split: bool = False  # whether it is cut at white space before all that
    replaces: bool = True  # whether spaces are replaced

    def words(self, text, first=1):
        """A text -> its words; first: how many of its characters stand at the very beginning.

        >>> Metaspace(prepend_scheme="first").words("a b", first=0)
        ['a', '▁b']
        >>> Metaspace(whitespace_split=True).words(" a  b\\tc")
        ['▁a', '▁b', '▁c']
        """
        if not self.whitespace_split:
            return self.cut(self.marked(text, first))
        if self.prepend_scheme != "always" or not self.split or self.replacement in text:
            return [word for word, _, _ in self.places(text, first)]
        words = filter(None, SPACES.split(text)) if NOT_ONLY_OURS.search(text) else text.split()
        return list(map(self.replacement.__add__, words))  # the usual case, fast

    def marked(self, text, first):
        """A text with the replacement for its spaces, and one before it."""
        text = text.replace(" ", self.replacement) if self.replaces else text
        wanted = self.prepend_scheme == "always" or (self.prepend_scheme == "first" and first)
        return self.replacement + text if wanted and text and not text.startswith(self.replacement) else text

    def cut(self, text):
        """A marked text before each replacement, where it is cut there."""
        if not self.split:
            return [text] if text else []
        return cutter(self.replacement).findall(text)

    def places(self, text, first=1):
        """The same words, each with its [start, end) in the text; a replacement that was put before
        one takes no place.

        >>> Metaspace().places("a b")
        [('▁a', 0, 1), ('▁b', 1, 3)]
        """
        parts = [(0, len(text))]
        if self.whitespace_split:
            parts = [match.span() for match in NO_SPACES.finditer(text)]
        words = []
        for start, end in parts:
            marked = self.marked(text[start:end], start < first)
            before = len(marked) - (end - start)  # 1 where a replacement was put before it
            for word in self.cut(marked):
                end = start + len(word) - before
                words.append((word, start, end))
                start, before = end, 0
        return words


@functools.cache
def cutter(mark):
    """What finds the words of a marked text."""
    return re.compile(f"{re.escape(mark)}[^{re.escape(mark)}]*|[^{re.escape(mark)}]+")


KEYS = ("replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep")
PRE_TOKENIZERS = {"Metaspace": KEYS, "Sequence": ("pretokenizers",)}


NOTHING = Metaspace(MARK, "never", split=False, replaces=False)  # a text as it is


def metaspace_from(source):
    """The Metaspace of a pre_tokenizer of tokenizer.json, a dict or None. MinigptError names what
    isn't computed.
    """
    if source is None:
        return NOTHING
    section = Values(source, "pre_tokenizer")
    name = section.one_of("type", tuple(PRE_TOKENIZERS))
    section.refuse_unknown({"type", *PRE_TOKENIZERS[name]})
    if name == "Metaspace":
        return read_metaspace(section)
    parts = section.sections("pretokenizers")
    names = [part.text("type") for part in parts]
    if names == ["Metaspace"]:
        return read_metaspace(parts[0])
    if names != ["WhitespaceSplit", "Metaspace"]:
        wanted = "computed is Metaspace, or WhitespaceSplit and then Metaspace"
        raise MinigptError(f"{section.where} holds {shortened(names)}, {wanted}")
    parts[0].refuse_unknown({"type"})
    return read_metaspace(parts[1])._replace(whitespace_split=True)


def read_metaspace(section):
    """The Metaspace of one component's files.Values; early files say add_prefix_space."""
    section.refuse_unknown({"type", *KEYS})
    scheme = section.one_of("prepend_scheme", SCHEMES, default="always")
    if section.flag("add_prefix_space", default=None) is False:
        if "prepend_scheme" in section and scheme != "never":
            raise MinigptError(f"{section.where}: add_prefix_space is false, prepend_scheme is {scheme}")
        scheme = "never"
    mark = section.text("replacement", default=MARK)
    if len(mark) != 1 or "\ud800" <= mark <= "\udfff":
        raise MinigptError(f"{section.where}: replacement is {shortened(mark)}, it must be one character")
    section.text("str_rep", default=None)
    return Metaspace(mark, scheme, section.flag("split", default=True) is not False)
