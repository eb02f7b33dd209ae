"""Options that several commands share, and the folders that they name."""

import argparse
import dataclasses
from pathlib import Path

from minigpt import checkpoint
from minigpt.errors import MinigptError
from minigpt.models import load
from minigpt.ops.activations import ACTIVATIONS
from minigpt.optim import SCHEDULES

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
TRAIN_OPTIONS = {  # TrainConfig field -> type, help
    "steps": (int, "updates of the parameters"),
    "batch_size": (int, "windows of text a micro-batch"),
    "accumulate": (int, "micro-batches a step"),
    "shards": (int, "parts of a micro-batch, one a thread; same seed and shards, same bits"),
    "optimizer": (str, "optimizer", ("muon", "adamw", "sgd")),
    "lr": (float, "peak learning rate of AdamW or SGD; with Muon, of all but the hidden matrices"),
    "muon_lr": (float, "peak learning rate of Muon, for hidden matrices"),
    "newton_schulz_steps": (int, "orthogonalisation steps of Muon"),
    "beta2": (float, "decay of AdamW's second moment"),
    "weight_decay": (float, "decoupled weight decay, on parameters of two or more axes"),
    "clip": (float, "limit of the gradient's norm, 0 for none"),
    "schedule": (str, "learning-rate schedule", tuple(SCHEDULES)),
    "warmup": (int, "steps of linear warm-up"),
    "final_lr": (float, "last learning rate as a fraction of the peak"),
    "recompute": (bool, "keep each block's input alone and run it again in backward: less memory, more time"),
    "seed": (int, "seed of weights, batches, dropout and samples"),
    "eval_interval": (int, "steps between validation losses"),
    "save_interval": (int, "steps between checkpoints"),
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


def add_field(command, field, option, default):
    """One option for one field of a config; left out of the arguments where it is not given, so
    that a preset or a saved run shows through.
    """
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
