"""Oracles, invariances, accounting and golden values: each is a function of nothing to a Finding.

Shapes: B batch, H heads, T queries, S keys, D channels of a head.
"""

import functools
import math

import numpy as np

from minigpt.layers import Attention, Store
from minigpt.models.generation import CachedLogits, uncached_logits
from minigpt.models.gpt import GPT, GPTConfig
from minigpt.museum.checks import judged, random_batch, random_model
from minigpt.ops import activations, attention, dropout, loss, normalization, softmax
from minigpt.ops.loss import IGNORED


def compared(limit=1e-9):
    """Decorator: a function to a dict of name -> (value, right value) becomes one to a Finding, by
    the largest relative difference of each.
    """

    def wrap(function):
        @functools.wraps(function)
        def check(**changes):
            errors = {}
            for name, (value, right) in function(**changes).items():
                value, right = np.asarray(value, np.float64), np.asarray(right, np.float64)
                errors[name] = (
                    float(np.max(abs(value - right))) / max(float(np.max(abs(right))), 1e-300)
                    if value.shape == right.shape
                    else math.inf
                )
            return judged(errors, limit)

        return check

    return wrap


def loop_attention(q, k, v, mask, scale, bias=None):
    """Attention by loops over single numbers; bias (1, H, T, S) or None. -> y (B, H, T, D), weights
    (B, H, T, S)
    """
    (B, H, T, D), S = q.shape, k.shape[2]
    y, weights = np.zeros((B, H, T, D)), np.zeros((B, H, T, S))
    for b, h, t in np.ndindex(B, H, T):
        seen = [s for s in range(S) if 0 <= S - T + t - s < mask.window and mask.keys[b, s]]
        added = np.zeros(S) if bias is None else bias[0, h, t]
        e = {s: math.exp(scale * sum(q[b, h, t, d] * k[b, h, s, d] for d in range(D)) + added[s]) for s in seen}
        for s in seen:
            weights[b, h, t, s] = e[s] / sum(e.values())
            y[b, h, t] += weights[b, h, t, s] * v[b, h, s]
    return y, weights


def attention_oracle(forward):
    """A check of an attention's forward against loops, T = 5 queries at the end of S = 7 keys,
    causal, a band of 3, two keys padded.
    """

    @compared()
    def check():
        rng = np.random.default_rng(9)
        q, k, v = (rng.standard_normal((2, 3, n, 4)) for n in (5, 7, 7))
        mask = attention.Mask(True, 3, np.arange(7) < np.array([[7], [5]]))
        y, cache = forward(q, k, v, mask)
        right = loop_attention(q, k, v, mask, 0.5)
        return {"y": (y, right[0]), "weights": (cache.weights, right[1])}

    return check


@compared()
def biased_attention_oracle():
    """A forward with a bias, causal, against loops."""
    rng, mask = np.random.default_rng(9), attention.Mask(True, 7, np.ones((2, 7), bool))
    q, k, v = (rng.standard_normal((2, 3, n, 4)) for n in (5, 7, 7))
    bias = rng.standard_normal((1, 3, 5, 7))
    right = loop_attention(q, k, v, mask, 0.5, bias)
    return {"y": (attention.attention_forward(q, k, v, mask, bias)[0], right[0])}


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
    return {"padded row": (uncached_logits(model, rows)[1], uncached_logits(model, rows[1:])[0])}


@compared()
def cached_is_uncached(**changes):
    """Logits of decoding with a KV cache against those computed from the whole text."""
    model, (ids, _) = random_model(**changes), random_batch()
    cached, new = CachedLogits(model), []
    for T in (3, 4, 5):
        rows = list(ids[:, :T])
        new.append((cached(rows), uncached_logits(model, rows)))
    return {"prompt": new[0], "next tokens": tuple(np.stack(part) for part in zip(*new[1:]))}


recipe_cached_is_uncached = functools.partial(cached_is_uncached, n_embd=8, positions="rotary", smear=True)


@compared()
def cached_by_parts():
    """A layer with a KV cache that is given three tokens and then two, against all five at once."""
    layer, x = Attention("f", 6, 3, causal=True), np.random.default_rng(9).standard_normal((2, 5, 6))
    p = Store(layer.parameters(), dtype=np.float64)
    p.vector[:] = np.random.default_rng(10).standard_normal(p.vector.size)
    kv, whole = layer.kv_cache(2, 5, np.float64), layer.forward(p, x)[0]
    parts = [layer.forward(p, part, kv=kv)[0] for part in (x[:, :3], x[:, 3:])]
    return {"first part": (parts[0], whole[:, :3]), "second part": (parts[1], whole[:, 3:])}


@compared()
def layernorm_oracle():
    """LayerNorm by loops: mean, variance that divides by C, eps inside the root; RMSNorm likewise.
    Rows of 1e-3, where eps weighs.
    """
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
    values = [
        (softmax.softmax_forward(a)[0], loss.cross_entropy_forward(a, np.array([0, 2, 5]))[0]) for a in (x + 1000, x)
    ]
    return {"softmax": (values[0][0], values[1][0]), "cross-entropy": (values[0][1], values[1][1])}


@compared(limit=1e-2)
def dropout_expectation():
    """The mean of many ones after dropout, and how far the masks of two rows of a batch agree
    (p^2 + (1 - p)^2 where they are drawn apart).
    """
    y = dropout.dropout_forward(np.ones((2, 100_000)), 0.3, np.random.default_rng(12))[0]
    return {"mean": (y.mean(), 1), "rows that agree": (((y[0] > 0) == (y[1] > 0)).mean(), 0.3**2 + 0.7**2)}


@compared()
def loss_oracle():
    """The mean of -log p over the targets that are not ignored, one by one."""
    logits, (_, targets) = np.random.default_rng(13).standard_normal((3, 5, 11)), random_batch()
    kept = [(b, t) for b, t in np.ndindex(3, 5) if targets[b, t] != IGNORED]
    right = [math.log(sum(math.exp(a) for a in logits[at])) - logits[at][targets[at]] for at in kept]
    return {"loss": (loss.cross_entropy_forward(logits, targets)[0], sum(right) / len(right))}


@compared(limit=0.15)
def initial_weights():
    """Standard deviation of the weights that write into the residual stream,
    0.02 / sqrt(2 n_layer), and of the others, 0.02.
    """
    p = GPT(GPTConfig(11, 7, 8, 2, 32), dtype=np.float64).parameters
    return {"c_proj": (p["h.3.mlp.c_proj.weight"].std(), 0.02 / 4), "c_fc": (p["h.3.mlp.c_fc.weight"].std(), 0.02)}


# of golden_case by Hugging Face transformers' GPT-2 in float64; a parity test remakes it
GOLDEN_LOSS = 3.3691865172186577


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
