"""Beam search: tokens a second with a KV cache, against transformers' `generate` of the same shape.

    python -m benchmarks.bench_beams               (transformers' side needs the `parity` extra)
    python -m benchmarks.bench_beams --size t5-small

Each side is a process of its own, which stays while the sides take turns; all cores, float32,
random weights, no stop id, so that both write as many tokens. A token counts once for each text,
not for each of its beams.
"""

import json
import statistics
import sys
import time

import numpy as np

from benchmarks import common
from benchmarks.bench_generate import CHILD, Side
from minigpt import GPT, T5, GPTConfig, T5Config
from minigpt.cli import guard

SOURCE, NEW, BEAMS = 64, 64, 4  # tokens of a source or prompt, new ones of each text
SIZES = {  # our config
    "small": T5Config(8192, d_model=256, d_kv=64, d_ff=1024, num_layers=4, num_heads=4),
    "t5-small": T5Config(32128),
    "gpt": GPTConfig(8192, 128, n_layer=4, n_head=4, n_embd=256),
    "tiny": T5Config(64, d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=2),
}
KINDS = {  # rows; settings of both sides
    "4 beams": (1, {"num_beams": BEAMS}),
    "4 beams, 8 texts": (8, {"num_beams": BEAMS}),
    "greedy": (1, {"num_beams": 1}),
}
LIMIT = 2  # of transformers' tokens a second, with beams, at size small


def ours(size):
    """A function of ids (B, S), new tokens and beams that decodes with this library."""
    config = SIZES[size]
    model = (T5 if isinstance(config, T5Config) else GPT)(config)

    def generate(ids, new, num_beams):
        return model.generate(ids, new, temperature=0, stop=[], num_beams=num_beams)

    return generate


def theirs(size):
    """The same with transformers."""
    import torch
    import transformers

    torch.set_num_threads(common.available_cores())
    c = SIZES[size]
    if isinstance(c, T5Config):
        names = ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads", "feed_forward_proj")
        config = transformers.T5Config(**{name: getattr(c, name) for name in names}, decoder_start_token_id=0)
        model = transformers.T5ForConditionalGeneration(config)
    else:
        names = ("vocab_size", "n_layer", "n_head", "n_embd")
        config = transformers.GPT2Config(**{name: getattr(c, name) for name in names}, n_positions=c.block_size)
        model = transformers.GPT2LMHeadModel(config)
    model.eval().generation_config.eos_token_id = None
    given = {"do_sample": False, "use_cache": True, "pad_token_id": 0}

    def generate(ids, new, num_beams):
        ids, count = torch.as_tensor(ids), {"max_new_tokens": new, "min_new_tokens": new}
        with torch.inference_mode():
            return model.generate(
                ids, attention_mask=torch.ones_like(ids), num_beams=num_beams, **count, **given
            ).numpy()

    return generate


def child(side, size):
    """A side's process: for each line of JSON on its input, {ids, new, settings}, a line with the
    seconds that it took.
    """
    generate = (theirs if side == "transformers" else ours)(size)
    for line in sys.stdin:
        asked = json.loads(line)
        ids = np.array(asked["ids"])
        print(json.dumps(common.timed(lambda: generate(ids, asked["new"], **asked["settings"]))), flush=True)  # noqa: B023


def measure(size, turns):
    """Decode on both sides in turn -> figures"""
    names = ["minigpt"] if common.without_torch() else ["minigpt", "transformers"]
    ids = np.random.default_rng(0).integers(2, SIZES[size].vocab_size, (8, SOURCE))
    sides, rows = {name: Side(name, size, "benchmarks.bench_beams") for name in names}, {}
    try:
        for what, (count, settings) in KINDS.items():
            rows[what] = {"tokens": count * NEW, "seconds": take_turns(sides, turns, ids[:count], settings)}
    finally:
        for side in sides.values():
            side.end()
    return {"size": size, "turns": turns, "rows": rows}


def take_turns(sides, turns, ids, settings):
    """Seconds of each side, turn by turn, each after a call that is not timed."""
    seconds = {name: [] for name in sides}
    for _ in range(turns):
        for name, side in sides.items():
            time.sleep(common.PAUSE)
            side.seconds(ids, 8, settings)
            seconds[name].append(side.seconds(ids, NEW, settings))
    return seconds


def times_as_fast(seconds):
    """Ours against theirs, turn by turn -> Ratio"""
    return common.ratio(seconds["minigpt"], seconds["transformers"])


def targets(figures):
    """The figures that a limit was set for, and their limits -> list of Target"""
    return [
        common.Target(
            f"decoding, {figures['size']}, {what}: as fast as transformers",
            times_as_fast(row["seconds"]).median,
            LIMIT if figures["size"] == "small" and "beams" in what else None,
        )
        for what, row in figures["rows"].items()
        if "transformers" in row["seconds"]
    ]


def table(figures):
    """A row a kind of decoding -> columns, rows"""
    sides, rows = list(figures["rows"]["greedy"]["seconds"]), []
    for what, row in figures["rows"].items():
        speeds = [f"{row['tokens'] / statistics.median(row['seconds'][side]):,.0f} tokens/s" for side in sides]
        rows.append((what, *speeds, *([str(times_as_fast(row["seconds"]))] if "transformers" in sides else [])))
    return ("what", *sides, *(["times as fast"] if "transformers" in sides else [])), rows


def describe(figures):
    """What was measured, in a few sentences."""
    c = SIZES[figures["size"]]
    if isinstance(c, T5Config):
        shape = f"T5 of {c.num_layers} + {c.decoder_layers} blocks, {c.d_model} channels"
    else:
        shape = f"GPT of {c.n_layer} blocks, {c.n_embd} channels"
    return (
        f"{shape}, {c.vocab_size:,} tokens, random weights, float32, all cores, each side in a process of its own, "
        f"{figures['turns']} turns: {SOURCE} tokens are read, {NEW} written by each text."
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
