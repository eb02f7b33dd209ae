"""What the optimisers share."""

import itertools

import numpy as np


def decay(p, names, amount):
    """Decoupled weight decay (Loshchilov and Hutter 2017, arXiv:1711.05101): shrink the named parameters of a store by 1 - amount."""
    if amount:
        for name in names:
            p[name] *= 1 - amount


def decayed_names(p):
    """The parameters that decay: those of two or more axes, embeddings included, as in GPT-2's recipes; no biases and no norms."""
    return [name for name, value in p.items() if value.ndim >= 2]


def slices(size, parts):
    """Cut 0 .. size into nearly equal slices, for threads."""
    edges = np.linspace(0, size, parts + 1).astype(int)
    return [slice(a, b) for a, b in itertools.pairwise(edges)]
