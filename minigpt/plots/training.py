"""Pictures of training: losses, gradients and their check, and where the time goes."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from minigpt.errors import MinigptError
from minigpt.plots.figure import COLOURS, FONT, INK, TICKS, annotate, subplots


def loss_curve(rows, ax=None, label=None, title=None, band=None):
    """Training loss as a thin line, validation loss as points on a line, against the step.

    rows: dicts of metrics.jsonl, with step, train_loss and, where measured, val_loss; ax: the Axes
    to draw on, new unless given. Draw several runs on one ax, each with its label, and each gets a
    colour of its own. -> Axes. Losses that are not finite leave a gap. band: what is normal (a
    minigpt.training.Band); it is drawn behind, and the training loss averaged over as many steps as
    the band's. MinigptError for a row that is no such dict.
    """
    steps, train, val = (column(rows, key) for key in ("step", "train_loss", "val_loss"))
    if np.isnan(steps).any():
        raise MinigptError(f"row {int(np.isnan(steps).argmax())} has no step, every row of metrics needs one")
    ax = subplots()[1] if ax is None else ax
    run = sum(line.get_gid() == "training" for line in ax.lines)
    colour, prefix = COLOURS[run % len(COLOURS)], "" if label is None else f"{label}: "
    if band is not None:
        draw_band(ax, band)
        finite = np.isfinite(train)
        train[finite] = band.smooth([row for row, keep in zip(rows, finite) if keep])
    for gid, losses, look in (
        ("training", train, {"linewidth": 1, "alpha": 0.5, "marker": "." if np.isfinite(train).sum() == 1 else None}),
        ("validation", val, {"linewidth": 1.7, "marker": "o", "markersize": 4.5}),
    ):
        # a gap in the training line; validation points join across rows without one
        kept = np.isfinite(losses) | (gid == "training")
        name = prefix + gid if np.isfinite(losses).any() else "_nothing to name"
        ax.plot(steps[kept], losses[kept], color=colour, label=name, gid=gid, **look)
    if all(line.get_label().startswith("_") for line in ax.lines):
        ax.set_yticks([])
    else:
        ax.yaxis.set_major_locator(MaxNLocator(nbins=8, steps=TICKS))
        legend = ax.legend(frameon=False, prop={"family": FONT, "size": 9}, labelcolor=INK)
        for text in legend.get_texts():
            text.set_parse_math(False)
    last = max((line.get_xdata().max(initial=0) for line in ax.lines), default=0)
    ax.set_xlim(0, last * 1.02 or 1)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=TICKS, integer=True))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if title is None:
        title = describe(steps, train, val) if run == 0 else f"Loss of {run + 1} runs"
    annotate(ax, title, "step", "loss (nats per token)")
    return ax


def draw_band(ax, band):
    """What is normal for training and validation loss as two bands, the second the darker, on the
    Axes of a loss curve. -> ax
    """
    for interval, colour, name in (
        (band.train, "#e3e3e3", "_band"),
        (band.val, "#b5b5b5", f"normal ({band.seeds} seeds)"),
    ):
        ax.fill_between(
            interval.steps, interval.low, interval.high, color=colour, linewidth=0, label=name, gid="band", zorder=1
        )
    return ax


def column(rows, key):
    """One column of metrics as floats, NaN where it is missing or not finite. MinigptError for what
    is no dict, or no number in it.
    """
    values = np.full(len(rows), np.nan)
    for i, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise MinigptError(f"row {i} is {row!r}, it must be a dict with step and train_loss")
        value = row.get(key)
        if value is not None:
            if isinstance(value, str | bool) or np.ndim(value):
                raise MinigptError(f"row {i}: {key} is {value!r}, it must be a number")
            values[i] = value if math.isfinite(value) else np.nan
    return values


def describe(steps, train, val):
    """A title that says what the curves come to."""
    measured = np.flatnonzero(np.isfinite(val))
    trained = np.flatnonzero(np.isfinite(train))
    if len(steps) and not np.isfinite(train[-1]) and not np.isfinite(val[-1]):
        return f"Loss not finite at step {steps[-1]:,.0f}"
    if len(measured):
        last, best = measured[-1], measured[np.argmin(val[measured])]
        title = f"Validation loss {val[last]:.3f} after {steps[last]:,.0f} steps"
        return (
            title if val[last] - val[best] < 5e-4 else f"{title}, {val[best]:.3f} at its best (step {steps[best]:,.0f})"
        )
    if len(trained):
        return f"Training loss {train[trained[-1]]:.3f} after {steps[trained[-1]]:,.0f} steps"
    return "No losses yet"


def gradient_norms(grads, ax=None, title=None):
    """The Euclidean norm of each parameter's gradient, in store order from top to bottom, on a
    logarithmic axis.

    grads: Mapping of name -> array. -> Axes. A gradient of exactly zero is a ring at the left edge,
    one that is not finite a cross at the right. MinigptError for what is no such mapping.
    """
    if not isinstance(grads, Mapping) or not grads:
        what = "empty" if isinstance(grads, Mapping) else f"a {type(grads).__name__}"
        raise MinigptError(f"grads is {what}, it must map at least one name to an array")
    norms = np.array([norm(g) for g in grads.values()])
    names, places = list(grads), np.arange(len(grads))
    ax = subplots(width=6.4, height=1.1 + 0.165 * len(names))[1] if ax is None else ax
    usable = np.isfinite(norms) & (norms > 0)
    low, high = (norms[usable].min() / 2, norms[usable].max() * 2) if usable.any() else (0.1, 1)
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    ax.set_ylim(len(names) - 0.4, -0.6)
    for i, part in enumerate(blocks(names)):
        if i % 2:
            ax.axhspan(part.start - 0.5, part.stop - 0.5, color="#f3f3f3", linewidth=0, zorder=0)
    ax.hlines(places[usable], low, norms[usable], color=COLOURS[0], alpha=0.3, linewidth=1)
    ax.plot(norms[usable], places[usable], "o", color=COLOURS[0], markersize=4.5, gid="norms")
    for name, found, at, look in (
        ("exactly zero", norms == 0, low, {"marker": "o", "markerfacecolor": "white"}),
        ("not finite", ~np.isfinite(norms), high, {"marker": "X"}),
    ):
        if found.any():
            look |= {"linestyle": "", "color": COLOURS[1], "clip_on": False}
            ax.plot(np.full(found.sum(), at), places[found], label=name, gid=name, **look)
            beside_the_title = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderpad": 0, "ncols": 2}
            ax.legend(frameon=False, prop={"family": FONT, "size": 9}, labelcolor=INK, **beside_the_title)
    ax.set_yticks(places, names, fontsize=7.5, family=FONT, parse_math=False)
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    annotate(
        ax,
        "Size of each parameter's gradient" if title is None else title,
        "norm of the gradient (nats per unit of the parameter)",
        None,
    )
    return ax


def norm(g):
    """Euclidean norm of an array in float64, so that squares of float32 do not overflow."""
    g = np.asarray(g, np.float64)
    return math.sqrt((g * g).sum()) if np.isfinite(g).all() else math.nan


def blocks(names):
    """Neighbouring names that belong to one block of a model (the same up to their first number):
    yields ranges.
    """
    start, keys = 0, [block_of(name) for name in names]
    for i in range(1, len(keys) + 1):
        if i == len(keys) or keys[i] != keys[start]:
            yield range(start, i)
            start = i


def block_of(name):
    """The part of a parameter's name up to its first number: h.0 of h.0.ln_1.weight; empty where
    there is none.
    """
    parts = str(name).split(".")
    digits = [i for i, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[: digits[0] + 1]) if digits else ""


def step_errors(steps, errors, ax=None, title=None):
    """Error of a numeric derivative against its step size, on logarithmic axes: the V of central
    differences, the flat line of the complex step.

    steps (n,) and a dict of method -> errors (n,), as gradcheck.errors_by_step gives them. -> Axes.
    Errors of exactly zero or that are not finite leave a gap.
    """
    ax = subplots()[1] if ax is None else ax
    names = {"central": "central difference", "complex": "complex step"}
    for i, (method, values) in enumerate(errors.items()):
        values = np.where(np.isfinite(values) & (np.asarray(values) > 0), values, np.nan)
        look = {"marker": "os"[i % 2], "color": COLOURS[(1, 0)[i % 2]], "markersize": 4, "linewidth": 1.6}
        ax.plot(steps, values, label=names.get(method, method), gid=method, **look)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.invert_xaxis()
    ax.legend(frameon=False, fontsize=9)
    title = title or "The smaller the step, the better: only without subtraction"
    annotate(ax, title, "step h, smaller to the right", "relative error of the derivative")
    return ax


def profile_chart(profile, ax=None, title=None):
    """Where the time of a training step goes: a bar an op, the longest on top, cut into matrix
    products, element-wise passes, reductions and rest.

    profile: a Profile of minigpt.profile. -> Axes. What takes less than half a percent shares one
    bar.
    """
    kinds = {"matmul": "matrix products", "elementwise": "element-wise", "reductions": "reductions"}
    kinds |= {"other": "copies, random numbers, Python"}
    bars = [(row.op, [getattr(row, kind) for kind in kinds] + [0]) for row in profile.rows]
    bars.append(("waiting", [0] * len(kinds) + [profile.waiting]))
    bars.sort(key=lambda bar: -sum(bar[1]))
    small = [parts for _, parts in bars if sum(parts) < 0.005 * profile.seconds]
    bars = bars[: len(bars) - len(small)] + ([(f"{len(small)} others", np.sum(small, axis=0))] if small else [])
    names = [name for name, _ in bars]
    widths = 1e3 * np.array([parts for _, parts in bars])  # (bars, kinds and waiting)
    ends = widths.sum(axis=1)
    ax = subplots(width=7.2, height=1.2 + 0.21 * len(names))[1] if ax is None else ax
    for i, (kind, name) in enumerate([*kinds.items(), ("waiting", "waiting")]):
        if widths[:, i].any():
            colour = COLOURS[i] if kind in kinds else "#bbbbbb"
            look = {"color": colour, "label": name, "gid": kind, "linewidth": 0}
            ax.barh(range(len(names)), widths[:, i], 0.72, widths[:, :i].sum(axis=1), **look)
    for place, end in enumerate(ends):
        text = {"va": "center", "fontsize": 8, "family": FONT, "color": INK}
        ax.annotate(f"{end / (1e3 * profile.seconds):.1%}", (end, place), (4, 0), textcoords="offset points", **text)
    ax.set_xlim(0, ends.max() * (1.1 if ends[-7:].max() < ends.max() / 2 else 1.7))  # room for the legend
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_yticks(range(len(names)), names, fontsize=8, family=FONT, parse_math=False)
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    ax.legend(frameon=False, prop={"family": FONT, "size": 9}, labelcolor=INK, loc="lower right")
    threads = "one thread" if profile.threads == 1 else f"{profile.threads} threads added up"
    annotate(
        ax,
        title or f"Matrix products take {profile.share('matmul'):.0%} of a training step",
        f"milliseconds a step, {threads}",
        None,
    )
    return ax
