r"""Byte-level text: every text is a row of bytes, so that 256 tokens are enough to write any.

GPT-2 writes the bytes of a vocabulary as printable characters, so that its files are text: a byte
that is a printable character of Latin-1 is that character, and the 68 others, the space among
them, are the characters from U+0100 on, in order.

>>> CHARACTERS[ord("a")], CHARACTERS[ord(" ")], CHARACTERS[ord("\n")]
('a', 'Ġ', 'Ċ')

Source: GPT-2's encoder.py, bytes_to_unicode and its pattern of words (Radford et al. 2019).
"""

import functools
import re

PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]


def byte_characters():
    """byte -> character, a list of 256."""
    others = [byte for byte in range(256) if byte not in PRINTABLE]
    named = {byte: chr(byte) for byte in PRINTABLE} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    return [named[byte] for byte in range(256)]


CHARACTERS = byte_characters()
BYTES = {character: byte for byte, character in enumerate(CHARACTERS)}
ALPHABET = sorted(CHARACTERS)  # the order in which a trainer numbers them

# English endings; letters, digits, or others, with a space before them; white space, whose last
# space is left to the word after it
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# The same for ASCII, by `re`: twice as fast
ASCII_WORDS = r"'(?:[stmd]|re|ve|ll)| ?[A-Za-z]+| ?[0-9]+| ?[^\s0-9A-Za-z]+|\s+(?!\S)|\s+"
ascii_words = re.compile(ASCII_WORDS, re.ASCII).findall
BLOCK = 1 << 18  # characters: a list of the words of a gigabyte would take 40 times its size


@functools.cache
def any_words():
    """The function that cuts any text into words; categories are those of the package `regex`."""
    import regex

    return regex.compile(WORDS).findall


@functools.cache
def word_end():
    """Where a text may be cut: white space ends any word before it, and looks only forward."""
    import regex

    return regex.compile(r"\S(?=\s)").search


def words(text):
    """A text -> its words by GPT-2's pattern, which together are the text.

    >>> words("It's 3  o'clock")
    ['It', "'s", ' 3', ' ', ' o', "'", 'clock']
    """
    return ascii_words(text) if text.isascii() else any_words()(text)


def blocks(text):
    """A text -> parts of about BLOCK characters, cut where words end."""
    start = 0
    while len(text) - start > BLOCK and (found := word_end()(text, start + BLOCK)):
        yield text[start : found.end()]
        start = found.end()
    yield text[start:] if start else text


def to_characters(data):
    """Bytes as the characters of a vocabulary."""
    return "".join([CHARACTERS[byte] for byte in data])


def to_bytes(token):
    """A vocabulary's token -> its bytes; one with another character than those is its own UTF-8."""
    try:
        return bytes([BYTES[character] for character in token])
    except KeyError:
        return token.encode()
