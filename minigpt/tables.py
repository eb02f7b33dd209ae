"""Tables for a terminal: columns of one width each."""


def padded(rows, left=(0,)):
    """Rows of cells -> rows of text of one width a column. left: columns aligned to the left, the
    others are to the right.
    """
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [[c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))] for row in rows]


def text_table(rows, left=(0,)):
    """Rows of cells -> lines, with two spaces between columns; alignment as for padded.

    >>> print(*text_table([("op", "ms"), ("linear", 12), ("gelu", 3)]), sep="\\n")
    op      ms
    linear  12
    gelu     3
    """
    return ["  ".join(row).rstrip() for row in padded(rows, left)]
