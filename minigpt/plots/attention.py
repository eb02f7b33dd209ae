"""What a model looks at: maps of attention weights.

Shapes: H heads, T queries, S keys.
"""

import numpy as np
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import MaxNLocator

from minigpt.errors import MinigptError
from minigpt.plots.figure import FONT, INK, TICKS, annotate, subplots

VISIBLE = {" ": "␣", "\n": "↵", "\t": "⇥", "": "∅"}
SMALLEST = 5.0  # points; tokens that would have to be smaller give way to their positions
CELL = 0.15  # inches a token takes in an attention map, where that makes it neither tiny nor huge


def attention_map(weights, tokens=None, ax=None, title=None, query_tokens=None):
    """The attention weights of one head: a row for each query, a column for each key, the darker
    the more weight.

    weights (T, S); tokens: names of the S keys, of which the queries are the last T unless
    query_tokens names them; a string counts as its characters. -> Axes. MinigptError for weights
    that are not two-dimensional and finite, or tokens that do not fit.
    """
    weights = check_weights(weights, 2, "(queries, keys)")
    queries, keys = token_names(weights.shape, tokens, query_tokens)
    T, S = weights.shape
    if ax is None:
        cell = cell_size(T, S, 3.2, 9.0)
        ax = subplots(width=S * cell + 1.6, height=T * cell + 1.0)[1]
    else:
        room = ax.get_position().size * ax.figure.get_size_inches()
        cell = min(room[0] / S, room[1] / T)
    image = draw_map(ax, weights, weights.max())
    name_ticks(ax, queries, keys, cell)
    annotate(ax, "Where each token looks" if title is None else title, "key (looked at)", "query (looking)")
    add_scale(ax.figure, image, ax)
    return ax


def attention_maps(weights, tokens=None, title=None, query_tokens=None, names=None):
    """The attention weights of several heads side by side, on one scale of colours.

    weights (H, T, S); names: of the H maps, "head 0" and so on unless given; tokens, query_tokens
    and errors as for attention_map -> Figure.
    """
    weights = check_weights(weights, 3, "(heads, queries, keys)")
    H, T, S = weights.shape
    names = [f"head {head}" for head in range(H)] if names is None else list(names)
    if len(names) != H:
        raise MinigptError(f"names: {len(names)} of them for {H} heads")
    queries, keys = token_names((T, S), tokens, query_tokens)
    columns = min(H, 4 if H > 6 or H == 4 else 3) if max(T, S) <= 24 else min(H, 2)
    rows = -(-H // columns)
    cell = cell_size(T, S, 2.1, 5.0)
    figure, axes = subplots(rows, columns, columns * (S * cell + 0.1) + 1.4, rows * (T * cell + 0.45) + 0.75)
    for head, ax in enumerate(np.ravel(axes)):
        if head >= H:
            ax.set_visible(False)
            continue
        image = draw_map(ax, weights[head], weights.max())
        name_ticks(ax, queries, keys, cell)
        ax.tick_params(labelleft=head % columns == 0, labelbottom=head + columns >= H)
        ax.set_title(names[head], loc="left", fontsize=9.5, family=FONT, color=INK, parse_math=False)
    labels = {"family": FONT, "color": INK, "fontsize": 9.5}
    figure.supxlabel("key (looked at)", **labels)
    figure.supylabel("query (looking)", **labels)
    title = "Where each head looks" if title is None else title
    figure.suptitle(
        title, x=0.01, ha="left", family=FONT, color=INK, fontsize=10.5, fontweight="bold", parse_math=False
    )
    add_scale(figure, image, list(np.ravel(axes)))
    return figure


def check_weights(weights, ndim, axes):
    """Weights as a real float array. MinigptError where they have other axes, are empty or not
    finite.
    """
    weights = np.asarray(weights)
    if weights.ndim != ndim or weights.size == 0:
        hint = ", so take one text of the batch: weights[0]" if weights.ndim == 4 and ndim == 3 else ""
        raise MinigptError(f"weights: shape is {weights.shape}, it must be {axes}{hint}")
    if weights.dtype.kind not in "fiu" or not np.isfinite(weights).all():
        raise MinigptError("weights: not all of them are finite real numbers")
    return weights


def token_names(shape, tokens, query_tokens):
    """Names of the queries and of the keys to print, None where there are none. MinigptError where
    their numbers do not fit.
    """
    T, S = shape
    keys = None if tokens is None else [visible(token) for token in tokens]
    if keys is not None and len(keys) != S:
        raise MinigptError(f"tokens: {len(keys)} of them for {S} keys")
    if query_tokens is not None:
        queries = [visible(token) for token in query_tokens]
        if len(queries) != T:
            raise MinigptError(f"query_tokens: {len(queries)} of them for {T} queries")
    else:
        if keys is not None and T > S:
            raise MinigptError(f"{T} queries can't be the last of {S} tokens, name them with query_tokens")
        queries = None if keys is None else keys[S - T :]
    return queries, keys


def visible(token):
    """A token as it can be seen and printed: signs for blanks and line ends, code points for what
    the font has no sign for.
    """
    if token in VISIBLE:
        return VISIBLE[token]
    font = get_font(findfont(FONT))
    return "".join(
        VISIBLE.get(c) or (c if c.isprintable() and font.get_char_index(ord(c)) else f"U+{ord(c):04X}")
        for c in str(token)
    )


def draw_map(ax, weights, largest):
    """One map of weights, from white at 0 to dark at the largest. -> the image"""
    image = ax.imshow(weights, cmap="Blues", vmin=0, vmax=largest if largest > 0 else 1, interpolation="nearest")
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, labelsize=8)
    return image


def cell_size(T, S, smallest, largest):
    """Inches for one cell of a map whose longer side is to stay between smallest and largest."""
    return min(max(CELL, smallest / max(T, S)), largest / max(T, S))


def name_ticks(ax, queries, keys, cell):
    """Tokens along both axes of a map, or positions where there are none or, with cell inches for
    each, too little room.
    """
    size = min(9.0, 0.75 * 72 * cell)  # points
    for axis, names in ((ax.xaxis, keys), (ax.yaxis, queries)):
        if names is None or size < SMALLEST:
            axis.set_major_locator(MaxNLocator(nbins=8, steps=TICKS, integer=True))
            continue
        upright = axis is ax.xaxis and max(map(len, names)) > 2
        axis.set_ticks(
            range(len(names)), names, fontsize=size, rotation=90 if upright else 0, parse_math=False, family=FONT
        )


def add_scale(figure, image, ax):
    """The scale of colours beside one or several maps."""
    aspect = max(16, 5 * figure.get_size_inches()[1])  # of one width, however tall the figure
    bar = figure.colorbar(image, ax=ax, shrink=0.75, aspect=aspect, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=0, labelcolor=INK, labelfontfamily=FONT)
    bar.set_label("attention weight", fontsize=9, color=INK, family=FONT)
