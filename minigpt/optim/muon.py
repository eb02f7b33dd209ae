"""Muon: momentum, orthogonalised
(Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/).
"""

import math

import numpy as np

from minigpt.optim.adamw import AdamW
from minigpt.optim.base import decay, hidden_matrices

# Each step takes every singular value s to a s + b s^3 + c s^5. Steps -> (a, b, c) of each: with
# five, one polynomial again and again, from Jordan et al.; with fewer, each the best for where the
# one before leaves off, so that 3 steps bring every s from 0.01 to 1 within 0.27 of 1, and 4 every
# s from 0.003 within 0.21 (minimax, as in Amsel et al. 2025, arXiv:2505.16932, section 3).
# docs/RECIPE.md has the losses.
POLYNOMIALS = {
    3: ((8.0934, -23.6204, 17.4462), (3.6366, -2.7219, 0.5365), (2.6613, -1.9772, 0.4526)),
    4: ((8.3837, -24.7659, 18.3571), (4.0434, -3.0114, 0.5695), (3.5056, -2.6267, 0.5257), (2.4901, -1.8343, 0.4368)),
    5: ((3.4445, -4.7750, 2.0315),) * 5,
}


def newton_schulz(x, steps=5):
    """Replace the singular values of matrices by numbers near 1, leaving their singular vectors as
    they are.

        x = x / |x|
        x = a x + b (x x^T) x + c (x x^T)^2 x    for each (a, b, c) of POLYNOMIALS[steps]

    x (..., R, C), a batch of matrices of one shape; steps 3, 4 or 5 -> an array of the same shape,
    close to U V^T of the singular value decomposition at the cost of 3 products a step. Bernstein
    and Newhouse 2024, arXiv:2409.20325.
    """
    if x.shape[-2] > x.shape[-1]:
        return newton_schulz(x.swapaxes(-1, -2), steps).swapaxes(-1, -2)
    x = x / (np.sqrt((x * x).sum(axis=(-2, -1), keepdims=True)) + 1e-7)
    for a, b, c in POLYNOMIALS[steps]:
        s = x @ x.swapaxes(-1, -2)
        # s is its own transpose; a matrix times its transpose costs NumPy 0.25 against 0.32 ms at
        # (8, 128, 128)
        polynomial = s @ s.swapaxes(-1, -2)
        polynomial *= c
        polynomial += b * s
        x, previous = polynomial @ x, x
        x += a * previous
    return x


class Muon:
    """Muon for hidden matrices, AdamW for embeddings, heads, norms and biases.

        p = p - lr * weight_decay * p
        m = momentum * m + (1 - momentum) * g
        u = momentum * m + (1 - momentum) * g    (Nesterov)
        p = p - lr * sqrt(max(1, outputs / inputs)) * newton_schulz(u)

    The scale is for our (inputs, outputs) matrices; a fused q, k, v is orthogonalised as three
    matrices. `lr` is AdamW's, `muon_lr` Muon's, which is
    multiplied by a Parameter's rate.
    """

    def __init__(self, p, lr=1e-3, muon_lr=0.02, *, momentum=0.95, newton_schulz_steps=5, betas=(0.9, 0.999), eps=1e-8,
                 weight_decay=0.0):  # fmt: skip
        """p: the Store to be trained, whose Parameters say which of them are hidden matrices."""
        hidden = hidden_matrices(p)
        self.muon_lr, self.momentum, self.weight_decay = muon_lr, momentum, weight_decay
        self.newton_schulz_steps = newton_schulz_steps
        self.adamw = AdamW(
            p, lr, betas, eps=eps, weight_decay=weight_decay, names=[name for name in p if name not in hidden]
        )
        self.lr = lr
        self.hidden = hidden
        self.state = {f"muon.{name}": np.zeros_like(p[name]) for name in hidden} | self.adamw.state
        self.groups = group_by_shape(p, hidden)

    def step(self, p, g, factor=1.0, run=map):
        """Update the store p in place by the gradients g; factor scales both rates; run maps a
        function over parts, on threads perhaps.
        """
        lr = self.muon_lr * factor
        decay(p, self.hidden, lr * self.weight_decay)

        def update(group):
            updates = []
            for name, columns, _ in group:
                gradient, m = g[name][:, columns], self.state[f"muon.{name}"][:, columns]
                m *= self.momentum
                m += (1 - self.momentum) * gradient
                u = self.momentum * m
                u += (1 - self.momentum) * gradient
                updates.append(u if u.shape[0] <= u.shape[1] else u.T)
            x = newton_schulz(np.stack(updates), self.newton_schulz_steps)
            for (name, columns, rate), u in zip(group, x):
                inputs, outputs = p[name][:, columns].shape
                p[name][:, columns] -= (rate * lr * math.sqrt(max(1, outputs / inputs))) * (
                    u if inputs <= outputs else u.T
                )

        for _ in run(update, self.groups):
            pass
        self.adamw.step(p, g, factor, run)


def group_by_shape(p, hidden):
    """Lists of (name, columns, rate) whose matrices have one shape up to transposition, each shape
    in two halves for threads.
    """
    shapes = {}
    for name, parts in hidden.items():
        rows, columns = p[name].shape[0], p[name].shape[1] // parts
        for i in range(parts):
            part = name, slice(i * columns, (i + 1) * columns), p.parameters[name].rates[i]
            shapes.setdefault(tuple(sorted((rows, columns))), []).append(part)
    groups = [half for members in shapes.values() for half in (members[::2], members[1::2]) if half]
    return sorted(groups, key=lambda group: -len(group))
