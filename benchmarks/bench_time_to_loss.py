"""Time to a loss on tiny Shakespeare,
against nanoGPT's recipe for a CPU in PyTorch on the same machine (benchmarks/nanogpt.py).

    python -m benchmarks.bench_time_to_loss           nanoGPT's recipe, `quick`, `default`, SHORT
    python -m benchmarks.bench_time_to_loss --best    and `best`, ten minutes

Each run is a process of its own, one after another, A B A B .... Seconds are those of training with
its evaluations, without imports, on both sides; ours include saving and the choice of threads, and
each of our validation losses is of the whole split. nanoGPT's loss is measured on the same split
after its run, untimed, in consecutive windows of its 64 tokens; ours in those of the preset's own
context.
"""

import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.common import Target, count, parser, show, whole, without_torch, write_json
from minigpt import cli
from minigpt.data import read_text, split, tiny_shakespeare
from minigpt.errors import MinigptError
from minigpt.tokenizers.char import CharTokenizer
from minigpt.training import PRESETS, read_metrics

PRESETS_TO_RUN = ("quick", "default")
BEST_SECONDS = 600
# A run that is meant to end at nanoGPT's loss as soon as it can:
# a smaller model than `quick`, with shorter windows, and its rate at zero by then
SHORT = ["--preset", "quick", "--n-layer", "2", "--block-size", "64", "--steps", "450"]
SHORT += ["--eval-interval", "450", "--save-interval", "450"]


def run(command):
    """Run a command to its end -> its output, seconds.
    MinigptError with the last line of its errors where it fails.
    """
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise MinigptError(f"{' '.join(command[:4])}: {why[0]}")
    return done.stdout, time.perf_counter() - began


def run_nanogpt(folder, changes):
    """PyTorch's side in a process, on the tokens in the folder
    -> dict of benchmarks.nanogpt.train, and `process`, the seconds from start to exit
    """
    output, seconds = run(
        ["benchmarks.nanogpt", str(folder / "train.npy"), str(folder / "validation.npy"), json.dumps(changes)]
    )
    return json.loads(output.splitlines()[-1]) | {"process": seconds}


def run_ours(data, out, options):
    """`minigpt train` in a process -> seconds and validation loss at the end,
    rows of its validation losses, and `process`.
    """
    _, seconds = run(["minigpt", "train", "--data", str(data), "--out", str(out), *options])
    rows = [
        {key: row[key] for key in ("step", "seconds", "val_loss")}
        for row in read_metrics(out / "metrics.jsonl")
        if "val_loss" in row
    ]
    return {"seconds": rows[-1]["seconds"], "val_loss": rows[-1]["val_loss"], "rows": rows, "process": seconds}


def time_to(rows, loss):
    """Seconds at which a run first measured at most this validation loss; None if it never did."""
    return next((row["seconds"] for row in rows if row["val_loss"] <= loss), None)


def loss_within(rows, seconds):
    """The least validation loss that a run had measured by then; None if it had measured none."""
    return min((row["val_loss"] for row in rows if row["seconds"] <= seconds), default=None)


def plan(args):
    """What our side runs: name -> options of `minigpt train`.
    Presets that are not there are left out, with a line.
    """
    wanted = {preset: ["--preset", preset] for preset in args.presets} | (
        {"best": ["--preset", "best"]} if args.best else {}
    )
    if args.short:
        wanted["short"] = SHORT
    if args.steps:
        wanted = {name: [*options, "--steps", str(args.steps)] for name, options in wanted.items()}
    for name, options in list(wanted.items()):
        if options[1] not in PRESETS:
            print(f"there is no preset {options[1]}: leaving out {name}")
            del wanted[name]
    return wanted


def measure(corpus, ours, turns, seed=0, steps=None):
    """Run the sides in turn -> figures"""
    ids = CharTokenizer.from_text(corpus.text).encode(corpus.text).astype(np.uint16)
    runs = {}
    pytorch = not without_torch()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "text.txt").write_bytes(corpus.text.encode("utf-8"))
        for name, tokens in zip(("train", "validation"), split(ids)):
            np.save(folder / f"{name}.npy", tokens)
        for turn in range(turns):
            if pytorch:
                changes = {"seed": 1337 + turn} | ({"steps": steps, "warmup": min(100, steps // 2)} if steps else {})
                runs.setdefault("nanogpt", []).append(run_nanogpt(folder, changes))
                tell("nanogpt", runs)
            for name, options in ours.items():
                seeded = [*options, "--seed", str(seed + turn)]
                runs.setdefault(name, []).append(run_ours(folder / "text.txt", folder / f"{name}-{turn}", seeded))
                tell(name, runs)
    return {"text": corpus.sha256, "turns": turns, "options": ours, "runs": runs}


def tell(name, runs):
    """A line for those who wait."""
    print(f"{name}: {runs[name][-1]['seconds']:.1f} s, validation loss {runs[name][-1]['val_loss']:.4f}", flush=True)


def compare(figures):
    """What each of our runs comes to beside nanoGPT's of the same turn
    -> name -> medians over turns, in which a loss not reached is inf.
    """
    found = {}
    for name, runs in figures["runs"].items():
        row = {
            "seconds": statistics.median(r["seconds"] for r in runs),
            "val_loss": statistics.median(r["val_loss"] for r in runs),
        }
        pairs = list(zip(runs, figures["runs"].get("nanogpt", [])))
        if name != "nanogpt" and pairs:
            times = [time_to(ours["rows"], theirs["val_loss"]) for ours, theirs in pairs]
            losses = [loss_within(ours["rows"], theirs["seconds"]) for ours, theirs in pairs]
            # never, and none yet
            times, losses = ([math.inf if value is None else value for value in values] for values in (times, losses))
            row["to_its_loss"] = statistics.median(times)
            row["share"] = statistics.median(t / theirs["seconds"] for t, (_, theirs) in zip(times, pairs))
            row["in_its_time"] = statistics.median(losses)
        found[name] = row
    return found


def targets(figures):
    """The figures that a limit was set for, and their limits -> list of Target"""
    rows = {name: row for name, row in compare(figures).items() if name != "nanogpt"}
    if set(rows) == {"best"}:  # which is not made for this race
        rows = {}
    found = []
    shares = {name: row["share"] for name, row in rows.items() if "share" in row}
    if shares:
        name = min(shares, key=shares.get)
        found.append(
            Target(f"time to nanoGPT's loss, of its wall-clock ({name})", shares[name], 1 / 6, most=True, form="{:.3f}")
        )
    losses = {name: row["in_its_time"] for name, row in rows.items() if "in_its_time" in row}
    if losses:
        name = min(losses, key=losses.get)
        found.append(
            Target(f"validation loss in nanoGPT's wall-clock ({name})", losses[name], 1.58, most=True, form="{:.3f}")
        )
    if "best" in figures["runs"]:
        losses = [loss_within(r["rows"], BEST_SECONDS) or math.inf for r in figures["runs"]["best"]]
        found.append(
            Target("validation loss in ten minutes (best)", statistics.median(losses), 1.50, most=True, form="{:.3f}")
        )
    return found


def table(figures):
    """A row a run -> columns, rows"""

    def cell(value, form):
        return "" if value is None else "never" if value == math.inf else form.format(value)

    rows = [
        (
            "nanoGPT in PyTorch" if name == "nanogpt" else " ".join([f"{name}:", *figures["options"].get(name, [])]),
            f"{row['seconds']:.1f}",
            f"{row['val_loss']:.4f}",
            cell(row.get("to_its_loss"), "{:.1f}"),
            cell(row.get("share"), "{:.3f}"),
            cell(row.get("in_its_time"), "{:.4f}"),
        )
        for name, row in compare(figures).items()
    ]
    return (
        "run",
        "seconds",
        "validation loss",
        "seconds to nanoGPT's loss",
        "of its seconds",
        "loss in its seconds",
    ), rows


def describe(figures):
    """What was measured, in a sentence."""
    return (
        f"Text of SHA-256 {figures['text'][:12]}..., {figures['turns']} run(s) each, in turn. "
        "Losses are measured at the steps that a run evaluates: a time to a loss is that of the first one "
        "not above it. Each side is scored on the whole validation split, "
        "in windows of its own length (nanoGPT's is 64)."
    )


def draw(figures):
    """Validation loss against seconds, one line a run -> Figure"""
    from matplotlib.ticker import LogLocator, NullFormatter

    from minigpt import plots

    figure, ax = plots.subplots(width=7, height=4)
    for i, (name, runs) in enumerate(figures["runs"].items()):
        label = "nanoGPT in PyTorch" if name == "nanogpt" else name
        for r in runs:
            rows = [row for row in r["rows"] if row["step"] > 0]
            seconds, losses = [row["seconds"] for row in rows], [row["val_loss"] for row in rows]
            ax.plot(
                seconds,
                losses,
                color=plots.COLOURS[i % len(plots.COLOURS)],
                marker="o",
                markersize=4,
                linewidth=1.5,
                label=label,
            )
            label = None
    if "nanogpt" in figures["runs"]:
        ax.axhline(
            statistics.median(r["val_loss"] for r in figures["runs"]["nanogpt"]),
            color="#999999",
            linewidth=1,
            linestyle="--",
        )
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.legend(frameon=False, prop={"family": plots.FONT, "size": 9}, labelcolor=plots.INK)
    plots.annotate(ax, "Tiny Shakespeare: loss against wall-clock", "seconds", "validation loss (nats per character)")
    return figure


def main(argv=None):
    """Print the figures and, with --json, write them -> exit code."""
    made = parser(__doc__)
    made.add_argument("--data", metavar="FILE", help="UTF-8 text file (default: tiny Shakespeare)")
    made.add_argument(
        "--presets",
        nargs="*",
        default=list(PRESETS_TO_RUN),
        metavar="NAME",
        help=f"of ours (default: {' '.join(PRESETS_TO_RUN)})",
    )
    made.add_argument("--best", action="store_true", help="run preset best as well (default: not)")
    made.add_argument(
        "--no-short",
        dest="short",
        action="store_false",
        help="leave out the run meant to end at nanoGPT's loss (default: run it)",
    )
    made.add_argument("--turns", type=count, default=1, metavar="N", help="runs of each (default: 1)")
    made.add_argument(
        "--steps", type=count, metavar="N", help="steps of every run, to try this program (default: the recipes' own)"
    )
    made.add_argument("--seed", type=whole, default=0, metavar="N", help="seed of our first turn (default: 0)")
    args = made.parse_args(argv)
    return cli.guard(compare_runs, args)


def compare_runs(args):
    """From parsed arguments to printed and written figures."""
    corpus = tiny_shakespeare() if args.data is None else read_text(args.data)
    figures = measure(corpus, plan(args), args.turns, args.seed, args.steps)
    print(describe(figures))
    show(targets(figures), table(figures))
    write_json(args.json, figures)


if __name__ == "__main__":
    sys.exit(main())
