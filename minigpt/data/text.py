"""Any UTF-8 text file."""

import codecs
import hashlib
import os
import sys
from pathlib import Path
from typing import NamedTuple

from minigpt.errors import MinigptError
from minigpt.files import Missing, read_bytes
from minigpt.machine import physical_memory


class Corpus(NamedTuple):
    """A text and where it came from."""

    text: str
    source: str  # where it came from, for a person to read
    sha256: str  # of the text's UTF-8 bytes


MARKS = {"UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), "UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)}
SHARE_OF_MEMORY = 4  # a text may take 1/4: its characters and their ids come beside it


def read_text(path):
    r"""Read a UTF-8 text file as it stands, but for its line ends and a byte order mark.

    \r\n becomes \n, so that a Windows checkout gives the same text and hash; the mark that some
    editors put first is no part of the text. path -> Corpus. MinigptError: missing, a directory,
    unreadable, empty, too large for this machine, has a NUL byte, or isn't UTF-8 (with the offset).
    """
    path = Path(path)
    if os.path.isdir(path):
        raise MinigptError(f"text file {path} is a directory: name a file")
    memory = physical_memory()
    try:
        data = read_bytes(path, memory // SHARE_OF_MEMORY if memory else sys.maxsize - 1)
    except Missing:
        raise MinigptError(f"text file {path} doesn't exist") from None
    except MinigptError as error:
        raise MinigptError(f"text file {error}") from None
    if data in (b"", codecs.BOM_UTF8):
        raise MinigptError(f"text file {path} is empty")
    for name, marks in MARKS.items():
        if data.startswith(marks):
            raise MinigptError(f"text file {path} is {name}, as its first bytes say: save it as UTF-8")
    if b"\0" in data:
        raise MinigptError(
            f"text file {path} has a NUL byte at offset {data.index(0)}: it is binary or UTF-16, not UTF-8 text"
        )
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise MinigptError(
            f"text file {path} isn't UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}"
        ) from None
    return corpus(text.replace("\r\n", "\n"), str(path))


def corpus(text, source):
    """A Corpus with its hash."""
    return Corpus(text, source, hashlib.sha256(text.encode("utf-8")).hexdigest())
