"""Rung: golden values, which PyTorch computed once (make_golden.py) and every machine can compare
with. Below: the gradient checks.
"""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from minigpt import GPT, GPTConfig
from minigpt.optim import AdamW

PATH = Path(__file__).with_name("golden.safetensors")


@pytest.fixture
def golden():
    """The tensors, and a model of the golden weights."""
    tensors = load_file(PATH)
    model = GPT(GPTConfig(vocab_size=13, block_size=9, n_layer=2, n_head=3, n_embd=12), dtype=np.float64)
    assert len(tensors) == 4 + 3 * len(model.parameters)
    for name, value in model.parameters.items():
        value[...] = tensors[f"weight.{name}"]
    return tensors, model


def close(a, b):
    """Equal to 1e-10 of the largest entry."""
    assert np.abs(a - b).max() <= 1e-10 * np.abs(b).max()


def test_logits_loss_and_every_gradient(golden):
    tensors, model = golden
    close(model.logits(tensors["ids"]), tensors["logits"])
    loss, grads = model.loss_and_grads(tensors["ids"], tensors["targets"])
    close(loss, tensors["loss"])
    for name, g in grads.items():
        close(g, tensors[f"gradient.{name}"])


def test_twenty_steps_of_adamw(golden):
    tensors, model = golden
    adamw = AdamW(model.store, 0.01, (0.9, 0.95), weight_decay=0.1)
    for _ in range(20):
        g = model.store.zeros_like()
        model.add_gradients(g, tensors["ids"], tensors["targets"])
        adamw.step(model.store, g)
    for name, value in model.parameters.items():
        expected = tensors[f"adamw.{name}"]
        # the gradient of the keys' bias is zero in theory, and AdamW divides its rounding by its
        # own size
        if name.endswith("c_attn.bias"):
            value, expected = (np.delete(x, np.s_[12:24]) for x in (value, expected))
        close(value, expected)


def test_file_is_small():
    assert PATH.stat().st_size < 300_000
