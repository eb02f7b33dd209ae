"""Ways to get a wrong gradient past the checker, or a right one condemned, and what it says of
each.
"""

import re
import types

import numpy as np
import pytest

from minigpt import GPT, GPTConfig, MinigptError, check_gradients, check_op
from minigpt.gradcheck import GAP_LIMIT, NotComplexSafe, Report, Row, compare
from minigpt.ops import (
    ACTIVATIONS,
    layernorm_backward,
    layernorm_forward,
    linear_backward,
    linear_forward,
    rmsnorm_backward,
    rmsnorm_forward,
)

X = np.random.default_rng(0).standard_normal((3, 5))


def square(x):
    return x * x, x


def square_backward(dy, x):
    return 2 * x * dy


UNCONFIRMED = "input 0: central differences can't confirm the complex step here: too rough, or refused"


# Functions that write into what is not theirs


def leaky_relu(x):
    return x * np.where(x.real > 0, 1, 0.01), x


def relu_backward_in_place(dy, x):
    dy[x <= 0] = 0
    return dy


def square_backward_in_place(dy, x):
    dy *= 2 * x
    return dy


def square_backward_in_the_cache(dy, x):
    x *= 2
    x *= dy
    return x


@pytest.mark.parametrize("method", ["complex", "central", "both"])
def test_wrong_backward_that_writes_into_its_dy_is_wrong(method):
    report = check_op(leaky_relu, relu_backward_in_place, (X,), method)
    assert not report.passed and 1e-3 < report.max_error < 1e-1
    assert "WRONG" in str(report) and "remark: backward changed dy: it must leave it as it is" in str(report)


@pytest.mark.parametrize("method", ["complex", "central", "both"])
def test_right_backward_that_writes_into_its_dy_is_right_and_told_so(method):
    report = check_op(square, square_backward_in_place, (X,), method)
    assert report.passed and report.remarks == ["backward changed dy: it must leave it as it is"]


def test_backward_that_writes_into_its_cache_is_told_so():
    report = check_op(lambda x: (x * x, x.copy()), square_backward_in_the_cache, (X,))
    assert report.passed and "backward changed cache: it must leave it as it is" in report.remarks
    assert any(
        "second backward on the same cache returns another gradient of input 0" in remark for remark in report.remarks
    )
    named = check_op(
        lambda x: (x * x, {"x": [x.copy()]}), lambda dy, c: square_backward_in_the_cache(dy, c["x"][0]), (X,)
    )
    assert "backward changed cache['x'][0]: it must leave it as it is" in named.remarks


def test_backward_that_writes_into_an_input_by_way_of_its_cache_is_told_so():
    report = check_op(square, square_backward_in_the_cache, (X,))
    assert report.passed and "backward changed input 0: it must leave it as it is" in report.remarks


def test_backward_that_consumes_its_cache_is_told_so():
    report = check_op(lambda x: (x * x, [x]), lambda dy, cache: 2 * cache.pop() * dy, (X,))
    assert report.passed
    assert "a second backward on the same cache fails: IndexError: pop from empty list" in report.remarks


def normalise_in_place(x):
    norm = np.sqrt((x * x).sum())
    x /= norm
    return x, (x, norm)


def test_forward_that_works_in_place_is_judged_by_what_it_was_given():
    def forgets(dy, cache):
        y, _ = cache
        return dy - y * (y * dy).sum()

    def right(dy, cache):
        return forgets(dy, cache) / cache[1]

    wrong, good = check_op(normalise_in_place, forgets, (X,)), check_op(normalise_in_place, right, (X,))
    assert not wrong.passed and wrong.max_error > 0.1
    assert good.passed
    assert wrong.remarks == good.remarks == ["forward changed input 0: it must leave it as it is"]


def test_forward_that_doubles_in_place_is_deterministic():
    def double(x):
        x *= 2
        return x, None

    report = check_op(double, lambda dy, cache: 2 * dy, (X,))
    assert report.passed and report.remarks == ["forward changed input 0: it must leave it as it is"]


def test_integer_input_that_is_changed_is_told_so():
    def pick(w, ids):
        ids[0] += 1
        return w[ids], (w.shape, ids.copy())

    def backward(dy, cache):
        shape, ids = cache
        dw = np.zeros(shape)
        np.add.at(dw, ids, dy)
        return dw

    report = check_op(pick, backward, (X, np.array([0, 2])))
    assert report.passed and report.remarks == ["forward changed input 1: it must leave it as it is"]


def test_inputs_of_the_caller_are_left_alone():
    x, ids = X.copy(), np.array([0, 2])

    def vandal(x, ids):
        y = x[ids] * 1.0
        x[...], ids[...] = 0, 0
        return y, x

    check_op(vandal, lambda dy, x: np.concatenate([dy[:1], 0 * dy[:1], dy[1:]]), (x, ids))
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(ids, [0, 2])


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize(
    ("forward", "backward", "inputs"),
    [
        (lambda x: (x, None), lambda dy, c: dy, (X,)),  # output and gradient are what came in
        (lambda a, b: (a + b, None), lambda dy, c: (dy, dy), (X, 2 * X)),  # one array for two inputs
        (lambda a, b: (a * b, (a, b)), lambda dy, c: (dy * c[1], dy * c[0]), (X, X)),  # an array given twice
        (lambda a: (a * (a + 1), a), lambda dy, a: dy * (2 * a + 1), (X,)),  # an input used twice
        (lambda x: (x.reshape(5, 3).T, None), lambda dy, c: dy.T.reshape(3, 5), (X,)),  # views
        (square, square_backward, (X.T[::-1],)),
        (square, square_backward, (np.asfortranarray(X),)),
        (square, square_backward, (X.astype(np.float32),)),
        (square, square_backward, (np.array(1.5),)),
        (square, square_backward, (1.5,)),
        (square, lambda dy, x: float(2 * x * dy), (np.array(1.5),)),
        (square, square_backward, ([1.5, 2.5],)),
        (square, lambda dy, x: np.matrix(2 * x * dy), (X,)),
        (lambda x: (x * x, lambda dy: 2 * x * dy), lambda dy, cache: cache(dy), (X,)),  # a function for a cache
        (lambda x: ((x, x * x), x), lambda dy, x: dy[0] + 2 * x * dy[1], (X,)),
    ],
)
def test_right_ops_of_all_kinds_pass_without_a_remark(forward, backward, inputs):
    report = check_op(forward, backward, inputs)
    assert report.passed and report.remarks == [] and report.max_error < 1e-14, report


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_gradient_that_is_a_matrix_is_compared_number_by_number():
    assert not check_op(square, lambda dy, x: np.matrix((2 * x * dy)[::-1]), (X,)).passed


# State between calls


def test_buffer_that_backward_returns_again_and_again_is_told_so():
    buffer = np.empty_like(X)

    def backward(dy, x):
        buffer[...] = 2 * x * dy
        return buffer

    report = check_op(square, backward, (X,))
    assert (
        report.passed
        and len(report.remarks) == 1
        and "gradient of input 0 lies in memory that a later call writes into" in report.remarks[0]
    )


def test_cache_that_the_next_forward_overwrites_is_told_so():
    kept = np.empty(X.shape, complex)

    def forward(x):
        kept[...] = x
        return x * x, kept

    report = check_op(forward, lambda dy, cache: 2 * cache.real * dy, (X,))
    assert report.passed and any(
        "a second forward changes the gradient of input 0" in remark for remark in report.remarks
    )


def test_forward_that_counts_its_calls_is_not_deterministic():
    state = types.SimpleNamespace(calls=0)

    def forward(x):
        state.calls += 1
        return (x * x if state.calls == 1 else 3 * x), x

    with pytest.raises(MinigptError, match="not deterministic: two calls gave"):
        check_op(forward, square_backward, (X,))


def test_forward_that_backward_switches_over_is_not_deterministic():
    state = types.SimpleNamespace(frozen=False)

    def forward(x):
        return (x if state.frozen else x * x), x

    def backward(dy, x):
        state.frozen = True
        return 1 * dy

    with pytest.raises(MinigptError, match="not deterministic"):
        check_op(forward, backward, (X,))


def test_backward_that_is_right_once_is_not_deterministic():
    state = types.SimpleNamespace(calls=0)

    def backward(dy, x):
        state.calls += 1
        return (2 if state.calls == 1 else 3) * x * dy

    with pytest.raises(MinigptError, match=r"backward is not deterministic: .* another gradient of input 0"):
        check_op(square, backward, (X,))


def test_shape_of_y_that_changes_is_refused():
    with pytest.raises(MinigptError, match=r"forward returned y of shape \(3, 5\) at first and \(5,\) later"):
        check_op(lambda x: ((x if np.isrealobj(x) else x[0]), None), lambda dy, c: dy, (X,))


# Forwards that the complex step does not see whole

DROPS = {
    "deviation": (lambda x: (x / x.std(), x), lambda dy, x: dy / x.std()),
    "detached factor": (lambda x: (x * x.real, x), lambda dy, x: dy * x),
    "two wrong signs": (lambda x: (2 * x.conj(), x), lambda dy, x: -2 * dy),
    "another function for complex": (lambda x: ((2 if np.isrealobj(x) else 3) * x, x), lambda dy, x: 3 * dy),
    "straight through": (lambda x: (x + (np.round(x.real) - x.real), x), lambda dy, x: dy),
    "all of it": (lambda x: (x.real * x.real, x), lambda dy, x: 0 * dy),
    "one number of fifteen": (lambda x: (np.where(np.arange(15).reshape(3, 5) == 7, x.real, x) ** 2, x),
                              lambda dy, x: 2 * x * dy * (np.arange(15).reshape(3, 5) != 7)),
    "under an offset": (lambda x: (1e6 + x / x.std(), x), lambda dy, x: dy / x.std()),
}  # fmt: skip


@pytest.mark.parametrize("method", ["complex", "both"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("kind", DROPS)
def test_path_that_forward_drops_and_backward_forgets_is_found(kind, scale, method):
    if kind in ("straight through", "under an offset") and scale != 1:
        pytest.skip("another function at other sizes")
    report = check_op(*DROPS[kind], (scale * X,), method)
    assert not report.passed and report.rows[0].gap > 1e-4 and report.max_error < 1e-13
    assert (
        "METHODS DISAGREE" in str(report)
        and "complex step and central differences disagree: input 0 by" in report.summary
    )
    assert len(report.remarks) == 1 and "central differences contradict both" in report.remarks[0]
    assert not check_op(*DROPS[kind], (scale * X,), "complex", seed=5).passed


def test_dropped_path_is_named():
    assert re.search(r"_var|std", check_op(*DROPS["deviation"], (X,)).remarks[0])


@pytest.mark.parametrize("seed", range(20))
def test_dropped_path_in_a_large_array_is_found(seed):
    x = np.random.default_rng(seed).standard_normal((100, 300))
    assert not check_op(*DROPS["deviation"], (x,), seed=seed).passed


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    "x",
    [
        np.random.default_rng(1).integers(-2, 3, (40, 30)).astype(float),  # a kink in every fifth number
        np.random.default_rng(1).standard_normal((300, 300)),  # some within a step of it
        1e-9 * np.random.default_rng(1).standard_normal((4, 5)),
        1e9 * np.random.default_rng(1).standard_normal((4, 5)),
        np.concatenate([[-1e-9], -np.arange(1.0, 9.0)]),
        np.zeros(4),
    ],
    ids=["integers", "many", "tiny", "huge", "beside", "zeros"],
)
def test_kinks_are_no_disagreement(x, seed):
    report = check_op(*ACTIVATIONS["relu"], (x,), "both" if seed % 2 else "complex", seed=seed)
    assert report.passed and not report.remarks, report


@pytest.mark.parametrize("seed", range(10))
def test_border_of_a_domain_is_no_disagreement(seed):
    x = np.array([0.0, 1.0, 2.0, 3.0])
    with np.errstate(invalid="ignore"):
        assert check_op(lambda x: (x**1.5, x), lambda dy, x: 1.5 * np.sqrt(x) * dy, (x,), seed=seed).passed


def test_where_central_differences_are_too_rough_a_remark_says_so():
    """A gradient of 1e-9 under numbers of 1e9 drowns in their rounding."""
    report = check_op(lambda x: (1e9 + 1e-9 * x, x), lambda dy, x: 1e-9 * dy, (X,))
    assert report.passed and report.remarks == [UNCONFIRMED]
    assert report.rows[0].gap is None


def test_not_complex_safe_says_what_was_measured():
    def cube(x):
        return np.abs(x) ** 3, x

    def backward(factor):
        return lambda dy, x: factor * 3 * x * np.abs(x) * dy

    with pytest.raises(
        NotComplexSafe,
        match=r"cube .* drops the imaginary part; the gradient agrees with central differences, off by .\..e-(09|1.)",
    ):
        check_op(cube, backward(1.0), (X,))
    with pytest.raises(
        NotComplexSafe,
        match=r"gradient is WRONG by central differences, off by (9\.0|8\.9)e-03, and by 1\.0e\+00 from the complex",
    ):
        check_op(cube, backward(1.009), (X,))
    with pytest.raises(NotComplexSafe, match=r"the gradient is WRONG by central differences, off by 5\.0e-01"):
        check_op(cube, backward(2.0), (X,))


def test_gap_fails_a_report_by_itself():
    rows = [Row("a", (2,), 1.0, 2, 1e-16, None, 1e-9), Row("b", (2,), 1.0, 2, 1e-16, None, 1e-3)]
    assert Report(rows[:1]).passed and not Report(rows).passed
    assert [line[-1] for line in Report(rows).table()[1:]] == ["ok", "METHODS DISAGREE"]
    assert Report(rows).summary.startswith(
        "NOT all gradients agree (complex step and central differences disagree: b by 1.0e-03)"
    )
    assert not Report([rows[0]._replace(gap=np.nan)]).passed
    assert Report([rows[0]._replace(gap=None)]).passed and Report([rows[0]._replace(gap=GAP_LIMIT)]).passed
    assert not Report([]).passed


# Numbers that hide


def test_gradient_of_zeros_is_wrong_however_small_the_right_one_is():
    assert not check_op(lambda x: (1e-15 * x, x), lambda dy, x: 0 * dy, (X,)).passed
    assert not check_op(
        lambda x, w: (1e-15 * x * w, (x, w)), lambda dy, c: (0 * dy, 1e-15 * dy * c[0]), (X, 2 * X)
    ).passed
    assert check_op(lambda x: (0 * x, x), lambda dy, x: 0 * dy, (X,)).passed


@pytest.mark.parametrize("seed", range(30))
def test_two_entries_of_a_large_gradient_swapped_are_found(seed):
    def swapped(dy, x):
        dx = 2 * x * dy
        dx.flat[[3, 4]] = dx.flat[[4, 3]]
        return dx

    assert not check_op(square, swapped, (np.random.default_rng(7).standard_normal((90, 50)),), seed=seed).passed


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_gradient_that_is_not_finite_is_wrong(value):
    def backward(dy, x):
        dx = 2 * x * dy
        dx[1, 2] = value
        return dx

    with np.errstate(invalid="ignore"):
        report = check_op(square, backward, (X,))
    assert not report.passed and "WRONG" in str(report)


# What is handed over by mistake

MISTAKES = {
    "no cache": (lambda x: x * x, square_backward, (X,), r"forward returned a ndarray, it must return \(y, cache\)"),
    "no cache, two rows": (lambda x: x * x, square_backward, (X[:2],),
                           r"forward returned a ndarray, it must return \(y, cache\)"),
    "three": (lambda x: (x, x, x), square_backward, (X,),
              r"forward returned a tuple of 3, it must return \(y, cache\)"),
    "nothing": (lambda x: None, square_backward, (X,), r"forward returned None, it must return \(y, cache\)"),
    "list of gradients": (square, lambda dy, x: [2 * x * dy], (X,),
                          "backward returned a list, it must return an array, or a tuple"),
    "dict of gradients": (square, lambda dy, x: {"x": 2 * x * dy}, (X,),
                          "backward returned a dict, it must return an array, or a tuple"),
    "no gradient": (square, lambda dy, x: None, (X,), "backward returned None, it must return an array, or a tuple"),
    "bare array": (square, square_backward, X,
                   r"inputs is an array, it must be a tuple of arrays, such as \(x,\) for one"),
    "float": (square, square_backward, 1.5, "inputs is a float, it must be a tuple of arrays"),
    "None": (square, square_backward, None, "inputs is None, it must be a tuple of arrays"),
    "text": (square, square_backward, "x", "inputs is a str, it must be a tuple of arrays"),
    "dict": (square, square_backward, {"x": X}, "inputs is a dict, it must be a tuple of arrays"),
    "tuple of text": (square, square_backward, ("x",), r"inputs holds no array \(str\), it must be a tuple of arrays"),
    "empty": (square, square_backward, (), r"inputs holds no array \(nothing\), it must be a tuple of arrays"),
    "tuple of None": (square, square_backward, (None,),
                      r"inputs holds no array \(NoneType\), it must be a tuple of arrays"),
    "y None": (lambda x: (None, x), square_backward, (X,),
               "forward returned y of dtype object, it must be a real, floating array"),
    "y dict": (lambda x: ({"y": x}, x), square_backward, (X,),
               "forward returned y of dtype object, it must be a real, floating array"),
    "y of integers": (lambda x: (np.sign(x).astype(int), x), square_backward, (X,),
                      "forward returned y of dtype int64, it must be a real, floating"),
    "y complex": (lambda x: (1j * x, x), square_backward, (X,),
                  "forward returned y of dtype complex128, it must be a real, floating array"),
    "y not finite": (lambda x: (x * np.nan, x), square_backward, (X,),
                     "forward's y holds 15 values that are not finite"),
    "second y": (lambda x: ((x, x > 0), x), lambda dy, x: dy[0], (X,), r"forward returned y\[1\] of dtype bool"),
    "complex gradient": (square, lambda dy, x: 2j * x * dy, (X,),
                         "input 0: the gradient has dtype complex128, it must be real and floating"),
    "gradient of integers": (square, lambda dy, x: np.ones((3, 5), int), (X,),
                             "input 0: the gradient has dtype int64, it must be real and floating"),
    "gradient of text": (square, lambda dy, x: ("dx",), (X,),
                         "input 0: the gradient is of type str, it must be a floating array"),
    "gradient a float": (square, lambda dy, x: 2.0, (X,), r"input 0: the gradient has shape \(\), the array \(3, 5\)"),
    "forward no function": ("square", square_backward, (X,), "forward is a str, it must be a function"),
    "backward no function": (square, None, (X,), "backward is None, it must be a function"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MISTAKES)
def test_mistake_is_answered_in_a_line_that_says_what_is_expected(kind):
    *arguments, message = MISTAKES[kind]
    with pytest.raises(MinigptError, match=message) as caught:
        check_op(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("step", [0, -1e-3, np.nan, "1e-3"])
def test_step_that_is_none_is_refused(step):
    with pytest.raises(MinigptError, match=r"step is .* it must be a number above 0"):
        check_op(square, square_backward, (X,), step=step)


def test_compare_hands_copies_to_the_objective():
    def objective(a):
        total = (a["x"] * a["x"]).sum()
        a["x"] *= 0
        return total

    arrays = {"x": X.copy()}
    assert compare(objective, arrays, {"x": 2 * X}, "both", np.random.default_rng(1)).passed
    np.testing.assert_array_equal(arrays["x"], X)
    with pytest.raises(MinigptError, match="there is no gradient to check"):
        compare(objective, arrays, {}, "complex", np.random.default_rng(1))


# Models


class Quadratic:
    """A model with the loss sum(w x)^2, x a batch's or the ids."""

    def __init__(self, **parameters):
        self.parameters = parameters or {"w": np.array([1.0, -2.0, 3.0]), "b": np.array([0.5])}

    @property
    def num_parameters(self):
        return sum(value.size for value in self.parameters.values())

    def astype(self, dtype):
        return type(self)(**{name: value.astype(dtype) for name, value in self.parameters.items()})

    def residual(self, ids, targets=None):
        x, y = (ids["x"], ids["y"]) if targets is None else (ids, targets)
        return self.parameters["w"] * x + self.parameters["b"] - y

    def loss(self, ids, targets=None, rng=None):
        r = self.residual(ids, targets)
        return (r * r).sum()

    def loss_and_grads(self, ids, targets=None, rng=None):
        r, x = self.residual(ids, targets), np.asarray(ids["x"] if targets is None else ids)
        return (r * r).sum(), {"w": 2 * r * x, "b": np.array([2 * r.sum()])}


IDS, TARGETS = np.array([1, 2, 3]), np.array([3, 1, 2])
BATCH = {"x": IDS, "y": TARGETS}


@pytest.mark.parametrize("arguments", [(IDS, TARGETS), (BATCH,)], ids=["ids and targets", "batch"])
def test_model_is_checked_with_either_kind_of_batch(arguments):
    report = check_gradients(Quadratic(), *arguments, dropout_seed=1)
    assert report.passed and report.remarks == [] and [row.name for row in report.rows] == ["w", "b"]


def test_batch_or_ids_and_targets_are_asked_for():
    with pytest.raises(MinigptError, match="a batch has its targets in it"):
        check_gradients(Quadratic(), BATCH, TARGETS)
    with pytest.raises(MinigptError, match="targets are missing"):
        check_gradients(Quadratic(), IDS)


def variant(**methods):
    return type("Variant", (Quadratic,), methods)()


def test_model_that_changes_its_parameters_is_told_so():
    def loss(self, *args, **kwargs):
        value = Quadratic.loss(self, *args, **kwargs)
        self.parameters["w"][...] *= 2
        return value

    def loss_and_grads(self, *args, **kwargs):
        made = Quadratic.loss_and_grads(self, *args, **kwargs)
        self.parameters["b"][...] = 7
        return made

    model = variant(loss=loss, loss_and_grads=loss_and_grads)
    report = check_gradients(model, IDS, TARGETS)
    assert report.passed
    assert report.remarks == [
        "loss_and_grads changed b: it must leave it as it is",
        "loss changed w: it must leave it as it is",
    ]
    np.testing.assert_array_equal(model.parameters["w"], Quadratic().parameters["w"])


def test_model_that_changes_its_batch_is_told_so():
    def loss_and_grads(self, batch, rng=None):
        made = Quadratic.loss_and_grads(self, batch)
        batch["y"][0] = 0
        return made

    batch = {name: value.copy() for name, value in BATCH.items()}
    report = check_gradients(variant(loss_and_grads=loss_and_grads), batch)
    assert report.passed and report.remarks == ["loss_and_grads changed batch[0]['y']: it must leave it as it is"]
    np.testing.assert_array_equal(batch["y"], TARGETS)


def test_model_that_drops_a_path_and_forgets_it_is_found():
    def residual(self, ids, targets=None):
        return self.parameters["w"] * ids + self.parameters["b"].real - targets

    def loss_and_grads(self, ids, targets, rng=None):
        loss, grads = Quadratic.loss_and_grads(self, ids, targets)
        return loss, {**grads, "b": np.zeros(1)}

    report = check_gradients(variant(residual=residual, loss_and_grads=loss_and_grads), IDS, TARGETS)
    assert not report.passed and [report.verdict(row) for row in report.rows] == ["ok", "METHODS DISAGREE"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda loss, grads: (loss, {"w": grads["w"]}), "loss_and_grads: no gradient of b"),
        (
            lambda loss, grads: (loss, {**grads, "c": grads["b"]}),
            "loss_and_grads: a gradient of c, which is no parameter",
        ),
        (lambda loss, grads: (2 * loss, grads), "loss_and_grads gives a loss of .* and loss one of"),
        (lambda loss, grads: (loss, list(grads)), "loss_and_grads returned a tuple, it must return"),
        (lambda loss, grads: grads, "loss_and_grads returned a dict, it must return"),
        (
            lambda loss, grads: (loss, {**grads, "b": np.random.default_rng().standard_normal(1)}),
            "not deterministic: .* different gradients of b",
        ),
        (
            lambda loss, grads: (loss, {**grads, "b": [1.0]}),
            "b: the gradient is of type list, it must be a floating array",
        ),
    ],
)
def test_model_whose_gradients_are_no_gradients_is_refused(change, message):
    model = variant(loss_and_grads=lambda self, *args: change(*Quadratic.loss_and_grads(self, *args)))
    with pytest.raises(MinigptError, match=message):
        check_gradients(model, IDS, TARGETS)


def test_model_whose_copy_is_no_copy_is_refused():
    with pytest.raises(MinigptError, match=r"model\.astype returned a model with the same parameters"):
        check_gradients(variant(astype=lambda self, dtype: self), IDS, TARGETS)


def test_model_that_returns_its_gradients_in_one_buffer_is_told_so():
    buffer = {"w": np.empty(3), "b": np.empty(1)}

    def loss_and_grads(self, *args):
        loss, grads = Quadratic.loss_and_grads(self, *args)
        for name, g in grads.items():
            buffer[name][...] = g
        return loss, buffer

    report = check_gradients(variant(loss_and_grads=loss_and_grads), IDS, TARGETS)
    assert report.passed and [remark.split(" lies")[0] for remark in report.remarks] == [
        "the gradient of w",
        "the gradient of b",
    ]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_no_false_alarm_over_models(activation, seed):
    rng = np.random.default_rng(seed)
    config = GPTConfig(vocab_size=11, block_size=7, n_layer=2, n_head=2, n_embd=6, dropout=0.2, activation=activation)
    model = GPT(config, seed=seed, dtype=np.float64)
    if seed:
        std = 0.02 if seed == 2 else 0.7  # at 0.02 all gradients are small beside the loss
        model.store.vector[:] = std * rng.standard_normal(model.num_parameters)
    report = check_gradients(model, *rng.integers(0, 11, (2, 3, 5)), "both", seed, dropout_seed=seed)
    assert report.passed and not report.remarks, report
    assert max(row.gap for row in report.rows) < GAP_LIMIT


# Numbers that hide mistakes


def layernorm_without_its_weight(dy, cache, **options):
    dx, _, _ = layernorm_backward(dy, cache._replace(weight=np.ones_like(cache.weight)), **options)
    return dx, *layernorm_backward(dy, cache, **options)[1:]


HIDDEN = {
    "ones": (layernorm_forward, layernorm_without_its_weight, (X, np.ones(5), np.zeros(5)), [0]),
    "zeros": (square, lambda dy, x: 5 * x * dy, (np.zeros(3),), [0]),
    "equal arrays": (lambda a, b: (a * b, (a, b)), lambda dy, c: (dy * c[0], dy * c[1]), (X, X), [0, 1]),
    "identity": (lambda w: (w @ w, w), lambda dy, w: dy @ w + w @ dy, (np.eye(4),), [0]),
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_numbers_that_hide_a_mistake_are_told_of(kind):
    forward, backward, inputs, hidden = HIDDEN[kind]
    report = check_op(forward, backward, inputs)
    assert report.passed and [remark.split(":")[0] for remark in report.remarks] == [f"input {i}" for i in hidden]
    assert all("right for the numbers given and off by" in remark for remark in report.remarks)
    rng = np.random.default_rng(4)
    assert not check_op(forward, backward, tuple(rng.standard_normal(x.shape) for x in inputs)).passed


def test_fresh_model_that_hides_a_mistake_is_told_of(rng, monkeypatch):
    monkeypatch.setattr("minigpt.layers.norm.layernorm_backward", layernorm_without_its_weight)
    model = GPT(GPTConfig(7, 5, 1, 2, 4), dtype=np.float64)
    ids = rng.integers(0, 7, (2, 5))
    report = check_gradients(model, ids, ids)
    assert report.passed and any(
        remark.startswith("wte.weight: the gradient is right for the numbers given") for remark in report.remarks
    )
    model.store.vector[:] = rng.standard_normal(model.num_parameters)
    assert not check_gradients(model, ids, ids).passed


def test_point_that_the_functions_refuse_is_not_asked_of():
    def forward(p):
        if not abs(p.real.sum() - 1) < 1e-9:
            raise ValueError("these must sum to one")
        return p * p, p

    def backward(dy, p):
        return 2 * p * dy

    report = check_op(forward, backward, (np.full(4, 0.25),))
    assert report.passed and report.remarks == [UNCONFIRMED]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 30.0, 1e4, 1e9])
@pytest.mark.parametrize("name", [*ACTIVATIONS, "layernorm", "rmsnorm", "linear"])
def test_no_false_alarm_over_ops_of_all_sizes(name, scale, seed):
    rng = np.random.default_rng(seed)
    x, weight, bias = scale * rng.standard_normal((4, 7)), rng.standard_normal((7, 7)), rng.standard_normal(7)
    pairs = {
        "layernorm": (layernorm_forward, layernorm_backward, (x, weight[0], bias)),
        "rmsnorm": (rmsnorm_forward, rmsnorm_backward, (x, weight[0])),
        "linear": (linear_forward, linear_backward, (x, weight, bias)),
    }
    report = check_op(*pairs.get(name) or (*ACTIVATIONS[name], (x,)), seed=seed)
    assert report.passed and not report.remarks, report


@pytest.mark.parametrize("size", [1e2, 1e4, 1e6])
def test_dropped_path_beside_much_larger_gradients_is_found(size):
    """Steps so small that rounding drowns them must not pass for agreement."""
    report = check_op(lambda a, b: (size * a + b.real * b.real, b), lambda dy, b: (size * dy, 0 * dy), (X, X + 1))
    assert [report.verdict(row) for row in report.rows] == ["ok", "METHODS DISAGREE"]


def test_forward_that_refuses_complex_numbers_is_not_complex_safe():
    def forward(x):
        if np.iscomplexobj(x):
            raise ValueError("real numbers only")
        return x * x, x

    with pytest.raises(NotComplexSafe, match=r"forward .* can't take complex input: real numbers only"):
        check_op(forward, square_backward, (X,))
    assert check_op(forward, square_backward, (X,), "central").passed


@pytest.mark.parametrize("seed", [None, "a", -1, 1.5])
def test_seed_that_is_none_is_refused(seed):
    with pytest.raises(MinigptError, match=r"seed is .* it must be a whole number"):
        check_op(square, square_backward, (X,), seed=seed)
    with pytest.raises(MinigptError, match=r"seed is .* it must be a whole number"):
        check_gradients(Quadratic(), IDS, TARGETS, seed=seed)


def test_gradient_whose_square_overflows_is_compared():
    x = np.array([700.0, 1.0])
    report = check_op(lambda x: (np.exp(x), x), lambda dy, x: np.exp(x) * dy, (x,))
    assert report.passed and np.isfinite(report.rows[0].norm) and report.rows[0].gap is not None
