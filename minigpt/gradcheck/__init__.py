"""Proof that a backward pass is the derivative of its forward pass.

Two methods. The complex step, Im f(x + i h v) / h, has no subtraction and so no cancellation: with
h = 1e-30 it is exact to rounding, 14 to 15 digits (Squire and Trapp 1998, "Using complex variables
to estimate derivatives of real functions"). The central difference, (f(x + h v) - f(x - h v)) / 2h,
needs no complex numbers and reaches 7 to 10 digits; it confirms the complex step, which sees only
what a forward lets through of the imaginary part.

Errors are measured as: largest error divided by the larger of this array's largest gradient and
1e-3 of the largest of them all.

    handing      copies for the functions under test, and what they changed of these
    report       rows, verdicts, remarks
    numeric      both derivatives
    cross_check  whether the two methods agree
    comparison   gradients compared with numeric ones
    second_point whether gradients are right near by as well
    pair         a forward with its backward; op, layer and model are what a reader calls
"""

from minigpt.gradcheck.comparison import compare
from minigpt.gradcheck.droppers import NotComplexSafe
from minigpt.gradcheck.handing import is_floating
from minigpt.gradcheck.layer import LayerFunction, check_layer, random_store
from minigpt.gradcheck.model import Losses, check_gradients, errors_by_step
from minigpt.gradcheck.numeric import STEP, central_difference, complex_step
from minigpt.gradcheck.op import check_op
from minigpt.gradcheck.report import GAP_LIMIT, LIMIT, Report, Row

__all__ = [
    "GAP_LIMIT",
    "LIMIT",
    "STEP",
    "LayerFunction",
    "Losses",
    "NotComplexSafe",
    "Report",
    "Row",
    "central_difference",
    "check_gradients",
    "check_layer",
    "check_op",
    "compare",
    "complex_step",
    "errors_by_step",
    "is_floating",
    "random_store",
]
