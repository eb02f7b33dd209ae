"""The command line: minigpt train | generate | gradcheck | eval | info."""

import argparse
import dataclasses
import os
import platform
import sys
from pathlib import Path

import numpy as np

import minigpt
from minigpt import checkpoint
from minigpt.data import read_text, split, tiny_shakespeare
from minigpt.errors import MinigptError
from minigpt.files import write_atomically
from minigpt.gradcheck import LIMIT, check_gradients, errors_by_step
from minigpt.machine import (
    available_cores,
    check_threads,
    describe_settings,
    keep_freed_memory,
    physical_memory,
    readable,
    thread_settings,
    usable_threads,
)
from minigpt.models.gpt import GPT, GPTConfig
from minigpt.ops.activations import ACTIVATIONS
from minigpt.optim import SCHEDULES
from minigpt.sampling import check_sampling
from minigpt.tokenizers.char import CharTokenizer
from minigpt.training import PRESETS, Diverged, Interrupted, TrainConfig, Trainer, Workers, evaluate
from minigpt.training.bands import find_band
from minigpt.training.trainer import check_state

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
PROGRAM = "minigpt"


def main(argv=None):
    """Run the command line on a list of arguments, those of the process unless given -> exit code.

    0 done, 1 diverged or a gradient is wrong, 2 a mistake in the input, 130 stopped with Ctrl-C.
    """
    args = parser().parse_args(argv)
    return guard(args.run, args)


def guard(run, args):
    """Call a command; a user's mistake becomes one line on stderr and an exit code, without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that lacks a character shows a question mark
            stream.reconfigure(errors="replace")
    try:
        return run(args) or 0
    except Diverged as error:
        return complain(error, 1)
    except MinigptError as error:
        return complain(error, 2)
    except BrokenPipeError:  # the reader of our output, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return complain(error, 2)
    except MemoryError as error:
        return complain(f"out of memory: {error}", 2)
    except Interrupted as message:
        print(message, file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        return complain("interrupted", 130)


def complain(message, code):
    """One line on stderr -> the exit code."""
    print(f"{PROGRAM}: {' '.join(str(message).split())}", file=sys.stderr)
    return code


def parser():
    """The argument parser of all commands."""
    top = argparse.ArgumentParser(prog=PROGRAM, description="Transformers in NumPy, every gradient written by hand.")
    top.add_argument("--version", action="version", version=f"{PROGRAM} {minigpt.__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    command = commands.add_parser("train", help="train a GPT on a text file", description="Train a GPT on the characters of a text.")
    add_train_options(command, out=None)
    command.set_defaults(run=train)

    command = commands.add_parser("generate", help="continue a prompt", description="Continue a prompt with a trained model.")
    add_model_option(command)
    command.add_argument("--prompt", metavar="TEXT", default="\n", help="text to continue (default: a new line)")
    command.add_argument("--max-new-tokens", type=int, default=500, metavar="N", help="tokens to write (default: 500)")
    command.add_argument("--temperature", type=float, default=0.8, metavar="X", help="0 is greedy, 1 the model's own odds (default: 0.8)")
    command.add_argument("--top-k", type=int, metavar="K", help="draw from the K likeliest tokens only (default: all)")
    command.add_argument("--top-p", type=float, metavar="P", help="draw from the likeliest tokens that make up P of the probability (default: all)")
    command.add_argument("--seed", type=int, default=0, help="seed of the draws (default: 0)")
    command.set_defaults(run=generate)

    command = commands.add_parser(
        "gradcheck",
        help="check every gradient of a model",
        description="Check every parameter's gradient against a numeric derivative, in float64. Exit code 1 where one is wrong.",
    )
    add_model_option(command, required=False)
    for field, option in MODEL_OPTIONS.items():
        add_field(command, field, option, GRADCHECK_CONFIG.get(field, default_of(GPTConfig, field)))
    choices = (*LIMIT, "both")
    command.add_argument("--method", choices=choices, default="both", help="complex step, central differences, or both side by side (default: both)")
    command.add_argument("--museum", action="store_true", help="plant every bug of the museum and show what catches it (default: check a model)")
    command.add_argument("--plot", metavar="FILE", help="draw error against step size for both methods as a PNG (default: none)")
    command.add_argument("--html", metavar="FILE", help="write table and plot as one self-contained page (default: none)")
    command.add_argument("--seed", type=int, default=0, help="seed of tokens, weights and directions (default: 0)")
    command.set_defaults(run=gradcheck)

    command = commands.add_parser("eval", help="loss of a model on a text", description="Mean loss of a model over consecutive windows of a text.")
    add_model_option(command)
    command.add_argument("--data", metavar="FILE", help="UTF-8 text file (default: tiny Shakespeare)")
    command.add_argument("--split", choices=("validation", "train", "all"), default="validation", help="part of the text (default: validation)")
    command.add_argument("--batch-size", type=int, default=16, metavar="N", help="windows at a time (default: 16)")
    command.set_defaults(run=evaluate_command)

    command = commands.add_parser("info", help="describe a model, or this installation", description="Describe a model, or this installation.")
    add_model_option(command, required=False)
    command.set_defaults(run=info)
    return top


def add_model_option(command, required=True):
    """--model DIR."""
    default = "" if required else " (default: none)"
    command.add_argument("--model", metavar="DIR", required=required, help=f"checkpoint, such as OUT/best, or a folder that holds one{default}")


def add_train_options(command, out):
    """The options of `minigpt train`, for examples/train_shakespeare.py as well; out: the default of --out, required where None."""
    model, training = PRESETS["default"]
    command.add_argument("--data", metavar="FILE", help="UTF-8 text file (default: tiny Shakespeare, fetched once)")
    command.add_argument(
        "--out", metavar="DIR", required=out is None, default=out, help="folder of the run" + ("" if out is None else f" (default: {out})")
    )
    command.add_argument("--preset", choices=tuple(PRESETS), help="recipe that the options below start from (default: default)")
    command.add_argument("--resume", action="store_true", help="go on with the run in --out (default: start afresh)")
    text = "in place of training, time N steps (20 unless given) by op, print a table, write profile.png and profile.json to --out (default: train)"
    command.add_argument("--profile", type=int, nargs="?", const=20, metavar="N", help=text)
    most = usable_threads()
    command.add_argument("--threads", type=thread_count, default="auto", metavar="N", help=f"threads; auto measures up to {most} (default: auto)")
    for field, option in MODEL_OPTIONS.items():
        add_field(command, field, option, model.get(field, default_of(GPTConfig, field)))
    for field, option in TRAIN_OPTIONS.items():
        default = f"--threads, with auto {most}" if field == "shards" else training.get(field, default_of(TrainConfig, field))
        add_field(command, field, option, default)


def add_field(command, field, option, default):
    """One option for one field of a config; left out of the arguments where it is not given, so that a preset or a saved run shows through."""
    kind, text, *choices = option
    if kind is bool:
        form = {"action": argparse.BooleanOptionalAction}
    else:
        form = {"type": kind, "choices": choices[0] if choices else None, "metavar": None if choices else "N" if kind is int else "X"}
    command.add_argument("--" + field.replace("_", "-"), default=argparse.SUPPRESS, help=f"{text} (default: {default})", **form)


def default_of(config_class, field):
    """The default value of a dataclass field."""
    return next(f.default for f in dataclasses.fields(config_class) if f.name == field)


def train(args):
    """minigpt train: from a text file to a trained model."""
    keep_freed_memory()
    out = Path(args.out)
    check_profile(args)
    resuming = args.resume and (out / "last" / "config.json").exists()
    if args.resume and not resuming:
        print(f"--resume: nothing is saved in {out} yet, starting afresh")
    settings = run_settings(args, out / "last" if resuming else None)
    check_threads(args.threads)
    if "shards" not in settings:
        if args.threads != "auto" and args.threads > settings["batch_size"]:
            raise MinigptError(f"threads is {args.threads}, there are only {settings['batch_size']} rows in a batch (--batch-size) to share out")
        settings["shards"] = min(usable_threads() if args.threads == "auto" else args.threads, settings["batch_size"])

    corpus = tiny_shakespeare(args.data) if args.data is None else read_text(args.data)
    tokenizer = CharTokenizer.from_text(corpus.text)
    train_tokens, val_tokens = split(tokenizer.encode(corpus.text).astype(np.uint16 if tokenizer.vocab_size <= 65536 else np.uint32))

    config = TrainConfig(**{key: value for key, value in settings.items() if key in field_names(TrainConfig)})
    model_fields = {key: value for key, value in settings.items() if key in field_names(GPTConfig)}
    model = GPT(GPTConfig(**model_fields | {"vocab_size": tokenizer.vocab_size}), config.seed)
    band, why_no_band = find_band(model.config, config, corpus.sha256, args.preset)
    trainer = Trainer(model, train_tokens, val_tokens, config, out, tokenizer, corpus.sha256, args.threads, band=band)
    if args.profile is not None:
        profile(trainer, args.profile)
        return
    if resuming:
        trainer.resume()
        print(f"resuming {out} after step {trainer.step} of {config.steps}")
    else:
        set_aside(out)
    print(f"text: {corpus.source}, {len(corpus.text):,} characters, {tokenizer.vocab_size} different, SHA-256 {corpus.sha256}")
    print(f"model: {model.num_parameters:,} parameters; {config.optimizer}, {config.steps:,} steps")
    if why_no_band:
        print(why_no_band)
    loss = trainer.run()
    print(f"\n{trainer.sample(500)}\n")
    print(f"loss curve: {out / 'loss.png'}; to read more: {PROGRAM} generate --model {out / 'best'}")
    if verdict := trainer.judge():
        print(f"the loss is {verdict}")
    print(f"validation loss {loss:.4f}")


def check_profile(args):
    """MinigptError for a --profile that can't be done."""
    if args.profile is not None and args.profile < 1:
        raise MinigptError(f"--profile {args.profile}: it must be at least 1 step")
    if args.profile is not None and args.resume:
        raise MinigptError("--profile times the steps of a new model and trains nothing, it does not go with --resume")


def profile(trainer, steps):
    """minigpt train --profile: where the time of a step goes, as a table, a chart and JSON; nothing else of the folder is touched."""
    from minigpt import plots
    from minigpt.profile import profile_steps

    trainer.out.mkdir(parents=True, exist_ok=True)
    trainer.choose_threads()
    profile = profile_steps(trainer, steps)
    print(profile)
    plots.save(plots.profile_chart(profile).figure, trainer.out / "profile.png")
    write_atomically(trainer.out / "profile.json", profile.to_json())
    print(f"chart: {trainer.out / 'profile.png'}; figures: {trainer.out / 'profile.json'}")


def run_settings(args, saved):
    """All settings of a run: those of the saved run or of the preset, and over them those given on the command line. -> dict"""
    model, training = PRESETS[args.preset or "default"]
    settings = model | training
    if saved is not None:
        values = checkpoint.load_state_values(saved)
        check_state(values, saved)
        saved_settings = dataclasses.asdict(checkpoint.load(saved).config) | values["config"]
        settings = saved_settings | (settings if args.preset else {})
    return settings | {key: value for key, value in vars(args).items() if key in MODEL_OPTIONS | TRAIN_OPTIONS}


def thread_count(text):
    """--threads: a whole number, or what it is for check_threads to judge."""
    try:
        return int(text)
    except ValueError:
        return text


def field_names(config_class):
    """Names of a dataclass's fields."""
    return [field.name for field in dataclasses.fields(config_class)]


def set_aside(out):
    """Rename the folder of an earlier run, so that a new one overwrites nothing."""
    if (out / "last").exists() or (out / "metrics.jsonl").exists():
        number = 1
        while (aside := out.with_name(f"{out.name}.{number}")).exists():
            number += 1
        out.rename(aside)
        print(f"{out} held an earlier run, which is in {aside} now (--resume would have gone on with it)")


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
    model, tokenizer = checkpoint.load(directory), checkpoint.load_tokenizer(directory)
    if tokenizer is None:
        raise MinigptError(f"{directory}: there is no tokenizer.json")
    if tokenizer.vocab_size != model.config.vocab_size:
        raise MinigptError(f"{directory}: the tokenizer has {tokenizer.vocab_size} tokens, the model {model.config.vocab_size}")
    return model, tokenizer


def generate(args):
    """minigpt generate: stream a continuation to the terminal."""
    check_sampling(args.temperature, args.top_k, args.top_p, args.max_new_tokens)
    if args.seed < 0:
        raise MinigptError(f"seed is {args.seed}, it must be at least 0")
    model, tokenizer = load_with_tokenizer(args.model)
    if not args.prompt:
        raise MinigptError("the prompt is empty, it must have at least 1 character")
    ids = tokenizer.encode(args.prompt)[None]
    print(args.prompt, end="", flush=True)
    for new in model.stream(ids, args.max_new_tokens, args.temperature, args.top_k, args.top_p, seed=args.seed):
        print(tokenizer.decode(new), end="", flush=True)
    print()


GRADCHECK_CONFIG = {"n_layer": 2, "n_head": 3, "n_embd": 12, "block_size": 8, "dropout": 0.1, "activation": "gelu_tanh", "positions": "learned"}


def gradcheck(args):
    """minigpt gradcheck: a table of errors, for a saved model or for one of O(1) random weights."""
    if args.museum:
        from minigpt import museum

        rows = museum.run(progress=bar)
        print(museum.table(rows))
        return 0 if all(row.caught for row in rows) else 1
    rng = np.random.default_rng(args.seed)
    given = {key: value for key, value in vars(args).items() if key in MODEL_OPTIONS}
    if args.model:
        if given:
            raise MinigptError(f"--{next(iter(given)).replace('_', '-')} goes with a new model, --model {args.model} has its own config")
        model = checkpoint.load(find_model(args.model)).astype(np.float64)
    else:
        model = GPT(GPTConfig(vocab_size=17, **GRADCHECK_CONFIG | given), dtype=np.float64)
        model.store.vector[:] = rng.standard_normal(model.num_parameters)  # small weights would hide wrong gradients
    config = model.config
    ids, targets = rng.integers(0, config.vocab_size, (2, 2, min(config.block_size, 16)))
    report = check_gradients(model, ids, targets, args.method, args.seed, dropout_seed=args.seed, progress=bar)
    print(report)
    if args.plot or args.html:
        from minigpt import plots
        from minigpt.pages.gradcheck import write_html

        figure = plots.step_errors(*errors_by_step(model, ids, targets, args.seed)).figure
        if args.plot:
            plots.save(figure, args.plot)
        if args.html:
            write_html(args.html, report, f"Gradients of {find_model(args.model) if args.model else 'a random GPT'}", plots.png(figure))
    return 0 if report.passed else 1


def bar(names):
    """A progress bar over names, on a terminal."""
    from tqdm import tqdm

    return tqdm(names, desc="checking", disable=None, leave=False)


def evaluate_command(args):
    """minigpt eval: the mean loss of a model on a text."""
    if args.batch_size < 1:
        raise MinigptError(f"batch_size is {args.batch_size}, it must be at least 1")
    model, tokenizer = load_with_tokenizer(args.model)
    corpus = tiny_shakespeare() if args.data is None else read_text(args.data)
    tokens = tokenizer.encode(corpus.text)
    train_tokens, val_tokens = split(tokens)
    tokens = {"validation": val_tokens, "train": train_tokens, "all": tokens}[args.split]
    keep_freed_memory()
    workers = Workers()
    loss = evaluate(model, tokens, -(-args.batch_size // workers.threads), workers)
    print(f"text: {corpus.source}, SHA-256 {corpus.sha256}")
    print(f"{args.split} loss {loss:.4f}")


def info(args):
    """minigpt info: a model's config and parameters, or what this installation stands on."""
    if args.model:
        directory = find_model(args.model)
        model = checkpoint.load(directory)
        for field, value in dataclasses.asdict(model.config).items():
            print(f"{field:<16} {value}")
        print(f"{'parameters':<16} {model.num_parameters:,} of {model.dtype}, {readable(model.store.vector.nbytes)}\n")
        width = max(map(len, model.parameters))
        for name, value in model.parameters.items():
            print(f"{name:<{width}}  {'x'.join(map(str, value.shape)):<12} standard deviation {value.std():.4f}")
        return
    from threadpoolctl import threadpool_info

    memory = physical_memory()
    print(f"minigpt {minigpt.__version__}, Python {platform.python_version()}, NumPy {np.__version__}, {platform.platform()}")
    print(f"{available_cores()} cores, {readable(memory) if memory else 'unknown'} of memory")
    if settings := thread_settings():
        print(f"threads: at most {usable_threads()} unless --threads says otherwise (environment: {describe_settings(settings)})")
    for library in threadpool_info():
        print(f"{library['user_api']}: {library['internal_api']} {library['version']}, {library['num_threads']} threads")
