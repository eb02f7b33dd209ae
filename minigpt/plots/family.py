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
BOX, REST = 2.7, 2.05  # widths: of a box; of what stands to the right of the stacks
TALL, SMALL, GAP, SUM = 0.46, 0.2, 0.17, 0.09  # heights of boxes and of dropout; between them; radius of a sum
TOP, BOTTOM = 0.72, 0.12
TEXT = {"family": FONT, "color": INK, "parse_math": False, "ha": "center", "va": "center"}


class Place(NamedTuple):
    """Where a stack stands on the page."""

    middle: float
    box: float  # width of its boxes
    outer: int  # the side at which its residual connections run: -1 left, 1 right

    def outside(self, distance):
        """So far from its boxes, on the outer side."""
        return self.middle + self.outer * (self.box / 2 + distance)

    def inside(self, distance=0.0):
        """... and on the other, where a second stack stands."""
        return self.middle - self.outer * (self.box / 2 + distance)


class Layout(NamedTuple):
    """How a drawing is spread over the page."""

    places: tuple  # of each stack
    rest: float  # left end of what stands to the right of them

    @property
    def width(self):
        """Of the page."""
        return self.rest + REST


ONE = Layout((Place(2.75, BOX, -1),), 5.35)
TWO = Layout((Place(2.25, 2.4, -1), Place(7.05, 2.4, 1)), 9.25)  # between their frames there is room for a box
INNER, OUTER = 0.25, 0.5  # of a stack's frame, from its boxes


class Pen(NamedTuple):
    """The axes, and what is known of the page."""

    ax: object
    rest: float

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
    layout = ONE if len(drawing.stacks) == 1 else TWO
    height = height_of(drawing)
    figure = Figure(figsize=(layout.width, height))
    figure.colours = 64
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    ax.set(xlim=(0, layout.width), ylim=(0, height))
    pen = Pen(ax, layout.rest)
    pen.text(0.2, height - 0.25, drawing.title, 12.5, weight="bold", ha="left")
    if drawing.against:
        legend(pen, height - 0.5, drawing.against)
    if len(drawing.stacks) == 1:
        (only,) = drawing.stacks
        y = embeddings(pen, only, height - TOP, *layout.places)
    else:
        y = shared_table(pen, drawing.stacks, height - TOP, layout.places)
    memory = None
    for drawn, place in zip(drawing.stacks, layout.places, strict=True):
        end, middles = stack(pen, drawn, y, place)
        if drawn.bias:
            bias(pen, drawn.bias, layout.places, place, middles[0])
        if drawn.reads is not None:
            reading(pen, memory, (place.inside(), middles[drawn.reads]))
        memory = place.inside(), end + TALL / 2  # the side of the last box
    heads(pen, drawing.heads, end, layout.places[-1])
    y = masks(pen, drawing.masks, middles[0])
    counts(pen, drawing.counts, y)
    return figure


def height_of(drawing):
    """Inches that a drawing needs from top to bottom."""
    top = TOP + 2 * (TALL + GAP) + (2 * SUM + GAP) * (len(drawing.stacks) == 1)
    heads = max(map(tall, drawing.heads)) + GAP + (1.6 * GAP + 2 * SUM) * (len(drawing.heads) > 1)
    ends = [height_of_stack(stack) for stack in drawing.stacks]
    return top + max(*ends[:-1], ends[-1] + heads, 0) + BOTTOM


def height_of_stack(stack):
    """Inches from what goes into a stack to what comes out."""
    branches = sum(tall(branch) + 2 * SUM + GAP for branch in stack.branches)
    return tall(stack.before) + branches + (2.4 + 0.6 * len(stack.branches)) * GAP + tall(stack.after)


def tall(boxes):
    """Inches of boxes one below another, with the arrow before each."""
    return sum((SMALL if box.small else TALL) + GAP for box in boxes)


def legend(pen, y, against):
    """What the two colours mean."""
    for x, face, edge, text in ((0.2, PLAIN, PLAIN_EDGE, f"as in {against}"), (1.5, CHANGED, CHANGED_EDGE, "changed")):
        pen.ax.add_patch(Rectangle((x, y - 0.06), 0.18, 0.12, fc=face, ec=edge, lw=1))
        pen.text(x + 0.26, y, text, 8, ha="left")


def chain(pen, boxes, y, place):
    """Boxes one below another, an arrow before each -> where the last ends."""
    for box in boxes:
        pen.arrow((place.middle, y), (place.middle, y - GAP))
        y = pen.box(box, place.middle, y - GAP, place.box)
    return y


def columns(place, n, room, gap=0.15):
    """n columns side by side around a stack -> their middles and their width."""
    width = min(place.box, (room - (n - 1) * gap) / n)
    return [place.middle + (i - (n - 1) / 2) * (width + gap) for i in range(n)], width


def embeddings(pen, stack, top, place):
    """Inputs, the tables that they look up in, and their sum -> its lower end."""
    xs, width = columns(place, len(stack.embeddings), 4.9)
    under = top - TALL - GAP - TALL
    sum_top = under - GAP
    for x, (source, table) in zip(xs, stack.embeddings):
        y = pen.box(source, x, top, width)
        pen.arrow((x, y), (x, y - GAP))
        pen.box(table, x, y - GAP, width)
        if abs(x - place.middle) < 1e-6:
            pen.arrow((x, under), (x, sum_top))
        else:
            side = SUM if x > place.middle else -SUM
            pen.line((x, under), (x, sum_top - SUM))
            pen.arrow((x, sum_top - SUM), (place.middle + side, sum_top - SUM))
    return pen.sum(place.middle, sum_top)


def shared_table(pen, stacks, top, places):
    """The inputs of several stacks, and the one table that all of them look up in -> its lower
    end.
    """
    under = top - TALL - GAP
    for stack, place in zip(stacks, places):
        ((source, table),) = stack.embeddings
        pen.box(source, place.middle, top, place.box)
        pen.arrow((place.middle, top - TALL), (place.middle, under))
    left, right = places[0].middle, places[-1].middle
    return pen.box(table, (left + right) / 2, under, right - left + places[0].box)


def stack(pen, drawn, y, place):
    """A stack from its embeddings to its end -> its lower end, and where the layers of a block
    stand.
    """
    y = chain(pen, drawn.before, y, place)
    y, middles = block(pen, drawn, y, place)
    return chain(pen, drawn.after, y, place), middles


def block(pen, drawn, y, place):
    """One block in its frame -> its lower end, and the middles of its layers."""
    x = place.middle
    pen.line((x, y), (x, y - 1.2 * GAP))
    frame_top = y = y - 1.2 * GAP
    y -= 0.6 * GAP
    pen.line((x, frame_top), (x, y))
    middles = []
    for branch in drawn.branches:
        if middles:
            pen.line((x, y), (x, y - 0.6 * GAP))
            y -= 0.6 * GAP
        start = y
        before = 1 if drawn.pre_norm else 0
        inside = branch if drawn.pre_norm else branch[:-1]
        y = chain(pen, inside, y, place)
        pen.arrow((x, y), (x, y - GAP))
        middles.append(start - tall(branch[:before]) - GAP - TALL / 2)
        y = pen.sum(x, y - GAP)
        side = place.outside(0.28)
        pen.line((x, start), (side, start), (side, y + SUM))  # the residual connection
        pen.arrow((side, y + SUM), (x + place.outer * SUM, y + SUM))
        if not drawn.pre_norm:
            y = chain(pen, branch[-1:], y, place)
    pen.line((x, y), (x, y - 0.6 * GAP))
    bottom = y - 0.6 * GAP
    ends = sorted((place.outside(OUTER), place.inside(INNER)))
    frame = FancyBboxPatch((ends[0], bottom), ends[1] - ends[0], frame_top - bottom, "round,pad=0,rounding_size=0.12")
    frame.set(fc=FRAME, ec="#bbbbbb", lw=1, zorder=0)
    pen.ax.add_patch(frame)
    title = f"{drawn.name}: {drawn.n_blocks} blocks" if drawn.name else f"{drawn.n_blocks} blocks"
    at = place.outside(OUTER + 0.17), (frame_top + bottom) / 2
    pen.text(*at, title, 9, rotation=-90 if place.outer > 0 else 90, weight="bold")
    return bottom, middles


def bias(pen, box, places, place, y):
    """A table between two stacks, which all blocks of one of them read; that of the left one stands
    above the other's.
    """
    ends = places[0].inside(INNER), places[1].inside(INNER)
    middle, width = sum(ends) / 2, ends[1] - ends[0] - 0.3
    up = -place.outer
    pen.box(box, middle, y + up * (TALL / 2 + 0.06) + TALL / 2, width)
    pen.arrow((middle + place.outer * width / 2, y + up * TALL / 4), (place.inside(), y + up * TALL / 4))


def reading(pen, start, end):
    """The way of a memory, from the stack that made it to a layer of the next."""
    middle = (start[0] + end[0]) / 2
    pen.line(start, (middle, start[1]), (middle, end[1]))
    pen.arrow((middle, end[1]), end)


def heads(pen, chains, y, place):
    """The heads side by side, each down to its loss; of several, the sum of the losses."""
    x = place.middle
    xs, width = columns(place, len(chains), 4.9)
    if len(xs) > 1:
        pen.line((x, y), (x, y - GAP))
        y -= GAP
        pen.line((xs[0], y), (xs[-1], y))
    ends = [chain(pen, boxes, y, Place(at, width, place.outer)) for at, boxes in zip(xs, chains)]
    if len(xs) > 1:
        top = min(ends) - 0.6 * GAP
        for at, end in zip(xs, ends):
            pen.line((at, end), (at, top - SUM))
            pen.arrow((at, top - SUM), (x + (SUM if at > x else -SUM), top - SUM))
        pen.sum(x, top)


def masks(pen, pictures, middle):
    """Who sees whom, beside the attention -> the lower end."""
    cell = 0.115 if len(pictures) > 1 else 0.15
    heights = [0.36 + cell * len(p.visible) for p in pictures]
    y = middle + sum(heights) / 2 + 0.25
    pen.text(pen.rest, y, "Who sees whom", 9, ha="left", weight="bold")
    y -= 0.19
    pen.text(pen.rest, y, "a row for each token that looks", 7.2, ha="left")
    for picture in pictures:
        y -= 0.24
        pen.text(pen.rest, y, picture.title, 7.8, ha="left", color=CHANGED_EDGE if picture.changed else INK)
        y -= 0.13
        T, S = picture.visible.shape
        for t in range(T):
            for s in range(S):
                face = SEEN if picture.visible[t, s] else PADDING if s >= S - picture.padding else "white"
                face = SEEN_CHANGED if picture.changed and picture.visible[t, s] else face
                corner = (pen.rest + s * cell, y - (t + 1) * cell)
                pen.ax.add_patch(Rectangle(corner, cell, cell, fc=face, ec="#999999", lw=0.5))
        if picture.padding:
            pen.text(pen.rest + (S - picture.padding / 2) * cell, y - T * cell - 0.1, "padding", 7)
        y -= T * cell + (0.1 if picture.padding else 0)
    return y


def counts(pen, numbers, y):
    """How many numbers each part learns, as bars below the masks."""
    total, room = sum(numbers.values()), REST - 0.15
    y -= 0.5
    pen.text(pen.rest, y, f"{total:,} parameters", 9, ha="left", weight="bold")
    for part, n in numbers.items():
        y -= 0.24
        pen.text(pen.rest, y, part, 7.8, ha="left")
        pen.text(pen.rest + room, y, f"{n:,}", 7.8, ha="right")
        y -= 0.13
        pen.ax.add_patch(Rectangle((pen.rest, y - 0.03), room, 0.06, fc="#ededed", lw=0))
        pen.ax.add_patch(Rectangle((pen.rest, y - 0.03), room * n / total, 0.06, fc=SEEN, lw=0))
