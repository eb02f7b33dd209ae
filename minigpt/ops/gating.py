"""One array as the gate of another. Every array here has the same shape."""

from typing import NamedTuple

import numpy as np


class GateCache(NamedTuple):
    gate: np.ndarray
    value: np.ndarray


def gate_forward(gate, value):
    """Let through of each value what its gate says: y = gate * value.

    gate and value (...) -> y (...), GateCache. With the gate activated and both made of one input
    it is a gated linear unit (Dauphin et al. 2016, arXiv:1612.08083; Shazeer 2020,
    arXiv:2002.05202).
    """
    return gate * value, GateCache(gate, value)


def gate_backward(dy, cache):
    """Gradients of gate_forward: dy, cache -> dgate = dy * value, dvalue = dy * gate."""
    return dy * cache.value, dy * cache.gate
