"""Element-wise nonlinearities: GELU in both of its forms, ReLU, SiLU and tanh.

GELU: Hendrycks and Gimpel 2016, arXiv:1606.08415. SiLU: the same paper, section 2. ReLU: Nair and
Hinton 2010. Every array here has any shape, and y and dx have the shape and dtype of x.
"""

import math
from typing import NamedTuple

import numpy as np

from minigpt.ops.erf import normal_cdf

SQRT_2_OVER_PI = math.sqrt(2 / math.pi)


class GeluTanhCache(NamedTuple):
    x: np.ndarray
    cdf: np.ndarray  # (1 + tanh(z)) / 2, about Phi(x)


def gelu_tanh_forward(x):
    """GELU in the tanh form of GPT-2.

        y = x * (1 + tanh(z)) / 2,    z = sqrt(2 / pi) * (x + 0.044715 x^3)

    x -> y, GeluTanhCache. An approximation of gelu_forward, good to 5e-4 (section 2 of the paper).
    """
    cdf = x * x  # one array throughout: x^2 (x**3 would be twenty times slower)
    cdf *= 0.044715 * SQRT_2_OVER_PI
    cdf += SQRT_2_OVER_PI  # z / x
    cdf *= x  # z
    np.tanh(cdf, out=cdf)  # tanh(z)
    cdf += 1
    cdf *= 0.5  # (1 + tanh(z)) / 2
    return x * cdf, GeluTanhCache(x, cdf)


def gelu_tanh_backward(dy, cache):
    """Gradient of gelu_tanh_forward: dy, cache -> dx.

    The slope of cdf = (1 + tanh(z)) / 2 is 2 cdf (1 - cdf) dz, with
    dz = sqrt(2 / pi) * (1 + 3 * 0.044715 x^2), so that

        dx = dy * cdf * (1 + 2 (1 - cdf) x dz)
    """
    x, cdf = cache
    dz2 = x * x  # x^2
    dz2 *= 6 * 0.044715 * SQRT_2_OVER_PI
    dz2 += 2 * SQRT_2_OVER_PI  # 2 dz
    dz2 *= x  # 2 x dz
    slope = 1 - cdf
    slope *= dz2  # 2 (1 - cdf) x dz
    slope += 1
    slope *= cdf  # dy/dx = cdf (1 + 2 (1 - cdf) x dz)
    slope *= dy  # dx
    return slope


class GeluCache(NamedTuple):
    x: np.ndarray
    cdf: np.ndarray  # Phi(x), the normal distribution function


def gelu_forward(x):
    """GELU, exact: the input times the probability that a standard normal number is smaller.

        y = x * Phi(x),    Phi(x) = (1 + erf(x / sqrt(2))) / 2

    x -> y, GeluCache. BERT's and RoBERTa's activation (eq. 1 and 2 of the paper).
    """
    cdf = normal_cdf(x)
    return x * cdf, GeluCache(x, cdf)


def gelu_backward(dy, cache):
    """Gradient of gelu_forward: dy, cache -> dx.

    dx = dy * (Phi(x) + x * phi(x)),    phi(x) = exp(-x^2 / 2) / sqrt(2 pi)
    """
    x, cdf = cache
    slope = x * x  # x^2
    slope *= -0.5  # -x^2 / 2
    np.exp(slope, out=slope)  # sqrt(2 pi) phi(x)
    slope *= x  # sqrt(2 pi) x phi(x)
    slope *= 1 / math.sqrt(2 * math.pi)  # x phi(x)
    slope += cdf  # dy/dx = Phi(x) + x phi(x)
    slope *= dy  # dx
    return slope


class ReluCache(NamedTuple):
    positive: np.ndarray  # bool


def relu_forward(x):
    """The positive part: y = max(x, 0). x -> y, ReluCache. The slope at exactly 0 is taken as 0."""
    positive = x.real > 0
    return x * positive, ReluCache(positive)  # np.where mispredicts a branch at every other element: 1.9 ms against 0.1


def relu_backward(dy, cache):
    """Gradient of relu_forward: dx = dy where x > 0, else 0."""
    return dy * cache.positive


class SiluCache(NamedTuple):
    x: np.ndarray
    s: np.ndarray  # sigmoid(x)


def silu_forward(x):
    """The sigmoid-weighted input, also called swish.

        y = x * sigmoid(x),    sigmoid(x) = (1 + tanh(x / 2)) / 2

    x -> y, SiluCache. The sigmoid is written with tanh because exp(-x) overflows at x = -89 in
    float32.
    """
    s = x * 0.5  # x / 2
    np.tanh(s, out=s)  # tanh(x / 2)
    s += 1
    s *= 0.5  # sigmoid(x)
    return x * s, SiluCache(x, s)


def silu_backward(dy, cache):
    """Gradient of silu_forward: dx = dy * s * (1 + x * (1 - s)), with s = sigmoid(x)."""
    x, s = cache
    slope = 1 - s
    slope *= x  # x (1 - s)
    slope += 1
    slope *= s  # dy/dx = s (1 + x (1 - s))
    slope *= dy  # dx
    return slope


class TanhCache(NamedTuple):
    y: np.ndarray


def tanh_forward(x):
    """The hyperbolic tangent, y = tanh(x), of BERT's pooler. x -> y, TanhCache."""
    y = np.tanh(x)
    return y, TanhCache(y)


def tanh_backward(dy, cache):
    """Gradient of tanh_forward: dx = dy * (1 - y^2)."""
    y = cache.y
    return dy * (1 - y * y)


ACTIVATIONS = {  # of an MLP
    "gelu": (gelu_forward, gelu_backward),
    "gelu_tanh": (gelu_tanh_forward, gelu_tanh_backward),
    "relu": (relu_forward, relu_backward),
    "silu": (silu_forward, silu_backward),
}
