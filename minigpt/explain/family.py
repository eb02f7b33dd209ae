"""What a family's table is made of: plain rows, nothing computed."""

from typing import NamedTuple


class Line(NamedTuple):
    """One thing that a family does otherwise than the one that it is compared with."""

    part: str  # what it is about; the drawing colours the boxes that bear this name
    before: str  # the line of the one compared with
    here: str  # this family's line
    backward: str  # what that means for backward
    code: str  # where it stands: module.function below minigpt
    exhibit: str  # the museum's exhibit that plants its mistake


class Family(NamedTuple):
    """A family of models, its lines and its sizes."""

    name: str  # as transformers calls it
    model_type: str  # as minigpt.models calls it
    title: str
    source: str  # paper
    against: str  # what the lines are compared with
    lines: tuple
    blocks: tuple  # the config's fields for the number of blocks, one a stack
    sizes: dict  # name -> fields of the config; the first is the one of the drawing
    as_in: str | None = None  # another family whose lines hold here too ...
    same: tuple = ()  # ... those of these parts
    heads: tuple = ()  # of the config's field head, where it has one: None, the one that is drawn, and the others
    positions: str = "0, 1, 2, …"  # what the drawing says of where they come from
    loss: str = "cross-entropy"  # the drawing's last box

    @property
    def changed(self):
        """The parts that differ from what the family is compared with."""
        return {line.part for line in self.lines} | set(self.same)
