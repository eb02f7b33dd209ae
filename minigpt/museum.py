"""The bug museum: classic mistakes of handwritten transformers, planted one at a time into this library's own code, and what catches each.

An exhibit is a text of the real source and the text to put in its place. `planted(exhibit)` compiles the changed function, swaps its code object
for as long as a `with` lasts and puts the right one back; nothing on disk changes. Each exhibit names the rung of the ladder of tests that sees it:

    gradient check    forward and backward disagree. The complex step sees it, and names the input or parameter whose gradient is wrong; of a
                      model it names the wrong one nearest to the loss, since all that lie below inherit the error.
    oracle            forward and backward agree on the wrong thing, or no gradient is involved: an independent formula, written in loops.
    invariance        the same, seen without a formula: causality, rows of weights that sum to one, cached = uncached, shards = whole, ...
    accounting        tokens, targets, batches and random streams, each counted once and in its place.
    golden            a value on record.

The lesson of the table is in its second and fourth columns. No gradient check, however exact, sees a forward pass that is wrong together with its
backward. And of what a gradient check can see, the common one (central differences in float32, step 1e-3, tolerance 1e-2) misses what is small:
a typed constant, an eps in the wrong place, a factor of 1.001, all of which the complex step shows ten orders of magnitude above its rounding.

    from minigpt import museum
    print(museum.table())                          # or: minigpt gradcheck --museum
    with museum.planted(museum.EXHIBITS[0]):       # look at one in a notebook
        ...

Shapes: B batch, H heads, T queries, S keys, D channels of a head, C channels, V vocabulary, P positions.
"""

import functools
import importlib
import inspect
import math
import textwrap
import types
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import numpy as np

from minigpt.gradcheck import LIMIT, compare
from minigpt.layers import MLP, Attention, KVCache, LayerNorm, PostNormBlock, RMSNorm, Store
from minigpt.models.gpt import GPT, CachedLogits, GPTConfig
from minigpt.ops import activations, attention, dropout, embedding, linear, loss, normalization, positions, softmax
from minigpt.ops.loss import IGNORED

FLOAT32_STEP = 1e-3  # of the central differences in float32 that exhibits are compared with
FLOAT32_TOLERANCE = 1e-2


class Edit(NamedTuple):
    """A text of one function, and what to put in its place."""

    module: str  # below minigpt, such as "ops.attention"
    function: str  # or Class.method
    old: str  # occurs exactly once in the function's source
    new: str


class Exhibit(NamedTuple):
    """One classic mistake."""

    name: str
    edits: tuple  # of Edit; more than one where forward and backward are wrong together
    caught_by: str  # "gradient check", or another rung and what it compares
    check: Callable  # -> Finding; of a gradient check, called with a method
    wrong: tuple  # names that the check must find wrong, no more and no fewer
    symptom: str  # what it would have looked like in training
    blind: Callable | None = None  # a gradient check that passes with the bug planted: it runs the wrong code and sees nothing

    @property
    def by_gradient(self):
        """Whether a gradient check catches it."""
        return self.caught_by == "gradient check"


class Finding(NamedTuple):
    """What a check found."""

    wrong: tuple  # names beyond the limit
    error: float  # the largest of theirs; of all where none is wrong
    errors: dict  # name -> error


class Row(NamedTuple):
    """One line of the table."""

    exhibit: Exhibit
    finding: Finding
    float32_error: float | None  # of the wrong gradient by central differences in float32; None where no gradient check sees the bug

    @property
    def caught(self):
        """Whether the named rung found what it had to."""
        return self.finding.wrong == self.exhibit.wrong

    @property
    def float32_catches(self):
        """Whether central differences in float32 see it."""
        return self.float32_error is not None and not self.float32_error <= FLOAT32_TOLERANCE  # NaN is caught


# Planting


def function_of(edit):
    """The function or method that an edit changes."""
    part = importlib.import_module(f"minigpt.{edit.module}")
    for name in edit.function.split("."):
        part = getattr(part, name)
    return part


def patched_code(edit):
    """The code object of an edit's function with its text replaced.

    AssertionError where the old text does not occur exactly once (the exhibit went stale), or where the new code could not take the place of
    the old: a code object holds neither the defaults of the arguments nor the closure's cells, which stay the function's own.
    """
    function = function_of(edit)
    source = inspect.getsource(function)
    count = source.count(edit.old)
    assert count == 1, f"{edit.module}.{edit.function}: the text to replace occurs {count} times, it must occur once: {edit.old!r}"
    source = textwrap.dedent(source.replace(edit.old, edit.new))
    at = function.__code__
    module = compile("\n" * (at.co_firstlineno - 1) + source, at.co_filename, "exec", dont_inherit=True)  # a code object: nothing is run
    code = find_code(module, function.__name__)
    assert code is not None and code.co_freevars == at.co_freevars, f"{edit.module}.{edit.function}: the new code does not fit the function"
    return code.replace(co_qualname=at.co_qualname)


def find_code(code, name):
    """The first code object of a name among the constants of another, at any depth, or None."""
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    for constant in inner:
        if constant.co_name == name:
            return constant
    return next((found for constant in inner if (found := find_code(constant, name)) is not None), None)


@contextmanager
def replaced(thing, attribute, value):
    """Set an attribute for as long as the context lasts."""
    before = getattr(thing, attribute)
    setattr(thing, attribute, value)
    try:
        yield
    finally:
        setattr(thing, attribute, before)


@contextmanager
def planted(exhibit):
    """The library with one mistake in it, for as long as the context lasts. Overflow and division by zero pass without a warning meanwhile."""
    codes = [(function_of(edit), patched_code(edit)) for edit in exhibit.edits]
    assert len({function for function, _ in codes}) == len(codes), f"{exhibit.name}: two edits of one function would undo each other"
    with ExitStack() as stack:
        stack.enter_context(np.errstate(all="ignore"))
        for function, code in codes:
            stack.enter_context(replaced(function, "__code__", code))
        yield


# Gradient checks: each is a function of a method, "complex" or "float32", to a Finding.


def measure(objective, arrays, analytic, method):
    """Compare gradients by the complex step in float64, or by central differences in float32, as both are commonly done. -> name -> error"""
    rng = np.random.default_rng(3)
    if method == "complex":
        report = compare(objective, arrays, analytic, "complex", rng)
    else:
        report = compare(lambda a: objective({n: x.astype(np.float32) for n, x in a.items()}), arrays, analytic, "central", rng, FLOAT32_STEP)
    return {row.name: row.error for row in report.rows}


def judged(errors, limit, nearest_to_loss=False):
    """The Finding for a dict of errors; nearest_to_loss keeps only the last that is wrong."""
    wrong = tuple(name for name, error in errors.items() if not error <= limit)  # NaN is wrong
    if nearest_to_loss:
        wrong = wrong[-1:]
    return Finding(wrong, float(np.max([errors[name] for name in wrong or errors])), errors)


def limit_of(method):
    """The error above which a gradient is taken to be wrong."""
    return LIMIT["complex"] if method == "complex" else FLOAT32_TOLERANCE


def op_check(forward, backward, shapes, seed=0):
    """The gradient check of an op: forward(*arrays) -> (y, cache), backward(dy, cache) -> gradients; shapes: name -> shape of each array."""

    def check(method="complex"):
        dtype = np.float64 if method == "complex" else np.float32
        rng = np.random.default_rng(seed)
        arrays = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
        y, cache = forward(*arrays.values())
        dy = np.asarray(rng.standard_normal(np.shape(y)), dtype)
        grads = backward(dy, cache)
        grads = grads if isinstance(grads, tuple) else (grads,)
        errors = measure(lambda a: (forward(*a.values())[0] * dy).sum(), arrays, dict(zip(arrays, grads)), method)
        return judged(errors, limit_of(method))

    return check


def random_model(dtype=np.float64, std=0.7, **changes):
    """A small GPT with weights of O(1): small ones would hide wrong gradients."""
    sizes = {"vocab_size": 11, "block_size": 7, "n_layer": 2, "n_head": 2, "n_embd": 6}
    model = GPT(GPTConfig(**sizes | changes), dtype=dtype)
    model.store.vector[:] = std * np.random.default_rng(1).standard_normal(model.num_parameters)
    return model


def random_batch(T=5):
    """ids and targets (3, T) below 11, some of the targets ignored."""
    ids, targets = np.random.default_rng(2).integers(0, 11, (2, 3, T))
    targets[0, 1] = targets[2, 3:] = IGNORED
    return ids, targets


def model_check(lean=False, dropout_seed=5, **changes):
    """The gradient check of a GPT, every parameter; lean: with memory-lean attention, two queries at a time."""

    def check(method="complex"):
        with replaced(importlib.import_module("minigpt.layers.attention"), "LEAN_FROM", 2 if lean else 256), replaced(attention, "QUERY_BLOCK", 2):
            model, batch = random_model(np.float64 if method == "complex" else np.float32, **{"dropout": 0.2} | changes), random_batch()
            _, analytic = model.loss_and_grads(*batch, np.random.default_rng(dropout_seed))
            arrays = {name: value.copy() for name, value in model.parameters.items()}
            stepped = model.astype(np.complex128 if method == "complex" else np.float32)

            def objective(a):
                for name, value in a.items():
                    stepped.parameters[name][...] = value
                return stepped.loss(*batch, np.random.default_rng(dropout_seed))

            return judged(measure(objective, arrays, analytic, method), limit_of(method), nearest_to_loss=True)

    return check


def layer_check(make, shapes, collected=()):
    """The gradient check of a layer: make() -> layer; shapes: name -> shape of x and of further inputs, those in `collected` with gradients.

    A collected gradient is added to ones that are there already, as where several layers read one memory.
    """

    def check(method="complex"):
        dtype = np.float64 if method == "complex" else np.float32
        layer, rng = make(), np.random.default_rng(4)
        store = Store({p.name: p.shape for p in layer.parameters()}, dtype=dtype)
        store.vector[:] = 0.7 * rng.standard_normal(store.vector.size)
        inputs = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}

        def forward(arrays):
            p = Store(store.shapes, dtype=next(iter(arrays.values())).dtype)
            for name in p:
                p[name][...] = arrays[name]
            return layer.forward(p, rng=np.random.default_rng(6), **{name: arrays[name] for name in inputs})

        arrays = {**inputs, **{name: value.copy() for name, value in store.items()}}
        y, cache = forward(arrays)
        dy, g = rng.standard_normal(y.shape).astype(dtype), store.zeros_like()
        sums = {f"d{name}": np.ones_like(inputs[name]) for name in collected}
        dx = layer.backward(g, dy, cache, **sums)
        analytic = {"x": dx, **{name: sums[f"d{name}"] - 1 for name in collected}, **g}
        return judged(measure(lambda a: (forward(a)[0] * dy).sum(), arrays, analytic, method), limit_of(method), nearest_to_loss=True)

    return check


ATTENTION_MASK = attention.Mask(causal=True, window=3, keys=np.array([[True] * 5, [True, True, True, True, False]]))


def attention_check(lean=False, p=0.0):
    """The gradient check of attention on as many keys as queries, B = 2, H = 3, T = S = 5, D = 4, with a mask and a bias."""
    forward, backward = (
        (attention.lean_attention_forward, attention.lean_attention_backward) if lean else (attention.attention_forward, attention.attention_backward)
    )

    def run(q, k, v, bias):
        return forward(q, k, v, ATTENTION_MASK, bias, 1 / math.sqrt(3), p, np.random.default_rng(7))

    op = op_check(run, backward, {"q": (2, 3, 5, 4), "k": (2, 3, 5, 4), "v": (2, 3, 5, 4), "bias": (1, 3, 5, 5)})

    def check(method="complex"):
        with replaced(attention, "QUERY_BLOCK", 2):
            return op(method)

    return check


def embedding_forward(weight):
    """A look-up in which ids repeat."""
    return embedding.embedding_forward(np.array([[2, 0, 2, 5], [2, 5, 1, 2]]), weight)


def cross_entropy_forward(logits):
    """The loss of 8 targets, 3 of which are ignored."""
    return loss.cross_entropy_forward(logits, np.array([[1, IGNORED, 6, 3], [IGNORED, 0, 6, IGNORED]]))


X = (2, 5, 6)  # B, T, C
gradients = types.SimpleNamespace(
    linear=op_check(linear.linear_forward, linear.linear_backward, {"x": X, "weight": (6, 4), "bias": (4,)}),
    layernorm=op_check(normalization.layernorm_forward, normalization.layernorm_backward, {"x": X, "weight": (6,), "bias": (6,)}),
    wide_layernorm=op_check(normalization.layernorm_forward, normalization.layernorm_backward, {"x": (1, 2, 256), "weight": (256,), "bias": (256,)}),
    rmsnorm=op_check(normalization.rmsnorm_forward, normalization.rmsnorm_backward, {"x": X, "weight": (6,)}),
    softmax=op_check(softmax.softmax_forward, softmax.softmax_backward, {"x": (3, 5, 6)}),
    gelu=op_check(activations.gelu_forward, activations.gelu_backward, {"x": (4, 13)}),
    gelu_tanh=op_check(activations.gelu_tanh_forward, activations.gelu_tanh_backward, {"x": (4, 13)}),
    silu=op_check(activations.silu_forward, activations.silu_backward, {"x": (4, 13)}),
    relu=op_check(activations.relu_forward, activations.relu_backward, {"x": (4, 13)}),
    embedding=op_check(embedding_forward, embedding.embedding_backward, {"weight": (7, 3)}),
    unembedding=op_check(embedding.unembedding_forward, embedding.unembedding_backward, {"x": X, "weight": (7, 6)}),
    positions=op_check(positions.learned_positions_forward, positions.learned_positions_backward, {"x": X, "weight": (8, 6)}),
    dropout=op_check(lambda x: dropout.dropout_forward(x, 0.3, np.random.default_rng(8)), dropout.dropout_backward, {"x": X}),
    cross_entropy=op_check(cross_entropy_forward, loss.cross_entropy_backward, {"logits": (2, 4, 7)}),
    attention=attention_check(),
    attention_dropout=attention_check(p=0.3),
    lean_attention=attention_check(lean=True),
    lean_attention_dropout=attention_check(lean=True, p=0.3),
    gpt=model_check(),
    lean_gpt=model_check(lean=True),
    post_norm_block=layer_check(
        lambda: PostNormBlock(LayerNorm("ln_1", 6), Attention("attn", 6, 2, dropout=0.2), LayerNorm("ln_2", 6), MLP("mlp", 6, 10, dropout=0.2)),
        {"x": X},
    ),
    cross_attention=layer_check(lambda: Attention("attn", 6, 2, memory_channels=4, dropout=0.2), {"x": X, "memory": (2, 7, 4)}, ("memory",)),
)


# Exhibits


def gradient(name, module, function, old, new, check, wrong, symptom):
    """An exhibit that a gradient check catches."""
    return Exhibit(name, (Edit(module, function, old, new),), "gradient check", check, tuple(wrong.split()), symptom)


ATTENTION, NORM, ACTIVATION = "ops.attention", "ops.normalization", "ops.activations"

GRADIENT_EXHIBITS = [
    gradient(
        "LayerNorm backward: the mean's term dropped", NORM, "layernorm_backward",
        "dx = dxhat - row_mean(dxhat)", "dx = dxhat.copy()", gradients.layernorm, "x",
        "learns, a little worse; each block pushes the residual stream's mean, which LayerNorm should not feel",
    ),
    gradient(
        "LayerNorm backward: the projection's term dropped", NORM, "layernorm_backward",
        "dx -= xhat * row_mean(dxhat * xhat)", "pass", gradients.layernorm, "x",
        "activations grow without end, since the gradient thinks that scale still matters; a lower rate seems to help",
    ),
    gradient(
        "LayerNorm backward: rstd forgotten", NORM, "layernorm_backward",
        "dx *= rstd", "pass", gradients.layernorm, "x",
        "gradients of lower layers are off by the residual stream's size: deep models stall or blow up",
    ),
]  # fmt: skip

EXHIBITS = [*GRADIENT_EXHIBITS]


# The tour


def tour(exhibit):
    """Plant one exhibit and have it looked for. -> Row"""
    with planted(exhibit):
        if not exhibit.by_gradient:
            return Row(exhibit, exhibit.check(), None)
        finding = exhibit.check("complex")
        errors = exhibit.check("float32").errors
        return Row(exhibit, finding, float(np.max([errors[name] for name in exhibit.wrong])))


def run(progress=None):
    """Plant every exhibit in turn. progress: None or a function that wraps the iteration, such as tqdm. -> list of Row"""
    return [tour(exhibit) for exhibit in (progress(EXHIBITS) if progress else EXHIBITS)]


def table(rows=None, progress=None):
    """The museum as a text: mistake, caught by, error, what central differences in float32 say, symptom. rows: those of run(), run unless given."""
    rows = run(progress) if rows is None else rows
    lines = [("mistake", "caught by", "error", "in float32", "symptom in training")]
    for row in rows:
        e = row.exhibit
        by = e.caught_by + (f": {', '.join(e.wrong)}" if e.by_gradient else "")
        if not row.caught:
            by = f"NOT CAUGHT by {by}"
        seen = "blind" if row.float32_error is None else f"{'caught' if row.float32_catches else 'MISSED'} {row.float32_error:.0e}"
        lines.append((e.name, by, f"{row.finding.error:.0e}", seen, e.symptom))
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in lines)
