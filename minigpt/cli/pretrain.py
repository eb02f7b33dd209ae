"""minigpt pretrain: from text files to a BERT, a RoBERTa or a T5, its tokenizer included."""

import argparse
import dataclasses
import hashlib

from minigpt import checkpoint
from minigpt.cli.options import add_config_options, field_names, folder, given
from minigpt.cli.pretrain_families import FAMILIES
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
from minigpt.data import Documents, plays, read_text, split_each, tiny_shakespeare
from minigpt.errors import MinigptError, one_line
from minigpt.machine import keep_freed_memory
from minigpt.models import family as family_of
from minigpt.models import load
from minigpt.training import TrainConfig, Trainer
from minigpt.training.presets import PRETRAINING_PRESETS
from minigpt.training.run_files import BEST, LAST, LOSS_CURVE, read_state

# what makes the batches of a run, settings that are saved with it: option, type, help
OBJECTIVE = (
    ("vocab-size", int, "pieces of the tokenizer, special ones included"),
    ("sequence-length", int, "tokens of a row; of a BERT or RoBERTa special ones included"),
    ("mask-rate", float, "share of the tokens that is hidden in training; in evaluation it is 0.15"),
    ("mean-span", float, "tokens of a hidden span in the mean, in training; in evaluation it is 3"),
    ("short-length", int, "tokens of a row in the first part of the run, in which there are more rows"),
    ("short-share", float, "share of the steps that this part has"),
)
SWITCHES = (
    ("whole-words", "hide all pieces of a word together"),
    ("static", "the same masks for a place of the text whenever it is drawn"),
)
OBJECTIVE_OPTIONS = [option for option, *_ in (*OBJECTIVE, *SWITCHES)] + ["varied"]


def add_to(commands):
    """Add the command to the parser's."""
    command = commands.add_parser(
        "pretrain",
        help="pre-train a BERT, a RoBERTa or a T5 on text files",
        description="Train a tokenizer and on its pieces a BERT (hidden words and next sentence), a RoBERTa (hidden "
        f"words) or a T5 (hidden spans), the last tenth of each document held out. {FROM_A_TEXT}",
    )
    add_options(command, out=None)
    command.set_defaults(run=run)


def add_options(command, out):
    """The options of `minigpt pretrain`, for examples/pretrain.py as well; out: the default of
    --out, required where None.
    """
    command.add_argument(
        "--family", choices=tuple(FAMILIES), help="what to train (default: bert, or that of the run resumed)"
    )
    command.add_argument(
        "--data",
        metavar="FILE",
        nargs="+",
        help="UTF-8 text files, a document each (default: the nine plays of tiny Shakespeare, fetched once)",
    )
    add_run_options(command, out=out, presets=PRETRAINING_PRESETS["bert"])
    defaults = {}
    for name in ("t5", "bert"):
        for part in PRETRAINING_PRESETS[name]["default"]:
            for key, value in part.items():
                other = defaults.get(key, value)
                defaults[key] = value if other == value else f"{value}; of a t5 {other}"
    groups = {
        "bert": command.add_argument_group("of a BERT or RoBERTa, the last two of a T5 as well"),
        "t5": command.add_argument_group("of a T5"),
    }

    def place(option):
        """The options of one family stand together."""
        owners = [name for name in groups if setting_of(option) in FAMILIES[name].options]
        return groups[owners[0]] if len(owners) == 1 else command

    for option, kind, text in OBJECTIVE:
        form = {"type": kind, "metavar": "N" if kind is int else "X"}
        place(option).add_argument(f"--{option}", help=f"{text} (default: {defaults[setting_of(option)]})", **form)
    for option, text in SWITCHES:
        place(option).add_argument(f"--{option}", action="store_true", default=None, help=f"{text} (default: off)")
    text = f"hide another share of each row, up to twice the mask rate (default: {defaults['varied']})"
    place("varied").add_argument("--varied", action=argparse.BooleanOptionalAction, default=None, help=text)
    added = set()
    for name, group in groups.items():
        family, config_class = FAMILIES[name], family_of(name).config_class
        options = {"choices": family.choices, "leave_out": {*family.fixed, *added}}
        add_config_options(group, config_class, defaults=defaults, **options)
        added |= set(field_names(config_class))
    add_training_options(command, defaults)


def setting_of(option):
    """The name under which a run keeps an option: vocab-size is a model's setting as well."""
    return "tokenizer_vocab_size" if option == "vocab-size" else option.replace("-", "_")


def run(args):
    """From parsed arguments to a pre-trained model, and how it compares with what knows no
    context.
    """
    keep_freed_memory()
    out = folder(args.out, "--out")
    check_profile(args)
    resuming = is_resuming(args, out)
    saved = out / LAST if resuming else None
    name, settings = run_settings(args, saved)
    texts, source, sha256 = read_documents(args.data)
    trainer = make_trainer(name, texts, sha256, settings, args, saved)
    config, model, tokenizer = trainer.config, trainer.model, trainer.tokenizer
    sizes = f"{sum(map(len, texts)):,} characters in {len(texts)} document{'s' * (len(texts) > 1)}"
    tokens = f"{len(trainer.train_tokens):,} pieces to train on, {len(trainer.val_tokens):,} held out"
    introduction = [
        f"text: {one_line(source)}, {sizes}, SHA-256 {sha256}",
        f"tokenizer: {tokenizer.vocab_size:,} kinds of piece; {tokens}",
        f"model: {name}, {model.num_parameters:,} parameters; {config.optimizer}, {config.steps:,} steps",
    ]
    loss = carry_out(trainer, args, resuming=resuming, introduction=introduction)
    if loss is None:
        return
    gap = tokenizer.mask_id if tokenizer.mask_id is not None else tokenizer.sentinel_ids[0]
    example = FAMILIES[name].example.format(tokenizer.id_to_token(int(gap)))
    try_it = command_line(PROGRAM, "fill", "--model", out / BEST, example)
    say(f"\n{visible(trainer.sample(0))}\n")
    say(f"loss curve: {one_line(out / LOSS_CURVE)}; to fill gaps: {visible(try_it)}")
    for line in FAMILIES[name].verdict(trainer):
        say(line)
    say(f"validation loss {loss:.4f}")


def run_settings(args, saved):
    """The family and all settings of a run: those of the saved run or of the preset, and over them
    those given on the command line. -> name, dict
    """
    settings, name = {}, args.family or "bert"
    if saved is not None:
        model, state = load(saved), read_state(saved)
        if args.family not in (None, model.model_type):
            raise MinigptError(f"family is {args.family}, the run in {saved} was started with {model.model_type}")
        name = model.model_type
        if name not in FAMILIES:
            raise MinigptError(f"the run in {saved} trains a {name}, `minigpt train` goes on with it")
        settings = dataclasses.asdict(model.config) | dataclasses.asdict(state.config) | state.settings
    if saved is None or args.preset:
        for part in PRETRAINING_PRESETS[name][args.preset or "default"]:
            settings |= part
    check_given(name, args)
    settings |= given(args, TrainConfig) | given(args, family_of(name).config_class)
    own = {setting_of(option): getattr(args, option.replace("-", "_")) for option in OBJECTIVE_OPTIONS}
    settings |= {key: value for key, value in own.items() if value is not None}
    settle_shards(settings, args.threads)
    return name, settings


def check_given(name, args):
    """MinigptError for an option of another family."""
    own = {"vocab_size", "sequence_length", *FAMILIES[name].options, *field_names(family_of(name).config_class)}
    of_a_family = {option.replace("-", "_") for option in OBJECTIVE_OPTIONS}
    of_a_family.update(*(field_names(family_of(other).config_class) for other in FAMILIES))
    for key, value in vars(args).items():
        if value is not None and key in of_a_family - own:
            shown = "" if isinstance(value, bool) else f" {value}"
            raise MinigptError(f"--{key.replace('_', '-')}{shown}: a {name} has no such setting")


def read_documents(paths):
    """The documents to train on -> list of str, where they came from, their SHA-256. A single text
    may be the nine plays of tiny Shakespeare.
    """
    if paths is None or len(paths) == 1:
        corpus = tiny_shakespeare() if paths is None else read_text(paths[0])
        return plays(corpus.text), corpus.source, corpus.sha256
    corpora = [read_text(path) for path in paths]
    sha256 = hashlib.sha256("".join(corpus.sha256 for corpus in corpora).encode("ascii")).hexdigest()
    return [corpus.text for corpus in corpora], ", ".join(corpus.source for corpus in corpora), sha256


def make_trainer(name, texts, sha256, settings, args, saved=None):
    """A Trainer for documents and all settings, with the tokenizer of a saved run where there is
    one.
    """
    family, kind = FAMILIES[name], family_of(name)
    parts = split_each(texts)
    tokenizer = family.train_tokenizer(parts[0], settings) if saved is None else checkpoint.load_tokenizer(saved)
    train, held_out = (Documents.of(part, tokenizer, lines=family.lines) for part in parts)
    if not family.documents:  # its windows may reach over the end of a document
        train, held_out = train.tokens, held_out.tokens
    config = TrainConfig(**{key: value for key, value in settings.items() if key in field_names(TrainConfig)})
    options = {key: settings[key] for key in family.options if key in settings}
    if "static" in family.options:  # whose masks come from the seed
        options["seed"] = config.seed
    objective = family.objective(tokenizer, settings["sequence_length"], **options)
    fields = {key: value for key, value in settings.items() if key in field_names(kind.config_class)}
    fields |= {"vocab_size": tokenizer.vocab_size} | family.fields(tokenizer, objective)
    return Trainer(
        kind(kind.config_class(**fields), config.seed),
        train,
        held_out,
        config=config,
        out=args.out,
        objective=objective,
        tokenizer=tokenizer,
        data_sha256=sha256,
        settings={"tokenizer_vocab_size": settings["tokenizer_vocab_size"]},
        threads=args.threads,
        say=lambda text: say(visible(text)),
    )
