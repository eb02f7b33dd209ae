"""Time of each op, forward and backward, against PyTorch's op and its autograd on the same numbers.

    python -m benchmarks.bench_ops
    python -m benchmarks.bench_ops --only attention

One thread each: so do the ops run in training, where each core has a shard of the batch. The sides
take turns, and a ratio is the median of the turns' ratios. Forward keeps what backward needs on
both sides; PyTorch's backward is torch.autograd.grad over a graph that is kept. Attention is
causal; PyTorch's is scaled_dot_product_attention. GFLOP/s stand where nearly all work is products;
of causal attention all of T x T is counted.
"""

import statistics
import sys
from functools import partial
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.common import (
    Ratio,
    Target,
    count,
    gemm_rate,
    markdown,
    parser,
    ratio,
    take_turns,
    timed,
    without_torch,
    write_json,
)
from minigpt import ops
from minigpt.cli import guard
from minigpt.ops.attention import Mask
from minigpt.training import keep_freed_memory

TURN = 0.01  # seconds that a turn lasts, about


class Case(NamedTuple):
    """An op at one shape."""

    op: str
    shape: str
    inputs: tuple  # arrays that have a gradient
    forward: object  # our forward: *inputs -> y, cache
    backward: object  # our backward: dy, cache -> gradients
    theirs: object  # PyTorch's forward of the torch module and tensors
    flops: float = 0  # of forward's products; backward has twice as many

    @property
    def name(self):
        return f"{self.op} {self.shape}"


def cases(quick=False):
    """The ops at shapes of the small and the middle model, and a few larger ones
    -> list of Case, made one at a time
    """
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape, np.float32)

    linears = [
        (384, 128, 384),
        (384, 128, 512),
        (384, 512, 128),
        (2048, 384, 1536),
        (2048, 1536, 384),
        (512, 768, 3072),
    ]
    for rows, inputs, outputs in linears[:1] if quick else linears:
        arrays = normal(rows, inputs), normal(inputs, outputs) / np.float32(inputs**0.5), normal(outputs)
        yield Case("linear", f"({rows}, {inputs}) x ({inputs}, {outputs})", arrays,
                   ops.linear_forward, ops.linear_backward,
                   lambda torch, x, w, b: torch.addmm(b, x, w), 2 * rows * inputs * outputs)  # fmt: skip

    elementwise = {
        "gelu_tanh": lambda torch, x: torch.nn.functional.gelu(x, approximate="tanh"),
        "gelu": lambda torch, x: torch.nn.functional.gelu(x),
        "relu": lambda torch, x: torch.relu(x),
        "silu": lambda torch, x: torch.nn.functional.silu(x),
    }
    for name, theirs in elementwise.items():
        for shape in [(384, 512)] if quick else [(384, 512), (2048, 1536)]:
            yield Case(
                name,
                str(shape),
                (normal(*shape),),
                getattr(ops, f"{name}_forward"),
                getattr(ops, f"{name}_backward"),
                theirs,
            )

    for rows, channels in [(384, 128)] if quick else [(384, 128), (2048, 384)]:
        shape, x, weight, bias = f"({rows}, {channels})", normal(rows, channels), normal(channels), normal(channels)
        yield Case("layernorm", shape, (x, weight, bias), ops.layernorm_forward, ops.layernorm_backward,
                   lambda torch, x, w, b: torch.nn.functional.layer_norm(x, w.shape, w, b))  # fmt: skip
        yield Case("rmsnorm", shape, (x, weight), ops.rmsnorm_forward, ops.rmsnorm_backward,
                   lambda torch, x, w: torch.nn.functional.rms_norm(x, w.shape, w, 1e-6))  # fmt: skip
    for shape in [(384, 65)] if quick else [(384, 65), (4096, 256)]:
        yield Case(
            "softmax",
            str(shape),
            (normal(*shape),),
            ops.softmax_forward,
            ops.softmax_backward,
            lambda torch, x: torch.softmax(x, -1),
        )

    for shape in [(2, 4, 64, 32)] if quick else [(6, 4, 64, 32), (8, 6, 256, 64), (1, 6, 1024, 64)]:
        B, H, T, D = shape
        arrays = normal(*shape), normal(*shape), normal(*shape)
        for form, forward, backward in (
            ("attention, plain", ops.attention_forward, ops.attention_backward),
            ("attention, lean", ops.lean_attention_forward, ops.lean_attention_backward),
        ):
            yield Case(form, f"B={B} H={H} T={T} D={D}", arrays, partial(forward, mask=Mask(causal=True)), backward,
                       lambda torch, *qkv: torch.nn.functional.scaled_dot_product_attention(*qkv, is_causal=True),
                       4 * B * H * T * T * D)  # fmt: skip

    for tokens, vocab_size, channels in (
        [(384, 65, 128)] if quick else [(384, 65, 128), (2048, 65, 384), (512, 50257, 768)]
    ):
        ids = rng.integers(0, vocab_size, tokens)
        yield Case("embedding", f"{tokens} of ({vocab_size}, {channels})", (normal(vocab_size, channels),),
                   partial(ops.embedding_forward, ids), ops.embedding_backward,
                   lambda torch, w, ids=ids: torch.nn.functional.embedding(torch.from_numpy(ids), w))  # fmt: skip
    for rows, vocab_size in [(384, 65)] if quick else [(384, 65), (2048, 65), (512, 50257)]:
        ids = rng.integers(0, vocab_size, rows)
        yield Case("cross-entropy", f"({rows}, {vocab_size})", (normal(rows, vocab_size),),
                   partial(with_targets, targets=ids), ops.cross_entropy_backward,
                   lambda torch, x, ids=ids: torch.nn.functional.cross_entropy(x, torch.from_numpy(ids)))  # fmt: skip


def with_targets(logits, targets):
    """cross_entropy_forward as a function of the logits."""
    return ops.cross_entropy_forward(logits, targets)


def sides(case, torch=None):
    """-> pass -> name -> function: "forward" and "backward", each of "minigpt" and,
    where torch is given, "pytorch".
    """
    y, cache = case.forward(*case.inputs)
    dy = np.random.default_rng(1).standard_normal(y.shape, np.float32) if y.ndim else np.float32(1)
    found = {
        "forward": {"minigpt": lambda: case.forward(*case.inputs)},
        "backward": {"minigpt": lambda: case.backward(dy, cache)},
    }
    if torch is not None:
        tensors = [torch.from_numpy(x.copy()).requires_grad_() for x in case.inputs]
        result = case.theirs(torch, *tensors)
        gradient = torch.from_numpy(np.array(dy)).reshape(result.shape)
        found["forward"]["pytorch"] = lambda: case.theirs(torch, *tensors)
        found["backward"]["pytorch"] = lambda: torch.autograd.grad(result, tensors, gradient, retain_graph=True)
    return found


def measure(turns, only=None, quick=False):
    """Time every case in turn -> figures"""
    torch = None
    if not without_torch():
        import torch

        torch.set_num_threads(1)
    keep_freed_memory()
    rows = []
    with threadpool_limits(1), np.errstate(all="ignore"):
        rate = gemm_rate()
        for case in cases(quick):
            if only and not any(word in case.name for word in only):
                continue
            row = {"op": case.op, "shape": case.shape}
            for direction, functions in sides(case, torch).items():
                for function in functions.values():
                    function()
                calls = max(1, round(TURN / max(timed(function) for function in functions.values())))
                seconds = take_turns(functions, turns, calls, warm_up=1, pause=0)
                row[direction] = {"us": {name: 1e6 * statistics.median(values) for name, values in seconds.items()}}
                if case.flops:
                    work = case.flops * (2 if direction == "backward" else 1)
                    row[direction]["gflops"] = {
                        name: work / statistics.median(values) / 1e9 for name, values in seconds.items()
                    }
                if "pytorch" in seconds:
                    row[direction]["speedup"] = ratio(seconds["minigpt"], seconds["pytorch"])._asdict()
            rows.append(row)
            print(markdown_row(row), flush=True)
    return {"turns": turns, "gemm_gflops": rate / 1e9, "ops": rows}


def markdown_row(row):
    """One op in a line, for those who wait."""
    cells = [
        f"{direction} {', '.join(f'{name} {us:,.0f} us' for name, us in row[direction]['us'].items())}"
        for direction in ("forward", "backward")
    ]
    return f"{row['op']} {row['shape']}: {'; '.join(cells)}"


def targets(figures):
    """No limit was set for single ops: the median over all of them, for the report
    -> list of Target
    """
    ratios = [
        row[d]["speedup"]["median"] for row in figures["ops"] for d in ("forward", "backward") if "speedup" in row[d]
    ]
    what = "ops: times as fast as PyTorch, median over ops, forward and backward, one thread"
    return [Target(what, statistics.median(ratios))] if ratios else []


def table(figures):
    """A row an op and shape -> columns, rows"""
    columns, rows = ["op", "shape"], []
    for direction in ("forward", "backward"):
        columns += [f"{direction}, us", "PyTorch", "times as fast (80% of turns)", "GFLOP/s"]
    for row in figures["ops"]:
        cells = [row["op"], row["shape"]]
        for direction in ("forward", "backward"):
            found = row[direction]
            r = Ratio(**found["speedup"]) if "speedup" in found else None
            cells += [f"{found['us']['minigpt']:,.0f}", f"{found['us']['pytorch']:,.0f}" if r else ""]
            cells += [
                f"{r.median:.2f} ({r.low:.2f} to {r.high:.2f})" if r else "",
                f"{found['gflops']['minigpt']:.0f}" if "gflops" in found else "",
            ]
        rows.append(cells)
    return columns, rows


def describe(figures):
    """What was measured, in a sentence or two."""
    rate = f"GEMM on one thread {figures['gemm_gflops']:.0f} GFLOP/s"
    return f"One thread each; medians of {figures['turns']} turns. {rate}."


def draw(figures):
    """Ratios of all ops as dots on a line, forward and backward
    -> Figure, or None without PyTorch's side
    """
    from minigpt import plots

    rows = [row for row in figures["ops"] if "speedup" in row["forward"]]
    if not rows:
        return None
    figure, ax = plots.subplots(width=7.2, height=0.17 * len(rows) + 1.1)
    places = np.arange(len(rows))[::-1]
    for direction, colour in zip(("forward", "backward"), plots.COLOURS):
        found = [row[direction]["speedup"] for row in rows]
        middle = np.array([r["median"] for r in found])
        spread = np.array([[m - r["low"], r["high"] - m] for r, m in zip(found, middle)]).T.clip(0)
        ax.errorbar(middle, places, xerr=spread, fmt="o", markersize=3.5, color=colour, elinewidth=1, label=direction)
    ax.axvline(1, color="#999999", linewidth=1)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_yticks(places, [f"{row['op']} {row['shape']}" for row in rows], fontsize=7)
    ax.set_ylim(-0.8, len(rows) - 0.2)
    ax.legend(loc="lower left", frameon=False, prop={"family": plots.FONT, "size": 9}, labelcolor=plots.INK)
    plots.annotate(ax, "Ops against PyTorch's, one thread", "times as fast as PyTorch (median, 80% of turns)")
    return figure


def main(argv=None):
    """Print the figures and, with --json, write them -> exit code."""
    made = parser(__doc__)
    made.add_argument("--turns", type=count, default=15, metavar="N", help="turns of each side (default: 15)")
    made.add_argument(
        "--only", nargs="+", metavar="WORD", help="ops whose name or shape has one of these (default: all)"
    )
    made.add_argument("--quick", action="store_true", help="the smallest shape of each op (default: all shapes)")
    args = made.parse_args(argv)
    figures = measure(args.turns, args.only, args.quick)
    if not figures["ops"]:
        made.error(f"--only {' '.join(args.only)}: no op has that in its name")
    print("\n" + describe(figures) + "\n\n" + markdown(*table(figures)))
    write_json(args.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(guard(main, None))
