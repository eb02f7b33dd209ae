"""The bug museum: classic mistakes of handwritten transformers, planted one at a time into this
library's own code, and what catches each.

An exhibit is a text of the real source and the text to put in its place. `planted(exhibit)`
compiles the changed function, swaps its code object for as long as a `with` lasts and puts the
right one back; nothing on disk changes. Each exhibit names the rung of the ladder of tests that
sees it:

    gradient check  forward and backward disagree. The complex step sees it, and names the input or
                    parameter whose gradient is wrong; of a model it names the wrong one nearest to
                    the loss, since all that lie below inherit the error.
    oracle          forward and backward agree on the wrong thing, or no gradient is involved: an
                    independent formula, written in loops.
    invariance      the same, seen without a formula: causality, rows of weights that sum to one,
                    cached = uncached, shards = whole, ...
    accounting      tokens, targets, batches and random streams, each counted once and in its place.
    golden          a value on record.

Two lessons stand in the table. No gradient check, however exact, sees a forward pass that is wrong
together with its backward ("blind" in the fourth column); tests/test_museum.py holds the library to
that as well. And of what a gradient check can see, the usual one (central differences in float32,
step 1e-3, tolerance 2e-2) misses whatever is small: a constant typed with too few digits, an eps in
the wrong place, one entry of many. Its tolerance cannot be made smaller: on right code its own
errors are 1e-4 to 2e-3 for an op here, and 1.1e-2 to 1.5e-2 for a model, with the kernels of BLAS
that it runs on. Those of the complex step are below 1e-14.

    from minigpt import museum
    print(museum.table())                          # or: minigpt gradcheck --museum
    with museum.planted(museum.EXHIBITS[0]):       # look at one in a notebook
        ...
"""

from minigpt.museum.checks import FLOAT32_TOLERANCE, gradients
from minigpt.museum.exhibits import EXHIBITS, GRADIENT_EXHIBITS, OTHER_EXHIBITS
from minigpt.museum.oracles import GOLDEN_LOSS, golden_case
from minigpt.museum.planting import Edit, Exhibit, Finding, function_of, patched_code, planted
from minigpt.museum.tour import Row, run, table, visit

__all__ = [
    "EXHIBITS",
    "FLOAT32_TOLERANCE",
    "GOLDEN_LOSS",
    "GRADIENT_EXHIBITS",
    "OTHER_EXHIBITS",
    "Edit",
    "Exhibit",
    "Finding",
    "Row",
    "function_of",
    "golden_case",
    "gradients",
    "patched_code",
    "planted",
    "run",
    "table",
    "visit",
]
