"""Analytic gradients compared with numeric ones, array by array."""

import math

import numpy as np

from minigpt.errors import MinigptError
from minigpt.gradcheck.cross_check import methods_gap, size_of
from minigpt.gradcheck.droppers import REMEDY, NotComplexSafe, find_dropper
from minigpt.gradcheck.handing import as_gradient
from minigpt.gradcheck.numeric import DERIVATIVES, STEP, central_difference, check_method, directions
from minigpt.gradcheck.report import GAP_LIMIT, LIMIT, Report, Row

ROUNDING = 1e-12  # what two calls at one point may differ by: arrays that lie differently in memory
UNDERFLOW = 1e-20  # a gradient of this part of the function's value is none


def compare(objective, arrays, analytic, method="complex", rng=None, step=None, progress=None, *, size=0.0):
    """Compare analytic gradients with numeric ones.

    objective: dict of name -> array to a number, of which each call is handed copies; analytic:
    name -> gradient, of some or all of the arrays; size: of the terms whose sum the number is,
    where that is larger than the number: it says how much rounding there is. -> Report. Errors as
    for check_gradients.
    """
    comparison = Comparison(objective, arrays, analytic, method, rng, step, size)
    for name in progress(analytic) if progress else analytic:
        comparison.compare(name)
    comparison.check_same()
    return comparison.report


class Comparison:
    """A function at a point, its gradients, and the report on those compared so far."""

    def __init__(self, objective, arrays, analytic, method, rng, step, size):
        self.methods, self.step, self.objective = check_method(method, step), step, objective
        self.rng = np.random.default_rng(0) if rng is None else rng
        self.arrays = {name: np.array(x) for name, x in arrays.items()}
        self.analytic = {name: as_gradient(name, g) for name, g in analytic.items()}
        if not analytic:
            raise MinigptError("there is no gradient to check")
        for name, g in self.analytic.items():
            if g.shape != self.arrays[name].shape:
                raise MinigptError(f"{name}: the gradient has shape {g.shape}, the array {self.arrays[name].shape}")
        self.start = self.value(self.arrays)
        self.size = max(size, abs(self.start))
        self.check_same()
        self.largest = max(float(abs(g).max()) for g in self.analytic.values())
        self.norms = {name: norm(g) for name, g in self.analytic.items()}
        self.report = Report(method=method)

    def value(self, arrays):
        """The function, on copies."""
        return self.objective({name: np.array(x) for name, x in arrays.items()})

    def check_same(self):
        """MinigptError where the value at the point is not what it was at first."""
        check_same(self.start, self.value(self.arrays), self.size)

    def compare(self, name):
        """Add the row of one array."""
        g = self.analytic[name]
        vs = list(directions(g, self.rng))
        off, steepest = {}, 0.0
        for method in self.methods:
            h = STEP[method] if self.step is None else self.step
            slopes = [DERIVATIVES[method](self.value, self.arrays, name, v, h) for v in vs]
            off[method] = [float(abs((g * v).sum() - slope)) for v, slope in zip(vs, slopes)]
            steepest = max(steepest, float(np.max(np.abs(slopes))))
        scale = max(float(abs(g).max()), 1e-3 * self.largest)
        if scale <= UNDERFLOW * self.size:  # zeros are wrong by all that there is, beyond rounding
            rounding = np.finfo(np.float64).eps * self.size / size_of(self.arrays[name])
            scale = steepest if steepest > rounding else 1.0
        errors = [float(np.max(off[method])) / scale for method in self.methods]  # np.max keeps a NaN, which fails
        central = errors[1] if len(errors) > 1 else None
        gap = None
        if self.methods[0] == "complex" and math.isfinite(self.norms[name]):
            along = [self.rng.standard_normal(g.shape)]
            if central is not None and not central <= LIMIT["central"]:
                along.append(vs[int(np.argmax(off["central"]))])
            gap = self.methods_gap(name, along)
            self.judge(name, [*along, *vs], errors[0], gap, scale)
        self.report.rows.append(Row(name, g.shape, self.norms[name], len(vs), errors[0], central, gap))

    def methods_gap(self, name, along):
        """How far complex step and central differences are apart; see cross_check.methods_gap."""
        finite = [norm for norm in self.norms.values() if math.isfinite(norm)]
        floor = max(self.norms[name], 1e-3 * max(finite))
        movable = list(self.analytic)
        return methods_gap(self.value, self.arrays, name, along, self.rng, movable, floor=floor, size=self.size)

    def judge(self, name, vs, error, gap, scale):
        """Say what a gap between the methods means.

        NotComplexSafe where the gradient differs from the complex step, which is no judge then; a
        remark where the gradient agrees with it, and so has lost what the forward lost.
        """
        say = self.report.remarks.append
        if gap is None:
            say(f"{name}: central differences can't confirm the complex step here: too rough, or refused")
        elif math.isnan(gap):
            say(f"{name}: central differences are not finite here")
        if gap is None or not gap > GAP_LIMIT:
            return
        loser = find_dropper(self.value, self.arrays, name, vs[0], STEP["complex"])
        loser = loser or "its forward function drops or conjugates the imaginary part"
        if error <= 1e3 * self.report.limit:
            say(
                f"{name}: the gradient agrees with the complex step, off by {error:.1e}, and central differences"
                f" contradict both by {gap:.1e}: {loser} of a path that backward leaves out as well, or forward is"
                f" not continuous here, or not the same for complex numbers; {REMEDY}"
            )
            return
        g = self.analytic[name]
        off = max(abs((g * v).sum() - central_difference(self.value, self.arrays, name, v)) for v in vs) / scale
        finding = "agrees with central differences" if off <= LIMIT["central"] else "is WRONG by central differences"
        raise NotComplexSafe(
            f"{name}: {loser}; the gradient {finding}, off by {off:.1e}, and by {error:.1e} from the complex step;"
            f" {REMEDY}"
        )


def norm(g):
    """The Euclidean norm, of numbers whose squares overflow as well."""
    largest = float(abs(g).max())
    return largest * math.sqrt(((g / largest) ** 2).sum()) if 0 < largest < math.inf else largest


def check_same(a, b, size=0.0):
    """MinigptError where two calls at one point differ by more than rounding."""
    if not abs(a - b) <= ROUNDING * max(abs(a), abs(b), size) and not (np.isnan(a) and np.isnan(b)):
        raise MinigptError(
            f"the function is not deterministic: two calls gave {a!r} and {b!r}; make its generator anew, from one"
            " seed, at each call"
        )
