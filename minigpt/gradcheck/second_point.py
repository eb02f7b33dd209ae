"""A second look, at a point near by, for mistakes that the numbers given hide.

Where a weight is all ones, a backward that forgets it is right; where a bias or x is zero, so is
one that forgets whatever they multiply; where two inputs are equal, one that swaps their gradients.
The point near by has no such numbers in it.
"""

import numpy as np

from minigpt.gradcheck.cross_check import NEAR, NOISE, moved, size_of
from minigpt.gradcheck.handing import as_gradient
from minigpt.gradcheck.numeric import complex_step

NEAR_LIMIT = 1e-9  # of an error there: along one direction, of the gradient's size


def check_near(report, value, gradients, arrays, rng, size):
    """Compare, along one direction of each array, gradient and complex step at a point near by.

    value: dict of arrays -> number; gradients: dict of arrays -> name -> gradient. A row that is ok
    and wrong there gets a remark, and no verdict: the gradient is right for the numbers given, and
    a backward may stand in a notebook beside the one array that it is written for. Nothing is said
    of a point that the functions can't be run at, as beyond the border of a domain.
    """
    names = [row.name for row in report.rows]
    near = {**arrays, **{name: moved(arrays[name], rng) for name in names}}
    with np.errstate(all="ignore"):
        try:
            grads = {name: as_gradient(name, g) for name, g in gradients(near).items()}
        except Exception:  # whatever the reader's functions raise where they were not asked to run
            return
        norms = {name: float(np.sqrt((g * g).sum())) for name, g in grads.items()}
        floor = 1e-3 * np.nanmax([0.0, *norms.values()])
        for row in report.rows:
            v = rng.standard_normal(row.shape)
            slope = complex_step(value, near, row.name, v)
            if report.verdict(row) != "ok" or not np.isfinite(slope):
                continue
            off = abs((grads[row.name] * v).sum() - slope) - NOISE * size / size_of(near[row.name])
            error = float(off / (max(norms[row.name], floor, abs(slope)) or 1.0))
            if not error <= NEAR_LIMIT:
                report.remarks.append(
                    f"{row.name}: the gradient is right for the numbers given and off by {error:.1e} for others"
                    f" {NEAR:.1%} from them: check with random numbers, ones, zeros and equal arrays hide mistakes"
                )
