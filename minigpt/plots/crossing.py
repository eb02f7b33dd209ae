"""What a decoder looks at in the text that it reads, beside the text that it writes.

Shapes: L layers, H heads, T tokens of the target, S tokens of the source.
"""

import numpy as np

from minigpt.checks import whole
from minigpt.plots.attention import cell_size, check_weights, draw_map, name_ticks, token_names
from minigpt.plots.figure import COLOURS, FONT, INK, Figure, annotate, style, subplots

FAINTEST = 0.05  # of attention; weaker lines are not drawn
ROWS = 1.9  # inches that the two rows take in height
LETTER = 0.082  # inches that a letter of a token takes, and GAP those between two
GAP = 0.22
WIDEST = 16.0  # inches of a row; longer ones are left out, the map has them by position


def cross_attention(weights, source, target, *, layer=None, head=None, title=None):
    """Where a decoder looks in its source as it says each token of the target: the two texts as
    rows with lines between them, the broader the more attention, and the same as a map. Of long
    texts the map alone.

    weights (L, H, T, S); source, target: names of the S and T tokens; layer, head: whose attention
    is drawn, unless given that of the head which `alignment` puts first -> Figure. MinigptError for
    weights or names that do not fit, and a layer or head that is not there.
    """
    weights = check_weights(weights, 4, "(layers, heads, targets, sources)")
    says, reads = token_names(weights.shape[2:], source, target)
    layer, head = chosen(weights, layer, head)
    drawn = weights[layer, head]
    title = f"Where layer {layer}, head {head} of the decoder looks" if title is None else title
    width, cell = max(row_width(reads), row_width(says)), cell_size(*drawn.shape, 2.2, 5.0)
    across, down = max(4.5, cell * len(reads) + 1.6), cell * len(says) + 1.5
    if width <= WIDEST:
        figure = Figure(figsize=(max(across, width + 0.4), ROWS + down), layout="constrained")
        above, below = figure.subplots(2, 1, height_ratios=(ROWS, down))
        draw_lines(above, drawn, reads, says, width)
        annotate(above, title)
    else:
        figure, below = subplots(width=across, height=down)
        annotate(below, title)
    draw_map(style(below), drawn, max(drawn.max(), 1.0))
    name_ticks(below, says, reads, cell)
    annotate(below, None, "source (looked at)", "target (said)")
    return figure


def chosen(weights, layer, head):
    """The layer and head to draw: those given, else the best of alignment among what is left."""
    L, H = weights.shape[:2]
    scores = alignment(weights)
    for axis, (name, value, size) in enumerate((("layer", layer, L), ("head", head, H))):
        if value is not None:
            others = np.arange(size) != whole(name, value, at_least=0, at_most=size - 1)
            scores[(slice(None),) * axis + (others,)] = -1.0
    return np.unravel_index(int(scores.argmax()), scores.shape)


def alignment(weights):
    """How many source tokens a head looks at, each as much as the target token that looks at it
    most: weights (..., T, S) -> (...). The ends of both texts, the last tokens, don't count.

        sum over s < S of max over t < T of weights[t, s]

    It is about 1 for a head that looks everywhere alike or always at one place, 0 for one that
    looks at the end, and most for one that takes the source's tokens in turn, each alone.
    """
    return weights[..., :-1, :-1].max(axis=-2, initial=0.0).sum(axis=-1)


def row_width(names):
    """Inches that a row of tokens takes."""
    return sum(max(len(name), 1) * LETTER + GAP for name in names)


def draw_lines(ax, weights, reads, says, width):
    """The source above the target, and a line for each pair of tokens with attention between
    them.
    """
    ax.set_axis_off()
    ax.set_xlim(0, width)
    ax.set_ylim(0, 1)
    places = [row_places(names, width) for names in (reads, says)]
    for t, s in zip(*np.nonzero(weights >= FAINTEST)):
        weight = float(weights[t, s])
        ends = [places[0][s], places[1][t]], [0.83, 0.17]
        ax.plot(*ends, color=COLOURS[0], linewidth=4 * weight, alpha=0.25 + 0.6 * weight, solid_capstyle="round")
    text = {"ha": "center", "family": FONT, "color": INK, "fontsize": 10, "parse_math": False}
    for height, align, names, xs in ((0.87, "bottom", reads, places[0]), (0.13, "top", says, places[1])):
        for name, x in zip(names, xs):
            ax.text(x, height, name, va=align, **text)


def row_places(names, width):
    """Where the middles of a row's tokens lie, the row in the middle of a width -> list."""
    place, places = (width - row_width(names)) / 2, []
    for name in names:
        own = max(len(name), 1) * LETTER + GAP
        places.append(place + own / 2)
        place += own
    return places
