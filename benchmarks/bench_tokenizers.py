"""Byte-level BPE with GPT-2's real vocabulary, WordPiece and Unigram of tiny Shakespeare, and a
real file of sentencepiece's, against `tokenizers` and sentencepiece where they are installed: a
text in one call with a cold cache, distinct random words, one long word, training. Run it with
`python -m benchmarks.bench_tokenizers`.
"""

import gc
import importlib.util
import statistics
import sys

import numpy as np

import minigpt
from benchmarks.common import Target, count, parser, ratio, show, take_turns, timed, write_json
from minigpt import BPETokenizer, UnigramTokenizer, WordPieceTokenizer
from minigpt.cli import guard
from minigpt.data import tiny_shakespeare
from minigpt.data.packages import GPT2_FILES, GPT2_PACKAGE, SPIECE_FILES, SPIECE_PACKAGE, package_files
from minigpt.tokenizers.spiece import SentencePieceTokenizer

MERGES = {1000: 1.5, 8000: 2.0}  # merges learnt -> seconds that they may take
SPECIAL = ("<|endoftext|>",)
PIECES = 8000  # of WordPiece and Unigram
LIMITS = {"Unigram": 2, "Unigram of sentencepiece": 2, "WordPiece": None}  # MB/s
LONG_WORD = "".join(np.random.default_rng(1).choice(list("abcdefghijklmnopqrstuvwxyz"), 100_000))


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
    cold = cold_encode(ours)
    made = {"encode": lambda: cold(text), "random words": lambda: cold(random), "long word": lambda: cold(LONG_WORD)}
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


def cold_encode(tokenizer):
    """A function of a text that encodes it with a cold cache."""

    def encode(text):
        tokenizer._cache.clear()
        tokenizer.encode(text)

    return encode


def piece_sides(text, quick=False):
    """The same for WordPiece and Unigram, trained on the text, and for sentencepiece's file and the
    text that it was trained on -> sides, name -> bytes of the text.
    """
    size = 300 if quick else PIECES
    folder = package_files(SPIECE_PACKAGE, SPIECE_FILES, sdist=True)
    model = folder / "botchan_en_unigram_1000.model"
    tokenizers = {"WordPiece": WordPieceTokenizer.train(text, size)}
    tokenizers["Unigram"] = UnigramTokenizer.train(text, size)
    tokenizers["Unigram of sentencepiece"] = SentencePieceTokenizer.from_file(model)
    texts = dict.fromkeys(tokenizers, text)
    texts["Unigram of sentencepiece"] = (folder / "botchan.txt").read_text(encoding="utf-8-sig")
    cold = {name: cold_encode(tokenizer) for name, tokenizer in tokenizers.items()}
    made = {name: lambda name=name: cold[name](texts[name]) for name in tokenizers}
    made["Unigram, long word"] = lambda: cold["Unigram"](LONG_WORD)
    if importlib.util.find_spec("tokenizers") is not None:
        import tokenizers as library

        for name in ("WordPiece", "Unigram"):
            other = library.Tokenizer.from_str(tokenizers[name].to_json())
            made[f"{name}, tokenizers"] = lambda other=other: (clear(other), other.encode(text))
    if importlib.util.find_spec("sentencepiece") is not None:
        import sentencepiece

        other = sentencepiece.SentencePieceProcessor(model_file=str(model))
        made["Unigram of sentencepiece, sentencepiece"] = lambda: other.encode(texts["Unigram of sentencepiece"])
    return made, {name: len(text.encode()) for name, text in texts.items()}


def clear(tokenizer):
    """Empty the cache of one of `tokenizers`, where it can be."""
    if hasattr(tokenizer.model, "_clear_cache"):
        tokenizer.model._clear_cache()


def measure(turns, quick=False):
    """All libraries in turn -> figures"""
    folder = package_files(GPT2_PACKAGE, GPT2_FILES)
    text, random = tiny_shakespeare().text, random_words(2_000 if quick else 100_000)
    gc.collect()
    made = sides(folder, text, random, quick)
    pieces, sizes = piece_sides(text[:50_000] if quick else text, quick)
    made |= pieces
    seconds = take_turns(made, turns, warm_up=1, pause=0.1)
    load = [timed(lambda: minigpt.load_tokenizer(folder)) for _ in range(3)]
    return {
        "turns": turns,
        "bytes": {"encode": len(text), "random words": len(random)} | sizes,
        "seconds": seconds,
        "load": load,
    }


def rates(figures):
    """MB/s of each side that encodes a text -> dict"""
    found = {}
    for name, seconds in figures["seconds"].items():
        if size := figures["bytes"].get(name.removesuffix(", tokenizers").removesuffix(", sentencepiece")):
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
    found += piece_targets(seconds, rate)
    for merges, limit in MERGES.items():
        if (name := f"train {merges}") in seconds:
            figure = statistics.median(seconds[name])
            found.append(Target(f"BPE, learning {merges:,} merges, seconds", figure, limit, most=True))
    return found


def piece_targets(seconds, rate):
    """Those of WordPiece and Unigram."""
    found = []
    for name, limit in LIMITS.items():
        if name in seconds:
            found.append(Target(f"{name}, encoding with a cold cache, MB/s", rate[name], limit))
        for library in ("tokenizers", "sentencepiece"):
            if (other := f"{name}, {library}") in seconds:
                times = ratio(seconds[name], seconds[other]).median
                found.append(Target(f"{name}, encoding, times the speed of {library}", times))
    if "Unigram, long word" in seconds:
        longest = statistics.median(seconds["Unigram, long word"])
        found.append(Target("Unigram, a word of 100,000 characters, seconds", longest, 1, most=True))
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
        f"every time with an empty cache. Reading the vocabulary takes {load:.0f} ms. WordPiece and Unigram have "
        f"{PIECES:,} pieces of tiny Shakespeare, sentencepiece's file 1,000 of the text that it encodes, botchan.txt."
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
