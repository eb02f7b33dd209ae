"""minigpt pretrain: from text files to a BERT or a RoBERTa, its tokenizer included."""

import dataclasses
import hashlib

from minigpt import checkpoint
from minigpt.cli.options import add_config_options, field_names, folder, given
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
from minigpt.objectives import MaskedLM, NextSentence, baseline_losses
from minigpt.ops.activations import ACTIVATIONS
from minigpt.training import TrainConfig, Trainer
from minigpt.training.presets import PRETRAINING_PRESETS
from minigpt.training.run_files import BEST, LAST, LOSS_CURVE, read_state

# of BERTConfig and RoBERTaConfig: what the family, the tokenizer or the objective says
NOT_OPTIONS = ("vocab_size", "max_position_embeddings", "type_vocab_size", "layer_norm_eps", "pad_token_id")
NOT_OPTIONS += ("head", "num_labels")
# what makes the batches of a run: settings that are saved with it
OBJECTIVE = ("tokenizer_vocab_size", "sequence_length", "mask_rate", "whole_words", "static", "short_length")
OBJECTIVE += ("short_share",)
HEADS = {"bert": "pretraining", "roberta": "masked_lm"}
MASK_EXAMPLE = "To be or not to {}"


def add_to(commands):
    """Add the command to the parser's."""
    command = commands.add_parser(
        "pretrain",
        help="pre-train a BERT or a RoBERTa on text files",
        description="Train a tokenizer and on its pieces a BERT (hidden words and next sentence) or a RoBERTa (hidden "
        f"words), the last tenth of each document held out. {FROM_A_TEXT}",
    )
    add_options(command, out=None)
    command.set_defaults(run=run)


def add_options(command, out):
    """The options of `minigpt pretrain`, for examples/pretrain.py as well; out: the default of
    --out, required where None.
    """
    presets = PRETRAINING_PRESETS["bert"]
    model, objective, training = presets["default"]
    command.add_argument(
        "--family", choices=tuple(PRETRAINING_PRESETS), help="what to train (default: bert, or that of the run resumed)"
    )
    command.add_argument(
        "--data",
        metavar="FILE",
        nargs="+",
        help="UTF-8 text files, a document each (default: the nine plays of tiny Shakespeare, fetched once)",
    )
    add_run_options(command, out=out, presets=presets)
    for name, kind, text in (
        ("tokenizer_vocab_size", int, "pieces of the tokenizer"),
        ("sequence_length", int, "tokens of a row, special ones included"),
        ("short_length", int, "tokens of a row in the first part of the run, in which there are more rows"),
        ("short_share", float, "share of the steps that this part has"),
        ("mask_rate", float, "share of the tokens that is hidden in training; in evaluation it is 0.15"),
    ):
        option = name.removeprefix("tokenizer_").replace("_", "-")
        form = {"type": kind, "metavar": "N" if kind is int else "X"}
        command.add_argument(f"--{option}", help=f"{text} (default: {objective[name]})", **form)
    for name, text in (
        ("whole-words", "hide all pieces of a word together"),
        ("static", "the same masks for a place of the text whenever it is drawn"),
    ):
        command.add_argument(f"--{name}", action="store_true", default=None, help=f"{text} (default: off)")
    config_class = family_of("bert").config_class
    options = {"choices": {"activation": tuple(ACTIVATIONS)}, "leave_out": NOT_OPTIONS}
    add_config_options(command, config_class, defaults=model, **options)
    add_training_options(command, training)


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
    mask = tokenizer.id_to_token(tokenizer.mask_id)
    try_it = command_line(PROGRAM, "fill", "--model", out / BEST, MASK_EXAMPLE.format(mask))
    say(f"\n{visible(trainer.sample(0))}\n")
    say(f"loss curve: {one_line(out / LOSS_CURVE)}; to fill masks: {visible(try_it)}")
    for line in verdict(trainer):
        say(line)
    say(f"validation loss {loss:.4f}")


def verdict(trainer):
    """How the loss of hidden tokens compares with that of predictors without context, and how often
    the model is right about the next sentence -> lines.
    """
    train = getattr(trainer.train_tokens, "tokens", trainer.train_tokens)
    batches = list(trainer.objective.walk(trainer.val_tokens, 32))
    nats = baseline_losses(train, batches, trainer.tokenizer.vocab_size, trainer.tokenizer.special_ids)
    own, unigram, bigram = trainer.measures["masked_lm"], nats["unigram"], nats["bigram"]
    hidden = sum(batch.counts["targets"] for batch in batches)
    yield f"hidden pieces: {own:.4f} nats each, {own / unigram:.3f} of what their frequencies alone give"
    yield (
        f"  (unigram {unigram:.4f}; bigram, the piece before known, {bigram:.4f}, {bigram / unigram:.3f}; "
        f"{hidden:,} held-out pieces)"
    )
    if "next_sentence_accuracy" in trainer.measures:
        pairs, share = sum(batch.rows for batch in batches), trainer.measures["next_sentence_accuracy"]
        yield f"next sentence: right about {share:.1%} of {pairs:,} held-out pairs"


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
        if name not in PRETRAINING_PRESETS:
            raise MinigptError(f"the run in {saved} trains a {name}, `minigpt train` goes on with it")
        settings = dataclasses.asdict(model.config) | dataclasses.asdict(state.config) | state.settings
    if saved is None or args.preset:
        for part in PRETRAINING_PRESETS[name][args.preset or "default"]:
            settings |= part
    settings |= given(args, TrainConfig) | given(args, family_of(name).config_class)
    own = {key: getattr(args, key) for key in OBJECTIVE[1:]} | {"tokenizer_vocab_size": args.vocab_size}
    settings |= {key: value for key, value in own.items() if value is not None}
    settle_shards(settings, args.threads)
    return name, settings


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


def make_tokenizer(name, texts, vocab_size, saved):
    """The tokenizer of a run on training texts, that of the saved run where there is one: WordPiece
    for BERT, byte-level BPE for RoBERTa.
    """
    if saved is not None:
        return checkpoint.load_tokenizer(saved)
    from minigpt.tokenizers import BPETokenizer, WordPieceTokenizer
    from minigpt.tokenizers.bpe_files import ROBERTA

    if name == "bert":
        return WordPieceTokenizer.train("\n".join(texts), vocab_size)
    return BPETokenizer.train("\n".join(texts), vocab_size, ROBERTA)


def make_trainer(name, texts, sha256, settings, args, saved=None):
    """A Trainer for documents and all settings, with the tokenizer of a saved run where there is
    one.
    """
    train_texts, val_texts = split_each(texts)
    tokenizer = make_tokenizer(name, train_texts, settings["tokenizer_vocab_size"], saved)
    train, held_out = (Documents.of(part, tokenizer, lines=name == "bert") for part in (train_texts, val_texts))
    config = TrainConfig(**{key: value for key, value in settings.items() if key in field_names(TrainConfig)})
    options = {key: settings[key] for key in OBJECTIVE[2:] if key in settings}
    kind = NextSentence if name == "bert" else MaskedLM
    objective = kind(tokenizer, settings["sequence_length"], seed=config.seed, **options)
    if kind is MaskedLM:  # whose windows may reach over the end of a document
        train, held_out = train.tokens, held_out.tokens
    family = family_of(name)
    fields = {key: value for key, value in settings.items() if key in field_names(family.config_class)}
    fields |= {"vocab_size": tokenizer.vocab_size, "pad_token_id": tokenizer.pad_id, "head": HEADS[name]}
    unused = 0 if name == "bert" else tokenizer.pad_id + 1  # RoBERTa's first positions
    model = family(family.config_class(**fields | {"max_position_embeddings": objective.length + unused}), config.seed)
    return Trainer(
        model,
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
