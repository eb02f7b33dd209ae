"""What the checker says of ops that are known to be right or wrong: it has classic mistakes of its
own.

Shapes: N rows, C channels.
"""

import numpy as np

from minigpt.errors import MinigptError
from minigpt.gradcheck import check_gradients, check_layer, check_op
from minigpt.layers import Linear
from minigpt.museum.checks import random_batch, random_model
from minigpt.museum.oracles import compared


def cube(x):
    """y = x^3."""
    return x * x * x, x


def right(dy, x):
    """Of cube."""
    return 3 * x * x * dy


def faint(x):
    """y = 1e-9 x^2: its gradient is small."""
    return 1e-9 * x * x, x


def leaky_relu(x):
    """y = x where x > 0, else x / 100."""
    return x * np.where(x.real > 0, 1, 0.01), x


def relu_in_place(dy, x):
    """Of a plain ReLU, and it writes into dy."""
    dy[x <= 0] = 0
    return dy


def normalise_in_place(x):
    """y = x / |x|, written into x."""
    norm = np.sqrt((x * x).sum())
    x /= norm
    return x, x


def without_the_norm(dy, y):
    """Of normalise, less its factor 1 / |x|."""
    return dy - y * (y * dy).sum()


def over_deviation(x):
    """y = x / std(x), by a function that drops the imaginary part of the deviation."""
    return x / x.std(), x.std()


def constant_deviation(dy, std):
    """Of x / std(x) with the deviation taken for a constant."""
    return dy / std


def product(x, weight):
    """y = x @ weight."""
    return x @ weight, (x, weight)


def transposed(dy, cache):
    """Of product, with dweight transposed."""
    x, weight = cache
    return dy @ weight.T, dy.T @ x


def without_dweight(dy, cache):
    """Of product, dx alone."""
    return dy @ cache[1].T


def reverse(x):
    """y: the rows of x in reverse order."""
    return x[::-1] * 1.0, None


def in_the_same_order(dy, cache):
    """Of reverse, which forgets to turn dy round."""
    return dy * 1.0


def one_of_many(dy, x):
    """Of cube, one number of many a little too large."""
    dx = 3 * x * x * dy
    dx[np.unravel_index(np.argsort(abs(dx), axis=None)[dx.size // 2], dx.shape)] *= 1.01
    return dx


def not_a_number(dy, x):
    """Of cube, with NaN in it."""
    dx = 3 * x * x * dy
    dx[0, 0] = np.nan
    return dx


def right_once():
    """Of cube, at its first call alone."""
    calls = []

    def backward(dy, x):
        calls.append(1)
        return (3 if len(calls) == 1 else 2) * x * x * dy

    return backward


def sum_of_both(x, faint):
    """y = sum(x) + 1e-9 sum(faint): two inputs, one with gradients a billion times as large."""
    return x.sum() + 1e-9 * faint.sum(), (x.shape, faint.shape)


def a_little_off(dy, shapes):
    """Of sum_of_both, the small gradient wrong by 0.1%."""
    return dy * np.ones(shapes[0]), 1.001e-9 * dy * np.ones(shapes[1])


def half_forgotten(model):
    """A model whose loss_and_grads leaves a parameter out."""

    class Forgetful(type(model)):
        def loss_and_grads(self, *arguments, **keywords):
            """Less the gradient of ln_f.bias."""
            loss, grads = super().loss_and_grads(*arguments, **keywords)
            return loss, {name: g for name, g in grads.items() if name != "ln_f.bias"}

    return Forgetful(model.config, store=model.store)


class OverwritingLinear(Linear):
    """A layer that sets its gradients where it should add to them."""

    def backward(self, g, dy, cache):
        """dx; what was in g is lost."""
        g.vector[:] = 0
        return super().backward(g, dy, cache)


def verdict(check):
    """Whether a report passed; None where the checker refused to judge."""
    try:
        with np.errstate(all="ignore"):
            return check().passed
    except MinigptError:
        return None


@compared(limit=0)
def verdicts():
    """Of each op the verdict, 1 where it is the right one."""
    rng = np.random.default_rng(0)  # the seed that a reader takes, and the checker's own default
    x, weight = rng.standard_normal((4, 4)), rng.standard_normal((4, 4))
    many = rng.standard_normal((40, 50))
    layer, rows = OverwritingLinear("f", 4, 3), rng.standard_normal((5, 4))
    cases = {
        "a right gradient": (True, lambda: check_op(cube, right, (x,))),
        "a right gradient by both methods": (True, lambda: check_op(cube, right, (x,), "both")),
        "a right model": (True, lambda: check_gradients(random_model(), *random_batch())),
        "half of a small gradient": (False, lambda: check_op(faint, lambda dy, x: 1e-9 * x * dy, (x,))),
        "dy written into": (False, lambda: check_op(leaky_relu, relu_in_place, (x,))),
        "x written into": (False, lambda: check_op(normalise_in_place, without_the_norm, (x,))),
        "a deviation held constant": (False, lambda: check_op(over_deviation, constant_deviation, (x,))),
        "dweight transposed": (False, lambda: check_op(product, transposed, (x, weight))),
        "dy not turned round": (False, lambda: check_op(reverse, in_the_same_order, (x,))),
        "one of many": (False, lambda: check_op(cube, one_of_many, (many,))),
        "NaN": (False, lambda: check_op(cube, not_a_number, (x,))),
        "dweight missing": (None, lambda: check_op(product, without_dweight, (x, weight))),
        "small beside large": (False, lambda: check_op(sum_of_both, a_little_off, (x, weight))),
        "zeros": (False, lambda: check_op(cube, lambda dy, x: 3 * x * x * dy * (x > 0), (x,))),
        "right once": (None, lambda: check_op(cube, right_once(), (x,))),
        "a parameter without a gradient": (
            None,
            lambda: check_gradients(half_forgotten(random_model()), *random_batch()),
        ),
        "gradients overwritten": (False, lambda: check_layer(layer, rows)),
    }
    return {name: (verdict(check) is expected, 1) for name, (expected, check) in cases.items()}
