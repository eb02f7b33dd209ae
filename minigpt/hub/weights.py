"""From a file's tensors to a store of ours, by a family's table: named, compared with the config,
and only then read.
"""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from minigpt.checks import listed
from minigpt.errors import MinigptError
from minigpt.hub.files import FORMATS
from minigpt.hub.reading import read_all, same
from minigpt.layers.store import Store
from minigpt.machine import check_memory
from minigpt.tensors import Wrong, complaint, shape_in_words


class Fitted(NamedTuple):
    """The tensors of a file that a config's model is made of; nothing has been read of them yet."""

    config: object  # as the file has it: untied where its head differs from the token table
    table: object  # names.Table of it
    tensors: dict  # name in a file of the whole model -> files.Tensor
    fresh: tuple  # names of the parameters of ours that the file has not


def parameter_shapes(family, config):
    """Name -> shape of the parameters of a config's model, in store order; no memory is taken."""
    return family.MODEL.parameter_shapes(config)


def fit(family, config, tensors, directory, say):
    """Compare a file's tensors with a config -> Fitted. `say` is told what is not used, what is
    drawn anew, and which tensors differ that the config ties.

    MinigptError for tensors that are missing, belong to no model of this family and config, stand
    there twice, have another shape or are not of floating point: all of them in one message.
    """
    found, unused, misnamed = name_tensors(family, config, tensors)
    found, different = settle_copies(family.TABLE, found)
    found = settle_twins(family.TABLE, found, say)
    config, found = settle_ties(family.TABLE, config, found, say)
    table = family.TABLE.of(config)
    if not config.tie_embeddings:
        found = {table.twins.get(name, name): tensor for name, tensor in found.items()}
    fresh, wrong = [], []
    for name, shape in parameter_shapes(family, config).items():
        parts = table.shapes(name, shape)
        missing = [theirs for theirs in parts if theirs not in found]
        if missing and table.row(name)[0].optional:
            fresh.append(name)
        else:
            wrong += [Wrong("missing", theirs, directory, "is missing") for theirs in missing]
        wrong += [
            about("of another shape", found[theirs], shape_in_words(found[theirs].shape, expected))
            for theirs, expected in parts.items()
            if theirs in found and found[theirs].shape != expected
        ]
    if wrong := wrong + misnamed + different:
        raise MinigptError(complaint(wrong, directory))
    if unused:
        say(f"{directory}: this model has no use for {listed(unused)}")
    if fresh:
        say(f"{directory} has no {listed(fresh)}: drawn anew (model.fresh)")
    return Fitted(config, table, found, tuple(fresh))


def name_tensors(family, config, tensors):
    """The tensors of a file under their names in a file of the whole model, those to be ignored
    left out -> name -> Tensor, names of those of other heads, what is wrong with them.
    """
    table, untied = family.TABLE.chosen(config), replace(config, tie_embeddings=False)
    shapes = parameter_shapes(family, untied)
    wanted = {theirs for name, shape in shapes.items() for theirs in table.shapes(name, shape)}
    wanted |= {second for first, second in table.twins.items() if first in wanted} | table.copies.keys()
    every = wanted | table.outside_layers()
    found, unused, wrong = {}, [], []
    for name, tensor in tensors.items():
        known = table.known_as(name, every)
        if known is None:
            continue
        if known not in every:
            wrong.append(about("not of this config", tensor, "does not belong to this config"))
        elif known not in wanted:
            unused.append(known)
        elif known in found:
            wrong.append(about("there twice", tensor, f"is {found[known].name} once more, under another name"))
        else:
            found[known] = tensor
            if tensor.dtype not in FORMATS:
                wrong.append(
                    about("not of floating point", tensor, f"is {tensor.dtype}, it must be one of {', '.join(FORMATS)}")
                )
    return found, unused, wrong


def about(kind, tensor, what):
    """What is wrong with a Tensor, for tensors.complaint."""
    return Wrong(kind, tensor.name, tensor.path, what)


def settle_copies(table, tensors):
    """Tensors without the copies of others, which serve where the other is missing -> tensors, what
    is wrong with copies that differ.
    """
    tensors, wrong = dict(tensors), []
    for copy, original in table.copies.items():
        if copy in tensors:
            tensor = tensors.pop(copy)
            if not same(tensors.setdefault(original, tensor), tensor):
                what = f"differs from {tensors[original].name}, of which it must be a copy"
                wrong.append(about("not a copy", tensor, what))
    return tensors, wrong


def settle_twins(table, tensors, say):
    """Tensors with each pair of twins as one, under the first name: of two that differ, the second,
    with which transformers computes.
    """
    tensors = dict(tensors)
    for first, second in table.twins.items():
        if second in tensors:
            if first in tensors and not same(tensors[first], tensors[second]):
                say(f"{tensors[second]} differs from {first}, which is another name of it: it is taken for both")
            tensors[first] = tensors.pop(second)
    return tensors


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


def read_model(family, fitted, directory, seed=0):
    """The model of what `fit` found, with a file's numbers; parameters that the file has not are
    drawn from the seed.

    Beside the model it takes no more memory than a block of numbers. MinigptError naming the
    tensors that hold NaN or infinity.
    """
    shapes, table, tensors = parameter_shapes(family, fitted.config), fitted.table, fitted.tensors
    dtype = np.float64 if any(tensor.dtype == "F64" for tensor in tensors.values()) else np.float32
    size = sum(map(math.prod, shapes.values()))
    check_memory(size * np.dtype(dtype).itemsize, f"a model of {size:,} parameters")
    model = family.MODEL.zeros(fitted.config, dtype)
    drawn = [parameter for name, parameter in model.store.parameters.items() if name in fitted.fresh]
    for name, value in Store.initialised(drawn, seed, dtype).items():
        model.store[name][...] = value
    jobs = [
        (view, tensors[theirs])
        for name, value in model.parameters.items()
        if name not in fitted.fresh
        for theirs, view in table.views(name, value).items()
    ]
    wrong = [
        about("with values that are not finite", tensor, f"holds {bad} values that are not finite")
        for (_, tensor), bad in zip(jobs, read_all(jobs))
        if bad
    ]
    if wrong:
        raise MinigptError(complaint(wrong, directory))
    model.fresh = fitted.fresh
    return model
