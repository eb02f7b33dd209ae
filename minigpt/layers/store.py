"""All numbers of a model end to end in one vector, and names for its parts."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

ROLES = ("hidden", "embedding", "head", "vector")


class Parameter(NamedTuple):
    """What a layer asks of a store: a name, a shape, a role and the distribution of its initial
    values, normal(mean, std).

    role: "hidden" for a matrix between activations, "embedding" for a table of rows, "head" for a
    matrix into logits or labels, "vector" for biases, norms and what else neither decays nor is
    orthogonalised; parts: how many matrices stand side by side in it, such as 3 for q, k and v;
    std may then be a tuple, of one for each, and so may rate, by which Muon's learning rate is
    multiplied: its updates have a size of their own, whatever a matrix's is.
    """

    name: str
    shape: tuple
    role: str
    std: float | tuple = 0.0
    mean: float = 0.0
    parts: int = 1
    rate: float | tuple = 1.0

    @property
    def rates(self):
        """The factor of the learning rate for each part."""
        return self.rate if isinstance(self.rate, tuple) else (self.rate,) * self.parts


class Store(Mapping):
    """A mapping from names to arrays that are views of one vector, in a fixed order.

    A gradient is another store of the same parameters, so an optimiser, a norm, a sum over shards
    or a change of dtype is one line over `vector`. A gradient store may also lack parameters, those
    that are not trained: layers add nothing for them.

    parameters: of Parameter, any iterable; vector: 1-d array of their total size, zeros of `dtype`
    unless given.
    """

    def __init__(self, parameters, vector=None, dtype=np.float32):
        self.parameters = {}
        for parameter in parameters:  # the same one twice is a layer that stands in two places
            known = self.parameters.setdefault(parameter.name, parameter)
            if known != parameter:
                raise ValueError(f"{known.name} names two parameters: {known}, {parameter}")
        size = sum(math.prod(parameter.shape) for parameter in self.parameters.values())
        self.vector = np.zeros(size, dtype) if vector is None else vector
        if self.vector.shape != (size,):
            raise ValueError(f"vector has shape {self.vector.shape}, the parameters need ({size},)")
        self._views = {}
        start = 0
        for name, parameter in self.parameters.items():
            if parameter.role not in ROLES:
                raise ValueError(f"{name}: role is {parameter.role!r}, it must be one of {', '.join(ROLES)}")
            stop = start + math.prod(parameter.shape)
            self._views[name] = self.vector[start:stop].reshape(parameter.shape)
            start = stop

    @classmethod
    def initialised(cls, parameters, seed, dtype):
        """A store of initial values, drawn in float32 whatever the dtype: models of one seed hold
        the same weights in any dtype.

        seed: int or numpy Generator.
        """
        rng = np.random.default_rng(seed)
        store = cls(parameters, dtype=dtype)
        for p in parameters:
            if p.std:
                std = np.repeat(np.float32(p.std), p.shape[1] // p.parts) if isinstance(p.std, tuple) else p.std
                drawn = rng.standard_normal(p.shape, dtype=np.float32)
                store[p.name][...] = drawn * np.float32(std) + np.float32(p.mean)
            else:
                store[p.name][...] = p.mean
        return store

    @property
    def shapes(self):
        """Name -> shape, in store order."""
        return {name: parameter.shape for name, parameter in self.parameters.items()}

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

    def __contains__(self, name):
        return name in self._views

    def __reduce__(self):
        """Copy and pickle the vector alone: views copied one by one would be views of nothing."""
        return Store, (list(self.parameters.values()), self.vector)

    def like(self, vector):
        """A store of the same parameters whose numbers are another vector."""
        return Store(self.parameters.values(), vector)

    def zeros_like(self, only=None):
        """A store of zeros of the same dtype, a fresh gradient: of all parameters, or of those
        named in `only`.
        """
        names = self.parameters if only is None else set(only)
        return Store([p for name, p in self.parameters.items() if name in names], dtype=self.vector.dtype)

    def astype(self, dtype):
        """A copy in another dtype."""
        return self.like(self.vector.astype(dtype))
