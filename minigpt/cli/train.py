"""minigpt train: from a text file to a trained model, or to a profile of its steps."""

import dataclasses

import numpy as np

from minigpt import checkpoint
from minigpt.checks import one_of, whole
from minigpt.cli.options import add_architecture_options, field_names, folder, given
from minigpt.cli.runs import (
    FROM_A_TEXT,
    add_run_options,
    add_training_options,
    carry_out,
    check_profile,
    is_resuming,
    settle_shards,
)
from minigpt.cli.terminal import PROGRAM, command_line, say, visible
from minigpt.data import read_text, split, tiny_shakespeare
from minigpt.errors import MinigptError, one_line
from minigpt.machine import keep_freed_memory
from minigpt.models import load
from minigpt.models.recipe_gpt import RecipeGPTConfig, gpt_or_recipe
from minigpt.tokenizers.char import CharTokenizer
from minigpt.training import PRESETS, TrainConfig, Trainer
from minigpt.training.bands import find_band
from minigpt.training.presets import PRETRAINING_PRESETS
from minigpt.training.run_files import BEST, LAST, LOSS_CURVE, read_state

KINDS = ("char", "bpe", "unigram")  # of tokenizer
VOCAB_SIZE = 1000  # of one of pieces, unless given


def add_to(commands):
    """Add the command to the parser's."""
    command = commands.add_parser(
        "train",
        help="train a GPT on a text file",
        description=f"Train a GPT on the characters of a text, or on its pieces, BPE or Unigram. {FROM_A_TEXT}",
    )
    add_options(command, out=None)
    command.set_defaults(run=run)


def add_options(command, out):
    """The options of `minigpt train`, for examples/train_shakespeare.py as well; out: the default
    of --out, required where None.
    """
    model, training = PRESETS["default"]
    command.add_argument("--data", metavar="FILE", help="UTF-8 text file (default: tiny Shakespeare, fetched once)")
    add_run_options(command, out=out, presets=PRESETS)
    command.add_argument(
        "--tokenizer",
        choices=KINDS,
        help="what a token is: a character, or a piece of the training text, found by byte-pair encoding or as the "
        "most probable of a unigram model (default: char)",
    )
    text = f"tokens of --tokenizer bpe or unigram (default: {VOCAB_SIZE})"
    command.add_argument("--vocab-size", type=int, metavar="N", help=text)
    add_architecture_options(command, model)
    add_training_options(command, training)


def run(args):
    """From parsed arguments to a trained model."""
    keep_freed_memory()
    out = folder(args.out, "--out")
    check_profile(args)
    resuming = is_resuming(args, out)
    saved = out / LAST if resuming else None
    settings = run_settings(args, saved)
    corpus = tiny_shakespeare(args.data) if args.data is None else read_text(args.data)
    trainer, why_no_band = make_trainer(corpus, settings, args, saved)
    config, model, tokenizer = trainer.config, trainer.model, trainer.tokenizer
    kinds = f"{len(corpus.text):,} characters, {len(set(corpus.text))} different"
    if trainer.settings["tokenizer"] != "char":
        kinds += f", as {tokenizer.vocab_size:,} kinds of token"
    introduction = [f"text: {one_line(corpus.source)}, {kinds}, SHA-256 {corpus.sha256}"]
    introduction.append(f"model: {model.num_parameters:,} parameters; {config.optimizer}, {config.steps:,} steps")
    loss = carry_out(trainer, args, resuming=resuming, introduction=introduction + [why_no_band] * bool(why_no_band))
    if loss is None:
        return
    say(f"\n{visible(trainer.sample(500))}\n")
    read_more = command_line(PROGRAM, "generate", "--model", out / BEST)
    say(f"loss curve: {one_line(out / LOSS_CURVE)}; to read more: {visible(read_more)}")
    say(f"{trainer.measures['bits_per_byte']:.4f} bits per byte, whatever the tokens")
    if verdict := trainer.judge():
        say(f"the loss is {verdict}")
    say(f"validation loss {loss:.4f}")


def run_settings(args, saved):
    """All settings of a run: those of the saved run or of the preset, and over them those given on
    the command line. -> dict
    """
    model, training = PRESETS[args.preset or "default"]
    settings = model | training
    if saved is not None:
        saved_model, state = load(saved), read_state(saved)
        if saved_model.model_type in PRETRAINING_PRESETS:
            name = saved_model.model_type
            raise MinigptError(f"the run in {saved} trains a {name}, `minigpt pretrain` goes on with it")
        saved_settings = dataclasses.asdict(saved_model.config) | dataclasses.asdict(state.config) | state.settings
        settings = saved_settings | (settings if args.preset else {})
    settings |= given(args, TrainConfig) | given(args, RecipeGPTConfig)
    settle_shards(settings, args.threads)
    return settings | tokenizer_settings(args, settings)


def tokenizer_settings(args, settings):
    """The kind of tokens of a run, and how many were asked for, in the words that a run keeps; none
    of characters, which a text has. -> dict
    """
    kind = one_of("tokenizer", args.tokenizer or settings.get("tokenizer", "char"), KINDS)
    if kind == "char":
        if args.vocab_size is not None:
            raise MinigptError(
                f"--vocab-size {args.vocab_size} goes with --tokenizer bpe or unigram: a text has its characters"
            )
        return {"tokenizer": "char"}
    size = settings.get("tokenizer_vocab_size", VOCAB_SIZE) if args.vocab_size is None else args.vocab_size
    return {"tokenizer": kind, "tokenizer_vocab_size": whole("vocab_size", size, at_least=1)}


def make_tokenizer(text, settings, saved):
    """The tokenizer of a run on a training text, that of the saved run where there is one."""
    if saved is not None:
        return checkpoint.load_tokenizer(saved)
    from minigpt.tokenizers import BPETokenizer, UnigramTokenizer

    if settings["tokenizer"] == "bpe":
        return BPETokenizer.train(text, settings["tokenizer_vocab_size"])
    # As good as nothing is lost: all spaces stay, what has no piece is its bytes, as BPE has them
    exact = {"extra_ids": 0, "byte_fallback": True, "keep_spaces": True}
    return UnigramTokenizer.train(text, settings["tokenizer_vocab_size"], **exact)


def make_trainer(corpus, settings, args, saved=None):
    """A Trainer for a text, all settings and the parsed arguments, with the tokenizer of a saved
    run where there is one; and why there is no band to compare with, or None.
    """
    train_text, val_text = split(corpus.text)
    own = {name: settings[name] for name in ("tokenizer", "tokenizer_vocab_size") if name in settings}
    if own["tokenizer"] == "char":
        tokenizer = CharTokenizer.from_text(corpus.text)
    else:
        tokenizer = make_tokenizer(train_text, settings, saved)
    kind = np.uint16 if tokenizer.vocab_size <= 65536 else np.uint32
    train_tokens, val_tokens = (tokenizer.encode(text).astype(kind) for text in (train_text, val_text))
    config = TrainConfig(**{key: value for key, value in settings.items() if key in field_names(TrainConfig)})
    model_fields = {key: value for key, value in settings.items() if key in field_names(RecipeGPTConfig)}
    family, model_config = gpt_or_recipe(model_fields | {"vocab_size": tokenizer.vocab_size})
    model = family(model_config, config.seed)
    band, why_no_band = find_band(model.config, config, corpus.sha256, args.preset)
    trainer = Trainer(
        model,
        train_tokens,
        val_tokens,
        config=config,
        out=args.out,
        tokenizer=tokenizer,
        data_sha256=corpus.sha256,
        val_bytes=len(val_text.encode("utf-8")),
        settings=own,
        threads=args.threads,
        say=lambda text: say(visible(text)),
        band=band,
    )
    return trainer, why_no_band
