"""A batch: the named arrays that a loss is computed from."""

from collections.abc import Mapping

import numpy as np

from minigpt.errors import MinigptError
from minigpt.ops.loss import count_targets

# arrays of what a loss compares with, the others are what a model reads; -100 in them is ignored
TARGETS = ("targets", "next_sentence", "labels", "starts", "ends")


class Batch(Mapping):
    """Named arrays whose first axis is rows: batch["ids"] (B, T), batch["targets"] (B, T) ..."""

    def __init__(self, arrays):
        """arrays: name -> array (B, ...); MinigptError where there is none, or their numbers of
        rows differ.
        """
        self.arrays = {name: np.asarray(value) for name, value in arrays.items()}
        rows = {name: len(value) if value.ndim else None for name, value in self.arrays.items()}
        if len(set(rows.values())) != 1 or None in rows.values():
            found = ", ".join(f"{name} {self.arrays[name].shape}" for name in rows) or "no array"
            raise MinigptError(f"batch: {found}; its arrays must have the same number of rows, their first axis")

    def __getitem__(self, name):
        return self.arrays[name]

    def __iter__(self):
        return iter(self.arrays)

    def __len__(self):
        return len(self.arrays)

    @property
    def rows(self):
        """How many rows each array has."""
        return len(next(iter(self.arrays.values())))

    @property
    def counts(self):
        """What the mean of each term of a loss is divided by, in a batch and in parts of it: name
        of an array of TARGETS -> how many of its values are not ignored.
        """
        return {name: count_targets(value) for name, value in self.arrays.items() if name in TARGETS}

    def split(self, n):
        """n batches of consecutive rows, as equal as possible, the longer ones first; views, no
        copies. -> list
        """
        pieces = {name: np.array_split(value, n) for name, value in self.arrays.items()}
        return [Batch({name: piece[i] for name, piece in pieces.items()}) for i in range(n)]
