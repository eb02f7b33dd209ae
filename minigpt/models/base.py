"""What every model family shares: layers wired from a config, parameters in a store, loss and
gradients, saving.
"""

from collections.abc import Mapping

import numpy as np

from minigpt import checkpoint
from minigpt.checks import shortened
from minigpt.errors import MinigptError
from minigpt.layers.store import Store
from minigpt.machine import check_memory
from minigpt.models.inputs import check_dtype, check_seed
from minigpt.observe import first_not_finite


class Model:
    """A config, layers and a store of numbers.

    A family is a subclass with `model_type` (its name in config.json), `config_class`,
    `wire(config)` and `add_gradients`.
    """

    def __init__(self, config, seed=0, dtype=np.float32, *, store=None):
        """Wire the layers and draw the weights; seed: int or numpy Generator; the vector of a store
        given is used as it is.

        MinigptError for a config of another family, a seed or dtype that is none, and where the
        weights would not fit into memory.
        """
        if type(config) is not self.config_class:  # not of a family that this one's derives from: its fields would fit
            name, wanted = type(self).__name__, self.config_class.__name__
            raise MinigptError(f"config is {shortened(config)}, a {name} is made of a {wanted}")
        if store is None:  # asked of the config, before a billion layers are wired
            check_seed(seed)
            n, dtype = config.num_parameters, check_dtype(dtype)
            check_memory(n * dtype.itemsize, f"a model of {n:,} parameters")
        self.config = config
        layers = self.wire(config)
        vars(self).update(layers)
        parameters = parameters_of(layers)
        self.store = Store.initialised(parameters, seed, dtype) if store is None else Store(parameters, store.vector)

    @staticmethod
    def wire(config):
        """The layers of a config: a dict of attribute -> layer, list of layers or None, in store
        order. It takes no memory for numbers.
        """
        raise NotImplementedError

    @classmethod
    def parameters_of(cls, config):
        """The Parameters of a config, in store order, without taking memory for them."""
        return parameters_of(cls.wire(config))

    @classmethod
    def parameter_shapes(cls, config):
        """Name -> shape of a config's parameters, in store order; it takes no memory for them."""
        return {parameter.name: parameter.shape for parameter in cls.parameters_of(config)}

    @classmethod
    def zeros(cls, config, dtype=np.float32):
        """A model whose numbers are all zero, to be filled from a file."""
        return cls(config, store=Store(cls.parameters_of(config), dtype=dtype))

    @property
    def parameters(self):
        """Mapping from name to a live view of the values, in store order, tied weights once."""
        return self.store

    @property
    def num_parameters(self):
        """How many numbers the model learns; tied weights count once."""
        return self.store.vector.size

    @property
    def dtype(self):
        """The dtype of the parameters, and so of all that is computed from them."""
        return self.store.vector.dtype

    def astype(self, dtype):
        """A copy of the model in another dtype: np.float32, np.float64 or np.complex128 (for the
        complex step). MinigptError for one without fractions.
        """
        return type(self)(self.config, store=self.store.astype(check_dtype(dtype)))

    def loss_and_grads(self, batch, targets=None, rng=None, *, only=None):
        """Loss and a fresh dict of gradients, with the keys and shapes of `parameters`; arguments
        and errors as for `loss`.

        A generator may stand right after a batch of named arrays: loss_and_grads(batch, rng). only:
        names of the parameters whose gradients are wanted; products for the others are not
        computed.
        """
        if rng is None and isinstance(batch, Mapping) and hasattr(targets, "random"):
            targets, rng = None, targets
        if only is not None:
            only = [only] if isinstance(only, str) else list(only)  # an iterator can be read but once
        for name in only or ():
            if name not in self.store:
                raise MinigptError(f"only: there is no parameter {shortened(name)}")
        grads = self.store.zeros_like(only)
        loss = self.add_gradients(grads, batch, targets, rng)
        return loss, dict(grads)

    def first_not_finite(self, batch, targets=None, rng=None, *, counts=None):
        """Where numbers first go wrong in a batch's loss or gradients, None where nowhere; the
        parameters are taken as they are.

        Arguments as for `loss` -> "h.0.attn: rmsnorm_forward", as observe.first_not_finite says.
        One block's activations at a time.
        """
        gradient = self.store.zeros_like()
        return first_not_finite(lambda: self.add_gradients(gradient, batch, targets, rng, counts=counts, keep="inputs"))

    def save(self, directory, tokenizer=None):
        """Write config.json, model.safetensors and, where given, tokenizer.json; one atomic switch
        (minigpt.checkpoint.save).
        """
        checkpoint.save(directory, self, tokenizer)


def parameters_of(layers):
    """The Parameters of wired layers, in store order."""
    parts = [
        part
        for value in layers.values()
        for part in (value if isinstance(value, list) else [value])
        if part is not None
    ]
    return [parameter for part in parts for parameter in part.parameters()]


def count_parameters(wire, blocks):
    """How many numbers a stack of equal blocks learns, with all that stands around it: wire(n) ->
    layers with n blocks.

    Two blocks are wired and not `blocks`, so that a config of a billion of them can be refused.
    """
    one, two = (sum(np.prod(p.shape, dtype=object) for p in parameters_of(wire(n))) for n in (1, 2))
    return one + (blocks - 1) * (two - one)
