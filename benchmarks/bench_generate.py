"""Decoding: tokens a second with a KV cache, against transformers' GPT-2 on the same weights.

    python -m benchmarks.bench_generate             (transformers' side needs the `parity` extra)
    python -m benchmarks.bench_generate --size gpt2

Each side is a process of its own, which stays while the sides take turns; all cores, random
weights. `recipe` is this library's RecipeGPT of the same size. At size `gpt2` the bound is printed
as well: the best rate at which a product of a matrix with a vector reads memory, measured before
each turn, over bytes of weights, since each token reads all of them once.
"""

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc

import numpy as np

from benchmarks import common
from minigpt import GPT, GPTConfig, MinigptError, RecipeGPT, RecipeGPTConfig, to_huggingface
from minigpt.cli import guard

SIZES = {  # config; new tokens a turn; tokens of the long prompt
    "small": (GPTConfig(65, 256, 4, 4, 128), 200, 200),
    "gpt2": (GPTConfig(50257, 1024, 12, 12, 768), 48, 200),
}
GREEDY, SAMPLED = {"temperature": 0}, {"temperature": 0.8, "top_k": 20}
CHILD = "--child"  # what begins the arguments of a side's process: side, size


def our_model(side, config):
    """The model that a side of ours decodes."""
    if side == "recipe":
        c = config
        return RecipeGPT(RecipeGPTConfig(c.vocab_size, c.block_size, c.n_layer, c.n_head, c.n_embd, bias=False))
    return GPT(config)


def transformers_generate(model):
    """A function of ids (B, T), new tokens and settings that continues ids with transformers ->
    ids, as ours.
    """
    import torch
    from transformers import GPT2LMHeadModel

    torch.set_num_threads(common.available_cores())
    with tempfile.TemporaryDirectory() as directory:
        to_huggingface(model, directory)
        theirs = GPT2LMHeadModel.from_pretrained(directory).eval()
    theirs.generation_config.eos_token_id = None

    def generate(ids, new, temperature, top_k=None):
        ids = torch.as_tensor(ids)
        drawn = {"do_sample": True, "temperature": temperature, "top_k": top_k} if temperature else {"do_sample": False}
        count = {"max_new_tokens": new, "min_new_tokens": new, "use_cache": True, "pad_token_id": 0}
        with torch.inference_mode():
            return theirs.generate(ids, attention_mask=torch.ones_like(ids), **drawn, **count).numpy()

    return generate


def child(side, size):
    """A side's process: for each line of JSON on its input, {ids, new, settings}, a line with the
    seconds that it took.
    """
    config, *_ = SIZES[size]
    model = our_model(side, config)
    generate = transformers_generate(model) if side == "transformers" else model.generate
    for line in sys.stdin:
        asked = json.loads(line)
        ids = np.array(asked["ids"])
        print(json.dumps(common.timed(lambda: generate(ids, asked["new"], **asked["settings"]))), flush=True)  # noqa: B023


class Side:
    """A side in a process of its own."""

    def __init__(self, side, size, module="benchmarks.bench_generate"):
        command = [sys.executable, "-m", module, CHILD, side, size]
        self.side = side
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seconds(self, ids, new, settings):
        """What it takes to continue ids (B, T). MinigptError where the process has ended."""
        asked = {"ids": ids.tolist(), "new": new, "settings": settings}
        with contextlib.suppress(BrokenPipeError):  # the answer is missing as well
            print(json.dumps(asked), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise MinigptError(f"the process of {self.side} ended with code {self.process.wait()}")
        return float(answer)

    def end(self):
        """End the process."""
        with contextlib.suppress(BrokenPipeError), self.process:  # closes its pipes and waits for it
            pass


def gemv_rate(size=1 << 28, tries=3):
    """Bytes/s at which products of a float32 matrix with a vector read memory, from both sides, the
    best of a few tries.
    """
    matrix = np.ones((size // 4096, 1024), np.float32)
    row, column = np.ones(len(matrix), np.float32), np.ones(1024, np.float32)
    return matrix.nbytes / min(
        common.timed(way) for way in (lambda: matrix @ column, lambda: row @ matrix) for _ in range(tries)
    )


def take_turns(sides, turns, ids, *, new, settings):
    """Seconds of each side, turn by turn, and the GEMV rate before each turn. A turn begins with a
    call that is not timed.
    """
    seconds, rates = {side: [] for side in sides}, []
    for _ in range(turns):
        rates.append(gemv_rate())
        for name, side in sides.items():
            time.sleep(common.PAUSE)
            side.seconds(ids, min(new, 8), settings)
            seconds[name].append(side.seconds(ids, new, settings))
    return {"tokens": len(ids) * new, "seconds": seconds, "rates": rates}


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
    """Decode on all sides in turn -> figures"""
    config, new, long = SIZES[size]
    names = ["minigpt", "recipe"] if common.without_torch() else ["minigpt", "recipe", "transformers"]
    prompt = np.random.default_rng(0).integers(0, config.vocab_size, (8, long))
    kinds = {  # what: ids, new tokens, settings, whether the recipe's model takes a turn
        "batch 1": (prompt[:1, :1], new, GREEDY, True),
        "batch 1, sampled": (prompt[:1, :1], new, SAMPLED, False),
        "batch 8": (prompt[:, :1], new // 2, GREEDY, False),
        f"prefill of {long}": (prompt[:1], 1, GREEDY, False),
    }
    sides, rows = {name: Side(name, size) for name in names}, {}
    try:
        for what, (ids, count, settings, recipe) in kinds.items():
            taking_part = {name: side for name, side in sides.items() if recipe or name != "recipe"}
            rows[what] = take_turns(taking_part, turns, ids, new=count, settings=settings)
    finally:
        for side in sides.values():
            side.end()
    model, whole = GPT(config), min(config.block_size - 1, 4 * new)
    return {
        "size": size,
        "turns": turns,
        "rows": rows,
        "bytes_of_weights": model.store.vector.nbytes,
        "tokens_by_quarter": whole,
        "microseconds_by_quarter": [1e6 * seconds for seconds in quarters(seconds_by_token(model, whole))],
        "bytes_by_quarter": quarters(bytes_by_token(model, whole)),
    }


LIMITS = {  # of transformers' tokens a second
    "small": {"batch 1": 4, "prefill": 1},
    "gpt2": {"batch 8": 2, "prefill": 1},
}


def targets(figures):
    """The figures that a limit was set for, and their limits -> list of Target"""
    size, rows, found = figures["size"], figures["rows"], []
    for what, row in rows.items():
        if "transformers" in row["seconds"]:
            limit = LIMITS[size].get(what.partition(" of ")[0])
            found.append(
                common.Target(
                    f"decoding, {size}, {what}: as fast as transformers", times_as_fast(row["seconds"]).median, limit
                )
            )
    if size == "gpt2":
        found.append(
            common.Target("decoding, gpt2: bytes a second, of the best GEMV rate", share_of_bound(figures), 0.75)
        )
    for what, limit in (("batch 1", 170), ("batch 1, sampled", 195)) if size == "small" else ():
        us = microseconds(rows[what], "minigpt")
        found.append(common.Target(f"decoding, small, {what}: us a token", us, limit, most=True, form="{:.0f}"))
    recipe = common.ratio(rows["batch 1"]["seconds"]["minigpt"], rows["batch 1"]["seconds"]["recipe"]).median
    found.append(common.Target(f"decoding, {size}: a token of the recipe's model, of GPT-2's", recipe, 1.3, most=True))
    return found


def microseconds(row, side):
    """Median microseconds of a token."""
    return 1e6 * statistics.median(row["seconds"][side]) / row["tokens"]


def times_as_fast(seconds):
    """Ours against theirs, turn by turn -> Ratio"""
    return common.ratio(seconds["minigpt"], seconds["transformers"])


def share_of_bound(figures):
    """Tokens a second, batch 1, over GEMV rate / bytes of weights, turn by turn -> the median"""
    row = figures["rows"]["batch 1"]
    rates = [row["tokens"] / seconds for seconds in row["seconds"]["minigpt"]]
    return statistics.median(rate * figures["bytes_of_weights"] / gemv for rate, gemv in zip(rates, row["rates"]))


def table(figures):
    """A row a kind of decoding -> columns, rows"""
    sides, rows = list(figures["rows"]["batch 1"]["seconds"]), []
    for what, row in figures["rows"].items():
        cells = [cell(row, side, what) if side in row["seconds"] else "" for side in sides]
        rows.append((what, *cells, *([str(times_as_fast(row["seconds"]))] if "transformers" in sides else [])))
    return ("what", *sides, *(["times as fast"] if "transformers" in sides else [])), rows


def cell(row, side, what):
    """A side's speed: of a prefill its time, of decoding tokens a second and the time of one."""
    seconds = statistics.median(row["seconds"][side])
    if what.startswith("prefill"):
        return f"{1e3 * seconds:.1f} ms"
    return f"{row['tokens'] / seconds:,.1f} tokens/s, {1e6 * seconds / row['tokens']:,.0f} us"


def describe(figures):
    """What was measured, in a few sentences."""
    (first, last), (low, high) = figures["microseconds_by_quarter"], figures["bytes_by_quarter"]
    rate, weights = statistics.median(figures["rows"]["batch 1"]["rates"]), figures["bytes_of_weights"]
    return (
        f"Random weights, all cores, each side in a process of its own, {figures['turns']} turns; greedy, or sampled "
        f"at temperature {SAMPLED['temperature']} and top_k {SAMPLED['top_k']}. A product with a vector reads "
        f"{rate / 1e9:.0f} GB/s (measured before each turn), over {weights / 1e6:.1f} MB of weights: at most "
        f"{rate / weights:,.0f} tokens/s, of which {share_of_bound(figures):.0%} are reached. The first quarter of "
        f"{figures['tokens_by_quarter']} tokens takes {first:.0f} us a token, the last {last:.0f}; {low:.0f} and "
        f"{high:.0f} bytes are taken anew for one."
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
    if sys.argv[1:2] == [CHILD]:
        child(*sys.argv[2:])
    else:
        sys.exit(guard(main, None))
