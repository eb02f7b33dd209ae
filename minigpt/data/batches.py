"""Token arrays on disk, their split, and batches drawn from them.

Shapes: N tokens, B batch, T time.
"""

import os
import warnings

import numpy as np

from minigpt.errors import MinigptError
from minigpt.files import reason, write_atomically


def split(tokens, validation=0.1):
    """The first 90% for training and the last 10% for validation, as views. tokens (N,)."""
    cut = int(len(tokens) * (1 - validation))
    return tokens[:cut], tokens[cut:]


def check_length(tokens, block_size, name="text"):
    """MinigptError where there are too few tokens for a single window: block_size inputs and,
    shifted by one, as many targets.
    """
    if len(tokens) < block_size + 1:
        raise MinigptError(f"{name}: {len(tokens)} tokens, at least block_size + 1 = {block_size + 1} are needed")


def draw_batch(tokens, batch_size, block_size, rng):
    """Windows at random places: tokens (N,), numpy Generator -> ids (B, T), targets (B, T), the ids
    that follow each.
    """
    starts = rng.integers(0, len(tokens) - block_size, batch_size)
    windows = tokens[starts[:, None] + np.arange(block_size + 1)].astype(np.int64)  # (B, T + 1)
    return windows[:, :-1], windows[:, 1:]


def consecutive_batches(tokens, batch_size, block_size):
    """All windows of a text side by side, each once, without overlap; a last incomplete window is
    left out. Yields ids, targets (B, T).
    """
    windows = (len(tokens) - 1) // block_size
    for first in range(0, windows, batch_size):
        starts = np.arange(first, min(first + batch_size, windows)) * block_size
        batch = tokens[starts[:, None] + np.arange(block_size + 1)].astype(np.int64)
        yield batch[:, :-1], batch[:, 1:]


def save_tokens(path, tokens, vocab_size):
    """Write token ids as a .npy file of the smallest unsigned dtype that holds them; the file
    appears whole or not at all.

    MinigptError for an id that is not below vocab_size, and where the file can't be written.
    """
    tokens = np.asarray(tokens)
    if tokens.size and not (tokens.dtype.kind in "iu" and tokens.min() >= 0 and tokens.max() < vocab_size):
        raise MinigptError(
            f"{path}: token ids are {tokens.dtype}, some not in 0 .. {vocab_size - 1}, or no whole numbers"
        )

    def write(temporary):
        with open(temporary, "wb") as file:
            np.save(file, tokens.astype(np.min_scalar_type(vocab_size - 1)), allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())

    try:
        write_atomically(path, write)
    except OSError as error:
        raise MinigptError(f"{path} can't be written: {reason(error)}") from None


def open_tokens(path):
    """Map a .npy file of token ids into memory: its pages are read when a batch needs them. -> (N,)
    read-only array.

    MinigptError where it is missing, is no such file, or holds anything but whole numbers in one
    row.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of damaged headers
            tokens = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise MinigptError(f"{path}: there is no such token file") from None
    except Exception as error:  # NumPy parses headers as Python's own literals, and damage raises whatever that does
        raise MinigptError(f"{path}: not a .npy file of token ids ({str(error).partition(chr(10))[0]})") from None
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise MinigptError(
            f"{path}: shape {tokens.shape} of {tokens.dtype}, token ids must be one row of whole numbers"
        )
    return tokens
