"""Checkpoints: a folder of config.json, model.safetensors, tokenizer.json and, for a run,
trainer.json and trainer.safetensors.

config.json is also the manifest: it says which save is current and which files belong to it. A save
writes its files under names that carry its number (model.7.safetensors), flushes them to disk, and
replaces config.json in one step: before it the old save is current, after it the new one, and never
a mixture. Then the files are renamed to their plain names. Where that can't be done, because a
process on Windows has the old file mapped, the numbered file stays and readers find it first. So a
plain file is only read as what its own save, or none since, has put there: numbers are never used
twice. One process may save into a folder at a time, and any number read. There is no pickle
anywhere.
"""

import contextlib
import dataclasses
import json
import math
import os
import re
from pathlib import Path

import numpy as np

from minigpt.checks import shortened
from minigpt.errors import MinigptError
from minigpt.files import (
    Missing,
    Unreadable,
    flush_directory,
    read_json,
    reason,
    remove,
    replace,
    write_atomically,
    write_text,
)
from minigpt.layers.store import Store
from minigpt.tensors import DTYPES, check_finite, check_tensors, map_tensors, open_tensors, read_tensors, write_tensors
from minigpt.tokenizers import is_tokenizer, read_tokenizer, read_tokenizer_folder

FORMAT_VERSION = 1  # of the folder; a program reads its own version and older ones
LARGEST_SAVE = 2**63 - 1
OWN_KEYS = ("format_version", "model_type", "save", "files")  # of config.json; the others are the model's config
CONFIG, MODEL, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
STATE, STATE_TENSORS = "trainer.json", "trainer.safetensors"
FILES = (MODEL, TOKENIZER, STATE, STATE_TENSORS)  # that a save writes beside config.json
NUMBERED = re.compile(r"(?:model|tokenizer|trainer)\.(\d{1,19})\.(?:safetensors|json)")
TEMPORARY = re.compile(r"config\.json\.(?:[0-9a-f]{8}\.)?tmp|\.tmp\w{6}")  # ours, and the safetensors library's


def save(directory, model, tokenizer=None, state=None):
    """Write a checkpoint over the one in a folder, which is made where it is missing.

    model: anything with a config (a dataclass), a model_type and parameters (name -> array);
    tokenizer: a Tokenizer; state: what --resume needs, (a dict for JSON, a dict of arrays).
    MinigptError where it can't be written, in which case the folder holds what it held before; for
    a model that is neither float32 nor float64; and for values that are not finite, which no reader
    would take.
    """
    directory = Path(directory)
    failed = f"checkpoint {directory} can't be written"
    if model.dtype not in (np.float32, np.float64):
        raise MinigptError(f"{failed}: the model is {model.dtype}, it must be float32 or float64 (use astype)")
    contents = {MODEL: dict(model.parameters)}
    if tokenizer is not None:
        contents[TOKENIZER] = tokenizer.to_json()
    try:
        if state is not None:
            contents |= {STATE: json.dumps(state[0], indent=1, allow_nan=False), STATE_TENSORS: state[1]}
        manifest = {"format_version": FORMAT_VERSION, "model_type": model.model_type, "save": 0}
        manifest |= {"files": list(contents)} | dataclasses.asdict(model.config)
        json.dumps(manifest, allow_nan=False)
    except ValueError as error:
        raise MinigptError(f"{failed}: {error}") from None
    for name in contents.keys() & {MODEL, STATE_TENSORS}:
        check_finite(f"{failed}: {name}", contents[name])
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_save(directory, contents, manifest)
    except (OSError, Unreadable) as error:
        raise MinigptError(f"{failed}: {reason(error)}") from None


def load_tokenizer(directory):
    """The tokenizer in a folder that `save` or a tokenizer's own `save` wrote, or one of Hugging
    Face: tokenizer.json, else vocab.json and merges.txt, else vocab.txt, else spiece.model or
    tokenizer.model, with what tokenizer_config.json says of special tokens. None for a model of
    ours that has none. MinigptError where it is damaged.
    """
    directory = Path(directory)
    try:
        manifest = read_manifest(directory)
    except MinigptError as error:
        if not os.path.isdir(directory) or not (isinstance(error, Missing) or is_huggingface(directory)):
            raise error from None
        return read_any_tokenizer(directory)
    saved = read_current(directory, manifest, TOKENIZER, lambda path: read_tokenizer(read_json(path)))
    return stray_tokenizer(directory) if saved is None else saved


def read_any_tokenizer(directory):
    """The tokenizer in a folder without a checkpoint of ours. Missing where there is none."""
    with contextlib.suppress(Missing):
        values = read_json(directory / TOKENIZER)
        if "model" not in values:
            return read_tokenizer(values)
    return read_tokenizer_folder(directory)


def is_huggingface(directory):
    """Whether config.json is somebody else's: an object without our format_version."""
    try:
        return "format_version" not in read_json(directory / CONFIG)
    except MinigptError:
        return False


def stray_tokenizer(directory):
    """A tokenizer that was put beside a model by its own `save`; None where there is none, or a
    file of somebody else's.
    """
    try:
        values = read_json(directory / TOKENIZER)
    except MinigptError:
        return None
    return read_any_tokenizer(directory) if is_tokenizer(values) else None


def load_state(directory, shapes=None):
    """What --resume needs: (a dict, a dict of arrays), None where the folder has no such files.

    shapes: name -> shape that the arrays must have, no more and no fewer: MinigptError, before
    memory is taken for them.
    """
    directory = Path(directory)
    values = load_state_values(directory)
    tensors = read_current(directory, read_manifest(directory), STATE_TENSORS, lambda path: read_tensors(path, shapes))
    if values is None and tensors is None:
        return None
    for name, part in ((STATE, values), (STATE_TENSORS, tensors)):
        if part is None:
            raise MinigptError(f"{directory}: {name} is missing")
    return dict(values.items()), tensors


def load_state_values(directory):
    """The first part of load_state alone, as files.Values, None where there is none."""
    directory = Path(directory)
    return read_current(directory, read_manifest(directory), STATE, read_json)


def load_parameters(directory, manifest, config, parameters_of):
    """The store of a model's parameters, in the dtype that they were saved in.

    manifest: of read_manifest; parameters_of(config) -> a list of Parameter, asked for once the
    file is known to be large enough for it, since a config may ask for a billion layers.
    MinigptError as for minigpt.load.
    """
    return read_current(Path(directory), manifest, MODEL, lambda path: read_weights(path, config, parameters_of))


# Files and their names


def write_save(directory, contents, manifest):
    """Write files under the next number, switch to them, and tidy up.

    contents: name -> text or arrays; manifest: what config.json holds, but for the number.
    """
    old, old_files = current_save(directory)
    if old:
        settle(directory, old, old_files)
    number = 1 + max([old, *(n for _, n in leftovers(directory))])
    try:
        for name, content in contents.items():
            write = write_tensors if name.endswith(".safetensors") else write_text
            write(numbered(directory / name, number), content)
        for name in old_files:
            if name not in contents:  # what is plain and not listed may be a tokenizer's own, for any save
                set_aside(directory / name, old)
        flush_directory(directory)
        write_atomically(directory / CONFIG, json.dumps(manifest | {"save": number}, indent=1) + "\n")
    except BaseException:
        if current_save(directory)[0] != number:  # asked of the disk: the error may have come after the switch
            remove(path for path, n in leftovers(directory) if n == number)
        raise
    settle(directory, number, contents)


def numbered(path, number):
    """model.safetensors -> model.7.safetensors."""
    return path.with_name(f"{path.stem}.{number}{path.suffix}")


def current_save(directory):
    """Number and files of the save that config.json names; 0 and none where there is no
    config.json, or one that we didn't write.
    """
    try:
        manifest = read_json(directory / CONFIG)
        number, files = manifest.whole("save", at_least=1, at_most=LARGEST_SAVE), manifest.texts("files")
    except Unreadable:  # it may name a save
        raise
    except MinigptError:
        return 0, []
    return number, [name for name in FILES if name in files]


def leftovers(directory):
    """[(path, number)] of all numbered files in a folder, and of temporary ones that a killed save
    left: these count as 0.
    """
    names = sorted(os.listdir(directory))
    found = [(directory / name, int(match[1])) for name in names if (match := NUMBERED.fullmatch(name))]
    return found + [(directory / name, 0) for name in names if TEMPORARY.fullmatch(name)]


def settle(directory, number, files):
    """Give the current save's files their plain names, and remove the numbered ones of all other
    saves. What can't be done now, because a process on Windows has a file mapped, is left to the
    next save.
    """
    for name in files:
        with contextlib.suppress(OSError):  # also where it has its plain name already
            os.replace(numbered(directory / name, number), directory / name)
    remove(path for path, n in leftovers(directory) if n != number)


def set_aside(path, number):
    """Give a plain file of the current save its number, by which readers look for it first; once
    another save is current, settle removes it.
    """
    if os.path.exists(numbered(path, number)):  # the plain one is not of this save
        remove([path])
    else:
        with contextlib.suppress(FileNotFoundError):
            replace(path, numbered(path, number))


# Reading


def read_manifest(directory):
    """The Values of config.json, checked as far as every family's is alike."""
    directory = Path(directory)
    path = directory / CONFIG
    if not os.path.isdir(directory):
        raise Missing(f"{directory}: there is no such checkpoint folder")
    try:
        manifest = read_json(path)
    except Missing:
        raise Missing(f"{directory}: there is no checkpoint in it ({CONFIG} is missing)") from None
    if "format_version" not in manifest:
        raise MinigptError(f"{path}: format_version is missing; a model of transformers is read by from_huggingface")
    version = manifest.whole("format_version", at_least=1)
    if version > FORMAT_VERSION:
        reads = f"this program reads up to {FORMAT_VERSION}"
        raise MinigptError(f"{path}: format_version is {shortened(version)}, {reads}: a newer minigpt wrote it")
    manifest.text("model_type")
    manifest.whole("save", at_least=1, at_most=LARGEST_SAVE, default=0)
    manifest.texts("files", default=None)
    return manifest


def read_current(directory, manifest, name, read):
    """read(path) of the current save's file: under its numbered name, else the plain one. None
    where the save has no such file, but for the model.

    MinigptError where config.json lists a file that isn't there. A config.json without a list,
    written by hand, goes with whatever is there.
    """
    files, number = manifest.texts("files", default=None), manifest.whole("save", default=0)  # no save has the number 0
    listed = name in ([MODEL] if files is None else files)
    if listed or files is None:
        for path in (numbered(directory / name, number), directory / name):
            with contextlib.suppress(Missing):  # opened without asking first: a save may be renaming it
                return read(path)
    if listed or name == MODEL:
        raise MinigptError(f"{directory}: {name} is missing")
    return None


def read_weights(path, config, parameters_of):
    """A store of parameters from a file that is compared with the config first; errors as for
    `load_parameters`.
    """
    with open_tensors(path) as file:
        held = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 it is no mapping
        if config.num_parameters > 10 * held + 10_000:  # what is not so far off is named by its tensor
            wanted = f"the config asks for {shortened(config.num_parameters)} parameters"
            raise MinigptError(f"{path}: it holds {held:,} values, {wanted}")
        parameters = parameters_of(config)
        first, *others = check_tensors(path, file, {p.name: p.shape for p in parameters}, ("F32", "F64")).items()
        if others:
            found = f"{first[1]} is {first[0]} and {others[0][1]} is {others[0][0]}"
            raise MinigptError(f"{path}: tensors are of different dtypes, {found}")
    store, mapped = Store(parameters, dtype=DTYPES[first[0]]), map_tensors(path)
    for name, value in store.items():
        value[...] = mapped[name].reshape(value.shape)
    check_finite(path, store)
    return store
