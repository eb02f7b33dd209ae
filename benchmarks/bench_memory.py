"""Peak resident memory of a training process, against PyTorch eager:
each side in fresh processes of its own, in turn.

    python -m benchmarks.bench_memory --size middle

A process imports its side, makes a few steps of training with AdamW (benchmarks/bench_step.py has
the sizes) and says what it took at most: libraries, weights, moments, gradients and activations,
all of it. What the imports alone took is told apart. PyTorch's process never imports this library.
`recomputed` is this library with --recompute: each block's input is kept, the rest computed again
in backward.
"""

import json
import statistics
import subprocess
import sys
from types import SimpleNamespace

SIZES = ("small", "middle")
OURS = {"minigpt": False, "recomputed": True}  # side -> whether blocks are recomputed


def peak_memory():
    """Bytes that this process has had resident at most.
    RuntimeError where the system does not say.
    """
    try:
        # ru_maxrss of Linux includes that of the process that started this one
        with open("/proc/self/status", encoding="utf-8") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        raise RuntimeError("this system does not say how much memory a process takes at most") from None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def child(side, settings, steps):
    """In a process of its own: import one side and train.
    -> peak after the imports and after training, in bytes
    """
    settings = dict(settings)
    batch_size, threads = settings.pop("batch_size"), settings.pop("threads")
    if side in OURS:
        from benchmarks.bench_step import GPTConfig, numpy_step

        imported = peak_memory()
        step = numpy_step(GPTConfig(**settings), batch_size, threads, recompute=OURS[side])
    else:
        from benchmarks.torch_gpt import training_step

        imported = peak_memory()
        step = training_step(
            SimpleNamespace(**{"dropout": 0.0, "activation": "gelu_tanh"} | settings), batch_size, threads
        )
    for _ in range(steps):
        step()
    return {"imported": imported, "peak": peak_memory()}


def train_in_process(side, settings, steps):
    """child in a fresh process -> its dict.
    MinigptError with the last line of its errors where it fails.
    """
    command = [sys.executable, "-m", "benchmarks.bench_memory", "--child", json.dumps([side, settings, steps])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        from minigpt.errors import MinigptError

        raise MinigptError(f"{side}, {settings}: {why[0]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(sizes, turns, steps):
    """Run the sides in turn at each size -> figures"""
    from benchmarks.bench_step import sized
    from benchmarks.common import without_torch
    from minigpt.training import available_cores

    sides = [*OURS] if without_torch() else [*OURS, "pytorch"]
    figures = {"steps": steps, "turns": turns, "sizes": {}}
    for size in sizes:
        config, batch_size, _ = sized(size)
        fields = ("vocab_size", "block_size", "n_layer", "n_head", "n_embd", "bias")
        settings = {name: getattr(config, name) for name in fields} | {
            "batch_size": batch_size,
            "threads": available_cores(),
        }
        found = {side: [] for side in sides}
        for _ in range(turns):
            for side in sides:
                found[side].append(train_in_process(side, settings, steps))
        figures["sizes"][size] = {
            side: {key: statistics.median(run[key] for run in runs) for key in ("imported", "peak")}
            for side, runs in found.items()
        }
    return figures


def targets(figures):
    """The figures that a limit was set for, and their limits -> list of Target"""
    from benchmarks.common import Target

    found = []
    for size, sides in figures["sizes"].items():
        if "pytorch" in sides:
            share, limit = sides["minigpt"]["peak"] / sides["pytorch"]["peak"], 1.0 if size == "middle" else None
            found.append(
                Target(f"memory, {size}: peak of a training process, of PyTorch eager's", share, limit, most=True)
            )
    return found


def table(figures):
    """A row a size and side, in MB of a million bytes -> columns, rows"""
    rows = []
    for size, sides in figures["sizes"].items():
        for side, found in sides.items():
            mb = [
                f"{value / 1e6:,.0f}" for value in (found["peak"], found["imported"], found["peak"] - found["imported"])
            ]
            rows.append((size, side, *mb))
    return ("size", "side", "peak, MB", "after the imports", "training"), rows


def describe(figures):
    """What was measured, in a sentence."""
    return (
        f"Peak resident memory of {figures['steps']} training steps with AdamW, a fresh process a side, "
        f"the median of {figures['turns']} turns."
    )


def main(argv=None):
    """Print the figures and, with --json, write them -> exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["--child"]:  # before anything else is imported
        print(json.dumps(child(*json.loads(argv[1]))))
        return 0
    from benchmarks.bench_step import SIZES as STEP_SIZES
    from benchmarks.common import count, parser
    from minigpt.cli import guard

    made = parser(__doc__)
    made.add_argument(
        "--size",
        choices=tuple(STEP_SIZES),
        nargs="+",
        default=list(SIZES),
        help=f"models and batches (default: {' '.join(SIZES)})",
    )
    made.add_argument("--turns", type=count, default=3, metavar="N", help="processes a side (default: 3)")
    made.add_argument("--steps", type=count, default=4, metavar="N", help="training steps a process (default: 4)")
    return guard(run, made.parse_args(argv))


def run(args):
    """From parsed arguments to printed and written figures."""
    from benchmarks.common import show, write_json

    figures = measure(args.size, args.turns, args.steps)
    print(describe(figures))
    show(targets(figures), table(figures))
    write_json(args.json, figures)


if __name__ == "__main__":
    sys.exit(main())
