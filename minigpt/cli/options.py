"""Options that several commands share, and the folders that they name."""

import argparse
import dataclasses
from pathlib import Path

from minigpt import checkpoint
from minigpt.errors import MinigptError
from minigpt.models import load
from minigpt.ops.activations import ACTIVATIONS

MODEL_OPTIONS = {  # GPTConfig field -> type, help
    "n_layer": (int, "blocks"),
    "n_head": (int, "attention heads of a block"),
    "n_embd": (int, "channels, a multiple of --n-head"),
    "block_size": (int, "tokens that the model sees at a time"),
    "dropout": (float, "probability to drop an activation in training"),
    "activation": (str, "nonlinearity of the MLP", tuple(ACTIVATIONS)),
    "positions": (str, "how the model knows where a token stands", ("learned", "rotary")),
    "qk_norm": (bool, "scale queries and keys to root mean square 1"),
    "smear": (bool, "add to each token's vector a learned share of the one before it"),
}


def add_model_option(command, required=True):
    """--model DIR."""
    default = "" if required else " (default: none)"
    command.add_argument(
        "--model",
        metavar="DIR",
        required=required,
        help=f"checkpoint, such as OUT/best, or a folder that holds one{default}",
    )


def add_config_options(command, config_class, *, defaults, choices, leave_out=()):
    """One option for each field of a config, with the field's own help and type; left out of the
    arguments where it is not given, so that a preset or a saved run shows through.

    defaults: name -> what the help calls its default, in place of the field's own; choices: name ->
    the values it may have.
    """
    for field in dataclasses.fields(config_class):
        if field.name in leave_out:
            continue
        default = defaults.get(field.name, field.default)
        if field.type is bool:
            form = {"action": argparse.BooleanOptionalAction}
        elif field.name in choices:
            form = {"type": field.type, "choices": choices[field.name]}
        else:
            form = {"type": field.type, "metavar": "N" if field.type is int else "X"}
        text = f"{field.metadata['help']} (default: {default})".replace("%", "%%")
        command.add_argument(f"--{field.name.replace('_', '-')}", default=argparse.SUPPRESS, help=text, **form)


def add_field(command, field, option, default):
    """One option of MODEL_OPTIONS."""
    kind, text, *choices = option
    if kind is bool:
        form = {"action": argparse.BooleanOptionalAction}
    else:
        form = {
            "type": kind,
            "choices": choices[0] if choices else None,
            "metavar": None if choices else "N" if kind is int else "X",
        }
    command.add_argument(
        "--" + field.replace("_", "-"), default=argparse.SUPPRESS, help=f"{text} (default: {default})", **form
    )


def given(args, config_class):
    """The options of add_config_options that were given -> dict by field."""
    return {key: value for key, value in vars(args).items() if key in field_names(config_class)}


def default_of(config_class, field):
    """The default value of a dataclass field."""
    return next(f.default for f in dataclasses.fields(config_class) if f.name == field)


def field_names(config_class):
    """Names of a dataclass's fields."""
    return [field.name for field in dataclasses.fields(config_class)]


def find_model(directory):
    """A checkpoint folder from what the user named: itself, or best or last within it."""
    directory = Path(directory)
    for candidate in (directory, directory / "best", directory / "last"):
        if (candidate / "config.json").exists():
            return candidate
    return directory


def load_with_tokenizer(directory):
    """Model and tokenizer of a checkpoint. MinigptError where either is missing."""
    directory = find_model(directory)
    model, tokenizer = load(directory), checkpoint.load_tokenizer(directory)
    if tokenizer is None:
        raise MinigptError(f"{directory}: there is no tokenizer.json")
    if tokenizer.vocab_size != model.config.vocab_size:
        raise MinigptError(
            f"{directory}: the tokenizer has {tokenizer.vocab_size} tokens, the model {model.config.vocab_size}"
        )
    return model, tokenizer
