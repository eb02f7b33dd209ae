"""Decoding: tokens a second with a KV cache, against `generate` of transformers' GPT2LMHeadModel on
the same weights, in turn in one process.

    python -m benchmarks.bench_generate               (needs the `parity` extra for transformers' side)
    python -m benchmarks.bench_generate --size gpt2

Greedy on both sides, all cores, random weights. At size `gpt2` the bound is printed as well: memory
bandwidth over bytes of weights, since each token reads all of them once. The bandwidth is measured
before each turn, and compared with that turn.
"""

import statistics
import sys
import tempfile
import time
import tracemalloc

import numpy as np

from benchmarks import common
from minigpt import GPT, GPTConfig, to_huggingface
from minigpt.cli import guard

SIZES = {  # vocab_size, block_size, n_layer, n_head, n_embd; new tokens a turn; tokens of the long prompt
    "small": (GPTConfig(65, 256, 4, 4, 128), 200, 200),
    "gpt2": (GPTConfig(50257, 1024, 12, 12, 768), 48, 512),
}


def transformers_generate(model, new):
    """A function of ids (B, T) that continues them by `new` tokens with transformers: ids of the
    same shape as ours.
    """
    import torch
    from transformers import GPT2LMHeadModel

    torch.set_num_threads(common.available_cores())
    with tempfile.TemporaryDirectory() as directory:
        to_huggingface(model, directory)
        theirs = GPT2LMHeadModel.from_pretrained(directory).eval()
    theirs.generation_config.eos_token_id = None

    def generate(ids, new=new):
        ids = torch.as_tensor(ids)
        with torch.inference_mode():
            settings = {
                "do_sample": False,
                "use_cache": True,
                "pad_token_id": 0,
                "max_new_tokens": new,
                "min_new_tokens": new,
            }
            return theirs.generate(ids, attention_mask=torch.ones_like(ids), **settings).numpy()

    return generate


def seconds_by_token(model, new):
    """Seconds of each new token after a prompt of one."""
    seconds, start = [], time.perf_counter()
    for _ in model.stream([[1]], new, temperature=0):
        now = time.perf_counter()
        seconds.append(now - start)
        start = now
    return seconds


def bytes_by_token(model, new):
    """The most bytes that Python and NumPy held at once during each new token, beyond those before
    it.
    """
    held, tokens = [], model.stream([[1]], new, temperature=0)
    next(tokens)  # takes the buffers
    tracemalloc.start()
    for _ in range(new - 1):
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        next(tokens)
        held.append(tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    return held


def quarters(values):
    """Medians of the first and of the last quarter."""
    n = max(1, len(values) // 4)
    return statistics.median(values[:n]), statistics.median(values[-n:])


def measure(size, turns):
    """Decode on both sides in turn -> figures"""
    config, new, long = SIZES[size]
    model = GPT(config)
    sides = {"minigpt": lambda ids, new=new: model.generate(ids, new, temperature=0)}
    if not common.without_torch():
        sides["transformers"] = transformers_generate(model, new)
    prompt = np.random.default_rng(0).integers(0, config.vocab_size, (8, long))
    rows = {}
    for what, ids, count in (
        ("batch 1", prompt[:1, :1], new),
        ("batch 8", prompt[:, :1], new // 2),
        (f"prefill of {long}", prompt[:1], 1),
    ):
        calls = {name: lambda side=side, ids=ids, count=count: side(ids, count) for name, side in sides.items()}
        bandwidths = []  # before each turn
        between = lambda found=bandwidths: found.append(common.memory_bandwidth(tries=3))  # noqa: E731
        seconds = common.take_turns(calls, turns, warm_up=1, between=between)
        rows[what] = {"tokens": len(ids) * count, "seconds": seconds, "bandwidths": bandwidths}
    whole = min(config.block_size - 1, 4 * new)
    first, last = quarters(seconds_by_token(model, whole))
    low, high = quarters(bytes_by_token(model, whole))
    return {
        "size": size,
        "turns": turns,
        "rows": rows,
        "bytes_of_weights": model.store.vector.nbytes,
        "tokens_by_quarter": whole,
        "microseconds_by_quarter": [1e6 * first, 1e6 * last],
        "bytes_by_quarter": [low, high],
    }


def targets(figures):
    """The figures that a limit was set for, and their limits -> list of Target"""
    size, seconds = figures["size"], figures["rows"]["batch 1"]["seconds"]
    found = []
    if "transformers" in seconds:
        limit = {"small": 12, "gpt2": 3}[size]
        found.append(
            common.Target(f"decoding, {size}: tokens a second, of transformers'", times_as_fast(seconds).median, limit)
        )
    if size == "gpt2":
        found.append(
            common.Target("decoding, gpt2: of the memory bandwidth over bytes of weights", share_of_bound(figures), 0.7)
        )
    return found


def times_as_fast(seconds):
    """Ours against theirs, turn by turn -> Ratio"""
    return common.ratio(seconds["minigpt"], seconds["transformers"])


def share_of_bound(figures):
    """Tokens a second, batch 1, over memory bandwidth / bytes of weights, turn by turn -> the
    median
    """
    row = figures["rows"]["batch 1"]
    rates = [row["tokens"] / seconds for seconds in row["seconds"]["minigpt"]]
    return statistics.median(
        rate * figures["bytes_of_weights"] / width for rate, width in zip(rates, row["bandwidths"])
    )


def table(figures):
    """A row a kind of decoding -> columns, rows"""
    rows = []
    for what, row in figures["rows"].items():
        seconds, prefill = row["seconds"], what.startswith("prefill")
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        cells = [f"{1e3 * t:.1f} ms" if prefill else f"{row['tokens'] / t:,.1f} tokens/s" for t in medians.values()]
        rows.append((what, *cells, *([str(times_as_fast(seconds))] if "transformers" in seconds else [])))
    sides = list(figures["rows"]["batch 1"]["seconds"])
    return ("what", *sides, *(["times as fast"] if len(sides) > 1 else [])), rows


def describe(figures):
    """What was measured, in a few sentences."""
    (first, last), (low, high) = figures["microseconds_by_quarter"], figures["bytes_by_quarter"]
    bandwidth, weights = statistics.median(figures["rows"]["batch 1"]["bandwidths"]), figures["bytes_of_weights"]
    return (
        f"Greedy, random weights, all cores, {figures['turns']} turns. Memory bandwidth {bandwidth / 1e9:.0f} GB/s (measured before each turn) over "
        f"{weights / 1e6:.1f} MB of weights: at most {bandwidth / weights:,.0f} tokens/s, of which {share_of_bound(figures):.0%} are reached. "
        f"The first quarter of {figures['tokens_by_quarter']} tokens takes {first:.0f} us a token, the last {last:.0f}; "
        f"{low:.0f} and {high:.0f} bytes are taken anew for one."
    )


def main(argv=None):
    """Print the figures and, with --json, write them -> exit code."""
    made = common.parser(__doc__)
    made.add_argument("--size", choices=tuple(SIZES), default="small", help="of the model (default: small)")
    made.add_argument("--turns", type=common.count, default=7, metavar="N", help="turns of each side (default: 7)")
    args = made.parse_args(argv)
    figures = measure(args.size, args.turns)
    print(describe(figures))
    common.show(targets(figures), table(figures))
    common.write_json(args.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(guard(main, None))
