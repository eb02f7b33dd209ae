"""Gradient checks of ops, layers and models: each is a function of a method, "complex" or
"float32", to a Finding.

Shapes: B batch, H heads, T queries, S keys, D channels of a head, C channels, V vocabulary, P
positions.
"""

import functools
import math
import types

import numpy as np

from minigpt.gradcheck import LIMIT, LayerFunction, Losses, compare, random_store
from minigpt.layers import MLP, Attention, CrossAttention, LayerNorm, PostNormBlock, Shared, SharedGradients
from minigpt.models.recipe_gpt import gpt_or_recipe
from minigpt.museum.planting import Finding, replaced
from minigpt.ops import (
    activations,
    attention,
    dropout,
    embedding,
    gating,
    lean_attention,
    linear,
    loss,
    normalization,
    positions,
    relative,
    smear,
    softmax,
)
from minigpt.ops.attend import attend
from minigpt.ops.loss import IGNORED

FLOAT32_STEP = 1e-3  # of the central differences in float32 that exhibits are compared with
FLOAT32_TOLERANCE = 2e-2


def measure(objective, arrays, analytic, method):
    """Compare gradients by the complex step in float64, or by central differences in float32, as
    both are commonly done. -> name -> error
    """
    rng = np.random.default_rng(3)
    if method == "complex":
        report = compare(objective, arrays, analytic, "complex", rng)
    else:
        report = compare(
            lambda a: objective({n: x.astype(np.float32) for n, x in a.items()}),
            arrays,
            analytic,
            "central",
            rng,
            FLOAT32_STEP,
        )
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
    """The gradient check of an op: forward(*arrays) -> (y, cache), backward(dy, cache) ->
    gradients; shapes: name -> shape of each array.

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
    family, config = gpt_or_recipe(sizes | changes)
    model = family(config, dtype=dtype)
    model.store.vector[:] = std * np.random.default_rng(1).standard_normal(model.num_parameters)
    return model


def random_batch(T=5):
    """ids and targets (3, T) below 11, some of the targets ignored."""
    ids, targets = np.random.default_rng(2).integers(0, 11, (2, 3, T))
    targets[0, 1] = targets[2, 3:] = IGNORED
    return ids, targets


def model_check(lean=False, dropout_seed=5, **changes):
    """The gradient check of a GPT, every parameter; lean: with memory-lean attention, two queries
    at a time.
    """

    def check(method="complex"):
        with replaced(attend, "__kwdefaults__", attend.__kwdefaults__ | ({"lean_from": 2, "block": 2} if lean else {})):
            model = random_model(np.float64 if method == "complex" else np.float32, **{"dropout": 0.2} | changes)
            losses = Losses(model, *random_batch(), dropout_seed)
            arrays = {name: value.copy() for name, value in model.parameters.items()}
            errors = measure(losses.loss, arrays, losses.gradients(arrays), method)
            return judged(errors, limit_of(method), nearest_to_loss=True)

    return check


def layer_check(make, shapes):
    """The gradient check of a layer: make() -> layer; shapes: name -> shape of x, and of memory or
    bias.

    The gradients of what is shared are added to ones that are there already, as where several
    layers read one memory.
    """

    def check(method="complex"):
        dtype = np.float64 if method == "complex" else np.float32
        layer, rng = make(), np.random.default_rng(4)
        store = random_store(layer, rng, dtype)
        inputs = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
        function = LayerFunction(
            layer, inputs, store=store, dropout_seed=6,
            share=lambda further: {"shared": Shared(**further)} if further else {},
            collect=lambda sums: {"dshared": SharedGradients(**sums)} if sums else {},
        )  # fmt: skip
        arrays = {**inputs, **{name: value.copy() for name, value in store.items()}}
        y, cache = function.forward(dict(arrays))
        dy = rng.standard_normal(y.shape).astype(dtype)
        start = {name: float(name in inputs) for name in arrays}
        grads = function.backward(dy, cache, start)
        analytic = {name: grads[name] - (start[name] if name != "x" else 0) for name in arrays}
        errors = measure(lambda a: (function.forward(dict(a))[0] * dy).sum(), arrays, analytic, method)
        return judged(errors, limit_of(method), nearest_to_loss=True)

    return check


ATTENTION_MASK = attention.Mask(causal=True, window=3, keys=np.array([[1, 1, 1, 0, 0], [1, 0, 1, 1, 1]], bool))


def attention_check(lean=False, p=0.0):
    """The gradient check of attention on as many keys as queries, B = 2, H = 3, T = S = 5, D = 4,
    with a mask and a bias.
    """
    forward, backward = attention.attention_forward, attention.attention_backward
    if lean:
        forward, backward = (
            functools.partial(lean_attention.lean_attention_forward, block=2),
            lean_attention.lean_attention_backward,
        )

    def run(q, k, v, bias):
        return forward(q, k, v, ATTENTION_MASK, bias, 1 / math.sqrt(3), p, np.random.default_rng(7))

    return op_check(run, backward, {"q": (2, 3, 5, 4), "k": (2, 3, 5, 4), "v": (2, 3, 5, 4), "bias": (1, 3, 5, 5)})


def embedding_forward(weight):
    """A look-up in which ids repeat."""
    return embedding.embedding_forward(np.array([[2, 0, 2, 5], [2, 5, 1, 2]]), weight)


def cross_entropy_forward(logits):
    """The loss of 8 targets, 3 of which are ignored."""
    return loss.cross_entropy_forward(logits, np.array([[1, IGNORED, 6, 3], [IGNORED, 0, 6, IGNORED]]))


X = (2, 5, 6)  # B, T, C
gradients = types.SimpleNamespace(
    linear=op_check(linear.linear_forward, linear.linear_backward, {"x": X, "weight": (6, 4), "bias": (4,)}),
    layernorm=op_check(
        normalization.layernorm_forward, normalization.layernorm_backward, {"x": X, "weight": (6,), "bias": (6,)}
    ),
    wide_layernorm=op_check(
        normalization.layernorm_forward,
        normalization.layernorm_backward,
        {"x": (1, 2, 256), "weight": (256,), "bias": (256,)},
    ),
    rmsnorm=op_check(normalization.rmsnorm_forward, normalization.rmsnorm_backward, {"x": X, "weight": (6,)}),
    softmax=op_check(softmax.softmax_forward, softmax.softmax_backward, {"x": (3, 5, 6)}),
    gelu=op_check(activations.gelu_forward, activations.gelu_backward, {"x": (4, 13)}),
    gelu_tanh=op_check(activations.gelu_tanh_forward, activations.gelu_tanh_backward, {"x": (4, 13)}),
    silu=op_check(activations.silu_forward, activations.silu_backward, {"x": (4, 13)}),
    relu=op_check(activations.relu_forward, activations.relu_backward, {"x": (4, 13)}),
    embedding=op_check(embedding_forward, embedding.embedding_backward, {"weight": (7, 3)}),
    unembedding=op_check(
        embedding.unembedding_forward, embedding.unembedding_backward, {"x": X, "weight": (7, 6), "bias": 7}
    ),
    positions=op_check(
        positions.learned_positions_forward, positions.learned_positions_backward, {"x": X, "weight": (8, 6)}
    ),
    relative_bias=op_check(
        lambda weight: relative.relative_bias_forward(weight, 7, 9, 6),
        relative.relative_bias_backward,
        {"weight": (8, 3)},
    ),
    gate=op_check(gating.gate_forward, gating.gate_backward, {"gate": X, "value": X}),
    rotary=op_check(
        lambda x: positions.rotary_forward(x, *positions.rotary_table(5, 4)),
        positions.rotary_backward,
        {"x": (2, 5, 3, 4)},
    ),
    smear=op_check(smear.smear_forward, smear.smear_backward, {"x": X, "weight": (6,)}),
    dropout=op_check(
        lambda x: dropout.dropout_forward(x, 0.3, np.random.default_rng(8)), dropout.dropout_backward, {"x": X}
    ),
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
        lambda: PostNormBlock(
            LayerNorm("ln_1", 6),
            Attention("attn", 6, 2, dropout=0.2),
            LayerNorm("ln_2", 6),
            MLP("mlp", 6, 10, dropout=0.2),
        ),
        {"x": X},
    ),
    biased_attention=layer_check(lambda: Attention("attn", 6, 2), {"x": X, "bias": (1, 2, 5, 5)}),
    cross_attention=layer_check(
        lambda: CrossAttention("attn", 6, 2, memory_channels=4, dropout=0.2), {"x": X, "memory": (2, 7, 4)}
    ),
)
