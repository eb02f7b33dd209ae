"""Settings that the configs of several families have in common, as Values give them."""

from minigpt.errors import MinigptError

ACTIVATIONS = {  # theirs -> ours; of several with one meaning, the first is written
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
NO_TOKENS = {"bos_token_id": None, "eos_token_id": None}  # left out, a decoder takes 50256, whatever the vocabulary


def activation(values, key, default):
    """Our name of an activation function."""
    return ACTIVATIONS[values.one_of(key, ACTIVATIONS, default=default)]


def activation_name(ours):
    """Their name of one of our activation functions."""
    return next(theirs for theirs, mine in ACTIVATIONS.items() if mine == ours)


def layers(values, key, tensors):
    """A number of layers. MinigptError where the files hold fewer tensors: before a billion layers
    are wired to learn their names.
    """
    n = values.whole(key, at_least=1)
    if n > tensors:
        raise MinigptError(f"{values.where}: {key} is {n}, the files hold {tensors} tensors only")
    return n


def one_dropout(values, keys, default, say):
    """The dropout of the first of several keys; where others differ from it, `say` is told."""
    found = {key: values.number(key, at_least=0, below=1, default=default) for key in keys}
    first, *others = found.values()
    if set(others) != {first}:
        given = ", ".join(f"{key} {value}" for key, value in found.items())
        say(f"{values.where}: {given}; the model has one dropout, {first}")
    return first
