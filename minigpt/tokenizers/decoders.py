"""From pieces back to a text: the decoders of tokenizer.json that Unigram's tokenizers have, each a
step from texts of tokens to others, which takes them as they come.

>>> steps = [Metaspace("▁", True)]
>>> Decoding(steps).all(["▁Hel", "lo", "▁you"])
'Hello you'
>>> steps = [Replace("▁", " "), ByteFallback(), Fuse(), Strip(" ", 1)]
>>> Decoding(steps).all(["▁caf", "<0xC3>", "<0xA9>", "▁", "<0xFF>"])
'café �'
"""

import copy
import re
from itertools import groupby

from minigpt.checks import shortened
from minigpt.errors import MinigptError
from minigpt.files import Values
from minigpt.tokenizers.base import Stream, checked_ids
from minigpt.tokenizers.metaspace import read_metaspace

BYTE = re.compile(r"<0x[0-9A-Fa-f+][0-9A-Fa-f]>")  # as Rust reads numbers: +5 is one


class Decoding:
    """One text that is put together: push gives what is certain by now, end what is left."""

    def __init__(self, steps):
        self.steps = [copy.copy(step) for step in steps]  # they remember what came before

    def push(self, tokens):
        """Texts of tokens -> the text that they add."""
        for step in self.steps:
            tokens = step.push(tokens)
        return "".join(tokens)

    def end(self):
        """The text that was held back."""
        tokens = []
        for step in self.steps:
            tokens = [*step.push(tokens), *step.end()]
        return "".join(tokens)

    def all(self, tokens):
        """Texts of all tokens -> their text."""
        return self.push(tokens) + self.end()


class Step:
    """A step that remembers nothing."""

    def push(self, tokens):
        """Texts of the next tokens -> texts."""
        raise NotImplementedError

    def end(self):
        """Texts that were held back."""
        return []


class Metaspace(Step):
    """The replacement is a space, but nothing in the first token where one was put before it."""

    def __init__(self, replacement, prepended):
        self.replacement, self.drops = replacement, prepended

    def push(self, tokens):
        """See Step."""
        texts = [token.replace(self.replacement, " ") for token in tokens]
        if self.drops and tokens:
            texts[0] = tokens[0].replace(self.replacement, "")
            self.drops = False
        return texts


class Replace(Step):
    """A text for another."""

    def __init__(self, pattern, content):
        self.pattern, self.content = pattern, content

    def push(self, tokens):
        """See Step."""
        return [token.replace(self.pattern, self.content) for token in tokens]


class ByteFallback(Step):
    """Bytes such as <0xE2> become characters, or U+FFFD each where those that stand together are no
    UTF-8.
    """

    def __init__(self):
        self.held = b""

    def push(self, tokens):
        """See Step."""
        texts = []
        for are_bytes, some in groupby(tokens, lambda token: BYTE.fullmatch(token) is not None):
            if are_bytes:
                self.held += bytes(int(token[3:5], 16) for token in some)
            else:
                texts += [*self.end(), *some]
        return texts

    def end(self):
        """See Step."""
        held, self.held = self.held, b""
        try:
            return [held.decode()] if held else []
        except UnicodeDecodeError:
            return ["\ufffd"] * len(held)


class Fuse(Step):
    """All tokens become one."""

    def push(self, tokens):
        """See Step."""
        return ["".join(tokens)] if tokens else []


class Strip(Step):
    """At most so many of a character go from the beginning of the one text that Fuse left."""

    def __init__(self, content, start):
        self.content, self.left = content, start

    def push(self, tokens):
        """See Step."""
        texts = []
        for text in tokens:
            while self.left and text:
                self.left = self.left - 1 if text.startswith(self.content) else 0
                text = text[1:] if text.startswith(self.content) else text
            texts.append(text)
        return texts


class Join(Step):
    """No decoder: a space between tokens."""

    def __init__(self):
        self.begun = False

    def push(self, tokens):
        """See Step."""
        texts = [f" {token}" for token in tokens]
        if texts and not self.begun:
            self.begun, texts[0] = True, tokens[0]
        return texts


class DecodingStream(Stream):
    """Decodes ids as they come: bytes are held back until a token follows that is none."""

    def __init__(self, tokenizer):
        super().__init__(tokenizer)
        self.decoding = Decoding(tokenizer.decoder_steps)

    def push(self, ids):
        """Ids (N,) -> the text that they finish."""
        ids = checked_ids(ids, self.tokenizer.vocab_size).tolist()
        return self.decoding.push(list(map(self.tokenizer.id_to_token, ids)))

    def end(self):
        """What was held back."""
        return self.decoding.end()


# tokenizer.json

KEYS = {
    "Metaspace": ("replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"),
    "Replace": ("pattern", "content"),
    "ByteFallback": (),
    "Fuse": (),
    "Strip": ("content", "start", "stop"),
    "Sequence": ("decoders",),
}


def decoder_from(source):
    """The steps of a decoder of tokenizer.json, a dict or None. MinigptError names what isn't
    computed.
    """
    if source is None:
        return [Join()]
    section = Values(source, "decoder")
    parts = [section]
    if section.one_of("type", tuple(KEYS)) == "Sequence":
        section.refuse_unknown({"type", *KEYS["Sequence"]})
        parts = section.sections("decoders")
    steps = []
    for part in parts:
        name = part.one_of("type", tuple(KEYS)[:-1])
        part.refuse_unknown({"type", *KEYS[name]})
        steps.append(READERS[name](part, any(isinstance(step, Fuse) for step in steps)))
    return steps


def read_decoder_metaspace(part, fused):
    """A Metaspace of files.Values."""
    metaspace = read_metaspace(part)
    return Metaspace(metaspace.replacement, metaspace.prepend_scheme != "never")


def read_replace(part, fused):
    """A Replace of one text."""
    pattern = part.section("pattern")
    pattern.refuse_unknown({"String"})
    text = pattern.text("String")
    if not text or (fused and len(text) > 1):
        raise MinigptError(f"{part.where}: pattern is {shortened(text)}, computed is one character")
    return Replace(text, part.text("content"))


def read_strip(part, fused):
    """A Strip at the beginning of what Fuse left."""
    content = part.text("content")
    if len(content) != 1 or not fused:
        raise MinigptError(f"{part.where}: content is {shortened(content)}, computed is one character, after Fuse")
    part.one_of("stop", (0,))
    return Strip(content, part.whole("start", at_least=0))


READERS = {
    "Metaspace": read_decoder_metaspace,
    "Replace": read_replace,
    "ByteFallback": lambda *_: ByteFallback(),
    "Fuse": lambda *_: Fuse(),
    "Strip": read_strip,
}
