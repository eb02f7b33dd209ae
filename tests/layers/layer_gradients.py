"""A layer as one function of its parameters and its inputs together, compared with the complex step."""

import numpy as np

from minigpt.gradcheck import compare, is_floating
from minigpt.layers import Shared, SharedGradients, Store

STD = 0.7


def random_store(layer, rng, dtype=np.float64):
    """A store of O(1) weights for the parameters of a layer."""
    store = Store(layer.parameters(), dtype=dtype)
    store.vector[:] = STD * rng.standard_normal(store.vector.size)
    return store


def check_layer(layer, x, rng, dropout_seed=None, store=None, collected=(), **inputs):
    """The Report on every parameter, on x unless it is ids, and on the inputs named in `collected`.

    inputs: fields of Shared; collected: those whose gradients are asked for, memory and bias.
    """
    store = random_store(layer, rng) if store is None else store
    floating = {"x": x, **{name: inputs[name] for name in collected}}

    def forward(arrays):
        dtype = next(iter(arrays.values())).dtype
        p = Store(store.parameters.values(), dtype=dtype)
        for name in p:
            p[name][...] = arrays[name]
        shared = {"shared": Shared(**{**inputs, **{name: arrays[name] for name in collected}})} if inputs else {}
        if dropout_seed is not None:
            shared["rng"] = np.random.default_rng(dropout_seed)
        return layer.forward(p, arrays.get("x", x), **shared)

    arrays = {**store, **{name: value for name, value in floating.items() if is_floating(value)}}
    y, cache = forward(arrays)
    dy = rng.standard_normal(y.shape)
    g = store.zeros_like()
    dshared = SharedGradients.zeros_like(Shared(**inputs))
    dx = layer.backward(g, dy, cache, *([dshared] if inputs else []))
    analytic = {**g, **({} if dx is None else {"x": dx}), **{name: getattr(dshared, name) for name in collected}}
    assert analytic.keys() == arrays.keys()
    return compare(lambda a: (forward(a)[0] * dy).sum(), arrays, analytic, "complex", rng)
