"""AdamW: gradients divided by their own running size."""

import math

import numpy as np

from minigpt.optim.base import decay, decayed_names, slices

CHUNK = 1 << 15  # numbers at a time: the thirteen passes below then stay in the second-level cache


class AdamW:
    """Adam with decoupled weight decay (Kingma and Ba 2014, arXiv:1412.6980, algorithm 1;
    Loshchilov and Hutter 2017, arXiv:1711.05101).

        p = p - lr * weight_decay * p    for matrices
        m = b1 m + (1 - b1) g
        v = b2 v + (1 - b2) g^2
        p = p - lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
    """

    def __init__(self, p, lr=1e-3, betas=(0.9, 0.999), *, eps=1e-8, weight_decay=0.1, names=None):
        """p: the Store to be trained, for its shapes; names: the parameters to train, all unless
        given.
        """
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.names = list(p) if names is None else list(names)
        self.decayed = [name for name in decayed_names(p) if name in set(self.names)]
        self.spans = spans(p, self.names)
        self.state = {
            "adamw.m": np.zeros_like(p.vector),
            "adamw.v": np.zeros_like(p.vector),
            "adamw.t": np.zeros(1, np.int64),
        }

    def step(self, p, g, factor=1.0, run=map):
        """Update the store p in place by the gradients g; factor scales the rate; run maps a
        function over parts, on threads perhaps.
        """
        lr = self.lr * factor
        m, v, t = self.state.values()
        t += 1
        b1, b2 = self.betas
        correct_m = 1 / (1 - b1 ** int(t[0]))
        correct_v = 1 / math.sqrt(1 - b2 ** int(t[0]))
        decay(p, self.decayed, lr * self.weight_decay)

        def update(span):
            scratch = np.empty(CHUNK, p.vector.dtype)
            for start in range(span.start, span.stop, CHUNK):
                at = slice(start, min(start + CHUNK, span.stop))
                pc, gc, mc, vc, s = p.vector[at], g.vector[at], m[at], v[at], scratch[: at.stop - start]
                np.multiply(gc, 1 - b1, out=s)
                mc *= b1
                mc += s
                np.multiply(gc, gc, out=s)
                s *= 1 - b2
                vc *= b2
                vc += s
                np.sqrt(vc, out=s)
                s *= correct_v
                s += self.eps
                np.divide(mc, s, out=s)
                s *= lr * correct_m
                pc -= s

        for _ in run(update, self.spans):
            pass


def spans(p, names):
    """The slices of a store's vector that hold the named parameters, neighbours joined, and long
    ones cut for threads.
    """
    names, joined, start = set(names), [], 0
    for name, value in p.items():
        stop = start + value.size
        if name in names:
            if joined and joined[-1].stop == start:
                joined[-1] = slice(joined[-1].start, stop)
            else:
                joined.append(slice(start, stop))
        start = stop
    cut = []
    for span in joined:
        length = span.stop - span.start
        cut += [
            slice(span.start + s.start, span.start + s.stop) for s in slices(length, 2 if length > 4 * CHUNK else 1)
        ]
    return cut
