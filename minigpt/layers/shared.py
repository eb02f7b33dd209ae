"""What all blocks of one pass read besides their own input, and the twin of it that collects the
gradients.

Shapes: B batch, T queries, S keys, M channels of the memory, H heads, D channels of a head.
"""

from typing import NamedTuple

import numpy as np


class Shared(NamedTuple):
    """One value for the whole stack: each block reads it, none changes it."""

    key_mask: np.ndarray | None = None  # (B, S) bool, False at padding, of the stack's own sequence
    bias: np.ndarray | None = None  # (B or 1, H or 1, T, S) added to the scores of self-attention
    memory: np.ndarray | None = None  # (B, S, M) what cross-attention reads: the encoder's output
    memory_mask: np.ndarray | None = None  # (B, S) bool, False at the memory's padding
    rotary: tuple | None = None  # rows of ops.rotary_table, (T, D) or (B, T, D) each


class SharedGradients(NamedTuple):
    """Sums of the gradients of what is learned of a Shared: every block adds to them in its
    backward.
    """

    bias: np.ndarray | None = None
    memory: np.ndarray | None = None

    @classmethod
    def zeros_like(cls, shared):
        """A zero for each number of a Shared that has a gradient."""
        return cls(*(None if x is None else np.zeros_like(x) for x in (shared.bias, shared.memory)))

    def add(self, name, gradient):
        """Add to the sum of one name. ValueError where there is none to add to: a gradient is
        collected or refused, never dropped; nor spread over a sum of another shape.
        """
        total = getattr(self, name)
        if total is None:
            raise ValueError(
                f"the gradient of {name} has no sum to be added to: give backward SharedGradients.zeros_like(shared)"
            )
        if total.shape != gradient.shape:
            raise ValueError(f"the gradient of {name} has shape {gradient.shape}, its sum {total.shape}")
        total += gradient


NOTHING_SHARED = Shared()
NOTHING_COLLECTED = SharedGradients()
