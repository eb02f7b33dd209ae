"""The tour: every exhibit planted in turn and looked for, and the table of what was found."""

from typing import NamedTuple

import numpy as np

from minigpt.museum.checks import FLOAT32_TOLERANCE
from minigpt.museum.exhibits import EXHIBITS
from minigpt.museum.planting import Exhibit, Finding, planted
from minigpt.tables import text_table


class Row(NamedTuple):
    """One line of the table."""

    exhibit: Exhibit
    finding: Finding
    # of the wrong gradient by central differences in float32; None where no gradient check sees the
    # bug
    float32_error: float | None

    @property
    def caught(self):
        """Whether the named rung found what it had to."""
        return self.finding.wrong == self.exhibit.wrong

    @property
    def float32_catches(self):
        """Whether central differences in float32 see it."""
        return self.float32_error is not None and not self.float32_error <= FLOAT32_TOLERANCE  # NaN is caught


def visit(exhibit):
    """Plant one exhibit and have it looked for. -> Row"""
    with planted(exhibit):
        if not exhibit.by_gradient:
            return Row(exhibit, exhibit.check(), None)
        finding = exhibit.check("complex")
        errors = exhibit.check("float32").errors
        return Row(exhibit, finding, float(np.max([errors[name] for name in exhibit.wrong])))


def run(progress=None):
    """Plant every exhibit in turn. progress: None or a function that wraps the iteration, such as
    tqdm. -> list of Row
    """
    return [visit(exhibit) for exhibit in (progress(EXHIBITS) if progress else EXHIBITS)]


def in_words(names):
    """The op is named once: attention.q, attention.k -> "attention.q, k"."""
    op = names[0].partition(".")[0]
    return ", ".join([names[0], *(name.removeprefix(f"{op}.") for name in names[1:])])


def table(rows=None, progress=None):
    """The museum as a text: mistake, caught by, error, what central differences in float32 say,
    symptom. rows: those of run(), run unless given.
    """
    rows = run(progress) if rows is None else rows
    lines = [("mistake", "caught by", "error", "float32 central", "symptom in training")]
    for row in rows:
        e = row.exhibit
        by = f"{e.caught_by}: {in_words(e.wrong)}" if e.by_gradient else e.caught_by
        seen = (
            "blind"
            if row.float32_error is None
            else f"{'caught' if row.float32_catches else 'MISSED'} {row.float32_error:.0e}"
        )
        lines.append((e.name, by if row.caught else f"NOT CAUGHT by {by}", f"{row.finding.error:.0e}", seen, e.symptom))
    text = "\n".join(text_table(lines, left=range(len(lines[0]))))
    by_gradient, missed = [row for row in rows if row.exhibit.by_gradient], [row for row in rows if not row.caught]
    unseen = sum(not row.float32_catches for row in by_gradient)
    verdict = (
        "every one caught where the table says"
        if not missed
        else f"NOT CAUGHT: {'; '.join(row.exhibit.name for row in missed)}"
    )
    return (
        f"{text}\n{len(rows)} mistakes: {len(by_gradient)} seen by the complex step, "
        f"of which central differences in float32 miss {unseen}; "
        f"{len(rows) - len(by_gradient)} that no gradient check sees; {verdict}"
    )
