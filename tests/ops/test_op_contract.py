"""What every op promises: a right gradient, no mutation, its input's dtype, complex input."""

import inspect

import numpy as np
import pytest
from op_cases import CASES, arrays_in, grads_of

from minigpt import ops
from minigpt.gradcheck import check_op, is_floating
from minigpt.ops.attention import position_penalty
from minigpt.ops.reductions import averaging
from minigpt.ops.relative import diagonal_buckets


@pytest.fixture(params=CASES)
def case(request, rng):
    """forward, backward, inputs of one case."""
    forward, backward, inputs = CASES[request.param]
    return forward, backward, inputs(rng)


def cast(inputs, dtype):
    return tuple(x.astype(dtype) if is_floating(x) else x for x in inputs)


def random_dy(rng, y):
    return rng.standard_normal(np.shape(y)).astype(y.dtype)[()]


def snapshot(value):
    return [x.tobytes() for x in arrays_in(value)]


def test_every_op_has_a_case():
    pairs = {name.split()[0] for name in CASES}
    for part in ("forward", "backward"):
        assert {name.removesuffix(f"_{part}") for name in dir(ops) if name.endswith(f"_{part}")} == pairs
        assert {name.removesuffix(f"_{part}") for name in ops.__all__ if name.endswith(f"_{part}")} == pairs


def test_op_gradients(case):
    report = check_op(*case)
    assert len(report.rows) == sum(is_floating(x) for x in case[2])
    assert report.max_error < 1e-13, report


def test_op_arguments_are_not_mutated(case, rng):
    forward, backward, inputs = case
    before = snapshot(inputs)
    y, cache = forward(*inputs)
    dy = random_dy(rng, y)
    dy_before = np.array(dy)
    backward(dy, cache)
    assert snapshot(inputs) == before
    assert np.array_equal(dy, dy_before)


def test_op_backward_twice_gives_the_same_bits(case, rng):
    forward, backward, inputs = case
    y, cache = forward(*inputs)
    dy, before = random_dy(rng, y), snapshot((y, cache))
    first = snapshot(grads_of(backward, dy, cache))
    assert snapshot(grads_of(backward, dy, cache)) == first
    assert snapshot((y, cache)) == before


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_op_keeps_dtype(case, rng, dtype):
    """Of output, cache and gradients, arrays and numbers: NumPy 1 and 2 promote numbers by
    different rules, and .ci/run has both.
    """
    forward, backward, inputs = case
    y, cache = forward(*cast(inputs, dtype))
    made = [y, *arrays_in(cache), *grads_of(backward, random_dy(rng, y), cache)]
    assert {x.dtype for x in made if x.dtype.kind in "fc"} == {np.dtype(dtype)}


def test_op_float32_is_near_float64(case, rng):
    forward, backward, inputs = case
    y, cache = forward(*inputs)
    dy = random_dy(rng, y)
    z, low_cache = forward(*cast(inputs, np.float32))
    np.testing.assert_allclose(z, y, rtol=0, atol=2e-6 * np.abs(y).max())
    for low, high in zip(grads_of(backward, np.float32(dy), low_cache), grads_of(backward, dy, cache)):
        np.testing.assert_allclose(low, high, rtol=0, atol=5e-6 * np.abs(high).max())


def test_op_complex_of_real_is_real(case, rng):
    """complex128 goes through forward and backward, to the values of float64."""
    forward, backward, inputs = case
    y, cache = forward(*inputs)
    z, complex_cache = forward(*cast(inputs, np.complex128))
    assert z.dtype == np.complex128
    np.testing.assert_allclose(z, y, rtol=0, atol=1e-14 * np.abs(y).max())
    dy = random_dy(rng, y)
    for a, b in zip(grads_of(backward, np.complex128(dy), complex_cache), grads_of(backward, dy, cache)):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13 * np.abs(b).max())


def test_op_takes_strided_input(case, rng):
    """Transposed and reversed arrays give what their contiguous copies give."""
    forward, backward, inputs = case
    strided = tuple(np.asfortranarray(x[..., ::-1])[..., ::-1] if is_floating(x) else x for x in inputs)
    y, cache = forward(*inputs)
    z, strided_cache = forward(*strided)
    dy = random_dy(rng, y)
    dz = np.asfortranarray(dy) if np.ndim(dy) else dy
    np.testing.assert_allclose(z, y, rtol=1e-12, atol=1e-13)
    for a, b in zip(grads_of(backward, dz, strided_cache), grads_of(backward, dy, cache)):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


class CountingArray(np.ndarray):
    """An array that counts the products and the element-wise work that its ops do."""

    calls = 0

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **more):
        CountingArray.calls += 1
        inputs = [x.view(np.ndarray) if isinstance(x, CountingArray) else x for x in inputs]
        if out is not None:
            more["out"] = tuple(x.view(np.ndarray) for x in out)
        result = getattr(ufunc, method)(*inputs, **more)
        return result.view(CountingArray) if out is None else out[0]


def has(parameter, function):
    return parameter in inspect.signature(function).parameters


@pytest.mark.parametrize("case", [name for name in CASES if has("with_dweight", CASES[name][1])], indirect=True)
def test_op_without_dweight_gives_the_rest_alone_and_computes_less(case, rng):
    """What an untrained weight's gradient would cost is not paid; all else keeps its bits."""
    forward, backward, inputs = case
    y, cache = forward(*(x.view(CountingArray) if is_floating(x) else x for x in inputs))
    dy, counts, results = random_dy(rng, y).view(CountingArray), [], []
    for with_dweight in (True, False):
        before = CountingArray.calls
        results.append(backward(dy, cache, with_dweight=with_dweight))
        counts.append(CountingArray.calls - before)
    (dx, dweight, *others), (dx_alone, nothing, *others_alone) = results
    assert nothing is None
    assert snapshot((dx, *others)) == snapshot((dx_alone, *others_alone))
    assert counts[1] < counts[0] or dweight is None, counts


def test_every_op_with_a_weight_can_do_without_its_gradient():
    pairs = {name.removesuffix("_backward") for name in ops.__all__ if name.endswith("_backward")}
    able = {name for name in pairs if has("with_dweight", getattr(ops, f"{name}_backward"))}
    weighted = {name for name in pairs if has("weight", getattr(ops, f"{name}_forward"))}
    assert able == weighted - {"embedding", "relative_bias"}  # whose backward gives nothing else: it need not be called


def test_arrays_that_ops_keep_cannot_be_written_to():
    """They are handed out again."""
    for kept in (
        averaging(3, np.dtype(np.float32)),
        position_penalty(0, 4, 4, True, None, np.dtype(np.float32)),
        *ops.rotary_table(4, 2),
        diagonal_buckets(3, 4, 8, 6, True),
    ):
        with pytest.raises(ValueError, match="read-only"):
            kept[0] = 1
