"""minigpt info: describe a model, or this installation."""

import dataclasses
import platform
from pathlib import Path

import numpy as np

import minigpt
from minigpt.checks import listed
from minigpt.cli.options import add_model_option, find_model
from minigpt.cli.terminal import visible
from minigpt.errors import MinigptError, one_line
from minigpt.files import read_json
from minigpt.machine import (
    available_cores,
    describe_settings,
    physical_memory,
    readable,
    thread_settings,
    usable_threads,
)
from minigpt.models import load
from minigpt.tables import text_table


def add_to(commands):
    """Add the command to the parser's."""
    command = commands.add_parser(
        "info", help="describe a model, or this installation", description="Describe a model, or this installation."
    )
    command.add_argument("folder", metavar="DIR", nargs="?", help="the same as --model DIR (default: none)")
    add_model_option(command, required=False)
    command.set_defaults(run=run)


def run(args):
    """Print a model's config and parameters, or what this installation stands on."""
    if args.folder is not None and args.model is not None:
        raise MinigptError(f"two models are named, {args.folder} and --model {args.model}")
    if args.folder is not None or args.model is not None:
        describe_model(find_model(args.model if args.folder is None else args.folder))
    else:
        describe_installation()


def describe_model(directory):
    """Print a model's config and parameters, of a checkpoint of ours or of Hugging Face."""
    model_type, notes, more = hugging_face_type(directory), [], []
    if model_type is None:
        model = load(directory)
    else:
        what = f"a Hugging Face folder, model_type {model_type}; minigpt.from_huggingface loads it"
        print(f"{one_line(directory)}: {what}\n")
        model, found = minigpt.from_huggingface(directory, say=notes.append), minigpt.hub.describe(directory)
        more.append(("tensors", f"{found['tensors']} of {' and '.join(found['dtypes'])} in {listed(found['files'])}"))
    n = f"{model.num_parameters:,} of {model.dtype}, {readable(model.store.vector.nbytes)}"
    rows = [*dataclasses.asdict(model.config).items(), ("parameters", n), *more]
    if (tokenizer := describe_tokenizer(directory, model.config.vocab_size)) is not None:
        rows.append(("tokenizer", tokenizer))
    print(*text_table(rows, left=(0, 1)), sep="\n")
    for note in notes:
        print(f"note: {visible(note)}")
    rows = [
        (name, "x".join(map(str, value.shape)), f"standard deviation {value.std():.4f}")
        for name, value in model.parameters.items()
    ]
    print("", *text_table(rows, left=(0, 1, 2)), sep="\n")


def describe_tokenizer(directory, vocab_size):
    """A folder's tokenizer in words, None where it has none."""
    try:
        tokenizer = minigpt.load_tokenizer(directory)
    except MinigptError as error:
        return None if "there is no tokenizer" in str(error) else visible(f"it can't be read: {error}")
    if tokenizer is None:
        return None
    more = f", more than the {vocab_size:,} that the model knows" if tokenizer.vocab_size > vocab_size else ""
    return f"{type(tokenizer).__name__}, {tokenizer.vocab_size:,} tokens{more}"


def hugging_face_type(directory):
    """model_type of a folder that Hugging Face's transformers wrote, None where it is something
    else: our config.json has a format_version.
    """
    try:
        values = read_json(Path(directory) / "config.json")
        return None if "format_version" in values else visible(values.text("model_type"))[:80]
    except MinigptError:
        return None


def describe_installation():
    """Print what this installation stands on."""
    from threadpoolctl import threadpool_info

    memory = physical_memory()
    python = f"Python {platform.python_version()}, NumPy {np.__version__}"
    print(f"minigpt {minigpt.__version__}, {python}, {platform.platform()}")
    print(f"{available_cores()} cores, {readable(memory) if memory else 'unknown'} of memory")
    if settings := thread_settings():
        limit = f"at most {usable_threads()} unless --threads says otherwise"
        print(f"threads: {limit} (environment: {describe_settings(settings)})")
    for library in threadpool_info():
        print(
            f"{library['user_api']}: {library['internal_api']} {library['version']}, {library['num_threads']} threads"
        )
