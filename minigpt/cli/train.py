"""minigpt train: from a text file to a trained model, or to a profile of its steps."""

import dataclasses

import numpy as np

from minigpt.cli.options import add_architecture_options, add_config_options, field_names, folder, given
from minigpt.cli.terminal import PROGRAM, command_line, say, visible
from minigpt.data import read_text, split, tiny_shakespeare
from minigpt.errors import MinigptError, one_line
from minigpt.files import write_atomically
from minigpt.machine import check_threads, keep_freed_memory, usable_threads
from minigpt.models import load
from minigpt.models.recipe_gpt import RecipeGPTConfig, gpt_or_recipe
from minigpt.tokenizers.char import CharTokenizer
from minigpt.training import PRESETS, TrainConfig, Trainer
from minigpt.training.bands import find_band
from minigpt.training.config import CHOICES
from minigpt.training.run_files import (
    BEST,
    LAST,
    LOSS_CURVE,
    PROFILE_CHART,
    PROFILE_FIGURES,
    check_profile_files,
    read_state,
)


def add_to(commands):
    """Add the command to the parser's."""
    command = commands.add_parser(
        "train",
        help="train a GPT on a text file",
        description="Train a GPT on the characters of a text. Ctrl-C and SIGTERM have it finish its step, save, "
        "and end with code 130 or 143; --resume goes on from there. "
        "Where nobody reads what it prints any more, it goes on.",
    )
    add_options(command, out=None)
    command.set_defaults(run=run)


def add_options(command, out):
    """The options of `minigpt train`, for examples/train_shakespeare.py as well; out: the default
    of --out, required where None.
    """
    model, training = PRESETS["default"]
    command.add_argument("--data", metavar="FILE", help="UTF-8 text file (default: tiny Shakespeare, fetched once)")
    command.add_argument(
        "--out",
        metavar="DIR",
        required=out is None,
        default=out,
        help="folder of the run" + ("" if out is None else f" (default: {out})"),
    )
    command.add_argument(
        "--preset", choices=tuple(PRESETS), help="recipe that the options below start from (default: default)"
    )
    command.add_argument("--resume", action="store_true", help="go on with the run in --out (default: start afresh)")
    text = "in place of training, time N steps (20 unless given) by op, print a table, and write profile.png and "
    text += "profile.json to --out (default: train)"
    command.add_argument("--profile", type=int, nargs="?", const=20, metavar="N", help=text)
    most = usable_threads()
    command.add_argument(
        "--threads",
        type=thread_count,
        default="auto",
        metavar="N",
        help=f"threads; auto measures up to {most} (default: auto)",
    )
    add_architecture_options(command, model)
    defaults = training | {"shards": f"--threads, with auto {most}"}
    add_config_options(command, TrainConfig, defaults=defaults, choices=CHOICES)


def thread_count(text):
    """--threads: a whole number, or what it is for check_threads to judge."""
    try:
        return int(text)
    except ValueError:
        return text


def run(args):
    """From parsed arguments to a trained model."""
    keep_freed_memory()
    out = folder(args.out, "--out")
    check_profile(args)
    resuming = args.resume and (out / LAST / "config.json").exists()
    if args.resume and not resuming:
        say(f"--resume: nothing is saved in {one_line(out)} yet, starting afresh")
    settings = run_settings(args, out / LAST if resuming else None)
    corpus = tiny_shakespeare(args.data) if args.data is None else read_text(args.data)
    trainer, why_no_band = make_trainer(corpus, settings, args)
    with trainer.lock:
        if args.profile is not None:
            profile(trainer, args.profile)
            return
        config, model = trainer.config, trainer.model
        if resuming:
            trainer.resume()
            say(f"resuming {one_line(out)} after step {trainer.step} of {config.steps}")
        else:
            trainer.set_aside()
        characters = f"{len(corpus.text):,} characters, {trainer.tokenizer.vocab_size} different"
        say(f"text: {one_line(corpus.source)}, {characters}, SHA-256 {corpus.sha256}")
        say(f"model: {model.num_parameters:,} parameters; {config.optimizer}, {config.steps:,} steps")
        if why_no_band:
            say(why_no_band)
        loss = trainer.run()
    say(f"\n{visible(trainer.sample(500))}\n")
    read_more = command_line(PROGRAM, "generate", "--model", out / BEST)
    say(f"loss curve: {one_line(out / LOSS_CURVE)}; to read more: {visible(read_more)}")
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
        saved_settings = dataclasses.asdict(load(saved).config) | dataclasses.asdict(read_state(saved).config)
        settings = saved_settings | (settings if args.preset else {})
    settings |= given(args, TrainConfig) | given(args, RecipeGPTConfig)
    check_threads(args.threads)
    if "shards" not in settings:
        if args.threads != "auto" and args.threads > settings["batch_size"]:
            rows = f"{settings['batch_size']} rows in a batch (--batch-size)"
            raise MinigptError(f"threads is {args.threads}, there are only {rows} to share out")
        settings["shards"] = min(usable_threads() if args.threads == "auto" else args.threads, settings["batch_size"])
    return settings


def make_trainer(corpus, settings, args):
    """A Trainer for a text, all settings and the parsed arguments; and why there is no band to
    compare with, or None.
    """
    tokenizer = CharTokenizer.from_text(corpus.text)
    train_tokens, val_tokens = split(
        tokenizer.encode(corpus.text).astype(np.uint16 if tokenizer.vocab_size <= 65536 else np.uint32)
    )
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
        threads=args.threads,
        say=lambda text: say(visible(text)),
        band=band,
    )
    return trainer, why_no_band


def check_profile(args):
    """MinigptError for a --profile that can't be done."""
    if args.profile is not None and args.profile < 1:
        raise MinigptError(f"--profile {args.profile}: it must be at least 1 step")
    if args.profile is not None and args.resume:
        raise MinigptError("--profile times the steps of a new model and trains nothing, it does not go with --resume")


def profile(trainer, steps):
    """minigpt train --profile: where the time of a step goes, as a table, a chart and JSON; nothing
    else of the folder is touched.
    """
    from minigpt import plots
    from minigpt.profile import profile_steps

    check_profile_files(trainer.out)
    trainer.choose_threads()
    profile = profile_steps(trainer, steps)
    say(str(profile))
    chart, figures = trainer.out / PROFILE_CHART, trainer.out / PROFILE_FIGURES
    plots.save(plots.profile_chart(profile).figure, chart)
    write_atomically(figures, profile.to_json())
    say(f"chart: {one_line(chart)}; figures: {one_line(figures)}")
