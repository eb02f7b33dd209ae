"""Gradient clipping."""

import math

import numpy as np


def clip_by_norm(g, limit):
    """Scale a gradient store in place so that its Euclidean norm is at most limit (Pascanu et al.
    2012, arXiv:1211.5063, algorithm 1).

        g = g * min(1, limit / |g|)

    -> the norm before. A limit of 0 clips nothing; a norm that is not finite is returned and g left
    as it is.
    """
    with np.errstate(over="ignore"):
        norm = math.sqrt(g.vector @ g.vector)
    if math.isfinite(norm) and 0 < limit < norm:
        g.vector *= limit / norm
    return norm
