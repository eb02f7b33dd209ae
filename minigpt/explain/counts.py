"""How many numbers a model learns, part by part, from its config alone."""

import math

EMBEDDINGS = ("wte", "wpe", "token_types")
NORMS = ("ln_0", "ln_f", "ln_1", "ln_cross", "ln_2")
STACKS = ("encoder", "decoder")  # the first word of a parameter's name in a family that has two
LAYERS = {"bias": "attention", "attn": "attention", "cross": "cross-attention", "mlp": "MLP"}
PARTS = ("embeddings", "attention", "cross-attention", "MLP", "norms", "head")


def part_of(name):
    """The part of PARTS that a parameter belongs to, by its name: h.0.attn.c_attn.weight is
    attention's, and so is a stack's relative bias, encoder.bias.weight. A norm within a head is the
    head's.
    """
    words = name.split(".")
    words = words[words[0] in STACKS :]  # encoder.h.0.ln_1.weight
    words = words[2 * (words[0] == "h") :]  # ln_1.weight
    if words[0] in EMBEDDINGS:
        return "embeddings"
    if words[0] in NORMS:
        return "norms"
    return LAYERS.get(words[0], "head")


def count_by_part(shapes):
    """Name -> shape of parameters, tied ones once -> dict of part -> how many numbers, in the order
    of PARTS.
    """
    counts = dict.fromkeys(PARTS, 0)
    for name, shape in shapes.items():
        counts[part_of(name)] += math.prod(shape)
    return counts
