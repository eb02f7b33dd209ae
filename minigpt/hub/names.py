"""How files of `transformers` name and lay out our parameters: one table a family. Reading and
writing both go by its views.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from minigpt.errors import MinigptError

LAYER_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")  # in our names: the 3 of h.3.ln_1.weight
OLD_NAMES = ((".gamma", ".weight"), (".beta", ".bias"))  # of a LayerNorm, as TensorFlow calls them


class Row(NamedTuple):
    """One parameter of ours, or one of each layer: {} stands for the layer's number, in our name
    and in theirs.
    """

    ours: str
    theirs: str | tuple  # their tensor, or several that stand side by side in ours, along its last axis: q, k and v
    transposed: bool = False  # (out, in) in the file, as torch's Linear has it; ours and GPT-2's Conv1D are (in, out)
    optional: bool = False  # a file may lack it: it is then drawn anew, and named in model.fresh
    when: Callable | None = None  # config -> whether its files have it by this name, where that is not always so


class Table(NamedTuple):
    """The rows of a family, and what else its files hold or lack. Names of tensors are those in a
    file of the whole model.
    """

    rows: tuple
    prefix: str  # which the tensors of a file of the bare model, without its head, don't have
    tied: dict  # tensor -> the one that it is once more where the config ties them; files may hold both, or either
    ignored: str = "(?!)"  # pattern of tensors that have no part in a model: buffers of old files
    twins: dict = {}  # noqa: RUF012 tensor -> a second name of it, which alone is computed with where the head is untied
    copies: dict = {}  # noqa: RUF012 tensor -> the one that it must be equal to, in whose place it may stand

    def chosen(self, config):
        """The table of a config: of rows of one parameter, the one that its files have."""
        return self._replace(rows=tuple(row for row in self.rows if row.when is None or row.when(config)))

    def of(self, config):
        """The table of a config's files: where the head is untied, a twin bears its second name."""
        table = self.chosen(config)
        if config.tie_embeddings:
            return table
        rows = tuple(row._replace(theirs=self.twins.get(row.theirs, row.theirs)) for row in table.rows)
        return table._replace(rows=rows)

    def written(self, config):
        """`of` for files that we write: those of a model without a head have no prefix, as in
        theirs.
        """
        table = self.of(config)
        if getattr(config, "head", "any") is not None:
            return table
        return table._replace(rows=tuple(row._replace(theirs=self.bare(row.theirs)) for row in table.rows))

    def bare(self, theirs):
        """Their name, or names, without the prefix."""
        return theirs.removeprefix(self.prefix) if isinstance(theirs, str) else tuple(map(self.bare, theirs))

    def row(self, name):
        """The row of a parameter of ours, and its layer's number, None where it is in none."""
        number = LAYER_NUMBER.search(name)
        pattern = LAYER_NUMBER.sub("{}", name, count=1)
        for row in self.rows:
            if row.ours == pattern:
                return row, number and number[0]
        raise MinigptError(f"tensor {name!r} has no name in transformers' files")

    def views(self, name, value):
        """Our array as views, their name -> their shape and order of axes; what is written into
        them is written into ours.
        """
        row, number = self.row(name)
        theirs = (row.theirs,) if isinstance(row.theirs, str) else row.theirs
        parts = np.split(value, len(theirs), axis=-1)
        return {name.format(number): part.T if row.transposed else part for name, part in zip(theirs, parts)}

    def shapes(self, name, shape):
        """Their name -> shape of a parameter of ours; no memory is taken."""
        row, number = self.row(name)
        theirs = (row.theirs,) if isinstance(row.theirs, str) else row.theirs
        part = (*shape[:-1], shape[-1] // len(theirs))
        return {name.format(number): part[::-1] if row.transposed else part for name in theirs}

    def outside_layers(self):
        """Names of all tensors that are in no layer, whether a config has them or not."""
        names = {name for row in self.rows if isinstance(row.theirs, str) for name in (row.theirs,) if "{}" not in name}
        return names | self.twins.keys() | set(self.twins.values())

    def known_as(self, name, wanted):
        """The name among `wanted` that a tensor in a file has: its own, or with the prefix that it
        lacks, or with today's spelling of an old name. None where it is to be ignored.

        A name that is neither comes back as it is.
        """
        for spelt in (name, modern(name)):
            for full in (spelt, self.prefix + spelt):
                if full in wanted:
                    return full
        return None if re.fullmatch(self.ignored, name) or re.fullmatch(self.ignored, self.prefix + name) else name


def modern(name):
    """Today's spelling of a LayerNorm's gamma and beta.

    >>> modern("bert.embeddings.LayerNorm.gamma")
    'bert.embeddings.LayerNorm.weight'
    """
    for old, new in OLD_NAMES:
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name
