"""Files: text, JSON whose values are checked as they are taken, and writing that is whole or not at
all.
"""

import contextlib
import errno
import json
import math
import os
import time
from pathlib import Path

from minigpt import checks
from minigpt.checks import config_from_dict, shortened
from minigpt.errors import MinigptError

LARGEST_TEXT = 1 << 28  # bytes of a file that is read whole, such as JSON: a tokenizer has some 10 MB
REQUIRED = object()  # the default of a key that has none


class Missing(MinigptError):
    """A file that is not there."""


class Unreadable(MinigptError):
    """A file that is there and can't be read."""


# Reading


def read_bytes(path, largest=None):
    """The bytes of a file. Missing where there is none, Unreadable where the system says no,
    MinigptError for more than `largest`.
    """
    largest = LARGEST_TEXT if largest is None else largest
    try:
        with open(path, "rb") as file:
            size, parts = os.fstat(file.fileno()).st_size, []
            # a pipe or device says 0
            while size <= largest and (part := file.read(size + 1 if not parts else 1 << 20)):
                parts.append(part)
                size = max(size, sum(map(len, parts)))
    except FileNotFoundError:
        raise Missing(f"{path} is missing") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name itself
        raise Unreadable(f"{path} can't be read: {reason(error)}") from None
    if size > largest:
        raise MinigptError(f"{path} can't be read: it has more than {largest:,} bytes")
    return b"".join(parts)


def read_text(path):
    """The text of a UTF-8 file, with or without the mark that some editors put first; errors as for
    read_bytes.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MinigptError(
            f"{path} can't be read: byte 0x{error.object[error.start]:02x} at offset {error.start} is not UTF-8"
        ) from None


def read_json(path):
    """The Values of a JSON object in a file. MinigptError where it is something else; Missing where
    there is no file.
    """
    return parse_json(read_text(path), path)


def parse_json(text, where):
    """The Values of a JSON object as text; `where` it comes from begins each complaint.
    MinigptError where it is no JSON object.

    Neither are NaN and infinities, which Python would read, a number too large for a float, or a
    key that stands twice.
    """
    try:
        values = json.loads(text, parse_constant=no_constant, parse_float=finite_float, object_pairs_hook=distinct_keys)
    except (ValueError, RecursionError) as error:
        raise MinigptError(f"{where} is not valid JSON: {error}") from None
    return Values(values, where)


def no_constant(name):
    """For json: NaN, Infinity and -Infinity are no JSON."""
    raise ValueError(f"{name} is no number")


def finite_float(text):
    """For json: 1e999 is no float."""
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{shortened(text)} is too large")
    return value


def distinct_keys(pairs):
    """For json: a dict of pairs in which no key stands twice."""
    values = dict(pairs)
    if len(values) < len(pairs):
        seen = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {shortened(twice)} stands twice")
    return values


class Values:
    """A JSON object that somebody else wrote: each value is checked when it is taken, and the dict
    itself is handed to nobody.

    >>> values = Values({"n_layer": 2, "dropout": 0.1}, "config.json")
    >>> values.whole("n_layer", at_least=1), values.number("dropout", at_least=0, below=1)
    (2, 0.1)
    >>> values.flag("bias", default=True)
    True

    A key that is missing gives its default, and so does null where the default is None.
    MinigptError names the file, the key, the value and what it must be; also for a key that is
    missing and has no default.
    """

    def __init__(self, values, where):
        """values: a dict from JSON; where: what a complaint begins with, a path or "path: key".
        MinigptError where it is no dict.
        """
        if not isinstance(values, dict):
            raise MinigptError(f"{where} is {shortened(values)}, it must be a JSON object")
        self.where, self._values = where, values

    def __contains__(self, key):
        return key in self._values

    def __iter__(self):
        """The keys, in the order of the file."""
        return iter(self._values)

    def __len__(self):
        return len(self._values)

    def items(self):
        """Keys and unchecked values, for those who hand them on to another reader."""
        return self._values.items()

    def whole(self, key, *, at_least=None, at_most=None, default=REQUIRED):
        """A whole number within limits."""
        return self._take(key, default, checks.whole, at_least=at_least, at_most=at_most)

    def number(self, key, *, at_least=None, at_most=None, below=None, default=REQUIRED):
        """A finite number within limits, the last one excluded."""
        return self._take(key, default, checks.number, at_least=at_least, at_most=at_most, below=below)

    def flag(self, key, *, default=REQUIRED):
        """True or False."""
        return self._take(key, default, checks.flag)

    def one_of(self, key, allowed, *, default=REQUIRED):
        """One of a few values."""
        return self._take(key, default, lambda name, value: checks.one_of(name, value, allowed))

    def text(self, key, *, default=REQUIRED):
        """A string."""
        return self._take(key, default, kind, wanted=str, words="a string")

    def list(self, key, *, length=None, default=REQUIRED):
        """A list, of a length where one is given; what is in it has still to be checked: see
        numbers and sections.
        """
        values = self._take(key, default, kind, wanted=list, words="a list")
        if length is not None and values is not default and len(values) != length:
            raise MinigptError(f"{self._name(key)} has {len(values)} entries, it must have {length}")
        return values

    def numbers(self, key, *, at_least=None, at_most=None, length=None, default=REQUIRED):
        """A list of finite numbers within limits."""
        values = self.list(key, length=length, default=default)
        if values is default:
            return values
        limits = {"at_least": at_least, "at_most": at_most}
        return [checks.number(f"{self._name(key)}[{i}]", value, **limits) for i, value in enumerate(values)]

    def texts(self, key, *, default=REQUIRED):
        """A list of strings."""
        values = self.list(key, default=default)
        if values is default:
            return values
        return [kind(f"{self._name(key)}[{i}]", value, wanted=str, words="a string") for i, value in enumerate(values)]

    def section(self, key, *, default=REQUIRED):
        """A JSON object within this one, as Values."""
        values = self._take(key, default, kind, wanted=dict, words="a JSON object")
        return values if values is default else Values(values, self._name(key))

    def sections(self, key, *, default=REQUIRED):
        """A list of JSON objects, each as Values."""
        values = self.list(key, default=default)
        return (
            values
            if values is default
            else [Values(value, f"{self._name(key)}[{i}]") for i, value in enumerate(values)]
        )

    def refuse_unknown(self, known):
        """MinigptError for a key that is not one of those known."""
        for key in self._values:
            if key not in known:
                raise MinigptError(f"{self.where}: unknown key {shortened(key)}; known are {', '.join(sorted(known))}")

    def config(self, config_class, beside=()):
        """A config, which checks its fields itself, of all values but those named in `beside`."""
        try:
            return config_from_dict(
                config_class, {key: value for key, value in self._values.items() if key not in beside}
            )
        except MinigptError as error:
            raise MinigptError(f"{self.where}: {error}") from None

    def _name(self, key):
        return f"{self.where}: {key}"

    def _take(self, key, default, check, **rules):
        if key not in self._values or (default is None and self._values[key] is None):
            if default is REQUIRED:
                raise MinigptError(f"{self._name(key)} is missing")
            return default
        return check(self._name(key), self._values[key], **rules)


def kind(name, value, wanted, *, words):
    """A value of a type -> as it is. MinigptError for another."""
    if not isinstance(value, wanted):
        raise MinigptError(f"{name} is {shortened(value)}, it must be {words}")
    return value


def reason(error):
    """What the system says of an error, without its number and the file's name."""
    return getattr(error, "strerror", None) or str(error)


# Writing


def write_text(path, text):
    """Write text, or bytes, and flush it to disk. A lone surrogate, as in a file's name that is not
    UTF-8, is escaped.
    """
    with open(path, "wb") as file:
        file.write(text if isinstance(text, bytes) else text.encode("utf-8", "backslashreplace"))
        file.flush()
        os.fsync(file.fileno())


def write_atomically(path, content):
    """Replace a file: whatever happens, the old one or the new one is there whole. OSError where it
    can't be written.

    content: text, bytes, or a function that writes and flushes the file at the path that it is
    given: a temporary one beside it, under a name of its own, so that two processes don't write
    into one.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name[:40]}.{os.urandom(4).hex()}.tmp")
    try:
        content(temporary) if callable(content) else write_text(temporary, content)
        replace(temporary, path)
    except BaseException:
        remove([temporary])
        raise
    flush_directory(path.parent)


def replace(source, target):
    """os.replace, tried for half a second: on Windows it fails in the moment that a reader or a
    virus scanner has the target open.
    """
    for _ in range(10):
        try:
            return os.replace(source, target)
        except PermissionError:
            time.sleep(0.05)
    return os.replace(source, target)


def remove(paths):
    """Remove files, or leave them where the system says no."""
    for path in paths:
        with contextlib.suppress(OSError):
            os.unlink(path)


def flush_directory(directory):
    """Have the names in a folder on disk before going on; Windows needs no such call."""
    if os.name != "posix":
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that can't, some network ones
            raise
    finally:
        os.close(handle)
