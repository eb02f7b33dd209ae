"""What every model family shares: parameters in a store, loss and gradients, saving."""

import numpy as np

from minigpt import checkpoint
from minigpt.errors import MinigptError
from minigpt.layers.store import Store
from minigpt.machine import check_memory
from minigpt.ops.loss import IGNORED, count_targets


class Model:
    """A config, a list of layers and a store of numbers. A family gives `config`, `layers()` and `add_gradients`.

    hidden_matrices: name -> how many hidden matrices stand side by side in it, for the parameters that Muon trains.
    """

    def __init__(self, config, seed=0, dtype=np.float32, store=None):
        """Wire the layers and draw the weights; seed: int or numpy Generator; a store given is used as it is."""
        self.config = config
        if store is None:  # asked of the config, before a billion layers are wired
            check_memory(config.num_parameters * np.dtype(dtype).itemsize, f"a model of {config.num_parameters:,} parameters")
        parameters = [parameter for layer in self.layers() for parameter in layer.parameters()]
        self.hidden_matrices = {parameter.name: parameter.matrices for parameter in parameters if parameter.matrices}
        self.store = Store.initialised(parameters, seed, dtype) if store is None else store

    @classmethod
    def parameter_shapes(cls, config):
        """Name -> shape of a config's parameters, in store order, without taking memory for them."""
        wired = cls.__new__(cls)
        wired.config = config
        return {parameter.name: parameter.shape for layer in wired.layers() for parameter in layer.parameters()}

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
        """A copy of the model in another dtype: np.float32, np.float64 or np.complex128 (for the complex step)."""
        return type(self)(self.config, store=self.store.astype(dtype))

    def loss_and_grads(self, ids, targets, rng=None):
        """Loss and a fresh dict of gradients, with the keys and shapes of `parameters`; arguments and errors as for `loss`."""
        grads = self.store.zeros_like()
        loss = self.add_gradients(grads, ids, targets, rng)
        return loss, dict(grads)

    def save(self, directory, tokenizer=None):
        """Write config.json, model.safetensors and, where given, tokenizer.json; one atomic switch (minigpt.checkpoint.save)."""
        checkpoint.save(directory, self, tokenizer)


def check_ids(ids, vocab_size, max_length, name="ids"):
    """Token ids as an integer array (B, T). MinigptError names what is wrong: dtype, shape, length or the first id out of range."""
    ids = as_array(ids, name)
    if ids.dtype.kind not in "iu":
        raise MinigptError(f"{name}: dtype is {ids.dtype}, token ids must be integers")
    if ids.ndim != 2 or ids.size == 0:
        raise MinigptError(f"{name}: shape is {ids.shape}, it must be (batch, time) with at least one of each")
    if ids.shape[1] > max_length:
        raise MinigptError(f"{name}: {ids.shape[1]} tokens in a row, the model's block_size is {max_length}")
    check_range(ids, vocab_size, name)
    return ids


def check_targets(targets, ids, vocab_size, count=None):
    """Targets as an integer array of the ids' shape. MinigptError for a wrong dtype, shape or value.

    Also where none counts, unless the count of a whole batch is given: one part of it may well hold ignored targets only.
    """
    targets, ids = as_array(targets, "targets"), as_array(ids, "ids")
    if targets.dtype.kind not in "iu":
        raise MinigptError(f"targets: dtype is {targets.dtype}, they must be integers")
    if targets.shape != ids.shape:
        raise MinigptError(f"targets: shape is {targets.shape}, that of ids is {ids.shape}")
    if count is None and count_targets(targets) == 0:
        raise MinigptError(f"targets: all {targets.size} are {IGNORED} (ignored), at least 1 must count")
    check_range(np.where(targets == IGNORED, 0, targets), vocab_size, "targets")
    return targets


def as_array(values, name):
    """np.asarray, with a MinigptError for rows of unequal length."""
    try:
        return np.asarray(values)
    except ValueError:
        raise MinigptError(f"{name}: the rows have unequal lengths, they must be one array (batch, time)") from None


def check_range(ids, vocab_size, name):
    """MinigptError naming the first id that is not in 0 .. vocab_size - 1."""
    if ids.size and (ids.min() < 0 or ids.max() >= vocab_size):
        at = tuple(int(i) for i in np.argwhere((ids < 0) | (ids >= vocab_size))[0])
        raise MinigptError(f"{name}: value {ids[at]} at {at} is out of range, it must be 0 to {vocab_size - 1}")
