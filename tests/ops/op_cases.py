"""Every forward/backward pair with inputs of pairwise distinct sizes, for the tests of what all ops
have in common.
"""

from functools import partial

import numpy as np

from minigpt import ops
from minigpt.ops import Mask

B, H, T, S, D, C, V = 2, 3, 5, 7, 4, 6, 9


def seeded(forward, **settings):
    """The forward with dropout drawn from a generator of its own at each call."""
    return lambda *inputs: forward(*inputs, rng=np.random.default_rng(7), **settings)


def normal(*shapes, then=lambda rng: ()):
    """A function of a generator to normal arrays of these shapes, None where a shape is, and
    whatever `then` adds.
    """
    return lambda rng: (*(None if shape is None else rng.standard_normal(shape) for shape in shapes), *then(rng))


def attention_cases():
    """Both forms of attention, a row without keys among their queries."""
    keys = np.arange(S) < np.array([S - 2, 0])[:, None]  # the second batch row sees nothing
    mask = Mask(causal=True, window=4, keys=keys)
    q, kv = (B, H, T, D), (B, H, S, D)
    for lean in ("", "lean_"):
        forward, backward = getattr(ops, f"{lean}attention_forward"), getattr(ops, f"{lean}attention_backward")
        if lean:
            forward = partial(forward, block=3)  # several blocks

        def masked(q, k, v, bias, dropout=0.0, rng=None, forward=forward):
            return forward(q, k, v, mask, bias, 0.7, dropout, rng)

        yield f"{lean}attention", masked, backward, normal(q, kv, kv, (B, 1, T, S))
        yield f"{lean}attention dropout", seeded(masked, dropout=0.4), backward, normal(q, kv, kv, None)


def cases():
    x = (B, T, C)
    for name, (forward, backward) in ops.ACTIVATIONS.items():
        yield name, forward, backward, normal(x)
    for name, shapes in {"": (x, (C, V), V), " no bias": (x, (C, V), None), " one row": (C, (C, V), V)}.items():
        yield f"linear{name}", ops.linear_forward, ops.linear_backward, normal(*shapes)
    yield "layernorm", ops.layernorm_forward, ops.layernorm_backward, normal(x, C, C)
    yield "layernorm no bias", ops.layernorm_forward, ops.layernorm_backward, normal(x, C, None)
    yield "rmsnorm", ops.rmsnorm_forward, ops.rmsnorm_backward, normal(x, C)
    yield "rmsnorm no scale", ops.rmsnorm_forward, ops.rmsnorm_backward, normal(x, None)
    for axis in (0, 1, -1):
        yield f"softmax axis {axis}", partial(ops.softmax_forward, axis=axis), ops.softmax_backward, normal(x)
    ids = lambda rng: (rng.integers(0, V, (B, T)),)  # noqa: E731
    yield (
        "embedding",
        lambda weight, ids: ops.embedding_forward(ids, weight),
        ops.embedding_backward,
        normal((V, C), then=ids),
    )
    for name, bias in {"": V, " no bias": None}.items():
        yield f"unembedding{name}", ops.unembedding_forward, ops.unembedding_backward, normal(x, (V, C), bias)
    yield "tanh", ops.tanh_forward, ops.tanh_backward, normal(x)
    for name, position_ids in {
        "": None,
        " ids": [3, 0, 3, 7, 2],
        " ids by row": [[3, 0, 3, 7, 2], [0, 0, 1, 2, 7]],
    }.items():
        then = lambda rng, i=position_ids: (None if i is None else np.array(i),)  # noqa: E731
        yield (
            f"learned_positions{name}",
            ops.learned_positions_forward,
            ops.learned_positions_backward,
            normal(x, (V, C), then=then),
        )
    for name, position_ids in {
        "": np.arange(1, T + 1),
        " ids by row": np.array([[3, 0, 3, 7, 2], [0, 0, 1, 2, 7]]),
    }.items():
        tables = [table[position_ids] for table in ops.rotary_table(8, D)]
        yield (
            f"rotary{name}",
            lambda x, tables=tables: ops.rotary_forward(x, *tables),
            ops.rotary_backward,
            normal((B, T, H, D)),
        )
    yield "smear", ops.smear_forward, ops.smear_backward, normal(x, C)
    visible = np.array([[0, 0, 1, 1, 1], [1, 0, 1, 1, 0]], bool)
    yield "smear padding", partial(ops.smear_forward, visible=visible), ops.smear_backward, normal(x, C)
    for name, both in {"": True, " one-sided": False}.items():
        bias = partial(ops.relative_bias_forward, queries=T, keys=S, max_distance=6, bidirectional=both)
        yield f"relative_bias{name}", bias, ops.relative_bias_backward, normal((8, H))
    yield "gate", ops.gate_forward, ops.gate_backward, normal(x, x)
    yield "dropout", seeded(ops.dropout_forward, p=0.3), ops.dropout_backward, normal(x)
    targets = lambda rng: (np.where(rng.random((B, T)) < 0.3, ops.IGNORED, rng.integers(0, V, (B, T))),)  # noqa: E731
    yield "cross_entropy", ops.cross_entropy_forward, ops.cross_entropy_backward, normal((B, T, V), then=targets)
    yield from attention_cases()


CASES = {name: (forward, backward, inputs) for name, forward, backward, inputs in cases()}


def arrays_in(value):
    """All arrays and NumPy numbers in nested tuples."""
    if isinstance(value, np.ndarray | np.generic):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from arrays_in(part)


def grads_of(backward, dy, cache):
    """The gradients as a tuple, those that are None left out."""
    return tuple(arrays_in(backward(dy, cache)))
