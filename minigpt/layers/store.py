"""All numbers of a model end to end in one vector, and names for its parts."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Parameter(NamedTuple):
    """What a layer asks of a store: a name, a shape and the distribution of its initial values, normal(mean, std).

    matrices: how many hidden matrices stand in it side by side (3 for q, k and v), which is what Muon wants to know; 0 for embeddings,
    heads and vectors.
    """

    name: str
    shape: tuple
    std: float = 0.0
    mean: float = 0.0
    matrices: int = 0


class Store(Mapping):
    """A mapping from names to arrays that are views of one vector, in a fixed order.

    A gradient is another store of the same shapes, so an optimiser, a norm, a sum over shards or a change of dtype is one line over `vector`.

    shapes: dict of name -> shape; vector: 1-d array of their total size, zeros of `dtype` unless given.
    """

    def __init__(self, shapes, vector=None, dtype=np.float32):
        self.shapes = dict(shapes)
        size = sum(math.prod(shape) for shape in self.shapes.values())
        self.vector = np.zeros(size, dtype) if vector is None else vector
        if self.vector.shape != (size,):
            raise ValueError(f"vector has shape {self.vector.shape}, the parameters need ({size},)")
        self._views = {}
        start = 0
        for name, shape in self.shapes.items():
            stop = start + math.prod(shape)
            self._views[name] = self.vector[start:stop].reshape(shape)
            start = stop

    @classmethod
    def initialised(cls, parameters, seed, dtype):
        """A store for a list of Parameter, drawn in float32 whatever the dtype: models of one seed hold the same weights in any dtype.

        seed: int or numpy Generator.
        """
        rng = np.random.default_rng(seed)
        store = cls({p.name: p.shape for p in parameters}, dtype=dtype)
        for name, shape, std, mean, _ in parameters:
            if std:
                store[name][...] = rng.standard_normal(shape, dtype=np.float32) * np.float32(std) + np.float32(mean)
            else:
                store[name][...] = mean
        return store

    def __getitem__(self, name):
        return self._views[name]

    def __setitem__(self, name, value):
        """Write values into a parameter: what `g["w"] += dw` needs; the view itself stays."""
        view = self._views[name]
        if value is not view:  # += has already added in place
            view[...] = value

    def __iter__(self):
        return iter(self._views)

    def __len__(self):
        return len(self._views)

    def __reduce__(self):
        """Copy and pickle the vector alone: views copied one by one would be views of nothing."""
        return Store, (self.shapes, self.vector)

    def zeros_like(self):
        """A store of zeros of the same shapes and dtype: a fresh gradient."""
        return Store(self.shapes, dtype=self.vector.dtype)

    def astype(self, dtype):
        """A copy in another dtype."""
        return Store(self.shapes, self.vector.astype(dtype))
