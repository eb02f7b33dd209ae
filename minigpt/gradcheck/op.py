"""An op against numeric derivatives: the gradient of every input."""

import numpy as np

from minigpt.errors import MinigptError
from minigpt.gradcheck.handing import check_function, in_double, is_floating, kind_of
from minigpt.gradcheck.pair import Pair


def check_op(forward, backward, inputs, method="complex", seed=0, step=None):
    """Check an op's backward against its forward.

    forward(*inputs) -> (y, cache), or a tuple of arrays in place of y; backward(dy, cache) -> the
    gradient of the one input, or a tuple of one for each input, None where there is none; inputs: a
    tuple of arrays. The output is contracted with a random dy. Inputs that are not floating (ids,
    masks) are handed through unchecked. Each call gets copies; one that writes into what it was
    given is named in the report's remarks. -> Report, a row an input. MinigptError in one line for
    whatever is not of this form, where an input is empty or not finite, and where backward says
    nothing of a floating input.
    """
    check_function("forward", forward)
    check_function("backward", backward)
    return Op(forward, backward, named_inputs(inputs), method=method, seed=seed).check(step)


class Op(Pair):
    """A forward of several inputs and its backward."""

    def __init__(self, forward, backward, given, *, method, seed):
        super().__init__(given, method=method, seed=seed)
        self.functions = forward, backward

    def forward(self, values):
        """y and cache at these inputs."""
        return self.functions[0](*values.values())

    def backward(self, dy, cache):
        """name -> gradient."""
        return named_gradients(self.functions[1](dy, cache), self.given)


def named_inputs(inputs):
    """A tuple of inputs as a dict of "input 0", "input 1", ...; floating ones in float64."""
    if not isinstance(inputs, tuple | list):
        kind = "an array" if isinstance(inputs, np.ndarray) else kind_of(inputs)
        raise MinigptError(f"inputs is {kind}, it must be a tuple of arrays, such as (x,) for one")
    named = {f"input {i}": in_double(x) for i, x in enumerate(inputs)}
    if not any(isinstance(x, np.ndarray) for x in named.values()):
        kinds = ", ".join(type(x).__name__ for x in inputs) or "nothing"
        raise MinigptError(f"inputs holds no array ({kinds}), it must be a tuple of arrays")
    return named


def named_gradients(grads, given):
    """What backward returned, by the inputs' names; MinigptError for another form."""
    expected = "it must return an array, or a tuple with one for each input and None where there is none"
    if grads is None or isinstance(grads, list | dict | str):
        raise MinigptError(f"backward returned {kind_of(grads)}, {expected}")
    grads = grads if isinstance(grads, tuple) else (grads,)
    if len(grads) > len(given):
        raise MinigptError(f"backward returned {len(grads)} gradients for {len(given)} inputs")
    missed = [name for name, x in list(given.items())[len(grads) :] if is_floating(x)]
    if missed:  # a row that is not there looks like one that passed
        found = f"{len(grads)} gradients and none for {missed[0]}"
        raise MinigptError(f"backward returned {found}, it must return None where there is none")
    for (name, x), g in zip(given.items(), grads):
        if g is not None and not is_floating(x):
            kind = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
            what = f"{name} is {kind} and backward returned a gradient for it"
            raise MinigptError(f"{what}: only floating arrays have one")
    named = {name: g for name, g in zip(given, grads) if g is not None}
    if not named:
        raise MinigptError(f"none of the {len(given)} inputs is floating and has a gradient: there is nothing to check")
    return named
