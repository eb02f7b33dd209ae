"""Options that several commands share, and the folders that they name."""

import argparse
import dataclasses
from pathlib import Path

from minigpt import checkpoint
from minigpt.errors import MinigptError
from minigpt.models import load
from minigpt.models.causal import CausalModel
from minigpt.models.encoder_decoder import EncoderDecoderModel
from minigpt.models.recipe_gpt import RecipeGPTConfig
from minigpt.ops.activations import ACTIVATIONS

# RecipeGPTConfig field -> values
MODEL_CHOICES = {"activation": tuple(ACTIVATIONS), "positions": ("learned", "rotary")}


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
            kind = int if field.type == int | None else field.type
            form = {"type": kind, "metavar": "N" if kind is int else "X"}
        text = f"{field.metadata['help']} (default: {default})".replace("%", "%%")
        command.add_argument(f"--{field.name.replace('_', '-')}", default=argparse.SUPPRESS, help=text, **form)


def add_architecture_options(command, defaults):
    """The options of a new model: the fields of RecipeGPTConfig but the vocabulary, which a text
    has.
    """
    add_config_options(command, RecipeGPTConfig, defaults=defaults, choices=MODEL_CHOICES, leave_out=("vocab_size",))


def given(args, config_class):
    """The options of add_config_options that were given -> dict by field."""
    return {key: value for key, value in vars(args).items() if key in field_names(config_class)}


def field_names(config_class):
    """Names of a dataclass's fields."""
    return [field.name for field in dataclasses.fields(config_class)]


def folder(name, option):
    """A folder that the user named -> Path. MinigptError for an empty name, which would be this
    folder: a variable of the shell that is not set, most likely.
    """
    if not name:
        raise MinigptError(f"{option} is empty, it must name a folder")
    return Path(name)


def find_model(directory):
    """A checkpoint folder from what the user named: itself, or best or last within it."""
    directory = folder(directory, "--model")
    for candidate in (directory, directory / "best", directory / "last"):
        if (candidate / "config.json").exists():
            return candidate
    return directory


def check_causal(directory, model):
    """MinigptError for a model that does not continue texts."""
    if isinstance(model, CausalModel):
        return
    does = "reads a text in both directions"
    if isinstance(model, EncoderDecoderModel):
        does = "writes one text from another (minigpt translate, minigpt fill)"
    raise MinigptError(f"{directory}: a {model.model_type} {does}, it continues none")


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
