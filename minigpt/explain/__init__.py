"""What each family changes, line by line of forward and of backward, with the museum's exhibit of
its classic mistake; how many numbers each part learns; and what a drawing of it is made of.

    minigpt explain gpt_neo                       a table for the terminal
    minigpt explain gpt_neo --plot gpt_neo.png    a drawing
    minigpt explain --markdown                    docs/FAMILIES.md

A family's table is one module of plain rows. The tests hold each row to the code: its function
exists, its exhibit exists and no other row names it.
"""

from minigpt.explain import bert, gpt2, gpt_neo, roberta, sizes, t5, text
from minigpt.explain.counts import PARTS, count_by_part
from minigpt.explain.drawing import Drawing, drawing
from minigpt.explain.family import Family, Line
from minigpt.explain.page import page_of
from minigpt.explain.sizes import counts_of, sized
from minigpt.explain.text import counts_text
from minigpt.tables import text_table

__all__ = [
    "FAMILIES", "PARTS", "Drawing", "Family", "Line", "config_of_folder", "count_by_part", "counts_of", "counts_text",
    "drawing", "lines_of", "overview", "page", "sized", "table_text",
]  # fmt: skip

FAMILIES = {module.FAMILY.name: module.FAMILY for module in (gpt2, gpt_neo, bert, roberta, t5)}


def lines_of(family):
    """A family's own lines, and the lines of another that hold for it too: -> two tuples of
    Line.
    """
    if family.as_in is None:
        return family.lines, ()
    others = {line.part: line for line in FAMILIES[family.as_in].lines}
    return family.lines, tuple(others[part] for part in family.same)


def table_text(family, width=80):
    """A family's table for a terminal of so many characters."""
    own, shared = lines_of(family)
    return text.table_text(family, own, shared, shared_with=FAMILIES.get(family.as_in), width=width)


def config_of_folder(directory):
    """The family and config of a model's folder, of ours or of transformers; sizes.config_of_folder
    says which errors.
    """
    return sizes.config_of_folder(directory, FAMILIES.values())


def overview():
    """A line a family: name, what it is compared with, lines, sizes."""
    rows = [
        (name, f"{len(sum(lines_of(family), ()))} lines against {family.against}", some(list(family.sizes)))
        for name, family in FAMILIES.items()
    ]
    return "\n".join([*text_table(rows, left=(0, 1, 2)), "", "minigpt explain FAMILY shows one of them"])


def some(names, n=4):
    """Names in a line, the first n where there are more."""
    return ", ".join(names if len(names) <= n else [*names[:n], "..."])


def page():
    """docs/FAMILIES.md as text."""
    return page_of(FAMILIES, lines_of)
