"""Dutch number words to English and back: a translation that a small T5 learns wholly, in three
minutes on two cores, its tokenizer included.

    python examples/translate_numbers.py
    python examples/translate_numbers.py --seed 1 --out runs/numbers1
    minigpt translate --model runs/translate_numbers "driehonderd zevenentwintig"

Dutch says the units before the tens, and in one word: zevenentwintig (seven-and-twenty) is
twenty-seven. One model takes both directions; which one is meant is plain from the words. A tenth
of the numbers from 0 to 9,999 is held out, in all directions and spellings alike, and the run ends
with how many of these it translates exactly right, letter by letter.
"""

import argparse
import dataclasses
import sys

import numpy as np

import minigpt
from minigpt import cli
from minigpt.checks import shortened
from minigpt.cli.options import add_config_options, field_names, folder, given
from minigpt.cli.runs import (
    add_run_options,
    add_training_options,
    carry_out,
    check_profile,
    is_resuming,
    settle_shards,
)
from minigpt.cli.terminal import PROGRAM, command_line, say, visible
from minigpt.data import TextPairs
from minigpt.errors import one_line
from minigpt.machine import keep_freed_memory
from minigpt.models.t5 import FEED_FORWARD, T5, T5Config
from minigpt.models.translating import cross_attention, translate
from minigpt.objectives import Pairs
from minigpt.tokenizers import AddedToken, UnigramTokenizer
from minigpt.tokenizers.unigram_files import T5_NORMALIZER, T5_PRE_TOKENIZER, T5_SPECIAL, t5_template
from minigpt.training import TrainConfig, Trainer
from minigpt.training.run_files import BEST, LAST, LOSS_CURVE, read_state

DUTCH = "nul een twee drie vier vijf zes zeven acht negen tien elf twaalf dertien veertien vijftien zestien zeventien"
DUTCH = [*DUTCH.split(), "achttien", "negentien"]
DUTCH_TENS = ["twintig", "dertig", "veertig", "vijftig", "zestig", "zeventig", "tachtig", "negentig"]
ENGLISH = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
ENGLISH = [*ENGLISH.split(), "seventeen", "eighteen", "nineteen"]
ENGLISH_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
NUMBERS = 10_000
HELD_OUT = NUMBERS // 10
LONGEST = 64  # tokens of a text, its end included

MODEL = {"d_model": 64, "d_kv": 32, "d_ff": 128, "num_layers": 2, "num_heads": 2, "relative_attention_max_distance": 32}
TRAINING = {"batch_size": 32, "optimizer": "muon", "lr": 1e-2, "muon_lr": 1e-2, "newton_schulz_steps": 3, "warmup": 50}
TRAINING |= {"schedule": "linear", "final_lr": 0.0}
PRESETS = {
    "quick": (MODEL, TRAINING | {"steps": 600, "eval_interval": 300, "save_interval": 600}),
    "default": (MODEL, TRAINING | {"steps": 3000, "eval_interval": 500, "save_interval": 500}),
}
# of T5Config: what the tokenizer says, and what follows from another field
NOT_OPTIONS = ("vocab_size", "pad_token_id", "eos_token_id", "decoder_start_token_id", "scale_decoder_outputs")


def dutch(n, after_hundred=" "):
    """A number from 0 to 9,999 in Dutch, a space behind honderd and duizend.

    >>> dutch(27), dutch(1022), dutch(327)
    ('zevenentwintig', 'duizend tweeëntwintig', 'driehonderd zevenentwintig')

    The official spelling has none behind honderd:

    >>> dutch(2327, after_hundred="")
    'tweeduizend driehonderdzevenentwintig'
    """
    if n < 20:
        return DUTCH[n]
    if n < 100:
        unit, ten = DUTCH[n % 10], DUTCH_TENS[n // 10 - 2]
        joint = "ën" if unit.endswith("e") else "en"
        return unit + joint + ten if n % 10 else ten
    size, name, space = (1000, "duizend", " ") if n >= 1000 else (100, "honderd", after_hundred)
    count, rest = divmod(n, size)
    many = dutch(count) if count > 1 else ""
    return many + name + (space + dutch(rest, after_hundred) if rest else "")


def english(n):
    """A number from 0 to 9,999 in English, without an "and".

    >>> english(27), english(327), english(1022)
    ('twenty-seven', 'three hundred twenty-seven', 'one thousand twenty-two')
    """
    if n < 20:
        return ENGLISH[n]
    if n < 100:
        unit, ten = ENGLISH[n % 10], ENGLISH_TENS[n // 10 - 2]
        return f"{ten}-{unit}" if n % 10 else ten
    size, name = (1000, "thousand") if n >= 1000 else (100, "hundred")
    count, rest = divmod(n, size)
    return f"{english(count)} {name}" + (f" {english(rest)}" if rest else "")


def split_numbers(seed):
    """A tenth of the numbers held out, drawn with a seed -> numbers to train on, numbers held out.

    0 is always trained on: the word for it occurs in no other number, so that nobody could know it.
    """
    drawn = np.random.default_rng(seed).permutation(np.arange(1, NUMBERS)).tolist()
    return [0, *sorted(drawn[HELD_OUT:])], sorted(drawn[:HELD_OUT])


def official(n):
    """A number in Dutch as it is spelt officially, in one word up to a thousand."""
    return dutch(n, after_hundred="")


DIRECTIONS = {  # name -> what makes the source of a number, and the target
    "Dutch to English": (dutch, english),
    "Dutch in one word to English": (official, english),
    "English to Dutch": (english, dutch),
}


def pairs_of(numbers):
    """Source and target of each number in each direction, each once -> list of pairs of texts."""
    return list(dict.fromkeys((source(n), target(n)) for n in numbers for source, target in DIRECTIONS.values()))


def often(numbers):
    """Numbers as they are drawn: three times as often for each 0 among their four digits, so that
    one with few words is no rarity. With each once, "zeven" or "negenduizend" alone came out wrong
    where "zevenduizend vierhonderd zevenendertig" was right.
    """
    return [n for n in numbers for _ in range(3 ** f"{n:04}".count("0"))]


def make_tokenizer(texts, vocab_size=None):
    """A Unigram tokenizer, trained on texts, or without a size one whose pieces are the words that
    numbers are built of.

    These have equal scores, so that the fewest of them are the best: "zeventien" is one piece,
    "zevenentwintig" is zeven, en, twintig.
    """
    if vocab_size is not None:
        return UnigramTokenizer.train(texts, vocab_size, extra_ids=0)
    begin = [*DUTCH, *DUTCH_TENS, "honderd", "duizend", *ENGLISH, *ENGLISH_TENS, "hundred", "thousand"]
    pieces = [*T5_SPECIAL, *(f"▁{word}" for word in begin), *begin, "en", "ën", "-"]
    return UnigramTokenizer(
        [(piece, -1.0) for piece in dict.fromkeys(pieces)],
        unk_id=T5_SPECIAL.index("<unk>"),
        normalizer={"type": "Sequence", "normalizers": [T5_NORMALIZER, {"type": "Lowercase"}]},
        pre_tokenizer=T5_PRE_TOKENIZER,
        added=[AddedToken(token, i) for i, token in enumerate(T5_SPECIAL)],
        post_processor=t5_template(("</s>", T5_SPECIAL.index("</s>"))),
    )


# The run


def add_options(parser):
    """The options of a run: those of the other examples, and the fields of T5Config."""
    model, training = PRESETS["default"]
    add_run_options(parser, out="runs/translate_numbers", presets=PRESETS)
    text = "train a tokenizer of so many pieces (default: its pieces are the words that numbers are built of)"
    parser.add_argument("--vocab-size", type=int, metavar="N", help=text)
    choices = {"feed_forward_proj": tuple(FEED_FORWARD)}
    add_config_options(parser, T5Config, defaults=model, choices=choices, leave_out=NOT_OPTIONS)
    add_training_options(parser, training)


def run(args):
    """From number words to a model that translates them, and how many of the held-out ones it has
    right -> exit code.
    """
    keep_freed_memory()
    out = folder(args.out, "--out")
    check_profile(args)
    resuming = is_resuming(args, out)
    trainer, held_out = make_trainer(args, out / LAST if resuming else None)
    tokenizer, config = trainer.tokenizer, trainer.config
    example = trainer.objective.show(dutch(327), english(327)).replace("\n", "\n  ")
    introduction = [
        f"numbers: 0 to {NUMBERS - 1:,} in Dutch and in English, {len(held_out):,} of them held out in both directions",
        f"tokenizer: {tokenizer.vocab_size} kinds of piece\n  {example}",
        f"model: t5, {trainer.model.num_parameters:,} parameters; {config.optimizer}, {config.steps:,} steps",
    ]
    loss = carry_out(trainer, args, resuming=resuming, introduction=introduction)
    if loss is None:
        return
    model = minigpt.load(out / BEST)
    report(model, tokenizer, held_out)
    draw(model, tokenizer, held_out, out)
    try_it = command_line(PROGRAM, "translate", "--model", out / BEST, dutch(327))
    say(f"loss curve: {one_line(out / LOSS_CURVE)}; to translate: {visible(try_it)}")
    say(f"validation loss {loss:.4f}")


def make_trainer(args, saved):
    """A Trainer for the options, and the numbers that it holds out; saved: the folder of a run to
    go on with, whose settings hold unless options say otherwise.
    """
    settings = {"tokenizer_vocab_size": None}
    for part in PRESETS[args.preset or "default"]:
        settings |= part
    if saved is not None:
        state = read_state(saved)
        settings |= dataclasses.asdict(minigpt.load(saved).config) | dataclasses.asdict(state.config) | state.settings
    settings |= given(args, TrainConfig) | given(args, T5Config)
    if args.vocab_size is not None:
        settings["tokenizer_vocab_size"] = args.vocab_size
    settle_shards(settings, args.threads)
    config = TrainConfig(**{name: settings[name] for name in field_names(TrainConfig) if name in settings})
    train, held_out = split_numbers(config.seed)
    texts = [text for pair in pairs_of(train) for text in pair]
    tokenizer = make_tokenizer(texts, settings["tokenizer_vocab_size"])
    fields = {name: settings[name] for name in field_names(T5Config) if name in settings}
    fields |= {"vocab_size": tokenizer.vocab_size, "pad_token_id": tokenizer.pad_id, "eos_token_id": tokenizer.eos_id}
    trainer = Trainer(
        T5(T5Config(**fields), config.seed),
        TextPairs.of([pair for n in often(train) for pair in pairs_of([n])], tokenizer),
        TextPairs.of(pairs_of(held_out), tokenizer),
        config=config,
        out=args.out,
        objective=Pairs(tokenizer, LONGEST),
        tokenizer=tokenizer,
        settings={"tokenizer_vocab_size": settings["tokenizer_vocab_size"]},
        threads=args.threads,
        say=lambda text: say(visible(text)),
    )
    return trainer, held_out


def report(model, tokenizer, held_out):
    """Translate all held-out numbers in both directions, and print how many come out right."""
    say(f"exactly right, of {len(held_out):,} numbers that were held out:")
    for name, (source, target) in DIRECTIONS.items():
        written = translate(model, tokenizer, [source(n) for n in held_out], max_new_tokens=LONGEST)
        wrong = [(n, text) for n, text in zip(held_out, written) if text != target(n)]
        right = len(held_out) - len(wrong)
        say(f"  {name:<28} {right:>5,}  {right / len(held_out):.1%}")
        for n, text in wrong[:5]:
            say(f"    {n}, {source(n)}: {shortened(text)}")


def draw(model, tokenizer, held_out, out):
    """Draw what the model looks at as it translates a number that was held out, both ways."""
    from minigpt import plots

    n = next((n for n in held_out if 200 < n < 1000 and n % 100 > 20 and len(set(str(n))) == 3), held_out[0])
    for name, source in (("dutch_english", dutch(n)), ("english_dutch", english(n))):
        (written,) = translate(model, tokenizer, [source], max_new_tokens=LONGEST)
        path = out / f"{name}.png"
        plots.save(plots.cross_attention(*cross_attention(model, tokenizer, source, written)), path)
        say(f"{source} -> {visible(written)}: {one_line(path)}")


def main(argv=None):
    """Train and translate, with defaults that need no options -> exit code."""
    parser = argparse.ArgumentParser(description="Teach a small T5 to translate Dutch number words, and back.")
    add_options(parser)
    return cli.guard(run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
