"""The check of a layer, and mistakes that a layer can make and an op can't."""

import numpy as np
import pytest

import minigpt
from minigpt import MinigptError, check_layer
from minigpt.gradcheck import NotComplexSafe, random_store
from minigpt.layers import MLP, Embedding, LayerNorm, Linear
from minigpt.layers.store import Parameter
from minigpt.ops import dropout_backward, dropout_forward

B, T, S, C, M = 2, 3, 5, 4, 7
METHODS = pytest.mark.parametrize("method", ["complex", "central", "both"])


@pytest.fixture
def x(rng):
    return rng.standard_normal((B, T, C))


class Scale:
    """y = dropout(x) * weight, written by hand."""

    def parameters(self):
        return [Parameter("scale.weight", (C,), "vector", std=1.0)]

    def forward(self, p, x, rng=None):
        h, dropped = dropout_forward(x, 0.4, rng)
        return h * p["scale.weight"], (h, dropped, p["scale.weight"])

    def backward(self, g, dy, cache):
        h, dropped, weight = cache
        g["scale.weight"] += (dy * h).sum(axis=(0, 1))
        return dropout_backward(dy * weight, dropped)


class Read:
    """y = x * mean over S of (memory @ weight) + bias: a layer that reads two things besides x, in
    keywords.
    """

    def parameters(self):
        return [Parameter("read.weight", (M, C), "hidden", std=1.0)]

    def forward(self, p, x, memory, bias, mask=None):
        seen = memory if mask is None else np.where(mask[:, :, None], memory, 0)
        h = (seen @ p["read.weight"]).mean(axis=1, keepdims=True)  # (B, 1, C)
        return x * h + bias, (x, h, seen, mask, p["read.weight"])

    def backward(self, g, dy, cache, dmemory, dbias):
        x, h, seen, mask, weight = cache
        dh = (dy * x).sum(axis=1, keepdims=True) / seen.shape[1]
        g["read.weight"] += (seen.sum(axis=1)[:, :, None] * dh).sum(axis=0)
        rows = np.broadcast_to(dh @ weight.T, seen.shape)
        dmemory += rows if mask is None else np.where(mask[:, :, None], rows, 0)
        dbias += dy.sum(axis=(0, 1))
        return dy * h


def changed(layer, **methods):
    return type("Changed", (layer,), methods)()


def names(report):
    return [row.name for row in report.rows]


def wrong(report):
    return [row.name for row in report.rows if report.verdict(row) != "ok"]


@METHODS
@pytest.mark.parametrize(
    "layer", [Linear("f", C, 6), LayerNorm("f", C), MLP("f", C, 6), Scale()], ids=lambda layer: type(layer).__name__
)
def test_layer_passes(layer, method, x):
    report = check_layer(layer, x, method=method)
    assert report.passed and not report.remarks, report
    assert names(report) == ["x", *(p.name for p in layer.parameters())]
    assert report.method == method


def test_dropout_is_on_where_a_seed_is_given(x):
    seen = []

    def forward(self, p, x, rng=None):
        seen.append(rng is not None)
        return Scale.forward(self, p, x, rng)

    layer = changed(Scale, forward=forward)
    assert check_layer(layer, x, dropout_seed=5).passed and all(seen)
    seen.clear()
    assert check_layer(layer, x).passed and not any(seen)


def test_ids_have_no_gradient(rng):
    report = check_layer(Embedding("f", 11, C), rng.integers(0, 11, (B, T)))
    assert report.passed and names(report) == ["f.weight"]


def test_further_inputs_by_name(x, rng):
    inputs = {"x": x, "memory": rng.standard_normal((B, S, M)), "bias": rng.standard_normal(C)}
    report = check_layer(Read(), inputs)
    assert report.passed and names(report) == ["x", "memory", "bias", "read.weight"]
    mask = np.arange(S) < np.array([S, 2])[:, None]
    assert check_layer(Read(), inputs, mask=mask).passed  # a constant
    assert names(check_layer(Read(), inputs, mask=mask)) == names(report)


def test_further_inputs_by_functions(x, rng):
    class Packed:
        def parameters(self):
            return Read().parameters()

        def forward(self, p, x, rng=None, shared=None):
            return Read().forward(p, x, **shared)

        def backward(self, g, dy, cache, dshared):
            return Read().backward(g, dy, cache, dshared[1], dshared[0])

    inputs = {"x": x, "memory": rng.standard_normal((B, S, M)), "bias": rng.standard_normal(C)}
    pack = {"share": lambda a: {"shared": a}, "collect": lambda a: {"dshared": (a["bias"], a["memory"])}}
    assert check_layer(Packed(), inputs, **pack).passed
    swapped = pack | {"collect": lambda a: {"dshared": (a["bias"], np.zeros((B, S, M)))}}
    assert wrong(check_layer(Packed(), inputs, **swapped)) == ["memory"]


def test_store_is_used_and_left_alone(x):
    layer = Linear("f", C, 6)
    store = random_store(layer, np.random.default_rng(3), np.float32)
    before = store.vector.copy()
    report = check_layer(layer, x, store=store)
    assert report.passed and store.vector.dtype == np.float32
    np.testing.assert_array_equal(store.vector, before)
    store.vector[:] = 0
    assert check_layer(layer, x, store=store).rows[0].norm == 0
    assert check_layer(layer, x).rows[0].norm > 1


def assigned(self, g, dy, cache):
    h, dropped, weight = cache
    g["scale.weight"] = (dy * h).sum(axis=(0, 1))
    return dropout_backward(dy * weight, dropped)


@METHODS
def test_gradient_that_is_written_and_not_added_is_wrong(method, x):
    report = check_layer(changed(Scale, backward=assigned), x, method=method)
    assert wrong(report) == ["scale.weight"]
    assert report.remarks[0].startswith("backward does not add (+=) to the gradient of scale.weight")


def test_gradient_of_a_further_input_that_is_written_is_wrong(x, rng):
    def backward(self, g, dy, cache, dmemory, dbias):
        dx = Read.backward(self, g, dy, cache, dmemory, np.zeros(C))
        dbias[...] = dy.sum(axis=(0, 1))
        return dx

    inputs = {"x": x, "memory": rng.standard_normal((B, S, M)), "bias": rng.standard_normal(C)}
    assert wrong(check_layer(changed(Read, backward=backward), inputs)) == ["bias"]


def test_gradient_that_is_not_collected_is_wrong(x, rng):
    def backward(self, g, dy, cache, dmemory, dbias):
        return Read.backward(self, g, dy, cache, np.zeros_like(dmemory), dbias)

    inputs = {"x": x, "memory": rng.standard_normal((B, S, M)), "bias": rng.standard_normal(C)}
    assert wrong(check_layer(changed(Read, backward=backward), inputs)) == ["memory"]


def test_wrong_gradients_are_named(x):
    def backward(self, g, dy, cache):
        dx = Scale.backward(self, g, dy, cache)
        g["scale.weight"] *= 1.001
        return 2 * dx

    assert wrong(check_layer(changed(Scale, backward=backward), x)) == ["x", "scale.weight"]


def test_layer_that_writes_into_what_is_not_its_own_is_told_so(x):
    def forward(self, p, x, rng=None):
        y, cache = Scale.forward(self, p, x, rng)
        p["scale.weight"] *= 2
        return y, (cache[0], cache[1], p["scale.weight"] / 2)

    def backward(self, g, dy, cache):
        dx = Scale.backward(self, g, dy, cache)
        dy *= 0
        cache[0][...] = 0
        return dx

    report = check_layer(changed(Scale, forward=forward, backward=backward), x)
    assert report.passed
    assert "forward changed scale.weight: it must leave it as it is" in report.remarks
    assert "backward changed dy: it must leave it as it is" in report.remarks
    assert any(remark.startswith("backward changed cache[0]") for remark in report.remarks)
    assert any(
        "a second backward on the same cache returns another gradient of scale.weight" in remark
        for remark in report.remarks
    )


def test_layer_that_keeps_its_cache_in_itself_is_told_so(x):
    class Remembers(Scale):
        def forward(self, p, x, rng=None):
            y, self.cache = super().forward(p, x, rng)
            return y, None

        def backward(self, g, dy, cache):
            return super().backward(g, dy, self.cache)

    report = check_layer(Remembers(), x)
    assert report.passed and any(
        "a second forward changes the gradient of scale.weight" in remark for remark in report.remarks
    )


def test_layer_that_drops_a_path_and_forgets_it_is_found(x):
    def forward(self, p, x, rng=None):
        _, dropped = dropout_forward(x, 0.4, rng)
        return x / x.std() * p["scale.weight"], (x / x.std(), dropped, p["scale.weight"] / x.std())

    assert wrong(check_layer(changed(Scale, forward=forward), x)) == ["x"]


def test_layer_that_is_not_complex_safe_is_named(x):
    def careless(self, p, x, rng=None):
        y, cache = Scale.forward(self, p, x)
        return y.real.copy(), cache

    with pytest.raises(NotComplexSafe, match=r"careless .* drops the imaginary part; the gradient agrees"):
        check_layer(changed(Scale, forward=careless), x)
    assert check_layer(changed(Scale, forward=careless), x, method="central").passed


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        (
            (lambda x: x, np.ones(3)),
            {},
            r"layer is a function, it must have parameters\(\), forward\(p, x, \.\.\.\) and backward",
        ),
        ((Scale(), {"memory": np.ones(3)}), {}, "inputs has memory in it and no x"),
        (
            (Scale(), {"x": np.ones((1, 1, C)), "scale.weight": np.ones(3)}),
            {},
            r"scale\.weight is the name of an input and of a parameter",
        ),
        ((Scale(), np.ones((1, 0, C))), {}, r"x is empty, shape \(1, 0, 4\)"),
        ((Scale(), np.full((1, 1, C), np.nan)), {}, "x holds 4 values that are not finite"),
        (
            (changed(Scale, backward=lambda self, g, dy, c: None), np.ones((1, 1, C))),
            {},
            "backward returned None, it must return the grad",
        ),
        (
            (changed(Scale, forward=lambda self, p, x: x), np.ones((1, 1, C))),
            {},
            r"forward returned a ndarray, it must return \(y, cache\)",
        ),
        ((Scale(), np.ones((1, 1, C))), {"method": "exact"}, "method is 'exact'"),
        ((Scale(), np.ones((1, 1, C))), {"share": 3}, "share is a int, it must be a function"),
        ((Scale(), np.ones((1, 1, C))), {"store": {"w": 1}}, "store is a dict, it must be a Store"),
    ],
)
def test_mistake_is_answered_in_a_line(arguments, keywords, message):
    with pytest.raises(MinigptError, match=message):
        check_layer(*arguments, **keywords)


def test_ids_with_a_gradient_are_refused(rng):
    layer = changed(
        Embedding, __init__=lambda self: Embedding.__init__(self, "f", 11, C), backward=lambda self, g, dy, c: dy
    )
    with pytest.raises(MinigptError, match="backward returned a gradient of x, which is int64"):
        check_layer(layer, rng.integers(0, 11, (B, T)))


def test_check_layer_is_exported():
    assert minigpt.check_layer is check_layer and "check_layer" in minigpt.__all__
