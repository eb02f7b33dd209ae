"""The bug museum: classic mistakes of handwritten transformers, planted one at a time into this library's own code, and what catches each.

An exhibit is a text of the real source and the text to put in its place. `planted(exhibit)` compiles the changed function, swaps its code object
for as long as a `with` lasts and puts the right one back; nothing on disk changes. Each exhibit names the rung of the ladder of tests that sees it:

    gradient check    forward and backward disagree. The complex step sees it, and names the input or parameter whose gradient is wrong; of a
                      model it names the wrong one nearest to the loss, since all that lie below inherit the error.
    oracle            forward and backward agree on the wrong thing, or no gradient is involved: an independent formula, written in loops.
    invariance        the same, seen without a formula: causality, rows of weights that sum to one, cached = uncached, shards = whole, ...
    accounting        tokens, targets, batches and random streams, each counted once and in its place.
    golden            a value on record.

Two lessons stand in the table. No gradient check, however exact, sees a forward pass that is wrong together with its backward ("blind" in the
fourth column); tests/test_museum.py holds the library to that as well. And of what a gradient check can see, the usual one (central differences in
float32, step 1e-3, tolerance 2e-2) misses whatever is small: a constant typed with too few digits, an eps in the wrong place, one entry of many.
Its tolerance cannot be made smaller: on right code its own errors are 1e-4 to 2e-3 for an op here, and 1.1e-2 to 1.5e-2 for a model, with the kernels
of BLAS that it runs on. Those of the complex step are below 1e-14.

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

from minigpt.errors import MinigptError
from minigpt.gradcheck import LIMIT, compare
from minigpt.layers import MLP, Attention, LayerNorm, PostNormBlock, Store
from minigpt.layers import attention as attention_layer
from minigpt.models.gpt import GPT, CachedLogits, GPTConfig
from minigpt.ops import activations, attention, dropout, embedding, linear, loss, normalization, positions, smear, softmax
from minigpt.ops.loss import IGNORED

FLOAT32_STEP = 1e-3  # of the central differences in float32 that exhibits are compared with
FLOAT32_TOLERANCE = 2e-2


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


def named(edit):
    """What stands under the name of an edit's function: the function or method, or a cache around it."""
    part = importlib.import_module(f"minigpt.{edit.module}")
    for name in edit.function.split("."):
        part = getattr(part, name)
    return part


def function_of(edit):
    """The function or method that an edit changes."""
    return inspect.unwrap(named(edit))


def patched_code(edit):
    """The code object of an edit's function with its text replaced.

    MinigptError where the old text does not occur exactly once (the exhibit went stale), or where the new code could not take the place of
    the old: a code object holds neither the defaults of the arguments nor the closure's cells, which stay the function's own.
    """
    function = function_of(edit)
    source = inspect.getsource(function)
    count = source.count(edit.old)
    if count != 1:
        raise MinigptError(f"{edit.module}.{edit.function}: the text to replace occurs {count} times, it must occur once: {edit.old!r}")
    source = textwrap.dedent(source.replace(edit.old, edit.new))
    at = function.__code__
    module = compile("\n" * (at.co_firstlineno - 1) + source, at.co_filename, "exec", dont_inherit=True)  # a code object: nothing is run
    code = find_code(module, function.__name__)
    if code is None or code.co_freevars != at.co_freevars:
        raise MinigptError(f"{edit.module}.{edit.function}: the new code does not fit the function")
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
    """The library with one mistake in it, for as long as the context lasts; overflow and division by zero pass without a warning meanwhile.

    The whole process has the mistake, other threads too. MinigptError where the exhibit is stale; nothing is planted then.
    """
    codes = [(function_of(edit), patched_code(edit)) for edit in exhibit.edits]
    if len({function for function, _ in codes}) < len(codes):
        raise MinigptError(f"{exhibit.name}: two edits of one function would undo each other")
    with ExitStack() as stack:
        stack.enter_context(np.errstate(all="ignore"))
        for forget in [cache.cache_clear for cache in map(named, exhibit.edits) if hasattr(cache, "cache_clear")]:
            forget()
            stack.callback(forget)
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
    """The gradient check of an op: forward(*arrays) -> (y, cache), backward(dy, cache) -> gradients; shapes: name -> shape of each array.

    An array is named by its op, too: layernorm.x.
    """
    op = backward.__name__.removesuffix("_backward")

    def check(method="complex"):
        dtype = np.float64 if method == "complex" else np.float32
        rng = np.random.default_rng(seed)
        arrays = {f"{op}.{name}": rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
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
        with replaced(attention_layer, "LEAN_FROM", 2 if lean else 256), replaced(attention, "QUERY_BLOCK", 2):
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


ATTENTION_MASK = attention.Mask(causal=True, window=3, keys=np.array([[1, 1, 1, 0, 0], [1, 0, 1, 1, 1]], bool))


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
    rotary=op_check(lambda x: positions.rotary_forward(x, *positions.rotary_table(5, 4)), positions.rotary_backward, {"x": (2, 5, 3, 4)}),
    smear=op_check(smear.smear_forward, smear.smear_backward, {"x": X, "weight": (6,)}),
    dropout=op_check(lambda x: dropout.dropout_forward(x, 0.3, np.random.default_rng(8)), dropout.dropout_backward, {"x": X}),
    cross_entropy=op_check(cross_entropy_forward, loss.cross_entropy_backward, {"logits": (2, 4, 7)}),
    wide_cross_entropy=op_check(cross_entropy_forward, loss.cross_entropy_backward, {"logits": (2, 4, 1000)}),
    attention=attention_check(),
    attention_dropout=attention_check(p=0.3),
    lean_attention=attention_check(lean=True),
    lean_attention_dropout=attention_check(lean=True, p=0.3),
    gpt=model_check(),
    lean_gpt=model_check(lean=True),
    rotary_gpt=model_check(n_layer=1, n_embd=8, positions="rotary"),
    qk_norm_gpt=model_check(n_layer=1, n_embd=8, qk_norm=True),
    post_norm_block=layer_check(
        lambda: PostNormBlock(LayerNorm("ln_1", 6), Attention("attn", 6, 2, dropout=0.2), LayerNorm("ln_2", 6), MLP("mlp", 6, 10, dropout=0.2)),
        {"x": X},
    ),
    cross_attention=layer_check(lambda: Attention("attn", 6, 2, memory_channels=4, dropout=0.2), {"x": X, "memory": (2, 7, 4)}, ("memory",)),
)


# Oracles, invariances, accounting and golden values: each is a function of nothing to a Finding.


def compared(limit=1e-9):
    """Decorator: a function to a dict of name -> (value, right value) becomes one to a Finding, by the largest relative difference of each."""

    def wrap(function):
        @functools.wraps(function)
        def check():
            errors = {}
            for name, (value, right) in function().items():
                value, right = np.asarray(value, np.float64), np.asarray(right, np.float64)
                errors[name] = float(np.max(abs(value - right))) / max(float(np.max(abs(right))), 1e-300) if value.shape == right.shape else math.inf
            return judged(errors, limit)

        return check

    return wrap


def loop_attention(q, k, v, mask, scale):
    """Attention by loops over single numbers. -> y (B, H, T, D), weights (B, H, T, S)"""
    (B, H, T, D), S = q.shape, k.shape[2]
    y, weights = np.zeros((B, H, T, D)), np.zeros((B, H, T, S))
    for b, h, t in np.ndindex(B, H, T):
        seen = [s for s in range(S) if 0 <= S - T + t - s < mask.window and mask.keys[b, s]]
        e = {s: math.exp(scale * sum(q[b, h, t, d] * k[b, h, s, d] for d in range(D))) for s in seen}
        for s in seen:
            weights[b, h, t, s] = e[s] / sum(e.values())
            y[b, h, t] += weights[b, h, t, s] * v[b, h, s]
    return y, weights


def attention_oracle(forward):
    """A check of an attention's forward against loops, T = 5 queries at the end of S = 7 keys, causal, a band of 3, two keys padded."""

    @compared()
    def check():
        rng = np.random.default_rng(9)
        q, k, v = (rng.standard_normal((2, 3, n, 4)) for n in (5, 7, 7))
        mask = attention.Mask(True, 3, np.arange(7) < np.array([[7], [5]]))
        y, cache = forward(q, k, v, mask)
        right = loop_attention(q, k, v, mask, 0.5)
        return {"y": (y, right[0]), "weights": (cache.weights, right[1])}

    return check


@compared(limit=0)
def causality():
    """Logits before a token that changes, to the bit."""
    model, (ids, _) = random_model(), random_batch()
    changed = ids.copy()
    changed[:, 3] = (ids[:, 3] + 1) % 11
    return {"logits before the change": (model.logits(changed)[:, :3], model.logits(ids)[:, :3])}


@compared()
def weights_sum_to_one():
    """Each query's weights, without dropout."""
    q, k, v = np.random.default_rng(9).standard_normal((3, 2, 3, 5, 4))
    weights = attention.attention_forward(q, k, v, attention.Mask(causal=True))[1]
    used = weights.weights if weights.dropout is None else weights.weights * weights.dropout.swapaxes(-1, -2)
    return {"row sums": (used.sum(axis=-1), np.ones((2, 3, 5)))}


@compared()
def padding():
    """A short prompt in a padded batch against the same prompt alone: its next token's logits."""
    model, (ids, _) = random_model(), random_batch()
    rows = [ids[0], ids[1, :3]]
    return {"padded row": (model.uncached_logits(rows)[1], model.uncached_logits(rows[1:])[0])}


@compared()
def cached_is_uncached():
    """Logits of decoding with a KV cache against those computed from the whole text."""
    model, (ids, _) = random_model(), random_batch()
    cached, new = CachedLogits(model), []
    for T in (3, 4, 5):
        rows = list(ids[:, :T])
        new.append((cached(rows), model.uncached_logits(rows)))
    return {"prompt": new[0], "next tokens": tuple(np.stack(part) for part in zip(*new[1:]))}


@compared()
def cached_by_parts():
    """A layer with a KV cache that is given three tokens and then two, against all five at once."""
    layer, x = Attention("f", 6, 3, causal=True), np.random.default_rng(9).standard_normal((2, 5, 6))
    p = Store({parameter.name: parameter.shape for parameter in layer.parameters()}, dtype=np.float64)
    p.vector[:] = np.random.default_rng(10).standard_normal(p.vector.size)
    kv, whole = attention_layer.KVCache(2, 3, 5, 2, np.float64), layer.forward(p, x)[0]
    parts = [layer.forward(p, part, kv=kv)[0] for part in (x[:, :3], x[:, 3:])]
    return {"first part": (parts[0], whole[:, :3]), "second part": (parts[1], whole[:, 3:])}


@compared()
def layernorm_oracle():
    """LayerNorm by loops: mean, variance that divides by C, eps inside the root; RMSNorm likewise. Rows of 1e-3, where eps weighs."""
    rng = np.random.default_rng(10)
    x, weight, bias = 1e-3 * rng.standard_normal((4, 6)), rng.standard_normal(6), rng.standard_normal(6)
    layer, rms = np.zeros((2, 4, 6))
    for i, row in enumerate(x):
        mean, square = sum(row) / 6, sum(a * a for a in row) / 6
        variance = sum((a - mean) ** 2 for a in row) / 6
        for j, a in enumerate(row):
            layer[i, j] = (a - mean) / math.sqrt(variance + 1e-5) * weight[j] + bias[j]
            rms[i, j] = a / math.sqrt(square + 1e-6) * weight[j]
    got = normalization.layernorm_forward(x, weight, bias)[0], normalization.rmsnorm_forward(x, weight)[0]
    return {"layernorm": (got[0], layer), "rmsnorm": (got[1], rms)}


@compared()
def activation_oracle():
    """The activations by their formulas, number by number."""
    x = np.linspace(-3, 3, 13)
    exact = [a / 2 * (1 + math.erf(a / math.sqrt(2))) for a in x]
    tanh = [a / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3))) for a in x]
    return {"gelu": (activations.gelu_forward(x)[0], exact), "gelu_tanh": (activations.gelu_tanh_forward(x)[0], tanh)}


@compared()
def shift():
    """Softmax and cross-entropy of scores that are all 1000 larger."""
    x = np.random.default_rng(11).standard_normal((3, 6))
    values = [(softmax.softmax_forward(a)[0], loss.cross_entropy_forward(a, np.array([0, 2, 5]))[0]) for a in (x + 1000, x)]
    return {"softmax": (values[0][0], values[1][0]), "cross-entropy": (values[0][1], values[1][1])}


@compared(limit=1e-2)
def dropout_expectation():
    """The mean of many ones after dropout, and how far the masks of two rows of a batch agree (p^2 + (1 - p)^2 where they are drawn apart)."""
    y = dropout.dropout_forward(np.ones((2, 100_000)), 0.3, np.random.default_rng(12))[0]
    return {"mean": (y.mean(), 1), "rows that agree": (((y[0] > 0) == (y[1] > 0)).mean(), 0.3**2 + 0.7**2)}


@compared()
def loss_oracle():
    """The mean of -log p over the targets that are not ignored, one by one."""
    logits, (_, targets) = np.random.default_rng(13).standard_normal((3, 5, 11)), random_batch()
    kept = [(b, t) for b, t in np.ndindex(3, 5) if targets[b, t] != IGNORED]
    right = [math.log(sum(math.exp(a) for a in logits[at])) - logits[at][targets[at]] for at in kept]
    return {"loss": (loss.cross_entropy_forward(logits, targets)[0], sum(right) / len(right))}


@compared()
def micro_batches():
    """Gradients of two micro-batches added into one store against the sum of the two apart."""
    model, (ids, targets) = random_model(), random_batch()
    together, apart = model.store.zeros_like(), [model.store.zeros_like() for _ in range(2)]
    for part, rows in zip(apart, (slice(0, 2), slice(2, 3))):
        for g in (together, part):
            model.add_gradients(g, ids[rows], targets[rows], count=10)
    return {"gradient": (together.vector, apart[0].vector + apart[1].vector)}


def small_trainer(**settings):
    """A Trainer whose run is never started: batches of 5 rows in 2 shards, which are then of unequal size."""
    from minigpt.training import TrainConfig, Trainer

    tokens = np.random.default_rng(14).integers(0, 11, 200)
    config = TrainConfig(steps=10, **{"batch_size": 5, "shards": 2, "accumulate": 2, "optimizer": "adamw"} | settings)
    return Trainer(random_model(), tokens[:150], tokens[150:], config, "unused", threads=1, progress=False)


@compared()
def shards_are_the_whole():
    """Loss and gradient of micro-batches and shards against those of all their rows at once, two steps running."""
    trainer, losses, vectors = small_trainer(), [], []
    for trainer.step in range(2):
        loss_of_parts = trainer.compute_gradients()
        ids, targets = (np.concatenate(rows) for rows in list(zip(*trainer.shards()))[2:])
        whole, grads = trainer.model.loss_and_grads(ids, targets)
        losses.append((loss_of_parts, whole))
        vectors.append((trainer.gradients[0].vector.copy(), np.concatenate([g.ravel() for g in grads.values()])))
    return {"loss": tuple(zip(*losses)), "gradient": tuple(np.stack(part) for part in zip(*vectors))}


@compared()
def validation_loss():
    """Validation loss in batches of unequal size against the mean over windows, one by one."""
    from minigpt.training import Workers, evaluate

    model, tokens = random_model(), np.random.default_rng(15).integers(0, 11, 60)
    windows = [model.loss(tokens[i : i + 7][None], tokens[i + 1 : i + 8][None]) for i in range(0, 56, 7)]
    return {"loss": (evaluate(model, tokens, 3, Workers(1)), sum(windows) / len(windows))}


@compared(limit=0)
def random_streams():
    """Every place in a run (step, micro-batch, batch or dropout of a shard) has random numbers of its own: how many different first draws."""
    trainer, draws = small_trainer(), []
    for trainer.step in range(2):
        draws.append({float(trainer.generator(micro, stream).random()) for micro in range(2) for stream in range(3)})
    return {"streams of a step": (len(draws[0]), 6), "streams of two steps": (len(draws[0] | draws[1]), 12)}


@compared(limit=0)
def data_accounting():
    """Targets follow their ids, all windows are drawn, validation takes each target once, and the two splits share no token."""
    from minigpt.data import batches

    tokens, rng = np.arange(40), np.random.default_rng(16)
    ids, targets = (np.concatenate(part) for part in zip(*(batches.draw_batch(tokens, 8, 7, rng) for _ in range(50))))
    seen = np.concatenate([y.ravel() for _, y in batches.consecutive_batches(tokens, 2, 7)])
    train, val = batches.split(tokens)
    return {
        "targets": (targets, ids + 1),
        "starts": (np.unique(ids[:, 0]), np.arange(33)),
        "validation targets": (seen, np.arange(1, 36)),
        "shared tokens": (len(np.intersect1d(train, val)) + 1, 1),
    }


def stores(seed):
    """Parameters and two gradients, a matrix that is wider, one that is taller, three side by side, and a vector."""
    shapes, rng = {"wide": (3, 5), "tall": (5, 3), "qkv": (4, 12), "bias": (7,)}, np.random.default_rng(seed)
    return [Store(shapes, rng.standard_normal(15 + 15 + 48 + 7)) for _ in range(3)]


@compared()
def adamw_oracle():
    """Two steps of AdamW by its formula, number by number."""
    from minigpt.optim import AdamW

    p, *gs = stores(17)
    right = {name: value.copy() for name, value in p.items()}
    optimizer = AdamW(p, lr=0.1, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.2)
    for g in gs:
        optimizer.step(p, Store(g.shapes, g.vector.copy()), factor=0.5)
    for name, value in right.items():
        for at in np.ndindex(value.shape):
            m = v = 0.0
            for t, g in enumerate((float(g[name][at]) for g in gs), 1):
                m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
                value[at] *= 1 - 0.05 * 0.2 * (value.ndim >= 2)
                value[at] -= 0.05 * (m / (1 - 0.8**t)) / (math.sqrt(v / (1 - 0.95**t)) + 1e-3)
    return {"matrices": (p["wide"], right["wide"]), "vectors": (p["bias"], right["bias"])}


def singular_polynomial(x, steps):
    """Newton-Schulz by the singular value decomposition: each singular value goes through the polynomial."""
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    s = s / (math.sqrt((s * s).sum()) + 1e-7)
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return (u * s) @ vt


@compared(limit=1e-7)
def muon_oracle():
    """Two steps of Muon by singular value decompositions, and Newton-Schulz of a batch of matrices of different sizes."""
    from minigpt.optim import Muon, newton_schulz

    p, *gs = stores(18)
    right = {name: value.copy() for name, value in p.items()}
    optimizer = Muon(p, {"wide": 1, "tall": 1, "qkv": 3}, muon_lr=0.1)
    for g in gs:
        optimizer.step(p, g)
    for name, columns in {"wide": 5, "tall": 3, "qkv": 4}.items():
        for start in range(0, right[name].shape[1], columns):
            at, m = (slice(None), slice(start, start + columns)), 0.0
            for g in gs:
                m = 0.95 * m + 0.05 * g[name][at]
                scale = math.sqrt(max(1, columns / len(g[name])))
                right[name][at] -= 0.1 * scale * singular_polynomial(0.05 * g[name][at] + 0.95 * m, 5)
    batch = np.random.default_rng(19).standard_normal((2, 3, 5)) * np.array([1, 10])[:, None, None]
    orthogonal = newton_schulz(batch), np.stack([singular_polynomial(x, 5) for x in batch])
    return {name: (p[name], right[name]) for name in ("wide", "tall", "qkv")} | {"newton_schulz": orthogonal}


@compared()
def clipping():
    """A long gradient keeps its direction and gets the limit's length; a short one stays as it is."""
    from minigpt.optim import clip_by_norm

    g = stores(20)[0].vector
    out = {}
    for name, length, right in (("long", 5, 2), ("short", 1.5, 1.5)):
        g = g / math.sqrt(sum(a * a for a in g))
        store = Store({"g": g.shape}, length * g)
        clip_by_norm(store, 2.0)
        out[name] = store.vector, right * g
    return out


@compared()
def schedule_oracle():
    """Factors of 11 steps, 4 of them warm-up: up in equal parts from one fifth, then to 0.1 along a line or half a cosine."""
    from minigpt.optim import cosine, linear

    up = [0.2, 0.4, 0.6, 0.8]
    line = [1 - 0.9 * i / 6 for i in range(7)]
    wave = [0.55 + 0.45 * math.cos(math.pi * i / 6) for i in range(7)]
    schedules = (("linear", linear, line), ("cosine", cosine, wave))
    return {name: ([schedule(i, 11, 4) for i in range(11)], up + down) for name, schedule, down in schedules}


@compared()
def sampling_oracle():
    """Probabilities after temperature, top-k and top-p, by sorting lists."""
    from minigpt.sampling import token_probabilities

    logits = np.log(np.array([0.05, 0.4, 0.15, 0.3, 0.1]))

    def right(temperature=1.0, top_k=5, top_p=2.0):
        p = [math.exp(a / temperature) for a in logits]
        kept, total = [], 0.0
        for i in sorted(range(5), key=lambda i: -p[i])[:top_k]:
            kept.append(i)
            total += p[i] / sum(sorted(p)[-top_k:])
            if total >= top_p:
                break
        return [p[i] / sum(p[j] for j in kept) if i in kept else 0.0 for i in range(5)]

    cases = {"plain": {}, "temperature": {"temperature": 0.5}, "top_k": {"top_k": 2}, "top_p": {"top_p": 0.6}}
    return {name: (token_probabilities(logits[None], **case)[0], right(**case)) for name, case in cases.items()}


@compared(limit=0.15)
def initial_weights():
    """Standard deviation of the weights that write into the residual stream, 0.02 / sqrt(2 n_layer), and of the others, 0.02."""
    p = GPT(GPTConfig(11, 7, 8, 2, 32), dtype=np.float64).parameters
    return {"c_proj": (p["h.3.mlp.c_proj.weight"].std(), 0.02 / 4), "c_fc": (p["h.3.mlp.c_fc.weight"].std(), 0.02)}


GOLDEN_LOSS = 3.3691865172186577  # of golden_case by Hugging Face transformers' GPT-2 in float64; a parity test remakes it


def golden_case():
    """A model whose weights are a formula, ids and targets."""
    model, ids = random_model(), np.arange(14).reshape(2, 7) * 3 % 11
    model.store.vector[:] = np.sin(np.arange(model.num_parameters, dtype=np.float64) ** 2)
    return model, ids, (ids * 2 + 1) % 11


@compared()
def golden_loss():
    """The loss of golden_case against the value on record."""
    model, ids, targets = golden_case()
    return {"loss": (model.loss(ids, targets), GOLDEN_LOSS)}


# Exhibits


def gradient(name, module, function, old, new, check, wrong, symptom):
    """An exhibit that a gradient check catches; wrong: names, separated by blanks."""
    return Exhibit(name, (Edit(module, function, old, new),), "gradient check", check, tuple(wrong.split()), symptom)


def other(name, edits, caught_by, check, wrong, symptom, blind=None):
    """An exhibit that no gradient check catches; edits: one or several; wrong: names, separated by commas."""
    edits = (edits,) if isinstance(edits, Edit) else tuple(edits)
    return Exhibit(name, edits, caught_by, check, tuple(wrong.split(", ")), symptom, blind)


GRADIENT_EXHIBITS = [
    gradient(
        "LayerNorm: the mean's term dropped", "ops.normalization", "layernorm_backward",
        "dx = dxhat - row_mean(dxhat)", "dx = dxhat.copy()", gradients.layernorm, "layernorm.x",
        "learns, a little worse; the residual stream's mean drifts, which LayerNorm cannot feel",
    ),
    gradient(
        "LayerNorm: the variance's term dropped", "ops.normalization", "layernorm_backward",
        "dx -= xhat * row_mean(dxhat * xhat)", "pass", gradients.layernorm, "layernorm.x",
        "learns, and the residual stream grows without end: the gradient believes that its length still matters",
    ),
    gradient(
        "LayerNorm: dx not divided by the standard deviation", "ops.normalization", "layernorm_backward",
        "dx *= rstd", "pass", gradients.layernorm, "layernorm.x",
        "lower layers get gradients that are too long by the stream's size, more in each block: clipping hides it",
    ),
    gradient(
        "LayerNorm: its weight forgotten on the way down", "ops.normalization", "layernorm_backward",
        "dxhat = dy * weight", "dxhat = dy", gradients.layernorm, "layernorm.x",
        "none at first, since the weights start at 1; the loss levels off early",
    ),
    gradient(
        "LayerNorm: dweight from dy alone", "ops.normalization", "layernorm_backward",
        "dweight = column_sum(dy * xhat)", "dweight = column_sum(dy)", gradients.layernorm, "layernorm.weight",
        "weight and bias move together; hard to see in the loss",
    ),
    gradient(
        "LayerNorm: backward assumes a variance of exactly 1, without eps", "ops.normalization", "layernorm_backward",
        "xhat * row_mean(dxhat * xhat)", "xhat * row_mean(dxhat * xhat) / row_mean(xhat * xhat)", gradients.layernorm, "layernorm.x",
        "none, until a row is nearly constant",
    ),
    gradient(
        "LayerNorm: unbiased variance (C - 1) in backward only", "ops.normalization", "layernorm_backward",
        "row_mean(dxhat * xhat)", "(dxhat * xhat).sum(axis=-1, keepdims=True) / (len(weight) - 1)", gradients.wide_layernorm, "layernorm.x",
        "none: one part in C of one term",
    ),
    gradient(
        "LayerNorm: unbiased variance (C - 1) in forward only", "ops.normalization", "layernorm_forward",
        "row_mean(xhat * xhat) + eps", "(xhat * xhat).sum(axis=-1, keepdims=True) / (len(weight) - 1) + eps", gradients.layernorm, "layernorm.x",
        "loads a checkpoint with a slightly higher loss than it was trained to",
    ),
    gradient(
        "RMSNorm: the projection dropped", "ops.normalization", "rmsnorm_backward",
        "dx -= xhat * row_mean(dx * xhat)", "pass", gradients.rmsnorm, "rmsnorm.x",
        "learns, and the residual stream grows without end",
    ),
    gradient(
        "RMSNorm: eps outside the root in forward only", "ops.normalization", "rmsnorm_forward",
        "1 / np.sqrt(row_mean(x * x) + eps)", "1 / (np.sqrt(row_mean(x * x)) + eps)", gradients.rmsnorm, "rmsnorm.x",
        "none: one part in a million",
    ),
    gradient(
        "softmax: the Jacobian without its second term", "ops.softmax", "softmax_backward",
        "dx = dy - (dy * y).sum(axis=axis, keepdims=True)", "dx = dy.copy()", gradients.softmax, "softmax.x",
        "all scores rise or fall together, until exp saturates",
    ),
    gradient(
        "softmax: the sum over the wrong axis", "ops.softmax", "softmax_backward",
        ".sum(axis=axis, keepdims=True)", ".sum(axis=0, keepdims=True)", gradients.softmax, "softmax.x",
        "rows of a batch leak into each other's gradients; trains worse with a larger batch",
    ),
    gradient(
        "attention: the softmax Jacobian without its second term", "ops.attention", "attention_backward",
        "dscores -= row_dot(dy, y)[:, :, None, :]", "pass", gradients.attention, "attention.q attention.k attention.bias",
        "attention maps stay flat or collapse; the MLPs learn bigrams all the same",
    ),
    gradient(
        "attention: dq without the scale", "ops.attention", "attention_backward",
        "dq *= scale", "pass", gradients.attention, "attention.q",
        "queries learn sqrt(D) times too fast; Adam hides it",
    ),
    gradient(
        "attention: the scale applied to dk a second time", "ops.attention", "attention_backward",
        "np.matmul(dscores, q, out=dk)", "np.matmul(dscores, q * scale, out=dk)", gradients.attention, "attention.k",
        "keys learn sqrt(D) times too slowly; Adam hides it",
    ),
    gradient(
        "attention: the scale typed with three digits in backward", "ops.attention", "attention_backward",
        "dq *= scale", "dq *= round(scale, 3)", gradients.attention, "attention.q",
        "none",
    ),
    gradient(
        "attention: dk transposed", "ops.attention", "attention_backward",
        "np.matmul(dscores, q, out=dk)", "np.matmul(dscores.swapaxes(-1, -2), q, out=dk)", gradients.attention, "attention.k",
        "keys learn from the future; unequal sizes of T and S would have raised an error, equal ones run",
    ),
    gradient(
        "attention: the last query left out of dk", "ops.attention", "attention_backward",
        "np.matmul(dscores, q, out=dk)", "np.matmul(dscores[..., :-1], q[:, :, :-1], out=dk)", gradients.attention, "attention.k",
        "the newest token, the one that is sampled, has worse keys than the others",
    ),
    gradient(
        "attention: dropout forgotten in dv", "ops.attention", "attention_backward",
        "weights if factors is None else weights * factors, dy", "weights, dy", gradients.attention_dropout, "attention.v",
        "dropout acts as noise on the gradient: the loss levels off higher as dropout rises",
    ),
    gradient(
        "attention: dropout forgotten in the scores", "ops.attention", "attention_backward",
        "dscores *= factors", "pass", gradients.attention_dropout, "attention.q attention.k attention.bias",
        "dropped connections are trained as if they had been there",
    ),
    gradient(
        "attention: the bias's gradient scaled like the queries'", "ops.attention", "attention_backward",
        "sum_to_shape(dscores.swapaxes(-1, -2), bias_shape)", "sum_to_shape(dscores.swapaxes(-1, -2), bias_shape) * scale",
        gradients.attention, "attention.bias",
        "relative positions (T5's) learn too slowly",
    ),
    gradient(
        "lean attention: dk overwritten by the last block of queries", "ops.attention", "lean_attention_backward",
        "dk[:, :, keys] += dscores", "dk[:, :, keys] = dscores", gradients.lean_attention, "lean_attention.k",
        "right for short texts, wrong as soon as a text is longer than one block",
    ),
    gradient(
        "lean attention: backward draws another dropout mask", "ops.attention", "lean_attention_backward",
        "block_dropout(weights, dropout, seed, queries)", "block_dropout(weights, dropout, seed + 1, queries)",
        gradients.lean_attention_dropout, "lean_attention.q lean_attention.k lean_attention.v lean_attention.bias",
        "trains as if with noise; right as soon as dropout is 0, where it is debugged",
    ),
    gradient(
        "lean attention: the softmax's second term of the wrong queries", "ops.attention", "lean_attention_backward",
        "dot[:, :, None, queries]", "dot[:, :, None, : dscores.shape[-1]]",
        gradients.lean_attention, "lean_attention.q lean_attention.k lean_attention.bias",
        "right for short texts, wrong as soon as a text is longer than one block",
    ),
    gradient(
        "heads merged without moving the time axis first", "layers.attention", "Attention.forward",
        "y.swapaxes(1, 2).reshape(*x.shape[:2], -1)", "y.reshape(*x.shape[:2], -1)", gradients.gpt, "h.1.attn.c_attn.bias",
        "positions mix, future ones too: the loss falls, samples are soup",
    ),
    gradient(
        "gradients of q, k and v in the wrong order", "layers.attention", "Attention.backward",
        "out=self.split(dqkv)", "out=self.split(dqkv)[::-1]", gradients.gpt, "h.1.attn.c_attn.bias",
        "attention learns nothing; the loss stops at the bigrams'",
    ),
    gradient(
        "cross-attention: the memory's gradient overwritten by each layer", "layers.attention", "Attention.backward",
        "dmemory += dm", "dmemory[...] = dm", gradients.cross_attention, "memory",
        "the encoder learns from one decoder layer only",
    ),
    gradient(
        "GELU: the derivative of the tanh form for the exact one", "ops.activations", "gelu_backward",
        "x, cdf = cache",
        "x, cdf = cache\n    return gelu_tanh_backward(dy, GeluTanhCache(x, (1 + np.tanh(SQRT_2_OVER_PI * (x + 0.044715 * x**3))) / 2))",
        gradients.gelu, "gelu.x",
        "none: the two differ by one part in a thousand",
    ),
    gradient(
        "GELU: the density's term dropped", "ops.activations", "gelu_backward",
        "slope += cdf", "slope = cdf.copy()", gradients.gelu, "gelu.x",
        "learns, a little worse: the slope is off by up to a quarter",
    ),
    gradient(
        "GELU: 1 / sqrt(2 pi) typed as 0.4", "ops.activations", "gelu_backward",
        "1 / math.sqrt(2 * math.pi)", "0.4", gradients.gelu, "gelu.x",
        "none",
    ),
    gradient(
        "GELU (tanh): the factor 3 of the cube's slope forgotten", "ops.activations", "gelu_tanh_backward",
        "6 * 0.044715", "2 * 0.044715", gradients.gelu_tanh, "gelu_tanh.x",
        "learns, a little worse",
    ),
    gradient(
        "GELU (tanh): 0.044715 typed as 0.0447 in backward", "ops.activations", "gelu_tanh_backward",
        "6 * 0.044715 * SQRT", "6 * 0.0447 * SQRT", gradients.gelu_tanh, "gelu_tanh.x",
        "none",
    ),
    gradient(
        "GELU (tanh): the factor 1 - cdf of the slope forgotten", "ops.activations", "gelu_tanh_backward",
        "slope = 1 - cdf", "slope = np.ones_like(cdf)", gradients.gelu_tanh, "gelu_tanh.x",
        "learns worse, the more negative its activations are",
    ),
    gradient(
        "SiLU: the sigmoid's own term dropped", "ops.activations", "silu_backward",
        "slope += 1", "pass", gradients.silu, "silu.x",
        "activations near zero get no gradient: units stay where they start",
    ),
    gradient(
        "ReLU: gradient let through where the input was negative", "ops.activations", "relu_backward",
        "dy * cache.positive", "dy.copy()", gradients.relu, "relu.x",
        "learns, more slowly: units that are off are trained as if they were on",
    ),
    gradient(
        "linear: the bias's gradient a mean over rows", "ops.linear", "linear_backward",
        "column_sum(rows) if", "column_sum(rows) / len(rows) if", gradients.linear, "linear.bias",
        "biases hardly move under SGD; Adam hides it",
    ),
    gradient(
        "linear: dweight of the last batch row only", "ops.linear", "linear_backward",
        "x.reshape(-1, x.shape[-1]).T @ rows", "x[-1].T @ dy[-1]", gradients.linear, "linear.weight",
        "as noisy as a batch of 1, however large the batch",
    ),
    gradient(
        "linear: dweight kept in float16", "ops.linear", "linear_backward",
        ".T @ rows", ".T @ rows.astype(np.float16).astype(dy.dtype)", gradients.linear, "linear.weight",
        "small gradients vanish late in training, when they matter",
    ),
    gradient(
        "linear: a float32 in the middle of a float64 backward", "ops.linear", "linear_backward",
        "(rows @ weight.T)", "(rows @ weight.T).astype(np.float32)", gradients.linear, "linear.x",
        "none; a gradient check by any other method takes it for its own rounding",
    ),
    gradient(
        "linear layer: the bias's gradient never added", "layers.linear", "Linear.backward",
        "if self.bias:", "if False:", gradients.gpt, "h.1.mlp.c_proj.bias",
        "biases stay at zero; hard to see in the loss",
    ),
    gradient(
        "embedding: dweight[ids] = rows, the last of equal ids wins", "ops.embedding", "embedding_backward",
        "dweight[sorted_ids[starts]] = np.add.reduceat(rows[order], starts, axis=0)", "dweight[ids.ravel()] = rows",
        gradients.embedding, "embedding.weight",
        "frequent tokens learn as slowly as rare ones",
    ),
    gradient(
        "embedding: dweight[ids] += rows, which adds one of equal ids", "ops.embedding", "embedding_backward",
        "dweight[sorted_ids[starts]] = np.add.reduceat(rows[order], starts, axis=0)", "dweight[ids.ravel()] += rows",
        gradients.embedding, "embedding.weight",
        "frequent tokens learn as slowly as rare ones",
    ),
    gradient(
        "embedding: the gradient averaged over a token's occurrences", "ops.embedding", "embedding_backward",
        "np.add.reduceat(rows[order], starts, axis=0)",
        "np.add.reduceat(rows[order], starts, axis=0) / np.diff(starts, append=len(rows))[:, None]", gradients.embedding, "embedding.weight",
        "frequent tokens learn as slowly as rare ones",
    ),
    gradient(
        "tied head: its gradient lost, the embedding's written over it", "layers.embedding", "Embedding.backward",
        "] += embedding_backward", "] = embedding_backward", gradients.gpt, "wte.weight",
        "the loss falls slowly and stops high: the output side of the table never learns",
    ),
    gradient(
        "tied head: its gradient never added", "layers.embedding", "TiedHead.backward",
        "+= dweight", "+= 0 * dweight", gradients.gpt, "wte.weight",
        "the loss falls slowly and stops high: the output side of the table never learns",
    ),
    gradient(
        "head: the vocabulary's last row left out of dx", "ops.embedding", "unembedding_backward",
        "(rows @ weight)", "(rows[:, :-1] @ weight[:-1])", gradients.unembedding, "unembedding.x",
        "hidden states never learn to avoid one token",
    ),
    gradient(
        "rotary positions: backward turns the same way as forward", "ops.positions", "rotary_backward",
        "-cache.sin", "cache.sin", gradients.rotary, "rotary.x",
        "queries and keys learn for a token at another place; loss falls, but stays above that of no positions at all",
    ),
    gradient(
        "rotary positions: the gradients of q and k not turned back", "layers.attention", "Attention.backward",
        "dqk[...] = rotary_backward(dqk, cache.rotary)", "pass", gradients.rotary_gpt, "h.0.attn.c_attn.bias",
        "near tokens learn to look at each other, far ones learn noise",
    ),
    gradient(
        "QK-norm: the gradients of q and k not taken back through the norm", "layers.attention", "Attention.backward",
        "dqk[...], _ = rmsnorm_backward(dqk, cache.qk_norm)", "pass", gradients.qk_norm_gpt, "h.0.attn.c_attn.bias",
        "queries and keys grow without an effect, and learn ever more slowly",
    ),
    gradient(
        "smear: what a token gave to the next one not paid back to it", "ops.smear", "smear_backward",
        "dx[:, :-1] += dbefore", "pass", gradients.smear, "smear.x",
        "learns a little worse: embeddings do not hear what the next token made of them",
    ),
    gradient(
        "smear: the gradient handed on to the next token in place of the one before", "ops.smear", "smear_backward",
        "dx[:, :-1] += dbefore", "dx[:, 1:] += dbefore", gradients.smear, "smear.x",
        "learns a little worse: embeddings are blamed for what follows the token after them",
    ),
    gradient(
        "positions: gradient summed over time as well", "ops.positions", "learned_positions_backward",
        "column_sum(dy.reshape(B, T * C)).reshape(T, C)", "np.ones((T, 1), dy.dtype) * dy.sum(axis=(0, 1))",
        gradients.positions, "learned_positions.weight",
        "all positions learn the same vector: the model cannot tell where it stands",
    ),
    gradient(
        "positions: gradient of the first batch row only", "ops.positions", "learned_positions_backward",
        "column_sum(dy.reshape(B, T * C)).reshape(T, C)", "dy[0]", gradients.positions, "learned_positions.weight",
        "positions learn B times too slowly and more noisily; Adam hides half of it",
    ),
    gradient(
        "positions: gradient a mean over the batch", "ops.positions", "learned_positions_backward",
        ".reshape(T, C)", ".reshape(T, C) / B", gradients.positions, "learned_positions.weight",
        "positions learn B times too slowly under SGD; Adam hides it",
    ),
    gradient(
        "dropout: 1 / (1 - p) forgotten in backward", "ops.dropout", "dropout_backward",
        "dy * cache.scale", "dy * (cache.scale > 0)", gradients.dropout, "dropout.x",
        "gradients shrink by 1 - p at every dropout: deep models learn slowly at the bottom",
    ),
    gradient(
        "dropout: forgotten in backward", "ops.dropout", "dropout_backward",
        "dy * cache.scale", "dy.copy()", gradients.dropout, "dropout.x",
        "dropped units are trained as if they had been there: noise",
    ),
    gradient(
        "dropout of the embeddings forgotten in backward", "models.gpt", "GPT.add_backward",
        "dx = dropout_backward(dx, cache.drop)", "pass", gradients.gpt, "wpe.weight",
        "embeddings get noise for a gradient as dropout rises",
    ),
    gradient(
        "MLP: its dropout forgotten in backward", "layers.mlp", "MLP.backward",
        "dy = dropout_backward(dy, cache.dropout)", "pass", gradients.gpt, "h.1.mlp.c_proj.bias",
        "dropped units are trained as if they had been there: noise",
    ),
    gradient(
        "MLP: the activation skipped in backward", "layers.mlp", "MLP.backward",
        "self.activation_backward(da, cache.activation)", "da", gradients.gpt, "h.1.mlp.c_fc.bias",
        "learns, a little worse: the slope is between 0 and 1.1 anyway",
    ),
    gradient(
        "loss: gradient divided by all tokens, ignored ones too", "ops.loss", "cross_entropy_backward",
        "dlogits *= dy / count", "dlogits *= dy / len(targets)", gradients.cross_entropy, "cross_entropy.logits",
        "the learning rate changes with the amount of padding; the loss printed is right",
    ),
    gradient(
        "loss: the target's 1 not subtracted", "ops.loss", "cross_entropy_backward",
        "-= 1", "-= 0", gradients.cross_entropy, "cross_entropy.logits",
        "the loss rises from the first step",
    ),
    gradient(
        "loss: label smoothing left in backward, 0.001 of it", "ops.loss", "cross_entropy_backward",
        "-= 1", "-= 0.999", gradients.cross_entropy, "cross_entropy.logits",
        "none until the loss is small, then logits shrink",
    ),
    gradient(
        "loss: ignored targets pull all the same", "ops.loss", "cross_entropy_backward",
        "dlogits[~kept] = 0", "pass", gradients.cross_entropy, "cross_entropy.logits",
        "logits at padding are pushed down; worse as batches are padded more",
    ),
    gradient(
        "loss: the vocabulary's last entry left out", "ops.loss", "cross_entropy_backward",
        "dlogits[~kept] = 0", "dlogits[~kept] = 0\n    dlogits[:, -1] = 0", gradients.wide_cross_entropy, "cross_entropy.logits",
        "one token of many is never learned to be avoided: now and then it turns up in samples",
    ),
    gradient(
        "loss: the arriving gradient ignored", "ops.loss", "cross_entropy_backward",
        "dlogits *= dy / count", "dlogits *= 1 / count", gradients.cross_entropy, "cross_entropy.logits",
        "none, until the loss is scaled or weighted: the model's own check, where dy is 1, cannot see it",
    ),
    gradient(
        "residual branch round the MLP forgotten", "layers.block", "PreNormBlock.backward",
        "dx = dx + self.ln_2.backward", "dx = self.ln_2.backward", gradients.gpt, "h.1.attn.c_proj.bias",
        "gradients vanish with depth; two layers train, twelve do not",
    ),
    gradient(
        "residual branch round attention forgotten", "layers.block", "PreNormBlock.backward",
        "return dx + self.ln_1.backward", "return self.ln_1.backward", gradients.gpt, "h.0.mlp.c_proj.bias",
        "gradients vanish with depth; two layers train, twelve do not",
    ),
    gradient(
        "residual branch counted twice", "layers.block", "PreNormBlock.backward",
        "return dx + self", "return dx + dx + self", gradients.gpt, "h.0.mlp.c_proj.bias",
        "gradients double with each layer; clipping hides it",
    ),
    gradient(
        "post-norm block: the MLP's residual taken after the norm", "layers.block", "PostNormBlock.backward",
        "dx = dx + self.mlp.backward(g, dx, cache.mlp)", "dx = self.mlp.backward(g, dx, cache.mlp)", gradients.post_norm_block, "ln_1.bias",
        "BERT fine-tunes badly; the top layers learn, the others hardly",
    ),
    gradient(
        "caches handed to the wrong blocks", "models.gpt", "GPT.add_backward",
        "reversed(cache.blocks)", "cache.blocks", gradients.gpt, "h.1.mlp.c_proj.bias",
        "one layer trains, two do not: the last block's gradient is taken at the first block's activations",
    ),
    gradient(
        "the position table's gradient never taken", "models.gpt", "GPT.add_backward",
        "dx = self.wpe.backward(g, dx, cache.wpe)", "pass", gradients.gpt, "wpe.weight",
        "positions stay at their random start; learns, a little worse",
    ),
]  # fmt: skip

OTHER_EXHIBITS = [
    other(
        "attention: 1 / sqrt(D) missing",
        Edit("ops.attention", "attention_forward", "scale = 1 / math.sqrt(D) if scale is None else scale", "scale = 1.0 if scale is None else scale"),
        "oracle: attention in loops", attention_oracle(attention.attention_forward), "y, weights",
        "attention saturates early, worse with wide heads; a checkpoint from elsewhere gives soup", gradients.gpt,
    ),
    other(
        "lean attention: 1 / sqrt(C) for 1 / sqrt(D)",
        Edit("ops.attention", "lean_attention_forward", "1 / math.sqrt(D)", "1 / math.sqrt(H * D)"),
        "oracle: attention in loops", attention_oracle(attention.lean_attention_forward), "y, weights",
        "attention maps stay flat; loss jumps where texts become long enough for the lean form", gradients.lean_gpt,
    ),
    other(
        "attention: the mask applied after the softmax",
        Edit(
            "ops.attention", "attention_forward",
            "weights, _ = softmax_over_keys(scores_kq(q, k, mask, bias, slice(0, T), slice(0, S)))  # (B, H, S, T)\n    factors = None\n"
            "    dropped = weights",
            "weights, _ = softmax_over_keys(scores_kq(q, k, Mask(), bias, slice(0, T), slice(0, S)))\n"
            "    factors = 1.0 * np.isfinite(scores_kq(q, k, mask, bias, slice(0, T), slice(0, S)))\n"
            "    dropped = weights * factors",
        ),
        "invariance: weights sum to 1", weights_sum_to_one, "row sums",
        "early tokens attend to little; the future leaks through the denominator: the loss is too good, samples are not", gradients.attention,
    ),
    other(
        "attention: the causal mask off by one",
        Edit("ops.attention", "position_penalty", "distance < 0", "distance < -1"),
        "invariance: causality", causality, "logits before the change",
        "the loss falls towards 0 in no time: each token sees the answer; samples are soup", gradients.gpt,
    ),
    other(
        "attention: the band off by one",
        Edit("ops.attention", "position_penalty", ">= window", "> window"),
        "oracle: attention in loops", attention_oracle(attention.attention_forward), "y, weights",
        "none, but memory-lean attention and checkpoints from elsewhere differ a little", gradients.attention,
    ),
    other(
        "attention: padding seen and text hidden",
        Edit("ops.attention", "scores_kq", "~mask.keys", "mask.keys"),
        "invariance: padded = alone", padding, "padded row",
        "batches of prompts of unequal length continue with nonsense, single ones don't", gradients.attention,
    ),
    other(
        "attention: the causal mask aligned with the first key, not the last",
        Edit("ops.attention", "scores_kq", "first = S - T + queries.start", "first = queries.start"),
        "invariance: cached = uncached", cached_by_parts, "second part",
        "trains well; with a KV cache a second part of a text sees the beginning of the first alone", gradients.gpt,
    ),
    other(
        "heads made by view where a transpose is needed, both ways",
        (
            Edit(
                "layers.attention", "Attention.split",
                "x.reshape(B, T, -1, self.n_head, self.head_channels).transpose(2, 0, 3, 1, 4)",
                "x.reshape(B, -1, self.n_head, T, self.head_channels).swapaxes(0, 1)",
            ),
            Edit("layers.attention", "Attention.forward", "y.swapaxes(1, 2).reshape(*x.shape[:2], -1)", "y.reshape(*x.shape[:2], -1)"),
        ),
        "invariance: causality", causality, "logits before the change",
        "the loss is too good, samples are soup: heads are stretches of time, and the mask masks nothing", gradients.gpt,
    ),
    other(
        "queries and keys swapped, both ways",
        (
            Edit("layers.attention", "Attention.forward", "q, k, v = self.split(qkv)", "k, q, v = self.split(qkv)"),
            Edit("layers.attention", "Attention.backward", "out=self.split(dqkv)", "out=[self.split(dqkv)[i] for i in (1, 0, 2)]"),
        ),
        "golden: loss of Hugging Face's GPT-2", golden_loss, "loss",
        "none at all, until a checkpoint from elsewhere is loaded", gradients.gpt,
    ),
    other(
        "the last LayerNorm forgotten, both ways",
        (
            Edit("models.gpt", "GPT.hidden", "x, c6 = self.ln_f.forward(p, x)", "c6 = None"),
            Edit("models.gpt", "GPT.add_backward", "dx = self.ln_f.backward(g, dx, cache.ln_f)", "pass"),
        ),
        "golden: loss of Hugging Face's GPT-2", golden_loss, "loss",
        "learns, less stably; a checkpoint from elsewhere gives a high loss", gradients.gpt,
    ),
    other(
        "LayerNorm: eps 1e-6 for 1e-5",
        Edit("layers.norm", "LayerNorm.__init__", "self.eps = eps", "self.eps = 1e-6"),
        "golden: loss of Hugging Face's GPT-2", golden_loss, "loss",
        "none, but logits of a checkpoint from elsewhere agree to a few digits fewer", gradients.gpt,
    ),
    other(
        "LayerNorm: unbiased variance (C - 1), both ways",
        (
            Edit(
                "ops.normalization", "layernorm_forward",
                "row_mean(xhat * xhat) + eps", "(xhat * xhat).sum(axis=-1, keepdims=True) / (len(weight) - 1) + eps",
            ),
            Edit(
                "ops.normalization", "layernorm_backward",
                "row_mean(dxhat * xhat)", "(dxhat * xhat).sum(axis=-1, keepdims=True) / (len(weight) - 1)",
            ),
        ),
        "oracle: norms in loops", layernorm_oracle, "layernorm",
        "none in training from scratch; a checkpoint from elsewhere is off by one part in 2C", gradients.layernorm,
    ),
    other(
        "RMSNorm: eps outside the root, both ways",
        (
            Edit("ops.normalization", "rmsnorm_forward", "1 / np.sqrt(row_mean(x * x) + eps)", "1 / (np.sqrt(row_mean(x * x)) + eps)"),
            Edit("ops.normalization", "rmsnorm_backward", "row_mean(dx * xhat)", "row_mean(dx * xhat) / np.sqrt(row_mean(xhat * xhat))"),
        ),
        "oracle: norms in loops", layernorm_oracle, "rmsnorm",
        "none, except on rows near zero, such as padding", gradients.rmsnorm,
    ),
    other(
        "GELU: the other form than the config's",
        Edit("layers.mlp", "MLP.__init__", "ACTIVATIONS[activation]", 'ACTIVATIONS[activation.removesuffix("_tanh")]'),
        "golden: loss of Hugging Face's GPT-2", golden_loss, "loss",
        "none, but logits of a checkpoint from elsewhere agree to a few digits only", gradients.gpt,
    ),
    other(
        "GELU (tanh): 0.044715 typed as 0.44715, both ways",
        (
            Edit("ops.activations", "gelu_tanh_forward", "cdf *= 0.044715", "cdf *= 0.44715"),
            Edit("ops.activations", "gelu_tanh_backward", "dz2 *= 6 * 0.044715", "dz2 *= 6 * 0.44715"),
        ),
        "oracle: activations by formula", activation_oracle, "gelu_tanh",
        "none in training from scratch: it is an activation as good as any", gradients.gelu_tanh,
    ),
    other(
        "softmax: the maximum not subtracted",
        Edit("ops.softmax", "softmax_forward", "m = x.real.max(axis=axis, keepdims=True)", "m = np.zeros(())"),
        "invariance: shift of scores", shift, "softmax",
        "trains for an hour, then the loss is NaN", gradients.softmax,
    ),
    other(
        "loss: the maximum not subtracted",
        Edit("ops.loss", "cross_entropy_forward", "rows - rows.real.max(axis=-1, keepdims=True)", "rows.copy()"),
        "invariance: shift of scores", shift, "cross-entropy",
        "trains for an hour, then the loss is NaN", gradients.cross_entropy,
    ),
    other(
        "loss: mean over all targets, ignored ones too",
        Edit("ops.loss", "count_targets", "np.count_nonzero(np.asarray(targets) != IGNORED)", "np.size(targets)"),
        "oracle: loss in loops", loss_oracle, "loss",
        "the more padding, the better the loss looks", gradients.gpt,
    ),
    other(
        "dropout: scaled twice",
        Edit("ops.dropout", "dropout_scale", "1 / (1 - p), out", "1 / (1 - p) ** 2, out"),
        "invariance: expectation kept", dropout_expectation, "mean",
        "validation loss is worse than it should be: in use, activations are smaller than in training", gradients.dropout,
    ),
    other(
        "dropout: not scaled at all",
        Edit("ops.dropout", "dropout_scale", "1 / (1 - p), out", "1.0, out"),
        "invariance: expectation kept", dropout_expectation, "mean",
        "validation loss is worse than it should be: in use, activations are larger than in training", gradients.dropout,
    ),
    other(
        "dropout: p taken for the probability to keep",
        Edit("ops.dropout", "dropout_scale", ">= p", "< p"),
        "invariance: expectation kept", dropout_expectation, "mean",
        "p = 0.1 drops nine of ten: hardly learns, and better without", gradients.dropout,
    ),
    other(
        "dropout: one mask for all rows of a batch",
        Edit("ops.dropout", "dropout_scale", "rng.random(shape,", "rng.random(shape[1:],"),
        "accounting: rows drawn apart", dropout_expectation, "rows that agree",
        "noisier gradients than the batch size promises", gradients.dropout,
    ),
    other(
        "positions: counted from 1",
        Edit("ops.positions", "learned_positions_forward", "np.arange(x.shape[1])", "np.arange(1, x.shape[1] + 1) % len(weight)"),
        "golden: loss of Hugging Face's GPT-2", golden_loss, "loss",
        "none in training from scratch; a checkpoint from elsewhere is a little worse", gradients.positions,
    ),
    other(
        "padding: positions counted from the padding's start",
        Edit("sampling", "left_pad", "np.maximum(mask.cumsum(axis=1) - 1, 0)", "np.arange(T)"),
        "invariance: padded = alone", padding, "padded row",
        "in a batch of prompts, short ones continue worse than alone",
    ),
    other(
        "KV cache: the new token's position off by one",
        Edit("models.gpt", "CachedLogits.__call__", "len(row) - start - 1", "len(row) - start"),
        "invariance: cached = uncached", cached_is_uncached, "next tokens",
        "trains well; the first sampled token is right and later ones drift",
    ),
    other(
        "KV cache: keys stored as values",
        Edit("layers.attention", "KVCache.append", "= v\n", "= k\n"),
        "invariance: cached = uncached", cached_is_uncached, "prompt, next tokens",
        "trains well; samples are soup",
    ),
    other(
        "linear layer: gradient overwritten by each micro-batch",
        Edit("layers.linear", "Linear.backward", "g[self.weight.name] += dweight", "g[self.weight.name] = dweight"),
        "invariance: micro-batches add up", micro_batches, "gradient",
        "accumulation has no effect: as noisy as the last micro-batch alone", gradients.gpt,
    ),
    other(
        "trainer: shard means averaged though their token counts differ",
        Edit(
            "training.trainer", "Trainer.compute_gradients",
            "self.generator(micro, s + 1), count,", "self.generator(micro, s + 1), count_targets(targets) * len(parts),",
        ),
        "invariance: shards = whole", shards_are_the_whole, "loss, gradient",
        "tokens of small shards weigh more: the result depends on how a batch is cut",
    ),
    other(
        "trainer: micro-batches added up without dividing",
        Edit(
            "training.trainer", "Trainer.compute_gradients",
            "self.generator(micro, s + 1), count,", "self.generator(micro, s + 1), None,",
        ),
        "invariance: shards = whole", shards_are_the_whole, "loss, gradient",
        "the gradient grows with accumulation and threads; clipping or Adam hides it, the printed loss does not",
    ),
    other(
        "trainer: gradients not set to zero between steps",
        Edit("training.trainer", "Trainer.compute_gradients", "gradient.vector[:] = 0", "pass"),
        "invariance: shards = whole", shards_are_the_whole, "gradient",
        "like momentum of 1: falls fast, then swings and diverges",
    ),
    other(
        "trainer: the last shard left out of the sum",
        Edit("training.trainer", "Trainer.compute_gradients", "self.gradients[1:]", "self.gradients[1:-1]"),
        "invariance: shards = whole", shards_are_the_whole, "gradient",
        "learns from half of the data that it reads; the printed loss is right",
    ),
    other(
        "trainer: every step draws the same batch",
        Edit("training.trainer", "Trainer.generator", "self.step, micro", "micro"),
        "accounting: random streams", random_streams, "streams of two steps",
        "training loss goes to zero, validation loss rises: one batch is learned by heart",
    ),
    other(
        "trainer: shards share one dropout stream",
        Edit("training.trainer", "Trainer.generator", "micro, stream]", "micro, min(stream, 1)]"),
        "accounting: random streams", random_streams, "streams of a step, streams of two steps",
        "dropout's noise does not average out over shards",
    ),
    other(
        "validation: mean of the means of unequal batches",
        Edit(
            "training.trainer", "evaluate",
            "* len(batch[0])", "* sum(len(ids) for ids, _ in batches) / len(batches)",
        ),
        "accounting: every window once", validation_loss, "loss",
        "validation loss changes with the batch size",
    ),
    other(
        "data: targets not shifted",
        Edit("data.batches", "draw_batch", "windows[:, 1:]", "windows[:, :-1]"),
        "accounting: targets follow ids", data_accounting, "targets",
        "the loss falls to 0 at once: the model learns to copy; samples repeat one letter",
    ),
    other(
        "data: targets shifted by two",
        Edit(
            "data.batches", "draw_batch",
            "windows[:, :-1], windows[:, 1:]", "windows[:, :-1], tokens[(starts[:, None] + np.arange(2, block_size + 2)) % len(tokens)]",
        ),
        "accounting: targets follow ids", data_accounting, "targets",
        "the loss stops far too high; samples skip letters",
    ),
    other(
        "data: the last window never drawn",
        Edit("data.batches", "draw_batch", "len(tokens) - block_size,", "len(tokens) - block_size - 1,"),
        "accounting: every window once", data_accounting, "starts",
        "none",
    ),
    other(
        "data: validation windows overlap",
        Edit("data.batches", "consecutive_batches", "windows)) * block_size", "windows)) * (block_size - 1)"),
        "accounting: every window once", data_accounting, "validation targets",
        "validation loss a little off: some tokens count twice, the end never",
    ),
    other(
        "data: the training split holds the validation split",
        Edit("data.batches", "split", "return tokens[:cut], tokens[cut:]", "return tokens, tokens[cut:]"),
        "accounting: splits apart", data_accounting, "shared tokens",
        "validation loss follows training loss all the way down: too good to be true",
    ),
    other(
        "initial weights: residual projections not scaled down",
        Edit("models.gpt", "GPT.layers", "residual_std = 0.02 / math.sqrt(2 * c.n_layer)", "residual_std = 0.02"),
        "golden: GPT-2's initial deviations", initial_weights, "c_proj",
        "deep models start with a larger residual stream: slower first steps, more warm-up needed", gradients.gpt,
    ),
    other(
        "AdamW: no bias correction of m",
        Edit("optim.adamw", "AdamW.step", "correct_m = 1 / (1 - b1 ** int(t[0]))", "correct_m = 1.0"),
        "oracle: AdamW in loops", adamw_oracle, "matrices, vectors",
        "the first steps are ten times too short: an unasked-for warm-up",
    ),
    other(
        "AdamW: no bias correction of v",
        Edit("optim.adamw", "AdamW.step", "correct_v = 1 / math.sqrt(1 - b2 ** int(t[0]))", "correct_v = 1.0"),
        "oracle: AdamW in loops", adamw_oracle, "matrices, vectors",
        "the first steps are up to thirty times too long: the loss jumps at the start, and warm-up seems essential",
    ),
    other(
        "AdamW: eps inside the root",
        Edit(
            "optim.adamw", "AdamW.step",
            "s *= correct_v\n                s += self.eps", "np.sqrt(vc * correct_v**2 + self.eps, out=s)",
        ),
        "oracle: AdamW in loops", adamw_oracle, "matrices, vectors",
        "parameters with small gradients, such as rare embeddings, hardly move",
    ),
    other(
        "AdamW: betas swapped",
        Edit("optim.adamw", "AdamW.step", "b1, b2 = self.betas", "b2, b1 = self.betas"),
        "oracle: AdamW in loops", adamw_oracle, "matrices, vectors",
        "swings: momentum over a thousand steps, scale over ten",
    ),
    other(
        "AdamW: the second moment of |g|, not of g squared",
        Edit("optim.adamw", "AdamW.step", "np.multiply(gc, gc, out=s)", "np.abs(gc, out=s)"),
        "oracle: AdamW in loops", adamw_oracle, "matrices, vectors",
        "steps depend on the gradient's scale after all; needs a new learning rate for every size",
    ),
    other(
        "AdamW: L2 in the gradient for decoupled decay",
        Edit(
            "optim.adamw", "AdamW.step",
            "decay(p, self.decayed, lr * self.weight_decay)", "[g[name].__iadd__(self.weight_decay * p[name]) for name in self.decayed]",
        ),
        "oracle: AdamW in loops", adamw_oracle, "matrices",
        "weight decay has little effect whatever its value: Adam divides it away",
    ),
    other(
        "AdamW: norms and biases decayed too",
        Edit("optim.base", "decayed_names", "if value.ndim >= 2", "if value.ndim >= 1"),
        "oracle: AdamW in loops", adamw_oracle, "vectors",
        "LayerNorm weights shrink from 1; the loss levels off higher",
    ),
    other(
        "Muon: Nesterov's look-ahead left out",
        Edit("optim.muon", "Muon.step", "u += (1 - self.momentum) * gradient", "pass"),
        "oracle: Muon by singular values", muon_oracle, "wide, tall, qkv",
        "learns, a little slower",
    ),
    other(
        "Muon: scale by inputs / outputs, as for (outputs, inputs) matrices",
        Edit("optim.muon", "Muon.step", "outputs / inputs))", "inputs / outputs))"),
        "oracle: Muon by singular values", muon_oracle, "wide, tall",
        "c_fc learns at half of its rate and c_proj at twice",
    ),
    other(
        "Muon: one norm for a whole batch of matrices",
        Edit("optim.muon", "newton_schulz", "axis=(-2, -1), keepdims", "keepdims"),
        "oracle: Muon by singular values", muon_oracle, "qkv, newton_schulz",
        "matrices with small gradients are not orthogonalised: layers learn at different speeds",
    ),
    other(
        "Muon: q, k and v orthogonalised as one matrix",
        Edit("optim.muon", "group_by_shape", "for name, parts in hidden.items():", "for name, parts in dict.fromkeys(hidden, 1).items():"),
        "oracle: Muon by singular values", muon_oracle, "qkv",
        "learns, a little slower: the largest of the three takes the step",
    ),
    other(
        "clipping by value in place of norm",
        Edit("optim.clipping", "clip_by_norm", "g.vector *= limit / norm", "g.vector.clip(-limit, limit, out=g.vector)"),
        "oracle: clipping by formula", clipping, "long",
        "works, with another direction: large entries count for less",
    ),
    other(
        "clipping: short gradients stretched to the limit",
        Edit("optim.clipping", "clip_by_norm", "0 < limit < norm", "0 < limit"),
        "invariance: short gradients kept", clipping, "short",
        "never settles: every step has full length, to the end",
    ),
    other(
        "clipping by the squared norm",
        Edit("optim.clipping", "clip_by_norm", "math.sqrt(g.vector @ g.vector)", "float(g.vector @ g.vector)"),
        "oracle: clipping by formula", clipping, "long, short",
        "large gradients end up small, the larger the smaller",
    ),
    other(
        "schedule: the first step at rate 0",
        Edit("optim.schedules", "warm_up", "(step + 1) / (warmup + 1)", "step / warmup"),
        "oracle: schedules by formula", schedule_oracle, "linear, cosine",
        "one batch wasted; without warm-up a division by zero",
    ),
    other(
        "schedule: decay counted from step 0, not from the end of warm-up",
        Edit("optim.schedules", "progress", "(step - warmup) / max", "step / max"),
        "oracle: schedules by formula", schedule_oracle, "linear, cosine",
        "the rate jumps down at the end of warm-up and reaches its floor too early",
    ),
    other(
        "schedule: the last step short of the floor",
        Edit("optim.schedules", "progress", "steps - 1 - warmup", "steps - warmup"),
        "oracle: schedules by formula", schedule_oracle, "linear, cosine",
        "none",
    ),
    other(
        "schedule: a whole cosine for half of one",
        Edit("optim.schedules", "cosine", "math.cos(math.pi", "math.cos(2 * math.pi"),
        "oracle: schedules by formula", schedule_oracle, "cosine",
        "the loss is best at half time and worse at the end",
    ),
    other(
        "sampling: top_p stops before the token that reaches it",
        Edit("sampling", "token_probabilities", "p.cumsum(axis=-1) - p >= top_p", "p.cumsum(axis=-1) >= top_p"),
        "oracle: sampling by sorted lists", sampling_oracle, "top_p",
        "samples repeat themselves; where the model is sure, no token is left and all are NaN",
    ),
    other(
        "sampling: top_k keeps one more",
        Edit("sampling", "token_probabilities", "else top_k)", "else top_k + 1)"),
        "oracle: sampling by sorted lists", sampling_oracle, "top_k",
        "top_k = 1 is not greedy",
    ),
    other(
        "sampling: logits times the temperature",
        Edit("sampling", "token_probabilities", "logits = logits / temperature", "logits = logits * temperature"),
        "oracle: sampling by sorted lists", sampling_oracle, "temperature",
        "low temperatures babble, high ones repeat",
    ),
    other(
        "sampling: probabilities left in sorted order",
        Edit(
            "sampling", "token_probabilities",
            "np.put_along_axis(probabilities, order, p, axis=-1)", "probabilities[:, : p.shape[-1]] = p",
        ),
        "oracle: sampling by sorted lists", sampling_oracle, "top_k, top_p",
        "a well-trained model babbles as soon as top_k or top_p is given",
    ),
]  # fmt: skip

EXHIBITS = GRADIENT_EXHIBITS + OTHER_EXHIBITS


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


def in_words(names):
    """The op is named once: attention.q, attention.k -> "attention.q, k"."""
    op = names[0].partition(".")[0]
    return ", ".join([names[0], *(name.removeprefix(f"{op}.") for name in names[1:])])


def table(rows=None, progress=None):
    """The museum as a text: mistake, caught by, error, what central differences in float32 say, symptom. rows: those of run(), run unless given."""
    rows = run(progress) if rows is None else rows
    lines = [("mistake", "caught by", "error", "float32 central", "symptom in training")]
    for row in rows:
        e = row.exhibit
        by = f"{e.caught_by}: {in_words(e.wrong)}" if e.by_gradient else e.caught_by
        seen = "blind" if row.float32_error is None else f"{'caught' if row.float32_catches else 'MISSED'} {row.float32_error:.0e}"
        lines.append((e.name, by if row.caught else f"NOT CAUGHT by {by}", f"{row.finding.error:.0e}", seen, e.symptom))
    widths = [max(map(len, column)) for column in zip(*lines)]
    text = "\n".join("  ".join(part.ljust(width) for part, width in zip(line, widths)).rstrip() for line in lines)
    by_gradient, missed = [row for row in rows if row.exhibit.by_gradient], [row for row in rows if not row.caught]
    unseen = sum(not row.float32_catches for row in by_gradient)
    verdict = "every one caught where the table says" if not missed else f"NOT CAUGHT: {'; '.join(row.exhibit.name for row in missed)}"
    return (
        f"{text}\n{len(rows)} mistakes: {len(by_gradient)} seen by the complex step, of which central differences in float32 miss {unseen}; "
        f"{len(rows) - len(by_gradient)} that no gradient check sees; {verdict}"
    )
