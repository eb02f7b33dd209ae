"""What a command prints, and how it ends: one line on stderr and an exit code for every mistake
that a user can make.
"""

import contextlib
import os
import shlex
import subprocess
import sys
import unicodedata

from minigpt.errors import MinigptError
from minigpt.training import Diverged, Interrupted

PROGRAM = "minigpt"
# Characters that reorder those around them
TEXT_DIRECTION = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def guard(run, args):
    """Call a command; a user's mistake becomes one line on stderr and an exit code, without a
    traceback.

    Where nobody reads the output any more (`| head`), a command ends, but for `train`, see `say`.
    """
    code = 0
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that lacks a character shows a question mark
            stream.reconfigure(errors="replace")
    try:
        code = run(args) or 0
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except Diverged as error:
        return complain(error, 1)
    except MinigptError as error:
        return complain(error, 2)
    except BrokenPipeError:
        silence_stdout()
        return code
    except OSError as error:
        return complain(error, 2)
    except MemoryError as error:
        return complain(f"out of memory: {error}", 2)
    except Interrupted as stop:
        return complain(stop, 128 + stop.signal)  # as shells have it: 130 after Ctrl-C, 143 after SIGTERM
    except KeyboardInterrupt:
        return complain("interrupted", 130)


def complain(message, code):
    """One line on stderr -> the exit code."""
    with contextlib.suppress(OSError):  # nobody reads that either
        if sys.stderr is not None:  # as of a program whose stderr was closed when it began
            print(f"{PROGRAM}: {visible(' '.join(str(message).split()))}", file=sys.stderr, flush=True)
    return code


def show(text):
    """Print what a command has found. Where nobody reads it any more, its exit code still tells."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        silence_stdout()


def say(text=""):
    """Print a line at once, for a command whose work is not what it prints.

    Where it can't be written, because its reader has gone or a disk is full, that is told on
    stderr, and the work goes on in silence.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        silence_stdout()
        complain(
            f"the output can't be written any more ({error.strerror or error}); the run goes on, and writes its files",
            0,
        )


def silence_stdout():
    """Send what is printed from now on nowhere, what waits to be printed included."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def visible(text):
    r"""Text that a model or a file wrote, safe to show: control characters but newline and tab as
    escapes.

    They could move the cursor, recolour the terminal, or reorder what stands beside them.

    >>> visible("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return "".join(
        character.encode("unicode_escape").decode()
        if character in TEXT_DIRECTION or (unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t")
        else character
        for character in text
    )


def command_line(*words):
    """A command as one would type it, quoted where a word needs it."""
    words = [str(word) for word in words]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def progress(names):
    """A progress bar over names, on a terminal."""
    from tqdm import tqdm

    return tqdm(names, desc="checking", disable=None if sys.stderr else True, leave=False)
