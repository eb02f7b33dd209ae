"""Time of a training step, optimiser included, against PyTorch, eager and compiled,
in the same process.

    python -m benchmarks.bench_step                  (needs the `parity` extra for PyTorch's side)
    python -m benchmarks.bench_step --size middle

The sides take turns, and a ratio is the median of the turns' ratios (benchmarks/common.py).
PyTorch's side is a fair one: the same model in float32 with scaled_dot_product_attention, fused
AdamW, zero_grad(set_to_none=True), all cores; compiled, its forward pass and loss are one graph.
Each side draws its batches, clips the gradient's norm and reads the loss. Compiling happens in the
warm-up. The setting by which this library has freed memory kept for reuse holds for the process,
hence for PyTorch too. The GEMM rate is measured in the same run, before each turn.
"""

import statistics
import sys

import numpy as np

from benchmarks.common import (
    Target,
    count,
    gemm_rate,
    model_flops,
    parser,
    ratio,
    show,
    take_turns,
    without_torch,
    write_json,
)
from minigpt import GPT, GPTConfig
from minigpt.cli import guard
from minigpt.training import TrainConfig, available_cores, keep_freed_memory
from minigpt.training.trainer import Trainer

SIZES = {  # n_layer, n_head, n_embd, vocab_size, block_size, bias, batch_size, steps a turn
    "small": (4, 4, 128, 65, 64, False, 12, 10),
    "middle": (6, 6, 384, 65, 256, False, 16, 1),
    "gpt2": (12, 12, 768, 50257, 256, True, 2, 1),
}
SPEEDUP = {"small": 1.15, "middle": 1.05, "gpt2": 1.0}  # over the faster of PyTorch's two, at least
GEMM_SHARE = {"small": 0.6, "middle": 0.8}  # of the GEMM rate, at least


def sized(size):
    """A name of SIZES -> GPTConfig, batch size, steps a turn."""
    layers, heads, channels, vocab_size, block_size, bias, batch_size, steps = SIZES[size]
    return GPTConfig(vocab_size, block_size, layers, heads, channels, bias=bias), batch_size, steps


def numpy_step(config, batch_size, threads=None, optimizer="adamw", recompute=False):
    """A function that makes one step of this library's trainer, as the command line would,
    on as many threads and shards as there are cores.
    """
    keep_freed_memory()
    shards = min(threads or available_cores(), batch_size)
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, 20000).astype(np.uint16)
    training = TrainConfig(steps=1_000_000, batch_size=batch_size, shards=shards, optimizer=optimizer,
                           newton_schulz_steps=3, weight_decay=0.1, recompute=recompute)  # fmt: skip
    trainer = Trainer(GPT(config), tokens, tokens, config=training, out="unused", threads=shards, bar=False)

    def step():
        found = trainer.train_step()
        trainer.step += 1  # the next one draws another batch
        return found

    return step


def torch_steps(config, batch_size, compiled=True):
    """PyTorch's sides -> name -> function that makes one step.
    One that can't be compiled here is left out, with a line that says why.
    """
    if without_torch():
        return {}
    from benchmarks.torch_gpt import training_step

    sides = {"eager": training_step(config, batch_size, available_cores())}
    if compiled:
        try:
            step = training_step(config, batch_size, available_cores(), compiled=True)
            step()
            sides["compiled"] = step
        except Exception as error:  # no C++ compiler, most often; torch has many kinds of error for it
            print(
                "torch.compile does not work here, comparing with eager alone: "
                f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            )
    return sides


def measure(size, optimizer, turns, steps=None, compiled=True):
    """Time the sides in turn -> figures"""
    config, batch_size, steps_a_turn = sized(size)
    sides = {
        "minigpt": numpy_step(config, batch_size, optimizer=optimizer),
        **torch_steps(config, batch_size, compiled),
    }
    rates = []
    warm_up = 3 if steps_a_turn > 1 else 1  # beside a step before each turn
    seconds = take_turns(sides, turns, steps or steps_a_turn, warm_up, between=lambda: rates.append(gemm_rate()))
    flops, rate = model_flops(config, batch_size * config.block_size), statistics.median(rates)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    figures = {
        "size": size,
        "layers": config.n_layer,
        "heads": config.n_head,
        "channels": config.n_embd,
        "vocab_size": config.vocab_size,
        "block_size": config.block_size,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "threads": min(available_cores(), batch_size),
        "gemm_gflops": rate / 1e9,
        "model_gflop": flops / 1e9,
        "ms": {name: 1e3 * median for name, median in medians.items()},
        "least_ms": {name: 1e3 * min(values) for name, values in seconds.items()},
        "gemm_share": {
            name: statistics.median(flops / s / r for s, r in zip(values, rates)) for name, values in seconds.items()
        },
        "speedup": {
            name: ratio(seconds["minigpt"], values)._asdict() for name, values in seconds.items() if name != "minigpt"
        },
    }
    if others := figures["speedup"]:
        figures["faster"] = min(others, key=medians.get)
    return figures


def targets(figures):
    """The figures that a limit was set for, and their limits -> list of Target"""
    size, found = figures["size"], []
    if "faster" in figures:
        name = figures["faster"]
        what = f"step, {size}: times as fast as PyTorch, the faster of both ({name})"
        found.append(Target(what, figures["speedup"][name]["median"], SPEEDUP[size]))
    share = figures["gemm_share"]["minigpt"]
    found.append(
        Target(f"step, {size}: model FLOPs over time, of the GEMM rate", share, GEMM_SHARE.get(size), form="{:.0%}")
    )
    return found


def table(figures):
    """A row a side -> columns, rows"""
    rows = []
    for name, ms in figures["ms"].items():
        r = figures["speedup"].get(name)
        against = (
            "" if r is None else f"{r['median']:.2f} (80% of {r['turns']} turns: {r['low']:.2f} to {r['high']:.2f})"
        )
        rows.append(
            (name, f"{ms:.1f}", f"{figures['least_ms'][name]:.1f}", f"{figures['gemm_share'][name]:.0%}", against)
        )
    return ("side", "ms a step", "least", "of the GEMM rate", "minigpt is times as fast"), rows


def describe(figures):
    """What was measured, in a sentence or two."""
    f = figures
    return (
        f"{f['size']}: {f['layers']} layers, {f['heads']} heads, {f['channels']} channels, "
        f"vocabulary {f['vocab_size']:,}, T={f['block_size']}, B={f['batch_size']}; "
        f"minigpt on {f['threads']} threads with {f['optimizer']}. "
        f"GEMM {f['gemm_gflops']:.0f} GFLOP/s; a step is {f['model_gflop']:.2f} GFLOP, "
        f"floor {f['model_gflop'] / f['gemm_gflops'] * 1e3:.1f} ms. Model FLOPs count attention "
        "whole (PaLM, appendix B), also where blocks that the mask hides are skipped."
    )


def main(argv=None):
    """Print the figures and, with --json, write them -> exit code."""
    made = parser(__doc__)
    made.add_argument(
        "--size",
        choices=tuple(SIZES),
        default="small",
        help="model and batch (default: small, that of --preset nanogpt-cpu)",
    )
    made.add_argument(
        "--optimizer",
        choices=("adamw", "muon", "sgd"),
        default="adamw",
        help="of our side; PyTorch runs AdamW (default: adamw)",
    )
    made.add_argument("--turns", type=count, metavar="N", help="turns of each side (default: 15, 9 at gpt2)")
    made.add_argument("--steps", type=count, metavar="N", help="steps a turn (default: 10 at small, 1 at the others)")
    made.add_argument(
        "--no-compile", action="store_true", help="leave torch.compile out (default: compare with it too)"
    )
    args = made.parse_args(argv)
    figures = measure(
        args.size, args.optimizer, args.turns or (9 if args.size == "gpt2" else 15), args.steps, not args.no_compile
    )
    print(describe(figures))
    show(targets(figures), table(figures))
    write_json(args.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(guard(main, None))
