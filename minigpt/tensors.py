"""Safetensors files: opened, checked against names and shapes before memory is taken, mapped, and
written.
"""

import json
import os
from typing import NamedTuple

import numpy as np

from minigpt.checks import NAMED, listed, shortened
from minigpt.errors import LONGEST, MinigptError
from minigpt.files import Missing, reason
from minigpt.machine import check_memory

DTYPES = {"F32": np.float32, "F64": np.float64, "I64": np.int64}  # safetensors' names of what we write


def write_tensors(path, tensors, *, made_for="np"):
    """Write arrays as safetensors and flush them to disk; made_for: the library in its metadata,
    which some readers ask for.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with open(path, "wb") as file:
        mode = os.stat(file.fileno()).st_mode & 0o777  # the user's default; the library's files are private
    try:
        arrays = {name: np.asarray(value, order="C") for name, value in tensors.items()}
        save_file(arrays, path, metadata={"format": made_for})
    except SafetensorError as error:
        raise OSError(str(error)) from None
    os.chmod(path, mode)
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def open_tensors(path):
    """Open a safetensors file; the library checks its header against its length. MinigptError where
    it can't be read; Missing where there is none.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with open(path, "rb") as file:  # the library calls a file missing that may not be read
            check_memory(os.fstat(file.fileno()).st_size, str(path))
        return safe_open(path, framework="np")
    except FileNotFoundError:
        raise Missing(f"{path} is missing") from None
    except OSError as error:
        raise MinigptError(f"{path} can't be read: {reason(error)}") from None
    except SafetensorError as error:
        raise MinigptError(f"{path}: truncated or not a safetensors file ({' '.join(str(error).split())})") from None


class Wrong(NamedTuple):
    """What is wrong with a tensor, for `complaint`."""

    kind: str  # what tensors of which that is true are: "missing"
    name: str
    where: object  # the file, or the folder that should have it
    what: str  # the rest of a sentence: "is missing"


def complaint(wrong, where):
    """One message for all that is wrong with tensors, as text. Of many, ten are named, or as many
    as a message has room for.
    """
    if len(wrong) == 1:
        return f"{wrong[0].where}: tensor {short(wrong[0].name)} {wrong[0].what}"
    groups = {}
    for one in wrong:
        shape = one.what.removeprefix("has shape ").replace(", the config asks for", ", not")
        more = f" {shape}" if one.what.startswith("has shape ") else ""
        groups.setdefault(one.kind, []).append(short(one.name) + more)
    for most in range(max(NAMED // len(groups), 1), 0, -1):
        text = "; ".join(f"{kind}: {listed(names, most)}" for kind, names in groups.items())
        text = f"{where}: {len(wrong):,} tensors do not fit; {text}"
        if len(text) <= LONGEST:
            break
    return text


def short(name):
    """A tensor's name in a message."""
    return name if len(name) <= 80 else shortened(name)


def shape_in_words(shape, expected):
    """A shape that a tensor has, and the one that it must have."""
    return f"has shape {tuple(shape)}, the config asks for {tuple(expected)}"


def check_tensors(path, file, shapes, allowed):
    """MinigptError for tensors that are missing, extra, misshapen or not of an allowed dtype, all
    of them in one message; -> each dtype met and the last tensor that has it.
    """
    names = set(file.keys())
    wrong = [Wrong("missing", name, path, "is missing") for name in shapes if name not in names]
    extra = sorted(names.difference(shapes))
    wrong += [Wrong("not of this config", name, path, "does not belong to this config") for name in extra]
    dtypes = {}
    for name, shape in shapes.items():
        if name not in names:
            continue
        part = file.get_slice(name)
        if tuple(part.get_shape()) != tuple(shape):
            wrong.append(Wrong("of another shape", name, path, shape_in_words(part.get_shape(), shape)))
        elif part.get_dtype() not in allowed:
            words = f"is {part.get_dtype()}, it must be {' or '.join(allowed)}"
            wrong.append(Wrong(f"not {' or '.join(allowed)}", name, path, words))
        dtypes[part.get_dtype()] = name
    if wrong:
        raise MinigptError(complaint(wrong, path))
    return dtypes


def check_finite(path, tensors):
    """MinigptError naming the tensors that hold NaN or infinity; of a single one how many."""
    wrong = []
    for name, value in tensors.items():
        bad = value.size - np.count_nonzero(np.isfinite(value))
        if bad:
            words = f"holds {bad} values that are not finite"
            wrong.append(Wrong("with values that are not finite", name, path, words))
    if wrong:
        raise MinigptError(complaint(wrong, path))


def read_tensors(path, shapes):
    """A dict of arrays from a file; shapes and errors as for `load_state`."""
    with open_tensors(path) as file:
        if shapes is None:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 it is no mapping
        check_tensors(path, file, shapes, DTYPES)
        tensors = {name: file.get_tensor(name) for name in shapes}
    check_finite(path, tensors)
    return tensors


def map_tensors(path):
    """Name -> read-only flat view of the mapped file, for one that check_tensors has passed: what
    is read from it is copied once.
    """
    return {name: data.view(DTYPES[dtype]) for name, (dtype, _, data) in map_bytes(path).items()}


def map_bytes(path):
    """Name -> safetensors' name of the dtype, shape, read-only bytes of the mapped file; for one
    that open_tensors has opened.

    A safetensors file is the length of its header in 8 bytes, the header in JSON, and the numbers.
    With them mapped, `load` takes 0.09 s at 124M parameters and a warm cache; with the library's
    get_tensor, which makes a copy to copy from, 0.57 s. Missing where a save has just renamed it.
    """
    try:
        data = np.memmap(path, np.uint8, "r")
    except FileNotFoundError:
        raise Missing(f"{path} is missing") from None
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8:start].tobytes())
    header.pop("__metadata__", None)
    parts = {}
    for name, entry in header.items():
        low, high = entry["data_offsets"]
        parts[name] = entry["dtype"], tuple(entry["shape"]), data[start + low : start + high]
    return parts
