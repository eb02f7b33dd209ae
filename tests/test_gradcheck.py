import math

import numpy as np
import pytest

from minigpt import GPT, GPTConfig, MinigptError, check_gradients, check_op
from minigpt.gradcheck import NotComplexSafe, Report, Row, compare, errors_by_step
from minigpt.ops import (
    embedding_backward,
    embedding_forward,
    layernorm_backward,
    layernorm_forward,
    linear_backward,
    linear_forward,
)
from minigpt.pages.gradcheck import html_page

METHODS = pytest.mark.parametrize("method", ["complex", "central"])


@pytest.fixture
def inputs(rng):
    """x, weight and bias of a linear map;
    the weight has more than 64 numbers, so it is checked by samples.
    """
    return rng.standard_normal((3, 11)), rng.standard_normal((11, 11)), rng.standard_normal(11)


@METHODS
def test_check_op_passes_what_is_right(method, inputs):
    report = check_op(linear_forward, linear_backward, inputs, method)
    assert report.passed and report.max_error < (1e-14 if method == "complex" else 1e-8)
    assert [row.name for row in report.rows] == ["input 0", "input 1", "input 2"]
    assert [row.shape for row in report.rows] == [(3, 11), (11, 11), (11,)]
    assert [row.checks for row in report.rows] == [33, 16, 11]


BUGS = {
    "scale": lambda dx, dw, db: (dx, 1.001 * dw, db),
    "sign": lambda dx, dw, db: (-dx, dw, db),
    "missing term": lambda dx, dw, db: (dx, dw, np.zeros_like(db)),
    "transposed": lambda dx, dw, db: (dx, dw.T, db),
    "one row off": lambda dx, dw, db: (np.roll(dx, 1, axis=0), dw, db),
    "one number off": lambda dx, dw, db: (dx + 1e-3 * (np.arange(33) == 17).reshape(3, 11), dw, db),
    "tiny": lambda dx, dw, db: (dx, dw, db * (1 + 1e-12)),
    "not finite": lambda dx, dw, db: (dx, dw, np.where(np.arange(11) == 3, np.nan, db)),
}


@METHODS
@pytest.mark.parametrize("bug", BUGS)
def test_check_op_finds_a_planted_bug(bug, method, inputs):
    if bug == "tiny" and method == "central":
        pytest.skip("below what a central difference can see")
    report = check_op(linear_forward, lambda dy, cache: BUGS[bug](*linear_backward(dy, cache)), inputs, method)
    assert not report.passed
    assert not report.max_error < report.limit
    assert "WRONG" in str(report) and "NOT all gradients agree" in str(report)


def test_check_op_finds_a_missing_projection_in_layernorm(rng):
    """dx without the term through the variance: nearly right, and wrong."""

    def backward(dy, cache):
        dxhat = dy * cache.weight
        return ((dxhat - dxhat.mean(-1, keepdims=True)) * cache.rstd, *layernorm_backward(dy, cache)[1:])

    inputs = rng.standard_normal((2, 3, 5)), rng.standard_normal(5), rng.standard_normal(5)
    assert check_op(layernorm_forward, layernorm_backward, inputs).passed
    assert [row.error < 1e-13 for row in check_op(layernorm_forward, backward, inputs).rows] == [False, True, True]


def test_check_op_takes_several_outputs(rng):
    def forward(a, b):
        return (a * b, b * b), (a, b)

    def backward(dy, cache):
        a, b = cache
        return dy[0] * b, dy[0] * a + 2 * b * dy[1]

    inputs = tuple(rng.standard_normal((2, 3, 5)))[:2]
    assert check_op(forward, backward, inputs).max_error < 1e-14
    assert not check_op(forward, lambda dy, c: (dy[0] * c[1], dy[0] * c[0]), inputs).passed


def test_check_op_takes_a_single_gradient_scalars_and_float32(rng):
    assert check_op(lambda x: (np.exp(x), np.exp(x)), lambda dy, y: dy * y, (np.float32([1, 2]),)).max_error < 1e-14
    assert check_op(
        lambda x, s: ((x * s).sum(), (x, s)), lambda dy, c: (dy * c[1] * np.ones(3), dy * c[0].sum()), (np.ones(3), 2.0)
    ).passed


def test_check_op_passes_ids_through(rng):
    ids = np.array([1, 4, 1])
    report = check_op(lambda w, i: embedding_forward(i, w), embedding_backward, (rng.standard_normal((5, 3)), ids))
    assert [row.name for row in report.rows] == ["input 0"] and report.passed


@METHODS
@pytest.mark.parametrize("bad", [np.zeros((0, 3)), np.array([1.0, np.nan]), np.array([np.inf])])
def test_check_op_refuses_empty_and_not_finite_input(bad, method):
    with pytest.raises(MinigptError, match=r"input 1 (is empty|holds 1 values that are not finite)"):
        check_op(lambda a, b: (a, None), lambda dy, c: (dy, None), (np.ones(2), bad), method)


def test_check_op_refuses_a_wrong_number_of_gradients(inputs, rng):
    with pytest.raises(MinigptError, match="4 gradients for 3 inputs"):
        check_op(linear_forward, lambda dy, c: (*linear_backward(dy, c), None), inputs)
    with pytest.raises(MinigptError, match="2 gradients and none for input 2"):
        check_op(linear_forward, lambda dy, c: linear_backward(dy, c)[:2], inputs)
    # the weight comes second: dweight would be taken for that of ids
    with pytest.raises(MinigptError, match="1 gradients and none for input 1"):
        check_op(embedding_forward, embedding_backward, (np.array([1, 2]), rng.standard_normal((5, 3))))
    with pytest.raises(MinigptError, match="nothing to check"):
        check_op(linear_forward, lambda dy, c: (None, None, None), inputs)


def test_check_op_refuses_a_wrong_shape(rng):
    with pytest.raises(MinigptError, match=r"input 0: the gradient has shape \(3, 2\), the array \(2, 3\)"):
        check_op(lambda x: (x * x, x), lambda dy, x: (2 * dy * x).T, (rng.standard_normal((2, 3)),))


def test_check_op_refuses_an_unknown_method():
    with pytest.raises(MinigptError, match="method is 'exact', it must be one of complex, central"):
        check_op(lambda x: (x, None), lambda dy, c: dy, (np.ones(2),), "exact")


def test_check_op_leaves_its_inputs_alone(inputs):
    before = [x.copy() for x in inputs]
    check_op(linear_forward, linear_backward, inputs)
    for x, y in zip(inputs, before):
        np.testing.assert_array_equal(x, y)


def test_error_is_measured_against_the_largest_gradient(rng):
    """Rounding in an array whose gradient is zero in theory is compared with 1e-3 of the
    model's largest gradient.
    """
    arrays = {"big": np.array([3.0]), "zero": np.array([1.0])}
    analytic = {"big": np.array([6.0]), "zero": np.array([6e-14])}
    report = compare(lambda a: (a["big"] * a["big"]).sum(), arrays, analytic, "complex", rng)
    assert [row.error for row in report.rows] == [0, pytest.approx(6e-14 / 6e-3)]


def test_one_nan_among_the_numeric_derivatives_fails(rng):
    report = compare(
        lambda a: np.complex128(np.nan) * 1j if a["x"][1].imag else a["x"].sum(),
        {"x": np.ones(3)},
        {"x": np.ones(3)},
        "complex",
        rng,
    )
    assert math.isnan(report.max_error) and not report.passed


def test_report_is_a_table():
    rows = [Row("h.0.attn.c_attn.weight", (4, 12), 1.5, 16, 2e-15), Row("s", (), 0.25, 1, 3e-12)]
    report = Report(rows)
    lines = str(report).splitlines()
    assert lines[0].split() == ["parameter", "shape", "gradient", "norm", "checks", "error", "verdict"]
    assert lines[1].split() == ["h.0.attn.c_attn.weight", "4x12", "1.500e+00", "16", "2.0e-15", "ok"]
    assert lines[2].split() == ["s", "scalar", "2.500e-01", "1", "3.0e-12", "WRONG"]
    assert lines[3] == "NOT all gradients agree: largest error 3.0e-12, limit 1e-13, method complex"
    assert len({len(line) - len(line.split()[-1]) for line in lines[:3]}) == 1  # columns
    assert not report.passed and report.max_error == 3e-12
    assert Report(rows[:1]).passed
    assert Report(rows, "central").passed and Report(rows, "central").limit == 1e-6


def test_report_with_nan_does_not_pass():
    report = Report([Row("a", (1,), 1.0, 1, 0.0), Row("b", (1,), math.nan, 1, math.nan), Row("c", (1,), 1.0, 1, 0.0)])
    assert math.isnan(report.max_error) and not report.passed
    assert str(report).count("WRONG") == 1


# Models


@pytest.fixture
def model():
    return GPT(GPTConfig(vocab_size=7, block_size=5, n_layer=1, n_head=2, n_embd=6), dtype=np.float64)


@METHODS
def test_check_gradients_of_a_model(method, model, rng):
    ids, targets = rng.integers(0, 7, (2, 2, 4))
    report = check_gradients(model, ids, targets, method=method)
    assert report.passed, report
    assert [(row.name, row.shape) for row in report.rows] == [(name, p.shape) for name, p in model.parameters.items()]


@METHODS
@pytest.mark.parametrize("name", ["h.0.attn.c_attn.weight", "ln_f.bias", "wte.weight"])
def test_check_gradients_names_the_wrong_parameter(name, method, model, rng, monkeypatch):
    ids, targets = rng.integers(0, 7, (2, 2, 4))
    right = GPT.loss_and_grads

    def wrong(self, *args):
        loss, grads = right(self, *args)
        grads[name] = 1.01 * grads[name]
        return loss, grads

    monkeypatch.setattr(GPT, "loss_and_grads", wrong)
    report = check_gradients(model, ids, targets, method=method)
    assert [row.name for row in report.rows if row.error > report.limit] == [name]
    assert not report.passed


def test_check_gradients_leaves_the_model_alone(rng):
    model = GPT(GPTConfig(vocab_size=7, block_size=5, n_layer=1, n_head=2, n_embd=6))
    before, ids = model.store.vector.copy(), rng.integers(0, 7, (2, 4))
    check_gradients(model, ids, ids, dropout_seed=1)
    np.testing.assert_array_equal(model.store.vector, before)
    assert model.dtype == np.float32


def test_check_gradients_refuses_weights_that_are_not_finite(model):
    model.parameters["ln_f.weight"][2] = np.nan
    with pytest.raises(MinigptError, match=r"ln_f\.weight holds 1 values that are not finite"):
        check_gradients(model, [[1]], [[2]])


def test_check_gradients_reports_progress(model):
    names = []
    check_gradients(model, [[1]], [[2]], progress=lambda it: names.extend(it) or names)
    assert names == list(model.parameters)


def forward_that_drops(kind):
    """A right op, written so that it loses the imaginary part."""

    def cube(x):
        return np.abs(x) ** 3, x

    def cast(x):
        return x.real.astype(np.float64) ** 3, x

    def loop(x):
        return np.array([float(a) ** 3 for a in x]), x

    def floor(x):
        return x**3 + 0 * np.floor(x), x

    return {"abs": cube, "cast": cast, "float": loop, "floor": floor}[kind]


@pytest.mark.parametrize(
    ("kind", "name"), [("abs", "cube"), ("cast", "cast"), ("float", "listcomp|loop"), ("floor", "floor")]
)
def test_forward_that_drops_the_imaginary_part_is_reported_as_such(kind, name, rng):
    x = rng.random(5) + 0.1
    with pytest.raises(NotComplexSafe, match=rf"({name}).*(imaginary part|complex input).*squares as x \* x"):
        check_op(forward_that_drops(kind), lambda dy, x: 3 * x * x * dy, (x,))
    assert check_op(forward_that_drops(kind), lambda dy, x: 3 * x * x * dy, (x,), "central").passed


def test_wrong_gradient_of_a_safe_op_is_not_blamed_on_the_op(rng):
    assert not check_op(lambda x: (x * x, x), lambda dy, x: 3 * x * dy, (rng.random(5),)).passed


def test_op_of_a_model_that_drops_the_imaginary_part_is_named(rng, monkeypatch):
    def careless(x, weight, bias, eps):
        y, cache = layernorm_forward(x, weight, bias, eps)
        return y.real + 0.0, cache

    monkeypatch.setattr("minigpt.layers.norm.layernorm_forward", careless)
    model = GPT(GPTConfig(7, 5, 1, 2, 4), dtype=np.float64)
    ids = rng.integers(0, 7, (2, 5))
    with pytest.raises(NotComplexSafe, match="careless"):
        check_gradients(model, ids, ids)


def test_function_that_is_not_deterministic_is_reported_as_such(rng):
    with pytest.raises(MinigptError, match=r"not deterministic: two calls gave .* make its generator anew"):
        check_op(lambda x: (x * rng.random(), x), lambda dy, x: dy * x, (np.ones(3),))


def test_integer_input_or_parameter_has_no_gradient():
    with pytest.raises(MinigptError, match="input 0 is int64 and backward returned a gradient for it"):
        check_op(lambda x: (2 * x, x), lambda dy, x: 2 * dy, (np.array([1, 2]),))
    model = GPT(GPTConfig(7, 5, 1, 2, 4))
    model.store = model.store.astype(np.int64)
    with pytest.raises(MinigptError, match=r"wte\.weight is int64, only floating parameters have gradients"):
        check_gradients(model, np.ones((1, 2), int), np.ones((1, 2), int))


def test_both_methods_stand_side_by_side(rng):
    model = GPT(GPTConfig(7, 5, 1, 2, 4), dtype=np.float64)
    ids = rng.integers(0, 7, (2, 5))
    report = check_gradients(model, ids, ids, "both")
    assert report.passed
    assert all(row.error < 1e-13 and 1e-14 < row.central < 1e-6 for row in report.rows)
    assert "complex step" in str(report) and "central difference" in str(report)
    assert [row.error for row in check_gradients(model, ids, ids).rows] == [row.error for row in report.rows]


def test_errors_by_step_show_the_v_and_the_flat_line(rng):
    model = GPT(GPTConfig(7, 5, 1, 2, 4), dtype=np.float64)
    model.store.vector[:] = rng.standard_normal(model.num_parameters)
    ids = rng.integers(0, 7, (2, 5))
    steps, errors = errors_by_step(model, ids, ids)
    assert steps[0] == 1
    assert (errors["complex"][10:] < 1e-13).all()
    best = errors["central"].argmin()
    assert 3 < best < 9
    assert errors["central"][0] > 1e5 * errors["central"][best] < errors["central"][20]


def test_page_holds_everything_in_itself(rng):
    rows = [Row("a<b", (2, 3), 1.0, 6, 1e-15, 1e-9), Row("c", (3,), 1.0, 3, 1e-3, 1e-3)]
    page = html_page(Report(rows, "both"), "Gradients & more", b"\x89PNG")
    assert "a&lt;b" in page and "Gradients &amp; more" in page and "1.0e-15" in page and page.count("class=wrong") == 1
    assert "NOT all gradients agree" in page and "data:image/png;base64,iVBORw==" in page
    assert "http" not in page and "<script" not in page
