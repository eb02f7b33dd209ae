"""Training a Unigram tokenizer on tiny Shakespeare, against sentencepiece and `tokenizers` where
they are installed: seconds in turn, and how many tokens the held-out tenth of each play has with
the pieces of each. Run it with `python -m benchmarks.bench_unigram`.

Each gets the same text, cut at white space, and makes as many pieces; all run on one thread. The
tokens are counted by one Viterbi for all.
"""

import importlib.util
import io
import json
import os
import statistics
import sys
from collections import Counter

from benchmarks.common import Target, count, parser, show, timed, write_json
from minigpt.cli import guard
from minigpt.data import plays, split_each, tiny_shakespeare
from minigpt.tokenizers import unigram, viterbi
from minigpt.tokenizers.unigram_training import train_pieces

SECONDS = {500: 5.0, 1000: 5.0, 8000: 10.0}  # pieces -> seconds that training may take
MORE = 1.02  # tokens of held-out text, against those of the others


def words_of(text):
    """word -> how often it occurs, cut at white space, "▁" in front."""
    return Counter("▁" + word for word in text.split())


def ours(text, size):
    """[(piece, score)] of this library."""
    return train_pieces(words_of(text), size)


def sentencepiece(text, size):
    """Those of sentencepiece, whose three special tokens are beside them."""
    import sentencepiece as library

    written = io.BytesIO()
    library.SentencePieceTrainer.train(
        sentence_iterator=iter(text.splitlines()),
        model_writer=written,
        vocab_size=size + 3,
        character_coverage=1.0,
        model_type="unigram",
        normalization_rule_name="identity",
        num_threads=1,
        minloglevel=2,
    )
    model = library.SentencePieceProcessor(model_proto=written.getvalue())
    return [(model.id_to_piece(i), model.get_score(i)) for i in range(3, model.get_piece_size())]


def tokenizers(text, size):
    """Those of `tokenizers`, whose unknown token is beside them."""
    import tokenizers as library

    made, cut = library.Tokenizer(library.models.Unigram()), library.pre_tokenizers
    made.pre_tokenizer = cut.Sequence([cut.WhitespaceSplit(), cut.Metaspace()])
    trainer = library.trainers.UnigramTrainer(
        vocab_size=size + 1, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(text.splitlines(), trainer)
    return [(piece, score) for piece, score in json.loads(made.to_str())["model"]["vocab"] if piece != "<unk>"]


def tokens(pieces, words):
    """How many pieces words are written with; words: word -> how often."""
    best = viterbi.table(dict(pieces), min(score for _, score in pieces) - unigram.UNKNOWN_PENALTY)
    return sum(times * len(viterbi.best_cut(word, best).ends) for word, times in words.items())


def measure(turns, sizes):
    """All libraries that are there, in turn -> figures"""
    sides = {"minigpt": ours}
    for side in (sentencepiece, tokenizers):
        if importlib.util.find_spec(side.__name__) is not None:
            sides[side.__name__] = side
        else:
            print(f"{side.__name__} is not installed (extra `parity`): leaving it out")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one thread
    text, held_out = ("\n".join(parts) for parts in split_each(plays(tiny_shakespeare().text)))
    words = words_of(held_out)
    seconds = {str(size): {name: [] for name in sides} for size in sizes}
    found = {str(size): {} for size in sizes}
    for _ in range(turns):
        for size in sizes:
            for name, side in sides.items():
                pieces = []
                seconds[str(size)][name].append(
                    timed(lambda side=side, size=size, to=pieces: to.extend(side(text, size)))
                )
                found[str(size)][name] = {"pieces": len(pieces), "tokens": tokens(pieces, words)}
    return {"turns": turns, "bytes": len(text.encode()), "seconds": seconds, "found": found}


def targets(figures):
    """The figures that limits were set for -> list of Target"""
    made = []
    for size, seconds in figures["seconds"].items():
        what = f"Unigram, {int(size):,} pieces of tiny Shakespeare"
        limit, found = SECONDS.get(int(size)), figures["found"][size]
        made.append(Target(f"{what}, seconds", statistics.median(seconds["minigpt"]), limit, most=True))
        for name in [name for name in seconds if name != "minigpt"]:
            share = found["minigpt"]["tokens"] / found[name]["tokens"]
            made.append(
                Target(f"{what}, tokens of held-out text, times those of {name}", share, MORE, most=True, form="{:.3f}")
            )
    return made


def table(figures):
    """A row a size and library -> columns, rows"""
    rows = [
        (
            f"{int(size):,}",
            name,
            f"{statistics.median(values):.2f}",
            f"{min(values):.2f}",
            f"{figures['found'][size][name]['tokens']:,}",
        )
        for size, seconds in figures["seconds"].items()
        for name, values in seconds.items()
    ]
    return ("pieces", "library", "seconds, median", "least", "held-out tokens"), rows


def describe(figures):
    """What was measured, in a sentence."""
    return (
        f"Nine tenths of each play of tiny Shakespeare, {figures['bytes'] / 1e6:.1f} MB, cut at white space; the other "
        f"tenths are written with the pieces. {figures['turns']} turns, one thread each."
    )


def main(argv=None):
    """Print the figures and, with --json, write them -> exit code."""
    made = parser(__doc__)
    made.add_argument("--turns", type=count, default=3, metavar="N", help="turns a side (default: 3)")
    made.add_argument(
        "--sizes", type=count, nargs="+", default=list(SECONDS), metavar="N",
        help=f"pieces (default: {' '.join(map(str, SECONDS))})",
    )  # fmt: skip
    args = made.parse_args(argv)
    figures = measure(args.turns, args.sizes)
    print(describe(figures))
    show(targets(figures), table(figures))
    write_json(args.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(guard(main, None))
