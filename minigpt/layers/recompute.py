"""Memory for time: keep a layer's input alone, and run its forward again when backward needs the
rest.
"""

import copy
from typing import NamedTuple

import numpy as np

from minigpt.layers.store import Store


class RecomputedCache(NamedTuple):
    p: Store
    x: np.ndarray  # the layer's input
    # as it was before the layer drew its dropout; in quotes: evaluated, it would import all of
    # np.random
    rng: "np.random.Generator | None"
    arguments: dict  # whatever else forward was given


def recomputed_forward(layer, p, x, rng=None, **arguments):
    """layer.forward with a cache of its input alone: x -> y, RecomputedCache. Chen et al. 2016,
    arXiv:1604.06174, with every layer a segment.

    A model of L such layers keeps L inputs and one layer's activations at a time, in place of L
    layers' activations, for one more forward pass.
    """
    before = copy.deepcopy(rng)
    y, _ = layer.forward(p, x, rng, **arguments)
    return y, RecomputedCache(p, x, before, arguments)


def recomputed_backward(layer, g, dy, cache, *collected):
    """layer.backward after recomputed_forward: the same numbers to the last bit, dropout included;
    adds into g, dy -> dx.

    collected: what else the layer's backward takes, such as the SharedGradients that it adds to.
    """
    return layer.backward(g, dy, recomputed_activations(layer, cache), *collected)


def recomputed_activations(layer, cache):
    """The cache that layer.forward would have returned."""
    return layer.forward(cache.p, cache.x, copy.deepcopy(cache.rng), **cache.arguments)[1]
