"""From a file's tensors to a store of ours and back, by a family's table."""

import math
from dataclasses import replace

import numpy as np

from minigpt.errors import MinigptError
from minigpt.hub.files import FORMATS
from minigpt.machine import check_memory


def parameter_shapes(family, config):
    """Name -> shape of the parameters of a config's model, in store order; no memory is taken."""
    return {parameter.name: parameter.shape for parameter in family.MODEL.parameters_of(config)}


def name_tensors(family, config, tensors):
    """The tensors of a file under their names in a file of the whole model, those to be ignored
    left out.

    MinigptError for one that no model of this family and config has, that stands there twice, or is
    not of floating point.
    """
    shapes = parameter_shapes(family, replace(config, tie_embeddings=False))
    wanted, found = {theirs for name, shape in shapes.items() for theirs in family.TABLE.shapes(name, shape)}, {}
    for name, tensor in tensors.items():
        known = family.TABLE.known_as(name, wanted)
        if known is None:
            continue
        if known not in wanted:
            raise MinigptError(f"{tensor} does not belong to this config")
        if known in found:
            raise MinigptError(f"{tensor} is {found[known].name} once more, without or with its prefix")
        if tensor.dtype not in FORMATS:
            raise MinigptError(f"{tensor} is {tensor.dtype}, it must be one of {', '.join(FORMATS)}")
        found[known] = tensor
    return found


def settle_ties(table, config, tensors, say):
    """What a file holds of tensors that its config ties decides, as it does in transformers ->
    config, tensors.

    Two that differ are loaded as they are, and tie_embeddings is False; of two that are equal one
    is dropped; one that is there alone serves for both.
    """
    if not config.tie_embeddings:
        return config, tensors
    tensors = dict(tensors)
    for copy, original in table.tied.items():
        if copy in tensors and original in tensors and not same(tensors[copy], tensors[original]):
            say(f"{tensors[copy]} differs from {original}, to which the config ties it: tie_embeddings is False")
            return replace(config, tie_embeddings=False), tensors
    for copy, original in table.tied.items():
        if copy in tensors:
            tensors.setdefault(original, tensors[copy])
            del tensors[copy]
    return config, tensors


def same(a, b):
    """Whether two tensors hold the same numbers."""
    return np.array_equal(a.array(), b.array())


def read_model(family, config, tensors, directory):
    """A config's model with the numbers of a file, which are compared with the config first; errors
    as for from_huggingface.
    """
    table, shapes = family.TABLE, parameter_shapes(family, config)
    fresh = tuple(name for name, shape in shapes.items() if not complete(table, name, shape, tensors, directory))
    dtype = np.float64 if any(tensor.dtype == "F64" for tensor in tensors.values()) else np.float32
    if fresh:
        model = family.MODEL(config, dtype=dtype)
    else:
        size = sum(map(math.prod, shapes.values()))
        check_memory(size * np.dtype(dtype).itemsize, f"a model of {size:,} parameters")
        model = family.MODEL.zeros(config, dtype)
    for name, value in model.parameters.items():
        if name not in fresh:
            for theirs, view in table.views(name, value).items():
                view[...] = finite(tensors[theirs])
    model.fresh = fresh
    return model


def complete(table, name, shape, tensors, directory):
    """Whether a file has all of a parameter of ours. MinigptError where it may not lack it, and for
    another shape.
    """
    for theirs, expected in table.shapes(name, shape).items():
        if theirs in tensors:
            if tensors[theirs].shape != expected:
                raise MinigptError(
                    f"{tensors[theirs]} has shape {tensors[theirs].shape}, the config asks for {expected}"
                )
        elif table.row(name)[0].optional:
            return False
        else:
            raise MinigptError(f"{directory}: tensor {theirs} is missing")
    return True


def finite(tensor):
    """A tensor's numbers. MinigptError where some are NaN or infinite."""
    values = tensor.array()
    bad = values.size - np.count_nonzero(np.isfinite(values))
    if bad:
        raise MinigptError(f"{tensor} holds {bad} values that are not finite")
    return values
