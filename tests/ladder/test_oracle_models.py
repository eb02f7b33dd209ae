"""Rung: oracle, a GPT of every shape (tied or not, with biases or not, learned or rotary positions,
QK-norm or not, padded) written in plain PyTorch; the embedding; Muon's constants.

Below: the gradient checks of tests/models.
"""

from functools import partial

import numpy as np
import pytest
from small_gpt import small_gpt

from minigpt.layers.store import Parameter, Store
from minigpt.ops import IGNORED, cross_entropy_backward, cross_entropy_forward, embedding_backward, embedding_forward
from minigpt.optim import SGD, clip_by_norm, newton_schulz

LIMIT = 1e-10
SHAPES = [  # tied, bias, activation, positions, qk_norm; smear where there are both of the last two
    (1, 1, "gelu_tanh", "learned", False),
    (1, 0, "gelu", "learned", False),
    (0, 1, "silu", "learned", False),
    (0, 0, "relu", "learned", False),
    (1, 0, "gelu_tanh", "rotary", False),
    (1, 0, "gelu_tanh", "rotary", True),
    (1, 1, "gelu_tanh", "learned", True),
]
LENGTHS = np.array([7, 5, 3, 1])  # of four rows padded to 7


def theirs(model, ids, targets, key_mask, position_ids):
    """Logits, loss and gradients of a GPT by PyTorch, from model's weights."""
    torch = pytest.importorskip("torch")
    F, c, (B, T) = torch.nn.functional, model.config, ids.shape
    p = {name: torch.tensor(value, requires_grad=True) for name, value in model.parameters.items()}
    gelu_tanh = partial(F.gelu, approximate="tanh")
    act = {"gelu_tanh": gelu_tanh, "gelu": F.gelu, "relu": F.relu, "silu": F.silu}[c.activation]

    def linear(x, name):
        return x @ p[f"{name}.weight"] + p.get(f"{name}.bias", 0)

    def norm(x, name):
        return F.layer_norm(x, (c.n_embd,), p[f"{name}.weight"], p.get(f"{name}.bias"))

    def turned(x):
        """By transformers' own functions, in float64: its tables are float32."""
        from transformers.models.llama.modeling_llama import rotate_half

        D = x.shape[-1]
        angle = torch.tensor(position_ids)[..., None] / 10000 ** (torch.arange(0, D, 2, dtype=torch.float64) / D)
        angle = torch.cat([angle, angle], -1).reshape(-1, 1, T, D)
        return x * angle.cos() + rotate_half(x) * angle.sin()

    visible = torch.tensor(np.tril(np.ones((T, T), bool)) & key_mask[:, None, None])
    x = F.embedding(torch.tensor(ids), p["wte.weight"])
    recipe = {"positions": "learned", "qk_norm": False, "smear": False} | vars(c)  # what a GPT of GPT-2 has not
    if recipe["smear"]:
        x = x + p["smear.weight"] * F.pad(x * torch.tensor(key_mask)[..., None], (0, 0, 1, -1))
    if recipe["positions"] == "learned":
        x = x + F.embedding(torch.tensor(position_ids), p["wpe.weight"])
    for i in range(c.n_layer):
        qkv = linear(norm(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn").split(c.n_embd, -1)
        q, k, v = (t.reshape(B, T, c.n_head, -1).transpose(1, 2) for t in qkv)
        if recipe["qk_norm"]:
            q, k = (F.rms_norm(t, t.shape[-1:], eps=1e-6) for t in (q, k))
        if recipe["positions"] == "rotary":
            q, k = turned(q), turned(k)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=visible).transpose(1, 2).reshape(x.shape)
        x = x + linear(y, f"h.{i}.attn.c_proj")
        x = x + linear(act(linear(norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc")), f"h.{i}.mlp.c_proj")
    logits = norm(x, "ln_f") @ (p["wte.weight"].T if c.tie_embeddings else p["lm_head.weight"])
    loss = F.cross_entropy(logits.flatten(0, 1), torch.tensor(targets).flatten(), ignore_index=IGNORED)
    loss.backward()
    return logits.detach().numpy(), loss.item(), {name: value.grad.numpy() for name, value in p.items()}


@pytest.mark.parity
@pytest.mark.parametrize("padding", ["none", "right", "left"])
@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize(("tied", "bias", "activation", "positions", "qk_norm"), SHAPES)
def test_gpt_of_every_shape(tied, bias, activation, positions, qk_norm, lean, padding, rng, take_lean):
    if lean:
        take_lean(1, 3)
    settings = {
        "bias": bool(bias),
        "tie_embeddings": bool(tied),
        "activation": activation,
        "positions": positions,
        "qk_norm": qk_norm,
    }
    settings["smear"] = qk_norm and positions == "rotary"
    model = small_gpt(rng, vocab_size=13, n_layer=3, n_head=2, **settings)
    ids, targets = rng.integers(0, 13, (2, 4, 7))
    targets[0, 2] = IGNORED
    mask, position_ids = np.ones((4, 7), bool), np.tile(np.arange(7), (4, 1))
    if padding == "right":
        mask = np.arange(7) < LENGTHS[:, None]
    elif padding == "left":
        mask = np.arange(7) >= 7 - LENGTHS[:, None]
        position_ids = np.maximum(position_ids - (7 - LENGTHS)[:, None], 0)
    targets[~mask] = IGNORED
    expected_logits, expected_loss, expected = theirs(model, ids, targets, mask, position_ids)
    logits, cache = model.forward(ids, None, mask, position_ids)
    loss, loss_cache = cross_entropy_forward(logits, targets)
    grads = model.backward(cross_entropy_backward(1.0, loss_cache), cache)
    assert np.abs(logits - expected_logits)[mask].max() < LIMIT * np.abs(expected_logits[mask]).max()
    assert loss == pytest.approx(expected_loss, rel=LIMIT)
    assert grads.keys() == expected.keys()
    floor = 1e-3 * max(np.abs(g).max() for g in expected.values())
    for name, g in expected.items():
        assert np.abs(grads[name] - g).max() < LIMIT * max(np.abs(g).max(), floor), name


@pytest.mark.parity
def test_embedding(rng):
    torch = pytest.importorskip("torch")
    ids, weight, dy = rng.integers(0, 5, (3, 7)), rng.standard_normal((11, 4)), rng.standard_normal((3, 7, 4))
    table = torch.tensor(weight, requires_grad=True)
    expected = torch.nn.functional.embedding(torch.tensor(ids), table)
    expected.backward(torch.tensor(dy))
    y, cache = embedding_forward(ids, weight)
    np.testing.assert_array_equal(y, expected.detach().numpy())
    np.testing.assert_allclose(embedding_backward(dy, cache), table.grad.numpy(), rtol=LIMIT, atol=LIMIT)


@pytest.mark.parity
def test_sgd_with_the_clipping_apart(rng):
    """clip_grad_norm_ adds 1e-6 to its norm, so both optimisers are given our clipped gradient,
    and SGD itself is compared to all its digits.
    """
    torch = pytest.importorskip("torch")
    p = Store([Parameter("w", (3, 5), "hidden")], rng.standard_normal(15))
    tensor = torch.tensor(p["w"].copy(), requires_grad=True)
    ours, sgd = SGD(p, lr=0.1, momentum=0.9), torch.optim.SGD([tensor], lr=0.1, momentum=0.9)
    for _ in range(20):
        g = p.like(rng.standard_normal(15))
        clip_by_norm(g, 1.5)
        tensor.grad = torch.tensor(g["w"].copy())
        ours.step(p, g)
        sgd.step()
    np.testing.assert_allclose(p["w"], tensor.detach().numpy(), rtol=LIMIT)


def test_newton_schulz_has_the_published_coefficients():
    """Written out, not imported: the other tests take them from the code that they test.
    A 1 x 1 matrix is its own singular value.
    """
    s = 3 / (3 + 1e-7)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    np.testing.assert_allclose(newton_schulz(np.array([[3.0]]), 5), s, rtol=1e-12)
