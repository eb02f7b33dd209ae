"""minigpt.check_layer for layers that read a Shared."""

from minigpt import check_layer
from minigpt.gradcheck import random_store
from minigpt.layers import Shared, SharedGradients

__all__ = ["check_shared", "random_store"]


def check_shared(layer, x, dropout_seed=None, *, collected=(), **shared):
    """The Report on every parameter, on x, and on the fields of Shared named in `collected`."""
    constants = {name: value for name, value in shared.items() if name not in collected}
    return check_layer(
        layer,
        {"x": x, **{name: shared[name] for name in collected}},
        dropout_seed=dropout_seed,
        share=lambda inputs: {"shared": Shared(**constants, **inputs)},
        collect=lambda sums: {"dshared": SharedGradients(**sums)},
    )
