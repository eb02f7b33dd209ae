"""Saving and loading: a folder of config.json, model.safetensors, tokenizer.json and, for a run, trainer.json and trainer.safetensors.

config.json is also the manifest: it says which save is current and which files belong to it. A save writes its files under names that carry its
number (model.7.safetensors), flushes them to disk, and replaces config.json in one step: before it the old save is current, after it the
new one, and never a mixture. Then the files are renamed to their plain names. Where that can't be done, because a process on Windows has the old
file mapped, the numbered file stays and readers find it first. So a plain file is only read as what its own save, or none since, has put there:
numbers are never used twice. One process may save into a folder at a time, and any number read. There is no pickle anywhere.
"""

import contextlib
import dataclasses
import json
import os
import re
from pathlib import Path

import numpy as np

from minigpt.checks import shortened
from minigpt.errors import MinigptError
from minigpt.files import Missing, Unreadable, flush_directory, read_json, read_text, reason, remove, write_atomically, write_text
from minigpt.layers.store import Store
from minigpt.models.gpt import GPT, GPTConfig
from minigpt.tensors import DTYPES, check_finite, check_tensors, map_tensors, open_tensors, read_tensors, write_tensors
from minigpt.tokenizers.char import CharTokenizer

FORMAT_VERSION = 1  # of the folder; a program reads its own version and older ones
FAMILIES = {"gpt": (GPT, GPTConfig)}  # model_type in config.json -> model, config
LARGEST_SAVE = 2**63 - 1
OWN_KEYS = ("format_version", "model_type", "save", "files")  # of config.json; the others are the model's config
CONFIG, MODEL, TOKENIZER, STATE, STATE_TENSORS = "config.json", "model.safetensors", "tokenizer.json", "trainer.json", "trainer.safetensors"
NUMBERED = re.compile(r"(?:model|tokenizer|trainer)\.(\d{1,19})\.(?:safetensors|json)")
TEMPORARY = re.compile(r"config\.json\.(?:[0-9a-f]{8}\.)?tmp|\.tmp\w{6}")  # the last is what the safetensors library renames when it is done


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
    except (OSError, Unreadable) as error:
        raise MinigptError(f"checkpoint {directory} can't be written: {reason(error)}") from None


def load(directory):
    """The model in a checkpoint folder, in the dtype that it was saved in.

    MinigptError, before memory is taken, for: a folder without a checkpoint, a format version newer than this program's, an unknown or impossible
    config key, a file that is truncated or not safetensors, a tensor that is missing, extra, misshapen or of another dtype; and after reading, for
    values that are not finite.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    kind, config_class = FAMILIES[manifest.one_of("model_type", FAMILIES)]
    config = manifest.config(config_class, beside=OWN_KEYS)
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
    """The first part of load_state alone: a dict, None where there is none. What is in it has still to be checked, by files.Values."""
    directory = Path(directory)
    return read_current(directory, read_manifest(directory), STATE, lambda path: dict(read_json(path).items()))


# Files and their names


def numbered(path, number):
    """model.safetensors -> model.7.safetensors."""
    return path.with_name(f"{path.stem}.{number}{path.suffix}")


def current_save(directory):
    """Number and files of the save that config.json names; 0 and none where there is no config.json, or one that we didn't write."""
    try:
        manifest = read_json(directory / CONFIG)
        number, files = manifest.whole("save", at_least=1, at_most=LARGEST_SAVE), manifest.texts("files")
    except Unreadable:  # it may name a save
        raise
    except MinigptError:
        return 0, []
    return number, [name for name in (MODEL, TOKENIZER, STATE, STATE_TENSORS) if name in files]


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
        manifest = read_json(path)
    except Missing:
        raise MinigptError(f"{directory}: there is no checkpoint in it ({CONFIG} is missing)") from None
    version = manifest.whole("format_version", at_least=1)
    if version > FORMAT_VERSION:
        raise MinigptError(f"{path}: format_version is {shortened(version)}, this program reads up to {FORMAT_VERSION}: a newer minigpt wrote it")
    manifest.text("model_type")
    manifest.whole("save", at_least=1, at_most=LARGEST_SAVE, default=0)
    manifest.texts("files", default=None)
    return manifest


def read_current(directory, manifest, name, read):
    """read(path) of the current save's file: under its numbered name, else the plain one. None where the save has no such file, but for the model.

    MinigptError where config.json lists a file that isn't there. A config.json without a list, written by hand, goes with whatever is there.
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


