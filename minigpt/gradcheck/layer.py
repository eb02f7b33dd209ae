"""A layer as one function of its parameters and its inputs together."""

from collections.abc import Mapping

import numpy as np

from minigpt.errors import MinigptError
from minigpt.gradcheck.comparison import ROUNDING
from minigpt.gradcheck.handing import check_function, copied, in_double, is_floating, kind_of
from minigpt.gradcheck.pair import Pair
from minigpt.layers.store import Store

STD = 0.7  # of the weights drawn: small ones would hide wrong gradients


def check_layer(
    layer,
    inputs,
    *,
    store=None,
    dropout_seed=None,
    share=None,
    collect=None,
    method="complex",
    seed=0,
    step=None,
    **constants,
):
    """Check a layer's gradients: of every parameter, of x and of further inputs.

    layer: has parameters() -> list of Parameter, forward(p, x, rng=None, **inputs) -> (y, cache),
    and backward(g, dy, cache, **collectors) -> dx, which adds (+=) the parameters' gradients into
    g; inputs: x alone, or a mapping {"x": x, "memory": memory, ...}; what in it is not floating
    (ids, masks) is handed through. store: its parameters, O(1) random ones unless given;
    dropout_seed: rng is handed over where it is given, made anew from it each time; constants:
    further keywords of forward, as they are.

    The gradient of a further input is added by backward into an array handed over as d<name>, as
    where several layers read one memory. A layer of another form says so by two functions:
    share(inputs) -> forward's keywords for the mapping of further inputs, collect(arrays) ->
    backward's keywords for a mapping of arrays of those names, into which it adds.

    -> Report, a row each. A gradient that is written where it has to be added is WRONG. Errors as
    for check_op.
    """
    check_layer_and_store(layer, store)
    for name, function in (("share", share), ("collect", collect)):
        if function is not None:
            check_function(name, function)
    function = LayerFunction(
        layer,
        inputs,
        store=store,
        dropout_seed=dropout_seed,
        share=share,
        collect=collect,
        constants=constants,
        method=method,
        seed=seed,
    )
    return function.check(step)


def check_layer_and_store(layer, store):
    """MinigptError where they are something else; no store is one."""
    if not all(hasattr(layer, name) for name in ("parameters", "forward", "backward")):
        form = "parameters(), forward(p, x, ...) and backward(g, dy, cache, ...)"
        raise MinigptError(f"layer is {kind_of(layer)}, it must have {form}")
    if store is not None and not isinstance(store, Store):
        raise MinigptError(f"store is {kind_of(store)}, it must be a Store with the layer's parameters")


def random_store(layer, rng, dtype=np.float64):
    """A store of O(1) random weights for the parameters of a layer."""
    store = Store.initialised(layer.parameters(), 0, dtype)
    store.vector[:] = STD * rng.standard_normal(store.vector.size)
    return store


class LayerFunction(Pair):
    """A layer as a forward and a backward of named values: its parameters and its inputs together.

    Arguments as for check_layer; constants: a mapping of forward's further keywords.
    """

    def __init__(
        self,
        layer,
        inputs,
        *,
        store=None,
        dropout_seed=None,
        share=None,
        collect=None,
        constants=None,
        method="complex",
        seed=0,
    ):
        inputs = inputs if isinstance(inputs, Mapping) else {"x": inputs}
        if "x" not in inputs:
            names = ", ".join(map(str, inputs)) or "nothing"
            raise MinigptError(f"inputs has {names} in it and no x, which is what forward takes after p")
        self.inputs = {name: in_double(x) for name, x in inputs.items()}
        self.draws = np.random.default_rng([seed, 2])
        self.store = random_store(layer, self.draws) if store is None else store.astype(np.float64)
        both = sorted(set(self.inputs) & set(self.store))
        if both:
            raise MinigptError(f"{both[0]} is the name of an input and of a parameter")
        super().__init__({**self.inputs, **self.store}, method=method, seed=seed)
        self.layer, self.constants, self.dropout_seed = layer, constants or {}, dropout_seed
        self.share = share or dict
        self.collect = collect or (lambda arrays: {f"d{name}": array for name, array in arrays.items()})

    def forward(self, values):
        """y and cache at these values of inputs and parameters, in their dtype."""
        kinds = [x.dtype for x in values.values() if isinstance(x, np.ndarray) and x.dtype.kind in "fc"]
        p = self.store.astype(np.result_type(*kinds) if kinds else np.float64)
        for name in p:
            p[name][...] = values[name]
        values.update(p)  # so that what forward writes into p is seen
        further = {name: values[name] for name in self.inputs if name != "x"}
        rng = {} if self.dropout_seed is None else {"rng": np.random.default_rng(self.dropout_seed)}
        return self.layer.forward(p, values["x"], **rng, **self.share(further), **copied(self.constants))

    def backward(self, dy, cache, start=None):
        """name -> gradient, added into zeros, or into the arrays of `start`."""
        dtype = np.result_type(*(dy if isinstance(dy, tuple) else (dy,)))
        g, further = self.store.astype(dtype), [name for name in self.inputs if name != "x"]
        sums = {name: np.empty_like(self.inputs[name], dtype) for name in further if is_floating(self.inputs[name])}
        for name, array in {**g, **sums}.items():
            array[...] = 0 if start is None else start[name]
        dx = self.layer.backward(g, dy, cache, **self.collect(sums))
        if (dx is not None) != is_floating(self.inputs["x"]):
            kind = "None" if dx is None else f"a gradient of x, which is {np.asarray(self.inputs['x']).dtype}"
            expected = "it must return the gradient of a floating x, and None for another"
            raise MinigptError(f"backward returned {kind}, {expected}")
        return {**({} if dx is None else {"x": dx}), **sums, **g}

    def finish(self, analytic):
        """Run backward into arrays that hold numbers.

        What it makes of them, where that is not the sum, is taken for the gradient: it is WRONG.
        """
        start = {name: self.draws.standard_normal(g.shape) for name, g in analytic.items() if name != "x"}
        _, cache = self.run(copied(self.given))
        filled = self.backward(self.arriving(), cache, start)
        for name, numbers in start.items():
            off = abs(filled[name] - (numbers + analytic[name])).max()
            if not off <= ROUNDING * (1 + abs(analytic[name]).max()):
                analytic[name] = filled[name] - numbers
                self.remarks.append(f"backward does not add (+=) to the gradient of {name} what it adds to zeros")
