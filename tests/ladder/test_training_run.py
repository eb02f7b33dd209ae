"""Rung: a training run, the top of the ladder.
Below: the optimisers of tests/optim, and the golden AdamW steps of test_golden.py.

That a run is bit-equal when resumed, and on one thread or two, is in tests/training.
"""

import numpy as np
import pytest

from minigpt import GPT, GPTConfig
from minigpt.optim import AdamW, Muon, clip_by_norm


def train(optimizer_of, steps, batches, V=13, T=12):
    """Losses of a small GPT trained on batches, a function of the step."""
    model = GPT(GPTConfig(V, T, 2, 2, 16), seed=0)
    optimizer, losses = optimizer_of(model), []
    for step in range(steps):
        g = model.store.zeros_like()
        losses.append(float(model.add_gradients(g, *batches(step))))
        clip_by_norm(g, 1.0)
        optimizer.step(model.store, g)
    return np.array(losses)


OPTIMIZERS = {
    "adamw": lambda model: AdamW(model.store, 3e-3, weight_decay=0.0),
    "muon": lambda model: Muon(model.store, 3e-3, 0.02),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_batch_is_learned_by_heart(name, rng):
    ids, targets = rng.integers(0, 13, (2, 4, 12))
    losses = train(OPTIMIZERS[name], 400, lambda step: (ids, targets))
    assert abs(losses[0] - np.log(13)) < 0.1
    assert losses[-1] < 0.05


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_copying_is_learned_on_fresh_batches(name, rng):
    """The second half of a row repeats the first:
    the model must attend six tokens back, and guess in the first half.
    """

    def batches(step):
        half = np.random.default_rng(step).integers(0, 13, (16, 6))
        rows = np.concatenate([half, half, half[:, :1]], axis=1)
        targets = rows[:, 1:].copy()
        targets[:, :5] = -100  # what can't be known takes no part
        return rows[:, :-1], targets

    losses = train(OPTIMIZERS[name], 500, batches)
    assert losses[-20:].mean() < 0.25
