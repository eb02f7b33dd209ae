"""Figures, their style, and files of them."""

import io
from pathlib import Path

import matplotlib.figure
import numpy as np

from minigpt.errors import MinigptError
from minigpt.files import reason, write_atomically

# Okabe and Ito's, told apart by colour-blind readers too
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, FAINT = "#333333", "#dddddd"
FONT = "DejaVu Sans"  # comes with matplotlib, so that a picture is the same everywhere
DPI = 160
TICKS = [1, 2, 2.5, 5, 10]  # ticks are these times a power of ten apart
FORMATS = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


class Figure(matplotlib.figure.Figure):
    """A matplotlib figure that Jupyter shows as it is; matplotlib's own is shown only where pyplot
    has been set up.
    """

    # of its PNG files: a palette of 64 makes flat ones a third as large; None for all
    colours = None

    def _repr_png_(self):
        width, height = (round(side * 96) for side in self.get_size_inches())
        titles = [self.get_suptitle(), *(ax.get_title(loc="left") for ax in self.axes)]
        # alt: for readers who can't see it
        return png(self), {"width": width, "height": height, "alt": "; ".join(filter(None, titles))}


def subplots(rows=1, columns=1, width=6.4, height=3.8):
    """A new figure and its axes, in the style of this module. width and height in inches -> Figure,
    Axes (an array of them where several).
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns)
    for ax in np.ravel(axes):
        style(ax)
    return figure, axes


def style(ax):
    """Quiet axes: a light grid, no box, small labels. -> ax"""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("#999999")
    ax.grid(color=FAINT, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(colors=INK, labelsize=9, labelfontfamily=FONT, color="#999999", which="both")
    return ax


def annotate(ax, title=None, x=None, y=None):
    """Set the title and the labels of the axes, where given, as plain text: a $ is a dollar."""
    text = {"family": FONT, "color": INK, "parse_math": False}
    if title is not None:
        ax.set_title(title, loc="left", fontsize=10.5, fontweight="bold", **text)
    if x is not None:
        ax.set_xlabel(x, fontsize=9.5, **text)
    if y is not None:
        ax.set_ylabel(y, fontsize=9.5, **text)


def png(figure):
    """A figure as the bytes of a PNG file, the same for the same picture: no date and no version in
    it.
    """
    return picture(figure, "png")


def picture(figure, format):
    """A figure as the bytes of a file of one of FORMATS, the same for the same picture."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "minigpt"}):  # or the names within it are random
        figure.savefig(buffer, format=format, dpi=DPI, metadata=FORMATS[format], facecolor="white")
    if format == "png" and getattr(figure, "colours", None):
        from PIL import Image  # comes with matplotlib

        drawn, buffer = Image.open(buffer).convert("RGB"), io.BytesIO()
        drawn.quantize(figure.colours, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def check_format(path):
    """The format that a picture's name ends with, one of FORMATS. MinigptError for any other."""
    suffix = Path(path).suffix.lower()
    if suffix.removeprefix(".") not in FORMATS or not suffix:
        raise MinigptError(f"picture {path}: its name must end with {' or '.join('.' + name for name in FORMATS)}")
    return suffix[1:]


def save(figure, path):
    """Write a figure in the format that the name ends with, as a file that appears whole or not at
    all.

    MinigptError for another ending than one of FORMATS, or where it can't be written.
    """
    data = picture(figure, check_format(path))
    try:
        write_atomically(path, data)
    except OSError as error:
        raise MinigptError(f"picture {path} can't be written: {reason(error)}") from None
