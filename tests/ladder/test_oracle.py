"""Rung: oracles, PyTorch's own ops, optimisers and a training run (extra `parity`; a whole model
against transformers is in tests/models/test_gpt.py and tests/hub/). Below: the gradient checks,
which need no oracle.
"""

import math
from functools import partial

import numpy as np
import pytest

from minigpt import GPT, GPTConfig, check_gradients
from minigpt.layers.store import Parameter, Store
from minigpt.ops import (
    ACTIVATIONS,
    IGNORED,
    Mask,
    attention_backward,
    attention_forward,
    cross_entropy_backward,
    cross_entropy_forward,
    layernorm_backward,
    layernorm_forward,
    lean_attention_backward,
    lean_attention_forward,
    rmsnorm_backward,
    rmsnorm_forward,
    softmax_backward,
    softmax_forward,
)
from minigpt.optim import SCHEDULES, SGD, AdamW, Muon, clip_by_norm, newton_schulz
from minigpt.optim.muon import POLYNOMIALS

pytestmark = pytest.mark.parity
LIMIT = 1e-10


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def compare(torch, forward, backward, theirs, inputs, rng):
    """Value and every gradient of an op against PyTorch's."""
    y, cache = forward(*inputs)
    dy = rng.standard_normal(np.shape(y))
    grads = backward(dy if np.shape(y) else float(dy), cache)
    tensors = [torch.tensor(x, requires_grad=True) for x in inputs]
    expected = theirs(*tensors)
    expected.backward(torch.tensor(dy))
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=LIMIT, atol=LIMIT)
    for g, tensor in zip(grads if isinstance(grads, tuple) else (grads,), tensors):
        np.testing.assert_allclose(g, tensor.grad.numpy(), rtol=LIMIT, atol=LIMIT)


def test_norms_and_softmax(torch, rng):
    F = torch.nn.functional
    x, weight, bias = rng.standard_normal((2, 3, 5)), rng.standard_normal(5), rng.standard_normal(5)
    compare(
        torch,
        layernorm_forward,
        layernorm_backward,
        lambda x, w, b: F.layer_norm(x, (5,), w, b),
        (x, weight, bias),
        rng,
    )
    compare(torch, rmsnorm_forward, rmsnorm_backward, lambda x, w: F.rms_norm(x, (5,), w, 1e-6), (x, weight), rng)
    compare(torch, softmax_forward, softmax_backward, lambda x: F.softmax(x, -1), (3 * x,), rng)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(torch, rng, name):
    F = torch.nn.functional
    gelu_tanh = partial(F.gelu, approximate="tanh")
    theirs = {"gelu": F.gelu, "gelu_tanh": gelu_tanh, "relu": F.relu, "silu": F.silu}[name]
    compare(torch, *ACTIVATIONS[name], theirs, (3 * rng.standard_normal((7, 11)),), rng)


def test_cross_entropy_with_ignored_targets(torch, rng):
    targets = rng.integers(0, 7, (3, 5))
    targets[0, 1] = targets[2] = IGNORED

    def theirs(logits):
        return torch.nn.functional.cross_entropy(
            logits.reshape(-1, 7), torch.tensor(targets).reshape(-1), ignore_index=IGNORED
        )

    forward = lambda logits: cross_entropy_forward(logits, targets)  # noqa: E731
    compare(torch, forward, cross_entropy_backward, theirs, (5 * rng.standard_normal((3, 5, 7)),), rng)


@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize("case", ["causal", "bias", "padding", "memory"])
def test_attention(torch, rng, case, lean):
    forward, backward = (
        (lean_attention_forward, lean_attention_backward) if lean else (attention_forward, attention_backward)
    )
    B, H, T, S, D = 2, 3, 5, 5 if case == "causal" else 7, 4
    q, k, v = rng.standard_normal((B, H, T, D)), *rng.standard_normal((2, B, H, S, D))
    keys = np.arange(S) < np.array([[S - 2], [S]])
    bias = rng.standard_normal((B, H, T, S))
    mask = {"causal": Mask(causal=True), "padding": Mask(keys=keys)}.get(case, Mask())
    sdpa = torch.nn.functional.scaled_dot_product_attention
    settings = {"causal": {"is_causal": True}, "padding": {"attn_mask": torch.tensor(keys)[:, None, None]}}.get(
        case, {}
    )
    if case == "bias":
        compare(
            torch,
            lambda *a: forward(*a[:3], bias=a[3]),
            backward,
            lambda q, k, v, b: sdpa(q, k, v, attn_mask=b),
            (q, k, v, bias),
            rng,
        )
    else:
        ours = lambda dy, cache: backward(dy, cache)[:3]  # noqa: E731
        compare(torch, lambda *a: forward(*a, mask), ours, lambda *a: sdpa(*a, **settings), (q, k, v), rng)


def test_newton_schulz_is_its_polynomial_of_the_singular_values(rng):
    x = rng.standard_normal((6, 9))
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    s = s / (np.sqrt((x * x).sum()) + 1e-7)
    for steps, polynomials in POLYNOMIALS.items():
        moved = s
        for a, b, c in polynomials:
            moved = a * moved + b * moved**3 + c * moved**5
        np.testing.assert_allclose(newton_schulz(x, steps), (u * moved) @ vt, atol=1e-12)


def test_muon_stays_within_the_bfloat16_of_pytorchs(torch, rng):
    shape = (12, 20)  # (inputs, outputs); theirs is (outputs, inputs), and the same matrix transposed
    p = Store([Parameter("w", shape, "hidden")], rng.standard_normal(240).astype(np.float32))
    theirs = torch.tensor(p["w"].T.copy(), requires_grad=True)
    muon = torch.optim.Muon(
        [theirs], lr=0.05, momentum=0.95, nesterov=True, weight_decay=0.1, ns_steps=5, adjust_lr_fn="original"
    )
    ours = Muon(p, muon_lr=0.05, momentum=0.95, newton_schulz_steps=5, weight_decay=0.1)
    start = p["w"].copy()
    for _ in range(5):
        g = Store([Parameter("w", shape, "hidden")], rng.standard_normal(240).astype(np.float32))
        ours.step(p, g)
        theirs.grad = torch.tensor(g["w"].T.copy())
        muon.step()
    moved = np.abs(p["w"] - start).max()
    assert np.abs(p["w"] - theirs.detach().numpy().T).max() < 0.03 * moved  # bfloat16 has 8 bits


def test_sgd_and_clipping(torch, rng):
    p = Store([Parameter("w", (3, 5), "hidden"), Parameter("b", (5,), "vector")], rng.standard_normal(20))
    tensors = {name: torch.tensor(value.copy(), requires_grad=True) for name, value in p.items()}
    theirs, ours = torch.optim.SGD(tensors.values(), lr=0.1, momentum=0.9), SGD(p, lr=0.1, momentum=0.9)
    for _ in range(20):
        g = p.like(rng.standard_normal(20))
        for name, tensor in tensors.items():
            tensor.grad = torch.tensor(g[name].copy())
        norm = torch.nn.utils.clip_grad_norm_(tensors.values(), 1.5)
        assert clip_by_norm(g, 1.5) == pytest.approx(float(norm), rel=1e-12)
        ours.step(p, g)
        theirs.step()
    for name, tensor in tensors.items():
        np.testing.assert_allclose(p[name], tensor.detach().numpy(), rtol=1e-5)  # their clipping adds 1e-6 to the norm


@pytest.mark.slow
def test_loss_curve_of_200_steps_in_float32(torch):
    """Same weights, same batches, AdamW, warm-up, cosine and clipping:
    the losses stay within 1e-3 of each other at every step.
    """
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()
    steps, B, T, V = 200, 8, 16, 29
    model = GPT(GPTConfig(V, T, 2, 2, 16), seed=0)
    settings = {"vocab_size": V, "n_positions": T, "n_layer": 2, "n_head": 2, "n_embd": 16}
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**settings, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
    )
    parameters = dict(theirs.transformer.named_parameters())
    with torch.no_grad():
        for name, value in model.parameters.items():
            parameters[name].copy_(torch.tensor(value))
    groups = [
        {"params": [p for p in parameters.values() if (p.ndim >= 2) == decays], "weight_decay": 0.1 * decays}
        for decays in (True, False)
    ]
    adamw = torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.99))
    ours, rng = AdamW(model.store, 3e-3, (0.9, 0.99), weight_decay=0.1), np.random.default_rng(0)
    chain = rng.permutation(V)  # each token is followed by one other, most of the time: something to learn
    curve = []
    for step in range(steps):
        windows = np.empty((B, T + 1), np.int64)
        windows[:, 0] = rng.integers(0, V, B)
        for t in range(T):
            windows[:, t + 1] = np.where(rng.random(B) < 0.8, chain[windows[:, t]], rng.integers(0, V, B))
        factor = SCHEDULES["cosine"](step, steps, 20)
        g = model.store.zeros_like()
        loss = model.add_gradients(g, windows[:, :-1], windows[:, 1:])
        clip_by_norm(g, 1.0)
        ours.step(model.store, g, factor)
        logits = theirs(torch.tensor(windows[:, :-1])).logits
        expected = torch.nn.functional.cross_entropy(logits.reshape(-1, V), torch.tensor(windows[:, 1:]).reshape(-1))
        adamw.zero_grad()
        expected.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        for group in adamw.param_groups:
            group["lr"] = 3e-3 * factor
        adamw.step()
        curve.append((float(loss), expected.item()))
    curve = np.array(curve)
    assert np.abs(curve[:, 0] - curve[:, 1]).max() < 1e-3
    assert curve[-10:].mean() < 0.6 * math.log(V)


@pytest.mark.slow
def test_twelve_layers_to_a_trillionth(rng):
    model = GPT(GPTConfig(13, 11, 12, 2, 8), dtype=np.float64)
    model.store.vector[:] = 0.5 * rng.standard_normal(model.num_parameters)
    report = check_gradients(model, rng.integers(0, 13, (2, 11)), rng.integers(0, 13, (2, 11)))
    assert report.max_error < 1e-12
