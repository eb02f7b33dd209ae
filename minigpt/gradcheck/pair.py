"""A forward and its backward, run on copies and watched."""

import numpy as np

from minigpt.checks import whole
from minigpt.errors import MinigptError
from minigpt.gradcheck.comparison import ROUNDING, check_same, compare
from minigpt.gradcheck.handing import as_gradient, check_values, copied, is_floating, kind_of, remarks_on, snapshot
from minigpt.gradcheck.numeric import check_method
from minigpt.gradcheck.second_point import check_near


class Pair:
    """A forward and a backward, and named values to run them at.

    What the check of an op and that of a layer have in common. A kind of pair gives
    forward(values) -> (y, cache), with y an array or a tuple of arrays, and
    backward(dy, cache) -> name -> gradient. given: name -> value.
    """

    def __init__(self, given, *, method="complex", seed=0):
        check_method(method)
        whole("seed", seed, at_least=0)
        for name, x in given.items():
            check_values(name, x)
        self.given, self.method = given, method
        # Not the stream of default_rng(seed), from which the caller's inputs may come: with dy = x,
        # x^T dy is symmetric, and a transposed dweight would pass.
        self.rng = np.random.default_rng([seed, 1])
        self.remarks = []
        self.dy = self.single = None

    def check(self, step=None):
        """The Report on every gradient that backward returns."""
        values = copied(self.given)
        y, cache = self.run(values)
        self.remarks += remarks_on("forward", snapshot(self.given, ""), snapshot(values, ""))
        self.single = not isinstance(y, tuple)
        parts = copied(as_outputs(y))
        if any(is_floating(x) for x in self.given.values()):  # without any, the complaint is that
            check_outputs(parts)
        self.dy = tuple(np.asarray(self.rng.standard_normal(part.shape)) for part in parts)
        size = float(sum(abs(part * d).sum() for part, d in zip(parts, self.dy)))
        returned = self.watched_backward(values, cache)
        analytic = {name: as_gradient(name, g) for name, g in returned.items()}
        self.look_for_state(cache, returned, analytic)
        self.finish(analytic)
        arrays = {name: x for name, x in self.given.items() if is_floating(x)}
        check_same(self.contract(parts), self.objective(arrays), size)
        report = compare(self.objective, arrays, analytic, self.method, self.rng, step, size=size)
        if self.method != "central":
            check_near(report, self.objective, self.gradients, arrays, self.rng, size)
        report.remarks[:0] = self.remarks
        return report

    def finish(self, analytic):
        """What else a kind of pair has to look at before its gradients are compared."""

    def run(self, values):
        """forward's y and cache; MinigptError where it does not return a pair."""
        made = self.forward(values)
        if not (isinstance(made, tuple) and len(made) == 2):
            kind = f"a tuple of {len(made)}" if isinstance(made, tuple) else kind_of(made)
            raise MinigptError(f"forward returned {kind}, it must return (y, cache), y an array or a tuple of arrays")
        return made

    def arriving(self, factor=1.0):
        """A copy of dy, or of a multiple, in the form of y."""
        dy = tuple(np.asarray(factor * d) for d in self.dy)
        return dy[0] if self.single else dy

    def contract(self, parts):
        """The sum of y * dy. MinigptError where y's shape has changed."""
        for part, d in zip(parts, self.dy, strict=True):
            if np.shape(part) != d.shape:
                shapes = f"{d.shape} at first and {np.shape(part)} later"
                raise MinigptError(f"forward returned y of shape {shapes}, it must depend on the inputs alone")
        return sum((part * d).sum() for part, d in zip(parts, self.dy))

    def objective(self, arrays):
        """The sum of y * dy for the arrays given in place of the inputs of those names."""
        y, _ = self.run({name: copied(arrays.get(name, x)) for name, x in self.given.items()})
        return self.contract(as_outputs(y))

    def gradients(self, arrays):
        """name -> gradient, for the arrays given in place of the inputs of those names."""
        _, cache = self.run({name: copied(arrays.get(name, x)) for name, x in self.given.items()})
        return self.backward(self.arriving(), cache)

    def watched_backward(self, values, cache):
        """What backward returns, with a remark for all that it writes into."""
        dy = self.arriving()
        things = (dy, "dy"), (cache, "cache"), (values, "")
        before = [snapshot(*thing) for thing in things]
        returned = self.backward(dy, cache)
        for then, thing in zip(before, things):
            self.remarks += remarks_on("backward", then, snapshot(*thing))
        return returned

    def look_for_state(self, cache, returned, analytic):
        """Remarks on what is kept between calls.

        MinigptError where the same forward and backward, run afresh, give another gradient.
        """
        say = self.remarks.append
        try:
            again = self.backward(self.arriving(), cache)
        except MinigptError:
            raise
        except Exception as error:  # whatever the reader's function raises
            say(f"a second backward on the same cache fails: {type(error).__name__}: {error}")
        else:
            for name in apart(analytic, again):
                say(f"a second backward on the same cache returns another gradient of {name}: it must be the same")
        for name in apart(analytic, self.gradients({})):
            raise MinigptError(
                f"backward is not deterministic: afresh, on equal inputs and dy, it returns another gradient of {name}"
            )
        among_others = self.interleaved()
        for name in [] if among_others is None else apart(analytic, among_others):
            say(f"a second forward changes the gradient of {name} that the first one's cache gives: it must hold all")
        self.remarks += overwritten(analytic, returned)

    def interleaved(self):
        """The gradients with another forward in between, on other numbers, and its backward after.

        None where forward or backward refuses the other numbers.
        """
        _, cache = self.run(copied(self.given))
        values = {name: np.asarray(x * 1.001) if is_floating(x) else copied(x) for name, x in self.given.items()}
        try:
            with np.errstate(all="ignore"):
                _, other = self.run(values)
                grads = copied(self.backward(self.arriving(), cache))
                self.backward(self.arriving(1.001), other)
        except Exception:  # whatever the reader's function raises
            return None
        return grads


def as_outputs(y):
    """y as a tuple of arrays."""
    return tuple(np.asarray(part) for part in (y if isinstance(y, tuple) else (y,)))


def check_outputs(parts):
    """MinigptError for a y that can't be contracted with a dy."""
    for i, part in enumerate(parts):
        name = f"y[{i}]" if len(parts) > 1 else "y"
        if part.dtype.kind != "f":
            what = f"{name} of dtype {part.dtype}"
            raise MinigptError(f"forward returned {what}, it must be a real, floating array, or a tuple of such arrays")
        check_values(f"forward's {name}", part)
    if not parts:
        raise MinigptError("forward returned an empty tuple for y, it must be an array or a tuple of arrays")


def overwritten(analytic, returned):
    """Remarks on the gradients that are not, any more, what they were when they were returned."""
    why = "lies in memory that a later call writes into: it must be an array of its own"
    return [f"the gradient of {name} {why}" for name in apart(analytic, returned)]


def apart(analytic, grads):
    """The names whose gradients differ by more than rounding."""
    for name, g in analytic.items():
        other = np.asarray(grads.get(name, np.nan), np.float64)
        if other.shape != g.shape or not np.array_equal(other, g, equal_nan=True):
            off = abs(other - g).max() if other.shape == g.shape else np.inf
            if not off <= ROUNDING * abs(g).max():
                yield name
