"""What the optimisers share."""

import itertools

import numpy as np


def decay(p, names, amount):
    """Decoupled weight decay (Loshchilov and Hutter 2017, arXiv:1711.05101): shrink the named
    parameters of a store by 1 - amount.
    """
    if amount:
        for name in names:
            p[name] *= 1 - amount


def decayed_names(p):
    """The parameters of a store that decay: all matrices and tables, as in GPT-2's recipes; no
    biases and no norms.
    """
    return [name for name, parameter in p.parameters.items() if parameter.role != "vector"]


def hidden_matrices(p):
    """The parameters of a store that Muon trains, with the number of matrices side by side in each:
    name -> parts.
    """
    return {name: parameter.parts for name, parameter in p.parameters.items() if parameter.role == "hidden"}


def slices(size, parts):
    """Cut 0 .. size into nearly equal slices, for threads."""
    edges = np.linspace(0, size, parts + 1).astype(int)
    return [slice(a, b) for a, b in itertools.pairwise(edges)]
