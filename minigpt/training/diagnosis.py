"""Where the numbers of a training step first went wrong, in words."""

import math

import numpy as np


def diagnosis(loss, parameters, gradient, places):
    """What is not finite, and where: "the loss is nan; first in h.1.attn: attention_forward".

    loss: a number; parameters and gradient: Mappings of name -> array; places: what
    model.first_not_finite says of each part of the batch, asked one after the other until one says.
    """
    what = "a gradient is not finite" if math.isfinite(loss) else f"the loss is {loss}"
    if name := first_not_finite_name(parameters):
        return f"{what}; first in parameter {name}"
    place = next((place for place in places if place), None)
    if place is None:  # all ops are well, a sum of their gradients is not
        backwards = dict(reversed(list(gradient.items())))
        name = first_not_finite_name(backwards)
        place = f"gradient of {name}" if name else "the norm of the gradients, which overflowed"
    return f"{what}; first in {place}"


def first_not_finite_name(values):
    """The first name in a Mapping whose array has a number that is not finite, or None."""
    return next((name for name, value in values.items() if not np.isfinite(value).all()), None)
