"""Byte-level BPE with GPT-2's real vocabulary, against `tokenizers` where it is installed: tiny
Shakespeare in one call with a cold cache, distinct random words, one long word, training. Run it
with `python -m benchmarks.bench_tokenizers`.
"""

import gc
import importlib.util
import statistics
import sys

import numpy as np

import minigpt
from benchmarks.common import Target, count, parser, ratio, show, take_turns, timed, write_json
from minigpt import BPETokenizer
from minigpt.cli import guard
from minigpt.data import tiny_shakespeare
from minigpt.data.packages import GPT2_FILES, GPT2_PACKAGE, package_files

MERGES = {1000: 1.5, 8000: 2.0}  # merges learnt -> seconds that they may take
SPECIAL = ("<|endoftext|>",)


def random_words(size, seed=0):
    """A text of `size` words that are all different, of 3 to 11 letters each."""
    rng, words = np.random.default_rng(seed), set()
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    while len(words) < size:
        words.add("".join(rng.choice(letters, rng.integers(3, 12))))
    return " ".join(rng.permutation(sorted(words)))


def sides(folder, text, random, quick=False):
    """name -> what is timed: encoding by both libraries, each with a cold cache, and training."""
    ours = minigpt.load_tokenizer(folder)
    long_word = "".join(np.random.default_rng(1).choice(list("abcdefghijklmnopqrstuvwxyz"), 100_000))

    def cold(words):
        ours._cache = {}
        ours.encode(words)

    made = {"encode": lambda: cold(text), "random words": lambda: cold(random), "long word": lambda: cold(long_word)}
    for merges in () if quick else MERGES:
        made[f"train {merges}"] = lambda merges=merges: BPETokenizer.train(text, 256 + len(SPECIAL) + merges, SPECIAL)
    if importlib.util.find_spec("tokenizers") is None:
        print("tokenizers is not installed (extra `parity`): measuring this library alone")
        return made
    import tokenizers

    theirs = tokenizers.Tokenizer(tokenizers.models.BPE(ours.model_vocab, ours.merges))
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)

    def cold_theirs(words):
        theirs.model._clear_cache()
        theirs.encode(words)

    return made | {
        "encode, tokenizers": lambda: cold_theirs(text),
        "random words, tokenizers": lambda: cold_theirs(random),
    }


def measure(turns, quick=False):
    """Both libraries in turn -> figures"""
    folder = package_files(GPT2_PACKAGE, GPT2_FILES)
    text, random = tiny_shakespeare().text, random_words(2_000 if quick else 100_000)
    gc.collect()
    made = sides(folder, text, random, quick)
    seconds = take_turns(made, turns, warm_up=1, pause=0.1)
    load = [timed(lambda: minigpt.load_tokenizer(folder)) for _ in range(3)]
    return {
        "turns": turns,
        "bytes": {"encode": len(text), "random words": len(random)},
        "seconds": seconds,
        "load": load,
    }


def rates(figures):
    """MB/s of each side that encodes a text -> dict"""
    found = {}
    for name, seconds in figures["seconds"].items():
        if size := figures["bytes"].get(name.removesuffix(", tokenizers")):
            found[name] = size / 1e6 / statistics.median(seconds)
    return found


def targets(figures):
    """The figures that limits were set for -> list of Target"""
    rate, seconds = rates(figures), figures["seconds"]
    found = [
        Target("BPE, encoding tiny Shakespeare with a cold cache, MB/s", rate["encode"], 4),
        Target("BPE, encoding distinct random words, MB/s", rate["random words"], 0.3),
        Target("BPE, a word of 100,000 characters, seconds", statistics.median(seconds["long word"]), 1, most=True),
    ]
    if "encode, tokenizers" in seconds:
        times = ratio(seconds["encode"], seconds["encode, tokenizers"]).median
        found.insert(1, Target("BPE, encoding tiny Shakespeare, times the speed of tokenizers", times, 1))
    for merges, limit in MERGES.items():
        if (name := f"train {merges}") in seconds:
            figure = statistics.median(seconds[name])
            found.append(Target(f"BPE, learning {merges:,} merges, seconds", figure, limit, most=True))
    return found


def table(figures):
    """A row a task and library -> columns, rows"""
    rate = rates(figures)
    rows = [
        (name, f"{1e3 * statistics.median(values):.0f}", f"{1e3 * min(values):.0f}", f"{rate.get(name, 0):.2f}"[:5])
        for name, values in figures["seconds"].items()
    ]
    return ("task", "ms, median", "least", "MB/s"), [(*row[:3], row[3] if row[0] in rate else "") for row in rows]


def describe(figures):
    """What was measured, in a sentence."""
    load = 1e3 * statistics.median(figures["load"])
    return (
        f"GPT-2's vocabulary of 50,257 tokens, {figures['turns']} turns, tiny Shakespeare in one call of `encode`, "
        f"every time with an empty cache. Reading the vocabulary takes {load:.0f} ms."
    )


def main(argv=None):
    """Print the figures and, with --json, write them -> exit code."""
    made = parser(__doc__)
    made.add_argument("--turns", type=count, default=11, metavar="N", help="turns a side (default: 11)")
    made.add_argument("--quick", action="store_true", help="few words and no training, for a smoke run (default: all)")
    args = made.parse_args(argv)
    figures = measure(args.turns, args.quick)
    print(describe(figures))
    show(targets(figures), table(figures))
    write_json(args.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(guard(main, None))
