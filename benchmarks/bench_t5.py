"""T5 against PyTorch: a training step of both versions.

    python -m benchmarks.bench_t5                   (PyTorch's side needs the `parity` extra)

Each side is a process of its own, which stays while the sides take turns; all cores, random
weights and texts without padding. A step draws its batch, clips the gradient's norm, updates by
AdamW and reads the loss; dropout is 0. PyTorch's is benchmarks/torch_t5.py, with
scaled_dot_product_attention, one product for q, k and v and one for both matrices of a gate, fused
AdamW; compiled, its forward pass and loss are one graph.
"""

import os
import statistics
import sys

import numpy as np

from benchmarks import common
from benchmarks.sides import CHILD, faster, running, serve, take_turns, times_as_fast
from minigpt import T5, T5Config
from minigpt.cli import guard
from minigpt.objectives import Batch
from minigpt.training import TrainConfig, keep_freed_memory
from minigpt.training.trainer import Trainer

MIDDLE = {"vocab_size": 8192, "d_model": 256, "d_kv": 64, "d_ff": 1024, "num_layers": 4, "num_heads": 4}
TINY = {"vocab_size": 97, "d_model": 24, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 2}
SIZES = {"middle": (MIDDLE, 16, 64, 64), "tiny": (TINY, 4, 10, 7)}  # sizes, rows, tokens of source and target
VERSIONS = {"v1.0": {}, "v1.1": {"feed_forward_proj": "gated-gelu", "tie_embeddings": False}}


def config_of(size, version):
    """The T5Config of a size and version."""
    return T5Config(**SIZES[size][0], **VERSIONS[version])


def draw_batch(config, rows, source, target, rng):
    """Random texts without padding -> dict of arrays."""
    ids = rng.integers(2, config.vocab_size, (rows, source))
    targets = rng.integers(2, config.vocab_size, (rows, target))
    start = np.full((rows, 1), config.decoder_start_token_id)
    return {"ids": ids, "decoder_input_ids": np.concatenate([start, targets[:, :-1]], axis=1), "targets": targets}


class Objective:
    """draw_batch for the Trainer."""

    name = "pairs"

    def __init__(self, config, source, target):
        self.terms, self.settings = {}, {}
        self.config, self.source, self.target = config, source, target
        self.length = source

    def check(self, tokens, vocab_size, name="text"):
        """Nothing to check: the tokens are its own."""

    def at(self, progress):
        """The objective that draws the batches of a step."""
        return self

    def draw(self, tokens, rows, rng):
        """A Batch of random tokens."""
        return Batch(draw_batch(self.config, rows, self.source, self.target, rng))


def our_step(size, version):
    """A function that makes one step of this library's trainer, as the command line would."""
    keep_freed_memory()
    config, (_, rows, source, target) = config_of(size, version), SIZES[size]
    shards = min(common.available_cores(), rows)
    training = TrainConfig(steps=1_000_000, batch_size=rows, shards=shards, optimizer="adamw", weight_decay=0.1)
    trainer = Trainer(T5(config), None, None, config=training, out="unused",
                      objective=Objective(config, source, target), threads=shards, bar=False)  # fmt: skip

    def step():
        found = trainer.train_step()
        trainer.step += 1  # the next one draws another batch
        return found

    return step


def torch_step(size, version, compiled):
    """A function that makes one step of PyTorch."""
    from benchmarks.torch_t5 import training_step

    config, rng = config_of(size, version), np.random.default_rng(0)
    batches = iter(lambda: draw_batch(config, *SIZES[size][1:], rng), None)
    return training_step(config, batches, common.available_cores(), compiled)


def functions(side, size):
    """What a side's process can do: version -> function that makes a step."""
    if side == "minigpt":
        return {version: our_step(size, version) for version in VERSIONS}
    return {version: torch_step(size, version, side == "compiled") for version in VERSIONS}


def model_flops(config, rows, source, target):
    """FLOPs of a training step: 6 for each matmul parameter and token, 12 times the width of the
    heads for each query and key of attention (PaLM, arXiv:2204.02311, appendix B).
    """
    C, width = config.d_model, config.num_heads * config.d_kv
    mlp = (2 + config.feed_forward_proj.startswith("gated")) * C * config.d_ff
    attention = 4 * C * width
    encoder = config.num_layers * source * (6 * (attention + mlp) + 12 * width * source)
    matrices = 6 * (target * (attention + 2 * C * width + mlp) + source * 2 * C * width)
    decoder = config.decoder_layers * (matrices + 12 * width * target * (target + source))
    return rows * (encoder + decoder + target * 6 * C * config.vocab_size)


def measure(size, turns):
    """Time the sides in turn -> figures"""
    names = ["minigpt"] if common.without_torch() else ["minigpt", "eager", "compiled"]
    rows = {version: {"gflop": model_flops(config_of(size, version), *SIZES[size][1:]) / 1e9} for version in VERSIONS}
    with running("bench_t5", {name: (name, size) for name in names}) as sides:
        for version, row in rows.items():
            row.update(take_turns(sides, version, turns, calls=3))
    return {
        "size": size,
        "turns": turns,
        "avx2": os.environ.get("OPENBLAS_CORETYPE") == "Haswell",
        "gemm_gflops": statistics.median([rate for row in rows.values() for rate in row["rates"]]) / 1e9,
        "rows": rows,
    }


def targets(figures):
    """The figures that a limit was set for, and their limits -> list of Target"""
    made = []
    for version, row in figures["rows"].items():
        name = faster(row)
        if name is not None:
            what = f"T5's step, {version}: times as fast as PyTorch, the faster of both ({name})"
            made.append(common.Target(what, times_as_fast(row, name).median, 1.0 if figures["avx2"] else 1.3))
    return made


def table(figures):
    """A row a version and side -> columns, rows"""
    rows = []
    for version, row in figures["rows"].items():
        for name, seconds in row["seconds"].items():
            ratio = "" if name == "minigpt" else str(times_as_fast(row, name))
            share = statistics.median(1e9 * row["gflop"] / s / r for s, r in zip(seconds, row["rates"]))
            median, least = 1e3 * statistics.median(seconds), 1e3 * min(seconds)
            rows.append((version, name, f"{median:.1f}", f"{least:.1f}", f"{share:.0%} of the GEMM rate", ratio))
    return ("what", "side", "ms", "least", "is", "minigpt is times as fast"), rows


def describe(figures):
    """What was measured, in a sentence or two."""
    sizes, rows, source, target = SIZES[figures["size"]]
    found = ", ".join(f"{row['gflop']:.1f} GFLOP of {version}" for version, row in figures["rows"].items())
    return (
        f"{sizes['num_layers']} + {sizes['num_layers']} layers, {sizes['d_model']} channels, {sizes['num_heads']} "
        f"heads, vocabulary {sizes['vocab_size']:,}, {source} tokens of source, {target} of target, B={rows}, AdamW, "
        f"all cores. A step is {found}; GEMM {figures['gemm_gflops']:.0f} GFLOP/s."
    )


def main(argv=None):
    """Print the figures and, with --json, write them -> exit code."""
    made = common.parser(__doc__)
    made.add_argument("--size", choices=tuple(SIZES), default="middle", help="tiny is a smoke run (default: middle)")
    made.add_argument("--turns", type=common.count, default=9, metavar="N", help="turns of each side (default: 9)")
    args = made.parse_args(argv)
    figures = measure(args.size, args.turns)
    print(describe(figures))
    common.show(targets(figures), table(figures))
    common.write_json(args.json, figures)
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        serve(functions(*sys.argv[2:]))
    else:
        sys.exit(guard(main, None))
