"""Saving and loading: a folder of config.json, model.safetensors, tokenizer.json and, for a run, trainer.json and trainer.safetensors.

config.json is also the manifest: it says which save is current and which files belong to it. A save writes its files under names that carry its
number (model.7.safetensors), flushes them to disk, and replaces config.json in one step: before it the old save is current, after it the
new one, and never a mixture. Then the files are renamed to their plain names. Where that can't be done, because a process on Windows has the old
file mapped, the numbered file stays and readers find it first. There is no pickle anywhere.
"""

import contextlib
import dataclasses
import json
import os
import re
from pathlib import Path

import numpy as np

from minigpt.errors import MinigptError
from minigpt.layers.store import Store
from minigpt.models.config import config_from_dict
from minigpt.models.gpt import GPT, GPTConfig
from minigpt.tokenizers.char import CharTokenizer

FORMAT_VERSION = 1  # of the folder; a program reads its own version and older ones
FAMILIES = {"gpt": (GPT, GPTConfig)}  # model_type in config.json -> model, config
MODEL, TOKENIZER, STATE, STATE_TENSORS = "model.safetensors", "tokenizer.json", "trainer.json", "trainer.safetensors"
DTYPES = {"F32": np.float32, "F64": np.float64, "I64": np.int64}  # safetensors' names of what we write


def save(directory, model, tokenizer=None, state=None):
    """Write a checkpoint over the one in a folder, which is made where it is missing.

    tokenizer: a CharTokenizer; state: what --resume needs, (a dict for JSON, a dict of arrays). MinigptError where it can't be written, in which
    case the folder holds what it held before.
    """
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        number = current_save(directory) + 1
        settle(directory)
        files = [MODEL]
        try:
            write_tensors(numbered(directory / MODEL, number), dict(model.parameters))
            if tokenizer is not None:
                write(numbered(directory / TOKENIZER, number), tokenizer.to_json())
                files.append(TOKENIZER)
            if state is not None:
                write(numbered(directory / STATE, number), json.dumps(state[0], indent=1))
                write_tensors(numbered(directory / STATE_TENSORS, number), state[1])
                files += [STATE, STATE_TENSORS]
            flush_directory(directory)
            manifest = {"format_version": FORMAT_VERSION, "model_type": model_type(model), "save": number, "files": files}
            write_atomically(directory / "config.json", json.dumps(manifest | dataclasses.asdict(model.config), indent=1) + "\n")
        except BaseException:
            if current_save(directory) != number:
                clean(directory, keep=None)
            raise
        settle(directory)
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
        raise MinigptError(f"{directory / 'config.json'}: {error}") from None
    path = find(directory, MODEL, manifest)
    with open_tensors(path) as file:
        found = sum(size(file, name) for name in file.keys())  # noqa: SIM118 it is no mapping
        if found != config.num_parameters:
            check_names(path, file, config, kind)
            raise MinigptError(f"{path}: it holds {found:,} numbers, the config asks for {config.num_parameters:,}")
        shapes = kind.parameter_shapes(config)
        dtype = check_tensors(path, file, shapes)
        store = Store(shapes, dtype=dtype)
        for name, value in store.items():
            value[...] = file.get_tensor(name)
    check_finite(path, store)
    return kind(config, store=store)


def load_tokenizer(directory):
    """The tokenizer in a checkpoint folder, None where it has none. MinigptError where it is damaged."""
    directory = Path(directory)
    path = find(directory, TOKENIZER, read_manifest(directory))
    if path is None:
        return None
    try:
        return CharTokenizer.from_json(read_json_text(path))
    except MinigptError as error:
        raise MinigptError(f"{path}: {error}") from None


def load_state(directory, shapes=None):
    """What --resume needs: (a dict, a dict of arrays), None where the folder has no such files.

    shapes: name -> shape that the arrays must have, no more and no fewer: MinigptError, before memory is taken for them.
    """
    values = load_state_values(directory)
    path = find(Path(directory), STATE_TENSORS, read_manifest(Path(directory)))
    if values is None or path is None:
        return None
    with open_tensors(path) as file:
        if shapes is not None:
            check_tensors(path, file, shapes, one_dtype=False)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    check_finite(path, tensors)
    return values, tensors


def load_state_values(directory):
    """The first part of load_state alone: a dict, None where there is none."""
    directory = Path(directory)
    path = find(directory, STATE, read_manifest(directory))
    return None if path is None else parse_json(path)


# Files and their names


def numbered(path, number):
    """model.safetensors -> model.7.safetensors."""
    return path.with_name(f"{path.stem}.{number}{path.suffix}")


def find(directory, name, manifest):
    """The file of the current save: its numbered name where it stands, else its plain one; None where the save has no such file."""
    if name not in manifest.get("files", [name]):
        return None
    path = numbered(directory / name, manifest["save"]) if "save" in manifest else directory / name
    if path.exists():
        return path
    path = directory / name
    if path.exists():
        return path
    if name == MODEL:
        raise MinigptError(f"{directory}: {name} is missing")
    return None


def current_save(directory):
    """The number of the save that config.json names, 0 where there is none that can be read."""
    try:
        number = json.loads((directory / "config.json").read_text(encoding="utf-8"))["save"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 0
    return number if isinstance(number, int) and not isinstance(number, bool) and number >= 0 else 0


def settle(directory):
    """Give the current save's files their plain names, and remove those of other saves; what a mapping on Windows forbids stays for later."""
    number = current_save(directory)
    for name in (MODEL, TOKENIZER, STATE, STATE_TENSORS):
        path = numbered(directory / name, number)
        if number and path.exists():
            try_to(os.replace, path, directory / name)
    clean(directory, keep=number)
    try:
        listed = json.loads((directory / "config.json").read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return
    for name in (TOKENIZER, STATE, STATE_TENSORS):  # of an older save, which had more files
        if name not in listed and (directory / name).exists():
            try_to(os.unlink, directory / name)


def clean(directory, keep):
    """Remove numbered files of other saves than the current one, and what an aborted save left."""
    current = current_save(directory) if keep is None else keep
    for path in directory.glob("*"):
        match = re.fullmatch(r"(model|tokenizer|trainer)\.(\d+)\.(safetensors|json)", path.name)
        if (match and int(match[2]) != current) or path.name == "config.json.tmp":
            try_to(os.unlink, path)


def try_to(operation, *paths):
    """Rename or remove a file, or leave it where the system says no."""
    with contextlib.suppress(OSError):
        operation(*paths)


# Writing


def write_tensors(path, tensors):
    """Write arrays as safetensors and flush them to disk."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with open(path, "wb") as file:
        mode = os.stat(file.fileno()).st_mode & 0o777  # the user's own default; the library makes files that nobody else may read
    try:
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path, metadata={"format": "np"})
    except SafetensorError as error:
        raise OSError(str(error)) from None
    os.chmod(path, mode)
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def write(path, text):
    """Write text and flush it to disk."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_atomically(path, text):
    """Replace a text file: whatever happens, the old one or the new one is there whole."""
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    write(temporary, text)
    os.replace(temporary, path)
    flush_directory(path.parent)


def flush_directory(directory):
    """Have the names in a folder on disk before going on; Windows has no such call and needs none."""
    if os.name == "posix":
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# Reading


def model_type(model):
    """The family's name in config.json."""
    return next(name for name, (kind, _) in FAMILIES.items() if isinstance(model, kind))


def read_json_text(path):
    """The text of a JSON file of ours. MinigptError where it can't be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MinigptError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from None


def parse_json(path):
    """A JSON object from a file. MinigptError where it is something else."""
    try:
        values = json.loads(read_json_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, MinigptError):
            raise
        raise MinigptError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise MinigptError(f"{path} holds a {type(values).__name__}, it must be a JSON object")
    return values


def read_manifest(directory):
    """config.json, checked as far as every family's is alike."""
    path = directory / "config.json"
    if not directory.is_dir():
        raise MinigptError(f"{directory}: there is no such checkpoint folder")
    if not path.exists():
        raise MinigptError(f"{directory}: there is no checkpoint in it (config.json is missing)")
    manifest = parse_json(path)
    version = manifest.get("format_version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise MinigptError(f"{path}: format_version is {version!r}, it must be a whole number of at least 1")
    if version > FORMAT_VERSION:
        raise MinigptError(f"{path}: format_version is {version}, this program reads up to {FORMAT_VERSION}: a newer minigpt wrote it")
    if not isinstance(manifest.get("model_type"), str) or manifest["model_type"] not in FAMILIES:
        raise MinigptError(f"{path}: model_type is {manifest.get('model_type')!r}, it must be one of {', '.join(FAMILIES)}")
    number, files = manifest.get("save", 0), manifest.get("files", [])
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise MinigptError(f"{path}: save is {number!r}, it must be a whole number of at least 0")
    if not isinstance(files, list) or not all(isinstance(name, str) for name in files):
        raise MinigptError(f"{path}: files is {files!r}, it must be a list of names")
    return manifest


def open_tensors(path):
    """Open a safetensors file, whose header the library checks against its length. MinigptError where that fails."""
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="np")
    except (SafetensorError, OSError, ValueError) as error:
        raise MinigptError(f"{path}: truncated or not a safetensors file ({' '.join(str(error).split())})") from None


def size(file, name):
    """How many numbers a tensor in an open file has, by its header."""
    total = 1
    for n in file.get_slice(name).get_shape():
        total *= n
    return total


def check_names(path, file, config, kind):
    """Where the sizes differ: MinigptError that names a tensor, so far as the model is small enough to be wired for comparison."""
    if config.n_layer <= 10_000:
        check_tensors(path, file, kind.parameter_shapes(config))


def check_tensors(path, file, shapes, one_dtype=True):
    """MinigptError for a tensor that is missing, extra, misshapen or of a dtype that we don't read; -> the dtype that all have."""
    names = set(file.keys())
    for name in shapes:
        if name not in names:
            raise MinigptError(f"{path}: tensor {name} is missing")
    for name in sorted(names - set(shapes)):
        raise MinigptError(f"{path}: tensor {name} does not belong to this config")
    dtypes = {}
    for name, shape in shapes.items():
        part = file.get_slice(name)
        if tuple(part.get_shape()) != tuple(shape):
            raise MinigptError(f"{path}: tensor {name} has shape {tuple(part.get_shape())}, the config asks for {tuple(shape)}")
        dtypes[part.get_dtype()] = name
        allowed = ("F32", "F64") if one_dtype else tuple(DTYPES)
        if part.get_dtype() not in allowed:
            raise MinigptError(f"{path}: tensor {name} is {part.get_dtype()}, it must be {' or '.join(allowed)}")
    if one_dtype and len(dtypes) > 1:
        raise MinigptError(f"{path}: tensors are of different dtypes, {' and '.join(f'{n} is {d}' for d, n in dtypes.items())}")
    return DTYPES[next(iter(dtypes))]


def check_finite(path, tensors):
    """MinigptError naming the first tensor that holds NaN or infinity."""
    for name, value in tensors.items():
        bad = value.size - np.count_nonzero(np.isfinite(value))
        if bad:
            raise MinigptError(f"{path}: tensor {name} holds {bad} values that are not finite")
