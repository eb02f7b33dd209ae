"""How our training step's cost grows: with the context T, with the channels C and with the layers;
and what it takes at most in memory.

    python -m benchmarks.bench_scale
    python -m benchmarks.bench_scale --sweep T --chart scale.png

Against T, the tokens of a step are held constant, so that what grows is attention; it is
memory-lean from 256 queries on. Slopes are those of a straight line through the last three points
on log axes: seconds go with that power. A step is the trainer's, AdamW included, and the GEMM rate
is measured before each turn. Memory is that of fresh processes (benchmarks/bench_memory.py), at
T=4096 and at the size of GPT-2 124M, weights random.
"""

import statistics
import sys

import numpy as np

from benchmarks.bench_memory import train_in_process
from benchmarks.bench_step import numpy_step
from benchmarks.common import Target, count, gemm_rate, model_flops, parser, show, take_turns, timed, write_json
from minigpt import GPTConfig
from minigpt.cli import guard
from minigpt.training import available_cores

VOCAB_SIZE = 65
TURN = 0.3  # seconds, about, that a turn lasts
TOKENS = 8192  # a step, against T: two rows at the longest context, one a core of two
SWEEPS = {  # name -> values, n_layer, n_head, n_embd, block_size, batch_size as functions of the value
    "T": ((64, 128, 256, 512, 1024, 2048, 4096), lambda T: (4, 4, 128, T, TOKENS // T)),
    "C": ((64, 128, 256, 512, 1024), lambda C: (2, C // 32, C, 128, 8)),
    "layers": ((1, 2, 4, 8, 12), lambda layers: (layers, 4, 128, 64, 12)),
}
TITLES = {
    "T": f"Context (4 layers, C=128, {TOKENS} tokens a step)",
    "C": "Channels (2 layers, T=128, B=8)",
    "layers": "Layers (C=128, T=64, B=12)",
}
NAMES = {"T": "T", "C": "C", "layers": "layers"}
MEMORY = {  # what a fresh process trains: settings of a model and its batch
    "T=4096, 4 layers, C=128, B=2": {
        "vocab_size": 65,
        "block_size": 4096,
        "n_layer": 4,
        "n_head": 4,
        "n_embd": 128,
        "bias": False,
        "batch_size": 2,
    },
    "GPT-2 124M, T=256, B=2": {
        "vocab_size": 50257,
        "block_size": 256,
        "n_layer": 12,
        "n_head": 12,
        "n_embd": 768,
        "bias": True,
        "batch_size": 2,
    },
}
MEMORY_LIMIT = 24 * 2**30


def measure_sweep(name, turns, largest=None):
    """Time steps at each value, in turn -> dict of lists"""
    values, shape = SWEEPS[name]
    values = [value for value in values if largest is None or value <= largest]
    steps, flops = {}, []
    for value in values:
        layers, heads, channels, block_size, batch_size = shape(value)
        config = GPTConfig(VOCAB_SIZE, block_size, layers, heads, channels, bias=False)
        steps[value] = numpy_step(config, batch_size)
        flops.append(model_flops(config, batch_size * block_size))
    calls = {value: several(step) for value, step in steps.items()}
    rates = []
    sides = {value: lambda step=step, n=calls[value]: [step() for _ in range(n)] for value, step in steps.items()}
    seconds = take_turns(sides, turns, warm_up=0, pause=0, between=lambda: rates.append(gemm_rate()))
    medians = [statistics.median(seconds[value]) / calls[value] for value in values]
    print(f"{name}: " + ", ".join(f"{value}: {1e3 * s:.1f} ms" for value, s in zip(values, medians)), flush=True)
    return {
        "values": values,
        "seconds": medians,
        "model_gflop": [f / 1e9 for f in flops],
        "gemm_gflops": statistics.median(rates) / 1e9,
        "slope": slope(values, medians),
    }


def several(step):
    """How many steps last TURN seconds, about, at least 1; the step is warm then."""
    step()
    return max(1, round(TURN / timed(step)))


def slope(values, seconds, points=3):
    """The power with which seconds grow at the upper end:
    a straight line through the last points on log axes. -> float, None for one point
    """
    if len(values) < 2:
        return None
    return float(np.polyfit(np.log(values[-points:]), np.log(seconds[-points:]), 1)[0])


def measure(sweeps, turns, largest=None, memory=True):
    """All sweeps, and memory -> figures"""
    figures = {"turns": turns, "threads": available_cores(), "sweeps": {}, "memory": {}}
    for what, settings in MEMORY.items() if memory else ():
        figures["memory"][what] = train_in_process("minigpt", settings | {"threads": available_cores()}, 3)["peak"]
        print(f"{what}: {figures['memory'][what] / 2**30:.2f} GiB at most", flush=True)
    for name in sweeps:
        figures["sweeps"][name] = measure_sweep(name, turns, largest)
    return figures


def targets(figures):
    """The figures that a limit was set for, and their limits -> list of Target"""
    limit = MEMORY_LIMIT / 2**30
    return [
        Target(f"memory, GiB: a few steps of {what}", peak / 2**30, limit, most=True)
        for what, peak in figures["memory"].items()
    ]


def table(figures):
    """A row a point -> columns, rows"""
    rows = []
    for name, sweep in figures["sweeps"].items():
        for value, seconds, gflop in zip(sweep["values"], sweep["seconds"], sweep["model_gflop"]):
            rows.append(
                (
                    f"{NAMES[name]}={value}",
                    f"{seconds * 1e3:.1f}",
                    f"{gflop:.2f}",
                    f"{gflop / seconds / sweep['gemm_gflops']:.0%}",
                )
            )
    return ("size", "ms a step", "GFLOP", "of the GEMM rate"), rows


def describe(figures):
    """What was measured, and the slopes."""
    slopes = [
        f"{NAMES[name]}^{sweep['slope']:.2f}" for name, sweep in figures["sweeps"].items() if sweep["slope"] is not None
    ]
    titles = "; ".join(TITLES[name] for name in figures["sweeps"])
    return (
        f"{titles}. Medians of {figures['turns']} turns on {figures['threads']} threads. "
        f"At the upper end seconds grow as {', '.join(slopes)}."
    )


def draw(figures):
    """Seconds a step on log axes, a panel a sweep, the slope in the legend
    -> Figure, or None without a sweep
    """
    from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

    from minigpt import plots

    if not figures["sweeps"]:
        return None
    figure, axes = plots.subplots(1, len(figures["sweeps"]), width=3.6 * len(figures["sweeps"]), height=3.4)
    for ax, (name, sweep) in zip(np.ravel(axes), figures["sweeps"].items()):
        values, ms = np.array(sweep["values"]), 1e3 * np.array(sweep["seconds"])
        ax.plot(values, ms, color=plots.COLOURS[0], marker="o", markersize=4.5, linewidth=1.5, label="measured")
        if sweep["slope"] is not None:
            end = values[-3:]
            middle = np.exp(np.log(ms[-3:]).mean() + sweep["slope"] * (np.log(end) - np.log(end).mean()))
            ax.plot(end, middle, color=plots.COLOURS[1], linewidth=3, alpha=0.5, label=f"slope {sweep['slope']:.2f}")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.xaxis.set_major_locator(FixedLocator(values))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter("{x:,g}")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_formatter("{x:,g}")
        ax.legend(frameon=False, prop={"family": plots.FONT, "size": 9}, labelcolor=plots.INK)
        title, _, held = TITLES[name].partition(" (")
        plots.annotate(ax, title, f"{NAMES[name]}\n({held}", "milliseconds a step")
    return figure


def main(argv=None):
    """Print the figures and, with --json and --chart, write them -> exit code."""
    made = parser(__doc__)
    made.add_argument(
        "--sweep", nargs="+", choices=tuple(SWEEPS), default=list(SWEEPS), help="what grows (default: T C layers)"
    )
    made.add_argument(
        "--turns", type=count, default=3, metavar="N", help="steps timed at each point, in turn (default: 3)"
    )
    made.add_argument("--largest", type=count, metavar="N", help="leave out points above this (default: none)")
    made.add_argument(
        "--no-memory", action="store_true", help="leave out the processes that measure memory (default: run them)"
    )
    made.add_argument("--chart", metavar="FILE", help="draw the sweeps as a PNG (default: none)")
    args = made.parse_args(argv)
    smallest = max(SWEEPS[name][0][0] for name in args.sweep)
    if args.largest is not None and args.largest < smallest:
        made.error(f"--largest {args.largest}: it leaves no point, it must be at least {smallest}")
    figures = measure(args.sweep, args.turns, args.largest, not args.no_memory)
    print("\n" + describe(figures))
    show(targets(figures), table(figures))
    if args.chart and (figure := draw(figures)) is not None:
        from minigpt import plots

        plots.save(figure, args.chart)
    write_json(args.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(guard(main, None))
