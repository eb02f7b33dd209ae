"""A map of sentences: their vectors in the plane, near where they mean much the same."""

import numpy as np

from minigpt.plots.figure import COLOURS, FONT, INK, annotate, subplots

LONGEST, MOST = 34, 40  # characters of a label; labels
SIZE = 7.2  # of a label, in points
PLACES = [(1, 0), (-1, 0), (1, 0.9), (1, -0.9), (-1, 0.9), (-1, -0.9), (1, 1.8), (1, -1.8), (-1, 1.8), (-1, -1.8)]


def sentence_map(points, texts, shares=None, *, query=None, nearest=()):
    """Draw sentences as points, with labels as far as there is room -> Axes.

    points (N, 2), such as sentences.principal_map gives; texts: N strings; shares: the part of the
    variance that each axis shows; query and nearest: the places of one sentence, and of those to be
    shown as near to it.
    """
    points = np.asarray(points)
    figure, ax = subplots(width=8.4, height=6.0)
    colours = np.full(len(points), COLOURS[0], object)
    colours[list(nearest)] = COLOURS[1]
    for i in nearest:
        ax.plot(*points[[query, i]].T, color=COLOURS[1], linewidth=0.8, alpha=0.6, zorder=1)
    ax.scatter(*points.T, c=list(colours), s=22 if len(points) <= MOST else 9, linewidths=0, zorder=2)
    if query is not None:
        ax.scatter(*points[query], marker="*", s=150, color=COLOURS[2], linewidths=0, zorder=3)
    ax.margins(x=0.22, y=0.08)  # room for labels
    names = ("first principal axis", "second principal axis")
    if shares is not None:
        names = (f"{name}, {share:.0%} of the variance" for name, share in zip(names, shares))
    annotate(ax, "Sentences: near each other where they mean much the same", *names)
    first = [i for i in (query, *nearest) if i is not None]
    rest = [i for i in np.argsort(-np.linalg.norm(points - points.mean(axis=0), axis=1)) if i not in first]
    label(figure, ax, points, texts, (first + rest)[:MOST], len(first))
    return ax


def label(figure, ax, points, texts, order, over=0):
    """Write the texts of some points beside them, in that order, where neither a text nor a point
    stands already; one that finds no room is left out. The first `over` of them may stand over
    points.
    """
    figure.draw_without_rendering()  # from here on the axes know where they are
    figure.set_layout_engine("none")  # and stay there
    dots, taken = [around(ax.transData.transform(point), 4, 4) for point in points], []
    frame = ax.get_window_extent()
    pixels = figure.dpi / 72 * SIZE
    for rank, i in enumerate(order):
        avoid = [dots[k] for k in (order[:over] if rank < over else range(len(points))) if k != i]
        text = " ".join(str(texts[i]).split())
        text = text if len(text) <= LONGEST else text[: LONGEST - 3].rstrip() + "..."
        x, y = ax.transData.transform(points[i])
        width, height = 0.56 * pixels * len(text) / 2, 0.62 * pixels
        for side, up in PLACES:
            box = around((x + side * (width + 0.8 * pixels), y + 1.3 * up * pixels), width, height)
            inside = frame.x0 <= box[0] and box[2] <= frame.x1 and frame.y0 <= box[1] and box[3] <= frame.y1
            if inside and not any(overlap(box, other) for other in avoid + taken):
                taken.append(box)
                place = (0.8 * SIZE * side, 1.3 * up * SIZE)
                ax.annotate(text, points[i], place, textcoords="offset points", fontsize=SIZE, color=INK, va="center",
                            ha="left" if side > 0 else "right", family=FONT, parse_math=False,
                            bbox={"fc": "white", "ec": "none", "alpha": 0.7, "pad": 0.4})  # fmt: skip
                break


def around(middle, width, height):
    """A box (left, bottom, right, top) by its middle and half of its sizes."""
    x, y = middle
    return x - width, y - height, x + width, y + height


def overlap(a, b):
    """Whether two boxes share a place."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
