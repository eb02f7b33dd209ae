"""A family's table as text: for a terminal, as wide as that is, and for docs/FAMILIES.md."""

import textwrap

from minigpt.explain.sizes import counts_of, with_head
from minigpt.tables import text_table

COLUMNS = 110  # from here on there is room for columns side by side; below it, one line after another
WIDEST = 160
FIRST = 16  # characters of the column that names a part


def heading(family):
    """The title of a family's table."""
    return f"{family.title} against {family.against}"


def table_text(family, own, shared=(), *, shared_with=None, width=80):
    """Lines of a family for a terminal of so many characters; shared: those that another family,
    shared_with, has as well.
    """
    width = max(40, min(width, WIDEST))
    blocks = [*wrapped(heading(family), width), *wrapped(family.source, width), ""]
    show = in_columns if width >= COLUMNS else one_below_another
    blocks += show(own, family, width)
    if shared:
        blocks += ["", f"The same as {shared_with.title}:", ""]
        blocks += show(shared, family, width)
    return "\n".join(line.rstrip() for line in blocks).rstrip()


def wrapped(text, width):
    """A text in lines of at most so many characters; a longer word is broken."""
    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]


def in_columns(lines, family, width):
    """The lines side by side: part, before, here, backward; code and exhibit below each."""
    others = (width - FIRST - 6) // 10
    widths = (FIRST, 3 * others, 3 * others, width - FIRST - 6 - 6 * others)
    heads = ("", first_upper(family.against), family.title, "backward")
    out = row_of(heads, widths) + ["  ".join("-" * w for w in widths)]
    for line in lines:
        out += row_of((line.part, line.before, line.here, line.backward), widths)
        out += [" " * (FIRST + 2) + text for text in wrapped(footnote(line), width - FIRST - 2)] + [""]
    return out


def row_of(cells, widths):
    """Cells, wrapped to their widths, as lines."""
    columns = [wrapped(cell, width) for cell, width in zip(cells, widths)]
    lines = max(map(len, columns))
    filled = [column + [""] * (lines - len(column)) for column in columns]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in zip(*filled)]


def one_below_another(lines, family, width):
    """For a narrow terminal: each line's parts below each other."""
    names = (first_upper(family.against), family.title, "backward", "code", "mistake")
    indent = min(12, max(map(len, names))) + 4
    out = []
    for line in lines:
        out.append(line.part)
        for name, text in zip(names, (line.before, line.here, line.backward, line.code, line.exhibit)):
            start = f"  {name}" if len(name) < indent - 2 else "  before"
            first, *rest = wrapped(text, width - indent)
            out.append(start.ljust(indent) + first)
            out += [" " * indent + each for each in rest]
        out.append("")
    return out


def footnote(line):
    """Where a line stands, and what the museum calls its mistake."""
    return f"{line.code}; mistake: {line.exhibit}"


def first_upper(text):
    """the first transformer's -> The first transformer's."""
    return text[:1].upper() + text[1:]


def part_label(family, part):
    """What a part is called: a pooler is counted as head."""
    return "pooler, head" if part == "head" and family.heads else part


def count_rows(family, counts):
    """Rows of the table of numbers: part, how many, which share."""
    total = sum(counts.values())
    rows = [(part_label(family, part), f"{n:,}", f"{n / total:.1%}") for part, n in counts.items() if n]
    return [*rows, ("all", f"{total:,}", "")]


def counts_text(name, family, config):
    """How many numbers each part learns, and the whole with each head, as text."""
    rows = count_rows(family, counts_of(family, config))
    head = getattr(config, "head", None)
    title = f"Parameters of {name}" + ("" if not family.heads else f", {head_name(head)}")
    return "\n".join([title, "", *text_table(rows), *head_totals(family, config)])


def head_name(head):
    """A head in words."""
    return "without a head" if head is None else f"head {head}"


def head_totals(family, config):
    """A line for each head that a family has: the whole with it."""
    heads = [head for head in family.heads if head != config.head]
    rows = [(head_name(head), f"{sum(counts_of(family, with_head(config, head)).values()):,}") for head in heads]
    return ["", *text_table(rows)] if rows else []
