"""One training run at a time in a folder: a lock of the operating system, which ends with the
process that holds it.
"""

import contextlib
import errno
import json
import os
import platform
import shlex
import sys
from pathlib import Path

from minigpt.errors import MinigptError
from minigpt.files import read_json

LOCK_FILE = "minigpt-run.lock"
BEGINNING = b'{"process": '  # of its text
LOCKED_BYTE = 1 << 30  # Windows locks bytes, and what is locked can't be read: one that lies beyond the text
HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK, 36)  # another holds the lock; 36 is Windows's EDEADLOCK
COMMAND_LENGTH = 200  # characters of a command that a message quotes


class RunLock:
    """Keeps other runs out of a folder as long as its context lasts; contexts of one RunLock may be
    nested.

    The file minigpt-run.lock says who is at work. It is the lock on it that counts, not that it is
    there: of a process that was killed, the file stays and the lock goes. Where a file system has
    no locks, as some network ones, that is said, and nothing keeps a second run out.
    """

    def __init__(self, folder, say=print):
        self.folder, self.say = Path(folder), say
        self.handle, self.depth = None, 0

    def __enter__(self):
        """Make the folder and lock it. MinigptError where it is in use, naming the process, or
        can't be written.
        """
        if self.depth == 0:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                self.acquire()
            except OSError as error:
                raise MinigptError(f"folder {self.folder} can't be written: {error.strerror or error}") from None
        self.depth += 1
        return self

    def acquire(self):
        """Open and lock the file, and write into it who we are."""
        path = self.folder / LOCK_FILE
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
            try:
                locked = lock(handle)
                if locked is False:
                    holder = describe_holder(path)
                    raise MinigptError(
                        f"folder {self.folder} is in use: {holder}; wait for it, or choose another folder"
                    )
                if is_file_at(handle, path):  # a run that ended meanwhile may have removed the file that we opened
                    check_ours(handle, path)
                    os.ftruncate(handle, 0)
                    os.write(handle, json.dumps(who_we_are()).encode())
                    self.handle = handle
                    break
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)
        if locked is None:
            self.say(f"folder {self.folder}: its file system has no locks, see to it that no other run writes there")

    def __exit__(self, *_):
        self.depth -= 1
        if self.depth:
            return
        if os.name == "nt":  # which removes no open file; if another run has opened it by now, it stays
            os.close(self.handle)
        with contextlib.suppress(OSError):
            os.unlink(self.folder / LOCK_FILE)
        if os.name != "nt":  # removed under the lock: whoever has opened it meanwhile sees that it is gone
            os.close(self.handle)
        self.handle = None


def lock(handle):
    """Lock an open file without waiting -> True, False where another holds it, None where its file
    system has no locks.
    """
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(handle, LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in HELD else None
    return True


def check_ours(handle, path):
    """MinigptError where an open file holds something else than a lock file does."""
    if not BEGINNING.startswith(os.read(handle, len(BEGINNING))):
        raise MinigptError(f"{path} was not written by a run, and a run would replace it; choose another folder")
    os.lseek(handle, 0, os.SEEK_SET)


def is_file_at(handle, path):
    """Whether an open file is the one that a path names by now."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def who_we_are():
    """Process id, computer and command line of this process."""
    program = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    return {
        "process": os.getpid(),
        "computer": platform.node(),
        "command": shlex.join(["minigpt" if program == "__main__.py" else program, *sys.argv[1:]]),
    }


def describe_holder(path):
    """Who holds a lock, in words, from the file that the holder wrote."""
    try:
        holder = read_json(path)
        process, computer = holder.whole("process"), holder.text("computer")
        command = " ".join(holder.text("command").split())
    except MinigptError:
        return "another process is training there"  # it has just begun, and not yet written who it is
    if process == os.getpid() and computer == platform.node():
        return "a run of this very process is training there"
    where = "" if computer == platform.node() else f" on {computer}"
    command = command if len(command) <= COMMAND_LENGTH else command[:COMMAND_LENGTH] + "..."
    return f"process {process}{where} is training there ({command})"
