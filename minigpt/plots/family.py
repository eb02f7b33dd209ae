"""A family of models as a drawing: its parts from ids to loss, downwards as its code reads, who
sees whom, and how many numbers each part learns.

Lengths are inches, y grows upwards from the bottom of the page.
"""

from typing import NamedTuple

from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

from minigpt.plots.figure import FONT, INK, Figure

PLAIN, PLAIN_EDGE = "#eef3f8", "#8aa0b5"
CHANGED, CHANGED_EDGE = "#fde3d0", "#d55e00"
FRAME, LINE, SEEN, SEEN_CHANGED, PADDING = "#f7f7f7", "#555555", "#5b87b5", "#ec9b66", "#e2e2e2"
WIDTH, STACK, BOX, SIDE = 7.4, 2.75, 2.7, 5.35  # of the page; middle of the stack; a box's width; left end of the rest
TALL, SMALL, GAP, SUM = 0.46, 0.2, 0.17, 0.09  # heights of boxes and of dropout; between them; radius of a sum
TOP, BOTTOM = 0.72, 0.12
TEXT = {"family": FONT, "color": INK, "parse_math": False, "ha": "center", "va": "center"}


class Pen(NamedTuple):
    """The axes, and what is known of the page."""

    ax: object

    def box(self, box, x, top, width=BOX):
        """One box with its middle at x -> its lower end."""
        height = SMALL if box.small else TALL
        face, edge = (CHANGED, CHANGED_EDGE) if box.changed else (PLAIN, PLAIN_EDGE)
        shape = f"round,pad=0,rounding_size={SMALL / 2 if box.small else 0.07}"
        width = 0.36 * width if box.small else width
        patch = FancyBboxPatch((x - width / 2, top - height), width, height, shape, gid="box")
        patch.set(fc=face, ec=edge, lw=1, zorder=3)
        self.ax.add_patch(patch)
        if box.note:
            self.text(x, top - 0.33 * height, box.title, 8.6, weight="bold", fit=width)
            self.text(x, top - 0.71 * height, box.note, 7.4, fit=width)
        else:
            self.text(x, top - height / 2, box.title, 7.4 if box.small else 8.6, fit=width)
        return top - height

    def text(self, x, y, text, size, fit=None, **more):
        """Text, smaller where it would be wider than `fit`: 0.6 of its size a letter."""
        if fit is not None:
            size = min(size, 72 * (fit - 0.1) / (0.59 * max(len(text), 1)))
        self.ax.text(x, y, text, **TEXT | {"fontsize": size, "zorder": 4} | more)

    def arrow(self, start, end):
        """An arrow from one point straight to another."""
        self.ax.add_patch(
            FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=7, shrinkA=0, shrinkB=0, lw=1, color=LINE)
        )

    def line(self, *points):
        """A line through points."""
        self.ax.plot(*zip(*points), color=LINE, lw=1, solid_capstyle="round", zorder=2)

    def sum(self, x, top):
        """A circle with a plus -> its lower end."""
        self.ax.add_patch(Circle((x, top - SUM), SUM, fc="white", ec=LINE, lw=1, zorder=3))
        for dx, dy in ((0.55 * SUM, 0), (0, 0.55 * SUM)):
            self.ax.plot([x - dx, x + dx], [top - SUM - dy, top - SUM + dy], color=LINE, lw=1, zorder=4)
        return top - 2 * SUM


def draw_family(drawing):
    """A family's Drawing (minigpt.explain.drawing) as a figure -> Figure."""
    height = height_of(drawing)
    figure = Figure(figsize=(WIDTH, height))
    figure.colours = 64
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    ax.set(xlim=(0, WIDTH), ylim=(0, height))
    pen = Pen(ax)
    pen.text(0.2, height - 0.25, drawing.title, 12.5, weight="bold", ha="left")
    if drawing.against:
        legend(pen, height - 0.5, drawing.against)
    y = embeddings(pen, drawing, height - TOP)
    y = chain(pen, drawing.before, y)
    y, middle = block(pen, drawing, y)
    y = chain(pen, drawing.after, y)
    heads(pen, drawing, y)
    y = masks(pen, drawing.masks, middle)
    counts(pen, drawing.counts, y)
    return figure


def height_of(drawing):
    """Inches that a drawing needs from top to bottom."""
    tall = lambda boxes: sum((SMALL if box.small else TALL) + GAP for box in boxes)  # noqa: E731
    branches = sum(tall(branch) + 2 * SUM + GAP for branch in drawing.branches) + 3.6 * GAP
    heads = max(map(tall, drawing.heads)) + GAP + (1.6 * GAP + 2 * SUM) * (len(drawing.heads) > 1)
    top = TOP + 2 * (TALL + GAP) + 2 * SUM + GAP
    return top + tall(drawing.before) + branches + tall(drawing.after) + heads + BOTTOM


def legend(pen, y, against):
    """What the two colours mean."""
    for x, face, edge, text in ((0.2, PLAIN, PLAIN_EDGE, f"as in {against}"), (1.5, CHANGED, CHANGED_EDGE, "changed")):
        pen.ax.add_patch(Rectangle((x, y - 0.06), 0.18, 0.12, fc=face, ec=edge, lw=1))
        pen.text(x + 0.26, y, text, 8, ha="left")


def chain(pen, boxes, y):
    """Boxes one below another, an arrow before each -> where the last ends."""
    for box in boxes:
        pen.arrow((STACK, y), (STACK, y - GAP))
        y = pen.box(box, STACK, y - GAP)
    return y


def columns(n, room, gap=0.15):
    """n columns side by side around the stack -> their middles and their width."""
    width = min(BOX, (room - (n - 1) * gap) / n)
    return [STACK + (i - (n - 1) / 2) * (width + gap) for i in range(n)], width


def embeddings(pen, drawing, top):
    """Inputs, the tables that they look up in, and their sum -> its lower end."""
    xs, width = columns(len(drawing.embeddings), 4.9)
    under = top - TALL - GAP - TALL
    sum_top = under - GAP
    for x, (source, table) in zip(xs, drawing.embeddings):
        y = pen.box(source, x, top, width)
        pen.arrow((x, y), (x, y - GAP))
        pen.box(table, x, y - GAP, width)
        if abs(x - STACK) < 1e-6:
            pen.arrow((x, under), (x, sum_top))
        else:
            side = SUM if x > STACK else -SUM
            pen.line((x, under), (x, sum_top - SUM))
            pen.arrow((x, sum_top - SUM), (STACK + side, sum_top - SUM))
    return pen.sum(STACK, sum_top)


def block(pen, drawing, y):
    """One block in its frame -> its lower end, and where its attention stands."""
    pen.line((STACK, y), (STACK, y - 1.2 * GAP))
    frame_top = y = y - 1.2 * GAP
    y -= 0.6 * GAP
    pen.line((STACK, frame_top), (STACK, y))
    middles = []
    for branch in drawing.branches:
        if middles:
            pen.line((STACK, y), (STACK, y - 0.6 * GAP))
            y -= 0.6 * GAP
        start = y
        inside = branch if drawing.pre_norm else branch[:-1]
        y = chain(pen, inside, y)
        pen.arrow((STACK, y), (STACK, y - GAP))
        middles.append((start + y) / 2)
        y = pen.sum(STACK, y - GAP)
        left = STACK - BOX / 2 - 0.28
        pen.line((STACK, start), (left, start), (left, y + SUM))  # the residual connection
        pen.arrow((left, y + SUM), (STACK - SUM, y + SUM))
        if not drawing.pre_norm:
            y = chain(pen, branch[-1:], y)
    pen.line((STACK, y), (STACK, y - 0.6 * GAP))
    bottom = y - 0.6 * GAP
    left, width = STACK - BOX / 2 - 0.5, BOX + 0.75
    frame = FancyBboxPatch((left, bottom), width, frame_top - bottom, "round,pad=0,rounding_size=0.12")
    frame.set(fc=FRAME, ec="#bbbbbb", lw=1, zorder=0)
    pen.ax.add_patch(frame)
    pen.text(left - 0.17, (frame_top + bottom) / 2, f"{drawing.n_blocks} blocks", 9, rotation=90, weight="bold")
    return bottom, middles[0]


def heads(pen, drawing, y):
    """The heads side by side, each down to its loss; of several, the sum of the losses."""
    xs, width = columns(len(drawing.heads), 4.9)
    if len(xs) > 1:
        pen.line((STACK, y), (STACK, y - GAP))
        y -= GAP
        pen.line((xs[0], y), (xs[-1], y))
    ends = []
    for x, boxes in zip(xs, drawing.heads):
        at = y
        for box in boxes:
            pen.arrow((x, at), (x, at - GAP))
            at = pen.box(box, x, at - GAP, width)
        ends.append(at)
    if len(xs) > 1:
        top = min(ends) - 0.6 * GAP
        for x, end in zip(xs, ends):
            pen.line((x, end), (x, top - SUM))
            pen.arrow((x, top - SUM), (STACK + (SUM if x > STACK else -SUM), top - SUM))
        pen.sum(STACK, top)


def masks(pen, pictures, middle):
    """Who sees whom, beside the attention -> the lower end."""
    cell = 0.115 if len(pictures) > 1 else 0.15
    heights = [0.36 + cell * len(p.visible) for p in pictures]
    y = middle + sum(heights) / 2 + 0.25
    pen.text(SIDE, y, "Who sees whom", 9, ha="left", weight="bold")
    y -= 0.19
    pen.text(SIDE, y, "a row for each token that looks", 7.2, ha="left")
    for picture in pictures:
        y -= 0.24
        pen.text(SIDE, y, picture.title, 7.8, ha="left", color=CHANGED_EDGE if picture.changed else INK)
        y -= 0.13
        T, S = picture.visible.shape
        for t in range(T):
            for s in range(S):
                face = SEEN if picture.visible[t, s] else PADDING if s >= S - picture.padding else "white"
                face = SEEN_CHANGED if picture.changed and picture.visible[t, s] else face
                corner = (SIDE + s * cell, y - (t + 1) * cell)
                pen.ax.add_patch(Rectangle(corner, cell, cell, fc=face, ec="#999999", lw=0.5))
        if picture.padding:
            pen.text(SIDE + (S - picture.padding / 2) * cell, y - T * cell - 0.1, "padding", 7)
        y -= T * cell + (0.1 if picture.padding else 0)
    return y


def counts(pen, numbers, y):
    """How many numbers each part learns, as bars below the masks."""
    total, room = sum(numbers.values()), WIDTH - SIDE - 0.15
    y -= 0.5
    pen.text(SIDE, y, f"{total:,} parameters", 9, ha="left", weight="bold")
    for part, n in numbers.items():
        y -= 0.24
        pen.text(SIDE, y, part, 7.8, ha="left")
        pen.text(SIDE + room, y, f"{n:,}", 7.8, ha="right")
        y -= 0.13
        pen.ax.add_patch(Rectangle((SIDE, y - 0.03), room, 0.06, fc="#ededed", lw=0))
        pen.ax.add_patch(Rectangle((SIDE, y - 0.03), room * n / total, 0.06, fc=SEEN, lw=0))
