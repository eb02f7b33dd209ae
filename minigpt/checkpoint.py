"""Saving and loading: a folder of config.json, model.safetensors, tokenizer.json and, for a run, trainer.json and trainer.safetensors.

config.json is also the manifest: it says which save is current and which files belong to it. A save writes its files under names that carry its
number (model.7.safetensors), flushes them to disk, and replaces config.json in one step: before it the old save is current, after it the
new one, and never a mixture. Then the files are renamed to their plain names. Where that can't be done, because a process on Windows has the old
file mapped, the numbered file stays and readers find it first. So a plain file is only read as what its own save, or none since, has put there:
numbers are never used twice. One process may save into a folder at a time, and any number read. There is no pickle anywhere.
"""

import contextlib
import dataclasses
import errno
import json
import os
import re
import time
from pathlib import Path

import numpy as np

from minigpt.errors import MinigptError
from minigpt.layers.store import Store
from minigpt.memory import check_memory
from minigpt.models.config import config_from_dict
from minigpt.models.gpt import GPT, GPTConfig
from minigpt.tokenizers.char import CharTokenizer

FORMAT_VERSION = 1  # of the folder; a program reads its own version and older ones
FAMILIES = {"gpt": (GPT, GPTConfig)}  # model_type in config.json -> model, config
CONFIG, MODEL, TOKENIZER, STATE, STATE_TENSORS = "config.json", "model.safetensors", "tokenizer.json", "trainer.json", "trainer.safetensors"
DTYPES = {"F32": np.float32, "F64": np.float64, "I64": np.int64}  # safetensors' names of what we write
NUMBERED = re.compile(r"(?:model|tokenizer|trainer)\.(\d{1,19})\.(?:safetensors|json)")
TEMPORARY = re.compile(r"config\.json\.tmp|\.tmp\w{6}")  # the second is what the safetensors library renames when it is done


class Missing(MinigptError):
    """A file that is not there."""


def save(directory, model, tokenizer=None, state=None):
    """Write a checkpoint over the one in a folder, which is made where it is missing.

    tokenizer: a CharTokenizer; state: what --resume needs, (a dict for JSON, a dict of arrays). MinigptError where it can't be written, in which
    case the folder holds what it held before, and for a model that is neither float32 nor float64.
    """
    directory = Path(directory)
    if model.dtype not in (np.float32, np.float64):
        raise MinigptError(f"checkpoint {directory} can't be written: the model is {model.dtype}, it must be float32 or float64 (use astype)")
    contents = {MODEL: dict(model.parameters)}
    if tokenizer is not None:
        contents[TOKENIZER] = tokenizer.to_json()
    if state is not None:
        contents |= {STATE: json.dumps(state[0], indent=1), STATE_TENSORS: state[1]}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        old, old_files = current_save(directory)
        if old:
            settle(directory, old, old_files)
        number = 1 + max([old, *(n for _, n in leftovers(directory))])
        manifest = {"format_version": FORMAT_VERSION, "model_type": model_type(model), "save": number, "files": list(contents)}
        try:
            for name, content in contents.items():
                write = write_tensors if name.endswith(".safetensors") else write_text
                write(numbered(directory / name, number), content)
            flush_directory(directory)
            write_atomically(directory / CONFIG, json.dumps(manifest | dataclasses.asdict(model.config), indent=1) + "\n")
        except BaseException:
            if current_save(directory)[0] != number:  # asked of the disk: the switch may have been made before the error came
                remove(path for path, n in leftovers(directory) if n == number)
            raise
        settle(directory, number, contents, dropped=[name for name in old_files if name not in contents])
    except OSError as error:
        raise MinigptError(f"checkpoint {directory} can't be written: {error.strerror or error}") from None


def load(directory):
    """The model in a checkpoint folder, in the dtype that it was saved in.

    MinigptError, before memory is taken, for: a folder without a checkpoint, a format version newer than this program's, an unknown or impossible
    config key, a file that is truncated or not safetensors, a tensor that is missing, extra, misshapen or of another dtype; and after reading, for
    values that are not finite.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    kind, config_class = FAMILIES[manifest["model_type"]]
    values = {key: value for key, value in manifest.items() if key not in ("format_version", "model_type", "save", "files")}
    try:
        config = config_from_dict(config_class, values)
    except MinigptError as error:
        raise MinigptError(f"{directory / CONFIG}: {error}") from None
    return kind(config, store=read_current(directory, manifest, MODEL, lambda path: read_weights(path, kind, config)))


def load_tokenizer(directory):
    """The tokenizer in a checkpoint folder, None where it has none. MinigptError where it is damaged."""
    directory = Path(directory)
    return read_current(directory, read_manifest(directory), TOKENIZER, read_tokenizer)


def load_state(directory, shapes=None):
    """What --resume needs: (a dict, a dict of arrays), None where the folder has no such files.

    shapes: name -> shape that the arrays must have, no more and no fewer: MinigptError, before memory is taken for them.
    """
    directory = Path(directory)
    values = load_state_values(directory)
    tensors = read_current(directory, read_manifest(directory), STATE_TENSORS, lambda path: read_tensors(path, shapes))
    return None if values is None or tensors is None else (values, tensors)


def load_state_values(directory):
    """The first part of load_state alone: a dict, None where there is none."""
    directory = Path(directory)
    return read_current(directory, read_manifest(directory), STATE, parse_json)


# Files and their names


def numbered(path, number):
    """model.safetensors -> model.7.safetensors."""
    return path.with_name(f"{path.stem}.{number}{path.suffix}")


def current_save(directory):
    """Number and files of the save that config.json names; 0 and none where there is no config.json, or one that we didn't write."""
    try:
        manifest = json.loads((directory / CONFIG).read_text(encoding="utf-8-sig"))
        number, files = manifest["save"], manifest["files"]
        known = [name for name in (MODEL, TOKENIZER, STATE, STATE_TENSORS) if name in files]
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        return 0, []
    return (number, known) if is_save_number(number) else (0, [])


def is_save_number(value):
    """Whether a value from config.json can be the number of a save."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**63


def leftovers(directory):
    """[(path, number)] of all numbered files in a folder, and of temporary ones that a killed save left: these count as 0."""
    names = sorted(os.listdir(directory))
    found = [(directory / name, int(match[1])) for name in names if (match := NUMBERED.fullmatch(name))]
    return found + [(directory / name, 0) for name in names if TEMPORARY.fullmatch(name)]


def settle(directory, number, files, dropped=()):
    """Give the current save's files their plain names, and remove all of other saves: `dropped`, which the last one had and this one lacks, and
    numbered files. What can't be done now, because a process on Windows has a file mapped, is left to the next save.
    """
    for name in files:
        with contextlib.suppress(OSError):  # also where it has its plain name already
            os.replace(numbered(directory / name, number), directory / name)
    remove(directory / name for name in dropped)
    remove(path for path, n in leftovers(directory) if n != number)


def remove(paths):
    """Remove files, or leave them where the system says no."""
    for path in paths:
        with contextlib.suppress(OSError):
            os.unlink(path)


# Writing


def write_tensors(path, tensors):
    """Write arrays as safetensors and flush them to disk."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with open(path, "wb") as file:
        mode = os.stat(file.fileno()).st_mode & 0o777  # the user's own default; the library makes files that nobody else may read
    try:
        save_file({name: np.asarray(value, order="C") for name, value in tensors.items()}, path, metadata={"format": "np"})
    except SafetensorError as error:
        raise OSError(str(error)) from None
    os.chmod(path, mode)
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def write_text(path, text):
    """Write text and flush it to disk."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_atomically(path, text):
    """Replace a text file: whatever happens, the old one or the new one is there whole. OSError where it can't be written."""
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    try:
        write_text(temporary, text)
        replace(temporary, path)
    except BaseException:
        remove([temporary])
        raise
    flush_directory(path.parent)


def replace(source, target):
    """os.replace, tried for half a second: on Windows it fails in the moment that a reader or a virus scanner has the target open."""
    for _ in range(10):
        try:
            return os.replace(source, target)
        except PermissionError:
            time.sleep(0.05)
    return os.replace(source, target)


def flush_directory(directory):
    """Have the names in a folder on disk before going on; Windows has no such call and needs none."""
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


# Reading


def model_type(model):
    """The family's name in config.json."""
    return next(name for name, (kind, _) in FAMILIES.items() if isinstance(model, kind))


def read_manifest(directory):
    """config.json, checked as far as every family's is alike."""
    path = directory / CONFIG
    if not os.path.isdir(directory):
        raise MinigptError(f"{directory}: there is no such checkpoint folder")
    try:
        manifest = parse_json(path)
    except Missing:
        raise MinigptError(f"{directory}: there is no checkpoint in it ({CONFIG} is missing)") from None
    version = manifest.get("format_version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise MinigptError(f"{path}: format_version is {version!r}, it must be a whole number of at least 1")
    if version > FORMAT_VERSION:
        raise MinigptError(f"{path}: format_version is {version}, this program reads up to {FORMAT_VERSION}: a newer minigpt wrote it")
    if not isinstance(manifest.get("model_type"), str) or manifest["model_type"] not in FAMILIES:
        raise MinigptError(f"{path}: model_type is {manifest.get('model_type')!r}, it must be one of {', '.join(FAMILIES)}")
    if "save" in manifest and not is_save_number(manifest["save"]):
        raise MinigptError(f"{path}: save is {manifest['save']!r}, it must be a whole number of at least 1")
    if not isinstance(manifest.get("files", []), list):
        raise MinigptError(f"{path}: files is {manifest['files']!r}, it must be a list of names")
    return manifest


def read_current(directory, manifest, name, read):
    """read(path) of the current save's file: under its numbered name, else the plain one. None where the save has no such file, but for the model.

    MinigptError where config.json lists a file that isn't there. A config.json without a list, written by hand, goes with whatever is there.
    """
    listed = name in manifest.get("files", [MODEL])
    if listed or "files" not in manifest:
        for path in (numbered(directory / name, manifest.get("save", 0)), directory / name):  # no save has the number 0
            with contextlib.suppress(Missing):  # opened without asking first: a save may be renaming it
                return read(path)
    if listed or name == MODEL:
        raise MinigptError(f"{directory}: {name} is missing")
    return None


def read_text(path):
    """The text of a JSON file. MinigptError where it can't be read; Missing where there is none."""
    try:
        return path.read_text(encoding="utf-8-sig")  # with or without the mark that some editors put first
    except FileNotFoundError:
        raise Missing(f"{path} is missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise MinigptError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from None


def parse_json(path):
    """A JSON object from a file. MinigptError where it is something else; Missing where there is none."""
    text = read_text(path)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MinigptError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise MinigptError(f"{path} holds a {type(values).__name__}, it must be a JSON object")
    return values


def read_tokenizer(path):
    """A tokenizer from its file. MinigptError where it is damaged; Missing where there is none."""
    text = read_text(path)
    try:
        return CharTokenizer.from_json(text)
    except (MinigptError, RecursionError) as error:
        raise MinigptError(f"{path}: {error}") from None


def read_weights(path, kind, config):
    """A store of a model's parameters from a file that is compared with the config first; errors as for `load`."""
    with open_tensors(path) as file:
        held = len(file.keys())
        if config.n_layer > held:  # before a billion layers are wired to learn their names
            raise MinigptError(f"{path}: it holds {held} tensors, the config asks for {config.n_layer} layers")
        shapes = kind.parameter_shapes(config)
        first, *others = check_tensors(path, file, shapes, ("F32", "F64")).items()
        if others:
            raise MinigptError(f"{path}: tensors are of different dtypes, {first[1]} is {first[0]} and {others[0][1]} is {others[0][0]}")
    store, mapped = Store(shapes, dtype=DTYPES[first[0]]), map_tensors(path)
    for name, value in store.items():
        value[...] = mapped[name].reshape(value.shape)
    check_finite(path, store)
    return store


def map_tensors(path):
    """Name -> read-only flat view of the mapped file, for one that check_tensors has passed: what is read from it is copied once, and nothing else.

    A safetensors file is the length of its header in 8 bytes, the header in JSON, and the numbers. With them mapped, `load` takes 0.09 s at 124M
    parameters and a warm cache; with the library's get_tensor, which makes a copy to copy from, 0.57 s. Missing where a save has just renamed it.
    """
    try:
        data = np.memmap(path, np.uint8, "r")
    except FileNotFoundError:
        raise Missing(f"{path} is missing") from None
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8:start].tobytes())
    parts = {name: (DTYPES[entry["dtype"]], *entry["data_offsets"]) for name, entry in header.items() if name != "__metadata__"}
    return {name: data[start + low : start + high].view(dtype) for name, (dtype, low, high) in parts.items()}


def read_tensors(path, shapes):
    """A dict of arrays from a file; shapes and errors as for `load_state`."""
    with open_tensors(path) as file:
        if shapes is None:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 it is no mapping
        check_tensors(path, file, shapes, DTYPES)
        tensors = {name: file.get_tensor(name) for name in shapes}
    check_finite(path, tensors)
    return tensors


def open_tensors(path):
    """Open a safetensors file; the library checks its header against its length. MinigptError where it can't be read; Missing where there is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with open(path, "rb") as file:  # the library calls a file missing that may not be read
            check_memory(os.fstat(file.fileno()).st_size, str(path))
        return safe_open(path, framework="np")
    except FileNotFoundError:
        raise Missing(f"{path} is missing") from None
    except OSError as error:
        raise MinigptError(f"{path} can't be read: {error.strerror or error}") from None
    except SafetensorError as error:
        raise MinigptError(f"{path}: truncated or not a safetensors file ({' '.join(str(error).split())})") from None


def check_tensors(path, file, shapes, allowed):
    """MinigptError for a tensor that is missing, extra, misshapen or not of an allowed dtype; -> each dtype met and the last tensor that has it."""
    names, dtypes = set(file.keys()), {}
    for name in shapes:
        if name not in names:
            raise MinigptError(f"{path}: tensor {name} is missing")
    for name in sorted(names.difference(shapes)):
        raise MinigptError(f"{path}: tensor {name!r} does not belong to this config")
    for name, shape in shapes.items():
        part = file.get_slice(name)
        if tuple(part.get_shape()) != tuple(shape):
            raise MinigptError(f"{path}: tensor {name} has shape {tuple(part.get_shape())}, the config asks for {tuple(shape)}")
        if part.get_dtype() not in allowed:
            raise MinigptError(f"{path}: tensor {name} is {part.get_dtype()}, it must be {' or '.join(allowed)}")
        dtypes[part.get_dtype()] = name
    return dtypes


def check_finite(path, tensors):
    """MinigptError naming the first tensor that holds NaN or infinity, and how many."""
    for name, value in tensors.items():
        bad = value.size - np.count_nonzero(np.isfinite(value))
        if bad:
            raise MinigptError(f"{path}: tensor {name} holds {bad} values that are not finite")
