"""How many numbers a model learns, part by part, from its config alone."""

import math

EMBEDDINGS = ("wte", "wpe", "token_types")
NORMS = ("ln_0", "ln_f", "ln_1", "ln_2")
PARTS = ("embeddings", "attention", "MLP", "norms", "head")


def part_of(name):
    """The part of PARTS that a parameter belongs to, by its name: h.0.attn.c_attn.weight is
    attention's. A norm within a head is the head's.
    """
    words = name.split(".")
    if words[0] in EMBEDDINGS:
        return "embeddings"
    if words[0] == "h" and words[2] in ("attn", "mlp"):
        return {"attn": "attention", "mlp": "MLP"}[words[2]]
    return "norms" if words[2 * (words[0] == "h")] in NORMS else "head"


def count_by_part(shapes):
    """Name -> shape of parameters, tied ones once -> dict of part -> how many numbers, in the order
    of PARTS.
    """
    counts = dict.fromkeys(PARTS, 0)
    for name, shape in shapes.items():
        counts[part_of(name)] += math.prod(shape)
    return counts
