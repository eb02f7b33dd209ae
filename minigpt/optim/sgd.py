"""Stochastic gradient descent with momentum."""

import numpy as np

from minigpt.optim.base import decay, decayed_names


class SGD:
    """Stochastic gradient descent (Sutskever et al. 2013, with PyTorch's convention of leaving the
    rate out of the momentum).

        p = p - lr * factor * weight_decay * p    for matrices
        m = momentum * m + g
        p = p - lr * factor * m
    """

    def __init__(self, p, lr=0.1, momentum=0.9, weight_decay=0.0):
        """p: the Store to be trained, for its shapes."""
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.decayed = decayed_names(p)
        self.state = {"sgd.momentum": np.zeros_like(p.vector)}

    def step(self, p, g, factor=1.0, run=map):
        """Update the store p in place by the gradients g; factor scales the rate (a schedule's);
        run is unused: two passes over a vector.
        """
        lr = self.lr * factor
        m = self.state["sgd.momentum"]
        decay(p, self.decayed, lr * self.weight_decay)
        m *= self.momentum
        m += g.vector
        p.vector -= lr * m
